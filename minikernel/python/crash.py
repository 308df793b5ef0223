"""What killed the kernel: written down before it happens, and told by the next one.

A process that is killed says nothing.  So each cell's number is put into a small file beside the connection file
when it begins, and `faulthandler` adds where the process was when a signal ended it.  A clean end removes the
file.  The kernel that is started next on the same connection file (a frontend restarts it so) finds what is left,
and tells it below the first cell that it runs.
"""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from contextlib import suppress
from os import pwrite
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..protocol import log

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

#: Bytes for what goes on; what faulthandler writes comes after them.
_STATE = 64
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<name>.*)')
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_FRAMES = 5


class Evidence:
    """The file that a kernel leaves when it does not end by itself.

    Parameters
    ----------
    kernel : Kernel
    connection_file : str
    """

    def __init__(self, kernel: Kernel, connection_file: str) -> None:
        self._kernel = kernel
        self._path = connection_file.removesuffix(".json") + ".crash"
        self._pid = os.getpid()
        self._exit = os._exit
        os._exit = self._exit_and_say
        self._oom = _oom_kills()
        #: What the predecessor died of, in words; empty when it ended well.
        self.of_predecessor = self._read()
        self._fd = -1
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.write(self._fd, b"\n" * _STATE)
        except OSError:
            return  # a directory that we may only read, a full disk: no evidence is no reason not to run
        self._enable = faulthandler.enable
        self._enable(self._fd)
        faulthandler.enable = self._enable_here
        if hasattr(os, "register_at_fork"):  # a child dies below the cell that has forked it
            os.register_at_fork(after_in_child=lambda: self._enable(2))
        kernel.clean_up.append(self.remove)
        self.note("idle")

    def note(self, state: str) -> None:
        """Write down what goes on: "cell 7"."""
        if self._fd != -1:
            with suppress(OSError):  # a cell has closed it
                pwrite(self._fd, f"{state} {self._oom}".encode().ljust(_STATE, b"\n"), 0)

    def _enable_here(self, file: Any = None, *args: Any, **kwargs: Any) -> None:
        if file in (None, 2, sys.stderr) and os.getpid() == self._pid:
            file = self._fd  # what is captured dies with the process
        self._enable(file, *args, **kwargs)

    def remove(self) -> None:
        """The kernel ends by itself: there is nothing to tell.  In the kernel's process only."""
        if os.getpid() == self._pid:
            try:
                os.unlink(self._path)
            except OSError as error:
                log.complain("cannot remove", str(error))

    def _exit_and_say(self, status: int) -> Any:
        if os.getpid() == self._pid and self._kernel.ending is not None:
            self._kernel.ending(status)
        if os.getpid() == self._pid and os.path.exists(self._path):
            with suppress(OSError):  # a full disk, or a cell has closed it
                os.write(self._fd, f"os._exit({status})\n".encode())
        self._exit(status)

    def _read(self) -> str:
        try:
            with open(self._path, errors="replace", opener=_open_our_own) as file:
                text = file.read(1 << 16)
        except OSError:
            return ""
        words = text[:_STATE].split()
        if len(words) < 2:
            return ""
        where = f"in cell {words[1]}" if words[0] == "cell" else "while no cell ran"
        lines = text[_STATE:].strip("\0\n").split("\n")
        cause = lines[0].removeprefix("Fatal Python error: ")
        if not cause:
            oom = words[-1].isdigit() and int(words[-1]) < self._oom
            cause = (
                "killed because memory ran out (OOM killer)"
                if oom
                else "killed without a trace (SIGKILL, most likely)"
            )
        told = [f"[minikernel] the kernel before this one has died {where}: {cause}"]
        current = text.partition("Current thread")[2].partition("\n\n")[0]
        for frame in _FRAME.finditer(current):
            if not frame["file"].startswith(_PACKAGE):
                cell = re.fullmatch(r"<cell (\d+)(\.\d+)?>", frame["file"])
                place = f"Cell In[{cell[1]}]" if cell else frame["file"]
                told.append(f"  {place}, line {frame['line']}, in {frame['name']}")
        return "\n".join(told[: _FRAMES + 1]) + "\n"

    def tell(self) -> None:
        """Print once, below the first cell, what the predecessor has died of."""
        if self.of_predecessor:
            print(self.of_predecessor, file=sys.stderr, end="")
            self.of_predecessor = ""


def _open_our_own(path: str, flags: int) -> int:
    """Open a file as `open` does, but wait for no pipe, follow no link and believe nobody else's."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(f"{path} is another user's")
    return fd


def _oom_kills() -> int:
    """Return how many processes of our control group have been killed for want of memory (cgroups(7))."""
    places = []
    with suppress(OSError), open("/proc/self/cgroup") as groups:
        for line in groups:
            number, controllers, path = line.rstrip().split(":", 2)
            if controllers == "memory":  # version 1; in a container the path may be the one outside
                places += [f"/sys/fs/cgroup/memory{inside}/memory.oom_control" for inside in (path, "")]
            elif number == "0":  # version 2
                places += [f"/sys/fs/cgroup{inside}/memory.events" for inside in (path, "")]
    for place in places:
        with suppress(OSError), open(place) as counts:
            return next((int(line.split()[1]) for line in counts if line.startswith("oom_kill ")), 0)
    return 0
