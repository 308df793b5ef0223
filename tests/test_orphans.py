"""A kernel never outlives its launcher, however it was started; one that was started on its own lives on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from client import Client, KernelProcess, alive, until

import minikernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

LAUNCHER = """
import os, subprocess, sys
environment = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
subprocess.Popen(sys.argv[1:], env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
sys.stdin.read()
"""
SUBREAPER = "import ctypes, subprocess, sys; ctypes.CDLL(None).prctl(36, 1); subprocess.run(sys.argv[1:])"


def unshares(*options: str) -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL, check=False).returncode
    )


namespaces = pytest.mark.skipif(not unshares("-p", "-f", "--mount-proc"), reason="may make no PID namespace")


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for one in found:
        with suppress(OSError):  # it has ended meanwhile
            for path in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, path.read_text().split())
    return found


def running(word: str) -> list[int]:
    """Return the processes that have a word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (path / "cmdline").read_bytes() and alive(int(path.name)):
                found.append(int(path.name))
        except OSError:
            pass  # gone
    return found


@pytest.mark.parametrize(
    ("around_launcher", "around_kernel"),
    [
        pytest.param([], lambda kernel: ["bash", "-c", f"{shlex.join(kernel)}; true"], id="a wrapper that stays"),
        pytest.param([], lambda kernel: ["sh", "-c", f"{shlex.join(kernel)} &"], id="a wrapper that goes"),
        pytest.param([sys.executable, "-c", SUBREAPER], lambda kernel: kernel, id="a subreaper"),
        pytest.param(
            ["unshare", "-p", "-f", "--mount-proc", "sh", "-c", '"$@"; true', "sh"],
            lambda kernel: ["sh", "-c", f"{shlex.join(kernel)}; true"],
            id="both in a namespace",
            marks=namespaces,
        ),
        pytest.param(
            [], lambda kernel: ["unshare", "-p", "-f", *kernel], id="the kernel in a namespace", marks=namespaces
        ),
    ],
)
def test_the_launcher_is_killed(
    tmp_path: Path, around_launcher: list[str], around_kernel: Callable[[list[str]], list[str]]
) -> None:
    file, mark = minikernel.write_connection_file(tmp_path / "c.json"), tmp_path / "mark"
    command = around_kernel([sys.executable, "-m", "minikernel", "-f", str(file)])
    outermost = subprocess.Popen(
        [*around_launcher, sys.executable, "-c", LAUNCHER, *command],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = Client(file)
    try:
        code = f"import atexit; atexit.register(open({str(mark)!r}, 'w').close); print('go')"
        assert client.execute(code).text() == "go\n"
        (launcher,) = [
            pid for pid in family(outermost.pid)
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-c", LAUNCHER.encode()]
        ]  # fmt: skip
        os.kill(launcher, signal.SIGKILL)
        assert until(lambda: not running(str(file)) or running(str(file)) == [outermost.pid]), "an orphan"
        assert mark.exists()
    finally:
        client.close()
        for pid in {*family(outermost.pid), *running(str(file))}:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        outermost.communicate()


def test_a_number_that_another_process_has_by_now(start: Callable[..., KernelProcess]) -> None:
    """It was started after the kernel, so it can't have launched it: as after a stop by a debugger, or a slow start."""
    code = (
        "import os, subprocess, sys; other = subprocess.Popen(['sleep', '600'])\n"
        "os.environ['JPY_PARENT_PID'] = str(other.pid); sys.argv[:1] = []\n"
        "import runpy; sys.path.pop(0); runpy.run_module('minikernel', run_name='__main__', alter_sys=True)"
    )
    file = minikernel.write_connection_file(start().connection_file.with_name("younger.json"))
    kernel = subprocess.Popen([sys.executable, "-c", code, "minikernel", "-f", str(file)], start_new_session=True)
    client = Client(file)
    try:
        code = "import os, signal; other = int(os.environ['JPY_PARENT_PID']); os.kill(other, signal.SIGKILL)"
        assert client.execute(code).status == "ok"
        assert client.execute("os.waitpid(other, 0)[0] == other").result == "True"
        for _ in range(3):  # had the launcher died, the end would have begun
            client.request("kernel_info_request", channel="control")
        assert client.execute("6 * 7").result == "42"
    finally:
        client.close()
        os.killpg(kernel.pid, signal.SIGKILL)
        kernel.wait()


@pytest.mark.parametrize("wrapper", ["", "; true"])
def test_a_launcher_that_dies_before_the_kernel_has_looked(tmp_path: Path, wrapper: str) -> None:
    """Its number says nothing any more; but an init has adopted what it started."""
    command = f"{shlex.join([sys.executable, '-m', 'minikernel'])} -f {tmp_path}/c.json{wrapper}"
    launcher = (
        "import os, subprocess, sys; environment = {**os.environ, 'JPY_PARENT_PID': str(os.getpid())}\n"
        "subprocess.Popen(sys.argv[1:], env=environment, start_new_session=True); os.kill(os.getpid(), 9)"
    )
    init = "import ctypes, os, subprocess, sys; libc = ctypes.CDLL(None); libc.prctl(36, 1); libc.prctl(15, b'systemd')\n"
    init += "subprocess.run(sys.argv[1:])\nwhile True: print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)"
    arguments = [
        sys.executable,
        "-c",
        init,
        sys.executable,
        "-c",
        launcher,
        "sh",
        "-c",
        f"exec {command}" if not wrapper else command,
    ]
    outermost = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert outermost.stdout
    try:
        assert outermost.stdout.readline() == "0\n" and set(running(f"{tmp_path}/c.json")) <= {outermost.pid}
    finally:
        for pid in {*family(outermost.pid), *running(f"{tmp_path}/c.json")}:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        outermost.communicate()


def test_nohup(tmp_path: Path) -> None:
    """Without JPY_PARENT_PID a kernel is on its own: neither its parent's end nor a hangup ends it."""
    file = minikernel.write_connection_file(tmp_path / "c.json")
    command = shlex.join(["nohup", sys.executable, "-m", "minikernel", "-f", str(file)])
    environment = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    shell = subprocess.run(["sh", "-c", f"{command} >log 2>&1 & echo $!"], cwd=tmp_path, env=environment,
                           stdout=subprocess.PIPE, text=True, start_new_session=True, check=True)  # fmt: skip
    pid = int(shell.stdout)
    client = Client(file)
    try:
        assert client.execute("import os; os.getppid() != 0").result == "True"
        os.kill(pid, signal.SIGHUP)
        assert client.execute("6 * 7").result == "42"
        client.request("shutdown_request", {"restart": False}, "control")
        assert until(lambda: not alive(pid))
    finally:
        client.close()
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("code", ["pass", "import time; print('go', flush=True); time.sleep(60)"])
def test_a_terminal_that_is_closed(kernel: KernelProcess, code: str) -> None:
    """A hangup is a clean end."""
    client = kernel.client()
    client.execute("import atexit; atexit.register(print, 'atexit ran')")
    msg_id = client.start(code)
    if "go" in code:
        client.output(msg_id, "go")
    else:
        client.finish(msg_id)
    os.kill(kernel.pid, signal.SIGHUP)
    assert "atexit ran" in client.wait_for("iopub", lambda m: m["msg_type"] == "stream")["content"]["text"]
    assert kernel.wait() == 0
