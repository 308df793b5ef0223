"""How a kernel's life ends: requests, signals, and a launcher that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from client import KernelProcess, alive, until

import minikernel


@pytest.mark.parametrize("channel", ["control", "shell"])
def test_shutdown(kernel: KernelProcess, channel: str) -> None:
    client = kernel.client()
    other = kernel.client()
    cell = client.execute("import atexit; atexit.register(print, 'atexit ran', flush=True)")
    run = client.request("shutdown_request", {"restart": True}, channel)
    assert run.reply == {"status": "ok", "restart": True}
    assert "shutdown_reply" in run.types
    heard = other.wait_for("iopub", lambda m: m["msg_type"] == "shutdown_reply")
    assert heard["content"] == {"status": "ok", "restart": True}
    text = ""  # which may come in two pieces
    while text != "atexit ran\n":
        stream = other.wait_for("iopub", lambda m: m["msg_type"] == "stream")
        assert stream["parent_header"] == cell.message["parent_header"]
        text += stream["content"]["text"]
    assert kernel.wait() == 0
    assert kernel.connection_file.exists()  # the launcher's file is the launcher's


@pytest.mark.parametrize("code", [
    "import time\nprint('go')\nwhile True:\n    try: time.sleep(30)\n    except KeyboardInterrupt: pass",
    "print('go')\nwhile True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
    "import threading, time; threading.Thread(target=time.sleep, args=(30,)).start(); print('go')",
    "import asyncio; print('go'); await asyncio.sleep(30)",
    "import atexit, time; atexit.register(time.sleep, 30); print('go')",
    "import subprocess; p = subprocess.Popen(['sleep', '5']); print('go')",
    "import concurrent.futures as c; p = c.ThreadPoolExecutor(2); p.submit(int).result(); print('go')",
    "print('go'); input()",
])  # fmt: skip
def test_nothing_holds_a_shutdown_up(kernel: KernelProcess, code: str, tmp_path: Path) -> None:
    client = kernel.client()
    mark = tmp_path / "mark"
    client.execute(f"import atexit; atexit.register(open({str(mark)!r}, 'w').close)")
    msg_id = client.start(code, allow_stdin=True)
    client.output(msg_id, "go")
    client.request("shutdown_request", {"restart": False}, "control")
    began = time.monotonic()
    assert kernel.wait() == 0
    assert time.monotonic() - began < 5  # 2.5 on a quiet machine
    assert mark.exists()


def test_all_that_could_hold_it_up_at_once(kernel: KernelProcess, tmp_path: Path) -> None:
    client = kernel.client()
    mark = tmp_path / "mark"
    client.execute(
        "import atexit, subprocess, threading, time\natexit.register(time.sleep, 60)\n"
        f"atexit.register(open({str(mark)!r}, 'w').close)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "child = subprocess.Popen(['sh', '-c', 'trap \"\" INT TERM; while :; do sleep 1; done'])"
    )
    child = int(client.execute("child.pid").result or 0)
    msg_id = client.start(
        "print('go', flush=True)\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"
    )
    client.output(msg_id, "go")
    began = time.monotonic()
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0
    assert time.monotonic() - began < 5  # 2.5 on a quiet machine
    assert mark.exists() and until(lambda: not alive(child))


@pytest.mark.parametrize("how", ["atexit.register(os._exit, 7)", "import leaves"])
def test_an_exit_handler_that_wants_to_be_the_last(
    start: Callable[..., KernelProcess], tmp_path: Path, how: str
) -> None:
    """The children end, what was printed arrives, and the successor has nothing to tell."""
    (tmp_path / "leaves.py").write_text("import atexit, os\natexit.register(lambda: os._exit(7))\n")
    kernel = start()
    client = kernel.client()
    run = client.execute("import atexit, os, subprocess\nchild = subprocess.Popen(['sleep', '600'])\nchild.pid")
    cell = client.start(f"{how}\natexit.register(print, 'atexit ran')")
    client.finish(cell)
    client.request("shutdown_request", {"restart": True}, "control")
    assert kernel.wait() == 7 and not alive(int(run.result or 0))
    assert client.output(cell, "ran\n") == "atexit ran\n"
    run = start(connection_file=kernel.connection_file).client().execute("6 * 7")
    assert run.result == "42" and run.text("stderr") == ""


def test_sigterm_is_clean(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute("import atexit; atexit.register(print, 'atexit ran')")
    os.kill(kernel.pid, signal.SIGTERM)
    assert client.wait_for("iopub", lambda m: m["msg_type"] == "stream")["content"]["text"] == "atexit ran\n"
    assert kernel.wait() == 0


def test_restarts_on_the_same_ports(start: Callable[..., KernelProcess], tmp_path: Path) -> None:
    kernel = start()
    for n in range(10):
        client = kernel.client()
        assert client.execute("'x' in globals(), (x := 1)").result == "(False, 1)", n
        client.request("shutdown_request", {"restart": True}, "control")
        assert kernel.wait() == 0
        with open(kernel.log, "ab") as log:
            kernel.process = subprocess.Popen(
                [sys.executable, "-m", "minikernel", "-f", str(kernel.connection_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
    assert kernel.client().execute("1").result == "1"


LAUNCHER = """
import os, subprocess, sys
env = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
p = subprocess.Popen(sys.argv[2:], env=env, start_new_session=True)
print(p.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("wrapper", ["", "sh -c '\"$@\"; true' sh"])
def test_it_does_not_outlive_its_launcher(tmp_path: Path, wrapper: str) -> None:
    file = minikernel.write_connection_file(tmp_path / "c.json")
    mark = tmp_path / "mark"
    kernel = [sys.executable, "-m", "minikernel", "-f", str(file)]
    command = ["sh", "-c", '"$@"; true', "sh", *kernel] if wrapper else kernel
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, "x", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    from client import Client

    client = Client(file)
    pid = int(
        client.execute(f"import atexit, os; atexit.register(open({str(mark)!r}, 'w').close); os.getpid()").result
        or 0
    )
    try:
        launcher.kill()
        launcher.wait()
        assert until(lambda: not alive(pid)), "an orphan"
        assert mark.exists()
    finally:
        client.close()
        assert launcher.stdin and launcher.stdout
        launcher.stdin.close()
        launcher.stdout.close()
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("value", ["1", "", "nonsense", "999999999"])
def test_a_launcher_that_says_nothing_useful(start: Callable[..., KernelProcess], value: str) -> None:
    client = start(env={"JPY_PARENT_PID": value}).client()
    assert client.execute("1").result == "1"
