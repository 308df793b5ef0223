"""A kernel of any kernelspec in a process of its own, as jupyter_client would start it.

This file alone decides how a kernelspec becomes a process: which ``argv``, which environment, and what holds for
its life.  The kernel has a session of its own, so that a signal reaches it once, from us, however ours has come;
it is told to end when this process does (``JPY_PARENT_PID``), and on Linux made to.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import IO, Any

from .. import connect, private
from .install import find

#: prctl's number for "send me this signal when my parent dies" (linux/prctl.h).
_PR_SET_PDEATHSIG = 1


def kernelspec(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the directory and the fields of a kernelspec.

    Parameters
    ----------
    name : str
        A kernel's name on Jupyter's data path, or the directory of a kernelspec.

    Raises
    ------
    OSError, ValueError
        There is none, or its ``kernel.json`` can't be read.
    """
    directory = Path(name) if os.path.isfile(os.path.join(name, "kernel.json")) else find().get(name.lower())
    if directory is None:
        raise FileNotFoundError(2, f"there is no kernel called {name} (minikernel list shows those there are)")
    spec = json.loads((directory / "kernel.json").read_bytes())
    if not isinstance(spec, dict) or not spec.get("argv"):
        raise ValueError(f"{directory / 'kernel.json'} has no argv")
    return directory.absolute(), spec


def start(
    name: str,
    connection_file: str,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start the kernel `name`, a name or a directory, on a connection file; its stdin is empty.

    Further `arguments` come behind the kernelspec's; its environment wins over `env`.

    To be called from the main thread: where the kernel is made to end, it is with the thread that has started it.

    Raises
    ------
    OSError, ValueError
        There is no such kernel, or it can't be started.
    """
    directory, spec = kernelspec(name)
    fields = {"connection_file": connection_file, "prefix": sys.prefix, "resource_dir": str(directory)}
    argv = [_fill(str(part), fields) for part in spec["argv"]]
    if re.fullmatch(r"python(\d(\.\d+)?)?", argv[0]):
        argv[0] = _python(directory, argv[0])
    its = {key: Template(str(value)).safe_substitute(os.environ) for key, value in (spec.get("env") or {}).items()}
    return subprocess.Popen(
        [*argv, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
        env={**os.environ, **(env or {}), **its, "JPY_PARENT_PID": str(os.getpid())}, preexec_fn=_end_with_parent(),
        cwd=cwd,
    )  # fmt: skip


def _python(directory: Path, name: str) -> str:
    """Return the interpreter that a kernelspec means by "python": that of the frontend that starts it.

    That should be the environment's that the kernelspec is part of, ``PREFIX/share/jupyter/kernels/NAME``.
    """
    prefix = directory.parents[3] if len(directory.parents) > 3 else directory
    theirs = prefix / "bin" / name
    return (
        str(theirs) if directory.parent == prefix / "share/jupyter/kernels" and theirs.exists() else sys.executable
    )


def _fill(part: str, fields: dict[str, str]) -> str:
    """Replace ``{connection_file}`` and its like, and leave other braces alone, as jupyter_client does."""
    for name, value in fields.items():
        part = part.replace(f"{{{name}}}", value)
    return part


def _end_with_parent() -> Any:
    """Return what makes a child end with this process, be it killed; None where the system has no such thing.

    Kernels that don't watch JPY_PARENT_PID, as most don't, would go on for ever.
    """
    if sys.platform != "linux":
        return None
    import ctypes  # here and not in the child, who has nothing but the calling thread

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Kernel:
    """A kernel that a tool starts, as often as it likes, and that leaves nothing behind.

    It has a directory that vanishes with it, for its connection file and its history: what a tool types must not be
    found among what the user has typed.

    Parameters
    ----------
    name : str
        As in `kernelspec`.

    Raises
    ------
    OSError, ValueError
        There is no such kernel.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.spec = kernelspec(name)[1]
        self._directory = private.make(private.new_name("tool"))
        self.path = os.path.join(self._directory, "kernel-tool.json")
        self._log = Path(self._directory, "log")
        self._process: subprocess.Popen[bytes] | None = None
        self.info: dict[str, Any] = {}

    def start(self, again: bool = False) -> None:
        """Start the process; with `again` on the connection file of the one before.

        Raises
        ------
        OSError, ValueError
            It can't be started.
        """
        if not again:
            self.info = connect.write_connection_file(self.path).info
        home = self._directory
        env = {"MINIKERNEL_HISTORY": "memory", "IPYTHONDIR": os.path.join(home, "ipython")}
        with open(self._log, "ab") as log:
            self._process = start(self._name, self.path, log, log, env=env, cwd=home)

    @property
    def exit_code(self) -> int | None:
        """How the process has ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def interrupt(self) -> None:
        """Send SIGINT to the process and its children, as frontends do where interrupt_mode is "signal"."""
        if self._process is not None and self.alive():
            os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, timeout: float) -> bool:
        """Tell whether the process ends within `timeout` seconds."""
        try:
            if self._process is not None:
                self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def said(self) -> str:
        """Return the end of what the process has written to its own stdout and stderr."""
        return self._log.read_text(errors="replace")[-2000:].strip() if self._log.exists() else ""

    def kill(self) -> None:
        """End the process and its children at once."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()

    def close(self) -> None:
        """End what runs, and remove what it had."""
        self.kill()
        private.remove(self._directory)
