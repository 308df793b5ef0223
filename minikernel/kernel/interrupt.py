"""Where a Ctrl-C may land.

An interrupt must end the user's code, whatever it does, and must never end a piece of the kernel.  What does
not work: a flag that is asked now and then (it lands too late, or inside the kernel's own code); an
asynchronous exception (it breaks no `time.sleep` and no system call); SIG_IGN between cells (it tears
whatever runs when it changes, and misses what comes a moment too early).

What works is to look where the program is.  Python runs the handler of SIGINT in the main thread, between two
bytecodes or out of a blocking call, and hands it the frame.  The handler walks outward from there; the first
frame of the kernel decides:

* a *landing* frame, one of the few that call user code or wait for the user: raise KeyboardInterrupt here, but
  where an event loop that the code has started is at work on top, in a callback of that loop;
* the frame that runs the event loop: raise where a callback's code is on top; else, when a cell awaits, cancel
  its task; else the kernel is idle and there is nothing to interrupt;
* any other frame of the kernel: remember it, and raise at the next `checkpoint`, which is on the way back to the
  user's code, or when a look a moment later finds a better frame; when nothing runs, forget it.

So a kernel function is never torn, except where it says with `@landing` that it is prepared; or when what it has
called does not come back (`LAST`), for any line may run a ``__del__`` or an audit hook.  Imports are not torn even
then.  Where a warning is shown, by C that may clear what is raised, in asyncio's own code where no loop runs, which
would leave a ruin of one, and in IPython's printer, which would raise something else, the interrupt waits for a
better frame, but not for ever (`LOOKS`).  One that Python ignores where it lands (in a ``__del__``, a callback of a
weak reference or of a fork) lands once more, in the code that goes on.  Not so where an application embeds the
kernel: the hook for it is the application's.

An interrupt_request sends the process the same signal, to the whole process group when the kernel leads one, as a
terminal would: children are interrupted too.

Code in C that neither returns nor looks for signals can't be broken off.  Whoever interrupts it once more is told
where it is (`stuck`), as soon as a thread may run to say so: not while that C code holds the GIL.
"""

from __future__ import annotations

import _signal as signal  # signal's functions are Python around these, and go through names that a cell may break
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import is_
from os import getpgrp, getpid, killpg
from threading import get_ident, main_thread
from time import sleep
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from .. import __builtins__ as __builtins__
from .loop import Loop
from .request import as_request
from .worker import in_thread

if TYPE_CHECKING:
    from ..protocol.channels import Channels
    from .request import Request
    from .worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: A signal that says: look again.
NUDGE = signal.SIGURG
#: Signals that ask a process to end: a manager's, and a terminal's that is closed.
ENDS = (signal.SIGTERM, signal.SIGHUP)
#: Seconds until a signal is looked after.
AFTER = 0.02
#: Seconds until another thread is looked at once more.
AGAIN = 0.01
#: Seconds that a second interrupt has, too, before it is said where the code is.
PATIENCE = 0.3
#: After how many looks an interrupt lands in a frame that is not a good one.
LOOKS = 3
#: And after how many in what a function of the kernel has called that is no landing.
LAST = 6
#: The threads whose interrupt waits for their next checkpoint, and how often a look has found no frame for it.
pending: dict[int, int] = {}
#: Called once for each SIGINT, to interrupt what runs in other threads: by the thread that first knows of it, the
#: channels thread, or the main one in its handler when the word of signals goes elsewhere.
others: Callable[[], object] | None = None
#: Asked first, with a thread's ident: true while a debugger is at work on top of the user's frame, and must not
#: be torn.  The interrupt is pending then, and the debugger sees to it that it lands.
held: Callable[[int, FrameType | None], bool] | None = None
#: Called in the channels thread with the request and the frame of code that two interrupts have not reached.
stuck: Callable[[Request, FrameType], object] | None = None

#: What no cell may block for longer than itself.
_NEEDED = {signal.SIGINT, NUDGE, *ENDS}
_package = os.path.dirname(os.path.dirname(__file__)) + os.sep
_landings: set[CodeType] = {Loop.main.__code__, as_request.__code__}
_shields: set[CodeType] = set()
_loops = {Loop.wait.__code__, Loop.run.__code__}
_worker: Worker | None = None
_wakeup_fd = -1
#: What was told of what Python ignores before we were.
_hook_before = sys.unraisablehook
#: By thread: the worker, not in the main thread, whose code an interrupt was last raised in.
_thrown: dict[int, Worker] = {}
#: How many SIGINTs the channels thread has heard of, that many when it last nudged, how many the main thread has
#: felt, which may feel several at once, and for how many the others have been interrupted.
_heard = _nudged = _felt = _shared = 0
#: Whether one was still waiting when the main thread felt the last.
_waited = False
#: Has the channels thread look after an interrupt of which it does not hear.
_look_soon: Callable[[], object] | None = None
#: The signal masks of threads that are forking.
_masks: dict[int, set[Any]] = {}


