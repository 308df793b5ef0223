"""A kernel in a running application: `start` and `embed`, and the wiring of the floors for that.

The process is the application's.  A kernel that is its guest answers in threads of its own and touches

* no signal handler, descriptor, hook, environment variable, path, argument or module of the process, whatever its
  clients ask for.  An interrupt_request reaches its cells as it reaches a subshell's; a shutdown_request ends the
  guest, and nothing else; a bug in it is said on stderr;
* `sys.stdout`, `sys.stderr` and `sys.stdin` only from the first cell until the last guest ends.  Stand-ins are
  there meanwhile: the frontend's streams to the code of cells, and to everybody else the ones that were there
  (``python.guest``);
* ``asyncio.get_running_loop`` only by letting it know the loops of the cells' threads (``kernel.loop``), and
  ``sys.last_exc`` and its kin only when a cell fails.  Both are taken back at the end;
* its namespace only as its clients' code does.

What is not routed: text from threads that a cell starts, from C code and from children goes where the application's
goes.  `getpass.getpass` asks on the application's terminal.  Widgets, IPython and the debugger want the whole
process; they are for ``python -m minikernel``.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from threading import Event, Lock, Thread, current_thread, get_ident
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import __builtins__ as __builtins__
from . import connect
from .kernel.kernel import Kernel
from .kernel.request import current_request
from .protocol import log
from .protocol.channels import Channels
from .protocol.wire import Session
from .python.language import PYTHON

if TYPE_CHECKING:
    from .kernel.worker import Worker
    from .python.guest import GuestInterpreter

#: Seconds after which a cell that goes on is interrupted again, when its kernel is to end.
AGAIN = 1.0
#: Seconds for which a cell that does not let go holds up the end of the process.
AT_EXIT = 2.0


class Guest(Kernel):
    """A kernel whose process belongs to an application.

    Parameters
    ----------
    path : str
        Its connection file.
    namespace : dict
        The globals of the cells.
    keepkernel : bool or None
        What ``exit`` in a cell means, as `GuestInterpreter` takes it.
    """

    owns_process = False

    def __init__(
        self,
        channels: Channels,
        info: dict[str, Any],
        path: str,
        namespace: dict[str, Any],
        keepkernel: bool | None,
    ) -> None:
        self.path = path
        self._guest: GuestInterpreter | None = None

        def interpreter(kernel: Kernel) -> GuestInterpreter:
            from .python.guest import GuestInterpreter

            self._guest = GuestInterpreter(kernel, namespace, keepkernel)
            return self._guest

        language = PYTHON._replace(interpreter=interpreter, has_debugger=lambda: False)
        super().__init__(channels, info, language, "memory")
        del self.control["debug_request"]

    def users(self) -> list[Worker]:
        """Return the workers that run user code."""
        return [self.main, *self.subshells.workers()]

    def interrupt(self) -> None:
        """Interrupt what runs on shell and in the subshells.  Any thread."""
        self.interrupt_cells([(worker, worker.cell) for worker in self.users()])

    def stop(self) -> None:
        """Have `end` called from a thread that it does not wait for.  The control thread."""
        if not self._stopping:
            self._stopping = True
            self.on_stop()

    def end(self, deadline: float) -> bool:
        """End all threads, and give everything back.  Any thread but these.

        Returns
        -------
        bool
            False when a cell has not let go by `deadline`: its thread goes on, without a frontend.
        """
        self._stopping = True
        for worker in (self.control_worker, self.debug_worker):  # from here on there are no new subshells
            worker.stop()
            worker.join(AGAIN)
        users = self.users()
        for worker in users:
            worker.stop()
        for worker in users:
            while not worker.join(0) and monotonic() < deadline:
                with suppress(RuntimeError):  # the interpreter ends, and has no more threads for a second look
                    self.interrupt()
                worker.join(min(AGAIN, max(0.0, deadline - monotonic())))
        self.channels.close()
        self._beside.stop(AGAIN)
        if self._guest is not None:
            self._guest.give_back()
        return all(worker.join(0) for worker in users)


class EmbeddedKernel:
    """A kernel that runs in threads of this process; `start` makes it.  Its methods are any thread's.

    As a context manager it stops at the end of the block.

    Attributes
    ----------
    connection_file : str
        For ``jupyter console --existing``, `connect_console` and any other frontend.
    """

    def __init__(self, kernel: Guest) -> None:
        self.connection_file = kernel.path
        self._kernel = kernel
        self._one_at_a_time = Lock()
        self._ended = Event()
        self._complete = True
        self._closer: Thread | None = None
        kernel.on_stop = kernel.channels.on_bug = self._stop_soon
        atexit.register(self.stop, AT_EXIT)

    def stop(self, timeout: float = 5.0) -> bool:
        """End the kernel, as a shutdown_request does: interrupt what runs, return every thread, socket and file.

        Called by a cell of this very kernel, it only asks for that, and the cell is interrupted.

        Parameters
        ----------
        timeout : float
            Seconds for cells to let go.

        Returns
        -------
        bool
            Whether all has ended.  Python can't end a thread in `time.sleep` or C code; such a cell goes on,
            and nobody hears of it any more.
        """
        kernel = self._kernel
        if os.getpid() != kernel.pid:
            return True  # a forked child has none of its threads
        if get_ident() in [worker.ident for worker in kernel.users()]:
            kernel.quit()
            return False
        kernel.on_stop = lambda: None
        with self._one_at_a_time:
            if not self._ended.is_set():
                self._complete = kernel.end(monotonic() + timeout)
                atexit.unregister(self.stop)
                for clean in self._kernel.clean_up:
                    clean()
                self._ended.set()
        self._join_closer()
        return self._complete

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the kernel has ended, for `timeout` seconds at most; tell whether it has."""
        ended = self._ended.wait(timeout)
        if ended:
            self._join_closer()
        return ended

    @property
    def command(self) -> str:
        """The line to type for a console on this kernel."""
        from shlex import quote

        return f"jupyter console --existing {quote(connect.short(self.connection_file))}"

    def __enter__(self) -> EmbeddedKernel:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedKernel: {'ended' if self._ended.is_set() else self.command}>"

    def _stop_soon(self) -> None:
        self._closer = Thread(target=self.stop, name="minikernel-end", daemon=True)
        self._closer.start()

    def _join_closer(self) -> None:
        if self._closer is not None and self._closer is not current_thread():
            self._closer.join()


