"""What the kernel holds on to: of objects, memory, descriptors and threads, no more than it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client import Client, KernelProcess, until

SETUP = """
import asyncio, gc, threading, weakref
from concurrent.futures import ThreadPoolExecutor
from minikernel.kernel.comm import Comm
gc.disable()  # what only the collector finds is pinned for a while
pool = ThreadPoolExecutor(1)
refs = []
class Big:
    def __repr__(self): return 'big'
def new():
    big = Big(); refs.append(weakref.ref(big)); return big
def fail():
    big = new(); 1 / 0
async def fail_later():
    big = new(); await asyncio.sleep(0); 1 / 0
def chain():
    big = new()
    try: fail()
    except ZeroDivisionError as error: raise ValueError from error
class BadRepr:
    def __init__(self): self.big = new()
    def __repr__(self): 1 / 0
"""
#: A cell, what follows it, and how many of its objects are held after the cell and after each that follows.
HELD = {
    "a failed cell's variables, until the next error": ("fail()", {"pass": 1, "1 / 0": 0}, 1),
    "those of a cell that awaits": ("await fail_later()", {"pass": 1, "1 / 0": 0}, 1),
    "those of a group": ("await asyncio.gather(fail_later(), fail_later())", {"1 / 0": 0}, 1),
    "those of an exception's cause": ("chain()", {"pass": 2, "1 / 0": 0}, 2),
    "of a repr that fails": ("BadRepr()", {"1 / 0": 0}, 1),
    "a value, in Out": ("new()", {"1; 2; 3": 1, "Out.clear(); [globals().pop(n) for n in list(globals()) if n[:1] == '_' and n.strip('_').isdigit()]; del _, __, ___": 0, "4": 0}, 1),
    "a value of a cell that is not stored": ("new()", {}, 0),
    "a value of a silent cell": ("new()", {}, 0),
    "what is displayed": ("display(new())", {}, 0),
    "what is displayed under an id": ("handle = display(new(), display_id=True)", {}, 0),
    "what was displayed, and deleted": ("x = new(); display(x)", {"del x": 0}, 1),
    "user_expressions": ("x = new()", {"del x": 0}, 1),
    "what help was asked about": ("x = new()", {"help": 1, "del x": 0}, 1),
    "a thread that failed": ("t = threading.Thread(target=fail); t.start(); t.join(); del t", {}, 0),
    "a task that failed": ("t = asyncio.create_task(fail_later()); await asyncio.wait([t]);", {"del t": 0}, 1),
    "a job's arguments": ("pool.submit(id, new()).result();", {"pool.submit(int).result();": 0}, 1),
    "a comm and its callback": (
        "comm = Comm('t', buffers=[bytes(9)]); comm.on_msg(lambda msg, big=new(): None)", {"comm.close(); del comm": 0}, 1,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def counting(shared: Client) -> Client:
    assert shared.execute(SETUP).status == "ok"
    return shared


@pytest.mark.parametrize("name", HELD)
def test_objects(counting: Client, name: str) -> None:
    code, rest, held = HELD[name]
    options = {"store_history": "not stored" not in name, "silent": "silent" in name}
    expressions = {"x": "x"} if name == "user_expressions" else {}

    def alive() -> int:
        run = counting.execute("print(sum(ref() is not None for ref in refs))", store_history=False)
        return int(run.text())

    counting.execute("refs.clear()", silent=True)
    counting.execute(code, **options, user_expressions=expressions)
    if name != "a job's arguments":  # which the worker lets go of in its own time
        assert alive() == held
    for cell, held in rest.items():
        if cell == "help":
            counting.request("complete_request", {"code": "x.", "cursor_pos": 2})
            counting.request("inspect_request", {"code": "x", "cursor_pos": 1, "detail_level": 0})
        else:
            counting.execute(cell)
        assert until(lambda: alive() == held) if "job" in name else alive() == held, cell  # noqa: B023


def test_the_last_value(client: Client) -> None:
    """``_`` is the last value until a cell says otherwise, and again when it has deleted that."""
    assert [client.execute(code).result for code in ("1", "_", "_ = 'mine'", "2", "_")] == [
        "1",
        "1",
        None,
        "2",
        "'mine'",
    ]
    client.execute("del _")
    assert [client.execute(code).result for code in ("3", "_")] == ["3", "3"]


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def memory(kernel: KernelProcess) -> int:
    """Return the bytes that a kernel has, those of captured output too."""
    lines = Path(f"/proc/{kernel.pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))


@linux
def test_large_outputs(kernel: KernelProcess) -> None:
    """A hundred and fifty megabytes go through it, and leave less than half of it behind."""
    client = kernel.client()
    client.execute("import os; from minikernel.kernel.comm import Comm; comm = Comm('t'); got = []")
    client.execute("comm.on_msg(lambda msg: got.append(len(msg['buffers'][0])))")
    comm_id = next(m["content"]["comm_id"] for m in client.iopub if m["msg_type"] == "comm_open")
    before = memory(kernel)
    size = 5_000_000
    for code in (
        f"'x' * {size}", f"print('x' * {size})", f"os.write(1, b'x' * {size});",
        f"display({{'text/plain': 'x' * {size}}}, raw=True)", f"comm.send({{}}, buffers=[bytearray({size})])",
    ):  # fmt: skip
        for _ in range(5):
            assert client.execute(code, store_history=False).status == "ok"
            client.iopub.clear()
    for _ in range(5):
        message = client.session.msg("comm_msg", content={"comm_id": comm_id, "data": {}})
        client.session.send(client.sockets["shell"], message, buffers=[bytes(size)])
        client.finish(message["header"]["msg_id"], reply=False)
    assert client.execute("sum(got)").result == str(5 * size)
    assert memory(kernel) - before < 75_000_000


def count(kernel: KernelProcess) -> tuple[int, int]:
    """Return how many descriptors and threads a kernel has."""
    return len(os.listdir(f"/proc/{kernel.pid}/fd")), len(os.listdir(f"/proc/{kernel.pid}/task"))


def threads(client: Client) -> None:
    code = "import threading\nfor n in range(10_000):\n    t = threading.Thread(target=print, args=(n,)); t.start(); t.join()"
    assert client.execute(code, timeout=50).text().split() == [str(n) for n in range(10_000)]


def subshells(client: Client) -> None:
    for n in range(200):
        subshell = client.create_subshell()
        if n % 20 == 0:
            assert client.execute("import asyncio; await asyncio.sleep(0)", subshell).status == "ok"
        assert client.request("delete_subshell_request", {"subshell_id": subshell}, "control").status == "ok"


def comms(client: Client) -> None:
    code = "from minikernel.kernel.comm import Comm\nfor n in range(500):\n    c = Comm('t', data={'n': n}); c.send({}); c.close()"
    assert client.execute(code).types.count("comm_close") == 500
    assert client.request("comm_info_request").reply["comms"] == {}


def children(client: Client) -> None:
    code = "import os, subprocess\nfor n in range(20):\n    subprocess.run(['true'])\n    if not (p := os.fork()): os._exit(0)\n    os.waitpid(p, 0)"
    assert client.execute(code, timeout=60).status == "ok"


def loops(client: Client) -> None:
    code = "import asyncio\nfor n in range(100): asyncio.run(asyncio.to_thread(print, n))"
    assert client.execute(code, timeout=60).status == "ok"


def failures(client: Client) -> None:
    for _ in range(200):
        assert client.execute("open('/nowhere')").ename == "FileNotFoundError"


@linux
@pytest.mark.parametrize("work", [threads, subshells, comms, children, loops, failures])
def test_no_descriptor_and_no_thread_is_left(kernel: KernelProcess, work: Callable[[Client], None]) -> None:
    client = kernel.client()
    client.execute("import asyncio, threading, subprocess, traceback")
    client.execute("1 / 0")
    client.request("kernel_info_request", {}, "control")  # whose thread begins with the first request
    before = count(kernel)
    work(client)
    assert until(lambda: count(kernel) <= before), (before, count(kernel))


@linux
def test_an_idle_kernel_has_few(start: Callable[..., KernelProcess]) -> None:
    """Without what connections have, and the control thread, which begins with the first question on control."""
    kernel = start(env={"MINIKERNEL_RECORD": ""})
    client = kernel.client()
    assert client.execute("6 * 7").result == "42"
    client.close()
    assert until(lambda: count(kernel)[0] <= 25 and count(kernel)[1] <= 5), count(kernel)


@linux
def test_clients_that_come_and_go(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute("1")
    before = count(kernel)
    for n in range(300):
        other = Client(kernel.connection_file, subscribe=b"" if n % 3 else None)
        if n % 2:
            other.send("kernel_info_request")
        other.close()
    assert client.execute("6 * 7").result == "42"
    assert until(lambda: count(kernel) <= before), (before, count(kernel))