def landing(function: F) -> F:
    """Mark a function of the kernel in whose own frame a KeyboardInterrupt may be raised."""
    _landings.add(function.__code__)
    return function


def shield(function: F) -> F:
    """Mark a function of the kernel that must not be torn in anything that it calls: an import leaves ruins."""
    _shields.add(function.__code__)
    return function


@landing
def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call user code from the kernel: a `__repr__`, a callback, a handler."""
    if pending:
        checkpoint()
    return function(*args, **kwargs)


def is_ours(frame: FrameType) -> bool:
    """Tell whether a frame is one of this package's."""
    return frame.f_code.co_filename.startswith(_package)


def is_landing(frame: FrameType) -> bool:
    """Tell whether a frame calls user code or waits for the user, and none below it is a shield."""
    return frame.f_code in _landings and not _is_shielded(frame)


def _is_shielded(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in _shields:
        frame = frame.f_back
    return frame is not None


def checkpoint(patient: bool = False) -> None:
    """Raise the KeyboardInterrupt that waits for this thread, if one does.

    A `patient` one leaves it to some looks first: it is called where C may clear what is raised.
    """
    ident = get_ident()
    least = LOOKS if patient and signal.getsignal(NUDGE) is _on_nudge else 0  # else nobody looks
    if pending.get(ident, -1) >= least and not _is_shielded(sys._getframe()):
        del pending[ident]
        raise KeyboardInterrupt


def forget() -> None:
    """Drop the KeyboardInterrupt that waits for this thread, if one does: what it was for has ended."""
    pending.pop(get_ident(), None)


def install(worker: Worker, channels: Channels, terminate: Callable[[], object]) -> None:
    """Handle SIGINT for `worker`, which runs in the main thread, and call `terminate` on `ENDS`.

    Always our own handler: a frontend that was started in the background hands SIGINT down ignored.

    Python's handlers run when the main thread gets to them.  A signal that comes a moment before a blocking
    call, or goes to another thread, does not end that call.  So the channels thread hears of every signal,
    too, and nudges the main thread a moment later if it may not have felt an interrupt, until none is pending any
    more.  Other signals are the user's while code runs: a nudge would end a `signal.pause` that waits for the next.
    """
    global _worker, _wakeup_fd, _hook_before, _look_soon
    _worker = worker
    signal.signal(signal.SIGINT, on_sigint)
    signal.signal(NUDGE, _on_nudge)

    def on_end(signum: int, frame: FrameType | None) -> None:
        terminate()

    signal.signal(signal.SIGTERM, on_end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, on_end)
    _wakeup_fd, channels.outbox.lent = channels.outbox.waker_fd, True
    signal.set_wakeup_fd(_wakeup_fd, warn_on_full_buffer=False)

    told = True

    def got_through() -> bool:
        return _felt >= _heard and worker.ident not in pending

    def is_first() -> bool:  # of those that have not got through
        return not _waited if _felt > _heard else got_through()

    def arrived(signals: bytes) -> None:
        global _heard
        nonlocal told
        if any(number in signals and signal.getsignal(number) is on_end for number in ENDS):
            terminate()
        for _ in range(signals.count(signal.SIGINT)):
            if is_first():
                told = False
            elif not told:
                told = True
                channels.call_later(PATIENCE, partial(tell, worker.running, _felt))
            _heard = max(_heard + 1, _felt)
            _share(_heard)
        if signal.SIGINT in signals:
            channels.call_later(AFTER, lambda: look_after(AFTER))
        elif signals.strip(bytes([NUDGE])):
            channels.call_later(AFTER, nudge_if_idle)

    def look_after(delay: float) -> None:
        if not got_through() and signal.getsignal(NUDGE) is _on_nudge:
            nudge()
            channels.call_later(delay, lambda: look_after(min(2 * delay, 0.5)))

    def nudge() -> None:
        global _nudged
        main = main_thread().ident
        assert main is not None
        _nudged = _heard
        signal.pthread_kill(main, NUDGE)

    def nudge_if_idle() -> None:
        if worker.running is None:
            nudge()

    def tell(request: Request | None, felt: int) -> None:
        frame = sys._current_frames().get(worker.ident)
        ours = signal.getsignal(signal.SIGINT) is on_sigint and signal.getsignal(NUDGE) is _on_nudge
        still = worker.running is request and (worker.ident in pending or _felt == felt)
        if ours and held is None and stuck and request and frame and still and not got_through():
            stuck(request, frame)

    _look_soon = partial(channels.outbox.call, lambda: channels.call_later(AFTER, lambda: look_after(AFTER)))
    channels.on_signals = arrived
    _hook_before, sys.unraisablehook = sys.unraisablehook, _on_unraisable
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_in_child)