def start(
    namespace: dict[str, Any] | ModuleType | None = None,
    connection_file: str | os.PathLike[str] | None = None,
    **fields: Any,
) -> EmbeddedKernel:
    """Start a kernel in threads of this process, and return at once.  Any thread; as many kernels as you like.

    What it touches of the process is said in this module's docstring, and all of it is given back when it ends: by
    `EmbeddedKernel.stop`, by a shutdown_request or with the process.  ``exit`` in a frontend leaves it running.

    Parameters
    ----------
    namespace : dict or module, optional
        The globals of the code that clients execute; by default those of the module ``__main__``.
    connection_file : path, optional
        Read, or made when it does not exist, with mode 0600; what is made here is removed at the end.  By
        default a new one in the Jupyter runtime directory, which is also where a name without a directory is.
    **fields
        What the connection file shall say, as `write_connection_file` takes it: ``transport="ipc"``.

    Raises
    ------
    ValueError
        The connection file can't be read, or a field is none.
    OSError, RuntimeError
        A socket can't be bound, or the file can't be written privately.
    """
    return _start(namespace, connection_file, True, fields)


def embed(
    namespace: dict[str, Any] | ModuleType | None = None,
    connection_file: str | os.PathLike[str] | None = None,
    **fields: Any,
) -> None:
    """Stop here for frontends: start a kernel, print how to attach a console, and wait until one ends it.

    It ends by ``exit`` in a console, by a shutdown_request, and by Ctrl-C here.

    Parameters
    ----------
    namespace : dict or module, optional
        By default what the caller sees: its module's globals, or, in a function, a copy of them and of its local
        variables.  Python has no way to assign to those from elsewhere.
    connection_file, **fields
        As in `start`.
    """
    if namespace is None:
        caller = sys._getframe(1)
        namespace = caller.f_globals
        if caller.f_locals is not namespace:
            namespace = namespace | caller.f_locals
    with _start(namespace, connection_file, None, fields) as kernel, suppress(KeyboardInterrupt):
        print(f"To attach a console:  {kernel.command}\nexit() there or Ctrl-C here goes on.", flush=True)
        kernel.wait()


def _start(
    namespace: dict[str, Any] | ModuleType | None,
    connection_file: str | os.PathLike[str] | None,
    keepkernel: bool | None,
    fields: dict[str, Any],
) -> EmbeddedKernel:
    if namespace is None:
        namespace = sys.modules["__main__"]
    names = vars(namespace) if isinstance(namespace, ModuleType) else namespace
    path, info, in_file = connect.choose(os.fspath(connection_file) if connection_file else None, fields)
    channels = Channels(info, Session(info["key"].encode(), info["signature_scheme"]))
    kernel = Guest(channels, info, path, names, keepkernel)
    kernel.clean_up.append(lambda: connect.remove(path, info, keep_file=in_file is not None))
    result = EmbeddedKernel(kernel)
    if record_path := os.environ.get("MINIKERNEL_RECORD"):
        from .protocol import record

        record.start(channels, info, path, record_path)
    kernel.start()
    kernel.main.run_in_thread()
    try:
        if info != in_file:
            connect.save(path, info)
    except BaseException:
        result.stop()
        raise
    for danger in connect.dangers(path, info, given=in_file is not None):
        log.write(danger)
    return result


def _here() -> tuple[str, dict[str, Any]] | None:
    """Return the connection file and its fields of the guest that the calling code works for."""
    request = current_request()
    kernel = None if request is None else request.kernel
    return (kernel.path, kernel.info) if isinstance(kernel, Guest) else None


connect.guest = _here
