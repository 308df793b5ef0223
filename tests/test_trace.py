"""``minikernel trace``: a relay that nobody notices, and what it shows of what it sees."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from client import TIMEOUT, Client, KernelProcess, alive, endpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.manager import KernelManager
from test_consoles import CTRL_C, ENTER, RUN, Terminal, prompt, terminal
from test_handshake import Launcher, launcher, launchers
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from minikernel.protocol.messages import MESSAGES
from minikernel.protocol.wire import DELIMITER, Session
from minikernel.tools import trace
from minikernel.tools.ladder import JsonLines, Ladder, colourful
from minikernel.tools.page import row
from minikernel.tools.transcript import GAP, Transcript

__all__ = ["launcher", "launchers", "terminal"]

Start = Callable[..., KernelProcess]

pytestmark = pytest.mark.usefixtures("kernelspec")


def kernelspec_of(directory: Path, *argv: str, **fields: Any) -> str:
    """Write a kernelspec; return its directory."""
    directory.mkdir()
    spec = {"argv": list(argv), "display_name": "d", "language": "l", **fields}
    (directory / "kernel.json").write_text(json.dumps(spec))
    return str(directory)


@pytest.fixture
def relay(start: Start, tmp_path: Path) -> Start:
    """Start relays; what they see is in the file ``trace``, as JSON lines or as the options have it."""

    def relay(
        *options: str, kernel: str = "minikernel", output: tuple[str, ...] = ("--json",), **more: Any
    ) -> KernelProcess:
        command = ("trace", "--kernel", kernel, "-o", str(tmp_path / "trace"), *output)
        return start(*options, command=command, **more)

    return relay


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]


def end(kernel: KernelProcess, status: int = 0) -> None:
    kernel.clients[0].send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == status


# -- nobody notices it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_all_channels(relay: Start, tmp_path: Path, transport: str) -> None:
    kernel = relay(transport=transport)
    client = kernel.client()
    other = kernel.client()
    assert client.beats()
    assert client.execute("print('hi'); 6 * 7").result == "42"
    asks = client.start("input('who? ')", allow_stdin=True)
    client.answer("me")
    assert client.finish(asks).result == "'me'"
    other_asks = other.start("input()", allow_stdin=True)
    other.answer("another")
    assert other.finish(other_asks).result == "'another'"
    assert client.request("kernel_info_request", channel="control").status == "ok"
    client.execute("import minikernel.kernel.comm as c\ncomm = c.Comm('t', buffers=[bytes(10_000_000)])")
    heard = [message for each in kernel.clients for message in each.iopub]
    end(kernel)
    assert not any(path.is_socket() for path in tmp_path.iterdir())
    seen = lines(tmp_path)
    assert [line["violations"] for line in seen if line["violations"]] == []
    assert {line["signature"] for line in seen if "header" in line} == {"good"}
    by_id = {line["header"]["msg_id"]: line for line in seen if "header" in line}
    for message in heard:
        line = by_id[message["header"]["msg_id"]]
        assert line["content"] == message["content"] and line["idents"] == [message["idents"][0].hex()]
    assert by_id[asks]["channel"] == "shell" and by_id[asks]["direction"] == "in"
    of_it: dict[str, list[str]] = {}
    for line in seen:
        if line["request"] == asks:
            of_it.setdefault(line["channel"], []).append(line["msg_type"])
    assert of_it == {
        "shell": ["execute_request", "execute_reply"],
        "iopub": ["status", "execute_input", "execute_result", "status"],
        "stdin": ["input_request", "input_reply"],
    }
    assert all(
        line["latency"] > 0 for line in seen if line["request"] == asks and line["msg_type"] != "execute_request"
    )
    comm = next(line for line in seen if line["msg_type"] == "comm_open")
    assert comm["buffers"] == [10_000_000]
    beats = [(line["direction"], line["msg_type"]) for line in seen if line["channel"] == "hb"]
    assert beats == [("in", "ping"), ("out", "echo")]
    assert client.info["key"] not in (tmp_path / "trace").read_text()
    assert (tmp_path / "trace").stat().st_mode & 0o777 == 0o600


def test_encrypted_sockets(relay: Start, tmp_path: Path) -> None:
    public, secret = zmq.curve_keypair()
    kernel = relay(curve_publickey=public, curve_secretkey=secret)
    assert kernel.client().execute("6 * 7").result == "42"
    end(kernel)
    assert secret.decode() not in (tmp_path / "trace").read_text()


def test_a_launcher_that_leaves_the_ports_to_the_kernel(launcher: Launcher) -> None:
    kernel = launcher.start(launcher.write(), "-m", "minikernel", "trace")
    peer, said = launcher.hear()
    launcher.acknowledge(peer)
    assert kernel.at(launcher.runtime / "kernel-one.json").execute("6 * 7").result == "42"
    assert {name: int(said[name]) for name in said if "port" in name}.items() <= kernel.clients[0].info.items()
    end(kernel)
    assert not list(launcher.runtime.iterdir())


ECHO = """
import json, sys, time, zmq
info = json.load(open(sys.argv[1]))
context = zmq.Context()
shell, stdin = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
shell.bind(f"tcp://{info['ip']}:{info['shell_port']}")
stdin.bind(f"tcp://{info['ip']}:{info['stdin_port']}")
stdin.router_mandatory = 1
while True:
    frames = shell.recv_multipart()
    while frames:
        try:
            (stdin if frames[-1] == b"on stdin" else shell).send_multipart(frames)
            break
        except zmq.ZMQError:  # the relay's stdin is not there yet
            time.sleep(0.01)
