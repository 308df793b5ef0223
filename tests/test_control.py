"""What is asked on control; encryption; and requests on the other channel than their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from client import Client, KernelProcess

from minikernel.protocol.messages import MESSAGES


def test_usage(client: Client) -> None:
    client.execute("sum(range(10 ** 6))")
    first = client.request("usage_request", channel="control").reply
    assert first["pid"] > 0 and first["hostname"] and first["cpu_count"] > 0
    client.execute("sum(range(10 ** 7)); x = bytearray(50_000_000)")
    second = client.request("usage_request", channel="control").reply
    assert second["kernel_cpu"] > 0 and second["kernel_memory"] > first["kernel_memory"]
    assert {"total", "available", "percent", "used", "free"} <= set(second["host_virtual_memory"])
    assert 0 <= second["host_cpu_percent"] <= 100


def test_an_execute_request_on_control(client: Client) -> None:
    msg_id = client.send("execute_request", {"code": "1 + 1"}, "control")
    assert client.finish(msg_id, "control").result == "2"


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_every_request_is_answered_on_both_channels(kernel: KernelProcess, channel: str) -> None:
    client = kernel.client()
    samples = {"code": "1", "cursor_pos": 1, "comm_id": "x", "command": "debugInfo", "subshell_id": "x"}
    for msg_type, spec in MESSAGES.items():
        if spec.sender != "frontend" or spec.reply is None or msg_type == "shutdown_request":
            continue
        for content in ({name: samples[name] for name in spec.fields if name in samples}, {}, {"code": 5}, None):
            run = client.request(msg_type, content if content is not None else {"extra": 1}, channel)
            assert run.reply.get("status") or run.reply.get("command") or "pid" in run.reply, msg_type
    assert client.execute("1").result == "1"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_encryption(start: Callable[..., KernelProcess], transport: str) -> None:
    if not zmq.has("curve"):
        pytest.skip("this libzmq has no curve")
    from minikernel.protocol.curve import key_pair

    client = start(transport=transport, **key_pair()).client()
    assert client.execute("6 * 7").result == "42" and client.beats()
    plain = zmq.Context()
    socket = plain.socket(zmq.REQ)
    socket.linger = 0
    from client import endpoint

    socket.connect(endpoint(client.info, "hb"))
    socket.send(b"in plain text")
    assert not socket.poll(300)
    plain.destroy(linger=0)


def test_a_manager_that_requires_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("jupyter_client.manager")
    if not zmq.has("curve") or not hasattr(manager.KernelManager, "transport_encryption"):
        pytest.skip("no curve here")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run"))
    from minikernel.tools.install import main

    assert main(["install", "--user", "--name", "encrypted"]) == 0
    km = manager.KernelManager(kernel_name="encrypted", transport_encryption="required")
    km.start_kernel()
    client = km.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        assert client.execute_interactive("1", timeout=20)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        km.shutdown_kernel()


def test_exit_of_one_of_two_frontends_keeps_the_kernel(kernel: KernelProcess) -> None:
    one, two = kernel.client(), kernel.client()
    one.execute("1")
    run = two.execute("exit()")
    assert run.reply["payload"] == [{"source": "ask_exit", "keepkernel": True}]
    assert one.execute("2").result == "2"


def test_exit_ends_the_kernel(kernel: KernelProcess) -> None:
    run = kernel.client().execute("exit()")
    assert run.reply["payload"] == [{"source": "ask_exit", "keepkernel": False}]
    assert kernel.wait() == 0
