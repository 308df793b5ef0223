"""Kernels in threads of an application: what they do for it, and what they leave alone."""

from __future__ import annotations

import builtins
import gc
import io
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pexpect
import pytest
from client import TIMEOUT, Client, kill
from jupyter_client import BlockingKernelClient
from test_consoles import ENTER, RUN, Terminal, terminal

import minikernel

__all__ = ["terminal"]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


class Guests:
    """Kernels in this process and their clients."""

    def __init__(self) -> None:
        self.kernels: list[Any] = []
        self.clients: list[Client] = []

    def start(self, *arguments: Any, **options: Any) -> Any:
        self.kernels.append(minikernel.start(*arguments, **options))
        return self.kernels[-1]

    def client(self, kernel: Any) -> Client:
        self.clients.append(Client(kernel.connection_file))
        return self.clients[-1]

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for kernel in self.kernels:
            assert kernel.stop()


@pytest.fixture
def guests() -> Iterator[Guests]:
    guests = Guests()
    yield guests
    guests.end()


class App:
    """An application in a process of its own; its script prints where its kernel is."""

    def __init__(self, directory: Path, script: str, *arguments: str) -> None:
        path = directory / "app.py"
        path.write_text(textwrap.dedent(script))
        self.process = subprocess.Popen(
            [sys.executable, *arguments, str(path)], cwd=directory, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.file = self.process.stdout.readline().strip()
        assert self.file, self.process.stderr.read()  # type: ignore[union-attr]
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.file))
        return self.clients[-1]

    def end(self) -> tuple[int, str, str]:
        """Wait until the application ends; return its code and the rest of what it has written."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=TIMEOUT)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    apps: list[App] = []

    def start(script: str, *arguments: str) -> App:
        apps.append(App(tmp_path, script, *arguments))
        return apps[-1]

    yield start
    for each in apps:
        each.close()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def state() -> dict[str, Any]:
    """What is the process's own."""
    import asyncio

    gc.collect()
    fds = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else os.listdir("/dev/fd")
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "fds": len(fds),
        "streams": [sys.stdin, sys.stdout, sys.stderr],
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "hooks": [sys.displayhook, sys.excepthook, sys.unraisablehook, threading.excepthook],
        "functions": [builtins.input, builtins.print, threading.Thread.start, asyncio.get_running_loop],
        "builtins": sorted(vars(builtins)),
        "main": [sys.modules["__main__"], dict(vars(sys.modules["__main__"]))],
        "modules": sorted(sys.modules),
        "import": [list(sys.path), list(sys.meta_path), list(sys.path_hooks)],
        "process": [list(sys.argv), dict(os.environ), os.getcwd()],
        "last": [name for name in dir(sys) if name.startswith("last_")],
    }


def use(client: Client) -> None:
    """Do a bit of everything."""
    assert client.execute("print('hi'); x = 20\nx + 1").result == "21"
    assert client.execute("1/0").status == "error"
    assert client.execute("import asyncio; await asyncio.sleep(0.001, 'slept')").result == "'slept'"
    assert client.execute("task = asyncio.create_task(asyncio.sleep(1000))").status == "ok"
    subshell = client.create_subshell()
    assert client.execute("y = x", subshell).status == "ok"
    assert client.request("complete_request", {"code": "x.bit_l", "cursor_pos": 7}).reply["matches"] == [
        "bit_length"
    ]


# -- what is touched --------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_start_and_stop_leave_nothing_behind(runtime: Path) -> None:
    before: dict[str, Any] = {}
    for _ in range(60):
        kernel = minikernel.start({})
        client = Client(kernel.connection_file)
        use(client)
        client.close()
        assert kernel.stop() is True
        after = state()
        before = before or after
        assert after == before
    assert os.listdir(runtime) == []


