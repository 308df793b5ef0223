"""``minikernel protocol [msg_type …]``: the table of messages, for who learns the protocol or writes a client."""

from __future__ import annotations

import sys

from ..protocol.messages import HANDSHAKE, MESSAGES, Field, Spec

TABLE = HANDSHAKE | MESSAGES


def main(arguments: list[str]) -> int:
    """Print all messages, one a line, or each of those that are named; return the exit code."""
    names = arguments[1:]
    unknown = [name for name in names if name not in TABLE]
    if unknown:
        near = [name for name in TABLE if any(word in name for word in unknown)]
        hint = f"; there are: {', '.join(near)}" if near else ""
        print(f"no message is called {', '.join(unknown)}{hint}", file=sys.stderr)
        return 1
    if names:
        print("\n\n".join(describe(name, TABLE[name]) for name in names))
        return 0
    width, channels = max(map(len, TABLE)), max(len(spec.channel) for spec in TABLE.values())
    for name, spec in TABLE.items():
        print(f"{spec.channel:{channels}}  {name:{width}}  {spec.about}")
    return 0


def describe(msg_type: str, spec: Spec) -> str:
    """Return what the table says of one message, for people."""
    peer = "launcher" if msg_type in HANDSHAKE else "frontend"
    to = {peer: f"{peer} → kernel", "kernel": f"kernel → {peer}", "both": "both ways"}[spec.sender]
    lines = [msg_type, f"  {spec.about}", f"  {to}, on {' or '.join(spec.channel.split())}"]
    if spec.reply:
        lines.append(f"  answered by {spec.reply}")
    lines.append(f'  since protocol {spec.since}; see "Messaging in Jupyter: {spec.section}"')
    lines += [f"    {name}: {_type(field)}" for name, field in spec.fields.items()]
    if "status" in spec.fields:
        lines.append("    and, if status is error and not ok:")
        lines += [f"      {name}: {_type(field)}" for name, field in TABLE["error"].fields.items()]
    return "\n".join(lines)


def _type(field: Field) -> str:
    kinds = " or ".join(kind.__name__ for kind in field.types)
    return (
        kinds
        if field.required
        else f"{kinds}, may be missing" + (f" ({field.default!r})" if field.default is not None else "")
    )
