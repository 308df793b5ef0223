"""What a kernel has to survive, each a function that does it `count` times and says what it has seen.

A storm gets a `Target`, a kernel with a frontend, and raises AssertionError where something was lost.  The tests run
each of them for a second or two, ``python tests/soak`` for as long as you like.  Chance comes from the target's
generator alone, so that a seed repeats what was asked, if not when.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import fuzz as fuzzing
import zmq
from client import TIMEOUT, KernelProcess, alive, endpoint
from damage_cells import CELLS
from target import Ledger, Target

from minikernel.protocol.messages import reply_type
from minikernel.protocol.wire import DELIMITER, Session

LATER = {"stop_on_error": False, "store_history": False}  # with 50,000 cells, completion is what takes the time
KINDS: list[tuple[str, dict[str, Any], str]] = [
    ("execute_request", {"code": "1 / 0", "stop_on_error": False}, "shell"),
    ("execute_request", {"code": "x = 1", **LATER}, "shell"),
    ("execute_request", {"code": "print('a'); 1", **LATER}, "shell"),
    ("execute_request", {"code": "await asyncio.sleep(0)", **LATER}, "shell"),
    ("complete_request", {"code": "pri", "cursor_pos": 3}, "shell"),
    ("inspect_request", {"code": "print", "cursor_pos": 5}, "shell"),
    ("is_complete_request", {"code": "for x in y:"}, "shell"),
    ("history_request", {"hist_access_type": "tail", "n": 1}, "shell"),
    ("comm_info_request", {}, "shell"),
    ("comm_info_request", {}, "control"),
    ("kernel_info_request", {}, "shell"),
    ("kernel_info_request", {}, "control"),
]


def requests(target: Target, count: int) -> Counter[str]:
    """Requests of all kinds race with their replies, while threads change places after every bytecode."""
    client, chance, ledger = target.client, target.chance, Ledger(target.client)
    client.execute("import asyncio, sys; before = sys.getswitchinterval(); sys.setswitchinterval(1e-6)")
    for n in range(count):
        ledger.ask(*chance.choice(KINDS))
        if n % 50 == 0:
            ledger.listen(until=chance.randrange(500))
    ledger.close()
    client.execute("sys.setswitchinterval(before)")
    return Counter(requests=count)


def vanish(target: Target, count: int) -> Counter[str]:
    """Clients connect, ask and are gone, some before they have connected; one stays, and misses nothing."""
    client, chance, ledger = target.client, target.chance, Ledger(target.client)
    for _ in range(count):
        msg_type, content, channel = chance.choice(KINDS)
        with client.context.socket(zmq.DEALER) as guest:
            guest.linger = chance.choice((0, 1, 100))
            guest.connect(endpoint(client.info, channel))
            client.session.send(guest, client.session.msg(msg_type, content=content))
            if chance.random() < 0.2:
                guest.poll(chance.randrange(20))
        ledger.ask(*chance.choice(KINDS))
        ledger.listen(until=chance.randrange(20))
    ledger.close()
    return Counter(vanished=count, requests=count)


def welcome(target: Target, count: int) -> Counter[str]:
    """Frontends come one after another; each that has been welcomed sees all of what it asks for next."""
    for n in range(count):
        client = target.kernel.client()
        run = client.execute(f"print({n})\n{n}")
        assert (run.text(), run.result, run.types[0]) == (f"{n}\n", f"{n}", "status"), run.messages
        client.close()
        target.kernel.clients.remove(client)
    return Counter(welcomed=count, requests=count)


WORK = ["x = 1", "1 + 1", "print('a' * 100)", "display(1)", "await asyncio.sleep(0.001)", "time.sleep(0.001)", "1/0",
         "for n in range(100): print(n)", "asyncio.run(asyncio.sleep(0))", "sum(range(10_000))", "list(range(1000))",
         "t = threading.Thread(target=print); t.start(); t.join()", "import this_is_not_there"]  # fmt: skip


def interrupts(target: Target, count: int) -> Counter[str]:
    """Ctrl-C at any moment: in cells, in the kernel, between messages, while all is idle."""
    client, chance, ledger = target.client, target.chance, Ledger(target.client)
    client.execute("import asyncio, threading, time")
    asked = 0
    for _ in range(count):
        for _ in range(chance.choice((0, 1, 1, 2, 5))):
            cell = {"code": chance.choice(WORK), "stop_on_error": chance.random() < 0.2}
            ledger.ask("execute_request", cell)
            asked += 1
        until = time.perf_counter() + chance.random() ** 3 * 0.01
        while time.perf_counter() < until:
            pass
        if chance.random() < 0.5:
            target.kernel.interrupt()
        else:
            ledger.ask("interrupt_request", {}, "control")
        ledger.listen(until=chance.randrange(6))
    ledger.close()
    expected = {"", "KeyboardInterrupt", "ZeroDivisionError", "ModuleNotFoundError"}
    unexpected = {name: told for name, told in ledger.tracebacks.items() if name not in expected}
    assert not unexpected, "\n".join(line for told in unexpected.values() for line in told)
    return Counter(interrupts=count, landed=ledger.errors["KeyboardInterrupt"], requests=asked)


class Reader:
    """A subscriber with hardly any room, which reads when it is told to."""

    notice = re.compile(r"\[minikernel\] (this|another) frontend has read nothing .* messages with (\d+) bytes")

    def __init__(self, target: Target, stack: ExitStack) -> None:
        self._socket = stack.enter_context(target.client.context.socket(zmq.SUB))
        self._socket.linger, self._socket.rcvhwm = 0, 1
        self._socket.subscribe(b"")
        self._socket.connect(endpoint(target.client.info, "iopub"))
        #: The characters on stdout, and those that the kernel says that this one misses, or another one.
        self.got, self.missed = 0, {"this": 0, "another": 0}
        #: Whose idle has come last.
        self.idle = ""
        self.read()

    def read(self) -> None:
        assert self._socket.poll(TIMEOUT * 1000), "nothing more for who reads late"
        frames = self._socket.recv_multipart()
        header, parent, _, content = map(json.loads, frames[frames.index(DELIMITER) + 2 :])
        if header["msg_type"] == "stream":
            self.got += len(content["text"]) if content["name"] == "stdout" else 0
            for who, number in self.notice.findall(content["text"]):
                self.missed[who] += int(number)
        if content.get("execution_state") == "idle":
            self.idle = parent["msg_id"]


def flood(target: Target, count: int) -> Counter[str]:
    """A cell prints `count` MB to one frontend that reads, one that is slow, and one that has stopped."""
    ledger, line = Ledger(target.client), target.chance.choice((80, 1000, 70_000))
    lines = count * 1_000_000 // line
    with ExitStack() as stack:
        slow, stopped = Reader(target, stack), Reader(target, stack)
        code = f"for _ in range({lines}): print('x' * {line - 1})"
        msg_id = ledger.ask("execute_request", {"code": code})
        while ledger.open:
            ledger.hear(5)
            if slow.idle != msg_id:
                slow.read()
        for late in (slow, stopped):
            while late.idle != msg_id:
                late.read()
    whole, told = lines * line, slow.missed["another"]
    assert ledger.printed == slow.got + slow.missed["this"] == whole, (ledger.printed, slow.got, slow.missed, whole)
    assert stopped.got + stopped.missed["this"] == whole and stopped.missed["this"] == told, (stopped.missed, told)
    return Counter({"MB printed": count, "MB left out, aloud": told // 1_000_000, "requests": 1})


def fuzz(target: Target, count: int) -> Counter[str]:
    """Damaged messages on every socket, and requests with any content; these are answered."""
    client, chance, ledger = target.client, target.chance, Ledger(target.client)
    session = Session(client.info["key"].encode())
    with ExitStack() as stack:
        attackers = {}
        for channel in ("shell", "control", "stdin", "iopub", "hb"):
            kind = zmq.XSUB if channel == "iopub" else zmq.DEALER
            attackers[channel] = stack.enter_context(client.context.socket(kind))
            attackers[channel].linger = 0
            attackers[channel].connect(endpoint(client.info, channel))
        for _ in range(count):
            channel = chance.choice((*attackers, "shell", "shell", "control"))
            way = chance.random()
            if way < 0.5 and channel in ("shell", "control"):
                msg_type, frames = fuzzing.request(chance, session)
                client.sockets[channel].send_multipart(frames)
                ledger.expect(json.loads(frames[2])["msg_id"], channel if reply_type(msg_type) else "")
            elif way < 0.95:
                attackers[channel].send_multipart(fuzzing.message(chance, session))
            else:
                with (
                    suppress(OSError),
                    socket.create_connection(("127.0.0.1", client.info[f"{channel}_port"])) as raw,
                ):
                    raw.sendall(chance.choice((b"", fuzzing.GREETING)) + chance.randbytes(chance.randrange(100)))
            ledger.listen(until=chance.randrange(20))
            for attacker in attackers.values():
                while attacker.poll(0):
                    attacker.recv_multipart()
        ledger.close()
    assert client.beats()
    for subshell_id in client.request("list_subshell_request", channel="control").reply["subshell_id"]:
        client.request("delete_subshell_request", {"subshell_id": subshell_id}, "control")
    return Counter({"bad inputs": count})


def damage(target: Target, count: int) -> Counter[str]:
    """A kernel whose cell has broken what it stands on still answers, and ends when it is told to."""
    for _ in range(count):
        name = target.chance.choice(list(CELLS))
        with target.fresh() as kernel:
            client = kernel.client()
            client.execute(CELLS[name])
            assert client.request("kernel_info_request").status == "ok", name
            assert client.execute("6 * 7").result == "42", name
            client.send("shutdown_request", {"restart": False}, "control")
            assert kernel.wait() == 0, name
            kernel.log.write_text("")  # what was broken is said there
    return Counter({"faults survived": count})


FORKS = [
    "if os.fork() == 0: print('child'); sys.exit(0)\nos.wait()[0] > 0",
    "if os.fork() == 0: 1 / 0\nos.wait()[0] > 0",
    "child = context.Process(target=print, args=('child',)); child.start(); child.join(); child.exitcode == 0",
    "with context.Pool(2) as pool: answers = pool.map(abs, [-1, 2])\nanswers == [1, 2]",
    "subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True).stdout == b'1\\n'",
    "os.system('echo child') == 0",
    "t = [threading.Thread(target=print, args=('t',)) for _ in range(20)]; [x.start() for x in t]; [x.join() for x in t]; True",
]


def forks(target: Target, count: int) -> Counter[str]:
    """Children and threads of cells come and go; none is left, and each cell ends once."""
    client, pid = target.client, target.kernel.pid
    client.execute("import multiprocessing, os, subprocess, sys, threading")
    client.execute("context = multiprocessing.get_context('fork')")
    for _ in range(count):
        code = target.chance.choice(FORKS)
        run = client.execute(code, timeout=3 * TIMEOUT)
        assert run.result == "True", (code, run.reply, run.text("stderr"))
    children = Path(f"/proc/{pid}/task/{pid}/children")
    left = [child for child in children.read_text().split() if alive(int(child))] if children.exists() else []
    assert not left, f"children are left: {left}"
    return Counter({"faults survived": count, "requests": count})


def starts(target: Target, count: int) -> Counter[str]:
    """Kernels start and end in every way, also because their launcher has died; none stays behind."""
    chance = target.chance
    for _ in range(count):
        with subprocess.Popen(["sleep", "1000"]) as launcher, target.fresh(launcher=launcher.pid) as kernel:
            client = kernel.client()
            if chance.random() < 0.8:
                client.start(chance.choice(("1", "while True: pass", "input()", "await f()")), allow_stdin=True)
            way = chance.choice(("launcher", "signal", "message"))
            if way == "signal":
                kernel.process.send_signal(signal.SIGTERM)
            elif way == "message":
                client.send("shutdown_request", {"restart": chance.random() < 0.5}, "control")
            if way != "launcher":
                assert kernel.wait() == 0, way
            launcher.kill()
            assert kernel.wait() == 0, way
    return Counter(starts=count)


#: How a cell gives something away that prints its number later, when `go` says so.
BELONGINGS = {
    "a thread": "t = threading.Thread(target=lambda: (go.wait(60), print({n}))); t.start(); own.append(t.join)",
    "a thread of a thread": "def f():\n    t = threading.Thread(target=lambda: (go.wait(60), print({n}))); t.start(); own.append(t.join)\n"
    "t = threading.Thread(target=f); t.start(); t.join()",
    "a job": "f = pool.submit(lambda: (go.wait(60), print({n}))); own.append(f.result)",
    "a task": "async def f():\n    await event.wait(); print({n})\nt = asyncio.create_task(f()); tasks.append(t)",
    "a failing task": "async def f():\n    await event.wait(); raise ValueError({n})\nt = asyncio.create_task(f()); tasks.append(t)",
    "a timer": "async def f():\n    await event.wait(); asyncio.get_running_loop().call_later(0.001, print, {n}); await asyncio.sleep(0.01)\n"
    "t = asyncio.create_task(f()); tasks.append(t)",
    "a task that awaits a thread": "async def f():\n    await event.wait(); await asyncio.to_thread(print, {n})\n"
    "t = asyncio.create_task(f()); tasks.append(t)",
}
SET_UP = (
    "import asyncio, gc, threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "go, event, own, tasks, t, f = threading.Event(), asyncio.Event(), [], [], None, None\npool = ThreadPoolExecutor(100)"
)
SET_OFF = (
    "go.set(); event.set()\nfor wait in own: wait()\nawait asyncio.wait(tasks) if tasks else None\n"
    "pool.shutdown(); del t, f; tasks.clear(); gc.collect();"
)


def belongings(target: Target, count: int) -> Counter[str]:
    """Threads, jobs, tasks and timers of many cells print at once; each line comes below the cell that it is of."""
    client, chance = target.client, target.chance
    for start in range(0, count, 50):
        client.execute(SET_UP)
        cells = {}
        for n in range(start, min(start + 50, count)):
            kind = chance.choice(list(BELONGINGS))
            run = client.execute(BELONGINGS[kind].format(n=f"'<{n}>'"))
            assert run.status == "ok", (kind, run.reply)
            cells[n] = (run.message["parent_header"]["msg_id"], kind)
        run = client.execute(SET_OFF)
        assert run.status == "ok" and not run.outputs, run.messages
        left = dict(cells)
        while left:
            message = client.wait_for("iopub", lambda m: m["msg_type"] == "stream", TIMEOUT)
            for n in map(int, re.findall(r"<(\d+)>", message["content"]["text"])):
                assert message["parent_header"]["msg_id"] == cells[n][0], f"{cells[n][1]} prints below another cell"
                left.pop(n, None)
        client.iopub.clear()
    return Counter({"lines in their cells": count, "requests": count})


class Grabber:
    """A thread that takes ports of this machine and gives them back, all the time."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._grab)

    def __enter__(self) -> Grabber:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _grab(self) -> None:
        held: deque[socket.socket] = deque()
        while not self._ended.wait(0.001):
            held.append(socket.create_server(("127.0.0.1", 0)))
            if len(held) > 500:
                held.popleft().close()
        for each in held:
            each.close()


