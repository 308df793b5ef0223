"""What a kernel does first with the process that it is given, before it opens or starts anything.

Descriptors 0 to 2 may be closed, as daemons are started.  What is opened next would get these numbers, and lose
them to the streams of the cells.  So they are made to lead nowhere.

The kernel of a container may be its process 1.  The system hands that one the orphans of all others, and drops
signals for which it has no handler.  Ending orphans must not take from cells the children whose end they wait for.
So the kernel is a child of process 1 then, which buries orphans, hands signals on, and ends as the kernel does.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from . import __builtins__ as __builtins__

#: What process 1 hands on.
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def prepare() -> None:
    """Make this the process of a kernel.  Process 1 does not return."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if os.getpid() == 1:
        _be_first()


def _be_first() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    kernel = os.fork()
    if kernel == 0:
        os.setpgid(0, 0)  # an interrupt is for the kernel and its children
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return

    def hand_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(kernel, number)

    for number in _SIGNALS:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while True:
        pid, status = os.wait()
        if pid == kernel:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
