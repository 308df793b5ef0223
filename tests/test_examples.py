"""The examples do what they say, each with a real client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pexpect
import pytest
import zmq
from client import TIMEOUT, Client, KernelProcess, kill, until
from jupyter_client.blocking.client import BlockingKernelClient

import minikernel

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
STAGES = sorted(path.name for path in EXAMPLES.glob("0*.py"))
#: The kernels of examples know messages that the observer does not.
UNOBSERVED = {name: value for name, value in os.environ.items() if name != "MINIKERNEL_RECORD"}

Run = Callable[[str], "Example"]


class Example:
    """An example that is a kernel, in a process of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f"{name}.json"
        # stages don't choose their ports: on an address of their own, nobody takes them meanwhile
        ip = "127.{}.{}.{}".format(*(os.urandom(3))) if sys.platform == "linux" else "127.0.0.1"
        minikernel.write_connection_file(self.path, ip=ip)
        self.log = self.path.with_suffix(".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, EXAMPLES / name, "-f", self.path], env=UNOBSERVED, cwd=directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.clients: list[Any] = []

    def client(self, **options: Any) -> Client:
        """A client of the tests."""
        self.clients.append(Client(self.path, **options))
        return self.clients[-1]

    def jupyter_client(self) -> BlockingKernelClient:
        """jupyter_client's client, which has heard that the kernel is ready."""
        client = BlockingKernelClient(connection_file=str(self.path))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=TIMEOUT)
        client.close = client.stop_channels
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait(TIMEOUT)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    running: list[Example] = []

    def run(name: str) -> Example:
        running.append(Example(tmp_path, name))
        return running[-1]

    yield run
    for example in running:
        example.close()


