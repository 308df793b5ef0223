"""What breaks the protocol: rules that any kernel and any frontend must keep, seen from outside.

This file alone judges.  `of_message` holds one message against the table (``protocol.messages``); `Conversation`
holds it against those before it.  It knows what can be known by somebody who stands between the two: what one
channel carries has an order, but which of two channels was first can't be told.  So nothing is said here of a
reply and an idle that seem to have changed places.  (Of our own kernel the tests know more: ``tests/observer.py``.)

What is not in the table is not judged: both sides must bear messages and fields that they don't know.  Nothing here
raises, whatever JSON a peer has sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..protocol.messages import HANDSHAKE, MESSAGES, Field, reply_type

#: Where the protocol is written down; a section's title, made an anchor, follows.
DOCUMENT = "https://jupyter-client.readthedocs.io/en/stable/messaging.html"
WIRE, HEADER, PARENT = "The Wire Protocol", "Message header", "Parent header"
STATUS, ROUTING = "Kernel status", "Introduction"
#: What threads, tasks and callbacks may send when the request that began them has ended.
LATE = frozenset(
    ("stream", "display_data", "update_display_data", "clear_output", "comm_open", "comm_msg", "comm_close",
     "debug_event")
)  # fmt: skip
#: How many requests are remembered.
REMEMBERED = 10_000


class Violation(NamedTuple):
    """A rule that was broken, in words, and the section of "Messaging in Jupyter" that has it."""

    text: str
    section: str

    def __str__(self) -> str:
        return f'{self.text} ("Messaging in Jupyter: {self.section}")'


def link(section: str) -> str | None:
    """Return the address of a section; None for what is not in the document, whose name is in parentheses."""
    if section.startswith("("):
        return None
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in section.lower())
    return f"{DOCUMENT}#{'-'.join(words.split())}"


def of_message(direction: str, channel: str, message: Mapping[str, Any]) -> list[Violation]:
    """Hold one message against the table.

    Parameters
    ----------
    direction : str
        "in" for what a frontend says, "out" for what a kernel says.
    channel : str
        "shell", "control", "iopub" or "stdin".
    message : mapping
        The four parts by name, as they were read from JSON; of the header only msg_type is sure to be there.
    """
    header, content = message["header"], message["content"]
    msg_type = header["msg_type"]
    found = []
    missing = [name for name in ("msg_id", "session", "username", "date", "version") if header.get(name) is None]
    if missing:
        found.append(Violation(f"the header of {msg_type} lacks {', '.join(missing)}", HEADER))
    elif not _has_zone(header["date"]):
        found.append(Violation(f"the date of {msg_type} has no time zone: {_short(header['date'])}", HEADER))
    if msg_type in HANDSHAKE or msg_type not in MESSAGES:
        return found
    spec = MESSAGES[msg_type]
    sender = "frontend" if direction == "in" else "kernel"
    if spec.sender not in (sender, "both"):
        return [*found, Violation(f"{msg_type} is not the {sender}'s to send", spec.section)]
    if not isinstance(content, dict):
        return [*found, Violation(f"the content of {msg_type} is no object", spec.section)]
    failed = content.get("status") in ("error", "aborted", "abort")
    if channel not in spec.channel.split() and not failed:  # a request on the wrong channel is refused there
        found.append(Violation(f"{msg_type} on {channel}", spec.section))
    for name, field in spec.fields.items():
        value = content.get(name)
        if value is None:
            if field.required and not (failed and name != "status"):
                found.append(Violation(f"{msg_type} lacks {name}", spec.section))
        elif not _fits(value, field):
            kinds = " or ".join(kind.__name__ for kind in field.types)
            found.append(Violation(f"{name} of {msg_type} is {_short(value)}, not {kinds}", spec.section))
    if content.get("status") == "error" and direction == "out":
        missing = [name for name in ("ename", "evalue", "traceback") if name not in content]
        if missing:
            found.append(
                Violation(f"{msg_type} with 'status': 'error' lacks {', '.join(missing)}", "Request-Reply")
            )
    return found


def _short(value: Any) -> str:
    """Return a value's beginning; of what holds others, which may be without end, the type."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value)[:40] if value is None or isinstance(value, (int, float)) else type(value).__name__


def _has_zone(date: Any) -> bool:
    if not isinstance(date, str):
        return getattr(date, "tzinfo", None) is not None  # jupyter_client has read it already
    return date.endswith("Z") or date[-6:-5] in ("+", "-") or date[-5:-4] in ("+", "-")


def _fits(value: Any, field: Field) -> bool:
    """Tell whether a value is of the field's type; JSON has one type of numbers."""
    return isinstance(value, field.types) or (float in field.types and isinstance(value, int))


