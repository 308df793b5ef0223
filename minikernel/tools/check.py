"""``minikernel check``: does a kernel keep the protocol?  Any kernel, seen from outside.

The kernel is started from its kernelspec, asked all that ``rules`` holds, and ended; or a running one is asked, by
its connection file (``--existing``), and neither interrupted nor ended.  This file alone decides what goes on the
list: a rule is ok, broken (`violation`), short of what is recommended (`advice`), or skipped.  Behind the rules
come those that hold for all messages, for those that have been heard meanwhile (``violations``).

A kernel that hangs or dies has broken the rule that was tried, and is started anew for the next.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from .. import connect
from ..protocol.messages import reply_type
from ..protocol.wire import Message
from .client import Entry, msg_id, msg_type, parent_id, state
from .ladder import Ladder
from .launch import Kernel
from .probe import Deaf, Finding, Probe, Skip
from .rules import PYTHON, RULES, Rule
from .transcript import Entry as Rung
from .transcript import printable
from .violations import HEADER, LATE, PARENT, STATUS, WIRE, Conversation, link

#: What is held against all messages, by the section that has it; what no other has is about their fields.
ALWAYS = {
    "messages": ("", "Every message has the fields of its type, in the types of the table."),
    "brackets": (STATUS, "Every request is busy first and idle last on iopub, with its outputs between."),
    "parents": (PARENT, "The parent_header is the header of the request, unchanged."),
    "headers": (HEADER, "msg_ids are not used twice, the session is the same as long as the process lives."),
    "signatures": (WIRE, "Every message is signed with the key of the connection file."),
}
#: How many messages of an exchange are shown, and how many characters of each.
SHOWN, WIDTH = 14, 120


class Result:
    """What has come of one rule."""

    def __init__(self, name: str, section: str, about: str) -> None:
        self.name, self.section, self.about = name, section, about
        self.findings: list[Finding] = []
        self.skipped = ""
        self.seconds = 0.0

    @property
    def verdict(self) -> str:
        levels = {finding.level for finding in self.findings}
        for verdict in ("violation", "advice"):
            if verdict in levels:
                return verdict
        return "skipped" if self.skipped else "ok"


def main(arguments: list[str]) -> int:
    """Check a kernel and print what was found.

    Returns
    -------
    int
        1 when it breaks the protocol, 2 when there is nothing to check.
    """
    options = _parser().parse_args(arguments[1:])
    unknown = set(options.only or ()) - {rule.name for rule in RULES} - set(ALWAYS)
    if options.list:
        print("\n".join(f"{rule.name:20} {rule.section}: {rule.about}" for rule in RULES))
        return 0
    code = dict(text.split("=", 1) for text in options.code)
    if unknown or not (options.kernel or options.existing):
        print(
            f"no rule is called {', '.join(unknown)}" if unknown else "--kernel NAME or --existing FILE",
            file=sys.stderr,
        )
        return 2
    name = options.kernel or options.existing
    results: list[Result] = []
    kernel = probe = None
    try:
        try:
            kernel = Kernel(options.kernel) if options.kernel else None
            info = None if kernel else connect.get_connection_info(options.existing)
            probe = Probe(kernel, info, options.timeout, code)
            probe.start()
        except (OSError, ValueError) as error:
            print(f"cannot check {name}: {error}", file=sys.stderr)
            return 2
        except Deaf as deaf:
            print(f"{name} does not start: {deaf}", kernel.said() if kernel else "", sep="\n", file=sys.stderr)
            return 1
        if not options.json:
            print(_title(name, probe))
        for result in check(probe, options.only):
            results.append(result)
            if not options.json and (result.findings or not options.quiet):
                print(_text(result), flush=True)
    finally:
        if probe is not None:
            probe.close()
        if kernel is not None:
            kernel.close()
    verdicts = [result.verdict for result in results]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in ("ok", "violation", "advice", "skipped")]
    if options.json:
        print(_json(name, probe, results))
    else:
        print(f"{len(results)} rules: {', '.join(counts)}")
    return int(any(result.verdict == "violation" for result in results))


def check(probe: Probe, only: list[str] | None = None) -> Iterator[Result]:
    """Try the rules, or those that are named, on a kernel that has been started; yield what has come of each."""
    if probe.kernel_info.get("language_info", {}).get("name") == "python":
        probe.code = PYTHON | probe.code
    lost = ""
    for rule in RULES:
        if only and rule.name not in only:
            continue
        result = Result(rule.name, rule.section, rule.about)
        began = time.monotonic()
        if lost:
            result.skipped = lost
        else:
            lost = _try(rule, probe, result)
        result.seconds = time.monotonic() - began
        yield result
    if not lost:
        probe.drain()
    yield from [result for result in judge(probe) if not only or result.name in only]


def _try(rule: Rule, probe: Probe, result: Result) -> str:
    """Try one rule; return why no other can be tried, if that is so."""
    probe.section, probe.since, probe.findings = rule.section, len(probe.client.log), result.findings
    try:
        rule.function(probe)
    except Skip as skip:
        result.skipped = str(skip)
    except (Deaf, TimeoutError) as deaf:
        probe.expect(False, str(deaf))
        try:
            probe.restart()
        except Deaf as worse:
            return f"the kernel is lost: {worse}"
    return ""


def judge(probe: Probe) -> list[Result]:
    """Hold all that was said against the rules for all messages."""
    results = {name: Result(name, *described) for name, described in ALWAYS.items()}
    by_section = {result.section: result for result in results.values()}
    found: dict[tuple[str, str], tuple[Finding, int]] = {}
    for log in probe.lives:
        for section, text, exchange in _faults(log, probe):
            key = section, re.sub(r" \[\d+\]|'[^']*'|:.*|(?:(?<=msg_id of )|(?<=session of ))\w+", "", text)
            # a thread's output has no place, and a welcome is said by the socket: nobody is misled by those
            aside = msg_type(exchange[-1]) in LATE | {"iopub_welcome"} and section in (PARENT, HEADER)
            first, count = found.get(key, (Finding("advice" if aside else "violation", section, text, exchange), 0))
            found[key] = first, count + 1
    for (section, _), (finding, count) in found.items():
        text = finding.text + (f" (and {count - 1} more like it)" if count > 1 else "")
        by_section.get(section, results["messages"]).findings.append(finding._replace(text=text))
    return list(results.values())


def _faults(log: list[Entry], probe: Probe) -> list[tuple[str, str, list[Entry]]]:
    """Return the section, the words and the messages of whatever is wrong in the life of one kernel."""
    faults = []
    conversation = Conversation()
    requests: dict[str, Entry] = {}
    heard: dict[str, list[Entry]] = {}
    ids: set[str] = set()
    session: Any = None
    ended = False
    for entry in log:
        if entry["direction"] == "end":
            ended = True
        elif "refused" in entry:
            if entry["direction"] == "out":
                faults.append((WIRE, f"a message on {entry['channel']}: {entry['refused']}", [entry]))
        elif entry["direction"] == "in":
            if msg_id(entry) not in probe.odd:
                requests[msg_id(entry)] = entry
                heard[msg_id(entry)] = [entry]
                conversation.take("in", entry["channel"], entry, entry["time"])
        else:
            parent, header = parent_id(entry), entry["header"]
            if header.get("session") != (session := session or header.get("session")):
                faults.append((HEADER, f"the session of {msg_type(entry)} is another than before", [entry]))
            if msg_id(entry) in ids:
                faults.append((HEADER, f"the msg_id of {msg_type(entry)} has been used before", [entry]))
            ids.add(msg_id(entry))
            if not parent and msg_type(entry) != "iopub_welcome" and state(entry) != "starting":
                faults.append((PARENT, f"{msg_type(entry)} has no parent", [entry]))
            if parent not in requests:
                whose = entry["parent_header"].get("session")
                if parent and parent not in probe.odd and whose not in probe.others and probe.kernel is not None:
                    faults.append(
                        (PARENT, f"the parent of {msg_type(entry)} is a message that nobody has sent", [entry])
                    )
                continue
            heard[parent].append(entry)
            _, broken = conversation.take("out", entry["channel"], entry, entry["time"])
            faults += [(violation.section, violation.text, [requests[parent], entry]) for violation in broken]
            for name, value in requests[parent]["header"].items():
                if name != "date" and entry["parent_header"].get(name) != value:  # a date may be written anew
                    text = f"the parent_header of {msg_type(entry)} has another {name} than the request"
                    faults.append((PARENT, text, [requests[parent], entry]))
    for exchange in [] if ended else conversation.open():
        asked = requests[exchange.msg_id]
        if asked["channel"] not in ("shell", "control") or exchange.msg_type == "shutdown_request":
            continue
        if exchange.replied or (reply_type(exchange.msg_type) is None and exchange.busy):
            missing = "idle" if exchange.busy else "busy and idle"
            if not exchange.idle:
                faults.append((STATUS, f"{exchange} has no {missing}", heard[exchange.msg_id]))
    return faults


# -- the list ------------------------------------------------------------------------------------------


def _title(name: str, probe: Probe) -> str:
    info = probe.kernel_info
    language = info.get("language_info", {})
    protocol = ".".join(map(str, probe.protocol))
    words = (
        info.get("implementation"),
        info.get("implementation_version"),
        language.get("name"),
        language.get("version"),
    )
    return printable(f"{name}: {words[0]} {words[1]}, {words[2]} {words[3]}, protocol {protocol}")


def _text(result: Result) -> str:
    lines = [f"{result.verdict:10} {result.name:20} {result.skipped or result.about}"]
    for finding in result.findings:
        lines.append(f"    {finding.level}: {printable(finding.text)}")
        lines.append(f'      see "{finding.section}" {link(finding.section) or ""}')
        lines += [f"      {line}" for line in show(finding.exchange)]
    return "\n".join(lines)


def show(exchange: list[Entry]) -> list[str]:
    """Return a few messages as a ladder, a line each."""
    lines: list[str] = []
    draw = Ladder(lines.append, False, lambda: WIDTH, False, list)
    for number, entry in enumerate(exchange[:SHOWN]):
        header = {"msg_type": f"({entry['refused']})"} if "refused" in entry else entry["header"]
        known = "refused" not in entry
        message = Message([], header, {}, {}, entry["content"], [], b"") if known else None
        since = entry["time"] - exchange[0]["time"] if number else None
        draw(
            Rung(
                entry["time"],
                entry["direction"],
                entry["channel"],
                [b""],
                message,
                header["msg_type"],
                latency=since,
            )
        )
    if len(exchange) > SHOWN:
        lines.append(f"{'':19} … {len(exchange) - SHOWN} more")
    return [line.rstrip() for line in lines] or ["(nothing was heard)"]


def _json(name: str, probe: Probe, results: list[Result]) -> str:
    rules = [
        {
            "name": result.name, "section": result.section, "url": link(result.section) if result.section else None,
            "about": result.about, "verdict": result.verdict, "skipped": result.skipped or None,
            "seconds": round(result.seconds, 3),
            "findings": [finding._asdict() | {"url": link(finding.section)} for finding in result.findings],
        }
        for result in results
    ]  # fmt: skip
    content = {"kernel": name, "kernel_info": probe.kernel_info, "protocol": probe.protocol, "rules": rules}
    return json.dumps({"time": time.time(), **content}, indent=1, ensure_ascii=False, default=str)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minikernel check", description="Does a kernel keep the Jupyter protocol?"
    )
    parser.add_argument("--kernel", metavar="NAME", help="a kernelspec's name, or its directory")
    parser.add_argument(
        "--existing", metavar="FILE", help="the connection file of a kernel that runs: it is asked, not ended"
    )
    parser.add_argument("--only", nargs="+", metavar="RULE", help="try these rules only")
    parser.add_argument("--list", action="store_true", help="list the rules")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", "-q", action="store_true", help="leave out what is right")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds of silence after which it is deaf (5)")
    parser.add_argument(
        "--code", action="append", default=[], metavar="NAME=CODE",
        help="code in its language that does what it is called: print, value, error, … (of Python it is known)",
    )  # fmt: skip
    return parser