"""


def test_frames_are_what_they_were(relay: Start, tmp_path: Path) -> None:
    """Whatever they hold: a kernel that sends back what it gets, and a frontend that sends rubbish."""
    kernel = relay(kernel=kernelspec_of(tmp_path / "echo", sys.executable, "-c", ECHO, "{connection_file}"))
    kernel.ready()
    info = json.loads(kernel.connection_file.read_text())
    context = zmq.Context()
    try:
        shell, stdin = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        shell.identity = stdin.identity = b"me"
        shell.connect(endpoint(info, "shell"))
        for frames in (
            [b"rubbish"], [b""], [DELIMITER], [b"more", b"idents", DELIMITER, b"0" * 64, b"{}", b"\xff", b"{", b"[]"],
            [DELIMITER, b"", *[b"{}"] * 4, os.urandom(5_000_000), b"", b"\0"],
        ):  # fmt: skip
            shell.send_multipart(frames)
            assert shell.poll(1000 * TIMEOUT) and shell.recv_multipart() == frames
        shell.send(b"on stdin")
        shell.send(b"still there?")
        assert shell.poll(1000 * TIMEOUT) and shell.recv() == b"still there?"
        stdin.connect(endpoint(info, "stdin"))  # later than the question
        assert stdin.poll(1000 * TIMEOUT) and stdin.recv() == b"on stdin"
    finally:
        context.destroy(linger=0)
    os.kill(kernel.pid, signal.SIGTERM)
    assert kernel.wait() == -signal.SIGTERM
    seen = [(line["direction"], line["signature"], line["violations"][0]["text"]) for line in lines(tmp_path)]
    assert seen[:2] == [(way, "", "no message: no <IDS|MSG> delimiter") for way in ("in", "out")]
    assert seen[6:8] == [(way, "bad", "no message: wrong signature") for way in ("in", "out")]
    assert seen[8:10] == [(way, "bad", "no message: not signed") for way in ("in", "out")]


def test_a_frontend_that_does_not_read(relay: Start) -> None:
    """It keeps nobody from reading all, and the kernel from nothing."""
    kernel = relay("--record", os.devnull, output=())
    client = kernel.client()
    sleeper = Client(kernel.connection_file, subscribe=None)
    kernel.clients.append(sleeper)
    sleeper.sockets["iopub"].rcvhwm = 1
    sleeper.sockets["iopub"].subscribe(b"")
    client.wait_for("iopub", lambda m: m["msg_type"] == "iopub_welcome")
    result = client.execute("for n in range(3000): display('x' * 5000)", timeout=3 * TIMEOUT)
    assert len(result.outputs) == 3000
    assert client.execute("6 * 7").result == "42"
    end(kernel)


# -- it is the kernel to who has started it --------------------------------------------------------------------


def kernels_pid(client: Client) -> int:
    return int(client.execute("import os; os.getpid()").result or 0)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.parametrize("group", [True, False], ids=["the group", "the process"])
def test_an_interrupt_comes_once(relay: Start, group: bool) -> None:
    kernel = relay()
    client = kernel.client()
    client.execute(
        "import signal, time; count = 0\ndef handler(*_):\n    global count; count += 1\n    raise KeyboardInterrupt"
    )
    run = client.start(
        "signal.signal(signal.SIGINT, handler)\ntry:\n    print('go'); time.sleep(60)\nexcept KeyboardInterrupt: pass\ntime.sleep(0.2); count"
    )
    client.output(run, "go")
    (os.killpg if group else os.kill)(kernel.pid, signal.SIGINT)
    assert client.finish(run).result == "1"
    end(kernel)


def test_the_kernels_end_is_its_end(relay: Start) -> None:
    for code, status in ("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9):
        kernel = relay()
        client = kernel.client()
        client.start(f"import os; {code}")
        assert kernel.wait() == status
        assert "Traceback" not in kernel.stderr()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_is_the_kernels_end(relay: Start, number: int) -> None:
    kernel = relay()
    pid = kernels_pid(kernel.client())
    os.kill(kernel.pid, number)
    assert kernel.wait() == (0 if number == signal.SIGTERM else -9)
    assert gone(pid)


def test_a_kernel_that_does_not_want_to_end(relay: Start, tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)"
    kernel = relay(kernel=kernelspec_of(tmp_path / "deaf", sys.executable, "-c", code))
    while "here" not in kernel.stderr():
        time.sleep(0.01)
    os.kill(kernel.pid, signal.SIGTERM)
    assert kernel.wait() == -9


def test_a_frontends_arguments_are_for_the_kernel(relay: Start) -> None:
    kernel = relay("--unknown", "--Session.username=me", "-x")
    kernel.client().execute("1")
    end(kernel)
    assert kernel.stderr() == "[minikernel] ignored: --unknown --Session.username -x\n"


def test_what_a_killed_relay_has_left_is_removed(relay: Start, tmp_path: Path) -> None:
    def started() -> tuple[KernelProcess, Path]:
        """A relay, and its directory, which looks old."""
        before = set(tmp_path.glob("minikernel-trace-*"))
        kernel = relay(env={"TMPDIR": str(tmp_path)})
        kernel.client()
        [directory] = set(tmp_path.glob("minikernel-trace-*")) - before
        assert [path.name for path in directory.iterdir()] == [kernel.connection_file.name]
        assert directory.stat().st_mode & 0o777 == 0o700
        os.utime(directory, (0, 0))
        return kernel, directory

    killed, old = started()
    _, living = started()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert old.exists()
    last, own = started()
    assert not old.exists() and living.exists() and own.exists()
    end(last)
    assert not own.exists() and living.exists()


def test_it_says_who_can_reach_it(relay: Start) -> None:
    """The relay is what the network sees, and not the kernel behind it."""
    kernel = relay(ip="0.0.0.0")
    assert kernel.client().execute("6 * 7").result == "42"
    end(kernel)
    (line,) = kernel.stderr().splitlines()
    assert line.startswith("[minikernel] bound to 0.0.0.0 without curve keys")


def test_it_ends_with_its_launcher(relay: Start) -> None:
    launcher = subprocess.Popen(["sleep", "600"])
    kernel = relay(env={"JPY_PARENT_PID": str(launcher.pid)})
    pid = kernels_pid(kernel.client())
    launcher.kill()
    launcher.wait()
    kernel.wait()
    assert gone(pid)


def test_a_manager_restarts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a kernelspec, with IPython's kernel behind it."""
    pytest.importorskip("ipykernel")
    assert trace.main(["trace", "install", "python3", "--user", "--json", "-o", str(tmp_path / "trace")]) == 0
    assert "python3-trace" in capsys.readouterr().out
    manager = KernelManager(kernel_name="python3-trace")
    manager.start_kernel(stderr=subprocess.DEVNULL)
    try:
        client = manager.blocking_client()
        client.start_channels()
        for number in (1, 2):
            client.wait_for_ready(timeout=3 * TIMEOUT)
            reply = client.execute_interactive(
                "n = globals().get('n', 0) + 1; n", timeout=TIMEOUT, output_hook=lambda _: None
            )
            assert (reply["content"]["status"], reply["content"]["execution_count"]) == ("ok", 1)
            run = client.execute("import time; print('go'); time.sleep(60)")
            while client.get_iopub_msg(timeout=TIMEOUT)["msg_type"] != "stream":
                pass
            manager.interrupt_kernel()
            while (reply := client.get_shell_msg(timeout=TIMEOUT))["parent_header"]["msg_id"] != run:
                pass
            assert reply["content"]["ename"] == "KeyboardInterrupt"
            if number == 1:
                manager.restart_kernel(now=False)
        manager.shutdown_kernel()
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
    seen = lines(tmp_path)
    assert [line["violations"] for line in seen if line["violations"]] == []
    assert sum(line["msg_type"] == "shutdown_reply" for line in seen) == 4  # on control and iopub, twice