def test_what_is_touched_while_a_kernel_runs(guests: Guests) -> None:
    guests.start({}).stop()  # modules are there from now on
    before = state()
    client = guests.client(guests.start({}))
    assert client.request("kernel_info_request").reply["debugger"] is False

    def touched() -> set[str]:
        after = state()
        assert after["functions"][:3] == before["functions"][:3]  # all but asyncio.get_running_loop
        return {name for name in after if after[name] != before[name]} - {"threads", "fds", "modules", "functions"}

    assert touched() == set()
    client.execute("1")
    assert touched() == {"streams"}
    client.execute("1/0")
    assert touched() == {"streams", "last"}


def test_a_kernel_is_no_more_when_it_has_ended() -> None:
    kernel = minikernel.start({})
    client = Client(kernel.connection_file)
    use(client)
    client.close()
    reference = weakref.ref(kernel._kernel)
    kernel.stop()
    del kernel
    # a thread of the control worker's has said that it has ended, and may be at its last line
    wait_until(lambda: gc.collect() >= 0 and reference() is None)


def test_names_stay_out_of_the_namespace(guests: Guests) -> None:
    namespace: dict[str, Any] = {"x": 5, "_": "the application's"}
    client = guests.client(guests.start(namespace))
    assert client.execute("x + 1").result == "6"
    assert client.execute("Out[1], _1, _i1, In[1], callable(display)").result == "(6, 6, 'x + 1', 'x + 1', True)"
    assert client.execute("_").result == '"the application\'s"'
    client.execute("def f(): return Out[1]\ny = f()")
    assert set(namespace) == {"x", "_", "f", "y", "__builtins__"} and namespace["y"] == 6
    assert namespace["__builtins__"] is builtins
    assert client.request("complete_request", {"code": "Ou", "cursor_pos": 2}).reply["matches"] == ["Out"]
    guests.kernels[0].stop()
    with pytest.raises(NameError):
        namespace["f"]()


def test_the_applications_builtins_win(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "_", str.upper, raising=False)  # gettext.install
    client = guests.client(guests.start({}))
    assert client.execute("1").result == "1"
    assert client.execute("_('x')").result == "'X'"


def test_a_module_and_main_as_namespaces(guests: Guests) -> None:
    module = ModuleType("module")
    guests.client(guests.start(module)).execute("answer = 42")
    assert vars(module)["answer"] == 42
    assert guests.client(guests.start()).execute("__name__").result == "'__main__'"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_signals_stay_blocked_as_they_were(guests: Guests) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        client = guests.client(guests.start({}))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = "import signal; sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    assert client.execute(code).result == f"[{int(signal.SIGTERM)}]"
    subshell = client.create_subshell()
    assert client.execute(code, subshell).result == f"[{int(signal.SIGTERM)}]"


# -- output and input -------------------------------------------------------------------------------------


