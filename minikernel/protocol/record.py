"""A record of every message: ``minikernel --record FILE``, or $MINIKERNEL_RECORD.  Imported where one is asked for.

One JSON object a line, in the order in which the channels thread read and sent::

    {"time": 1764000000.0, "direction": "in", "channel": "shell", "idents": ["6d6b"], "header": {…},
     "parent_header": {…}, "metadata": {…}, "content": {…}, "buffers": [1024]}

The time is in seconds since the epoch, the routing ids (on iopub the topic) are in hex, of buffers there is the
size; the four objects are as they travelled.  What was refused has ``"refused"`` and the reason instead; after
`REFUSED` of them, only every thousandth is told, for no stranger may fill a disk.  The last line has the direction
"end"; it is missing when the kernel was killed, and the last line may be torn then.

Neither the key nor a signature is in it, but all that was said and typed is, passwords too: the file is for its
owner's eyes.  Each line is one write at the end of the file, so kernels may share one; in a directory each has
its own.  A forked child has no channels thread, and so writes nothing.  A disk that is full ends the record
with a word on stderr, and not the kernel.
"""

from __future__ import annotations

import os
import stat
from os import write
from time import time
from typing import Any

from .. import __builtins__ as __builtins__
from .. import private
from . import log
from .channels import Channels
from .encoding import dumps
from .wire import DELIMITER, Frame, Session, WireError

#: How many refused messages are told, all of them.
REFUSED = 1000
#: Between the tokens of JSON, where alone they may stand in it, these are spaces.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def start(channels: Channels, info: dict[str, Any], connection_file: str, path: str) -> None:
    """Record all messages of `channels`, which have not been started, in the file or directory `path`."""
    if os.path.isdir(path):
        name = os.path.splitext(os.path.basename(connection_file))[0]
        path = os.path.join(path, f"{name}-{channels.session.id[:8]}-{os.getpid()}.jsonl")
    # A session of its own comes to the same verdicts: what the kernel's has seen would be a replay to it.
    session = Session(info["key"].encode(), info["signature_scheme"])
    try:
        channels.tracers.append(Recorder(path, session))
    except OSError as error:
        log.write(f"cannot record to {path}: {error.strerror}")


class Recorder:
    """A tracer that writes what it sees to the end of the file `path`.

    Parameters
    ----------
    path : str
        Is made, or added to.
    session : Session
        Tells what is refused.  Nobody else uses it.
    foreign : bool
        Whether the kernel is not ours, so that what it sends has to be looked at as well.

    Raises
    ------
    OSError
        The file can't be opened.
    """

    def __init__(self, path: str, session: Session, foreign: bool = False) -> None:
        self._path = path
        self._foreign = foreign
        self._session = session
        self._refused = 0
        # of a pipe that nobody reads, no kernel may come to a halt
        self._fd = private.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.fchmod(self._fd, 0o600)
            if _is_torn(path):
                write(self._fd, b"\n")

    def __call__(self, direction: str, channel: str, frames: list[Frame], when: float | None = None) -> None:
        """Write one line, of now or of what was seen before.  The channels thread, or that of a relay's tap."""
        if self._fd < 0:
            return
        line = b'{"time": %.6f, "direction": "%b"' % (when or time(), direction.encode())
        if direction != "end":
            described = self._describe(direction, frames)
            if not described:
                return
            line += b', "channel": "%b", %b' % (channel.encode(), described)
        rest = memoryview(line + b"}\n")
        try:
            while rest:
                rest = rest[write(self._fd, rest) :]
        except OSError as error:
            log.write(f"the record in {self._path} ends here: {error.strerror}")
            direction = "end"
        if direction == "end":
            os.close(self._fd)
            self._fd = -1

    def _describe(self, direction: str, frames: list[Frame]) -> bytes:
        """Return the fields of a message as JSON text, or nothing when too many like it have been told."""
        if direction == "in" or self._foreign:
            try:
                self._session.unpack(frames)
            except WireError as error:
                self._refused += 1
                told = self._refused <= REFUSED or self._refused % 1000 == 0
                return b'"refused": %b' % dumps(str(error)) if told else b""
        at = frames.index(DELIMITER)
        idents = [bytes(ident).hex() for ident in frames[:at]]
        sizes = [len(buffer) for buffer in frames[at + 6 :]]
        four = [bytes(frame).translate(_ONE_LINE) for frame in frames[at + 2 : at + 6]]
        return b'"idents": %b, "header": %b, "parent_header": %b, "metadata": %b, "content": %b, "buffers": %b' % (
            dumps(idents),
            *four,
            dumps(sizes),
        )


def _is_torn(path: str) -> bool:
    """Tell whether the last line of a file has no end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")
