"""What C code and child processes write to file descriptors 1 and 2.

What does not work: a pipe that a thread of this process drains.  C code that prints while it holds the GIL
fills the pipe and waits for a reader that waits for the GIL, and the process never comes back.  So the writer
gets a place that never blocks: a file without a name, in memory where the system has that.  The kernel reads it by
offset: before it sends anything of its own, at the end of each cell, and now and then in between.  Whatever a
finished system call has written is there, so nothing of a cell can come after its idle, and there is no marker to
wait for.  What has been read is given back to the system by punching holes.

With ``MINIKERNEL_CAPTURE=off`` in the environment descriptors 1 and 2 stay what the launcher has made them.
"""

from __future__ import annotations

import fcntl
import os
import sys
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from os import fstat, pread
from threading import RLock
from types import ModuleType

from .. import __builtins__ as __builtins__
from ..kernel.request import latest_request
from ..protocol.outbox import Outbox
from ..protocol.wire import EMPTY

_CHUNK = 1 << 20
#: Bytes read at a time, before others have their turn.
_PART = 4 << 20
#: Bytes that may be waiting here.  A file can't make its writer wait, so what is beyond is left out, aloud.
_BACKLOG = 256 << 20
#: Bytes read after which their memory is given back.
_HOLE = 16 << 20


class _File:
    """One captured descriptor and how far it has been read."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create(f"minikernel-{name}")
        else:
            import tempfile

            self.fd, path = tempfile.mkstemp()
            os.unlink(path)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND)
        os.dup2(self.fd, fd)
        self.offset = 0
        self.hole = 0
        self.decoder: IncrementalDecoder = getincrementaldecoder("utf-8")("replace")


class Capture:
    """Reads what was written to descriptors 1 and 2.  Any thread may look."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = RLock()
        captures = os.environ.get("MINIKERNEL_CAPTURE") != "off"
        self._files: tuple[_File, ...] = (_File("stdout", 1), _File("stderr", 2)) if captures else ()
        self._modules = 0
        self._fflush: Callable[[None], int] | None = None
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """This is a forked child: its parent reads, and may have been at it, with the lock, in another thread."""
        self._files = ()

    def restore(self) -> None:
        """Open descriptors 0 to 2 again where a cell has closed them, before another file gets their numbers."""
        for fd in range(3):
            try:
                fstat(fd)
            except OSError:
                if fd and self._files:
                    os.dup2(self._files[fd - 1].fd, fd)
                else:
                    os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

    def look(self) -> None:
        """Hand on all that has been written since the last look, as output of the latest request."""
        for file in self._files:
            if fstat(file.fd).st_size != file.offset:
                while self._read(file):
                    if self._outbox.full:
                        self._outbox.wait_for_room()

    def look_a_little(self) -> bool:
        """Hand on some of what has been written, unless much waits to be sent; tell whether there was something.

        The channels thread.
        """
        written = [file for file in self._files if fstat(file.fd).st_size != file.offset]
        for file in written:
            if not self._outbox.full:
                self._read(file)
        return bool(written)

    def flush(self) -> None:
        """Have C write out its buffers, then look.

        stdio keeps what it prints to a file until it is told.  It is asked for when code has been loaded
        that may use it.
        """
        if self._modules != len(sys.modules):
            self._modules = len(sys.modules)
            if self._fflush is None and any(map(_is_foreign, tuple(sys.modules.values()))):
                import ctypes

                self._fflush = ctypes.CDLL(None).fflush
        if self._fflush is not None:
            self._fflush(None)
        self.look()

    def _read(self, file: _File) -> bool:
        """Hand on a part of what has been written; tell whether there is more."""
        request = latest_request()
        parent = EMPTY if request is None else request.header_frame
        with self._lock:
            size = fstat(file.fd).st_size
            if size < file.offset:
                file.offset = file.hole = 0  # somebody opened /dev/stdout anew, and so emptied it
            elif size - file.offset > _BACKLOG:
                left_out = size - file.offset - _BACKLOG // 2
                file.offset += left_out
                file.decoder.reset()
                notice = f"\n[minikernel] {left_out} bytes were left out: more came than could be sent\n"
                self._outbox.write(parent, file.name, notice)
            until = min(size, file.offset + _PART)
            while file.offset < until:
                data = pread(file.fd, _CHUNK, file.offset)
                file.offset += len(data)
                text = file.decoder.decode(data)
                if text:
                    self._outbox.write(parent, file.name, text)
            if file.offset - file.hole > _HOLE:
                file.hole = _punch(file.fd, file.hole, file.offset)
            return file.offset < size


def _is_foreign(module: object) -> bool:
    """Tell whether a module is compiled and not the standard library's; ctypes can call anything.

    A module may be any object, and its attributes the user's code: only what is a module is looked into.
    """
    if not issubclass(type(module), ModuleType):
        return False
    names = object.__getattribute__(module, "__dict__")
    name, path = str(names.get("__name__")), names.get("__file__")
    if not isinstance(path, str) or name == "ctypes":
        return name == "ctypes"
    return path.endswith((".so", ".dylib")) and "lib-dynload" not in path and not name.startswith("zmq.")


def _punch(fd: int, start: int, end: int) -> int:
    """Give the memory of the bytes from `start` to `end` back; return from where the next hole starts."""
    import ctypes

    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    if fallocate is not None:
        keep_size_and_punch = 0x01 | 0x02  # linux/falloc.h
        fallocate(fd, keep_size_and_punch, ctypes.c_int64(start), ctypes.c_int64(end - start))
    return end
