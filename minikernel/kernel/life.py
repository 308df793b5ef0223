"""When the process ends, and how.

It ends on a shutdown_request, on SIGTERM, when its terminal is closed, and when its launcher has died: then nobody
is left to end it, and it may be started through a shell or a wrapper, so the launcher is watched by its pid and not
by who the parent is.  Which pid that is, $JPY_PARENT_PID says; a kernel that was started without it is on its own.
A value that is left over, from a launcher that has gone or whose number another process has by now, says nothing.

In a PID namespace the launcher outside is seen as long as /proc is that of the outside, too (``unshare --pid
--fork``).  Whoever gives the kernel a /proc of its own, as containers do, has to end it, too (``unshare
--kill-child``, ``bwrap --die-with-parent``).

Ending is always the same: interrupt what runs, run the atexit handlers while their output can still be seen,
give threads that are not daemons a moment, end the children that are not detached, send what is queued, exit
with 0.  A cell that does not let go, a handler that hangs and a thread that goes on cannot hold it up: frontends
kill after 2.5 seconds, so each step has a deadline ("Messaging in Jupyter: Kernel shutdown").
"""

from __future__ import annotations

import os
import sys
from _signal import SIGKILL, SIGTERM
from atexit import _run_exitfuncs as run_exit_handlers
from contextlib import suppress
from importlib import import_module
from os import _exit, kill
from threading import Event, Lock, Thread, current_thread, enumerate, main_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __builtins__ as __builtins__
from ..protocol import log
from .worker import in_thread

if TYPE_CHECKING:
    from .kernel import Kernel

#: Seconds for user code to take its KeyboardInterrupt.
LET_GO = 0.8
#: Seconds for threads that are not daemons.
THREADS = 0.6
#: Seconds after which the process ends whatever it does.
AT_LAST = 2.0
#: Seconds between two looks at a launcher that is in another PID namespace.
NAMESPACE = 0.5


class Life:
    """The life of the process that is `kernel`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ending = Lock()
        kernel.on_stop = self._see_to_it
        self._watch_launcher(os.environ.get("JPY_PARENT_PID", ""))

    def _see_to_it(self) -> None:
        """End the process from the control thread when the main thread doesn't."""
        in_thread(self._end_at_last)
        if not self._kernel.main.ended.wait(LET_GO):
            self.end()

    def end(self) -> None:
        """Run the atexit handlers, send what is queued and exit.  Does not return."""
        if not self._ending.acquire(blocking=False):
            Event().wait()  # another thread is at it
        kernel = self._kernel
        self._steps = iter((
            kernel.history.end, run_exit_handlers, _join_threads, _end_children, kernel.history.ended,
            kernel.before_output, kernel.channels.close,
        ))  # fmt: skip
        kernel.ending = self._go_on
        self._go_on(0)

    def _go_on(self, status: int) -> NoReturn:
        """Take the steps that are left, and exit.  An exit handler may call it, by ``os._exit``."""
        for step in self._steps:
            try:
                step()
            except BaseException as error:  # of the user's handler of a signal, or of what a cell has broken
                log.traceback("the end of the kernel", error)
        self._exit(status)

    def _end_at_last(self) -> None:
        """End the process after a while: something has hung, and so the children's turn may not have come."""
        sleep(AT_LAST)
        try:
            for pid in _children():
                with suppress(ProcessLookupError):
                    kill(pid, SIGKILL)
            self._kernel.history.ended()
        finally:
            self._exit()

    def _exit(self, status: int = 0) -> NoReturn:
        try:
            for clean in reversed(self._kernel.clean_up):
                clean()
        finally:
            _exit(status)

    def _watch_launcher(self, pid: str) -> None:
        if not pid.isdigit() or int(pid) in (1, os.getpid()):
            return  # as PID 1 of a container the launcher can't die before us
        if not _started(pid) and _adopted():
            log.write(f"the launcher, process {pid} by JPY_PARENT_PID, has gone already")
            self._kernel.quit()
        if _started(pid) > _started("self"):
            return  # another process, which has the number of one that has gone
        channels = self._kernel.channels
        if _proc_is_foreign():  # what has this number in our namespace is somebody else

            def look() -> None:
                if _started(pid):
                    channels.call_later(NAMESPACE, look)
                else:
                    self._kernel.quit()

            if _started(pid):
                channels.outbox.call(look)
            return
        try:
            fd = os.pidfd_open(int(pid)) if hasattr(os, "pidfd_open") else _kqueue(int(pid))
        except OSError:
            return  # no such process: a stale value, which says nothing about our launcher
        channels.watch(fd, self._kernel.quit)


def _stat(pid: str) -> list[str]:
    """Return the fields of a process's stat from its state on (proc(5)); none when it can't be seen."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: str) -> int:
    """Return when a process that lives was started, in ticks of the system's clock, else 0."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def _adopted() -> bool:
    """Tell whether what has started our session has gone, and an init has taken us or our wrapper in its place."""
    family = ["self"]
    while (fields := _stat(family[-1])) and int(fields[3]) == os.getsid(0):
        family.append(fields[1])
    try:
        with open(f"/proc/{family[-1]}/comm") as file:
            return family[-1] == "1" or file.read().strip() == "systemd"
    except OSError:
        return False  # outside of our namespace


def _proc_is_foreign() -> bool:
    """Tell whether /proc is that of another PID namespace than ours."""
    try:
        return os.readlink("/proc/self") != str(os.getpid())
    except OSError:
        return False  # not mounted, or not Linux


def _kqueue(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends (macOS, BSD)."""
    select: Any = import_module("select")  # typed as the platform has it
    queue = select.kqueue()
    queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 0)
    _kept.append(queue)
    return int(queue.fileno())


_kept: list[object] = []


def _join_threads() -> None:
    """Wait for threads that are not daemons, as the end of a program does, but not for ever."""
    deadline = monotonic() + THREADS
    executors = sys.modules.get("concurrent.futures.thread")
    if executors is not None:  # their idle threads wait to be told
        Thread(target=executors._python_exit, daemon=True).start()
    here = (current_thread(), main_thread())
    for thread in enumerate():
        if not thread.daemon and thread not in here:
            thread.join(max(0.0, deadline - monotonic()))


def _end_children() -> None:
    """End the processes that this one has started, but not those in a session of their own.

    A child that has been forked holds the kernel's sockets; with them it would keep a successor from binding.
    """
    for number, patience in ((SIGTERM, 0.2), (SIGKILL, 0.2)):
        deadline = monotonic() + patience
        children = _children()
        for pid in children:
            try:
                kill(pid, number)
            except ProcessLookupError:
                pass
        while children and monotonic() < deadline:
            sleep(0.005)  # grandchildren can't be waited for in any other way
            children = _children()
        if not children:
            return


def _children() -> list[int]:
    """Return the descendants of this process in its session that are alive, from /proc."""
    session, family = os.getsid(0), [os.getpid()]
    for pid in [] if _proc_is_foreign() else family:
        for task in _listed(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    family += filter(lambda child: _lives(child, session), map(int, file.read().split()))
            except OSError:
                continue  # gone
    return family[1:]


def _lives(pid: int, session: int) -> bool:
    """Tell whether a process has not ended, and is in this session."""
    fields = _stat(str(pid))
    return bool(fields) and fields[0] != "Z" and int(fields[3]) == session


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
