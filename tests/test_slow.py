"""Frontends that read slowly, late, or not at all: what they and the others get, and what the kernel holds."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from client import TIMEOUT, Client, KernelProcess, endpoint
from jupyter_client.session import Session

from minikernel.protocol import outbox

NOTICE = re.compile(
    r"\[minikernel\] (\w+) frontend has read nothing .* misses (\d+) messages with (\d+) bytes of output\n"
)
#: Cells that set how long, and how far behind, a frontend may be; so large that it never matters, by default.
LIMITS = """
from minikernel.protocol import iopub, outbox
iopub.STALL, iopub.PATIENCE, outbox.BOUND = {stall}, {stall}, {bound}
iopub.BOUND = outbox.BOUND
"""
#: More than libzmq and the system keep for a reader.
PLENTY = 20_000_000


class Sleeper:
    """A frontend's iopub that reads only when it is told to, and has hardly any room."""

    def __init__(self, client: Client, *topics: bytes) -> None:
        self.session = Session(key=client.info["key"].encode(), signature_scheme=client.info["signature_scheme"])
        self.socket = client.context.socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = 1
        self.socket.rcvbuf = 1 << 16
        for topic in topics or (b"",):
            self.socket.subscribe(topic)
        self.socket.connect(endpoint(client.info, "iopub"))
        for _ in topics or (b"",):
            assert self.read()["msg_type"] == "iopub_welcome"
        self.heard: list[dict[str, Any]] = []

    def read(self) -> dict[str, Any]:
        assert self.socket.poll(TIMEOUT * 1000), "nothing more for who slept"
        _, frames = self.session.feed_identities(self.socket.recv_multipart())
        message: dict[str, Any] = self.session.deserialize(frames)
        return message

    def read_until(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        while True:
            message = self.read()
            self.heard.append(message)
            if wanted(message):
                return message

    def read_to_the_idle_of(self, msg_id: str) -> list[dict[str, Any]]:
        self.read_until(lambda m: is_idle(m, msg_id))
        return self.heard


@pytest.fixture
def pair(start: Callable[..., KernelProcess]) -> Iterator[tuple[Client, Sleeper]]:
    """A frontend that reads and one that sleeps, of one kernel; how much the system holds of ipc is known."""
    client = start(transport="ipc").client()
    yield client, Sleeper(client)


def is_idle(message: dict[str, Any], msg_id: str) -> bool:
    return message["content"].get("execution_state") == "idle" and message["parent_header"].get("msg_id") == msg_id


def is_notice(message: dict[str, Any]) -> bool:
    return message["msg_type"] == "stream" and message["content"]["text"].startswith("[minikernel]")


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """Return the texts that a program has printed."""
    return [m["content"]["text"] for m in messages if m["msg_type"] == "stream" and not is_notice(m)]


def notices(messages: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Return the notices: whom they are about, and how many messages and bytes of output that one misses."""
    found = [NOTICE.fullmatch(m["content"]["text"]) for m in messages if is_notice(m)]
    return [(match[1], int(match[2]), int(match[3])) for match in found if match]


def hear(client: Client, msg_id: str) -> list[dict[str, Any]]:
    """Read what everybody sees of a request, without its reply."""
    while not client.iopub or not is_idle(client.iopub[-1], msg_id):
        client.receive("iopub")
    return [m for m in client.iopub if m["parent_header"].get("msg_id") == msg_id]


def flood(size: int) -> str:
    """Return code that prints this many bytes, of which no part is like another."""
    return f"for n in range({size} // 1000): print(f'{{n:08}}'.ljust(999, '.'))\n"


def test_who_sleeps_gets_every_line_and_holds_up_nobody(pair: tuple[Client, Sleeper]) -> None:
    client, sleeper = pair
    client.execute(LIMITS.format(stall=1e9, bound=1 << 30))
    del client.iopub[:]
    lines = [f"{n:08}".ljust(4000, ".") for n in range(6000)]
    code = "import sys\nfor n in range(6000): print(f'{n:08}'.ljust(4000, '.'), file=(sys.stdout, sys.stderr)[n % 2])\n1"
    msg_id = client.start(code)
    assert "".join(texts(hear(client, msg_id))).split() == lines
    heard = sleeper.read_to_the_idle_of(msg_id)
    assert "".join(texts(heard)).split() == lines
    assert [m["msg_type"] for m in heard][-2:] == ["execute_result", "status"]
    client.wait_for("shell", lambda m: m["parent_header"]["msg_id"] == msg_id)
    assert not notices(heard + client.iopub)


def test_who_reads_slowly_gets_every_line(pair: tuple[Client, Sleeper]) -> None:
    """It takes a message whenever the other has nothing to read, for the program waits."""
    client, sleeper = pair
    client.execute(LIMITS.format(stall=1e9, bound=1 << 20))
    del client.iopub[:]
    msg_id = client.start(flood(PLENTY) + "print('end')")
    socket = client.sockets["iopub"]
    done = False
    while not done:
        while not done and socket.poll(5):
            done = is_idle(client.receive("iopub"), msg_id)
        if not done:
            sleeper.heard.append(sleeper.read())
    # the rest is on its way: 1 MiB in the kernel, 8 in libzmq, less in the system
    assert len("".join(texts(sleeper.heard))) > PLENTY - 12_000_000, "the program has not waited"
    heard = sleeper.read_to_the_idle_of(msg_id)
    text = "".join(texts(client.iopub))
    assert text.endswith("end\n") and len(text) == PLENTY + 4
    assert "".join(texts(heard)) == text and not notices(heard + client.iopub)


@pytest.mark.timeout(180)
def test_who_is_stopped_is_left_out_and_all_are_told_how_much(start: Callable[..., KernelProcess]) -> None:
    """200 MB: the program goes on, the memory stays, and the counts are right."""
    kernel = start(env={"MINIKERNEL_RECORD": ""})  # 200 MB less
    client = kernel.client()
    sleeper = Sleeper(client)
    client.execute("from minikernel.protocol import iopub; iopub.STALL = 1")
    before = memory(kernel)
    msg_id = client.start(flood(200_000_000))
    mine = hear(client, msg_id)
    grown = memory(kernel) - before
    text = "".join(texts(mine))
    assert len(text) == 200_000_000
    [(who, messages, missed)] = notices(mine)
    assert who == "another" and messages and missed
    assert is_notice(mine[-2]), "the count is told at the end, when it is known"
    assert client.execute("6 * 7").result == "42"
    again = client.execute("print('seen by one')")

    heard = sleeper.read_to_the_idle_of(again.message["parent_header"]["msg_id"])
    kept = "".join(texts(heard))
    assert kept == text[: len(kept)] and len(kept) + missed == len(text)
    assert len(texts(heard)) + messages == len(texts(mine))
    assert notices(heard) == [("this", messages + 1, missed + len("seen by one\n"))]
    gap = next(n for n, m in enumerate(heard) if is_notice(m))
    assert not texts(heard[gap:])
    # what is not text is kept, in its order
    assert [(m["msg_type"], m["content"].get("execution_state")) for m in heard[gap + 1 :]] == [
        ("status", "idle"),
        ("status", "busy"), ("execute_input", None), ("execute_result", None), ("status", "idle"),
        ("status", "busy"), ("execute_input", None), ("status", "idle"),
    ]  # fmt: skip
    client.execute("print('seen by both')")
    sleeper.read_until(lambda m: m["content"].get("text") == "seen by both\n")
    assert len(notices(client.iopub)) == 1
    assert grown < 160, f"{grown} MB"


def memory(kernel: KernelProcess) -> int:
    """Return the most memory that a kernel has had, in megabytes; 0 where that is not told."""
    if not os.path.exists(f"/proc/{kernel.pid}/status"):
        return 0
    with open(f"/proc/{kernel.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024


def test_who_reads_again_while_the_cell_runs(pair: tuple[Client, Sleeper]) -> None:
    client, sleeper = pair
    client.execute(LIMITS.format(stall=0.2, bound=1 << 20))
    del client.iopub[:]
    msg_id = client.start(flood(PLENTY) + "input()\nprint('more')", allow_stdin=True)
    client.wait_for("stdin", lambda m: m["msg_type"] == "input_request", 3 * TIMEOUT)
    sleeper.read_until(is_notice)
    client.send("input_reply", {"value": ""}, "stdin")
    mine, heard = hear(client, msg_id), sleeper.read_to_the_idle_of(msg_id)
    text, kept = "".join(texts(mine)), "".join(texts(heard))
    [(who, messages, missed)] = notices(mine)
    assert who == "another" and notices(heard) == [("this", messages, missed)]
    assert text.endswith("more\n") and kept.endswith("more\n")
    assert len(kept) + missed == len(text) and len(texts(heard)) + messages == len(texts(mine))


def test_control_waits_for_nobody(pair: tuple[Client, Sleeper]) -> None:
    client, sleeper = pair
    client.execute(LIMITS.format(stall=1e9, bound=1 << 20))
    del client.iopub[:]
    msg_id = client.start("while True: print('x' * 999)")
    size = 0
    while size < 4_000_000 or client.sockets["iopub"].poll(50):  # until the program is made to wait
        size += len(client.receive("iopub")["content"].get("text", ""))
    for msg_type in ("kernel_info_request", "usage_request", "interrupt_request"):
        assert client.request(msg_type, channel="control").status in ("ok", None)
    mine = hear(client, msg_id)
    assert mine[-2]["content"]["ename"] == "KeyboardInterrupt"
    # the cell's reply comes after its output has been handed over to all
    assert not client.sockets["shell"].poll(0)
    heard = sleeper.read_to_the_idle_of(msg_id)
    assert client.wait_for("shell", lambda m: m["parent_header"]["msg_id"] == msg_id)
    assert "".join(texts(heard)) == "".join(texts(mine))


def test_the_program_goes_on_when_who_slept_has_gone(pair: tuple[Client, Sleeper]) -> None:
    client, sleeper = pair
    client.execute(LIMITS.format(stall=1e9, bound=1 << 20))
    del client.iopub[:]
    msg_id = client.start(flood(PLENTY))
    size = 0
    while size < 4_000_000:
        size += len(client.receive("iopub")["content"].get("text", ""))
    sleeper.socket.close()
    client.wait_for("shell", lambda m: m["parent_header"]["msg_id"] == msg_id, 3 * TIMEOUT)
    mine = hear(client, msg_id)
    assert len("".join(texts(mine))) == PLENTY and not notices(mine)


def test_a_shutdown_waits_for_nobody(kernel: KernelProcess) -> None:
    client = kernel.client()
    sleeper = Sleeper(client)
    msg_id = client.start(flood(PLENTY))
    hear(client, msg_id)
    request = client.send("shutdown_request", {"restart": False}, "control")
    assert client.wait_for("control", lambda m: m["msg_type"] == "shutdown_reply")
    hear(client, request)
    assert kernel.wait() == 0
    assert sleeper.read()["msg_type"] == "status"


def test_topics_of_one_connection_are_one_subscriber(kernel: KernelProcess) -> None:
    client = kernel.client()
    sleeper = Sleeper(client, b"", b"stream", b"stream.stdout", b"status")
    one = Sleeper(client, b"stream.stderr", b"execute_result")
    msg_id = client.start("import sys; print('out'); print('err', file=sys.stderr); 1")
    heard = sleeper.read_to_the_idle_of(msg_id)
    assert texts(heard) == ["out\n", "err\n"]
    assert [m["msg_type"] for m in heard if m["parent_header"].get("msg_id") == msg_id] == [
        "status", "execute_input", "stream", "stream", "execute_result", "status",
    ]  # fmt: skip
    assert [one.read()["msg_type"] for _ in range(2)] == ["stream", "execute_result"]
    client.finish(msg_id)
    sleeper.socket.unsubscribe(b"")
    sleeper.socket.unsubscribe(b"stream.stdout")
    code = "from minikernel.kernel.request import current_request as r; print(r().kernel.channels.subscriptions)"
    deadline = time.monotonic() + TIMEOUT
    while client.execute(code).text() != "5\n":
        assert time.monotonic() < deadline
    while sleeper.read()["content"].get("text") != "5\n":
        pass


def test_who_has_gone_is_forgotten(client: Client) -> None:
    code = "from minikernel.kernel.request import current_request as r; print(r().kernel.channels.subscriptions)"
    for _ in range(30):
        Sleeper(client, b"", b"stream").socket.close()
    deadline = time.monotonic() + TIMEOUT
    while client.execute(code).text() != "1\n":
        assert time.monotonic() < deadline


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_kernel_is_small(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute("1")
    client.execute("display({'image/png': 'x' * 500_000}, raw=True); print('x' * 500_000)")

    def entries(what: str) -> int:
        return len(os.listdir(f"/proc/{kernel.pid}/{what}"))

    deadline = time.monotonic() + TIMEOUT
    connections = 5  # of this frontend
    while entries("task") > 5 or entries("fd") > 25 + connections + 1:  # the record
        assert time.monotonic() < deadline, (entries("task"), entries("fd"))
        time.sleep(0.05)


def test_crumbs_that_several_threads_append_without_a_lock() -> None:
    """Each arrives once, and those of a thread in their order, though texts are taken while they are written to."""
    box, owner, amount = outbox.Outbox(), object(), 20_000

    def write(thread: int) -> None:
        text = outbox.Text(b"", "stdout", None)
        for n in range(amount):
            crumb = f"{thread}:{n};"
            if text is box.tail and text.room > len(crumb):
                text.room -= len(crumb)
                text.append(crumb)
                if text.closed:
                    box.recover(text)
            else:
                text = box.write(b"{}", "stdout", crumb, owner)

    threads = [threading.Thread(target=write, args=[n], daemon=True) for n in range(3)]
    texts = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + TIMEOUT
        while True:
            living = any(thread.is_alive() for thread in threads)
            entry = box.take()
            if isinstance(entry, outbox.Text):
                texts.append(entry.text)
            elif entry is None and not living:
                break
            assert time.monotonic() < deadline
    finally:
        sys.setswitchinterval(interval)
        box.close()
    crumbs = re.findall("[^;]+;", "".join(texts))
    for n in range(3):
        assert [item for item in crumbs if item.startswith(f"{n}:")] == [f"{n}:{i};" for i in range(amount)]


def test_who_reads_slowly_holds_up_no_reply_for_long(kernel: KernelProcess) -> None:
    """Nor does one who never stops reading."""
    client = kernel.client()
    client.execute("from minikernel.protocol import iopub; iopub.STALL, iopub.PATIENCE = 1, 60")
    slow, over = Sleeper(client), threading.Event()

    def read() -> None:
        while not over.wait(0.02):
            if slow.socket.poll(0):
                slow.read()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert client.execute("for n in range(1500): display('x' * 20_000)", timeout=10).status == "ok"
    finally:
        over.set()
        reader.join()
    last = slow.read_until(lambda m: m["content"].get("execution_state") == "idle")
    assert last["parent_header"]["msg_type"] == "execute_request"
