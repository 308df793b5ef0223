"""``minikernel doctor``: each reason why a frontend can't connect, told in words, and the key never."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from client import KernelProcess
from line import Line

import minikernel
from minikernel.protocol import curve
from minikernel.tools import doctor
from minikernel.tools.doctor import main

Start = Callable[..., KernelProcess]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Examine a file; return the lines.  No key may be among them."""
    keys: list[str] = []

    def ask(path: Path | str, healthy: bool = False, patience: float = 20) -> list[str]:
        monkeypatch.setattr(doctor, "PATIENCE", patience)
        code = main(["doctor", str(path)])
        said = capsys.readouterr()
        text = said.out + said.err
        try:
            fields = json.loads(Path(path).read_bytes())
            keys.extend(fields[name] for name in ("key", "curve_secretkey") if fields.get(name))
        except (OSError, ValueError, AttributeError):
            pass
        assert not any(key in text for key in keys), text
        assert code == (not healthy), text
        assert any(line.startswith("bad") for line in text.splitlines()) != healthy
        return text.splitlines()

    yield ask


Ask = Callable[..., list[str]]


def edit(path: Path, **fields: Any) -> Path:
    """Write a changed copy of a connection file; a field that is None is left out."""
    copy = path.with_name(f"copy-{os.urandom(4).hex()}.json")
    info = json.loads(path.read_bytes()) | fields
    copy.write_text(json.dumps({name: value for name, value in info.items() if value is not None}))
    copy.chmod(0o600)
    return copy