def test_output_goes_to_whose_it_is(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    asked, printed = threading.Event(), threading.Event()

    def work() -> None:
        asked.wait(TIMEOUT)
        print("the application's")
        sys.stderr.write("the application's error\n")
        printed.set()

    thread = threading.Thread(target=work)
    thread.start()
    namespace = {"asked": asked, "printed": printed}
    client = guests.client(guests.start(namespace))
    run = client.execute(
        "import sys\nprint('a'); asked.set(); printed.wait(); print('b')\nsys.stderr.write('careful\\n')\n"
        "sys.stdout.buffer.write(b'c\\n'); print(isinstance(sys.stdout, __import__('io').TextIOBase), sys.stdout.name)"
    )
    thread.join()
    assert run.text() == "a\nb\nc\nTrue <stdout>\n" and run.text("stderr") == "careful\n"
    print("and here")
    assert (out.getvalue(), err.getvalue()) == ("the application's\nand here\n", "the application's error\n")
    guests.kernels[0].stop()
    assert sys.stdout is out and sys.stderr is err


def test_tasks_print_to_their_cell(guests: Guests) -> None:
    client = guests.client(guests.start({}))
    first = client.start(
        "import asyncio\nasync def late(): await go.wait(); print('late')\ngo = asyncio.Event(); t = asyncio.create_task(late())"
    )
    client.finish(first)
    client.execute("go.set()")
    assert client.output(first, "late") == "late\n"


def test_kernels_do_not_mix(guests: Guests) -> None:
    meet = threading.Barrier(3)
    clients = [guests.client(guests.start({"meet": meet, "me": number})) for number in range(3)]
    cells = [client.start("for n in range(50): meet.wait(); print(me, n)\nme") for client in clients]
    for number, (client, cell) in enumerate(zip(clients, cells, strict=True)):
        run = client.finish(cell)
        assert run.text() == "".join(f"{number} {n}\n" for n in range(50)) and run.result == str(number)
    for client in clients:
        assert "line 1\x1b" in client.execute("1/0").reply["traceback"][1]
        assert client.execute("def f(): pass\nimport inspect; inspect.getsource(f)").result == "'def f(): pass\\n'"
    guests.kernels[0].stop()
    assert clients[1].execute("print('still')").text() == "still\n"


def test_streams_that_others_replace_stay_theirs(guests: Guests) -> None:
    before, mine = sys.stdout, io.StringIO()
    with redirect_stdout(mine):
        client = guests.client(guests.start({}))
        client.execute("1")
        router = sys.stdout
        assert router is not mine
        with redirect_stdout(io.StringIO()) as theirs:
            guests.kernels[0].stop()
            print("x")
        assert theirs.getvalue() == "x\n" and sys.stdout is router
        print("y")  # what redirect_stdout has put back is of no kernel any more
        assert mine.getvalue() == "y\n"
    assert sys.stdout is before


def test_an_application_without_streams(app: Callable[..., App]) -> None:
    process = app("""
        import sys, minikernel, os
        sys.stdin = sys.stdout = sys.stderr = None
        k = minikernel.start({})
        os.write(1, k.connection_file.encode() + b"\\n")
        while not k.wait(0.01):
            print("silent", flush=True)
        os._exit(3 if sys.stdin is sys.stdout is sys.stderr is None else 4)
    """)
    client = process.client()
    assert client.execute("print('hi', flush=True)").text() == "hi\n"
    client.request("shutdown_request", {"restart": False}, "control")
    assert process.end() == (3, "", "")


def test_input_asks_the_frontend(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("the application's\n"))
    namespace: dict[str, Any] = {"library": lambda: input("library? ")}
    client = guests.client(guests.start(namespace))
    cell = client.start("def f(): return input('who? ')\nf()", allow_stdin=True)
    assert client.answer("me")["content"]["prompt"] == "who? "
    assert client.finish(cell).result == "'me'"
    cell = client.start("import sys; library(), sys.stdin.readline()", allow_stdin=True)
    client.answer("a")
    client.answer("b")
    run = client.finish(cell)
    assert run.result == "('a', 'b\\n')" and run.text() == "library? "
    assert client.execute("input()", allow_stdin=False).reply["ename"] == "StdinNotImplementedError"
    assert namespace["f"]() == "the application's"


# -- interrupt, stop and shutdown ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["while True: pass", "await asyncio.sleep(1000)", "input()", "asyncio.run(asyncio.sleep(1000))"]
)
@pytest.mark.parametrize("how", ["interrupt", "stop", "shutdown"])
def test_what_ends_a_cell(guests: Guests, code: str, how: str) -> None:
    kernel = guests.start({})
    client = guests.client(kernel)
    cell = client.start(f"import asyncio; print('go', flush=True)\n{code}", allow_stdin=True)
    client.output(cell, "go")
    if "input" in code:
        client.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
    if how == "interrupt":
        client.request("interrupt_request", channel="control")
        assert client.finish(cell).reply["ename"] == "KeyboardInterrupt"
        assert client.execute("print('on')").text() == "on\n"
    else:
        if how == "shutdown":
            assert client.request("shutdown_request", {"restart": False}, channel="control").status == "ok"
        else:
            assert kernel.stop() is True
        assert client.finish(cell).reply["ename"] == "KeyboardInterrupt"
        assert kernel.wait(TIMEOUT) and not os.path.exists(kernel.connection_file)


