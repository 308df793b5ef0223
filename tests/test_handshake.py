"""The start-up handshake, from the launcher's side ("Messaging in Jupyter: Kernel startup handshake", JEP 66)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from client import TIMEOUT, Client, KernelProcess
from jupyter_client.session import Session
from zmq.utils.monitor import recv_monitor_message

from minikernel import connect

DELIMITER = b"<IDS|MSG>"
KEY = "a key of the tests"


class Registered(KernelProcess):
    """A kernel that was given a registration file."""

    def __init__(self, file: Path, runtime: Path, *command: str) -> None:
        self.log = file.with_suffix(f".{os.urandom(4).hex()}.log")
        environment = {**os.environ, "JPY_PARENT_PID": str(os.getpid()), "JUPYTER_RUNTIME_DIR": str(runtime)}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(command or ("-m", "minikernel")), "-f", str(file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        self.clients: list[Client] = []

    def at(self, connection_file: Path) -> Client:
        """A frontend that finds the kernel by its connection file."""
        self.connection_file = connection_file
        return self.client()


class Launcher:
    """What starts kernels and leaves the ports to them; it signs with jupyter_client's `Session`."""

    def __init__(self, directory: Path, address: str = "tcp://127.0.0.1:*") -> None:
        self.directory = directory
        self.runtime = directory / "runtime"
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.ipv6 = "[" in address
        self.socket.bind(address)
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.kernels: list[Registered] = []

    def write(self, kernel_id: str | None = "one", **fields: Any) -> Path:
        """Write a registration file; a field that is None is left out."""
        info = {
            "kernel_id": kernel_id, "transport": "tcp", "registration_ip": "127.0.0.1",
            "registration_port": int(self.address.rpartition(":")[2]) if self.address.startswith("tcp") else 0,
            "signature_scheme": "hmac-sha256", "key": KEY, **fields,
        }  # fmt: skip
        path = self.directory / f"registration-{kernel_id}.json"
        path.write_text(json.dumps({name: value for name, value in info.items() if value is not None}))
        return path

    def start(self, file: Path, *command: str) -> Registered:
        self.kernels.append(Registered(file, self.runtime, *command))
        return self.kernels[-1]

    def hear(self, key: str = KEY) -> tuple[bytes, dict[str, Any]]:
        """Return who registers next, and what it says."""
        assert self.socket.poll(TIMEOUT * 1000), [kernel.stderr() for kernel in self.kernels]
        peer, delimiter, signature, content = self.socket.recv_multipart()
        assert delimiter == DELIMITER
        assert signature == Session(key=key.encode()).sign([content])
        return peer, json.loads(content)

    def acknowledge(self, peer: bytes, content: bytes = b"ACK", key: str = KEY) -> None:
        self.socket.send_multipart([peer, DELIMITER, Session(key=key.encode()).sign([content]), content])

    def close(self) -> None:
        while self.kernels:
            self.kernels.pop().close()
        self.context.destroy(linger=0)


