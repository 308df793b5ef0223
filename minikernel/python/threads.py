"""Work that is handed to another thread stays part of the request that handed it over.

A thread takes the request of the code that starts it, a job of an executor that of the code that submits it:
so what they print finds its cell, long after that cell has ended (``kernel.request``).
"""

from __future__ import annotations

import threading
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import as_request, current_request, inherit
from . import imports


def install() -> None:
    """Let `Thread.start` and `ThreadPoolExecutor.submit` hand the current request on."""
    start = threading.Thread.start

    def start_with_request(self: threading.Thread) -> None:
        inherit(self)
        start(self)
        if interrupt.pending:
            interrupt.checkpoint()

    start_with_request.__doc__ = start.__doc__
    threading.Thread.start = start_with_request  # type: ignore[method-assign]
    imports.when_imported("concurrent.futures.thread", _executors)


def _executors() -> None:
    from concurrent.futures import ThreadPoolExecutor

    submit = ThreadPoolExecutor.submit

    def submit_with_request(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, as_request, current_request(), function, *args, **kwargs)

    submit_with_request.__doc__ = submit.__doc__
    ThreadPoolExecutor.submit = submit_with_request  # type: ignore[method-assign]
