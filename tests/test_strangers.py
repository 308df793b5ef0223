"""What anybody who can connect may send, without a key: it costs them their connection, and nobody else anything."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from client import TIMEOUT, KernelProcess, endpoint, hung_up, memory_of, stranger

from minikernel.protocol.iopub import LARGEST, MOST
from minikernel.tools.page import KEEP_FRAMES, row
from minikernel.tools.transcript import Transcript

Start = Callable[..., KernelProcess]

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
KERNEL, RELAY = (), ("trace", "--kernel", "minikernel", "-o", os.devnull)
both = pytest.mark.parametrize("command", [KERNEL, RELAY], ids=["kernel", "relay"])
pytestmark = pytest.mark.usefixtures("kernelspec")


def subscription(topic: bytes, said: bytes = b"\x01") -> bytes:
    """What subscribes, on the wire (ZMTP 3.0)."""
    return b"\x02" + (len(topic) + 1).to_bytes(8, "big") + said + topic


def send(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):  # it may be hung up on in the midst of it
        connection.sendall(data)


@linux
@both
def test_a_topic_is_not_endless(start: Start, command: tuple[str, ...]) -> None:
    """Of each byte libzmq makes a level of a tree."""
    kernel = start(command=command)
    client = kernel.client()
    assert client.execute("6 * 7").result == "42"
    before = memory_of(kernel)
    for topic in (b"x" * 1_000_000, b"x" * LARGEST):
        with stranger(client.info["iopub_port"]) as connection:
            send(connection, subscription(topic))
            assert hung_up(connection)
    assert memory_of(kernel) - before < 10_000_000
    kernel.client(subscribe=b"x" * (LARGEST - 100))  # waits for its iopub_welcome
    assert client.execute("6 * 7").result == "42"


def test_topics_are_few(kernel: KernelProcess) -> None:
    client = kernel.client()
    with stranger(client.info["iopub_port"]) as connection:
        heard = b""
        for number in range(MOST):
            send(connection, subscription(b"%07d" % number))
        while heard.count(b"iopub_welcome") < MOST:
            heard += connection.recv(1 << 16)
        send(connection, subscription(b""))  # all of them, which is always possible
        while not re.search(rb'"subscription": ?""', heard):
            heard += connection.recv(1 << 16)
        assert client.execute("print('for all')").text() == "for all\n"
        while b"for all\\n" not in heard:
            heard += connection.recv(1 << 16)
        send(connection, b"".join(subscription(b"%07d" % number) for number in range(100_000)))
        assert hung_up(connection)
    assert client.execute("6 * 7").result == "42"
    assert 0 < len(kernel.stderr().splitlines()) < 200


@linux
def test_a_subscription_over_and_over(kernel: KernelProcess) -> None:
    """Who reads a little all the time can't have answers pile up, nor hold up those of others."""
    client = kernel.client()
    assert client.execute("6 * 7").result == "42"
    before = memory_of(kernel)
    over = threading.Event()
    with stranger(client.info["iopub_port"]) as connection:

        def read() -> None:
            while not over.wait(0.005):
                connection.recv(500)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(20):
                send(connection, subscription(b"of nobody") * 10_000)
                assert client.execute("import time; time.sleep(0.05); 6 * 7").result == "42"
                assert memory_of(kernel) - before < 30_000_000
        finally:
            over.set()
            reader.join()