def test_a_shutdown_request_ends_the_kernel_and_nothing_else(guests: Guests) -> None:
    guests.start({}).stop()
    before = state()
    kernel = guests.start({})
    client = Client(kernel.connection_file)
    use(client)
    assert not kernel.wait(0)
    assert client.request("shutdown_request", {"restart": True}).reply["restart"] is True  # on shell, this time
    client.close()
    assert kernel.wait(TIMEOUT) is True and kernel.stop() is True and "ended" in repr(kernel)
    assert {**state(), "modules": None} == {**before, "modules": None}


def test_a_cell_may_stop_its_own_kernel(guests: Guests) -> None:
    namespace: dict[str, Any] = {}
    namespace["kernel"] = kernel = guests.start(namespace)
    client = guests.client(kernel)
    cell = client.start("print(kernel.stop(), flush=True)\nwhile True: pass")
    assert client.output(cell, "False")
    assert kernel.wait(TIMEOUT)


def test_a_cell_that_does_not_let_go(guests: Guests) -> None:
    guests.start({}).stop()
    before = state()
    release = threading.Event()
    kernel = minikernel.start({"release": release})
    client = Client(kernel.connection_file)
    cell = client.start("print('go', flush=True)\nrelease.wait()\nprint('nobody hears')\n1/0")
    client.output(cell, "go")
    assert kernel.stop(timeout=0.1) is False and kernel.wait(0) is True
    client.close()
    release.set()
    wait_until(lambda: threading.active_count() == len(before["threads"]))
    assert {**state(), "modules": None} == {**before, "modules": None}


def test_exit_leaves_a_kernel_that_was_started(guests: Guests) -> None:
    kernel = guests.start({})
    client = guests.client(kernel)
    for code in ("exit", "quit()", " exit ( ) \n"):
        payload = [{"source": "ask_exit", "keepkernel": True}]
        assert client.execute(code).reply["payload"] == payload
    assert client.execute("exit(1)").reply["ename"] == "SystemExit"
    assert client.execute("exit = 5\nexit").result == "5" and client.execute("exit").result == "5"
    assert not kernel.wait(0)


def test_the_debugger_is_refused(guests: Guests) -> None:
    client = guests.client(guests.start({}))
    run = client.request("debug_request", {"type": "request", "seq": 1, "command": "initialize"}, channel="control")
    assert run.status == "error"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_the_kernel_and_nothing_else(guests: Guests, capfd: pytest.CaptureFixture[str]) -> None:
    guests.start({}).stop()
    before = state()
    kernel = guests.start({})
    client = Client(kernel.connection_file)
    client.execute("x = 1")
    kernel._kernel.channels.tracers.append(lambda direction, *message: 1 / (direction == "end"))
    client.send("kernel_info_request")
    assert kernel.wait(TIMEOUT) is True
    client.close()
    assert {**state(), "modules": None} == {**before, "modules": None}
    assert "error in the channels thread" in capfd.readouterr().err


# -- the connection file ------------------------------------------------------------------------------------


def test_the_connection_file(guests: Guests, runtime: Path) -> None:
    kernel = guests.start({})
    path = Path(kernel.connection_file)
    assert path.parent == runtime and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["key"] and kernel.command == f"jupyter console --existing {path.name}"
    client = guests.client(kernel)
    assert client.beats()
    code = (
        "import minikernel\nprint(minikernel.get_connection_file(), minikernel.get_connection_info()['shell_port'])"
    )
    assert client.execute(code).text() == f"{path} {client.info['shell_port']}\n"
    assert minikernel.get_connection_file() is None
    kernel.stop()
    assert not path.exists()