@pytest.fixture
def launchers(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    made: list[Launcher] = []

    def make(*arguments: Any) -> Launcher:
        made.append(Launcher(*(arguments or (tmp_path,))))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close()


@pytest.fixture
def launcher(launchers: Callable[..., Launcher]) -> Launcher:
    return launchers()


def frontend(kernel: Registered, said: dict[str, Any], **fields: Any) -> Client:
    """A frontend that knows no more than the launcher does: its own file, and what the kernel has said."""
    file = kernel.log.with_suffix(".json")
    ports = {port: int(said[port]) for port in connect.PORTS}
    file.write_text(json.dumps({"ip": "127.0.0.1", "transport": "tcp", "key": KEY, **ports, **fields}))
    return kernel.at(file)


def own_file(launcher: Launcher) -> dict[str, Any]:
    (path,) = launcher.runtime.glob("kernel-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    info: dict[str, Any] = json.loads(path.read_text())
    return info


def test_a_kernel_registers_and_is_the_launchers(launcher: Launcher) -> None:
    file = launcher.write()
    before = file.read_bytes()
    kernel = launcher.start(file)
    peer, said = launcher.hear()
    assert said.keys() == {"kernel_id", *connect.PORTS} and said["kernel_id"] == "one"
    assert all(isinstance(value, str) for value in said.values())
    info = own_file(launcher)  # it is there before the launcher knows
    assert {port: str(info[port]) for port in connect.PORTS} == {port: said[port] for port in connect.PORTS}
    assert info["key"] == KEY and not any(name.startswith("registration") for name in info)
    launcher.acknowledge(peer)
    client = frontend(kernel, said)
    assert client.beats()
    assert client.request("kernel_info_request").reply["protocol_version"] == "5.6"
    path = launcher.runtime / "kernel-one.json"
    code = "import minikernel; repr((minikernel.get_connection_file(), minikernel.get_connection_info()))"
    assert client.execute(code).result == repr(repr((str(path), info)))
    assert kernel.at(path).execute("6 * 7").result == "42"
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0 and kernel.stderr() == ""
    assert not path.exists() and file.read_bytes() == before


def test_the_kernel_disconnects_when_it_has_registered(launcher: Launcher) -> None:
    """The launcher may close the socket then."""
    monitor = launcher.socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
    kernel = launcher.start(launcher.write())
    peer, said = launcher.hear()
    launcher.acknowledge(peer, b'{"status": "ok"}')
    events = []
    while zmq.EVENT_DISCONNECTED not in events:
        assert monitor.poll(TIMEOUT * 1000)
        events.append(recv_monitor_message(monitor)["event"])
    assert events == [zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED]
    launcher.socket.disable_monitor()
    launcher.socket.close()
    assert frontend(kernel, said).execute("1").result == "1"


def test_many_kernels_register_at_one_port(launcher: Launcher) -> None:
    kernels = {name: launcher.start(launcher.write(name)) for name in ("a", "b", "c", "d")}
    heard = [launcher.hear() for _ in kernels]
    assert {said["kernel_id"] for _, said in heard} == set(kernels)
    assert len({said[port] for _, said in heard for port in connect.PORTS}) == 5 * len(kernels)
    for peer, _ in reversed(heard):
        launcher.acknowledge(peer)
    for _, said in heard:
        kernel = kernels[said["kernel_id"]]
        assert frontend(kernel, said).execute("import os; os.getpid()").result == str(kernel.pid)


def test_a_restart_registers_again(launcher: Launcher) -> None:
    file = launcher.write()
    for _ in range(2):
        kernel = launcher.start(file)
        peer, said = launcher.hear()
        launcher.acknowledge(peer)
        client = frontend(kernel, said)
        assert client.execute("1").result == "1"
        client.request("shutdown_request", {"restart": True}, "control")
        assert kernel.wait() == 0


def test_what_is_asked_before_the_acknowledgement_is_answered_after_it(launcher: Launcher) -> None:
    kernel = launcher.start(launcher.write())
    peer, _ = launcher.hear()
    (path,) = launcher.runtime.glob("kernel-*.json")
    client = Client(path, subscribe=None)
    kernel.clients.append(client)
    msg_id = client.send("kernel_info_request")
    assert kernel.process.poll() is None
    launcher.acknowledge(peer)
    assert client.wait_for("shell", lambda m: True)["parent_header"]["msg_id"] == msg_id


@pytest.mark.parametrize("fields", [
    {"kernel_id": None},
    {"registration_ip": None},
    {"registration_ip": None, "ip": "127.0.0.1"},
    {"signature_scheme": None, "ip": "", "shell_port": None, "hb_port": 0, "iopub_port": "0"},
    {"kernel_id": "../a/b"},
], ids=str)  # fmt: skip
def test_fields_may_be_missing_and_more(launcher: Launcher, fields: dict[str, Any]) -> None:
    port = str(launcher.address.rpartition(":")[2])
    file = launcher.write("x", registration_port=port)
    info = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in info.items() if value is not None}))
    kernel = launcher.start(file)
    peer, said = launcher.hear()
    assert said.get("kernel_id") == info["kernel_id"]
    launcher.acknowledge(peer)
    assert frontend(kernel, said).execute("1").result == "1"
    assert own_file(launcher)["key"] == KEY


def test_without_a_key_nothing_is_signed(launcher: Launcher) -> None:
    kernel = launcher.start(launcher.write(key=""))
    peer, said = launcher.hear(key="")
    launcher.acknowledge(peer, key="")
    assert frontend(kernel, said, key="").execute("1").result == "1"


