"""The five sockets: brackets, several clients, subscriptions, liveness while user code runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from client import Client, KernelProcess


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_every_channel(start: Callable[..., KernelProcess], transport: str) -> None:
    kernel = start(transport=transport)
    client = kernel.client()
    assert client.execute("1").result == "1"
    assert client.beats()
    for channel in ("shell", "control"):
        info = client.request("kernel_info_request", channel=channel).reply
        assert info["protocol_version"] == "5.6" and info["implementation"] == "minikernel"
        assert info["language_info"]["name"] == "python" and info["language_info"]["file_extension"] == ".py"
        ports = client.request("connect_request", channel=channel).reply
        assert {name: ports[name] for name in ports if name != "status"} == {
            name: port for name, port in client.info.items() if name.endswith("_port")
        }
        assert client.request("comm_info_request", channel=channel).reply["comms"] == {}
    client.request("shutdown_request", channel="control")
    assert kernel.wait() == 0
    if transport == "ipc":
        assert not list(Path(client.info["ip"]).parent.glob("*-ipc-*")), "sockets left behind"


def test_another_loopback_address(start: Callable[..., KernelProcess]) -> None:
    client = start(ip="127.0.0.2").client()
    assert client.info["ip"] == "127.0.0.2"
    assert client.execute("1").result == "1" and client.beats()


def test_every_subscriber_and_topic_is_welcomed(kernel: KernelProcess) -> None:
    kernel.client()
    kernel.client()
    late = kernel.client(subscribe=None)
    for topic in (b"stream", b"status", b""):
        late.sockets["iopub"].subscribe(topic)
        welcome = late.wait_for("iopub", lambda m: m["msg_type"] == "iopub_welcome")
        assert welcome["content"] == {"subscription": topic.decode()} and welcome["parent_header"] == {}
        assert welcome["idents"][0].startswith(topic + b"@")  # its address, as of all messages
    late.sockets["iopub"].subscribe(b"\xff")
    late.sockets["iopub"].unsubscribe(b"status")
    assert late.execute("1").result == "1"


def test_topics_choose(kernel: KernelProcess) -> None:
    client = kernel.client()
    reader = kernel.client(subscribe=b"stream.stdout")
    client.execute("print('out'); import sys; print('err', file=sys.stderr); 1")
    message = reader.receive("iopub")
    assert message["msg_type"] == "stream" and message["content"] == {"name": "stdout", "text": "out\n"}


def test_two_clients_at_once(kernel: KernelProcess) -> None:
    one, two = kernel.client(), kernel.client()
    first, second = one.start("x = 'ones'; x"), two.start("y = 'twos'; y")
    assert one.finish(first).result == "'ones'"
    assert two.finish(second).result == "'twos'"
    both = one.execute("x, y")
    assert both.result == "('ones', 'twos')"
    seen = two.wait_for("iopub", lambda m: m["msg_type"] == "execute_input" and m["content"]["code"] == "x, y")
    assert seen["parent_header"]["session"] == one.session.session


def test_parent_headers_are_verbatim(shared: Client) -> None:
    header = shared.session.msg_header("kernel_info_request")
    header |= {"extra": [1, {"é": None}], "subshell_id": None}
    msg = shared.session.msg("kernel_info_request", content={}, header=header)
    shared.session.send(shared.sockets["shell"], msg)
    run = shared.finish(header["msg_id"])
    for message in (run.message, *run.messages):
        assert message["parent_header"]["extra"] == [1, {"é": None}]


def test_a_client_that_reconnects_keeps_its_identity(kernel: KernelProcess) -> None:
    client = kernel.client()
    for n in range(20):
        client.sockets["shell"].close()
        client.sockets["shell"] = client._connect("shell", zmq.DEALER)
        assert client.execute(str(n)).result == str(n)


BUSY = {
    "sleep": "import time; print('go'); time.sleep(3)",
    "loop": "import time; t = time.monotonic(); print('go', flush=True)\nwhile time.monotonic() < t + 3: pass",
}


@pytest.mark.parametrize("kind", BUSY)
def test_control_and_heartbeat_live_while_a_cell_runs(kernel: KernelProcess, kind: str) -> None:
    client = kernel.client()
    msg_id = client.start(BUSY[kind])
    client.output(msg_id, "go")
    for _ in range(10):
        assert client.beats()
        run = client.request("kernel_info_request", channel="control")
        assert run.status == "ok"
    # the idle of a control request must not make a frontend show an idle kernel
    states = [m for m in client.iopub if m["msg_type"] == "status"]
    assert states[-1]["content"]["execution_state"] == "idle" or states[-1]["parent_header"]["msg_id"] == msg_id
    again = client.wait_for(
        "iopub", lambda m: m["content"].get("execution_state") == "busy" and m["parent_header"]["msg_id"] == msg_id
    )
    assert again
    client.finish_rest(msg_id)


def test_the_heart_beats_while_the_gil_is_held(kernel: KernelProcess, tmp_path: Path) -> None:
    client = kernel.client()
    os.mkfifo(tmp_path / "fifo")
    msg_id = client.start(
        f"import ctypes, os; fifo = os.open({str(tmp_path / 'fifo')!r}, os.O_RDONLY)\n"
        "ctypes.PyDLL(None).read(fifo, ctypes.create_string_buffer(1), 1)"
    )
    with open(tmp_path / "fifo", "wb", buffering=0) as fifo:
        asked = client.send("kernel_info_request", channel="control")
        while client.sockets["control"].poll(500):  # not yet: Python still runs, if not until it has said idle
            client.receive("control")
            asked = client.send("kernel_info_request", channel="control")
        for _ in range(50):
            assert client.beats()
        assert not client.sockets["control"].poll(0)
        fifo.write(b"x")
    client.finish(asked, "control")
    assert client.finish(msg_id).status == "ok"


def test_large_buffers_and_cells(shared: Client) -> None:
    code = "x = '" + "y" * 5_000_000 + "'; len(x)"
    assert shared.execute(code).result == "5000000"
    assert len(shared.execute("'z' * 20_000_000").result or "") == 20_000_002


def test_ports_of_the_file_are_the_ports_that_are_bound(start: Callable[..., KernelProcess]) -> None:
    kernel = start()
    client = kernel.client()
    assert client.execute("import minikernel; minikernel.get_connection_info()['shell_port']").result == str(
        client.info["shell_port"]
    )
    assert os.stat(kernel.connection_file).st_mode & 0o777 == 0o600
