"""Ctrl-C: in user code, always; in the kernel, never."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from client import Client, KernelProcess

PREPARE = """
import asyncio, socket, subprocess, threading, time, os
here, there = socket.socketpair()
lock = threading.Lock(); lock.acquire()
async def blocks():
    print('go', flush=True); time.sleep(30)
async def generator():
    while True:
        yield 1
        await asyncio.sleep(0)
class Slow:
    def __repr__(self):
        print('go'); time.sleep(30)
"""

CODES = {
    "sleep": "print('go'); time.sleep(30)",
    "loop": "print('go')\nwhile True: pass",
    "printing": "print('go')\nwhile True: print('x', end='')",
    "lock": "print('go'); lock.acquire()",
    "event": "print('go'); threading.Event().wait()",
    "join": "print('go'); t = threading.Thread(target=time.sleep, args=(30,), daemon=True); t.start(); t.join()",
    "recv": "print('go'); here.recv(1)",
    "subprocess": "print('go'); subprocess.run(['sleep', '30'])",
    "asyncio.run": "print('go'); asyncio.run(asyncio.sleep(30))",
    "await": "print('go'); await asyncio.sleep(30)",
    "await that blocks": "await blocks()",
    "gather": "print('go'); await asyncio.gather(*[asyncio.sleep(30) for _ in range(3)])",
    "async generator": "print('go')\nasync for x in generator(): pass",
    "task that blocks": "t = asyncio.create_task(blocks()); await asyncio.sleep(30)",
    "repr": "Slow()",
    "input": "print('go'); input()",
}


@pytest.mark.parametrize("how", ["signal", "message"])
def test_it_lands(start: Callable[..., KernelProcess], how: str) -> None:
    kernel = start()
    client = kernel.client()
    client.execute(PREPARE)
    for name, code in CODES.items():
        msg_id = client.start(code, allow_stdin=True)
        client.output(msg_id, "go")
        if name == "input":
            client.wait_for("stdin", lambda m: True)
        if how == "signal":
            kernel.interrupt()
        else:
            assert client.request("interrupt_request", channel="control").status == "ok"
        run = client.finish(msg_id, timeout=10)
        assert run.ename == "KeyboardInterrupt", name
        assert run.types.count("error") == 1, name
        assert "minikernel" not in "".join(run.reply["traceback"]), run.reply["traceback"]
        assert client.execute("await asyncio.sleep(0, 'on')").result == "'on'", name


def test_idle_interrupts_are_harmless(kernel: KernelProcess) -> None:
    client = kernel.client()
    for prepare in ("1", "import asyncio; t = asyncio.create_task(asyncio.sleep(60))"):
        client.execute(prepare)
        for _ in range(20):
            kernel.interrupt()
            assert client.request("interrupt_request", channel="control").status == "ok"
        assert client.execute("2").result == "2"
    assert client.execute("t.done()").result == "False"


def test_a_background_task_that_blocks_an_idle_kernel_can_be_interrupted(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import asyncio, time\nasync def f():\n    print('go'); time.sleep(30)\nt = asyncio.create_task(f())"
    )
    client.finish(msg_id)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.execute("t.done()").result == "True"


def test_a_child_of_the_cell_is_interrupted_too(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("import os; print('go'); r = os.system('sleep 30'); print('done', flush=True)")
    client.output(msg_id, "go")
    client.request("interrupt_request", channel="control")
    client.finish(msg_id)


def test_a_cell_may_catch_it(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import time\ntry:\n    print('go'); time.sleep(30)\nexcept KeyboardInterrupt: print('caught')"
    )
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.status == "ok" and run.text() == "caught\n"


@pytest.mark.timeout(120)
def test_interrupts_at_random_moments(kernel: KernelProcess) -> None:
    """In the middle of anything, between messages, while idle: the kernel answers every request, in order."""
    client = kernel.client()
    client.execute("import asyncio, time\nclass R:\n    def _repr_html_(self): return 'x' * 1000")
    codes = ["x = 1", "1 + 1", "print('a' * 100)", "R()", "display(R())", "await asyncio.sleep(0.001)",
             "for n in range(100): print(n)", "time.sleep(0.001)", "1/0", "asyncio.run(asyncio.sleep(0))"]  # fmt: skip
    chance = random.Random(7)
    for _ in range(400):
        msg_id = client.start(chance.choice(codes), stop_on_error=False)
        for _ in range(chance.randrange(4)):
            until = time.perf_counter() + chance.random() * 0.002
            while time.perf_counter() < until:
                pass
            os.kill(kernel.pid, signal.SIGINT)
        run = client.finish(msg_id)
        assert run.ename in (None, "KeyboardInterrupt", "ZeroDivisionError"), run.reply
    assert client.execute("6 * 7").result == "42"


def test_it_comes_up_while_the_kernel_starts(start: Callable[..., KernelProcess]) -> None:
    kernel = start()
    client = kernel.client()
    kernel.interrupt()
    assert client.execute("2").result == "2"


def test_sigint_that_was_ignored_by_the_launcher(start: Callable[..., KernelProcess]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        kernel = start()
    finally:
        signal.signal(signal.SIGINT, before)
    client: Client = kernel.client()
    msg_id = client.start("import time; print('go'); time.sleep(30)")
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
