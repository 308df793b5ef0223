"""Where a Ctrl-C may land.

An interrupt must end the user's code, whatever it does, and must never end a piece of the kernel.  What does
not work: a flag that is asked now and then (it lands too late, or inside the kernel's own code); an
asynchronous exception (it breaks no `time.sleep` and no system call); SIG_IGN between cells (it tears
whatever runs when it changes, and misses what comes a moment too early).

What works is to look where the program is.  Python runs the handler of SIGINT in the main thread, between two
bytecodes or out of a blocking call, and hands it the frame.  The handler walks outward from there; the first
frame of the kernel decides:

* a *landing* frame, one of the few that call user code or wait for the user: raise KeyboardInterrupt here;
* the frame that runs the event loop: raise where a callback's code is on top; else, when a cell awaits, cancel
  its task; else the kernel is idle and there is nothing to interrupt;
* any other frame of the kernel: remember it, and raise at the next `checkpoint`, which is on the way back to the
  user's code; when no user code is about to go on, forget it.

So a kernel function is never torn, except where it says with `@landing` that it is prepared.  An
interrupt_request sends the process the same signal, to the whole process group when the kernel leads one, as a
terminal would: children are interrupted too.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import Loop

if TYPE_CHECKING:
    from .worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: An interrupt waits for the next checkpoint of the main thread.
pending = False

_package = os.path.dirname(os.path.dirname(__file__)) + os.sep
_landings: set[CodeType] = {Loop.main.__code__}
_loops = {Loop.wait.__code__, Loop.run.__code__}
_worker: Worker | None = None


def landing(function: F) -> F:
    """Mark a function of the kernel in whose own frame a KeyboardInterrupt may be raised."""
    _landings.add(function.__code__)
    return function


@landing
def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call user code from the kernel: a `__repr__`, a callback, a handler."""
    if pending:
        checkpoint()
    return function(*args, **kwargs)


def checkpoint() -> None:
    """Raise the KeyboardInterrupt that waits, if this is the main thread."""
    global pending
    if pending and threading.get_ident() == threading.main_thread().ident:
        pending = False
        raise KeyboardInterrupt


def install(worker: Worker) -> None:
    """Handle SIGINT for `worker`, which runs in the main thread.

    Always our own handler: a frontend that was started in the background hands SIGINT down ignored.
    """
    global _worker
    _worker = worker
    signal.signal(signal.SIGINT, on_sigint)


def send() -> None:
    """Interrupt what runs in the main thread, and its children.  Any thread."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGINT)
    else:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


def on_sigint(signum: int, frame: FrameType | None) -> None:
    """Decide where the interrupt lands (see the module's docstring)."""
    global pending
    assert _worker is not None
    users = False
    while frame is not None and not frame.f_code.co_filename.startswith(_package):
        users = users or not _is_machinery(frame)
        frame = frame.f_back
    if frame is not None and frame.f_code in _landings:
        raise KeyboardInterrupt
    loop = _worker.loop
    if frame is not None and frame.f_code in _loops and loop is not None:
        if users:
            raise KeyboardInterrupt
        loop.cancel()
        return
    running = _worker.running
    pending = running is not None and running.msg_type == "execute_request"


def _is_machinery(frame: FrameType) -> bool:
    """Tell whether a frame is the event loop's own."""
    name = frame.f_globals.get("__name__", "")
    return name in ("asyncio", "selectors") or name.startswith(("asyncio.", "uvloop"))
