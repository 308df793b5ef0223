"""The kernel's own words: one line at a time, on the stderr that the process was started with.

File descriptor 2 belongs to the user's cells once their output is captured, so the launcher's stderr is
kept here under another number.  A peer that sends rubbish must not be able to fill a disk: each kind of
complaint is written a few times and then counted.  Any thread may call this.
"""

from __future__ import annotations

import os
import sys
from os import write as write_to

from .. import __builtins__ as __builtins__

_REPEATS = 5
#: Characters of a complaint's detail, which is a peer's.
_LONGEST = 300

fd = 2
_seen: dict[str, int] = {}


def write(text: str) -> None:
    """Write `text` and a newline to the launcher's stderr; a closed stderr is nobody's error."""
    try:
        write_to(fd, f"[minikernel] {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # started without a stderr, or its reader has gone: there is nowhere left to say it


def complain(kind: str, detail: str = "") -> None:
    """Write one line of this `kind`; after a few, only every thousandth."""
    count = _seen[kind] = _seen.get(kind, 0) + 1
    if count <= _REPEATS or count % 1000 == 0:
        more = f" ({count} so far)" if count >= _REPEATS else ""
        if len(detail) > _LONGEST:
            detail = detail[:_LONGEST] + "…"
        write(f"{kind}{': ' if detail else ''}{detail}{more}")


def traceback(where: str, error: BaseException) -> None:
    """Write the traceback of a bug of ours."""
    try:
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip()
    except Exception as broken:  # no descriptor or stack left to import or format with, or a cell has broken it
        text, tb = f"{error!r} (no traceback: {broken!r})", error.__traceback__
        while tb is not None:
            text += f"\n{tb.tb_frame.f_code.co_filename}:{tb.tb_lineno}"
            tb = tb.tb_next
    write(f"error in {where}:\n{text}")


def keep_stderr() -> None:
    """Keep the stderr of now under a new descriptor, before file descriptor 2 is given to the user's cells."""
    global fd
    if fd == 2:
        try:
            fd = os.dup(2)
        except OSError:
            fd = os.open(os.devnull, os.O_WRONLY)  # descriptor 2 was closed by the launcher
    if sys.stderr is None:  # pythonw and daemons
        sys.stderr = open(fd, "w", closefd=False)
