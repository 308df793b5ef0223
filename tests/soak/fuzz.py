"""Messages that nobody means: genuine ones, changed by chance, and contents that fit no request.

Most is signed when it has been changed, or hardly anything would come further than the signature.
"""

from __future__ import annotations

import json
import random
from typing import Any

from minikernel.protocol.messages import MESSAGES
from minikernel.protocol.wire import DELIMITER, EMPTY, Session

Frames = list[bytes]
#: Never sent with a content that may be right: what ends the kernel, or starts a debugger for each.
SPARED = {"shutdown_request", "debug_request"}
REQUESTS = sorted(name for name, spec in MESSAGES.items() if spec.sender != "kernel" and name not in SPARED)
DEEP = b"[" * 5000 + b"]" * 5000
#: What may be in the place of any frame.
ODD = [b"", EMPTY, b"[]", b"null", b"NaN", b"1e999", b"-0", b"1" * 5000, b'"\\ud83d"', b"\xff\xfe", b"\0", DEEP, DELIMITER,
       b'{"a":1,"a":2}', b"{'a': 1}", b'{"\xc3\xa9":"\\u0000"}', b"[" * 100_000, b'{"msg_id":1}']  # fmt: skip
#: How a peer of libzmq's begins.
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL"
#: Neither "!" nor "%": no chance shall run a program.
TEXT = "x1+ (\"'\n\t\0.,:=[{]})é\ud83d\u2028\U0001f600\\#_iprnt"


def value(chance: random.Random, depth: int = 0) -> Any:
    """Return any value that JSON can say."""
    kind = chance.randrange(9 if depth < 3 else 7)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind == 1:
        return chance.choice((0, -1, 1, 2**31, -(2**63), 10**30, chance.randrange(1000)))
    if kind == 2:
        return chance.choice((0.0, -0.5, 1e308, 5e-324, chance.random()))
    if kind < 7:
        return "".join(chance.choice(TEXT) for _ in range(chance.choice((0, 1, 5, 50))))
    items = [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return items if kind == 7 else {str(value(chance, 3)): item for item in items}


def content(chance: random.Random, msg_type: str) -> Any:
    """Return a content for a request: its fields and others, with any values."""
    if chance.random() < 0.1:
        return value(chance)
    names = [name for name in MESSAGES[msg_type].fields if chance.random() < 0.8]
    fitting: dict[type, Any] = {str: "print", int: 1, bool: False, dict: {}, list: [], float: 0.5}
    made = {}
    for name in names:
        types = MESSAGES[msg_type].fields[name].types
        first = types[0] if isinstance(types, tuple) else types
        made[name] = fitting.get(first) if chance.random() < 0.6 else value(chance)
    made.pop("allow_stdin", None)  # it would wait for an answer
    if chance.random() < 0.2:
        made[str(value(chance, 3))] = value(chance)
    return made


def request(chance: random.Random, session: Session) -> tuple[str, Frames]:
    """Return a request with any content and almost any header: its type, and its frames from the delimiter on."""
    msg_type = chance.choice(REQUESTS)
    header = json.loads(bytes(session.pack(msg_type, {})[2]))
    for name in ("session", "username", "date", "version", "subshell_id"):
        if chance.random() < 0.05:
            header[name] = value(chance)
    parts = [header, value(chance) if chance.random() < 0.1 else {}, value(chance) if chance.random() < 0.1 else {}]
    return msg_type, signed(session, [json.dumps(part).encode() for part in (*parts, content(chance, msg_type))])


def signed(session: Session, frames: Frames) -> Frames:
    """Return frames with a delimiter and the right signature before them."""
    return [DELIMITER, session.sign(frames[:4]), *frames]


def message(chance: random.Random, session: Session) -> Frames:
    """Return a request that has been damaged on its way, before or after it was signed."""
    frames = request(chance, session)[1]
    four = frames[2:]
    for _ in range(chance.choice((0, 1, 1, 2))):
        _damage(chance, four)
    frames = signed(session, four)
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        _damage(chance, frames)
    frames = frames or [b""]
    return [*(chance.randbytes(chance.randrange(6)) for _ in range(chance.choice((0, 0, 1)))), *frames]


def _damage(chance: random.Random, frames: Frames) -> None:
    index = chance.randrange(len(frames)) if frames else 0
    kind = chance.randrange(7)
    if kind == 0 or not frames:
        frames.insert(index, chance.choice(ODD))
    elif kind == 1:
        del frames[index]
    elif kind == 2:
        frames[index] = chance.choice(ODD)
    elif kind == 3:
        frames[index] = frames[index][: chance.randrange(len(frames[index]) + 1)]
    elif kind == 4 and frames[index]:
        at = chance.randrange(len(frames[index]))
        frames[index] = frames[index][:at] + bytes([chance.randrange(256)]) + frames[index][at + 1 :]
    elif kind == 5:
        other = chance.randrange(len(frames))
        frames[index], frames[other] = frames[other], frames[index]
    else:
        frames.insert(index, frames[index])
