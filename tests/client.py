"""A frontend for the tests: it starts a real kernel, talks to it over real sockets, and checks all it hears.

Messages are packed and read by jupyter_client's ``Session``, the implementation that kernels have to agree with.
Every message that arrives is held against the kernel's own table of messages (``observer``).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.session import Session
from observer import check

import minikernel
from minikernel import connect

TIMEOUT = float(os.environ.get("MINIKERNEL_TEST_TIMEOUT", "20"))
CHANNELS = {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB, "hb": zmq.REQ}


class Result:
    """What one request has caused: its reply, and its messages on iopub from busy to idle."""

    def __init__(self, reply: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        self.message = reply
        self.reply = reply["content"]
        self.messages = messages
        self.outputs = [m for m in messages if m["msg_type"] not in ("status", "execute_input")]
        self.types = [m["msg_type"] for m in messages]

    def text(self, name: str = "stdout") -> str:
        return "".join(
            m["content"]["text"] for m in self.outputs
            if m["msg_type"] == "stream" and m["content"]["name"] == name
        )  # fmt: skip

    @property
    def status(self) -> str:
        return self.reply["status"]

    @property
    def result(self) -> str | None:
        """The text/plain of the execute_result."""
        for message in self.outputs:
            if message["msg_type"] == "execute_result":
                return message["content"]["data"]["text/plain"]
        return None

    @property
    def ename(self) -> str | None:
        return self.reply.get("ename")


class Client:
    """One frontend of a kernel.  Any number of them may talk to one kernel."""

    def __init__(self, connection_file: str | Path, *, subscribe: bytes | None = b"") -> None:
        self.info = minikernel.get_connection_info(connection_file)
        self.session = Session(
            key=self.info["key"].encode(), signature_scheme=self.info["signature_scheme"], username="tester"
        )
        self.context = zmq.Context()
        self.sockets = {name: self._connect(name, kind) for name, kind in CHANNELS.items()}
        self.heard: dict[str, list[dict[str, Any]]] = {name: [] for name in CHANNELS}
        #: All messages on iopub, whoever asked.
        self.iopub: list[dict[str, Any]] = []
        if subscribe is not None:
            self.sockets["iopub"].subscribe(subscribe)
            try:
                self.wait_for("iopub", lambda m: m["msg_type"] == "iopub_welcome")
            except BaseException:
                self.close()
                raise

    def _connect(self, name: str, kind: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        if name == "stdin":
            self._stdin_events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        socket.linger = 0
        if kind == zmq.DEALER:
            socket.identity = self.session.bsession
        if name == "iopub":
            socket.rcvhwm = 0
        if self.info.get("curve_publickey"):
            public, secret = self.info["curve_publickey"].encode(), self.info["curve_secretkey"].encode()
            socket.curve_serverkey = socket.curve_publickey = public
            socket.curve_secretkey = secret
        socket.connect(endpoint(self.info, name))
        return socket

    def send(self, msg_type: str, content: Any = None, channel: str = "shell", **kwargs: Any) -> str:
        """Send a request and return its msg_id."""
        msg = self.session.msg(msg_type, content={} if content is None else content, **kwargs)
        self.session.send(self.sockets[channel], msg)
        return msg["header"]["msg_id"]

    def receive(self, channel: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return the next message of a channel."""
        socket = self.sockets[channel]
        if not socket.poll(max(0, timeout) * 1000):
            raise TimeoutError(f"nothing on {channel} within {timeout} s")
        frames = socket.recv_multipart()
        idents, rest = self.session.feed_identities(frames)
        message = self.session.deserialize(rest)
        message["idents"] = idents
        check(channel, message)
        if channel == "iopub":
            self.iopub.append(message)
        return message

    def wait_for(self, channel: str, wanted: Any, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return the next message for which `wanted(message)` is true; the others are kept for later calls."""
        kept = self.heard[channel]
        for index, message in enumerate(kept):
            if wanted(message):
                return kept.pop(index)
        deadline = time.monotonic() + timeout
        while True:
            message = self.receive(channel, deadline - time.monotonic())
            if wanted(message):
                return message
            kept.append(message)

    def finish(self, msg_id: str, channel: str = "shell", timeout: float = TIMEOUT, reply: bool = True) -> Result:
        """Wait until the request is answered and its idle has come."""
        deadline = time.monotonic() + timeout
        answer: dict[str, Any] = {"content": {}}
        if reply:
            answer = self.wait_for(channel, lambda m: m["parent_header"].get("msg_id") == msg_id, timeout)
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["content"].get("execution_state") != "idle":
            left = deadline - time.monotonic()
            messages.append(
                self.wait_for("iopub", lambda m: m["parent_header"].get("msg_id") == msg_id, max(left, 0.01))
            )
        assert messages[0]["content"].get("execution_state") == "busy", messages
        return Result(answer, messages)

    def finish_rest(self, msg_id: str) -> None:
        """Wait for the end of a request some of whose messages have been taken already."""
        self.wait_for("shell", lambda m: m["parent_header"].get("msg_id") == msg_id)
        self.wait_for(
            "iopub",
            lambda m: m["parent_header"].get("msg_id") == msg_id and m["content"].get("execution_state") == "idle",
        )

    def request(
        self, msg_type: str, content: Any = None, channel: str = "shell", timeout: float = TIMEOUT
    ) -> Result:
        """Send a request and wait for its reply and idle."""
        return self.finish(self.send(msg_type, content, channel), channel, timeout)

    def start(self, code: str, subshell: str | None = None, **options: Any) -> str:
        """Send an execute_request; return its msg_id."""
        header = self.session.msg_header("execute_request") | ({"subshell_id": subshell} if subshell else {})
        return self.send("execute_request", {"code": code, **options}, header=header)

    def execute(self, code: str, subshell: str | None = None, timeout: float = TIMEOUT, **options: Any) -> Result:
        """Run code to its end."""
        return self.finish(self.start(code, subshell, **options), timeout=timeout)

    def create_subshell(self) -> str:
        """Create a subshell, and return its id."""
        return self.request("create_subshell_request", channel="control").reply["subshell_id"]

    def output(self, msg_id: str, text: str, name: str = "stdout") -> str:
        """Wait until a request has printed `text`, and return what it has printed so far."""
        seen = ""
        while text not in seen:
            message = self.wait_for(
                "iopub", lambda m: m["parent_header"].get("msg_id") == msg_id and m["msg_type"] == "stream"
            )
            if message["content"]["name"] == name:
                seen += message["content"]["text"]
        return seen

    def can_be_asked(self) -> None:
        """Wait until stdin is connected, as a simple kernel has to take for granted: sockets connect one by one."""
        assert self._stdin_events.poll(1000 * TIMEOUT)

    def answer(self, value: str, **header: Any) -> dict[str, Any]:
        """Wait for an input_request and answer it as jupyter_client does; return the request."""
        question = self.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
        self.send("input_reply", {"value": value}, "stdin", **header)
        return question

    def beats(self, timeout: float = TIMEOUT) -> bool:
        """Tell whether the heartbeat answers."""
        socket = self.sockets["hb"]
        socket.send(b"ping")
        return bool(socket.poll(timeout * 1000)) and socket.recv() == b"ping"

    def close(self) -> None:
        self.context.destroy(linger=0)


def stranger(port: int, kind: bytes = b"SUB") -> socket.socket:
    """A connection to a channel, without libzmq on this side (ZMTP 3.0, NULL): it may send anything."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    connection.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY" + b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    connection.sendall(b"\x04" + bytes([len(ready)]) + ready)
    received = b""
    while len(received) < 66 or len(received) < 66 + received[65]:  # the kernel's greeting, and its own READY
        received += connection.recv(4096) or pytest.fail("hung up on before the handshake was over")
    return connection


def hung_up(connection: socket.socket) -> bool:
    """Wait until the peer has closed a connection."""
    with suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def memory_of(kernel: KernelProcess) -> int:
    """The bytes that its process has in memory (Linux)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{kernel.pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) << 10


class KernelProcess:
    """A kernel in a process of its own, as a launcher starts it."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        ports: bool = False,
        without: tuple[str, ...] = (),
        connection_file: Path | None = None,
        command: tuple[str, ...] = (),
        **fields: Any,
    ) -> None:
        self.connection_file = connection_file or directory / f"kernel-{os.urandom(4).hex()}.json"
        if connection_file is None:  # else of a kernel before this one
            _, info = minikernel.write_connection_file(self.connection_file, **fields)
            if info["transport"] == "tcp" and not ports:
                # the kernel binds and says where: no port can be taken meanwhile
                connect.save(str(self.connection_file), info | dict.fromkeys(connect.PORTS, 0))
        self.log = self.connection_file.with_suffix(".log")
        environment = {**os.environ, "JPY_PARENT_PID": str(os.getpid()), **(env or {})}
        if without:  # packages that this kernel shall not have
            hiding = directory / "hiding"
            hiding.mkdir(exist_ok=True)
            hidden = f"import sys\nsys.modules.update(dict.fromkeys({without!r}))\n"
            (hiding / "sitecustomize.py").write_text(hidden)
            environment["PYTHONPATH"] = os.pathsep.join([str(hiding), environment.get("PYTHONPATH", "")])
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "minikernel", *command, "-f", str(self.connection_file), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=directory, env=environment, start_new_session=True,
            )  # fmt: skip
        self.clients: list[Client] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def ready(self) -> None:
        """Wait until the kernel has said which ports it has."""
        deadline = time.monotonic() + TIMEOUT
        while not minikernel.get_connection_info(self.connection_file)["shell_port"]:
            assert self.process.poll() is None, self.stderr()
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.005)

    def client(self, **options: Any) -> Client:
        self.ready()
        try:
            client = Client(self.connection_file, **options)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; exit code {self.process.poll()}, stderr {self.stderr()!r}") from None
        self.clients.append(client)
        return client

    def interrupt(self) -> None:
        """What a frontend's Ctrl-C does: SIGINT for the whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def stderr(self) -> str:
        """What the kernel itself has said."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = TIMEOUT) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(TIMEOUT)
        # a bug of the kernel's is said there; no test may pass over one
        assert "Traceback" not in self.stderr(), self.stderr()


def alive(pid: int) -> bool:
    """Tell whether a process is there, and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not os.path.exists(f"/proc/{pid}"):
        return sys.platform != "linux"
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def kill(child: Any) -> None:
    """End a program that pexpect has started; its own `close` gives up on one that needs 0.4 seconds to end."""
    child.kill(signal.SIGKILL)
    child.wait()
    child.close()


def until(condition: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
    """Wait until a condition holds; tell whether it does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def endpoint(info: dict[str, Any], channel: str) -> str:
    port = info[f"{channel}_port"]
    return f"ipc://{info['ip']}-{port}" if info["transport"] == "ipc" else f"tcp://{info['ip']}:{port}"
