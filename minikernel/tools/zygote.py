"""A process that has imported the kernel, and forks one whenever it is asked to.

It is started and spoken to by the provisioner (``provisioner``), over the socket that it finds as its stdin.  So
nobody else can reach it, and when its owner ends, the socket does, and so does it.  It has no thread and no zmq
context, so that a fork is a whole process.

A request is its length in eight hexadecimal digits and one JSON object, ``argv``, ``env`` and ``cwd``.  With it
come four descriptors: the kernel's stdin, stdout and stderr, and a pipe.  On it go two lines: ``pid N`` when the
kernel has been forked, ``exit N`` when it has ended, as `subprocess.Popen.returncode` has it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn

#: What a kernel imports at its start and with its first cell.
WARM = (
    "jupyter_core", "uuid", "linecache", "traceback", "minikernel.__main__", "minikernel.connect",
    "minikernel.protocol.channels", "minikernel.kernel.interrupt", "minikernel.kernel.kernel",
    "minikernel.kernel.life", "minikernel.python.language", "minikernel.python.interpreter",
    "minikernel.python.tracebacks",
)  # fmt: skip


def main(preload: list[str]) -> None:
    """Import the modules `preload`, too, and fork kernels until the socket ends."""
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for name in (*WARM, *preload):
        try:
            importlib.import_module(name)
        except Exception as error:  # the user's module: a kernel can do without
            print(f"[minikernel] cannot preload {name}: {error!r}", file=sys.stderr)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        print(f"[minikernel] a preloaded module has started threads, which a fork loses: {names}", file=sys.stderr)
    gc.collect()
    gc.freeze()  # what is shared with the kernels stays shared
    Zygote(control).serve()


class Zygote:
    """The loop that forks kernels and tells how they end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pipes: dict[int, int] = {}
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._wake, False)
        self._ends = wake
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the owner's
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Answer requests until the owner is gone."""
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
            self._reap()
            if control in ready and not self._answer():
                return

    def _answer(self) -> bool:
        length, descriptors, _, _ = socket.recv_fds(self._control, 8, 4)
        if len(length) < 8:
            return False
        request = json.loads(self._control.recv(int(length, 16), socket.MSG_WAITALL))
        pid = os.fork()
        if pid == 0:
            self._become(request, descriptors)
        for fd in descriptors[:3]:
            os.close(fd)
        self._pipes[pid] = descriptors[3]
        self._tell(pid, f"pid {pid}")
        return True

    def _reap(self) -> None:
        while self._pipes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in self._pipes:
                self._tell(pid, f"exit {os.waitstatus_to_exitcode(status)}")
                os.close(self._pipes.pop(pid))

    def _tell(self, pid: int, line: str) -> None:
        try:
            os.write(self._pipes[pid], f"{line}\n".encode())
        except BrokenPipeError:
            pass  # its manager has lost interest

    def _become(self, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
        """Be the kernel, in the child."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for number, fd in enumerate(descriptors[:3]):
                os.dup2(fd, number)
            for fd in (*descriptors, *self._pipes.values(), self._wake, self._ends, self._control.detach()):
                os.close(fd)
            os.environ.clear()
            os.environ.update(request["env"])
            if request["cwd"]:
                os.chdir(request["cwd"])
            gc.unfreeze()
            from minikernel import __main__ as command

            sys.argv[:] = [str(command.__file__), *request["argv"]]
            command.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # a bug, in a process that must not go on to be a zygote
            traceback.print_exc()
        finally:
            os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
