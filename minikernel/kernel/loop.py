"""The event loop of a thread: born when it is first needed, paused while a plain cell runs.

A kernel that nobody uses asyncio in has no loop: its worker sleeps on its inbox.  As soon as asyncio is
imported (by a cell, a library or an ``await``), the worker sleeps *inside* a loop, so that tasks live on
between cells and while the kernel is idle.

A plain cell does not run in a callback of that loop but while the loop is paused.  So `asyncio.run` works in a
cell, and so does ``loop.run_until_complete``.  What expects a running loop, `asyncio.create_task` above all,
finds the paused one: while a plain cell runs on the loop's thread and no other loop does,
`asyncio.get_running_loop` answers it.  Its tasks take their turn as soon as the cell ends.

tornado's ``IOLoop.current()`` wraps the asyncio loop of its thread, so libraries that use it get this one.
"""

from __future__ import annotations

import contextvars
import os
import sys
from collections.abc import Awaitable, Callable
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from .. import __builtins__ as __builtins__
from .request import _current, as_request

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
_paused: dict[int, Loop] = {}
_patching = Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _in_child())


class Loop:
    """The loop of one thread.  All methods but `call` belong to that thread."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        #: The task of the cell that awaits, while one does.
        self.task: asyncio.Task[Any] | None = None
        #: Set when `task` was cancelled because of an interrupt.
        self.interrupted = False
        self._waiting = False
        self._context = contextvars.Context()
        _paused[get_ident()] = self

    @property
    def needed(self) -> bool:
        """Whether there is, or should be, a loop.  This is the place that decides it."""
        return self.loop is not None or callable(getattr(sys.modules.get("asyncio"), "new_event_loop", None))

    def ready(self) -> asyncio.AbstractEventLoop:
        """Return the loop, made current for the thread; a new one when the user's code has closed it."""
        if self.loop is None or self.loop.is_closed():
            import asyncio

            patch()
            self.loop = asyncio.new_event_loop()
            self.loop.set_exception_handler(_report)
            self._make_current, self._cancelled = asyncio.set_event_loop, asyncio.CancelledError
        try:
            self._make_current(self.loop)  # asyncio.run leaves none behind
        except Exception:  # a cell has broken what asyncio stands on
            pass
        return self.loop

    def wait(self, until: Callable[[], bool]) -> None:
        """Run the loop's tasks until `wake` is called and `until` is true."""
        loop = self.ready()
        self._waiting = True
        try:
            if not until():
                loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            pass  # a background task's, which keeps it; the kernel goes on
        finally:
            self._waiting = False

    def wake(self) -> None:
        """End a `wait`.  Any thread, and signal handlers."""
        self.call(self._stop_waiting, self._context)

    def call(self, function: Callable[[], object], context: contextvars.Context | None = None) -> None:
        """Have the loop call `function`, if there is a loop.  Any thread, and signal handlers."""
        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(function, context=context)
            except RuntimeError:
                pass  # closed by the user's code: the thread does not sleep in it, and makes a new one

    def _stop_waiting(self) -> None:
        if self._waiting and self.loop is not None:
            self.loop.stop()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run the loop until `awaitable` is done; its context variables are the thread's, before and after.

        Raises KeyboardInterrupt for a task that was cancelled by an interrupt, else what the task raises.
        """
        loop = self.ready()
        if loop.is_running():
            raise RuntimeError("cannot wait for a result inside the running event loop")
        contexts: list[contextvars.Context] = []
        raised: list[BaseException] = []
        before = self.task
        task = self.task = loop.create_task(self.main(awaitable, contexts, raised))
        self.interrupted = False
        try:
            while not task.done():
                ran: list[None] = []
                loop.call_soon(ran.append, None)
                try:
                    loop.run_until_complete(task)
                except KeyboardInterrupt:  # in a callback that isn't the cell's
                    self.interrupted = True
                    task.cancel()
                except BaseException:
                    if loop.is_closed() or not ran:  # a cell has broken what it stands on
                        raise
                    # else of a cancellation, raised below; or user code has called loop.stop()
            try:
                if raised:
                    raise raised.pop()
                result: T = task.result()
                return result
            except self._cancelled as cancelled:
                if not self.interrupted:
                    raise
                raise KeyboardInterrupt().with_traceback(cancelled.__traceback__) from None
        finally:
            self.task = before
            for context in contexts:
                for variable, value in context.items():
                    if variable.get(_MISSING) is not value:
                        variable.set(value)

    @staticmethod
    async def main(
        awaitable: Awaitable[T], contexts: list[contextvars.Context], raised: list[BaseException]
    ) -> T | None:
        """The task of a cell: the frame below its frames; it leaves its context and what it raises in the lists.

        A task that kept an exception would be kept by it, and give its traceback out only once.
        """
        try:
            return await awaitable
        except BaseException as error:
            raised.append(error)
            return None
        finally:
            contexts.append(contextvars.copy_context())

    def cancel(self) -> None:
        """Interrupt the cell that awaits: it is told by a cancellation.  Safe in a signal handler."""
        if self.task is not None and self.loop is not None:
            self.interrupted = True
            self.loop.call_soon_threadsafe(self.task.cancel)

    def end_in_child(self) -> None:
        """One of the loop's tasks or callbacks has forked, and this is the child: it ends when that lets go.

        The child's loop sleeps on its parent's descriptors, and would take its parent's wake-ups away.
        """
        if self.loop is not None and self.loop.is_running():
            task = self.task
            self.loop.call_soon(lambda: (task is not None and task.done()) or os._exit(0))

    def close(self) -> None:
        """Cancel what still runs and close the loop."""
        import asyncio

        if self.loop is None or self.loop.is_closed():
            return
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=0.5))
        self.loop.close()

    def forget(self) -> None:
        """Close the loop of a thread that ends; with the last one, give asyncio its function back."""
        self.close()
        with _patching:
            _paused.pop(get_ident(), None)
            asyncio: Any = sys.modules.get("asyncio")
            original = asyncio and getattr(asyncio.events.get_running_loop, "_minikernel", None)
            if original and not _paused:
                asyncio.events.get_running_loop = asyncio.get_running_loop = original


_MISSING: Any = object()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Show what has gone wrong in a task or a callback below the cell that has made it."""
    import gc

    made = context.get("task") or context.get("future") or context.get("handle")
    contexts = [held for held in gc.get_referents(made) if isinstance(held, contextvars.Context)]
    as_request(contexts[0].get(_current) if contexts else None, loop.default_exception_handler, context)


def _in_child() -> None:
    loop = _paused.get(get_ident())
    if loop is not None:
        loop.end_in_child()


def asyncio_imported() -> None:
    """Make the loop of this thread, if it is one that runs user code: asyncio is there from now on."""
    patch()
    paused = _paused.get(get_ident())
    if paused is not None:
        paused.ready()


def patch() -> None:
    """Let `asyncio.get_running_loop` answer the paused loop where no loop runs and there is one."""
    import asyncio

    with _patching:
        running = asyncio.events.get_running_loop
        if hasattr(running, "_minikernel"):
            return
        inner = asyncio.events._get_running_loop

        def get_running_loop() -> asyncio.AbstractEventLoop:
            if inner() is None:
                paused = _paused.get(get_ident())
                if paused is not None:
                    return paused.ready()
            return running()

        get_running_loop.__doc__ = running.__doc__
        get_running_loop._minikernel = running  # type: ignore[attr-defined]
        asyncio.events.get_running_loop = asyncio.get_running_loop = get_running_loop