def test_a_connection_file_that_is_there_is_used_and_left(guests: Guests, tmp_path: Path) -> None:
    path, info = minikernel.write_connection_file(tmp_path / "mine.json", transport="ipc")
    for _ in range(2):
        kernel = guests.start({}, path)
        assert kernel.command == f"jupyter console --existing {path}"
        client = guests.client(kernel)
        assert client.execute("6 * 7").result == "42"
        kernel.stop()
        assert minikernel.get_connection_info(path) == info
        assert sorted(os.listdir(tmp_path)) == ["mine.json"]


@pytest.mark.parametrize(("fields", "said"), [
    ({}, ""), ({"transport": "ipc"}, ""), ({"ip": "127.0.0.1"}, ""),
    ({"ip": "0.0.0.0"}, "bound to 0.0.0.0 without curve keys: "), ({"key": ""}, "the connection file has no key: "),
])  # fmt: skip
def test_who_can_reach_it(
    guests: Guests, tmp_path: Path, capfd: pytest.CaptureFixture[str], fields: dict[str, Any], said: str
) -> None:
    """It says in one line, as a kernel of its own would, where others can."""
    kernel = guests.start({}, tmp_path / "c.json", **fields)
    assert guests.client(kernel).execute("6 * 7").result == "42"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == bool(said) and all(line.startswith(f"[minikernel] {said}") for line in lines)


def test_what_keeps_a_kernel_from_starting(tmp_path: Path) -> None:
    minikernel.start({}).stop()
    before = state()
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        minikernel.start({}, tmp_path / "wrong.json")
    with pytest.raises(ValueError, match="shell_port"):
        minikernel.start({}, shell_port="five")
    with pytest.raises(OSError, match="cannot bind"):
        minikernel.start({}, ip="192.0.2.1")
    with pytest.raises(FileNotFoundError):
        minikernel.start({}, tmp_path / "none" / "kernel.json")
    assert {**state(), "modules": None} == {**before, "modules": None}


# -- applications -------------------------------------------------------------------------------------------


def test_a_blocking_client_and_a_main_thread_that_sleeps(app: Callable[..., App]) -> None:
    process = app("""
        import minikernel, time
        secret = 42
        k = minikernel.start()
        print(k.connection_file, flush=True)
        while secret == 42:
            time.sleep(0.05)
        k.stop()
        print("done", secret)
    """)
    client = BlockingKernelClient(connection_file=process.file)
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        outputs: list[Any] = []
        reply = client.execute_interactive("print(secret)\nsecret", timeout=TIMEOUT, output_hook=outputs.append)
        assert reply["content"]["status"] == "ok"
        assert "".join(message["content"].get("text", "") for message in outputs) == "42\n"
        [result] = [message["content"] for message in outputs if message["msg_type"] == "execute_result"]
        assert result["data"] == {"text/plain": "42"}
        client.execute("secret = 'told'")
        assert process.end() == (0, "done told\n", "")
    finally:
        client.stop_channels()


@pytest.mark.timeout(120)
def test_jupyter_console_and_a_main_thread_that_sleeps(
    app: Callable[..., App], terminal: Callable[..., Terminal]
) -> None:
    process = app("""
        import minikernel, time
        secret = 42
        k = minikernel.start()
        print(k.connection_file, flush=True)
        time.sleep(1000)
    """)
    for code in ("exit", "quit()"):
        console = terminal("jupyter", "console", "--existing", process.file)
        console.see(r"^In \[\d+\]:\Z")
        console.type("secret + 1" + RUN)
        console.see(r"^Out\[\d+\]: 43$")
        console.see(r"^In \[\d+\]:\Z")
        console.type("print('x' + input('who? '))" + RUN)
        console.see(r"^who\?\Z")
        console.type("me" + ENTER)
        console.see("^xme$")
        console.see(r"^In \[\d+\]:\Z")
        console.type(code + RUN)
        console.see("keeping kernel alive")
        console.end()
    assert process.client().execute("print(secret)").text() == "42\n" and process.process.poll() is None


