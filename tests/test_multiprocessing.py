"""Forks and child processes of cells: their output finds the cell, and they never answer for the kernel."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from client import Client, KernelProcess, alive, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def children(pid: int) -> list[int]:
    """Return the children that are alive, and no helpers of multiprocessing."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            command = path.with_name("cmdline").read_bytes()
        except OSError:
            continue  # gone
        if int(parent) == pid and state != "Z" and b"multiprocessing" not in command:
            found.append(int(path.parent.name))
    return found


def goes_on(kernel: KernelProcess, client: Client) -> None:
    """The kernel answers, once, and its children are gone."""
    for n in range(3):
        run = client.execute(str(n))
        assert run.result == str(n) and run.types == ["status", "execute_input", "execute_result", "status"]
    if sys.platform == "linux":
        assert until(lambda: children(kernel.pid) == [])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools(client: Client, method: str) -> None:
    code = f"""
import math, multiprocessing as mp, os
from concurrent.futures import ProcessPoolExecutor
context = mp.get_context({method!r})
with context.Pool(2) as pool:
    first = pool.map(math.factorial, range(5)); pool.map(print, ['one', 'two'])
with ProcessPoolExecutor(2, mp_context=context) as pool:
    second = list(pool.map(math.factorial, range(5))); list(pool.map(print, ['three', 'four']))
process = context.Process(target=os.write, args=(1, b'five')); process.start(); process.join()
first, second, process.exitcode
"""
    run = client.execute(code, timeout=60)
    assert run.result == "([1, 1, 2, 6, 24], [1, 1, 2, 6, 24], 0)", run.reply
    text = run.text()
    assert all(word in text for word in ("one", "two", "three", "four", "five")) and run.text("stderr") == ""
    assert client.execute("1").result == "1"


FORKS = {
    "in a cell": ("pid = os.fork()\nif pid == 0: print('here')\nelse: os.waitpid(pid, 0)", True),
    "in a cell, and the child fails": (
        "pid = os.fork()\nif pid == 0: raise ValueError('here')\nelse: print(os.waitpid(pid, 0)[1] >> 8)",
        True,
    ),
    "in a cell, and the child quits": (
        "pid = os.fork()\nif pid == 0:\n    print('here'); quit()\nelse: os.waitpid(pid, 0)",
        True,
    ),
    "in a cell, with a terminal of its own": (
        "pid, fd = os.forkpty()\nif pid == 0: print('here')\nelse: print(os.read(fd, 100).decode()); os.waitpid(pid, 0)",
        True,
    ),
    "in a cell that awaits": (
        "await asyncio.sleep(0.01)\npid = os.fork()\nif pid == 0: print('here')\nelse: os.waitpid(pid, 0)",
        True,
    ),
    "in a cell that awaits, and so does the child": (
        "await asyncio.sleep(0.01)\npid = os.fork()\nif pid == 0:\n    print('here'); await asyncio.sleep(60)\n"
        "else: os.waitpid(pid, 0)",
        True,
    ),
    "in a task beside a cell that awaits": (
        "async def fork():\n    await asyncio.sleep(0.01); pid = os.fork()\n    if pid == 0: print('here')\n"
        "    else: os.waitpid(pid, 0)\nawait asyncio.create_task(fork())",
        True,
    ),
    "in a thread": (
        "def fork():\n    pid = os.fork()\n    if pid == 0: print('here')\n    else: os.waitpid(pid, 0)\n"
        "t = threading.Thread(target=fork); t.start(); t.join()",
        True,
    ),
    "in a callback while nothing runs": (
        "def fork():\n    if os.fork() == 0: print('here')\nasyncio.get_running_loop().call_later(0.01, fork);",
        False,
    ),
}


@pytest.mark.parametrize("name", FORKS)
def test_a_child_ends_and_says_nothing_on_the_wire(kernel: KernelProcess, name: str) -> None:
    code, in_cell = FORKS[name]
    client = kernel.client()
    client.execute("import asyncio, os, threading")
    msg_id = client.start(code)
    run = client.finish(msg_id)
    assert run.status == "ok" and run.types.count("status") == 2, run.reply
    if in_cell:
        assert (run.text() + run.text("stderr")).count("here") == (2 if "fails" in name else 1), run.messages
    else:
        assert "here" in client.output(msg_id, "here")
    goes_on(kernel, client)


