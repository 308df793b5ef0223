"""Where the code is that Ctrl-C does not reach, said below its cell.

The main thread is in C, or in a part of the kernel that must not be torn; this is said from another.  So nothing
here may wait for the main thread: there is no import, no source line from a file, and no flush of a stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from .. import __builtins__ as __builtins__
from ..kernel import interrupt

if TYPE_CHECKING:
    from ..kernel.request import Request
    from .cells import Cells

_FRAMES = 10


def install(cells: Cells) -> None:
    """Say it for the kernel's main thread, whose cells these are."""
    interrupt.stuck = lambda request, frame: _tell(request, frame, cells)


def _tell(request: Request, frame: FrameType, cells: Cells) -> None:
    places = list(_places(frame, cells))[:_FRAMES]
    text = "\n".join(["[minikernel] Ctrl-C has not got through: it waits for the end of", *places[::-1]])
    request.kernel.channels.outbox.write(request.header_frame, "stderr", text + "\n")


def _places(frame: FrameType | None, cells: Cells) -> Iterator[str]:
    """Give the places where user code is, from the innermost to the cell."""
    while frame is not None:
        name, line, function = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        if name in cells:
            yield f"  {cells.label(name)}, line {line}" + (f", in {function}" if function != "<module>" else "")
            if function == "<module>":
                return
        elif not interrupt.is_ours(frame):
            yield f"  {name}:{line}, in {function}"
        frame = frame.f_back