def restore() -> None:
    """Take back what a cell may have given away: SIGINT, and the word of signals.  The main thread."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NEEDED)
    if signal.getsignal(signal.SIGINT) is not on_sigint:
        signal.signal(signal.SIGINT, on_sigint)
    before = signal.set_wakeup_fd(_wakeup_fd, warn_on_full_buffer=False)
    if before not in (_wakeup_fd, -1):
        signal.set_wakeup_fd(before)  # of an event loop that handles signals itself


def _hold() -> None:
    """Hold signals while the process forks: the child has the parent's handlers at first, and its pipe."""
    _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDS})


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


def _in_child() -> None:
    """Let signals mean in a forked child what they mean in any process."""
    signal.set_wakeup_fd(-1)
    pending.clear()
    if sys.unraisablehook is _on_unraisable:
        sys.unraisablehook = _hook_before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _let_go()


def send() -> None:
    """Interrupt what runs in the main thread, and its children.  Any thread."""
    if getpgrp() == getpid():
        killpg(getpid(), signal.SIGINT)
    else:
        main = main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


def throw(worker: Worker, cell: Request | None) -> None:
    """Interrupt another thread than the main one in what it runs for `cell`, or while it is idle.

    Signals are the main thread's alone.  An ``await`` is cancelled; other code of the user gets an
    asynchronous exception, at its next bytecode; a function of the kernel finishes first.
    """
    global _thrown
    running = worker.cell
    if running is not None and running is not cell:
        return  # and what waits now is for that
    looks = pending.pop(worker.ident, 0)
    verdict = _decide(sys._current_frames().get(worker.ident), looks, worker) if running is cell else "nothing"
    if verdict == "wait":
        _throw_soon(worker, cell, looks)
    elif verdict == "raise":
        first = "ctypes" not in sys.modules
        import ctypes

        if first:  # it has taken its time, and the thread has gone on
            throw(worker, cell)
            return
        if _worker is not None:  # in an application, nobody asks for it
            _thrown = {each.ident: each for each in (*_thrown.values(), worker) if not each.ended.is_set()}
        ident, error = ctypes.c_ulong(worker.ident), ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)


def _running_loop(frame: FrameType | None) -> Any:
    """Return the event loop that the code on top of a thread has started, such as `asyncio.run`'s, or None."""
    while frame is not None and not is_ours(frame):
        if frame.f_code.co_name == "run_forever" and _is_machinery(frame):
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None


def _have_raised(loop: Any) -> None:
    """Have a loop of the user's raise what is pending between two callbacks.

    Its own code must not be torn: it may have taken a callback from its queue, and the task that this is a step of
    would never go on, nor end when it is cancelled.
    """
    if loop is not None:
        with suppress(RuntimeError):  # closed since
            loop.call_soon_threadsafe(checkpoint)


def _throw_soon(worker: Worker, cell: Request | None, looks: int) -> None:
    pending[worker.ident] = looks + 1

    def again() -> None:
        sleep(AGAIN * 2 ** min(looks, LAST))
        if worker.ident in pending:  # no checkpoint has come
            throw(worker, cell)

    in_thread(again)


def _on_unraisable(what: Any) -> None:
    """Let an interrupt that Python ignores where it has landed land once more (`sys.unraisablehook`).

    In the frame that goes on, before its next instruction: later would be in the next destructor of many.
    """
    ident, pid = get_ident(), getpid()
    worker = _worker if _worker is not None and ident == _worker.ident else _thrown.get(ident)
    frame = sys._getframe().f_back
    if what.exc_type is not KeyboardInterrupt or worker is None or worker.running is None or frame is None:
        _hook_before(what)
        return
    before, traced = (frame.f_trace, frame.f_trace_opcodes), sys.gettrace() is not None

    def again(frame: FrameType, event: str, arg: object) -> None:
        frame.f_trace, frame.f_trace_opcodes = before
        if not traced:
            sys.settrace(None)
        if getpid() != pid:  # a forked child, which nobody has interrupted
            return
        if _lands(frame, LOOKS, worker):
            raise KeyboardInterrupt
        if worker is not _worker and ident in pending:
            _throw_soon(worker, worker.cell, LOOKS)

    frame.f_trace, frame.f_trace_opcodes = again, True
    if not traced:
        sys.settrace(lambda frame, event, arg: None)