def test_a_child_that_a_signal_kills_is_no_evidence(kernel: KernelProcess) -> None:
    """It shows below the cell what it dies of, and the kernel's own record is not the child's to write."""
    client = kernel.client()
    run = client.execute(
        "import ctypes, multiprocessing as mp\np = mp.get_context('fork').Process(target=ctypes.string_at, args=(0,))\n"
        "p.start(); p.join(); p.exitcode"
    )
    assert run.result == "-11" and "Segmentation fault" in run.text("stderr")
    assert "Segmentation" not in kernel.connection_file.with_suffix(".crash").read_text()


def test_a_child_outlives_its_cell_and_not_the_kernel(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(0.2); print('late'); time.sleep(60)\npid"
    )
    pid = int(client.finish(msg_id).result or 0)
    assert "late" in client.output(msg_id, "late")
    assert client.execute("1").result == "1" and alive(pid)
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0 and not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [
    "subprocess.run([sys.executable, '-c', code], close_fds=False)",
    "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', code], os.environ), 0)",
    "os.system(f'{sys.executable} -c {shlex.quote(code)}')",
])  # fmt: skip
def test_a_program_inherits_no_descriptor(kernel: KernelProcess, how: str) -> None:
    """Neither ports nor the evidence, the history or the record of the kernel."""
    client = kernel.client()
    client.execute("import os, shlex, subprocess, sys; 1 / 0")
    client.execute(
        "code = 'import os; print([fd for fd in range(3, 100) if os.path.exists(f\"/proc/self/fd/{fd}\")])'"
    )
    assert client.execute(f"{how};").text() == "[]\n"


def test_a_fork_in_a_subshell(kernel: KernelProcess) -> None:
    client = kernel.client()
    subshell = client.create_subshell()
    for code in ("", "import asyncio; await asyncio.sleep(0.01)\n"):
        code += "import os\npid = os.fork()\nif pid == 0: print('here')\nelse: os.waitpid(pid, 0)"
        run = client.execute(code, subshell)
        assert run.status == "ok" and (run.text() + run.text("stderr")).count("here") == 1
    goes_on(kernel, client)


def test_many_forks(kernel: KernelProcess) -> None:
    """While other threads print, and more than one thread forks."""
    client = kernel.client()
    run = client.execute(
        "import os, threading, warnings; warnings.simplefilter('ignore')\n"
        "def fork():\n"
        "    for n in range(25):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n            print('child', flush=True); os._exit(0)\n"
        "        os.waitpid(pid, 0)\n"
        "def work():\n    while going: print('thread')\n"
        "going = True; printing = threading.Thread(target=work); printing.start()\n"
        "forking = [threading.Thread(target=fork) for _ in range(3)]\n"
        "for t in forking: t.start()\n"
        "fork()\nfor t in forking: t.join()\ngoing = False; printing.join()",
        timeout=60,
    )
    assert run.status == "ok", run.reply
    assert run.text().count("child") == 100 and run.types.count("status") == 2
    goes_on(kernel, client)


def test_forks_while_output_comes_in(kernel: KernelProcess) -> None:
    """A child has the locks of threads that it does not have; it ends all the same."""
    client = kernel.client()
    client.execute("import os, sys, subprocess, threading, time, warnings; warnings.simplefilter('ignore')")
    run = client.execute(
        "def read():\n    while going: sys.stdout.flush()\n"
        "going = True; reading = threading.Thread(target=read); reading.start(); pids = []\n"
        "flood = subprocess.Popen(['sh', '-c', 'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done'])\n"
        "for n in range(80):\n    time.sleep(0.002); pid = os.fork()\n    if pid == 0: break\n    pids.append(pid)\n"
        "else:\n    for pid in pids: os.waitpid(pid, 0)\n    going = False; reading.join(); flood.kill(); flood.wait()"
    )
    assert run.status == "ok"
    goes_on(kernel, client)