def test_ipc(launchers: Callable[..., Launcher]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    try:
        launcher = launchers(directory, f"ipc://{directory}/registration-1")
        fields = {
            "registration_ip": f"{directory}/registration",
            "registration_port": 1,
            "ip": f"{directory}/kernel",
        }
        kernel = launcher.start(launcher.write(transport="ipc", **fields))
        peer, said = launcher.hear()
        launcher.acknowledge(peer)
        client = frontend(kernel, said, transport="ipc", ip=fields["ip"])
        assert client.execute("1").result == "1"
        assert os.path.exists(f"{directory}/kernel-{said['shell_port']}")
        launcher.close()
    finally:
        shutil.rmtree(directory)


def test_ipv6(launchers: Callable[..., Launcher], tmp_path: Path) -> None:
    try:
        launcher = launchers(tmp_path, "tcp://[::1]:*")
    except zmq.ZMQError:
        pytest.skip("no IPv6")
    kernel = launcher.start(launcher.write(registration_ip="::1"))
    peer, said = launcher.hear()
    launcher.acknowledge(peer)
    assert frontend(kernel, said).execute("1").result == "1"


# -- launchers that don't answer -----------------------------------------------------------------------------


def gives_up(launcher: Launcher, kernel: Registered) -> str:
    """Wait until the kernel has ended, and return the one line that it has said."""
    assert kernel.wait() == 1
    assert list(launcher.runtime.glob("*")) == []
    (line,) = kernel.stderr().splitlines()
    prefix, _, reason = line.partition("cannot register with the launcher: ")
    assert prefix == "[minikernel] " and KEY not in line
    return reason


@pytest.mark.parametrize("case", ["another key", "unsigned", "no delimiter", "too much", "nothing"])
def test_the_answer_must_be_the_launchers(launcher: Launcher, case: str) -> None:
    kernel = launcher.start(launcher.write())
    peer, _ = launcher.hear()
    signature = Session(key=KEY.encode()).sign([b"ACK"])
    frames, reason = {
        "another key": ([DELIMITER, Session(key=b"another").sign([b"ACK"]), b"ACK"], "wrong signature"),
        "unsigned": ([DELIMITER, b"", b"ACK"], "not signed"),
        "no delimiter": ([signature, b"ACK"], "delimiter"),
        "too much": ([DELIMITER, signature, b"ACK", b"ACK"], "delimiter"),
        "nothing": ([b""], "delimiter"),
    }[case]
    launcher.socket.send_multipart([peer, *frames])
    line = gives_up(launcher, kernel)
    assert line.startswith(f"the answer from {launcher.address} is no acknowledgement") and reason in line


@pytest.mark.parametrize("listens", [True, False])
def test_a_launcher_that_does_not_answer(launcher: Launcher, listens: bool) -> None:
    """For `PATIENCE`, that is: here for less, or the test would take as long."""
    command = "import sys; sys.path.pop(0); from minikernel.protocol import handshake; handshake.PATIENCE = 0.3; "
    command += "from minikernel.__main__ import main; main(sys.argv[1:])"
    file = launcher.write()
    if not listens:
        launcher.socket.close()
    kernel = launcher.start(file, "-c", command)
    assert gives_up(launcher, kernel) == f"no answer from {launcher.address} in 0.3 s"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_launcher_that_thinks_better_of_it(launchers: Callable[..., Launcher], transport: str) -> None:
    """It need not wait until the kernel's patience is at its end; and nothing of the kernel is left."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    try:
        launcher = launchers(
            directory, f"ipc://{directory}/launcher-1" if transport == "ipc" else "tcp://127.0.0.1:*"
        )
        fields = {"registration_ip": f"{directory}/launcher", "registration_port": 1, "ip": f"{directory}/kernel"}
        kernel = launcher.start(launcher.write(transport=transport, **fields if transport == "ipc" else {}))
        launcher.hear()
        assert len(list(directory.glob("kernel-*"))) == (5 if transport == "ipc" else 0)
        kernel.interrupt()  # which it does not mind: a frontend's is for the cell that it takes to run
        os.kill(kernel.pid, signal.SIGTERM)
        assert kernel.wait() == 0 and kernel.stderr() == ""
        assert list(launcher.runtime.glob("*")) == [] and not list(directory.glob("kernel-*"))
        launcher.close()
    finally:
        shutil.rmtree(directory)


def test_a_port_that_is_none(launcher: Launcher) -> None:
    kernel = launcher.start(launcher.write(registration_port="nowhere"))
    assert gives_up(launcher, kernel) == "cannot connect to tcp://127.0.0.1:nowhere: Invalid argument"


def test_nobody_else_pays_for_it(shared: Client) -> None:
    assert shared.execute("import sys; 'minikernel.protocol.handshake' in sys.modules").result == "False"
