"""Kernels that start faster than an interpreter can: forked from a process that has imported all (``zygote``).

A kernelspec names this provisioner in its metadata (``minikernel install --fork`` writes one), and jupyter_client
then starts the kernel through it: the first start of a Jupyter server makes the zygote, the others fork it.
To the manager such a kernel is as any other: a process in a session of its own, with its own environment,
directory and streams, that is waited for, signalled, restarted and cleaned up by its pid.

There is one zygote for each Python, list of preloaded modules and set of variables that an interpreter reads when
it starts.  It belongs to the process that has started it, and ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
from threading import Lock
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from traitlets import Unicode

#: An interpreter reads them when it starts; so kernels for which they differ have different zygotes.
_READ_AT_START = ("PYTHON", "LC_", "LD_", "DYLD_")
_READ_TOO = ("HOME", "LANG", "VIRTUAL_ENV", "CONDA_PREFIX", "TZ")


class Zygote:
    """One zygote, and the owner's end of its socket.  Any thread."""

    _all: dict[tuple[str, ...], Zygote] = {}  # noqa: RUF012
    _lock = Lock()

    def __init__(self, python: list[str], preload: list[str], env: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [*python, "-m", "minikernel.tools.zygote", *preload]
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), env=env, start_new_session=True)

    @classmethod
    def of(cls, python: list[str], preload: list[str], env: dict[str, str]) -> Zygote:
        """Return the zygote for these; start it when there is none, or none any more."""
        at_start = {key: env[key] for key in sorted(env) if key.startswith(_READ_AT_START) or key in _READ_TOO}
        key = (*python, *preload, repr(at_start))
        with cls._lock:
            zygote = cls._all.get(key)
            if zygote is None or zygote.process.poll() is not None:
                zygote = cls._all[key] = cls(python, preload, env)
            return zygote

    def fork(self, argv: list[str], env: dict[str, str], cwd: str | None, streams: list[int]) -> Forked:
        """Start a kernel.

        Parameters
        ----------
        argv : list of str
            Its arguments.
        env : dict
            Its whole environment.
        cwd : str, optional
            Its working directory.
        streams : list of int
            Its stdin, stdout and stderr.

        Raises
        ------
        OSError
            The zygote has gone.
        """
        ours, theirs = os.pipe()
        try:
            request = json.dumps({"argv": argv, "env": env, "cwd": cwd}).encode()
            with self._lock:
                socket.send_fds(self._socket, [b"%08x" % len(request)], [*streams, theirs])
                self._socket.sendall(request)
        finally:
            os.close(theirs)
        return Forked(ours)


class Forked:
    """A kernel that was forked, as `subprocess.Popen` shows a process.  The zygote tells by a pipe how it ends."""

    stdin = stdout = stderr = None

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._text = b""
        self.returncode: int | None = None
        while b"\n" not in self._text:
            self._read()
        self.pid = int(self._text.split()[1])

    def _read(self) -> None:
        text = os.read(self._pipe, 100)
        self._text += text
        if not text or b"exit" in self._text:
            os.close(self._pipe)
            self._pipe = -1
        if not text and not self._text:
            raise OSError("the kernel could not be forked: its zygote has ended")

    def poll(self) -> int | None:
        """Return how the kernel has ended; None while it runs."""
        while self._pipe >= 0 and select.select([self._pipe], [], [], 0)[0]:
            self._read()
        if self.returncode is None and self._pipe < 0:
            if b"exit" in self._text:
                self.returncode = int(self._text.split()[3])
            elif not _alive(self.pid):  # the zygote has been killed, and then the kernel: nobody knows how
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self) -> int:
        """Wait for the end of the kernel, and return how it has ended."""
        while (status := self.poll()) is None:
            select.select([self._pipe] if self._pipe >= 0 else [], [], [], None if self._pipe >= 0 else 0.05)
        return status

    def send_signal(self, signum: int) -> None:
        """Send the kernel a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


class ForkProvisioner(LocalProvisioner):
    """Starts kernels by forking a zygote.

    Attributes
    ----------
    preload : str
        Names of modules that the zygote imports, separated by spaces or commas.
    """

    preload = Unicode("", help="modules to import before kernels are forked").tag(config=True)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        """Start the kernel that the command line `cmd` would start.  Raises OSError where that can't be."""
        place = cmd.index("-m")
        env = dict(kwargs.get("env") or os.environ)
        if not kwargs.get("independent"):
            env["JPY_PARENT_PID"] = str(os.getpid())
        preload = self.preload.replace(",", " ").split()
        self.process = await asyncio.to_thread(self._fork, cmd[:place], preload, cmd[place + 2 :], env, kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd") or os.getcwd()
        return self.connection_info

    @staticmethod
    def _fork(
        python: list[str], preload: list[str], argv: list[str], env: dict[str, str], kwargs: dict[str, Any]
    ) -> Forked:
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            streams = [_descriptor(kwargs.get(name), default, nothing)
                       for name, default in (("stdin", nothing), ("stdout", 1), ("stderr", 2))]  # fmt: skip
            cwd = kwargs.get("cwd")
            for last in (False, True):
                zygote = Zygote.of(python, preload, env)
                try:
                    return zygote.fork(argv, env, str(cwd) if cwd else None, streams)
                except OSError:
                    if last:
                        raise
                    zygote.process.wait()  # it has been killed; another takes its place
            raise AssertionError
        finally:
            os.close(nothing)


def _descriptor(stream: Any, default: int, nothing: int) -> int:
    """Return the descriptor that Popen would give a child for one of its arguments."""
    if stream is None:
        return default
    if stream in (subprocess.DEVNULL, subprocess.PIPE):
        return nothing
    return stream if isinstance(stream, int) else int(stream.fileno())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