@linux
@pytest.mark.parametrize("stays", [True, False])
def test_rubbish_confuses_no_subscriptions(kernel: KernelProcess, tmp_path: Path, stays: bool) -> None:
    """They arrive while the kernel can't look, and so all at once: this is where libzmq mixes them up."""
    client = kernel.client()
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    run = client.start(
        f"import ctypes, os; fd = os.open({fifo!r}, os.O_RDWR); print('held')\n"
        "import time; time.sleep(0.3)\n"
        "ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)"
    )
    client.output(run, "held")
    held = threading.Event()
    context = zmq.Context()
    try:
        with stranger(client.info["iopub_port"]) as connection:
            held.wait(0.6)  # until the lock is held
            send(connection, b"\0\1?" * 7)
            held.wait(0.2)
            late = []
            for _ in range(5):
                late.append(context.socket(zmq.SUB))
                late[-1].subscribe(b"")
                late[-1].connect(endpoint(client.info, "iopub"))
                held.wait(0.05)
            if not stays:
                connection.close()
            held.wait(0.2)
            with open(fifo, "wb") as file:
                file.write(b"\0")
            assert client.finish(run).status == "ok"
            for each in late:
                assert each.poll(TIMEOUT * 1000) and b"iopub_welcome" in each.recv_multipart()[3]
            assert not stays or hung_up(connection)
        client.execute("print('to all')")
        for each in late:
            texts: list[list[bytes]] = []
            while not any(b'"idle"' in frames[6] for frames in texts):
                assert each.poll(TIMEOUT * 1000), "it is deaf"
                texts.append(each.recv_multipart())
            assert sum(b"to all" in frames[6] for frames in texts) == 2  # the input, and the output
        assert not stays or "hung up on a subscriber" in kernel.stderr()
    finally:
        context.destroy(linger=0)


@both
def test_nobody_takes_back_what_others_have_asked_for(start: Start, command: tuple[str, ...]) -> None:
    kernel = start(command=command)
    client = kernel.client()
    with stranger(client.info["iopub_port"]) as connection:
        send(connection, subscription(b"", b"\0") * 3)
        assert client.execute("6 * 7").result == "42"
        send(connection, b"\0\4junk")
        assert command or hung_up(connection)
        assert client.execute("6 * 7").result == "42"  # and who comes from here on is not mixed up with it
    for number in range(MOST + 1):  # of different frontends, and by a relay they are one
        with stranger(client.info["iopub_port"]) as connection:
            send(connection, subscription(b"%07d" % number))
    assert client.execute("6 * 7").result == "42"
    assert kernel.client().execute("6 * 7").result == "42"


@linux
def test_a_heartbeat_that_nobody_reads(kernel: KernelProcess) -> None:
    client = kernel.client()
    assert client.execute("6 * 7").result == "42" and client.beats()
    before = memory_of(kernel)
    with stranger(client.info["hb_port"], b"DEALER") as connection:
        for _ in range(500):
            send(connection, b"\0\0" * 10_000)
            assert memory_of(kernel) - before < 30_000_000
        assert client.execute("6 * 7").result == "42" and client.beats()


def test_what_is_refused_fills_no_disk(start: Start, tmp_path: Path) -> None:
    client = start("--record", str(tmp_path / "record")).client()
    with stranger(client.info["shell_port"], b"DEALER") as connection:
        send(connection, b"\0\1?" * 20_000)
        while (tmp_path / "record").read_text().count("refused") < 1000 + 19:
            client.execute("6 * 7")
        client.execute("6 * 7")
    assert (tmp_path / "record").read_text().count("refused") < 1000 + 21


def test_a_complaint_is_short(kernel: KernelProcess) -> None:
    client = kernel.client()
    opened = client.send("comm_open", {"comm_id": "c", "target_name": "\x1b[2J" * 100_000, "data": {}})
    client.finish(opened, reply=False)
    assert 0 < len(kernel.stderr()) < 1000 and "\x1b" not in kernel.stderr()


def test_the_page_shows_a_part_of_many_frames() -> None:
    transcript = Transcript({"key": "", "signature_scheme": "hmac-sha256"}, relayed=True)
    (entry,) = transcript.read([(0.0, "in", "shell", [b"x"] * 100_000)])
    shown = row(entry)["frames"]
    assert len(shown) == KEEP_FRAMES + 1
    assert shown[-1] == {"name": f"{100_000 - KEEP_FRAMES} more frames", "size": 100_000 - KEEP_FRAMES}