def test_an_application_with_an_event_loop(app: Callable[..., App]) -> None:
    process = app("""
        import asyncio, minikernel
        async def main():
            global loop, ticks, done
            loop, ticks, done = asyncio.get_running_loop(), 0, asyncio.Event()
            with minikernel.start() as k:
                print(k.connection_file, flush=True)
                while not done.is_set():
                    ticks += 1
                    await asyncio.sleep(0.001)
            return "over"
        async def where():
            print("for the client")
            return asyncio.get_running_loop() is loop
        print(asyncio.run(main()))
    """)
    client = process.client()
    run = client.execute("asyncio.run_coroutine_threadsafe(where(), loop).result()")
    assert run.result == "True" and run.text() == "for the client\n"
    code = (
        "before = ticks\nwhile ticks < before + 5: await asyncio.sleep(0.001)\nasyncio.get_running_loop() is loop"
    )
    assert client.execute(code).result == "False"
    assert client.execute("asyncio.run(asyncio.sleep(0.001, 'run'))").result == "'run'"
    client.execute("loop.call_soon_threadsafe(done.set)")
    assert process.end() == (0, "over\n", "")


@pytest.mark.parametrize("when", ["running", "deleted"])
def test_subshells_end_too(guests: Guests, when: str) -> None:
    guests.start({}).stop()
    before = state()
    kernel = guests.start({})
    client = Client(kernel.connection_file)
    subshell = client.create_subshell()
    cell = client.start("print('go', flush=True)\nwhile True: pass", subshell)
    client.output(cell, "go")
    if when == "deleted":
        client.request("delete_subshell_request", {"subshell_id": subshell}, channel="control")
    assert kernel.stop() is True
    client.close()
    assert {**state(), "modules": None} == {**before, "modules": None}


EMBED = """
    import minikernel
    def function():
        x = 20
        minikernel.embed(connection_file="./kernel.json")
        return "on"
    print("kernel.json")
    print(function())
"""


@pytest.mark.parametrize("how", ["exit", "shutdown", "signal"])
def test_embed(app: Callable[..., App], tmp_path: Path, how: str) -> None:
    process = app(EMBED, "-u")
    wait_until((tmp_path / "kernel.json").exists)
    process.file = str(tmp_path / "kernel.json")
    client = process.client()
    assert client.execute("def g(): return x + 1, function.__name__\ng()").result == "(21, 'function')"
    if how == "exit":
        assert client.execute("exit").reply["payload"] == [{"source": "ask_exit", "keepkernel": False}]
    elif how == "shutdown":
        client.request("shutdown_request", {"restart": False}, "control")
    else:
        process.process.send_signal(signal.SIGINT)
    code, out, err = process.end()
    assert (
        (code, err) == (0, "")
        and out.endswith("\non\n")
        and out.startswith("To attach a console:  jupyter console")
    )
    assert not (tmp_path / "kernel.json").exists()


def test_embed_leaves_nothing_behind(guests: Guests, tmp_path: Path) -> None:
    guests.start({}).stop()
    before = state()
    path = tmp_path / "kernel.json"
    thread = threading.Thread(target=minikernel.embed, args=[{}, path])
    thread.start()
    wait_until(path.exists)
    client = Client(path)
    client.execute("exit")
    client.request("shutdown_request", {"restart": False}, "control")  # the console does so when it has read that
    thread.join()
    client.close()
    assert {**state(), "modules": None} == {**before, "modules": None}


@pytest.mark.timeout(120)
def test_embed_and_a_console(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(EMBED))
    app = pexpect.spawn(sys.executable, ["app.py"], encoding="utf-8", timeout=30, cwd=str(tmp_path))
    app.expect(r"jupyter console --existing (\S+)")
    try:
        console = terminal("jupyter", "console", "--existing", app.match[1])
        console.see(r"^In \[\d+\]:\Z")
        console.type("x + 1" + RUN)
        console.see(r"^Out\[\d+\]: 21$")
        console.see(r"^In \[\d+\]:\Z")
        console.type("exit" + RUN)
        console.end()
        app.expect("on\r\n")
        app.expect(pexpect.EOF)
        app.wait()
    finally:
        kill(app)
    assert app.exitstatus == 0 and console.child.exitstatus == 0


