"""A thread with an inbox: it answers requests one after another.

The main worker runs user code, with an event loop when there is one (``kernel.loop``); the control worker
answers while user code runs.  Each has an inbox of its own.  Whatever has arrived for it is there and no longer in
a socket, so aborting the queue after an error needs no timer and no marker message, but a number (`aborted`).

Next: ``kernel.kernel``.
"""

from __future__ import annotations

from _signal import SIG_BLOCK, SIG_SETMASK, SIGINT, SIGTERM, pthread_sigmask
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread, get_ident
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..protocol import log
from .loop import Loop

if TYPE_CHECKING:
    from .request import Request

#: How often something may be raised until it is a bug and the next has its turn; while idle, until the loop ends.
STRIKES, IDLE_STRIKES = 20, 3
#: Called in each thread of `in_thread` when it begins: a debugger must not hold it.
on_begin: list[Callable[[], object]] = []


def in_thread(function: Callable[[], object]) -> None:
    """Call `function` in a thread of the kernel's own; no `Thread`, which uses names that a cell may have broken.

    Raises
    ------
    RuntimeError
        The process can't have more threads.
    """

    def run() -> None:
        for call in on_begin:
            call()
        function()

    start_new_thread(run, ())


class Worker:
    """The inbox of one thread, and what that thread does with it.

    Parameters
    ----------
    dispatch : callable
        Answers one request; it never raises.
    name : str
        Its thread's: ``minikernel-`` where it is none of the user's.
    runs_code : bool
        Whether the thread runs user code, and so may need an event loop.
    report : callable, optional
        Shows what the user's code raises between two requests.
    mask : set of signals, optional
        What is blocked while user code runs in a thread of its own: by default what is blocked where the worker
        is made.  What user code starts inherits it, and must obey SIGINT and SIGTERM.

    Attributes
    ----------
    running : Request or None
        The request that is being answered.
    aborted : int
        execute_requests up to this number are answered as aborted.
    loop : Loop or None
        The thread's event loop, for workers that run user code.
    """

    def __init__(
        self,
        dispatch: Callable[[Request], None],
        name: str = "",
        *,
        runs_code: bool = False,
        report: Callable[[BaseException], object] | None = None,
        mask: set[Any] | None = None,
    ) -> None:
        self._dispatch = dispatch
        self._name = name
        self._report = report or (lambda error: log.traceback("a worker", error))
        self._inbox: SimpleQueue[Request | Callable[[], object]] = SimpleQueue()
        #: What has been taken from the inbox and is not done yet, and how often something was raised meanwhile.
        self._taken: list[Request | Callable[[], object]] = []
        self._struck = 0
        self._runs_code = runs_code
        self._mask = pthread_sigmask(SIG_BLOCK, ()) if mask is None else mask
        self._thread: Thread | None = None
        self.started = runs_code
        self._stopped = False
        self.loop: Loop | None = None
        self.running: Request | None = None
        self.execution_count = 0
        self.aborted = 0
        self.ident = 0
        #: Set when `run` has ended.
        self.ended = Event()

    def put(self, item: Request | Callable[[], object], *, while_awaiting: bool = False) -> None:
        """Hand in a request, or something to call between two requests.  Any thread, and signal handlers.

        A request that may be answered `while_awaiting` does not wait for a cell that awaits.
        """
        loop = self.loop
        if loop is not None and while_awaiting and not callable(item):
            request = item
            request.claim = {}
            self._inbox.put(request)
            loop.call(lambda: loop.task is not None and request.take(self) and self._dispatch(request))
        else:
            self._inbox.put(item)
        if loop is not None:
            loop.wake()

    @property
    def awaits(self) -> bool:
        """Whether a cell awaits in the worker's loop."""
        return self.loop is not None and self.loop.task is not None

    @property
    def cell(self) -> Request | None:
        """What is being answered; while a cell awaits and something else is answered, that cell."""
        request = self.running
        while request is not None and request.before is not None:
            request = request.before
        return request

    def stop(self) -> None:
        """End `run` before the next request.  Any thread."""
        self._stopped = True
        self.finish()

    def finish(self) -> None:
        """End `run` when all that has been handed in is answered.  Any thread."""
        self.put(lambda: setattr(self, "_stopped", True))

    def run(self) -> None:
        """Answer requests in the calling thread, until `stop`."""
        self.ident = get_ident()
        self.loop = Loop() if self._runs_code else None
        while not self._stopped:
            try:
                deque(iter(self._turns, True), maxlen=0)
            except BaseException:  # where that begins
                continue
        self.ended.set()

    def _turns(self) -> bool:
        """Answer requests until `stop`, or until a signal handler raises where none is expected; tell which.

        In C: the jump back of a ``while`` may be outside of its ``try`` (CPython 3.12, 3.13), and be struck there.
        """
        try:
            deque(iter(self._turn, True), maxlen=0)
        except BaseException:  # another, while one was being reported
            pass
        return self._stopped

    def _turn(self) -> bool:
        """Answer the next request, if there is one; tell whether it was the last.

        A signal handler of the user's may raise between any two lines; what was taken is kept until it is done.
        """
        try:
            if not self._taken:
                self._take_next()
            for item in self._taken:
                if callable(item):
                    item()
                elif not item.done and item.take(self):
                    self._dispatch(item)
        except BaseException as error:  # of such a handler, of a callback while all is idle, or a bug
            if self._taken or self._struck < IDLE_STRIKES:  # what strikes while all is idle is not the next one's
                self._struck += 1
            self._report(error)
            if self._struck < STRIKES or not self._taken:  # or it is a bug, and the next has its turn
                return self._stopped
        self._struck = 0
        self._taken.clear()
        return self._stopped

    def run_in_thread(self) -> None:
        """Do `run` in a thread of its own, and tidy up after it."""
        self.started = True

        def work() -> None:
            if self._runs_code:
                pthread_sigmask(SIG_SETMASK, self._mask)
            else:  # signals are the main thread's
                pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM})
            self.run()
            if self.loop is not None:
                self.loop.forget()

        if self._runs_code:
            self._thread = Thread(target=work, name=self._name, daemon=True)
            self._thread.start()
        else:
            in_thread(work)

    def start(self) -> None:
        """Have a thread answer from now on, if none does yet; where there can be none, the caller does once."""
        if self.started:  # it is the channels thread that asks, and no other
            return
        try:
            self.run_in_thread()
        except RuntimeError:  # user code has used up all threads, and may have to be interrupted now
            self.started = False
            self._turn()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the worker's thread; tell whether it has ended.  Any thread but that."""
        if self._thread is None:
            return not self.started or self.ended.wait(timeout)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _take_next(self) -> None:
        """Take what is next, if anything: asleep on the inbox, or in the loop when there is one."""
        loop, runs = self.loop, self._struck < IDLE_STRIKES
        if loop is not None and loop.needed and self._inbox.empty() and runs:
            loop.wait(lambda: not self._inbox.empty())
        else:  # from the one to the other in C: no signal handler runs while it is in neither
            self._taken.extend(islice(iter(self._inbox.get, None), 1))
