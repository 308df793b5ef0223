"""What is measured: a kernelspec, the process that it starts, and what Linux knows of that process.

Every subject gets the same: a session of its own, no terminal, an empty directory for its history and
configuration, and nobody else to talk to.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from random import randrange
from time import clock_gettime, perf_counter
from typing import Any, NamedTuple

import zmq
from frontend import Frontend
from jupyter_core.paths import jupyter_path

_temporary = tempfile.TemporaryDirectory(prefix="benchmarks-")
DIRECTORY = Path(_temporary.name)
#: Below those that Linux gives to who connects: a frontend that knocks at a port could be given that very port.
_ports = count(randrange(10_000, 30_000))
CONTEXT: zmq.Context[Any] = zmq.Context()


class Spec(NamedTuple):
    """A kernelspec: how a kernel is started and interrupted."""

    name: str
    argv: list[str]
    env: dict[str, str]
    interrupt_mode: str = "signal"

    @classmethod
    def find(cls, name: str) -> Spec:
        """Return the kernelspec of a name, or of a directory; ``LABEL=`` may stand before either."""
        label, _, where = name.rpartition("=")
        for place in (Path(where), *(Path(place) / where for place in jupyter_path("kernels"))):
            if (place / "kernel.json").is_file():
                spec = json.loads((place / "kernel.json").read_text())
                argv = [_program(spec["argv"][0], place.resolve()), *spec["argv"][1:]]
                return cls(label or place.name, argv, spec.get("env", {}), spec.get("interrupt_mode", "signal"))
        raise SystemExit(f"there is no kernelspec {where!r}, neither as a directory nor where Jupyter looks")


FLOOR = Spec("floor", [sys.executable, str(Path(__file__).with_name("floor.py")), "{connection_file}"], {})


def _program(name: str, place: Path) -> str:
    """Return the program of a kernelspec; "python" is that of the environment in which the kernelspec lies."""
    if place.match("share/jupyter/kernels/*") and (inside := place.parents[3] / "bin" / name).exists():
        return str(inside)
    return sys.executable if name in ("python", "python3") else name


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def environment(spec: Spec) -> dict[str, str]:
    """Return the environment of a kernel: nothing that it keeps goes where its user's things are."""
    here = {"IPYTHONDIR": str(DIRECTORY / "ipython"), "JUPYTER_DATA_DIR": str(DIRECTORY / "data")}
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "JPY_PARENT_PID": str(os.getpid()), **here, **spec.env}


class Kernel:
    """A kernel that has been started, and is killed at the end of a ``with``.

    Attributes
    ----------
    began : float
        When it was started, by `perf_counter`.
    process : Popen, or what a fork server shows as one
    frontend : Frontend
        Its shell socket is there from the beginning; the others from `ready` on.
    """

    def __init__(self, spec: Spec, retry: int = 1, zygote: Any = None) -> None:
        self.spec = spec
        self._info: dict[str, Any] = {"ip": "127.0.0.1", "transport": "tcp", "key": os.urandom(16).hex(),
                                      "signature_scheme": "hmac-sha256", "kernel_name": spec.name}  # fmt: skip
        for channel in ("shell", "iopub", "stdin", "control", "hb"):
            self._info[f"{channel}_port"] = next(filter(_is_free, _ports))
        file = DIRECTORY / f"kernel-{self._info['key']}.json"
        file.write_text(json.dumps(self._info))
        self.frontend = Frontend(self._info, CONTEXT, retry)
        self._frontends = [self.frontend]
        argv = [part.replace("{connection_file}", str(file)) for part in spec.argv]
        env = environment(spec)
        with open(os.devnull, "r+") as nothing:
            self.began = perf_counter()
            if zygote is not None:
                arguments = argv[argv.index("-m") + 2 :]
                self.process = zygote.fork(arguments, env, str(DIRECTORY), [nothing.fileno()] * 3)
            else:
                streams = {"stdin": nothing, "stdout": nothing, "stderr": nothing}
                self.process = subprocess.Popen(argv, env=env, cwd=DIRECTORY, start_new_session=True, **streams)
        self.pid: int = self.process.pid

    def ready(self) -> Kernel:
        """Wait until it has run a cell that prints and one with a result, and all sockets are connected."""
        self.frontend.listen()
        self.frontend.execute("print(1)")
        self.frontend.execute("1 + 1")
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        for frontend in self._frontends:
            frontend.close()
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def frontends(self, count: int) -> list[Frontend]:
        """Return so many frontends, which miss nothing on iopub any more."""
        while len(self._frontends) < count:
            self._frontends.append(Frontend(self._info, CONTEXT))
            self._frontends[-1].listen()
        return self._frontends

    def interrupt(self) -> None:
        """Interrupt what runs, as the kernelspec asks for it."""
        if self.spec.interrupt_mode == "message":
            self.frontend.send(self.frontend.pack("interrupt_request", {}), "control")
        else:
            os.killpg(self.pid, signal.SIGINT)

    # -- what Linux knows ------------------------------------------------------------------------------

    def cpu(self) -> float:
        """Seconds of CPU that all its threads have used, those that have ended, too."""
        return clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3); /proc counts in ticks of 10 ms

    def memory(self, field: str) -> int:
        """Bytes: VmRSS, VmHWM (its peak since `forget_peak`), RssAnon; Pss, its share of what is shared."""
        return memory(self.pid, field)

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def listed(self, directory: str) -> int:
        """How much there is of "task", its threads, or "fd", its descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/{directory}"))

    def wake_ups(self) -> int:
        """How often its threads have gone to sleep so far."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(_field(task / "status", "voluntary_ctxt_switches") for task in tasks)


def memory(pid: int, field: str) -> int:
    file = "smaps_rollup" if field == "Pss" else "status"
    return _field(Path(f"/proc/{pid}/{file}"), field) * 1024


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
