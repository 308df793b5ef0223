"""What a user sees of an exception: the user's frames, with the cells' lines, and none of the kernel's."""

from __future__ import annotations

import os
import re
import sys
import traceback
from types import TracebackType
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from .cells import Cells

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_FILE = re.compile(r'^(?P<bar>[ |+]*)  File "(?P<name>[^"]*)", line (?P<line>\d+)(?P<rest>.*)$', re.M)
_RED, _GREEN, _CYAN, _OFF = "\x1b[0;31m", "\x1b[0;32m", "\x1b[0;36m", "\x1b[0m"


def describe(error: BaseException, cells: Cells) -> dict[str, Any]:
    """Return ``ename``, ``evalue`` and ``traceback`` of an exception, and set `sys.last_exc` and its kin.

    An exception may be as broken as any object: whatever its methods raise, there is a description.
    """
    ename = type(error).__name__
    try:
        error.__traceback__ = users_part(error.__traceback__, cells)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        evalue = str(interrupt.call(str, error))
    except KeyboardInterrupt:  # its __str__ takes for ever: it is not called again
        evalue = "<str() of the exception was interrupted>"
        return {"ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"]}
    except BaseException as broken:  # the user's __str__
        evalue = f"<str() of the exception raised {type(broken).__name__}>"
    try:
        lines = _format(error, cells)
    except BaseException as broken:  # the user's again, or too deep for the stack
        lines = [*cells.lines(error), f"{ename}: {evalue}", f"(formatting it raised {type(broken).__name__})"]
    return {"ename": ename, "evalue": evalue, "traceback": lines}


def users_part(tb: TracebackType | None, cells: Cells) -> TracebackType | None:
    """Return the traceback from its first frame of a cell on; without one, from the first that is not ours."""
    step = tb
    if "pydevd" in sys.modules:
        _end_at_debugger(tb)
    while step is not None:
        if step.tb_frame.f_code.co_filename in cells:
            return step
        step = step.tb_next
    while tb is not None and _is_ours(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _end_at_debugger(tb: TracebackType | None) -> None:
    """Cut off the frames of pydevd, where the interrupt of a stopped cell lands."""
    while tb is not None:
        below = tb.tb_next
        if below is not None and str(below.tb_frame.f_globals.get("__name__")).startswith(("pydevd", "_pydevd")):
            tb.tb_next = None
        tb = tb.tb_next


def _is_ours(filename: str) -> bool:
    return filename.startswith(_PACKAGE)


def _format(error: BaseException, cells: Cells) -> list[str]:
    summary = interrupt.call(traceback.TracebackException.from_exception, error)
    _leave_out_our_frames(summary, set())
    text = "".join(summary.format()).rstrip("\n")
    if not summary.stack:  # it comes from the kernel: "%ls is not there"
        text = text.removeprefix("Traceback (most recent call last):\n")
    colour = not os.environ.get("NO_COLOR")

    def location(match: re.Match[str]) -> str:
        bar, name, line, rest = match["bar"], match["name"], match["line"], match["rest"]
        if name in cells:
            where = f"{cells.label(name)}, line {line}{rest.replace(', in <module>', '')}"
            return f"{bar}{_GREEN}{where}{_OFF}" if colour else f"{bar}{where}"
        return f"{bar}  File {_GREEN}{name}:{line}{_OFF}{rest}" if colour else match[0]

    lines = _FILE.sub(location, text).split("\n")
    if colour:
        name = re.compile(rf"^((?:[\w.]+\.)?{re.escape(type(error).__name__)})(?=:|$)")
        lines = [name.sub(rf"{_RED}\1{_OFF}", line) for line in lines]
    return lines


def _leave_out_our_frames(summary: traceback.TracebackException, seen: set[int]) -> None:
    if id(summary) in seen:
        return
    seen.add(id(summary))
    summary.stack[:] = [frame for frame in summary.stack if not _is_ours(frame.filename)]
    more = [summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())]
    for other in more:
        if other is not None:
            _leave_out_our_frames(other, seen)
