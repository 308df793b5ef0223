"""`input`, `getpass` and `sys.stdin`: from any thread, answered by the frontend whose cell asks.

A frontend that can't be asked says so in its request.  `input` raises then; `sys.stdin` is at its end, as it would
be for a program without a terminal ("Messaging in Jupyter: Messages on the stdin ROUTER/DEALER channel").
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import current_request
from ..kernel.stdin import StdinNotImplementedError
from . import imports, streams

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel


_input = builtins.input
_stdin: io.TextIOWrapper | None = None


def ask(prompt: str, password: bool = False) -> str:
    """Ask the user for a line.

    Raises
    ------
    StdinNotImplementedError
        The frontend does not support it, or the cell that asks has ended.
    EOFError
        The user has ended the input, or this is a forked child, which has none.
    """
    request = current_request()
    if request is not None and os.getpid() != request.kernel.pid:
        raise EOFError("a forked child has no stdin")
    if request is None or not request.content.get("allow_stdin"):
        # nbclient's tests and many a forum know this error by its words
        function = "getpass" if password else "raw_input"
        raise StdinNotImplementedError(f"{function} was called, but this frontend does not support input requests.")
    streams.flush()
    return request.kernel.prompts.ask(request, prompt, password)


def input(prompt: object = "", /) -> str:
    """Ask the user for a line, as Python's own `input` does, through the frontend."""
    if sys.stdin is not _stdin:
        line: str = _input(prompt)  # a cell has put another there
        return line
    return ask(str(prompt))


def getpass(prompt: str = "Password: ", stream: Any = None, *, echo_char: str | None = None) -> str:
    """Ask the user for a line that is not shown, through the frontend.

    `stream` and `echo_char` are there for `getpass.getpass`'s callers; how it looks is the frontend's.
    """
    if stream is not None or echo_char is not None:
        from warnings import warn

        warn("stream and echo_char have no effect in a kernel", UserWarning, stacklevel=2)
    return ask(str(prompt), password=True)


class _Lines(io.RawIOBase):
    """Bytes under `sys.stdin`: each read asks for one line."""

    name = "<stdin>"
    mode = "rb"

    def __init__(self) -> None:
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            try:
                self._rest = (ask("") + "\n").encode(errors="surrogateescape")
            except (EOFError, StdinNotImplementedError):
                return 0
        part = self._rest[: len(buffer)]
        self._rest = self._rest[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def stream() -> io.TextIOWrapper:
    """Return a text stream each of whose lines is asked for."""
    return io.TextIOWrapper(io.BufferedReader(_Lines()), encoding="utf-8", errors="surrogateescape")


def install(kernel: Kernel) -> None:
    """Make `input`, getpass and `sys.stdin` ask the frontend."""
    builtins.input = input
    global _stdin
    sys.stdin = _stdin = stream()
    imports.when_imported("getpass", _patch_getpass)
    imports.when_imported("pdb", _patch_pdb)


def _patch_pdb() -> None:
    """Let an interrupt at pdb's prompt end the cell, and pdb stop where the user's code ends.

    pdb itself would ask again after an interrupt, and step on into the kernel after the cell's last line.
    """
    pdb = sys.modules["pdb"].Pdb
    stop_here = pdb.stop_here

    def cmdloop(self: Any) -> None:
        self.allow_kbdint = True
        self.cmdloop()
        self.allow_kbdint = False

    def stop_here_or_let_go(self: Any, frame: FrameType) -> bool:
        if interrupt.is_ours(frame):
            if interrupt.is_landing(frame):
                self.set_continue()
            return False
        return bool(stop_here(self, frame))

    pdb._cmdloop = cmdloop
    pdb.stop_here = stop_here_or_let_go


def _patch_getpass() -> None:
    sys.modules["getpass"].getpass = getpass  # type: ignore[attr-defined]