def test_what_install_writes(kernelspec: Path, tmp_path: Path) -> None:
    path = kernelspec_of(
        tmp_path / "Mine", "python3", "-f", "{connection_file}", env={"A": "b"}, interrupt_mode="message",
        metadata={"debugger": True, "kernel_provisioner": {"provisioner_name": "x"}},
    )  # fmt: skip
    (tmp_path / "Mine" / "logo-64x64.png").write_bytes(b"picture")
    assert trace.main(["trace", "install", path, "--user", "--web", "--record", "r"]) == 0
    target = kernelspec / "data" / "kernels" / "mine-trace"
    assert (target / "logo-64x64.png").read_bytes() == b"picture"
    assert json.loads((target / "kernel.json").read_text()) == {
        "argv": [sys.executable, "-m", "minikernel", "trace", "--kernel", path, "-f", "{connection_file}", "--web=0",
                 f"--record={os.path.abspath('r')}"],
        "display_name": "d, traced", "language": "l", "interrupt_mode": "message", "metadata": {"debugger": True},
    }  # fmt: skip
    with pytest.raises(SystemExit):
        trace.main(["trace", "install"])
    assert trace.main(["trace", "install", "nobody", "--user"]) == 1


# -- a frontend behind "--" --------------------------------------------------------------------------------------