def execute(client: BlockingKernelClient, code: str, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    """Run code; return the reply's content, and the type and content of each output."""
    outputs: list[Any] = []
    reply = client.execute_interactive(
        code, timeout=TIMEOUT, output_hook=lambda m: outputs.append((m["msg_type"], m["content"])), **options
    )
    shown = [(name, content) for name, content in outputs if name not in ("status", "execute_input")]
    return reply["content"], shown


# -- the stages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_beats(run: Run, name: str) -> None:
    assert run(name).client(subscribe=None).beats()


def test_the_wire(run: Run) -> None:
    example = run("02_wire.py")
    client = example.client(subscribe=None)
    msg_id = client.send("kernel_info_request")
    reply = client.receive("shell")  # jupyter_client's Session has found its signature right
    assert (reply["msg_type"], reply["parent_header"]["msg_id"]) == ("kernel_info_reply", msg_id)
    assert reply["content"]["evalue"] == "02 can do nothing"
    client.sockets["shell"].send_multipart([b"<IDS|MSG>", b"0" * 64, b"{}", b"{}", b"{}", b"{}"])
    client.sockets["shell"].send_multipart([b"rubbish"])
    client.send("connect_request")
    assert client.receive("shell")["msg_type"] == "connect_reply"
    shown = example.log.read_text()
    assert shown.count("dropped") == 2 and "dropped: wrong signature" in shown
    names = [line.split()[0] for line in shown.splitlines()[:7]]
    assert names == ["routing", "delimiter", "signature", "header", "parent_header", "metadata", "content"]
    assert f'"msg_id": "{msg_id}"' in shown


def test_jupyter_console_connects(run: Run) -> None:
    example = run("03_kernel_info.py")
    console = pexpect.spawn(
        sys.executable, ["-m", "jupyter", "console", "--existing", str(example.path), "--simple-prompt"],
        env={**os.environ, "TERM": "dumb"}, timeout=2 * TIMEOUT,
    )  # fmt: skip
    try:
        console.expect_exact("This is 03_kernel_info.py.")
        console.expect_exact("In [1]:")
    finally:
        kill(console)


def test_the_bracket(run: Run) -> None:
    client = run("03_kernel_info.py").jupyter_client()
    msg_id = client.history()  # what it knows nothing of is bracketed, too
    states = []
    while states[-1:] != ["idle"]:
        message = client.get_iopub_msg(timeout=TIMEOUT)
        if message["parent_header"].get("msg_id") == msg_id:
            states.append(message["content"]["execution_state"])
    assert states == ["busy", "idle"]


def test_code_runs(run: Run) -> None:
    client = run("04_execute.py").jupyter_client()
    reply, outputs = execute(client, "x = 6\nx * 7")
    assert (reply["status"], reply["execution_count"]) == ("ok", 1)
    assert outputs == [("execute_result", {"execution_count": 1, "data": {"text/plain": "42"}, "metadata": {}})]
    reply, [(msg_type, content)] = execute(client, "1 / 0")
    assert (reply["status"], reply["ename"], msg_type) == ("error", "ZeroDivisionError", "error")
    assert content["traceback"][-1] == "ZeroDivisionError: division by zero"
    assert execute(client, "raise SystemExit")[0]["ename"] == "SystemExit"
    assert execute(client, "a b")[0]["ename"] == "SyntaxError"
    for code, status in {"1": "complete", "for x in y:": "incomplete", "a b": "invalid"}.items():
        client.is_complete(code)
        assert client.get_shell_msg(timeout=TIMEOUT)["content"]["status"] == status
    assert execute(client, "x", silent=True) == ({**execute(client, "pass")[0], "execution_count": 4}, [])


def test_what_is_printed(run: Run) -> None:
    example = run("05_streams.py")
    client = example.client()  # which waits for its iopub_welcome
    cell = client.execute("import sys; print('hi', 'you'); print('no end', end=''); print('!', file=sys.stderr); 7")
    streams = [m["content"] for m in cell.outputs if m["msg_type"] == "stream"]
    assert streams[0] == {"name": "stdout", "text": "hi you\n"}
    assert (cell.text(), cell.text("stderr"), cell.result) == ("hi you\nno end", "!\n", "7")
    assert cell.outputs[-1]["msg_type"] == "execute_result"
    assert example.client().execute("print('to all')").text() == "to all\n"
    client.wait_for("iopub", lambda m: m["content"].get("text") == "to all\n")


def listens(ip: str, port: int) -> bool:
    with socket.socket() as guest:
        return guest.connect_ex((ip, port)) == 0


@pytest.mark.parametrize("name", ["06_stdin.py", "07_threads.py"])
def test_input(run: Run, name: str) -> None:
    example = run(name)
    info = minikernel.get_connection_info(example.path)
    assert until(lambda: listens(info["ip"], info["stdin_port"]))  # who connects too early tries again much later
    client = example.jupyter_client()
    asked = []

    def answer(message: dict[str, Any]) -> None:
        asked.append(message["content"])
        client.input("me")

    reply, outputs = execute(client, "input('who? ') * 2", allow_stdin=True, stdin_hook=answer)
    assert asked == [{"prompt": "who? ", "password": False}]
    assert outputs[0][1]["data"] == {"text/plain": "'meme'"}
    reply, _ = execute(client, "input()", allow_stdin=False)
    assert (reply["ename"], reply["evalue"]) == ("RuntimeError", "this frontend does not want to be asked")


def test_before_threads(run: Run, tmp_path: Path) -> None:
    """Nothing is heard while a cell runs."""
    client = run("06_stdin.py").client()
    end = tmp_path / "end"
    msg_id = client.start(f"import os\nprint('go')\nwhile not os.path.exists({str(end)!r}): pass")
    client.output(msg_id, "go")
    client.send("interrupt_request", channel="control")
    assert not client.beats(timeout=0.3)
    assert not client.sockets["control"].poll(0)
    end.touch()
    assert client.sockets["hb"].poll(TIMEOUT * 1000)
    assert client.finish(msg_id).status == "ok"  # and was not interrupted


def test_with_threads(run: Run) -> None:
    """Heartbeats and an interrupt are heard while a cell runs, and while it asks."""
    client = run("07_threads.py").client()
    client.can_be_asked()
    for code in ("import time; time.sleep(60)", "while True: pass", "input()"):
        msg_id = client.start(f"print('go')\n{code}", allow_stdin=True)
        client.output(msg_id, "go")
        if code == "input()":
            client.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
        assert client.beats()
        assert client.request("interrupt_request", channel="control").status == "ok"
        error = client.wait_for("iopub", lambda m: m["msg_type"] == "error")
        assert error["content"]["ename"] == "KeyboardInterrupt"
        client.finish_rest(msg_id)
    msg_id = client.start("for n in range(500): print(n)")
    for _ in range(10):  # two threads put into one outbox
        client.request("kernel_info_request", channel="control")
    assert client.finish(msg_id).text() == "".join(f"{n}\n" for n in range(500))


# -- the others -------------------------------------------------------------------------------------------


def test_the_frontend(kernel: KernelProcess) -> None:
    kernel.ready()
    frontend = pexpect.spawn(
        sys.executable, [str(EXAMPLES / "client.py"), str(kernel.connection_file)], timeout=TIMEOUT, echo=False,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    try:
        for count, (line, shown) in enumerate([
            ("print('x' * 3)", "xxx"), ("6 * 7", "Out[2]: 42"), ("1 / 0", ": division by zero"),
            ("display(8)", "8"),
        ], 1):  # fmt: skip
            frontend.expect_exact(f"In [{count}]: ")
            frontend.sendline(line)
            frontend.expect_exact(f"{shown}\r\n")
        frontend.expect_exact("In [5]: ")
        frontend.sendline("input('name? ') * 2")
        frontend.expect_exact("name? ")
        frontend.sendline("me")
        frontend.expect_exact("Out[5]: 'meme'")
        frontend.expect_exact("In [6]: ")
        frontend.sendline("import time; print('g' + 'o'); time.sleep(60)")
        frontend.expect_exact("go\r\n")
        frontend.kill(signal.SIGINT)
        frontend.expect_exact("KeyboardInterrupt")
        frontend.expect_exact("In [7]: ")
        frontend.sendeof()
        frontend.expect(pexpect.EOF)
        frontend.wait()
    finally:
        kill(frontend)
    assert frontend.exitstatus == 0 and kernel.process.poll() is None
    assert len((EXAMPLES / "client.py").read_text().splitlines()) <= 100


def test_another_language(run: Run) -> None:
    client = run("wrapper_kernel.py").client()
    info = client.request("kernel_info_request").reply
    assert (info["language_info"]["name"], info["banner"]) == ("lisp", "A small Lisp in minikernel")
    client.execute("(define (square x) (* x x))")
    cell = client.execute(
        '(print "squares" \'of)  ; a comment\n(map square (list 1 2 3))',
        user_expressions={"n": "(+ 1 2)", "bad": "(nope)"},
    )
    assert (cell.text(), cell.result) == ("squares of\n", "(1 4 9)")
    assert cell.reply["user_expressions"]["n"]["data"] == {"text/plain": "3"}
    assert cell.reply["user_expressions"]["bad"]["evalue"] == "nope is not defined"
    failed = client.execute("(undefined 1)")
    assert (failed.ename, failed.reply["traceback"]) == ("LispError", ["LispError: undefined is not defined"])
    assert failed.outputs[0]["msg_type"] == "error"
    assert client.request("complete_request", {"code": "(squ", "cursor_pos": 4}).reply["matches"] == ["square"]
    assert client.request("inspect_request", {"code": "(square 2)", "cursor_pos": 3}).reply["found"]
    completeness = [
        client.request("is_complete_request", {"code": code}).reply["status"] for code in ("(+ 1", "(+ 1)")
    ]
    assert completeness == ["incomplete", "complete"]
    client.execute("(define (forever x) (forever x))")
    assert client.execute("(forever 1)").ename == "RecursionError"
    msg_id = client.start('(input "who? ")', allow_stdin=True)
    client.answer("me")
    assert client.finish(msg_id).result == '"me"'
    msg_id = client.start('(input "who? ")', allow_stdin=True)
    client.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
    client.request("interrupt_request", channel="control")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"


def output_of(name: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=50, env=UNOBSERVED
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_message_of_ones_own() -> None:
    lines = output_of("custom_message.py").splitlines()
    assert [line.partition(" -> ")[2] for line in lines[:4]] == [
        "greet_reply hello you", "greet_reply hello hello hello you", "greet_reply greet_request needs name",
        "greet_reply times of greet_request must be int, not str",
    ]  # fmt: skip
    assert lines[4:] == ["the kernel has ended with 0"]


def test_encryption() -> None:
    if not zmq.has("curve"):
        pytest.skip("this libzmq has no curve")
    answers = [line.split()[-1] for line in output_of("curve.py").splitlines()]
    assert answers == ["True", "False", "False", "ok", "0"]


def test_a_qt_console(start: Any) -> None:
    for module in ("qtconsole", "PySide6"):
        if find_spec(module) is None:  # importing Qt is not for this process
            pytest.skip(f"{module} is not installed")
    client = start(env={"QT_QPA_PLATFORM": "offscreen"}).client()
    run = client.execute((EXAMPLES / "connect_qtconsole.py").read_text())
    assert run.status == "ok" and "the console is process" in run.text(), run.reply
    client.wait_for("iopub", lambda m: m["parent_header"].get("session") not in (None, client.session.session))
    assert client.execute("console.terminate(); console.wait(20) is not None").result == "True"


def test_the_example_inside(client: Any) -> None:
    run = client.execute((ROOT / "examples" / "connect_api.py").read_text())
    assert run.status == "ok" and f"tcp://127.0.0.1:{client.info['shell_port']}" in run.text()


def test_the_example_outside() -> None:
    path = ROOT / "examples" / "launch.py"
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "stream: {'name': 'stdout', 'text': 'hi\\n'}" in done.stdout
    assert "'text/plain': '2'" in done.stdout and "ended with 0" in done.stdout


def test_the_example_embedded(tmp_path: Path) -> None:
    path = ROOT / "examples" / "embed.py"
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    name = process.stdout.readline().split()[-1]
    client = Client(tmp_path / name)
    try:
        docstring = path.read_text().split('"""')[1]
        lines = [line.split("#")[0].strip() for line in docstring.splitlines() if line.startswith("    ")]
        runs = [client.execute(line) for line in lines[:4]]
        assert [run.status for run in runs] == ["ok"] * 4, runs[-1].reply
        client.start(lines[4])  # the application goes on at once, and the end of its kernel may interrupt this cell
        assert runs[2].text() == "only in the console\n" and "hello you, you are number" in runs[3].result
        out, _ = process.communicate(timeout=50)
    finally:
        client.close()
        process.kill()
    assert process.returncode == 0 and "console" not in out and out.endswith(" visitors\n")
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_say_what_they_show(path: Path) -> None:
    text = path.read_text()
    assert text.startswith('"""') and len(text.splitlines()) < 200
    assert "still wrong" in text.lower() or "still missing" in text.lower()
