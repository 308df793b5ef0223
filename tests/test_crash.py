"""What killed a kernel is told by the one that is started next on its connection file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client import Client, KernelProcess, until

Start = Callable[..., KernelProcess]


def again(start: Start, kernel: KernelProcess) -> Client:
    """Start a kernel on the connection file of one that has died, as a restarter does."""
    kernel.wait()
    return start(connection_file=kernel.connection_file).client()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import ctypes\nctypes.string_at(0)", ["in cell 2", "Segmentation fault", "Cell In[2], line 2"]),
        (
            "import os\ndef f():\n    os.abort()\nf()",
            ["in cell 2", "Aborted", "Cell In[2], line 3, in f", "line 4"],
        ),
        ("import os; os._exit(3)", ["in cell 2", "os._exit(3)"]),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ["in cell 2", "killed without a trace"]),
        ("import signal; signal.raise_signal(signal.SIGALRM)", ["in cell 2", "killed without a trace"]),
        (
            "import ctypes, faulthandler; faulthandler.enable()\nctypes.string_at(0)",
            ["in cell 2", "Segmentation fault", "Cell In[2], line 2"],
        ),
        (
            "import ctypes, threading\nt = threading.Thread(target=ctypes.string_at, args=(0,)); t.start(); t.join()",
            ["in cell 2", "Segmentation fault", "string_at"],
        ),
        ("import faulthandler\nfaulthandler._stack_overflow()", ["in cell 2", "Segm", "Cell In[2], line 2"]),
        (
            "import os\nif not (pid := os.fork()): os.abort()\nos.waitpid(pid, 0); os.kill(os.getpid(), 9)",
            ["in cell 2", "killed without a trace"],
        ),
    ],
)
def test_the_cause(start: Start, code: str, told: list[str]) -> None:
    kernel = start()
    client = kernel.client()
    client.execute("first = 1")
    client.start(code)
    successor = again(start, kernel)
    successor.execute("pass", silent=True)
    text = successor.execute("pass").text("stderr")
    assert all(part in text for part in told), text
    assert "minikernel/python" not in text
    assert successor.execute("pass").text("stderr") == ""


def test_killed_while_idle(start: Start) -> None:
    kernel = start()
    kernel.client().execute("pass")
    os.kill(kernel.pid, signal.SIGKILL)
    assert "while no cell ran" in again(start, kernel).execute("pass").text("stderr")


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes may have no more than 100 MiB."""
    name = f"minikernel-test-{os.getpid()}"
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")
    ):  # fmt: skip
        group = parent / name
        try:
            group.mkdir()
            (group / limit).write_text(str(100 << 20))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        break
    else:
        pytest.skip("may make no control group")
    yield group
    assert until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_memory_runs_out(start: Start, little_memory: Path) -> None:
    kernel = start()
    client = kernel.client()
    (little_memory / "cgroup.procs").write_text(str(kernel.pid))
    client.execute("first = 1")
    client.start("second = b'x' * (300 << 20)")
    kernel.wait()
    successor = start(connection_file=kernel.connection_file)
    client = successor.client()
    (little_memory / "cgroup.procs").write_text(str(successor.pid))
    text = client.execute("pass").text("stderr")
    assert "in cell 2" in text and "memory ran out" in text
    successor.close()


@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "SIGHUP", "exit", "launcher", "hangs"])
def test_nothing_after_a_clean_end(start: Start, tmp_path: Path, how: str) -> None:
    launcher = subprocess.Popen(["sleep", "600"])
    try:
        kernel = start(env={"JPY_PARENT_PID": str(launcher.pid)})
        client = kernel.client()
        client.execute("pass")
        (file,) = tmp_path.glob("*.crash")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        if how == "exit":
            client.execute("exit()")
        elif how.startswith("SIG"):
            os.kill(kernel.pid, getattr(signal, how))
        elif how != "launcher":
            code = "import atexit, time; atexit.register(time.sleep, 600)\nwhile True:\n    try: print('go', flush=True); time.sleep(600)\n    except BaseException: pass"
            client.output(client.start(code if how == "hangs" else "print('go')"), "go")
            client.send("shutdown_request", {"restart": True}, "control")
        if how != "launcher":
            assert kernel.wait() == 0
    finally:
        launcher.kill()
        launcher.wait()
    successor = again(start, kernel)
    assert successor.execute("pass").text("stderr") == ""
    successor.execute("import os\nif not (pid := os.fork()): os._exit(5)\nos.waitpid(pid, 0)")
    assert "os._exit" not in file.read_text()


def test_evidence_that_is_no_evidence(start: Start, tmp_path: Path) -> None:
    for rubbish in (b"", b"\0" * 64, b"cell", os.urandom(300), b"cell 7 x\n" + b"\xff" * 100):
        kernel = start()
        kernel.connection_file.with_suffix(".crash").write_bytes(rubbish)
        assert kernel.client().execute("6 * 7").result == "42"


def test_a_directory_that_is_read_only_or_gone(start: Start) -> None:
    kernel = start()
    client = kernel.client()
    kernel.connection_file.with_suffix(".crash").mkdir()
    assert client.execute("6 * 7").result == "42"