class Exchange:
    """A request, and what has become of it so far.

    Attributes
    ----------
    number : int
        Counts the requests, from 1.
    time : float
        When it was seen, in seconds of whatever clock the caller has.
    heard : bool
        Whether nothing that it has caused on iopub can have been missed.
    busy, idle, replied : bool
        Whether they have been seen.
    """

    __slots__ = ("busy", "channel", "heard", "idle", "msg_id", "msg_type", "number", "replied", "time")

    def __init__(
        self, number: int, channel: str, header: Mapping[str, Any], time: float, heard: bool = True
    ) -> None:
        self.number = number
        self.heard = heard
        self.channel = channel
        self.msg_type: str = header["msg_type"]
        self.msg_id: str = header["msg_id"]
        self.time = time
        self.busy = self.idle = self.replied = False

    def __str__(self) -> str:
        return f"{self.msg_type} [{self.number}]"

    def lacks(self) -> list[str]:
        """Return what has to come, and has not been seen yet: "reply", "idle"."""
        reply = reply_type(self.msg_type) is not None and not self.replied
        return ["reply"] * reply + ["idle"] * (self.heard and not self.idle)


class Conversation:
    """All that one kernel and its frontends have said, from the kernel's start.

    Attributes
    ----------
    hears_all : bool
        Whether all of iopub is seen now; to be set by whoever can't be sure of it.
    """

    def __init__(self) -> None:
        self.hears_all = True
        self._exchanges: OrderedDict[str, Exchange] = OrderedDict()
        self._asking: Exchange | None = None
        self._count = 0
        #: Whether every request is remembered.
        self._complete = True

    def forget(self) -> None:
        """Begin anew, for there is something that was not taken."""
        self._exchanges.clear()
        self._complete = False

    def open(self) -> list[Exchange]:
        """Return the requests that have begun, or should have, and have not ended."""
        return [each for each in self._exchanges.values() if each.lacks()]

    def take(
        self, direction: str, channel: str, message: Mapping[str, Any], time: float
    ) -> tuple[Exchange | None, list[Violation]]:
        """Take the next message; return the request that it is or belongs to, and the rules that it breaks."""
        found = of_message(direction, channel, message)
        if direction == "in" and channel in ("shell", "control"):
            self._count += 1
            exchange = Exchange(self._count, channel, message["header"], time, self.hears_all)
            if exchange.msg_id in self._exchanges:
                found.append(Violation(f"a second message with the msg_id {exchange.msg_id!r:.60}", HEADER))
            self._exchanges[exchange.msg_id] = exchange
            if len(self._exchanges) > REMEMBERED:
                self._exchanges.popitem(last=False)
                self._complete = False
            return exchange, found
        if direction == "in":  # jupyter_client's input_reply has no parent
            return self._exchanges.get(_msg_id(message["parent_header"]), self._asking), found
        parent = _msg_id(message["parent_header"])
        asked = self._exchanges.get(parent)
        if asked is None:
            if parent and self._complete:
                found.append(Violation(f"the parent of {message['header']['msg_type']} has not been seen", PARENT))
        elif channel == "stdin":
            self._asking = asked
        else:
            check = self._published if channel == "iopub" else self._replied
            found += check(asked, channel, message)
        return asked, found

    @staticmethod
    def _published(asked: Exchange, channel: str, message: Mapping[str, Any]) -> list[Violation]:
        msg_type, content = message["header"]["msg_type"], message["content"]
        state = content.get("execution_state") if msg_type == "status" and isinstance(content, dict) else None
        found = []
        if not asked.heard:
            pass
        elif asked.idle and msg_type not in LATE:
            found.append(Violation(f"{state or msg_type} of {asked} comes after its idle", STATUS))
        elif not asked.busy and state != "busy":
            found.append(Violation(f"{state or msg_type} of {asked} comes before its busy", STATUS))
        asked.busy |= state == "busy"
        asked.idle |= state == "idle"
        return found

    @staticmethod
    def _replied(asked: Exchange, channel: str, message: Mapping[str, Any]) -> list[Violation]:
        msg_type = message["header"]["msg_type"]
        found = []
        if asked.msg_type in MESSAGES and msg_type != reply_type(asked.msg_type):
            found.append(Violation(f"{asked} is answered by {msg_type}", "Request-Reply"))
        if asked.replied:
            found.append(Violation(f"a second reply to {asked}", "Request-Reply"))
        if channel != asked.channel:
            found.append(Violation(f"{asked} came on {asked.channel} and is answered on {channel}", ROUTING))
        asked.replied = True
        return found


def _msg_id(header: Any) -> str:
    """Return a header's msg_id; empty where there is none."""
    msg_id = header.get("msg_id") if isinstance(header, dict) else None
    return msg_id if isinstance(msg_id, str) else ""
