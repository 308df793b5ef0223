"""The observer: holds all that kernels say against the table of messages and against the bracket rule.

Every kernel of the test suite, whoever starts it, records its messages (``protocol.record``); `Observer` reads
the records after each test.  What any kernel must keep is in ``minikernel.tools.violations``; these are the rules
for ours, for every request on shell and control:

* *Parent*: what the kernel sends has the header of a request that has arrived as its parent, to the letter;
  only ``starting``, which comes before all else, and ``iopub_welcome`` have none.
* *Bracket*: busy comes first, idle last, each once, and the one reply between them goes to whom has asked, on the
  channel where it asked.  What gets no reply by the table gets none.
* *After idle* only output follows that threads, tasks and callbacks make on their own (`LATE`).
* *Beside*: the idle of a request that ends beside one that still runs on the main shell is followed, as the next
  status, by another busy of that one; there is no other second busy.
* *Order*: one thread answers one request after another, as they came.  So no request begins before an earlier
  one of its lane has ended, which is how a lost idle, a lost reply and a lost request show.  What is in `BESIDE`
  may be overtaken, for one other thread may have it; a comm's messages overtake a cell that awaits, and may be
  overtaken where there are subshells, for theirs may be the cell that awaits.

A kernel that was killed may leave requests unanswered.  One that ended has closed all it had begun, unless they
run code of the user's, which it does not wait for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minikernel.kernel import handlers
from minikernel.kernel.beside import BESIDE
from minikernel.kernel.kernel import WHILE_AWAITING
from minikernel.protocol.messages import MESSAGES, reply_type
from minikernel.tools.violations import LATE, of_message

#: What the end of a kernel may cut off.
USERS = WHILE_AWAITING | {"execute_request", "debug_request", "complete_request", "inspect_request"}

Json = dict[str, Any]


def check(channel: str, message: Json) -> None:
    """Hold a message of the kernel against the table, and against what we ask of ourselves beyond it."""
    header, content = message["header"], message["content"]
    msg_type = header["msg_type"]
    assert msg_type in MESSAGES, f"{msg_type} is not in the table"
    found = of_message("out", channel, message)
    assert not found, "; ".join(map(str, found))
    if msg_type == "stream":
        assert content["text"], "an empty stream"
    assert isinstance(message["parent_header"], dict)
    orphan = msg_type == "iopub_welcome" or content.get("execution_state") == "starting"
    assert orphan != bool(message["parent_header"].get("msg_id")), (
        f"{msg_type} has {'a' if orphan else 'no'} parent"
    )


class Asked:
    """A request, and what has become of it."""

    def __init__(self, message: Json, lane: str) -> None:
        self.channel: str = message["channel"]
        self.idents: list[str] = message["idents"]
        self.content = message["content"]
        self.msg_type: str = message["header"]["msg_type"]
        self.msg_id: str = message["header"]["msg_id"]
        self.lane = lane
        self.beside = self.msg_type in BESIDE
        self.comm = self.msg_type in WHILE_AWAITING
        #: Whether the main shell runs it, as far as one can tell: it may be another thread that does.
        self.main = False
        self.busy = self.replied = self.idle = False

    def __str__(self) -> str:
        return f"{self.msg_type} {self.msg_id}"


class Record:
    """What one kernel has heard and said so far."""

    def __init__(self) -> None:
        self.ended = False
        self._started = False
        self._requests: dict[str, Asked] = {}
        #: By lane, the requests that have no idle yet, in order of arrival.
        self._lanes: dict[str, list[Asked]] = {}
        self._subshells = 0
        self._deleted: set[str] = set()
        #: After an idle: which requests may be busy again, and whether one of them must.
        self._owed: list[Asked] = []
        self._must = False

    def take(self, message: Json) -> None:
        """Take the next line of the record.

        Raises
        ------
        AssertionError
            The kernel has broken a rule.
        """
        assert not self.ended, "something after the end"
        if message["direction"] == "end":
            self._end()
        elif message["direction"] == "out":
            self._out(message)
        elif "refused" not in message and message["channel"] != "stdin":
            self._in(message)

    def _in(self, message: Json) -> None:
        lane = self._lane(message)
        asked = self._requests[_key(message["header"])] = Asked(message, lane)
        self._lanes.setdefault(lane, []).append(asked)
        self._subshells += asked.msg_type == "create_subshell_request"
        if asked.msg_type == "delete_subshell_request" and isinstance(asked.content, dict):
            self._deleted.add(str(asked.content.get("subshell_id")))

    def _lane(self, message: Json) -> str:
        """Return a name of the thread that answers a request."""
        msg_type, subshell_id = message["header"]["msg_type"], message["header"].get("subshell_id")
        if message["channel"] == "control" and msg_type in handlers.CONTROL:
            return "debug" if msg_type == "debug_request" else "control"
        if subshell_id is None:
            return "main"
        # what comes for a subshell that is being deleted is answered by it or, in another thread, refused
        return message["header"]["msg_id"] if str(subshell_id) in self._deleted else f"subshell {subshell_id}"

    def _out(self, message: Json) -> None:
        channel, msg_type = message["channel"], message["header"]["msg_type"]
        check(channel, message)
        state = message["content"].get("execution_state") if msg_type == "status" else None
        assert (state == "starting") != self._started, "starting comes first, and once"
        self._started = True
        if not message["parent_header"]:
            return
        asked = self._requests.get(_key(message["parent_header"]))
        assert asked is not None, f"the parent of {msg_type} has not arrived: {message['parent_header']}"
        if state == "busy":
            self._begin(asked)
            return
        assert asked.busy, f"{msg_type} of {asked} comes before its busy"
        assert not asked.idle or msg_type in LATE, f"{state or msg_type} of {asked} comes after its idle"
        if state is not None:
            self._close(asked)
        elif channel in ("shell", "control"):
            assert msg_type == reply_type(asked.msg_type), f"{asked} is answered by {msg_type}"
            assert not asked.replied, f"a second reply to {asked}"
            assert channel == asked.channel, f"{asked} came on {asked.channel} and is answered on {channel}"
            assert message["idents"] == asked.idents, f"the reply to {asked} goes to {message['idents']}"
            asked.replied = True
        elif channel == "stdin":
            assert message["idents"] == asked.idents, f"{asked} asks {message['idents']}"
            assert asked.content.get("allow_stdin") is True, f"{asked} does not allow to ask"

    def _begin(self, asked: Asked) -> None:
        assert not asked.idle, f"a busy of {asked} after its idle"
        if asked.busy:
            assert asked in self._owed, f"a second busy of {asked}"
        else:
            assert not self._must, f"{self._owed[-1]} still runs, and the idle beside it hides that"
            self._check_order(asked)
            asked.busy = True
            asked.main = asked.lane == "main" and not (asked.beside and self._running())
        self._owed, self._must = [], False

    def _check_order(self, asked: Asked) -> None:
        lane = self._lanes[asked.lane]
        open_beside = [other for other in lane if other.beside and other.busy]
        assert len(open_beside) < 2, f"{asked} begins before {open_beside[0]} has ended"
        for other in [] if asked.beside else lane[: lane.index(asked)]:
            if other.beside or (other.comm and self._subshells) or (asked.comm and not other.comm):
                continue
            raise AssertionError(f"{asked} begins before {other} has {'ended' if other.busy else 'begun'}")

    def _close(self, asked: Asked) -> None:
        assert not self._must, f"{self._owed[-1]} still runs, and the idle beside it hides that"
        assert asked.replied or reply_type(asked.msg_type) is None, f"{asked} has no reply"
        asked.idle = True
        self._lanes[asked.lane].remove(asked)
        self._owed = self._running()
        self._must = not all(other.beside or other.comm for other in self._owed)

    def _running(self) -> list[Asked]:
        """What has begun on the main shell."""
        return [asked for asked in self._lanes.get("main", ()) if asked.main]

    def _end(self) -> None:
        self.ended = True
        for lane in ("main", "control"):
            for asked in self._lanes.get(lane, ()):
                assert not asked.busy or asked.msg_type in USERS, f"the kernel ended before {asked} did"


class Observer:
    """Reads the records that kernels write into a directory.

    A record whose kernel has gone is removed once it is read.
    """

    def __init__(self, directory: Path, alive: Callable[[int], bool]) -> None:
        self._directory = directory
        self._alive = alive
        self._records: dict[str, tuple[int, Record]] = {}
        #: How many messages have been held against the rules.
        self.count = 0

    def check(self) -> None:
        """Read what is new, of all kernels.

        Raises
        ------
        AssertionError
            Kernels have broken rules; the text names the messages.
        """
        faults = []
        for name in sorted(os.listdir(self._directory)):
            gone = not self._alive(int(name.rpartition("-")[2].removesuffix(".jsonl")))
            try:
                self._read(name)
            except AssertionError as fault:
                faults.append(f"{name}: {fault}")
                gone = True  # there is no sense in what follows
            if gone:
                self._records.pop(name, None)
                os.unlink(self._directory / name)
        assert not faults, "\n".join(faults)

    def _read(self, name: str) -> None:
        offset, record = self._records.get(name, (0, Record()))
        with open(self._directory / name, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # not yet written to its end, and it may never be
                offset += len(line)
                self.count += 1
                try:
                    record.take(json.loads(line))
                except AssertionError as fault:
                    raise AssertionError(f"{fault}\n  at byte {offset - len(line)}: {line[:2000]!r}") from None
        self._records[name] = offset, record


def _key(header: Json) -> str:
    return json.dumps(header, sort_keys=True)
