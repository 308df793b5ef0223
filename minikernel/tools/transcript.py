"""What was said, message by message, in a form that people and programs can read.

`Transcript` turns the frames that a relay or a kernel has seen into `Entry`s: decoded, numbered by the request
that they belong to, timed from it, held against the rules (``violations``).  `Tap` stands between the thread that
moves messages and the one that looks at them: the first must never wait, so when the second is too far behind,
messages are left out of the view, and counted.

The key is used here, to tell whether a signature is right, and goes no further: where it stands in a message,
because somebody printed it, it is blotted out.  The right signature of a message that has a wrong one is never
computed for anybody to see.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, SIGTERM, pthread_sigmask
from threading import Thread
from typing import Any, NamedTuple

from ..protocol import log
from ..protocol.messages import MESSAGES
from ..protocol.wire import Frame, Message, Session, WireError
from .violations import WIRE, Conversation, Exchange, Violation

#: Messages, and their bytes, that may wait to be looked at.
BOUND, BYTES = 20_000, 1 << 26
#: Seconds that the looking waits for an exchange to end, so as not to slow it down.
PAUSE = 0.02
#: Messages after which those that were looked at are shown, although more come.
BATCH = 200
#: Seconds within which the order of two channels can't be told.
TOGETHER = 0.01
#: Characters of one field's value in a summary.
SHORT = 60
#: Fields whose name says nothing that their value does not.
_BARE = ("execution_state", "status", "name", "text", "code", "ename", "evalue", "command", "event")

#: The "direction" of a number of messages that were left out; the number is in the channel's place.
GAP = "gap"
#: When, in seconds since the epoch; direction, channel and frames, as tracers get them.
Seen = tuple[float, str, str, list[Frame]]
View = Callable[["Entry | None"], None]


class Entry(NamedTuple):
    """One message as it was seen.

    Attributes
    ----------
    time : float
        Seconds since the epoch.
    direction, channel : str
        As tracers have them: "in" is to the kernel.
    frames : list of bytes-like
        All frames, with the key blotted out.
    message : Message or None
        None for a heartbeat, a subscription, and what is no message.
    msg_type : str
        Of a heartbeat and a subscription, what it is.
    signature : str
        "good", "bad", "none" when there is no key, "" when it has none to have.
    exchange : Exchange or None
        The request that this is or belongs to.
    latency : float or None
        Seconds from the request, or the ping, to this.
    violations : list of Violation
        The rules that it breaks.
    number : int
        Counts the messages, from 1.
    """

    time: float
    direction: str
    channel: str
    frames: list[Frame]
    message: Message | None
    msg_type: str
    signature: str = ""
    exchange: Exchange | None = None
    latency: float | None = None
    violations: Sequence[Violation] = ()
    number: int = 0

    def is_idle(self) -> bool:
        """Tell whether this is the end of a request."""
        content = self.message.content if self.message and self.msg_type == "status" else None
        return isinstance(content, dict) and content.get("execution_state") == "idle"

    def summary(self) -> str:
        """Return the fields that matter, on one line of printable characters."""
        if self.message is None:
            subscribing = self.channel == "iopub" and self.direction == "in"
            return _short(bytes(self.frames[0][1:]).decode(errors="replace")) if subscribing else ""
        content = self.message.content
        if not isinstance(content, dict):
            return _short(content)
        fields = MESSAGES[self.msg_type].fields if self.msg_type in MESSAGES else {}
        words = []
        for name in dict.fromkeys(["status", *fields, *content]):
            value = content.get(name)
            if value in (None, {}, []) or (name in fields and value == fields[name].default):
                continue
            if name in ("execution_state", "status", "name") and isinstance(value, str):
                words.append(printable(value))
            else:
                words.append(_short(value) if name in _BARE else f"{printable(name)}={_short(value)}")
        if self.message.buffers:
            words.append(f"+{len(self.message.buffers)} buffers")
        return " ".join(words)


class Transcript:
    """Reads what one kernel and its frontends say.  One thread.

    Parameters
    ----------
    info : dict
        The fields of the connection file.
    relayed : bool
        Whether it is seen from a relay, which hears of iopub what frontends have subscribed to, from when the
        kernel knows that; or else from inside the kernel.
    """

    def __init__(self, info: dict[str, Any], relayed: bool) -> None:
        self._key = info["key"].encode()
        #: What is blotted out; a key that is short or has other letters could be found in what is not the key.
        self._secret = self._key if re.fullmatch(rb"[\w-]{16,}", self._key) else b""
        self._session = Session(self._key, info["signature_scheme"])
        self._conversation = Conversation()
        self._conversation.hears_all = not relayed
        self._subscribed_to_all = 0
        self._pings: OrderedDict[tuple[bytes, ...], float] = OrderedDict()
        self._count = 0

    def read(self, seen: Iterable[Seen]) -> Iterator[Entry]:
        """Return what was seen, numbered, in the order in which it was said, as far as one can tell.

        Of what a kernel says on two channels at about the same time, nobody knows which was first; nor do dates
        tell, for a header may be made long before it is sent.  So a reply is put where it belongs: before its idle.
        """
        entries = []
        for each in seen:
            if each[1] == GAP:
                self._conversation.forget()
                log.write(f"{each[2]} messages came too fast to be shown")
            else:
                entries.append(self._take(*each))
        for entry in _settle(entries):
            self._count += 1
            yield entry._replace(number=self._count)

    def _take(self, now: float, direction: str, channel: str, frames: list[Frame]) -> Entry:
        if channel == "hb":
            return self._heartbeat(now, direction, frames)
        if channel == "iopub" and direction == "in":
            begins = bytes(frames[0][:1]) == b"\x01"
            self._subscribed_to_all += (1 if begins else -1) if len(frames[0]) == 1 else 0
            self._conversation.hears_all &= self._subscribed_to_all > 0
            return Entry(now, direction, channel, frames, None, "subscribe" if begins else "unsubscribe")
        if channel == "iopub":  # so the kernel knows of the subscription
            self._conversation.hears_all |= self._subscribed_to_all > 0
        shown = [self._blot(frame) for frame in frames]
        good = "good" if self._key else "none"
        try:
            message = self._session.unpack(frames)
        except WireError as error:
            reason = str(error)
            if "frames after" in reason or "delimiter" in reason:
                good = ""
            elif reason in ("wrong signature", "not signed"):
                good = "bad"
            found = [Violation(f"no message: {reason}", WIRE)]
            return Entry(now, direction, channel, shown, None, "?", good, violations=found)
        asked, violations = self._conversation.take(direction, channel, message._asdict(), now)
        latency = None if asked is None or asked.msg_id == message.header["msg_id"] else now - asked.time
        start = len(message.idents) + 2
        if any(one is not other for one, other in zip(frames, shown, strict=True)):
            four = [json.loads(bytes(frame)) for frame in shown[start : start + 4]]
            message = message._replace(header=four[0], parent_header=four[1], metadata=four[2], content=four[3])
        msg_type = message.msg_type
        return Entry(now, direction, channel, shown, message, msg_type, good, asked, latency, violations)

    def open(self) -> list[Exchange]:
        """Return the requests that have not ended."""
        return self._conversation.open()

    def _heartbeat(self, now: float, direction: str, frames: list[Frame]) -> Entry:
        key = tuple(map(bytes, frames))
        if direction == "in":
            self._pings[key] = now
            if len(self._pings) > 100:  # of a kernel whose heart does not beat
                self._pings.popitem(last=False)
            return Entry(now, direction, "hb", frames, None, "ping")
        sent = self._pings.pop(key, None)
        latency = None if sent is None else now - sent
        violations = (
            [Violation("an echo of nothing that was sent", "Heartbeat for kernels")] if sent is None else []
        )
        return Entry(now, direction, "hb", frames, None, "echo", latency=latency, violations=violations)

    def _blot(self, frame: Frame) -> Frame:
        """Return a frame without the key; the frame itself where it is not in it."""
        if not self._secret or len(frame) < len(self._secret):
            return frame
        text = bytes(frame)
        return text.replace(self._secret, b"*" * len(self._secret)) if self._secret in text else frame


class Tap:
    """A tracer that lets another thread look at what was seen, and never waits for it.

    Parameters
    ----------
    look : callable
        Called there with one or more messages, in order; with an empty list at the end.
    lossless : bool
        Whether to keep all that waits to be looked at, however much it becomes.
    """

    def __init__(self, look: Callable[[list[Seen]], None], lossless: bool = False) -> None:
        self._look = look
        self._lossless = lossless
        self._queue: SimpleQueue[Seen | None] = SimpleQueue()
        self._put = self._taken = 0
        self._put_bytes = self._taken_bytes = 0
        self._left_out = 0
        self._epoch = time.time() - time.monotonic()  # a clock that is set must not make latencies
        self._thread = Thread(target=self._run, name="minikernel-trace", daemon=True)
        before = pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM})  # threads inherit it: signals are main's
        self._thread.start()
        pthread_sigmask(SIG_SETMASK, before)

    def __call__(self, direction: str, channel: str, frames: list[Frame]) -> None:
        """Take a message.  The thread that moves messages; returns at once, but at the end."""
        if direction == "end":
            self._queue.put(None)
            self._thread.join(
                30.0 if self._lossless else 1.0
            )  # a terminal that was stopped must not hold up an end
            return
        size = sum(map(len, frames))
        full = self._put - self._taken >= BOUND or self._put_bytes - self._taken_bytes + size > BYTES
        if full and not self._lossless:
            self._left_out += 1
            return
        if self._left_out:
            self._put += 1
            self._queue.put((0.0, GAP, str(self._left_out), []))
            self._left_out = 0
        self._put += 1
        self._put_bytes += size
        self._queue.put((self._epoch + time.monotonic(), direction, channel, frames))

    def _run(self) -> None:
        while batch := self._next():
            self._look(batch)
            self._taken += len(batch)
            self._taken_bytes += sum(len(frame) for *_, frames in batch for frame in frames)
        self._look([])

    def _next(self) -> list[Seen]:
        """Wait for messages, and for a pause behind them; nothing is the end."""
        batch: list[Seen] = []
        seen = self._queue.get()
        time.sleep(PAUSE)
        while seen is not None:
            batch.append(seen)
            if self._queue.empty() and len(batch) < BATCH:
                time.sleep(TOGETHER)
            if self._queue.empty() or len(batch) >= BATCH:
                return batch
            seen = self._queue.get()
        self._queue.put(None)  # for the next call
        return batch


class Show:
    """What a `Tap` does for people: it reads messages and shows them to views.

    Parameters
    ----------
    transcript : Transcript
        Belongs to the tap's thread.
    views : list of callables
        Called there with each `Entry`, and with None at the end.
    """

    def __init__(self, transcript: Transcript, views: list[View]) -> None:
        self._transcript = transcript
        self._views = views

    def __call__(self, batch: list[Seen]) -> None:
        """Show some messages."""
        for entry in self._transcript.read(batch) if batch else [None]:
            for view in list(self._views):
                try:
                    view(entry)
                except OSError as error:  # a disk is full, a pipe has no reader
                    log.write(f"the trace ends here: {error.strerror}")
                    self._views.remove(view)


def _settle(entries: list[Entry]) -> list[Entry]:
    """Put each reply that comes close behind the idle of its request before it."""
    idles: list[Entry] = []
    result: list[Entry] = []
    for entry in entries:
        at = len(result)
        if entry.is_idle():
            idles.append(entry)
        elif entry.channel in ("shell", "control") and entry.direction == "out":
            for idle in idles:
                if entry.exchange and idle.exchange is entry.exchange and entry.time - idle.time < TOGETHER:
                    at = next(at for at, other in enumerate(result) if other is idle)
        result.insert(at, entry)
    return result


def printable(text: str) -> str:
    """Return a text in which everything that a terminal would obey, or not show, is written as an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _short(value: Any) -> str:
    """Return a JSON value as a short text."""
    if isinstance(value, str) and len(value) > SHORT:
        value = value[: SHORT - 1] + "…"  # before it is quoted, for it may be long
    elif isinstance(value, (dict, list)) and value:
        if isinstance(value, list):
            return f"[{len(value)}]"
        return printable(f"{{{', '.join(list(value)[:SHORT])[:SHORT]}}}")
    return printable(json.dumps(value, ensure_ascii=False))
