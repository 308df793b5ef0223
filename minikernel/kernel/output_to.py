"""The switch that sends outputs elsewhere than to the cell whose code makes them."""

from __future__ import annotations

import threading
from contextvars import Token
from copy import copy
from typing import Any

from .. import __builtins__ as __builtins__
from ..protocol.encoding import dumps
from . import request


class output_to:
    """Send the outputs of a block, a thread or a whole kernel to another cell than usual.

    Usually an output goes to the cell whose code makes it, for as long as a thread or a task of that cell lives.

    Parameters
    ----------
    where : "current", "origin" or dict
        "current" is the cell that runs at the time, or the last that has run; "origin" is the usual; a dict is a
        message that ``get_parent`` has returned.

    Examples
    --------
    >>> with output_to("current"):
    ...     print("below the cell that runs now")

    >>> output_to("current").everywhere()  # what outlives its cell prints below the cell that runs
    """

    def __init__(self, where: str | dict[str, Any]) -> None:
        if where not in ("current", "origin") and not isinstance(where, dict):
            raise ValueError(f'where must be "current", "origin" or a message, not {where!r}')
        self._where = where
        self._tokens: list[Token[request.Request | None]] = []

    def everywhere(self) -> None:
        """Let this hold for all that outlives its cell, from now on.  Not for a message."""
        request.outlived = str(self._where)

    def __enter__(self) -> None:
        target = None
        if isinstance(self._where, dict):
            target = _of(self._where)
        elif self._where == "origin":
            target = getattr(threading.current_thread(), "_minikernel_request", None) or request.current_request()
        self._tokens.append(request._current.set(target))

    def __exit__(self, *exception: object) -> None:
        request._current.reset(self._tokens.pop())


def _of(parent: dict[str, Any]) -> request.Request | None:
    """Return a request as which a message was once answered."""
    found = copy(request.latest_request())
    if found is not None:
        found.header = parent.get("header", parent)
        found.header_frame = dumps(found.header)
    return found
