"""``minikernel replay FILE --kernel NAME``: does a kernel answer as one did before?

The file is a record (``protocol.record``): of our own kernel, or of any, by ``minikernel trace``.  Its requests
are sent to a fresh kernel, in their order and on their channels, and the answers are compared.  So a record is a
report of a bug, and once that is mended, a test.

This file alone decides two things.  *When* a request is sent: as soon as all has been heard that had been heard
before it in the record, be it an idle, some text or a question.  The clock is of no use for that, but where a
channel could overtake another.  And *what is the same*: who says something when, in how many pieces text comes,
ids, dates, addresses and the line where an interrupt lands make no difference.

What a record does not have can't be sent again: of buffers it has the sizes.  An interrupt by signal shows as
a KeyboardInterrupt, and is sent as one.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import time
from collections import Counter
from typing import Any

from ..protocol.encoding import dumps
from ..protocol.wire import DELIMITER, EMPTY
from .client import Client, Entry, Silence, msg_id, msg_type, parent_id, state
from .launch import Kernel
from .probe import START
from .transcript import printable

#: What is never the same twice, and a name for it.
_VARIES = [
    (re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]{4,}\b"), "<address>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d)?"), "<date>"),
    (re.compile(r"\b(ipykernel|minikernel|xpython)_\d+\b"), r"\1_<pid>"),
]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Of these, what they say of the machine and of other sessions is not compared.
_MACHINE = frozenset(("usage_reply", "history_reply", "connect_reply"))
#: In which order the channels of an exchange are shown.
_ORDER = ("iopub", "stdin", "shell", "control")
#: The fields with ids that a kernel chooses and frontends repeat.
_IDS = ("comm_id", "subshell_id")
#: Seconds after the idle of a request for what threads and tasks have still to say.
LATE = 1.0
#: Seconds between two requests on different channels, which may wait for each other in the kernel.
OVERTAKING = 0.05


def main(arguments: list[str]) -> int:
    """Replay a record and print the differences.

    Returns
    -------
    int
        0 when there are none, 1 when there are some, 2 when there is nothing to replay.
    """
    parser = argparse.ArgumentParser(
        prog="minikernel replay", description="Does a kernel answer as one did before?"
    )
    parser.add_argument(
        "file", metavar="FILE", help="a record: minikernel … --record FILE, minikernel trace --record FILE"
    )
    parser.add_argument("--kernel", metavar="NAME", required=True, help="a kernelspec's name, or its directory")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an answer may take (60)")
    options = parser.parse_args(arguments[1:])
    count = differing = 0
    try:
        lives = load(options.file)
        for life in lives:
            kernel = Kernel(options.kernel)
            try:
                for request, before, now in Replay(kernel, life, options.timeout).run():
                    count += 1
                    if before != now:
                        differing += 1
                        print(f"{_title(request)}\n{_difference(before, now)}")
            finally:
                kernel.close()
    except (OSError, ValueError, Silence) as error:
        print(f"cannot replay {options.file}: {error}", file=sys.stderr)
        return 2
    print(f"{count} requests; {differing or 'none'} answered differently")
    return int(differing > 0)


def load(path: str) -> list[list[Entry]]:
    """Return the lines of a record, of each kernel on its own that wrote to it one after the other.

    A line that a killed kernel has left torn is passed over, and said on stderr.

    Raises
    ------
    OSError
        It can't be read.
    ValueError
        It is no record, or several kernels have written to it at once.
    """
    lives: list[list[Entry]] = [[]]
    started = False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                ended = entry["direction"] == "end"
                whole = (
                    ended or "refused" in entry or {"channel", "header", "parent_header", "content"} <= set(entry)
                )
            except (ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                if '{"time": '.startswith(line[:9].rstrip()):
                    print(f"line {number} is torn: its kernel was killed as it wrote", file=sys.stderr)
                    continue
                raise ValueError(f"line {number} is not a record's")
            starting = state(entry) == "starting"  # it may be behind requests: a relay is there before its kernel
            if ended or (starting and started):
                lives.append([])
            started = not ended and (started or starting)
            if not ended:
                lives[-1].append(entry)
    lives = [life for life in lives if any(entry["direction"] == "in" for entry in life)]
    for life in lives:
        if len({entry["header"].get("session") for entry in life if msg_type(entry) == "status"}) > 1:
            raise ValueError("several kernels have written to it at once")
    if not lives:
        raise ValueError("there are no requests in it")
    return lives


class Replay:
    """One recorded kernel, and the one that is to do as it did."""

    def __init__(self, kernel: Kernel, life: list[Entry], timeout: float) -> None:
        self._kernel = kernel
        self._life = life
        self._timeout = timeout
        #: The requests of the record, by msg_id, and what they were sent as.
        self._requests: dict[str, Entry] = {}
        self._sent: dict[str, Entry] = {}
        #: What each had caused up to now in the record, and what it has caused here.
        self._before: dict[str, list[Entry]] = {}
        self._now: dict[str, list[Entry]] = {}
        #: The requests that have caused less than they had, and are not given up.
        self._behind: set[str] = set()
        self._interrupted: set[str] = set()
        self._last: Entry | None = None
        #: The ids that the kernel has chosen: then, and now.
        self._names: dict[str, str] = {}

    def run(self) -> list[tuple[Entry, list[str], list[str]]]:
        """Send all; return each request with what it had caused and what it has caused, in lines.

        Raises
        ------
        OSError, ValueError, Silence
            The kernel does not start.
        """
        self._kernel.start()
        self._client = Client(self._kernel.info)
        try:
            self._client.greet(START, self._kernel.alive)
            for entry in self._life:
                if "refused" in entry:
                    continue
                if entry["direction"] == "out":
                    self._heard_before(entry)
                elif entry["channel"] == "stdin":
                    self._catch_up()
                    self._reply_to_question(entry)
                else:
                    self._catch_up()
                    self._ask(entry)
            self._catch_up()
            self._settle()
        finally:
            self._client.close()
        return [
            (request, _lines(self._before[name]), _lines(self._now[name]))
            for name, request in self._requests.items()
        ]

    def _heard_before(self, entry: Entry) -> None:
        """Take what the recorded kernel said: from now on, it is waited for before anything else is sent."""
        name = parent_id(entry)
        if name not in self._requests:
            return
        content = entry["content"] if isinstance(entry["content"], dict) else {}
        if content.get("ename") == "KeyboardInterrupt" and name not in self._interrupted:
            self._interrupted.add(name)
            if not self._interrupts(name):
                self._catch_up()
                self._kernel.interrupt()
        self._before[name].append(entry)
        self._behind.add(name)

    def _interrupts(self, name: str) -> bool:
        """Tell whether the record has an interrupt_request since a request."""
        names = list(self._requests)
        since = names[names.index(name) :]
        return any(msg_type(self._requests[other]) == "interrupt_request" for other in since)

    def _ask(self, entry: Entry) -> None:
        header = entry["header"]
        extra = {key: self._renamed(header[key]) for key in ("subshell_id",) if header.get(key) is not None}
        frames = self._client.pack(header["msg_type"], self._renamed(entry["content"]), **extra)
        if entry.get("metadata"):
            at = frames.index(DELIMITER)
            frames[at + 4] = dumps(entry["metadata"])
            frames[at + 1] = self._client.session.sign(frames[at + 2 : at + 6])
        frames += [bytes(size) for size in entry.get("buffers", ())]
        name = msg_id(entry)
        if self._last and self._last["channel"] != entry["channel"]:
            time.sleep(OVERTAKING)
        self._last = entry
        self._requests[name] = entry
        self._before[name], self._now[name] = [], []
        self._sent[msg_id(self._client.send_frames(frames, entry["channel"]))] = entry

    def _reply_to_question(self, entry: Entry) -> None:
        asked = [heard for heard in self._client.log if msg_type(heard) == "input_request"]
        parent = dumps(asked[-1]["header"]) if asked and entry["parent_header"] else EMPTY
        self._client.send_frames(self._client.pack(msg_type(entry), entry["content"], parent), "stdin")

    def _renamed(self, value: Any) -> Any:
        """Return JSON in which the ids that the recorded kernel chose are those of this one."""
        if isinstance(value, dict):
            return {self._renamed(key): self._renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._renamed(item) for item in value]
        return self._names.get(value, value) if isinstance(value, str) else value

    def _catch_up(self) -> None:
        """Wait until each request has caused what it had caused at this moment of the record."""
        deadline = time.monotonic() + self._timeout
        while self._behind:
            self._behind = {name for name in self._behind if self._is_behind(name)}
            heard = not self._behind or self._hear(deadline)
            if time.monotonic() >= deadline or not (heard or self._kernel.alive()):
                self._behind.clear()  # what has not come by now is a difference, and not waited for again

    def _is_behind(self, name: str) -> bool:
        now = self._now[name]
        ends = [entry["time"] for entry in now if state(entry) == "idle"]
        if ends and time.time() - ends[0] > LATE:
            return False
        counts = _amounts(now)
        return any(counts[kind] < amount for kind, amount in _amounts(self._before[name]).items())

    def _hear(self, deadline: float) -> bool:
        entry = self._client.receive(min(0.2, deadline - time.monotonic()))
        if entry is None:
            return False
        request = self._sent.get(parent_id(entry))
        if request is not None:
            name = msg_id(request)
            self._now[name].append(entry)
            # the n-th of its kind names what the n-th of the record named
            alike = [each for each in self._now[name] if msg_type(each) == msg_type(entry)]
            past = [each for each in self._before[name] if msg_type(each) == msg_type(entry)]
            if len(alike) <= len(past):
                self._pair(past[len(alike) - 1]["content"], entry["content"])
        return True

    def _pair(self, before: Any, now: Any) -> None:
        for key in _IDS:
            if isinstance(before, dict) and isinstance(now, dict) and isinstance(before.get(key), str):
                self._names.setdefault(before[key], str(now.get(key)))

    def _settle(self) -> None:
        """Hear what nobody has waited for: what comes too much."""
        if not self._kernel.alive():
            return
        fence = self._client.send("kernel_info_request")
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and self._kernel.alive():
            self._hear(deadline)
            if any(parent_id(entry) == msg_id(fence) and state(entry) == "idle" for entry in self._client.log[-8:]):
                return


def _amounts(entries: list[Entry]) -> Counter[str]:
    """Return how many messages of each kind have come; of streams, which come in any pieces, how much text."""
    amounts: Counter[str] = Counter()
    for entry in entries:
        if msg_type(entry) == "stream":
            amounts[f"stream {entry['content'].get('name')}"] += len(str(entry["content"].get("text")))
        elif state(entry) != "busy":  # which may be said again
            amounts[state(entry) or msg_type(entry)] += 1
        else:
            amounts["busy"] = 1
    return amounts


def _lines(entries: list[Entry]) -> list[str]:
    """Return what a request has caused, a line or more for each message, without what varies."""
    said: list[tuple[str, Any]] = []
    # which of two sockets was first can't be told
    for entry in sorted(entries, key=lambda entry: _ORDER.index(entry["channel"])):
        name, content = msg_type(entry), entry["content"]
        if name == "status" or not isinstance(content, dict):
            continue
        if name == "stream":
            name = f"stream {content.get('name')}"
            if said and said[-1][0] == name:
                said[-1] = name, said[-1][1] + str(content.get("text"))
            else:
                said.append((name, str(content.get("text"))))
        else:
            compared = {"status"} if name in _MACHINE else set(content) - {"banner"}  # IPython's has a tip a day
            if content.get("ename") == "KeyboardInterrupt":
                compared.discard("traceback")  # where it lands is chance
            said.append((name, {key: value for key, value in content.items() if key in compared}))
    return [line for name, content in said for line in _pretty(name, content)]


def _pretty(name: str, content: Any) -> list[str]:
    if isinstance(content, str):
        lines = [f"{name}: {line}" for line in _COLOUR.sub("", content).splitlines()]
    else:
        lines = [f"{name}: {line}" for line in _fields(content)]
    for pattern, instead in _VARIES:
        lines = [pattern.sub(instead, line) for line in lines]
    return lines


def _fields(content: Any, path: str = "") -> list[str]:
    """Return JSON as lines of a path and a value each, in order of the paths; of text each line is one."""
    if path.endswith("traceback") and isinstance(content, list):
        content = "\n".join(map(str, content))
    if isinstance(content, str):
        content = _COLOUR.sub("", content)
    if isinstance(content, dict) and content:
        parts = [(f"{path}.{key}" if path else str(key), value) for key, value in sorted(content.items())]
    elif (
        isinstance(content, list)
        and content
        and any(isinstance(item, (dict, list)) or "\n" in str(item) for item in content)
    ):
        parts = [(f"{path}[{index}]", value) for index, value in enumerate(content)]
    elif isinstance(content, str) and "\n" in content:
        return [f"{path}: {line}" for line in content.splitlines()]
    else:
        return [f"{path} = {json.dumps(content, ensure_ascii=False)}"]
    return [line for name, value in parts for line in _fields(value, name)]


def _difference(before: list[str], now: list[str]) -> str:
    lines = [line for line in difflib.ndiff(before, now) if line[0] in "+-"]
    return "\n".join(f"  {line[0]} {printable(line[2:])}" for line in lines)


def _title(request: Entry) -> str:
    content = request["content"] if isinstance(request["content"], dict) else {}
    what = content.get("code", content.get("command", content.get("comm_id", "")))
    return printable(f"{msg_type(request)} {str(what).strip()[:80]!r}" if what else msg_type(request))
