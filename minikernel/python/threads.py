"""Work that is handed to another thread stays part of the request that handed it over.

A thread takes the request of the code that starts it, a job of a pool that of the code that submits it:
so what they print finds its cell, long after that cell has ended (``kernel.request``).

And the kernel's threads have their turn beside the user's, whatever a cell says to `sys.setswitchinterval`: an
interrupt that comes as a message, and a shutdown, would wait as long as that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import Request, _current, current_request, inherit
from . import imports

#: Seconds that a thread may compute while others wait for the interpreter lock.
LONGEST_TURN = 0.02


def install() -> None:
    """Let `Thread.start` and thread pools hand the current request on, and no thread compute for too long."""
    set_interval = sys.setswitchinterval

    def setswitchinterval(interval: float, /) -> None:
        set_interval(min(interval, LONGEST_TURN))

    setswitchinterval.__doc__ = set_interval.__doc__
    sys.setswitchinterval = setswitchinterval
    start = threading.Thread.start

    def start_with_request(self: threading.Thread) -> None:
        inherit(self)
        start(self)
        if interrupt.pending:
            interrupt.checkpoint()

    start_with_request.__doc__ = start.__doc__
    threading.Thread.start = start_with_request  # type: ignore[method-assign]
    bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def bootstrap_with_request(self: threading.Thread) -> None:
        request = getattr(self, "_minikernel_request", None)
        if request is not None:  # into its context, for callbacks that it hands to an event loop
            _current.set(request)
        bootstrap(self)

    threading.Thread._bootstrap_inner = bootstrap_with_request  # type: ignore[attr-defined]
    imports.when_imported("concurrent.futures.thread", _executors)
    imports.when_imported("multiprocessing.pool", _pools)


def _executors() -> None:
    from concurrent.futures import ThreadPoolExecutor

    _hand_on(ThreadPoolExecutor, "submit")


def _pools() -> None:
    from multiprocessing.pool import ThreadPool

    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        _hand_on(ThreadPool, name)


def _hand_on(kind: type, name: str) -> None:
    """Let the jobs that a pool's method is given be part of the request of the code that calls it."""
    method = getattr(kind, name)

    def with_request(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        function, *rest = args or (kwargs.pop("func"),)
        return method(self, partial(_run, current_request(), function), *rest, **kwargs)

    with_request.__doc__ = method.__doc__
    setattr(kind, name, with_request)


def _run(request: Request | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Do a job in a pool's thread, which is the request's until its next one: it calls the callbacks, too."""
    if request is not None:
        _current.set(request)
    return function(*args, **kwargs)
