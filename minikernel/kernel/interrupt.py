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
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import Loop

if TYPE_CHECKING:
    from ..protocol.channels import Channels
    from .worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: A signal whose handler does nothing: it only wakes.
NUDGE = signal.SIGURG
#: The threads whose interrupt waits for their next checkpoint.
pending: set[int] = set()
#: Called when a SIGINT has come, to interrupt what runs in other threads; must be safe in a signal handler.
others: Callable[[], object] | None = None
#: Asked first: true when a debugger holds the thread at this frame, and sees to the interrupt itself.
held: Callable[[FrameType | None], bool] | None = None

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
    """Raise the KeyboardInterrupt that waits for this thread, if one does."""
    ident = threading.get_ident()
    if ident in pending:
        pending.discard(ident)
        raise KeyboardInterrupt


def install(worker: Worker, channels: Channels) -> None:
    """Handle SIGINT for `worker`, which runs in the main thread.

    Always our own handler: a frontend that was started in the background hands SIGINT down ignored.
    """
    global _worker
    _worker = worker
    signal.signal(signal.SIGINT, on_sigint)
    signal.signal(NUDGE, lambda signum, frame: None)
    arrivals, fd = os.pipe()
    os.set_blocking(arrivals, False)
    os.set_blocking(fd, False)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)

    def arrived() -> None:
        if set(os.read(arrivals, 256)) - {NUDGE}:
            channels.call_later(0.02, nudge)
        channels.watch(arrivals, arrived)

    channels.watch(arrivals, arrived)


def nudge() -> None:
    """Have the main thread run the handlers of the signals that it has got.

    A signal that comes a moment before a blocking call finds Python between looking for signals and sleeping.
    Another one, which means nothing, ends the sleep.
    """
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, NUDGE)


def send() -> None:
    """Interrupt what runs in the main thread, and its children.  Any thread."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGINT)
    else:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


def throw(worker: Worker) -> None:
    """Interrupt what runs in another thread than the main one.

    Signals are the main thread's alone.  An ``await`` is cancelled; other code of the user gets an
    asynchronous exception, at its next bytecode; a function of the kernel finishes first.
    """
    loop = worker.loop
    frame = sys._current_frames().get(worker.ident)
    while frame is not None and not frame.f_code.co_filename.startswith(_package):
        frame = frame.f_back
    if frame is None or worker.running is None:
        pending.discard(worker.ident)
    elif frame.f_code in _loops and loop is not None:
        loop.cancel()
    elif frame.f_code in _landings:
        import ctypes

        pending.discard(worker.ident)
        ident, error = ctypes.c_ulong(worker.ident), ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
    else:
        pending.add(worker.ident)
        timer = threading.Timer(0.01, _throw_again, [worker])
        timer.daemon = True
        timer.start()


def _throw_again(worker: Worker) -> None:
    if worker.ident in pending:  # no checkpoint has come
        throw(worker)


def on_sigint(signum: int, frame: FrameType | None) -> None:
    """Decide where the interrupt lands (see the module's docstring)."""
    assert _worker is not None
    if others is not None:
        others()
    if held is not None and held(frame):
        return
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
    if running is not None and running.msg_type == "execute_request":
        pending.add(_worker.ident)


def _is_machinery(frame: FrameType) -> bool:
    """Tell whether a frame is the event loop's own."""
    name = frame.f_globals.get("__name__", "")
    return name in ("asyncio", "selectors") or name.startswith(("asyncio.", "uvloop"))