def run_trace(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minikernel", "trace", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=3 * TIMEOUT, **options)


FRONTEND = """
import sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[-1])
client.load_connection_file()
client.start_channels()
client.wait_for_ready()
client.execute_interactive(sys.argv[1])
sys.exit(3)
"""


def rungs(text: str) -> list[str]:
    """A ladder's lines without times, rails and what else is there."""
    found = [re.sub(r"^ *(\d\d:\d\d:\d\d|\+\d+)\.\d+( ms)? +", "", line) for line in text.splitlines()]
    return [re.sub(r"[─│├┤ ]+", " ", line).strip() for line in found if "│" in line or "✗" in line]


def test_a_ladder() -> None:
    """And what cells print can't do anything to a terminal."""
    code = "print('\x1b[31m\u202e'); 1 + 1"
    done = run_trace("--", sys.executable, "-c", FRONTEND, code)
    assert (done.returncode, done.stdout) == (3, "\x1b[31m\u202e\n2")
    assert "\x1b" not in done.stderr and "\u202e" not in done.stderr
    ladder = rungs(done.stderr)
    number = next(rung.split()[0] for rung in ladder if "execute_request" in rung)
    text = r"\u001b[31m\u202e"
    of_it = [rung.removeprefix(f"{number} ") for rung in ladder if rung.startswith(number)]
    assert [rung for rung in of_it if "shell" not in rung] == [
        "◀ status iopub busy",
        f"◀ execute_input iopub \"print('{text}'); 1 + 1\" execution_count=1",
        f'◀ stream iopub stdout "{text}\\n"',
        "◀ execute_result iopub execution_count=1 data={text/plain}",
        "◀ status iopub idle",
    ]
    asked = f"shell execute_request ▶ \"print('{text}'); 1 + 1\" store_history=true allow_stdin=true"
    assert [rung for rung in of_it if "shell" in rung] == [asked, "◀ execute_reply shell ok execution_count=1"]
    assert "✗" not in done.stderr


def test_the_readmes_ladder(relay: Start, tmp_path: Path) -> None:
    kernel = relay(output=())
    kernel.client().execute("print('hi')")
    end(kernel)
    [shown] = re.findall(r"```ladder\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.S)
    seen = [rung for rung in rungs((tmp_path / "trace").read_text()) if rung.startswith("[1]")]
    for channel in "shell", "iopub":  # which of two channels was first is nobody's promise
        assert [rung for rung in seen if channel in rung] == [rung for rung in rungs(shown) if channel in rung]
    assert len(seen) == len(rungs(shown))


def test_what_it_cannot_do(tmp_path: Path) -> None:
    for arguments, reason in (
        (["--kernel", "nobody"], "there is no kernel called nobody"),
        (["--kernel", kernelspec_of(tmp_path / "no", str(tmp_path / "nothing"))], "No such file or directory"),
        (["-o", str(tmp_path / "not" / "there")], "No such file or directory"),
        (["-f", str(tmp_path)], "cannot read the connection file"),
        (["--", str(tmp_path / "nothing")], "No such file or directory"),
    ):
        done = run_trace(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_frontend_goes_with_it(tmp_path: Path) -> None:
    code = "import os, sys, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    command = [sys.executable, "-m", "minikernel", "trace", "--", sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(TIMEOUT) == -signal.SIGTERM
        assert gone(int((tmp_path / "pid").read_text()))
    finally:
        process.kill()


def test_a_console(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """Ctrl-C is for the cell; the console's end is the kernel's."""
    command = ("-o", str(tmp_path / "trace"), "--", sys.executable, "-m", "jupyter", "console")
    console = terminal("minikernel", "trace", *command)
    console.see(prompt(1))
    console.type("import os, time; os.getpid()" + RUN)
    pid = int(console.see(r"^Out\[1\]: (\d+)$")[1])
    console.see(prompt(2))
    console.type("print('go'); time.sleep(60)" + RUN)
    console.see("^go$")
    console.type(CTRL_C)
    console.see(r"^KeyboardInterrupt(.*\n)+.*" + prompt(3))
    console.type("'x' + input('who? ')" + RUN)
    console.see(r"^who\?\Z")
    console.type("me" + ENTER)
    console.see(r"^Out\[3\]: 'xme'$")
    console.see(prompt(4))
    console.type("exit()" + RUN)
    console.end()
    assert console.child.exitstatus == 0 and gone(pid)
    assert "✗" not in (tmp_path / "trace").read_text()


# -- what it says of what it sees ----------------------------------------------------------------------------------

FAULTY = """
import sys, zmq
from minikernel import get_connection_info
from minikernel.protocol.wire import Session
info = get_connection_info(sys.argv[1])
session, wrong = Session(info["key"].encode()), Session(b"another")
context = zmq.Context()
sockets = {}
for name, kind in ("shell", zmq.ROUTER), ("control", zmq.ROUTER), ("iopub", zmq.XPUB):
    sockets[name] = context.socket(kind)
    sockets[name].bind(f"tcp://{info['ip']}:{info[name + '_port']}")
sockets["iopub"].recv()
sockets["iopub"].send_multipart(session.pack("iopub_welcome", {"subscription": ""}, idents=[b""]))
while True:
    request = session.unpack(sockets["shell"].recv_multipart())
    def say(channel, msg_type, content, session=session, parent=request.header_frame):
        idents = [b"topic"] if channel == "iopub" else request.idents
        sockets[channel].send_multipart(session.pack(msg_type, content, parent, idents=idents))
    exec(request.content["code"])
"""
OK = "say('shell', 'execute_reply', {'status': 'ok', 'execution_count': 1})"
BUSY, IDLE = (f"say('iopub', 'status', {{'execution_state': {state!r}}})" for state in ("busy", "idle"))
FAULTS = {
    f"{IDLE}; {OK}": 'idle of execute_request [1] comes before its busy ("Messaging in Jupyter: Kernel status")',
    f"{BUSY}; {OK}; {IDLE}; {IDLE}": 'idle of execute_request [1] comes after its idle ("Messaging in Jupyter: Kernel status")',
    f"{BUSY}; {OK}; {OK}; {IDLE}": 'a second reply to execute_request [1] ("Messaging in Jupyter: Request-Reply")',
    f"{BUSY}; say('shell', 'inspect_reply', {{'status': 'aborted'}}); {IDLE}": 'execute_request [1] is answered by inspect_reply ("Messaging in Jupyter: Request-Reply")',
    f"{BUSY}; say('shell', 'execute_reply', {{'status': 'ok'}}); {IDLE}": 'execute_reply lacks execution_count ("Messaging in Jupyter: Execute")',
    f"{BUSY}; say('iopub', 'execute_result', {{'execution_count': '1', 'data': {{}}, 'metadata': {{}}}}); {IDLE}": "execution_count of execute_result is '1', not int (\"Messaging in Jupyter: Execution results\")",
    f"{BUSY}; say('shell', 'stream', {{'name': 'stdout', 'text': 'x'}}); {IDLE}": 'stream on shell ("Messaging in Jupyter: Streams (stdout, stderr, etc)")',
    f"{BUSY}; say('iopub', 'execute_request', {{'code': ''}}); {IDLE}": "execute_request is not the kernel's to send (\"Messaging in Jupyter: Execute\")",
    f"say('iopub', 'status', {{'execution_state': 'busy'}}, wrong); {IDLE}": 'no message: wrong signature ("Messaging in Jupyter: The Wire Protocol")',
    f"{BUSY}; say('iopub', 'error', {{}}, parent=b'{{\"msg_id\": \"x\"}}'); {IDLE}": 'the parent of error has not been seen ("Messaging in Jupyter: Parent header")',
    f"{BUSY}; say('shell', 'execute_reply', {{'status': 'error', 'execution_count': 1}}); {IDLE}": "execute_reply with 'status': 'error' lacks ename, evalue, traceback (\"Messaging in Jupyter: Request-Reply\")",
}  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> str:
    return kernelspec_of(
        tmp_path_factory.mktemp("specs") / "faulty", sys.executable, "-c", FAULTY, "{connection_file}"
    )


def test_faults(faulty: str, relay: Start, tmp_path: Path) -> None:
    """All in one kernel's life: each rule that is broken is told below the message that breaks it."""
    kernel = relay(kernel=faulty, output=())
    client = kernel.client()
    for code in FAULTS:
        client.start(code)
    client.start("say('iopub', 'stream', {'name': 'stdout', 'text': 'the ' + 'end'})")
    deadline = time.monotonic() + TIMEOUT
    while 'stdout "the end"' not in (text := (tmp_path / "trace").read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    os.kill(kernel.pid, signal.SIGTERM)
    kernel.wait()
    told = [re.sub(r"\[\d+\]", "[1]", line.partition("✗ ")[2]) for line in text.splitlines() if "✗" in line]
    for code, fault in FAULTS.items():
        assert fault in told, (code, text)


def test_what_has_not_ended(relay: Start, tmp_path: Path) -> None:
    kernel = relay(output=())
    client = kernel.client()
    client.execute("1")
    client.start("import os; os._exit(0)")
    assert kernel.wait() == 0
    assert (tmp_path / "trace").read_text().endswith("[2] execute_request has had no reply and no idle\n")


def test_a_gap_is_nobodys_fault(capfd: pytest.CaptureFixture[str]) -> None:
    """When messages had to be left out, nothing is said of those that they belong to."""
    session = Session(b"key")
    request = session.pack("execute_request", {"code": ""})
    header = bytes(request[2])
    reply = session.pack("execute_reply", {"status": "ok", "execution_count": 1}, header, idents=[b"me"])
    idle = session.pack("status", {"execution_state": "idle"}, header, idents=[b"status"])
    for gap in [], [(1.0, GAP, "7", [])]:
        transcript = Transcript({"key": "key", "signature_scheme": "hmac-sha256"}, relayed=False)
        seen = [
            (0.0, "in", "shell", [b"me", *request]),
            *gap,
            (2.0, "out", "iopub", idle),
            (2.0, "out", "shell", reply),
        ]
        faults = [each.text for entry in transcript.read(seen) for each in entry.violations]
        assert faults == ([] if gap else ["idle of execute_request [1] comes before its busy"])
    assert capfd.readouterr().err == "[minikernel] 7 messages came too fast to be shown\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
)  # fmt: skip
FIELDS = sorted({name for spec in MESSAGES.values() for name in spec.fields} | {"status"})
DEEP = json.loads('{"a":' * 300 + "[" * 300 + "]" * 300 + "}" * 300)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["in", "out"]), st.sampled_from(["shell", "control", "iopub", "stdin", "hb"]),
            st.sampled_from([*MESSAGES, "other"]), st.dictionaries(st.sampled_from(FIELDS), JSON) | JSON | st.just(DEEP),
            st.sampled_from(["one", "two"]), JSON | st.just({"msg_id": "one"}), st.lists(st.binary(), max_size=2),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_no_message_is_too_strange(said: list[tuple[Any, ...]]) -> None:
    """Whatever is in frames, be it signed or not: it can be read, judged and shown."""
    session = Session(b"0123456789abcdef")
    seen = []
    for direction, channel, msg_type, content, msg_id, parent, extra in said:
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            **(content if isinstance(content, dict) and extra else {}),
        }
        four = [json.dumps(part).encode() for part in (header, parent, content, content)]
        frames = [*extra, DELIMITER, session.sign(four), *four, *extra]
        seen.append((0.0, direction, channel, frames if len(extra) < 2 else extra))
    text: list[str] = []
    transcript = Transcript({"key": "0123456789abcdef", "signature_scheme": "hmac-sha256"}, relayed=True)
    ladder = Ladder(text.append, False, lambda: 80, True, transcript.open)
    for entry in transcript.read(seen):
        for view in ladder, JsonLines(text.append):
            view(entry)
        json.dumps(row(entry))
    ladder(None)
    assert all(letter.isprintable() or letter == "\n" for line in text for letter in line)


def test_a_terminal_that_was_stopped_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kernel.json"
    command = [sys.executable, "-m", "minikernel", "trace", "--frames", "-f", str(file)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client = Client(file)
        try:
            assert len(client.execute("for n in range(1000): display(n)").outputs) == 1000  # more than a pipe holds
            assert client.execute("6 * 7").result == "42"
            client.send("shutdown_request", {"restart": False}, "control")
            assert process.wait(TIMEOUT) == 0
        finally:
            client.close()
    finally:
        process.kill()
        process.communicate()


def test_the_record_is_the_kernels_own(relay: Start, tmp_path: Path) -> None:
    theirs, own = tmp_path / "theirs", tmp_path / "own"
    kernel = relay("--record", str(theirs), env={"MINIKERNEL_RECORD": str(own)})
    client = kernel.client()
    client.execute("print('hi'); display(1)")
    asks = client.start("input()", allow_stdin=True)
    client.answer("é\n")
    client.finish(asks)
    client.request("kernel_info_request", channel="control")
    message = client.session.msg("comm_msg", content={"comm_id": "x", "data": {}})
    client.session.send(client.sockets["shell"], message, buffers=[b"12345"])
    client.finish(message["header"]["msg_id"], reply=False)
    client.sockets["shell"].send_multipart([DELIMITER, b"0" * 64, b"{}", b"{}", b"{}", b"{}"])
    client.request("kernel_info_request")
    end(kernel)

    def read(path: Path) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for line in map(json.loads, path.read_text().splitlines()):
            way = line["direction"], line.get("channel", "")
            if line.get("content") == {"execution_state": "starting"}:
                continue  # before which somebody may have subscribed, or not
            found.setdefault(way, []).append(line)
            del line["time"]
            if line.get("idents"):
                ident = bytes.fromhex(line["idents"][-1])  # the relay's own comes before the frontend's
                line["idents"] = ident.split(b" ")[-1]  # a topic on the wire has an address before it
        return found

    assert read(theirs) == read(own)
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert client.info["key"] not in theirs.read_text()


def test_a_key_that_is_printed(relay: Start, tmp_path: Path) -> None:
    kernel = relay("--frames", output=())
    client = kernel.client()
    code = "import minikernel; print(minikernel.get_connection_info()['key'])"
    assert client.execute(code).text().strip() == client.info["key"]
    end(kernel)
    text = (tmp_path / "trace").read_text()
    assert client.info["key"] not in text and 'stdout "' + "*" * 58 in text
    assert client.info["key"][:16].encode().hex(" ") not in text


def test_from_inside(start: Start) -> None:
    kernel = start("--trace=json")
    client = kernel.client()
    result = client.execute("print('hi')\n6 * 7")
    assert (result.text(), result.result) == ("hi\n", "42")
    client.request("kernel_info_request", channel="control")
    end(kernel)
    seen = [json.loads(line) for line in kernel.stderr().splitlines()]
    assert [line["violations"] for line in seen if line["violations"]] == []
    assert seen[0]["content"] == {"execution_state": "starting"}
    for message in result.messages:
        assert message["header"]["msg_id"] in [line["header"]["msg_id"] for line in seen]
    assert client.info["key"] not in kernel.stderr()


def test_a_page_from_inside(start: Start) -> None:
    kernel = start("--trace=web")
    client = kernel.client()
    page = Page(page_of(kernel))
    try:
        client.execute("1")
        rows = rows_until(page, lambda row: row["summary"] == "idle")
        assert [row["type"] for row in rows if row["request"] == 1] == [
            "execute_request", "status", "execute_input", "execute_result", "execute_reply", "status"
        ]  # fmt: skip
    finally:
        page.close()
    end(kernel)


def test_colours() -> None:
    master, slave = os.openpty()
    try:
        assert colourful(slave)
        for name, value in ("NO_COLOR", "1"), ("TERM", "dumb"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(name, value)
                assert not colourful(slave)
    finally:
        os.close(master)
        os.close(slave)
    assert not colourful(os.open(os.devnull, os.O_WRONLY))


# -- the page's server ---------------------------------------------------------------------------------------------


def page_of(kernel: KernelProcess) -> str:
    """The address that was printed."""
    found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", kernel.stderr())
    assert found, kernel.stderr()
    return found[0]


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class Page:
    """The page's websocket, without the page.

    Raises
    ------
    HTTPClientError
        It is refused.
    """

    def __init__(self, url: str, **headers: str) -> None:
        self.loop = asyncio.new_event_loop()
        request = HTTPRequest(url.replace("http", "ws").replace("/?", "/messages?"), headers=headers)
        try:
            self.socket = self.wait(websocket_connect, request)
        except BaseException:
            self.loop.close()
            raise

    def wait(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def wait() -> Any:
            return await asyncio.wait_for(function(*arguments), TIMEOUT)

        return self.loop.run_until_complete(wait())

    def send(self, text: str) -> None:
        self.wait(self.socket.write_message, text)

    def receive(self) -> Any:
        """The next message; None when the other side has closed."""
        text = self.wait(self.socket.read_message)
        return None if text is None else json.loads(text)

    def close(self) -> None:
        self.socket.close()
        self.loop.close()


def rows_until(page: Page, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while not any(map(wanted, rows)):
        rows += page.receive().get("rows", [])
    return rows


def test_who_may_see_the_page(relay: Start) -> None:
    kernel = relay("--web", output=())
    client = kernel.client()
    url = page_of(kernel)
    root, token = url.split("?token=")
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert policy.split("nonce-")[1].split("'")[0] in text and not re.search(r"(src|href)=.?(http|//)", text)
    assert client.info["key"] not in text and token not in text
    for path in ("", "messages"):
        assert [status(root + path + query) for query in ("", "?token=", "?token=x", f"?token={token[:-1]}")] == [
            403
        ] * 4
        assert status(f"{root}{path}?token={token}", Host="rebound.example:1") == 403
    assert status(f"{root}page.html?token={token}") == 404
    Page(url, Origin=root.strip("/")).close()
    for headers in {"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Host": "evil.example"}:
        with pytest.raises(HTTPClientError, match="403"):
            Page(url, **headers)
    with pytest.raises(HTTPClientError, match="403"):
        Page(url[:-1])
    port = int(root.split(":")[2].strip("/"))
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=TIMEOUT):  # only 127.0.0.1
        pass
    assert token not in kernel.stderr().replace(url, "")


def test_what_the_page_is_told(relay: Start) -> None:
    kernel = relay("--web", output=())
    client = kernel.client()
    run = client.start(
        "print('hi', minikernel.get_connection_info()['key']) if 'minikernel' in dir() else None\nimport minikernel"
    )
    client.finish(run)
    client.execute("print('hi', minikernel.get_connection_info()['key'])")
    page = Page(page_of(kernel))
    try:
        assert page.receive()["hello"]["signed"] is True
        client.execute("1")
        rows = rows_until(page, lambda row: row["summary"] == "idle" and row["request"] == 3)
        assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
        stream = next(row for row in rows if row["type"] == "stream")
        page.send(str(stream["number"]))
        frames = [bytes.fromhex(frame) for frame in page.receive()["frames"]]
        assert [frame["name"] for frame in stream["frames"]] == [
            "topic", "delimiter", "signature", "header", "parent_header", "metadata", "content"
        ]  # fmt: skip
        assert [frame["size"] for frame in stream["frames"]] == [len(frame) for frame in frames]
        assert frames[1] == DELIMITER
        assert json.loads(frames[-1]) == {"name": "stdout", "text": f"hi {'*' * len(client.info['key'])}\n"}
        assert stream["signature"] == "good" and stream["link"].endswith("messaging.html#streams-stdout-stderr-etc")
        page.send("100000")
        assert page.receive() == {"number": 100000, "frames": None}
        page.send("__proto__")
        assert page.receive() is None  # closed
    finally:
        page.close()


def test_the_page_keeps_the_last_messages(relay: Start) -> None:
    kernel = relay("--web", output=())
    client = kernel.client()
    client.execute("for n in range(2500): display(n)", timeout=3 * TIMEOUT)
    client.execute("print('x' * 200_000)")
    pages = []
    for _ in range(2):  # the second comes when all has been seen
        pages.append(page := Page(page_of(kernel)))
        rows = rows_until(page, lambda row: row["request"] == 2 and row["summary"] == "idle")
    try:
        assert len(rows) == 2000 and rows[0]["number"] == rows[-1]["number"] - 1999
        stream = next(row for row in rows if row["type"] == "stream")
        assert stream["frames"][-1]["size"] > 200_000 and len(stream["summary"]) < 200
        page.send(str(stream["number"]))
        assert len(page.receive()["frames"][-1]) == 2 * 65536
    finally:
        for page in pages:
            page.close()
    memory = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{kernel.pid}/status").read_text())[1])  # type: ignore[index]
    assert memory < 150_000  # KiB