class _Handler:
    """Handles a signal as the module's docstring says, and is not in the traceback of what it raises.

    That shows the user's line as the last: debuggers open there.  So what Python calls in the end is written in C.

    Parameters
    ----------
    decide : callable
        Takes the frame that the signal has interrupted, and says whether to raise KeyboardInterrupt.
    """

    def __init__(self, decide: Callable[[FrameType | None], bool]) -> None:
        self._decide = decide

    @property
    def __call__(self) -> Callable[[Any, Any], object]:
        return signal.default_int_handler if self._decide(sys._getframe().f_back) else is_


def _felt_one(frame: FrameType | None) -> bool:
    global _felt, _waited
    assert _worker is not None
    _felt += 1
    _waited = _worker.ident in pending
    _share(_felt)
    if _lands(frame, pending.pop(_worker.ident, 0), _worker):
        return True
    if _worker.ident in pending and _look_soon is not None and not _is_heard():
        _look_soon()
    return False


def _is_heard() -> bool:
    """Tell whether the channels thread hears of signals, and not an event loop that handles them itself."""
    before = signal.set_wakeup_fd(_wakeup_fd, warn_on_full_buffer=False)
    if before not in (_wakeup_fd, -1):
        signal.set_wakeup_fd(before)
    return bool(before == _wakeup_fd)


def _share(number: int) -> None:
    """Interrupt the other threads, too, unless that has been done for this SIGINT."""
    global _shared
    if number > _shared:
        _shared = number
        if others is not None:
            others()


def _felt_nudge(frame: FrameType | None) -> bool:
    global _felt
    _felt = max(_felt, _nudged)
    if _worker is None or _worker.ident not in pending:
        return False
    return _lands(frame, pending.pop(_worker.ident) + 1, _worker)


on_sigint, _on_nudge = _Handler(_felt_one), _Handler(_felt_nudge)


def _lands(frame: FrameType | None, looks: int, worker: Worker) -> bool:
    """Do what is to be done with an interrupt, in the thread that is at `frame`; tell whether to raise it."""
    verdict = _decide(frame, looks, worker)
    if verdict == "wait":
        pending[worker.ident] = looks
    return verdict == "raise"


def _decide(frame: FrameType | None, looks: int, worker: Worker) -> str:
    """Say what an interrupt does where a worker is: ``raise``, ``wait`` for a better frame, or ``nothing``.

    What awaits has been cancelled then, and a loop of the user's has been asked for a better frame.
    """
    inner, idle = _running_loop(frame), worker.running is None
    if (not idle and _is_bad(frame, inner, looks)) or (held is not None and held(worker.ident, frame)):
        return "wait"
    at_work, users, top, imports = _is_machinery(frame), False, frame, False
    while frame is not None and not is_ours(frame):
        users = users or not _is_machinery(frame)
        imports = imports or frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    if frame is None and idle:
        return "nothing"
    if frame is None or is_landing(frame):  # a greenlet of the user's has a stack of its own
        if not (inner and at_work):
            return "raise"
        _have_raised(inner)
        return "wait"
    if frame.f_code in _loops and worker.loop is not None:
        if users:
            return "raise"
        worker.loop.cancel()
        return "nothing"
    if frame is top and idle:
        return "nothing"
    return "raise" if looks >= LAST and frame is not top and not imports and not _is_shielded(frame) else "wait"


def _is_bad(frame: FrameType | None, loop: Any, looks: int) -> bool:
    """Tell whether to look for a better frame: for one outside of what the module's docstring names."""
    if looks >= LOOKS or frame is None:
        return False
    if frame.f_globals.get("__name__") == "IPython.lib.pretty":
        return True
    above: FrameType | None = frame
    while above is not None and not is_ours(above):
        asyncio = str(above.f_globals.get("__name__")).startswith("asyncio.")
        if above.f_code.co_name == "_showwarnmsg" or (asyncio and loop is None):
            return True
        above = above.f_back
    return False


def _is_machinery(frame: FrameType | None) -> bool:
    """Tell whether a frame is the event loop's own."""
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    return name in ("asyncio", "selectors") or name.startswith(("asyncio.", "uvloop"))