def test_embed_in_a_module(app: Callable[..., App], tmp_path: Path) -> None:
    process = app(
        "import minikernel\nprint('kernel.json')\nx = 1\nminikernel.embed(connection_file='./kernel.json')\nprint(x)",
        "-u",
    )
    wait_until((tmp_path / "kernel.json").exists)
    process.file = str(tmp_path / "kernel.json")
    client = process.client()
    client.execute("x = 2")
    client.execute("exit")
    assert process.end()[1].endswith("\n2\n")


@pytest.mark.parametrize("code", ["pass", "print('go', flush=True)\nwhile True: pass"])
def test_a_process_that_ends_takes_its_kernel_along(app: Callable[..., App], code: str) -> None:
    process = app("""
        import minikernel, threading
        end = threading.Event()
        print(minikernel.start().connection_file, flush=True)
        end.wait()
    """)
    client = process.client()
    cell = client.start(f"end.set()\n{code}")
    assert process.end() == (0, "", "")
    assert client.wait_for("shell", lambda m: m["parent_header"].get("msg_id") == cell)
    assert not os.path.exists(process.file)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_of_the_application_is_no_kernel(app: Callable[..., App]) -> None:
    process = app("""
        import minikernel, os, sys, threading
        fork = threading.Event()
        k = minikernel.start()
        print(k.connection_file, flush=True)
        fork.wait()
        pid = os.fork()
        if not pid:
            print(f"child {k.stop()}\\n", end="", flush=True)
            sys.exit()
        os.waitpid(pid, 0)
        k.wait()
    """)
    client = process.client()
    client.execute("fork.set()")
    code = (
        "import os\npid = os.fork()\nif not pid: print('in a cell\\n', end=''); os._exit(0)\nos.waitpid(pid, 0)[1]"
    )
    run = client.execute(code)
    assert run.result == "0"
    assert os.path.exists(process.file)
    client.request("shutdown_request", {"restart": False}, "control")
    code, out, _ = process.end()
    assert code == 0 and sorted(out.splitlines()) == ["child True", "in a cell"]


def test_a_guest_of_a_kernel(client: Client, guests: Guests) -> None:
    code = "import minikernel, sys; before = sys.stdout; k = minikernel.start({'x': 1}); print(k.connection_file)"
    path = client.execute(code).text().strip()
    guest = Client(path)
    try:
        assert guest.execute("print('guest', x)").text() == "guest 1\n"
        assert client.execute("print('host')").text() == "host\n"
        cell = client.start("print(input('host? '))", allow_stdin=True)
        client.answer("a")
        assert client.finish(cell).text().endswith("a\n")
        assert guest.execute("import minikernel; minikernel.get_connection_file()").result == repr(path)
        assert client.execute("minikernel.get_connection_file() == k.connection_file").result == "False"
        assert guest.iopub and not [m for m in guest.iopub if "host" in str(m["content"])]
    finally:
        guest.close()
    assert client.execute("k.stop(), sys.stdout is before").result == "(True, True)"


@pytest.mark.parametrize("code", ["%time 1", "%%bash\nls", "!ls", "x = !ls"])
def test_magics_are_refused(guests: Guests, code: str) -> None:
    before = sys.modules.get("IPython")
    client = guests.client(guests.start({}))
    run = client.execute(code)
    assert run.reply["ename"] == "UsageError" and "guest" in run.reply["evalue"]
    assert client.execute("ls").reply["ename"] == "NameError"
    assert sys.modules.get("IPython") is before and not hasattr(builtins, "get_ipython")