def registers(target: Target, count: int) -> Counter[str]:
    """Kernels start, some at once, that choose their ports themselves and register, while others take and leave ports."""
    directory, key = target.kernel.connection_file.parent, "a key"
    for start in range(0, count, 8):
        names = [f"{os.urandom(4).hex()}-{n}" for n in range(start, min(start + 8, count))]
        with ExitStack() as stack:
            stack.enter_context(Grabber())
            launcher = stack.enter_context(target.client.context.socket(zmq.ROUTER))
            launcher.linger, port = 0, launcher.bind_to_random_port("tcp://127.0.0.1")
            kernels = {}
            for name in names:
                info = {"kernel_id": name, "registration_ip": "127.0.0.1", "registration_port": port, "key": key}
                file = directory / f"registration-{name}.json"
                file.write_text(json.dumps(info))
                env = {"JUPYTER_RUNTIME_DIR": str(directory)}
                kernels[name] = KernelProcess(directory, env=env, connection_file=file)
                stack.callback(kernels[name].close)
            for _ in names:
                assert launcher.poll(TIMEOUT * 1000), [kernel.stderr() for kernel in kernels.values()]
                peer, *_, content = launcher.recv_multipart()
                acknowledged = [b"ACK"]
                launcher.send_multipart([peer, DELIMITER, Session(key.encode()).sign(acknowledged), *acknowledged])
                kernel = kernels[json.loads(content)["kernel_id"]]
                kernel.connection_file = directory / f"kernel-{json.loads(content)['kernel_id']}.json"
                client = kernel.client()
                assert client.execute("import os; os.getpid()").result == str(kernel.pid)
                client.send("shutdown_request", {"restart": False}, "control")
            for kernel in kernels.values():
                assert kernel.wait() == 0, kernel.stderr()
    return Counter(starts=count)


STORMS = {
    each.__name__: each
    for each in (
        requests, vanish, welcome, interrupts, flood, fuzz, damage, forks, starts, belongings, registers,
    )
}  # fmt: skip