def test_a_healthy_kernel(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    lines = ask(kernel.connection_file, healthy=True)
    assert {line.split()[0] for line in lines[:-1]} == {"ok"}
    assert "minikernel" in " ".join(lines) and lines[-1].endswith(
        f"jupyter console --existing {kernel.connection_file}"
    )
    if os.path.isdir("/proc"):
        assert any(f"process {kernel.pid}" in line for line in lines)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_an_encrypted_kernel(transport: str, start: Start, ask: Ask) -> None:
    kernel = start(transport=transport, **curve.key_pair())
    kernel.client()  # which waits for it
    assert any("encryption" in line for line in ask(kernel.connection_file, healthy=True))
    others = curve.key_pair()
    assert "other keys than the file's" in ask(edit(kernel.connection_file, **others))[-1]
    none = dict.fromkeys(others)
    assert "kernel encrypts (curve), and the file has no keys" in ask(edit(kernel.connection_file, **none))[-1]


def test_a_file_that_asks_for_encryption(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    file = edit(kernel.connection_file, **curve.key_pair())
    assert "kernel does not encrypt" in ask(file)[-1]


@pytest.mark.parametrize("busy", [False, True])
def test_a_subscription_that_comes_late(start: Start, ask: Ask, busy: bool) -> None:
    """What the kernel says before the doctor has subscribed is not heard; it is no reason to call it ill."""
    kernel = start()
    client = kernel.client()
    if busy:
        client.output(client.start("print('here')\nwhile True: pass"), "here")
    info = minikernel.get_connection_info(kernel.connection_file)
    line = Line(info, {"iopub": 1})
    try:
        ask(edit(kernel.connection_file, **line.ports), healthy=True, patience=5)
    finally:
        line.close()


def test_another_key(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    assert "signs with another key" in ask(edit(kernel.connection_file, key="0" * 64))[-1]


def test_a_busy_kernel(start: Start, ask: Ask) -> None:
    kernel = start()
    client = kernel.client()
    run = client.start("print('here')\nwhile True: pass")
    client.output(run, "here")
    lines = ask(kernel.connection_file, healthy=True, patience=2)
    assert any("runs code at present" in line for line in lines), lines


def test_a_file_of_a_kernel_that_was_killed(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    line = ask(kernel.connection_file)[-1]
    assert "Nobody listens on any of its ports" in line
    assert not os.path.isdir("/proc") or "its kernel has ended.  Remove the file." in line
    named = kernel.connection_file.with_name(f"kernel-{kernel.pid}.json")
    os.rename(kernel.connection_file, named)
    assert f"Its kernel was process {kernel.pid}, which has ended" in ask(named)[-1]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="the state of a process is told by /proc")
def test_a_stopped_kernel(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    os.kill(kernel.pid, signal.SIGSTOP)
    os.waitpid(kernel.pid, os.WUNTRACED)
    try:
        line = ask(kernel.connection_file, patience=1)[-1]
    finally:
        os.kill(kernel.pid, signal.SIGCONT)
    assert "says nothing" in line and f"kill -CONT {kernel.pid}" in line


def test_ports_of_others(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert f"Nobody listens on shell ({port})" in ask(edit(kernel.connection_file, shell_port=port))[-1]
        other.listen()

        def greet() -> None:
            peer, _ = other.accept()
            peer.sendall(b"220 mail.example.org ESMTP\r\n")
            peer.close()

        thread = threading.Thread(target=greet)
        thread.start()
        line = ask(edit(kernel.connection_file, shell_port=port))[-1]
        thread.join()
    assert f"What listens on shell ({port}) does not speak ZeroMQ" in line
    assert not os.path.isdir("/proc") or (str(os.getpid()) in line and "different processes" in line)


def test_zeromq_that_is_no_kernel(tmp_path: Path, ask: Ask) -> None:
    context = zmq.Context()
    try:
        routers = {name: context.socket(zmq.ROUTER) for name in ("shell", "iopub", "stdin", "control", "hb")}
        ports = {f"{name}_port": router.bind_to_random_port("tcp://127.0.0.1") for name, router in routers.items()}
        path, _ = minikernel.write_connection_file(tmp_path / "file.json", **ports)
        assert "Its heart does not beat" in ask(path, patience=0.5)[-1]
    finally:
        context.destroy(linger=0)


def test_what_is_in_the_file(tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    path = Path(minikernel.write_connection_file(tmp_path / "file.json"))
    for fields, said in [
        ({"shell_port": None, "key": None}, "lacks shell_port, key"),
        ({"shell_port": "many"}, "shell_port is no number"),
        ({"shell_port": 70000}, "shell_port is no port"),
        ({"hb_port": 0, "iopub_port": -1}, "iopub_port, hb_port is 0"),
        ({"shell_port": 5000, "iopub_port": 5000}, "the same port"),
        ({"transport": "udp"}, "transport is 'udp'"),
        ({"signature_scheme": "hmac-md99"}, "signature_scheme"),
        ({"registration_port": 5000, "kernel_id": "abc"}, "kernel-abc.json"),
        ({"curve_publickey": "x"}, "no pair"),
        ({"transport": "ipc", "ip": "/tmp/" + "x" * 120}, "An ipc path may have"),
        ({"ip": "192.0.2.1"}, "is another machine"),
    ]:
        assert said in ask(edit(path, **fields), patience=0.3)[-1]
    for text, said in [
        ("", "It is empty"),
        ('{"shell_port": 1', "It is no JSON"),
        ("[1]", "no object"),
        ("\0\xff", "no JSON"),
    ]:
        path.write_text(text)
        assert said in ask(path)[-1]
    path.write_bytes(b"\xff\xfe")
    assert "It is no text" in ask(path)[-1]
    assert "is no file" in ask(tmp_path)[-1]
    assert "There is no file" in ask("nothing.json")[-1]


def test_who_may_read_it(start: Start, ask: Ask) -> None:
    kernel = start()
    kernel.ready()
    file = edit(kernel.connection_file)
    file.chmod(0o644)
    lines = ask(file, healthy=True)
    assert any("mode 0644" in line and f"chmod 600 {file}" in line for line in lines)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644, "nothing is changed"
    if os.getuid():  # root may read all
        file.chmod(0)
        assert "you may not read it" in ask(file)[-1]


def test_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == main(["doctor", "a", "b"]) == 2 and main(["doctor", "--help"]) == 0
    assert "usage: minikernel doctor FILE" in capsys.readouterr().err
