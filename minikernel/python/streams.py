"""`sys.stdout` and `sys.stderr`: from any thread, task or child, to the right cell.

A stream is a real text stream: it has a ``buffer`` for bytes, an ``encoding``, can be reconfigured, and its
``fileno`` is the process's own descriptor 1 or 2, which `capture` reads.  Only its ``write`` is ours: it hands
the text to the outbox under the name of the request that the calling code works for.

In a forked child the sockets are the parent's, and only the parent may use them.  A child's text goes through
descriptor 1 or 2, and so comes to the cell that the parent runs.
"""

from __future__ import annotations

import io
import os
import sys
from codecs import getincrementaldecoder
from time import monotonic
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import context_request, current_request
from ..protocol import log
from ..protocol.outbox import Outbox, Text
from ..protocol.wire import EMPTY
from .capture import Capture

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

#: Seconds without a write after which C code or a child may have written something: what runs them takes longer.
_PAUSE = 0.0005
#: Seconds between two looks at what C code and children have written, while a cell runs.
_LOOK_BUSY = 0.05
#: While none does: half of the time for which it has been quiet, within these.  What a cell has left behind is
#: soon seen, and an idle kernel sleeps.
_LOOK_SOON, _LOOK_LATE = 0.5, 5.0

_NOBODY = object()

_streams: list[OutStream] = []


class _Bytes(io.RawIOBase):
    """The ``buffer`` of a stream: bytes become its text as soon as they are whole characters."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = f"<{name}>"
        self.mode = "wb"
        self.stream: OutStream | None = None
        self._fd = fd
        self._decode = getincrementaldecoder("utf-8")("replace").decode

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self.stream is not None:
            self.stream.write(self._decode(view.tobytes()))
        return view.nbytes


class OutStream(io.TextIOWrapper):
    """A text stream whose text goes to the frontends."""

    # twice as fast as what is in the __dict__
    __slots__ = ("_capture", "_last", "_outbox", "_patient", "_stream", "_tail")

    def __init__(self, kernel: Kernel, name: str, fd: int, capture: Capture) -> None:
        buffer = _Bytes(name, fd)
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", write_through=True)
        buffer.stream = self
        self.__dict__["mode"] = "w"
        self._stream = name
        self._outbox = kernel.channels.outbox
        self._capture = capture
        self._last = 0.0
        #: Whether an interrupt prefers another place: here C prints its warnings, and clears what is raised.
        self._patient = name == "stderr"
        #: The text that was written to last.
        self._tail = Text(EMPTY, name, _NOBODY)

    def write(self, text: str, /) -> int:
        """Write text.  Any thread; waits, interruptibly, when far too much has not been sent yet."""
        tail, now = self._tail, monotonic()
        if (  # the crumbs of a flood: of the same code as those before, and soon after them
            tail is self._outbox.tail
            and tail.owner is context_request(tail)
            and now - self._last < _PAUSE
            and type(text) is str
        ):
            size = len(text)
            room = tail.room - size
            if room > 0:
                self._last = now
                tail.room = room
                tail.append(text)
                if tail.closed:
                    self._outbox.recover(tail)
                return size
        return self._write(text, now)

    def _write(self, text: str, now: float) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        outbox, request = self._outbox, current_request()
        parent = EMPTY if request is None else request.header_frame
        if now - self._last > _PAUSE or outbox.begins(parent, self._stream):
            self._capture.look()
        self._last = now
        if text:
            owner = _NOBODY if request is None or request.idle else request
            self._tail = outbox.write(parent, self._stream, text, owner)
        if outbox.full:
            outbox.wait_for_room()
        if interrupt.pending:
            interrupt.checkpoint(self._patient)
        return len(text)

    def flush(self) -> None:
        """Keep what C code has written before and what Python writes next in this order."""
        self._capture.look()
        if interrupt.pending:
            interrupt.checkpoint(self._patient)

    def close(self) -> None:
        """Flush; the stream is the kernel's, and a cell can't close it."""
        self.flush()

    def _write_in_child(self, text: str) -> int:
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self.fileno(), data) :]
        return len(text)


interrupt.landing(Outbox.wait_for_room)


def install(kernel: Kernel) -> None:
    """Make the process's streams those of `kernel`, and capture descriptors 1 and 2."""
    log.keep_stderr()
    capture = Capture(kernel.channels.outbox)
    sys.stdout = OutStream(kernel, "stdout", 1, capture)
    sys.stderr = OutStream(kernel, "stderr", 2, capture)
    _streams[:] = [sys.stdout, sys.stderr]
    kernel.before_output = capture.look
    channels = kernel.channels
    heard, last = 0, 0.0

    def interval() -> float:
        nonlocal heard, last
        if channels.received != heard or kernel.main.running is not None:
            heard, last = channels.received, monotonic()
        return _LOOK_BUSY if kernel.main.running else min(max(_LOOK_SOON, (monotonic() - last) / 2), _LOOK_LATE)

    def tick() -> None:
        nonlocal last
        if capture.look_a_little():
            last = monotonic()

    channels.interval = interval
    channels.tick = tick

    def in_child() -> None:
        OutStream.write = OutStream._write_in_child  # type: ignore[method-assign]
        OutStream.flush = lambda self: None  # type: ignore[method-assign]
        channels.abandon()
        kernel.before_output = lambda: None

    os.register_at_fork(after_in_child=in_child)


def flush() -> None:
    """See to it that all that was written has its place before what comes next: C's buffers too."""
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
        if stream is not None and stream not in _streams:
            try:
                interrupt.call(stream.flush)
            except BaseException:  # a stream that the user's code has put there
                pass
    if _streams:
        _streams[0]._capture.flush()


def restore() -> None:
    """Put the streams and descriptors back that a cell has taken away altogether."""
    for name, stream in zip(("stdout", "stderr"), _streams, strict=True):
        if getattr(sys, name, None) is None:
            setattr(sys, name, stream)
    if _streams:
        _streams[0]._capture.restore()
