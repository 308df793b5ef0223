"""The debugger, as a frontend uses it: every DAP request goes over the wire to a real kernel with debugpy."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from client import TIMEOUT, Client, KernelProcess

from minikernel.python.debugger import SEED, murmur2

needs_debugpy = pytest.mark.skipif(find_spec("debugpy") is None, reason="debugpy is not installed")

FUNCTION = "def double(x):\n    y = x * 2\n    return y"


class Debug:
    """The debugger panel of one frontend."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seq = 0

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the response."""
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments}
        run = self.client.request("debug_request", content, "control", timeout=2 * TIMEOUT)
        # an event that comes while this is answered, and no cell runs, has this as its parent
        self.client.heard["iopub"] += [m for m in run.messages if m["msg_type"] == "debug_event"]
        response = run.reply
        assert response["type"] == "response" and response["command"] == command
        assert response["request_seq"] == self.seq
        assert response["success"] or response["message"]
        return response

    def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the body of the response, which must be a success."""
        response = self.ask(command, **arguments)
        assert response["success"], str(response)
        return response["body"]

    def event(self, name: str) -> dict[str, Any]:
        message = self.client.wait_for(
            "iopub", lambda m: m["msg_type"] == "debug_event" and m["content"]["event"] == name
        )
        return message["content"].get("body", {})

    def start(self) -> None:
        self("initialize", clientID="test", adapterID="test", pathFormat="path", linesStartAt1=True)
        self("attach")

    def set_breakpoint(self, code: str, *lines: int) -> str:
        """Set the breakpoints of a cell, as JupyterLab does it; return the cell's path."""
        path = self("dumpCell", code=code)["sourcePath"]
        body = self(
            "setBreakpoints", source={"path": path}, breakpoints=[{"line": n} for n in lines], sourceModified=False
        )
        assert [point["verified"] for point in body["breakpoints"]] == [True] * len(lines)
        self("configurationDone")
        return path

    def stop(self, code: str, *lines: int, **header: Any) -> tuple[str, int]:
        """Run a cell to a breakpoint; return its msg_id, and the thread."""
        self.set_breakpoint(code, *lines)
        return self.run(code, **header), self.event("stopped")["threadId"]

    def run(self, code: str, **header: Any) -> str:
        """Start a cell, in a subshell perhaps; return its msg_id."""
        header = {**self.client.session.msg_header("execute_request"), **header}
        return self.client.send("execute_request", {"code": code}, header=header)

    def frames(self, thread: int) -> list[tuple[str, int, str]]:
        frames = self("stackTrace", threadId=thread)["stackFrames"]
        return [(frame["name"], frame["line"], frame["source"]["path"]) for frame in frames]

    def top(self, thread: int) -> int:
        return self("stackTrace", threadId=thread)["stackFrames"][0]["id"]

    def names(self, reference: int) -> dict[str, str]:
        return {v["name"]: v["value"] for v in self("variables", variablesReference=reference)["variables"]}


@pytest.fixture
def kernel(start: Callable[..., KernelProcess], tmp_path: Path) -> KernelProcess:
    """A fresh kernel whose files go when the test does."""
    return start(env={"TMPDIR": str(tmp_path)})


@pytest.fixture
def debug(client: Client) -> Debug:
    return Debug(client)


@pytest.fixture
def without(start: Callable[..., KernelProcess], tmp_path: Path) -> Debug:
    """The debugger of a kernel whose Python has no debugpy."""
    return Debug(start(env={"TMPDIR": str(tmp_path)}, without=("debugpy",)).client())


# -- without a session --------------------------------------------------------------------------------------


def test_murmur2() -> None:
    """The hash is JupyterLab's: values from ipykernel, which agrees with it."""
    known = {
        "": 3990065800, "a": 2167009006, "ab": 2805137849, "abc": 3350977461,
        "print('hé')": 3031500587, "x = 1\n": 1602534638,
    }  # fmt: skip
    for text, value in known.items():
        assert murmur2(text.encode(), SEED) == value


@needs_debugpy
def test_kernel_info_says_whether_there_is_a_debugger(client: Client) -> None:
    info = client.request("kernel_info_request").reply
    assert info["debugger"] is True
    assert "debugger" in info["supported_features"]
    loaded = client.execute(
        "import sys; [m for m in sys.modules if 'debug' in m or 'pydevd' in m or 'tracer' in m]"
    )
    assert loaded.result == "[]"


def test_without_debugpy(without: Debug) -> None:
    client = without.client
    info = client.request("kernel_info_request").reply
    assert info["debugger"] is False
    assert "debugger" not in info["supported_features"]
    client.execute("value = [1, 2]")
    for command in ("initialize", "initialize"):
        assert "pip install debugpy" in without.ask(command)["message"]
    for command in ("attach", "setBreakpoints", "stackTrace", "continue"):
        response = without.ask(command, source={"path": "x"}, threadId=1)
        assert not response["success"] and "not started" in response["message"]
    assert without("debugInfo")["isStarted"] is False
    path = without("dumpCell", code="a = 1\n")["sourcePath"]
    assert without("source", source={"path": path}) == {"content": "a = 1\n"}
    shown = {v["name"]: v for v in without("inspectVariables")["variables"]}
    assert without.names(shown["value"]["variablesReference"]) == {"0": "1", "1": "2"}
    assert without("richInspectVariables", variableName="value")["data"] == {"text/plain": "[1, 2]"}
    assert without("modules")["totalModules"] > 0
    assert without("disconnect") == {}
    assert client.execute("value").result == "[1, 2]"


def test_debug_info(kernel: KernelProcess) -> None:
    debug = Debug(kernel.client())
    info = debug("debugInfo")
    assert info["hashMethod"] == "Murmur2" and info["hashSeed"] == SEED == 3339675911
    assert info["isStarted"] is False and info["breakpoints"] == [] and info["stoppedThreads"] == []
    code = "# é\n\r\nprint(1)"
    path = debug("dumpCell", code=code)["sourcePath"]
    assert path == f"{info['tmpFilePrefix']}{murmur2(code.encode(), SEED)}{info['tmpFileSuffix']}"
    assert Path(path).read_bytes() == code.encode()
    directory = Path(path).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert debug("source", source={"path": path})["content"] == code
    assert "unavailable" in debug.ask("source", source={"path": path + "x"})["message"]
    debug.client.request("shutdown_request", channel="control")
    kernel.wait()
    assert not directory.exists()


def test_what_a_killed_kernel_has_left_is_removed(start: Callable[..., KernelProcess], tmp_path: Path) -> None:
    def dumped() -> tuple[KernelProcess, Path]:
        """A kernel, and the directory of its cells, which looks old."""
        kernel = start(env={"TMPDIR": str(tmp_path)})
        directory = Path(Debug(kernel.client())("dumpCell", code="secret")["sourcePath"]).parent
        os.utime(directory, (0, 0))
        return kernel, directory

    (killed, left), (_, used) = dumped(), dumped()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    others = tmp_path / "minikernel-cells-notes"  # somebody's, with a name almost like ours
    others.mkdir(0o700)
    os.utime(others, (0, 0))
    dumped()
    assert not left.exists() and used.exists() and others.exists()


def test_inspect_variables(debug: Debug) -> None:
    client = debug.client
    client.execute(
        "class Point:\n    def __init__(self): self.x, self.y = 1, 'two'\np = Point(); d = {'a': [1], 2: {}}"
    )
    client.execute(
        "class Bad:\n    def __repr__(self): raise ValueError('no')\nbad = Bad(); long = list(range(10**6))\n1"
    )
    shown = {v["name"]: v for v in debug("inspectVariables")["variables"]}
    assert set(shown) == {"Point", "p", "d", "Bad", "bad", "long"}
    assert shown["p"]["type"] == "Point" and shown["p"]["evaluateName"] == "p"
    assert debug.names(shown["p"]["variablesReference"]) == {"x": "1", "y": "'two'"}
    parts = {
        v["name"]: v for v in debug("variables", variablesReference=shown["d"]["variablesReference"])["variables"]
    }
    assert parts["'a'"]["value"] == "[1]" and parts["2"]["variablesReference"] == 0
    assert debug.names(parts["'a'"]["variablesReference"]) == {"0": "1"}
    assert len(shown["long"]["value"]) < 300
    page = debug("variables", variablesReference=shown["long"]["variablesReference"], start=10, count=2)
    assert [v["value"] for v in page["variables"]] == ["10", "11"]
    assert "Bad" in shown["bad"]["value"]
    assert not debug.ask("variables", variablesReference=10**6)["success"]


def test_rich_inspect_variables(debug: Debug) -> None:
    debug.client.execute("class Html:\n    def _repr_html_(self): return '<b>bold</b>'\nh = Html()")
    assert debug("richInspectVariables", variableName="h")["data"]["text/html"] == "<b>bold</b>"
    assert debug("richInspectVariables", variableName="special variables") == {"data": {}, "metadata": {}}
    assert "not defined" in debug.ask("richInspectVariables", variableName="nothing")["message"]


def test_what_is_wrong_is_said(debug: Debug) -> None:
    assert "not supported" in debug.ask("runInTerminal")["message"]
    assert "needs 'code'" in debug.ask("dumpCell")["message"]
    assert "not started" in debug.ask("next", threadId=1)["message"]
    assert not debug.ask("source", source=None)["success"]
    assert not debug.ask("richInspectVariables", variableName=1)["success"]
    assert debug.client.request("debug_request", {"seq": 1}, "control").status == "error"


# -- sessions -----------------------------------------------------------------------------------------------


@needs_debugpy
def test_a_session(debug: Debug) -> None:
    client = debug.client
    debug.start()
    code = f"\n\n{FUNCTION}\n\nz = double(4)\nprint(z)\n"
    path = debug.set_breakpoint(code, 4)
    assert debug("debugInfo")["breakpoints"] == [{"source": path, "breakpoints": [{"line": 4}]}]
    msg_id = client.start(code)
    stopped = debug.event("stopped")
    thread = stopped["threadId"]
    assert stopped["reason"] == "breakpoint" and stopped["allThreadsStopped"] is True
    info = debug("debugInfo")
    assert info["isStarted"] is True and thread in info["stoppedThreads"]
    assert debug.frames(thread) == [("double", 4, path), ("<module>", 7, path)]
    threads = debug("threads")["threads"]
    assert not [t for t in threads if "minikernel" in t["name"] or "pydevd" in t["name"]]

    frame = debug.top(thread)
    scopes = {scope["name"]: scope["variablesReference"] for scope in debug("scopes", frameId=frame)["scopes"]}
    assert debug.names(scopes["Locals"]) == {"x": "4"}
    assert not {"In", "Out", "_", "_i", "exit", "display"} & set(debug.names(scopes["Globals"]))
    assert debug("evaluate", expression="x + 38", frameId=frame, context="repl")["result"] == "42"
    assert not debug.ask("evaluate", expression="nothing", frameId=frame, context="repl")["success"]
    assert debug("richInspectVariables", variableName="x", frameId=frame)["data"] == {"text/plain": "4"}
    assert not debug.ask("richInspectVariables", variableName="nothing", frameId=frame)["success"]
    debug("copyToGlobals", srcVariableName="x", dstVariableName="copied", srcFrameId=frame)
    assert not debug.ask("copyToGlobals", srcVariableName="x", dstVariableName="a.b", srcFrameId=frame)["success"]

    debug("next", threadId=thread)
    assert debug.event("stopped")["reason"] == "step"
    assert debug.frames(thread)[0] == ("double", 5, path)
    debug("stepOut", threadId=thread)
    debug.event("stopped")
    assert debug.frames(thread)[0][::2] == ("<module>", path)
    debug("continue", threadId=thread)
    assert client.finish(msg_id).text() == "8\n"
    assert client.execute("copied").result == "4"
    assert debug("debugInfo")["stoppedThreads"] == []


@needs_debugpy
def test_step_in_and_off_the_end(debug: Debug) -> None:
    client = debug.client
    debug.start()
    code = f"{FUNCTION}\nz = double(4)"
    path = debug.set_breakpoint(code, 4)
    msg_id = client.start(code)
    thread = debug.event("stopped")["threadId"]
    debug("stepIn", threadId=thread)
    debug.event("stopped")
    assert debug.frames(thread)[0] == ("double", 2, path)
    debug("stepOut", threadId=thread)
    debug.event("stopped")
    debug("next", threadId=thread)
    assert client.finish(msg_id).status == "ok"
    debug.set_breakpoint(code)
    assert client.execute("z").result == "8"


@needs_debugpy
def test_cells_that_ran_before(debug: Debug) -> None:
    """A breakpoint holds in a function whose cell ran before there was a debugger, and when it runs again."""
    client = debug.client
    client.execute(FUNCTION)
    debug.start()
    path = debug.set_breakpoint(FUNCTION, 2)
    for _ in range(2):
        msg_id = client.start("double(1)")
        thread = debug.event("stopped")["threadId"]
        assert debug.frames(thread)[0] == ("double", 2, path)
        debug("continue", threadId=thread)
        assert client.finish(msg_id).result == "2"
        client.execute(FUNCTION)


@needs_debugpy
def test_tracebacks_and_sources_stay(debug: Debug) -> None:
    client = debug.client
    debug.start()
    debug("dumpCell", code="def f():\n    1/0")
    client.execute("def f():\n    1/0")
    failed = client.execute("f()")
    assert failed.ename == "ZeroDivisionError"
    text = "\n".join(failed.reply["traceback"])
    assert "Cell In[2], line 1" in text and "Cell In[1], line 2" in text and "    1/0" in text
    assert "pydevd" not in text and ".py" not in text
    assert client.execute("import inspect; print(inspect.getsource(f))").text() == "def f():\n    1/0\n\n"


@needs_debugpy
def test_a_breakpoint_in_a_thread(debug: Debug) -> None:
    """All is stopped then, and the kernel is alive: the cell that is sent meanwhile waits, control does not."""
    client = debug.client
    debug.start()
    path = debug.set_breakpoint(FUNCTION, 2)
    client.execute(FUNCTION)
    client.execute(
        "import threading; go = threading.Event()\n"
        "thread = threading.Thread(target=lambda: (go.wait(), print(double(3)))); thread.start()"
    )
    client.execute("threading.Timer(0.3, go.set).start()")
    thread = debug.event("stopped")["threadId"]
    assert debug.frames(thread)[0] == ("double", 2, path)
    waiting = client.start("1 + 1")
    assert client.request("kernel_info_request", channel="control").status == "ok"
    debug("continue", threadId=thread)
    assert client.finish(waiting).result == "2"
    assert client.execute("thread.join()").status == "ok"


@needs_debugpy
def test_pause(debug: Debug) -> None:
    """A cell that ran already when the debugger was started can be paused, too."""
    client = debug.client
    msg_id = client.start("n = 0\nprint('go')\nwhile n >= 0:\n    n += 1")
    client.output(msg_id, "go")
    debug.start()
    debug("pause", threadId=1)
    thread = debug.event("stopped")["threadId"]
    frame = debug.top(thread)
    assert int(debug("evaluate", expression="n", frameId=frame, context="repl")["result"]) > 0
    debug("evaluate", expression="n = -2", frameId=frame, context="repl")
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"


@needs_debugpy
def test_disconnect_and_start_again(debug: Debug) -> None:
    client = debug.client
    client.execute(FUNCTION)
    for _ in range(2):
        debug.start()
        debug.set_breakpoint(FUNCTION, 3)
        msg_id = client.start("double(5)")
        debug.event("stopped")
        debug("disconnect", restart=False, terminateDebuggee=True)  # the kernel stays, whatever is asked for
        assert client.finish(msg_id).result == "10"
        info = debug("debugInfo")
        assert info["isStarted"] is False and info["breakpoints"] == [] and info["stoppedThreads"] == []
        assert client.execute("double(6)").result == "12"


@needs_debugpy
def test_breakpoint(debug: Debug) -> None:
    """It stops in the debugger during a session, and in pdb before and after."""
    client = debug.client
    code = "x = 1\nbreakpoint()\ny = 2"
    for session in (False, True, False, True):
        if session:
            debug.start()
        msg_id = client.start(code, allow_stdin=True)
        if session:
            debug("continue", threadId=debug.event("stopped")["threadId"])
        else:
            client.answer("c")
        assert client.finish(msg_id).status == "ok"
        debug("disconnect")


@needs_debugpy
def test_terminate_ends_the_cell(debug: Debug) -> None:
    client = debug.client
    debug.start()
    msg_id = client.start("print('go')\nwhile True: pass")
    client.output(msg_id, "go")
    debug("terminate")
    client.finish_rest(msg_id)
    assert client.execute("1 + 1").result == "2"


@needs_debugpy
def test_an_event_waits_for_the_busy_of_the_cell_that_it_belongs_to(debug: Debug) -> None:
    client = debug.client
    debug.start()
    client.execute(
        "import gc\nfrom minikernel.python.debugger import Debugger\nfrom minikernel.kernel.request import current_request\n"
        "kernel = current_request().kernel\n(debugger,) = [o for o in gc.get_objects() if type(o) is Debugger]\n"
        "publish = kernel._publish_status\n"
        "def early(request, state, *args, **kwargs):\n"
        "    if state == 'busy' and request is kernel.main.running and not request.started:\n"
        "        debugger._event({'type': 'event', 'event': 'early'})\n"
        "    publish(request, state, *args, **kwargs)\n"
        "kernel._publish_status = early"
    )
    run = client.execute("6 * 7")
    assert run.result == "42"
    (early,) = [m for m in client.iopub if m["content"].get("event") == "early"]
    assert early["parent_header"]["msg_type"] == "debug_request"


@needs_debugpy
def test_interrupt_while_stopped(kernel: KernelProcess) -> None:
    """The line that the user looks at must not run; and the debugger goes on to work."""
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    code = "done = []\ndone.append(1)\ndone.append(2)"
    debug.set_breakpoint(code, 2)
    for _ in range(2):
        msg_id = client.start(code)
        debug.event("stopped")
        kernel.interrupt()
        run = client.finish(msg_id)
        assert run.ename == "KeyboardInterrupt"
        assert "pydevd" not in "".join(run.reply["traceback"])
        assert debug("debugInfo")["stoppedThreads"] == []
        assert client.execute("done").result == "[]"


@needs_debugpy
def test_continue_after_an_interrupt(kernel: KernelProcess) -> None:
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    code = "done = []\ndone.append(1)\ndone.append(2)"
    debug.set_breakpoint(code, 2)
    msg_id = client.start(code)
    debug.event("stopped")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    msg_id = client.start(code)
    thread = debug.event("stopped")["threadId"]
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"
    assert client.execute("done").result == "[1, 2]"


@needs_debugpy
def test_interrupt_after_steps(kernel: KernelProcess) -> None:
    """Wherever a step has led: to the next line, into a function, to its end and out of it."""
    debug = Debug(kernel.client())
    debug.start()
    code = f"{FUNCTION}\ndone = []\ndone.append(double(4))\ndone.append(2)"
    for steps in (["next"], ["stepIn"], ["stepIn", "next", "next"], ["stepIn", "stepOut"], ["stepIn", "stepIn"]):
        msg_id, thread = debug.stop(code, 5)
        for step in steps:
            debug(step, threadId=thread)
            debug.event("stopped")
        kernel.interrupt()
        assert debug.client.finish(msg_id).ename == "KeyboardInterrupt"
        assert debug.client.execute("done").result in ("[]", "[8]"), steps


@needs_debugpy
def test_a_cell_that_survives_its_interrupt(kernel: KernelProcess) -> None:
    """It is not stopped again by what has been stopped before; the cells after it are, by their breakpoints."""
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    code = "done = []\ntry:\n    done.append(1)\nexcept KeyboardInterrupt:\n    done.append(2)\ndone.append(3)"
    for _ in range(2):
        msg_id, _ = debug.stop(code, 3)
        kernel.interrupt()
        assert client.finish(msg_id).status == "ok"
        assert client.execute("done").result == "[2, 3]"


@needs_debugpy
def test_interrupt_where_an_exception_stops(kernel: KernelProcess) -> None:
    """And KeyboardInterrupt is no exception to stop at."""
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    debug("setExceptionBreakpoints", filters=["raised"])
    for code in ("while True:\n    try:\n        1/0\n    except ZeroDivisionError:\n        pass", "1/0"):
        for _ in range(2):
            msg_id = client.start(code)
            assert debug.event("stopped")["reason"] == "exception"
            kernel.interrupt()
            run = client.finish(msg_id)
            assert run.ename == "KeyboardInterrupt" or (run.ename == "ZeroDivisionError" and code == "1/0")
            assert not run.text("stderr")
            assert debug("debugInfo")["stoppedThreads"] == []
    msg_id = client.start("print('go')\nwhile True: pass")
    client.output(msg_id, "go")
    kernel.interrupt()
    client.finish_rest(msg_id)
    assert client.execute("1 + 1").result == "2"


@needs_debugpy
def test_questions_that_an_interrupt_crosses(start: Callable[..., KernelProcess], tmp_path: Path) -> None:
    """What a thread can't be asked any more, because it has been let go, is answered, too."""
    for _ in range(3):  # the first question takes pydevd longest
        kernel = start(env={"TMPDIR": str(tmp_path)})
        client = kernel.client()
        debug = Debug(client)
        debug.start()
        msg_id, thread = debug.stop("a = 1\nb = 2", 2)
        arguments = {"expression": "a", "frameId": debug.top(thread), "context": "repl"}
        asked = client.send("debug_request", {"command": "evaluate", "arguments": arguments}, "control")
        kernel.interrupt()
        response = client.finish(asked, "control", timeout=2 * TIMEOUT).reply
        assert response["success"] or "not answered" not in response["message"]
        debug("continue", threadId=thread)  # if it is the question that was interrupted
        client.finish(msg_id)


@needs_debugpy
def test_what_needs_a_stopped_thread(debug: Debug) -> None:
    """pydevd would leave these unanswered, or do them when a thread stops the next time."""
    client = debug.client
    debug.start()
    msg_id, thread = debug.stop("a = 1\nb = 2", 2)
    for _ in range(2):
        assert debug("continue", threadId=thread) == {"allThreadsContinued": True}
    assert client.finish(msg_id).status == "ok"
    for command in ("exceptionInfo", "goto", "next", "stepIn", "stepOut"):
        assert "no thread is stopped" in debug.ask(command, threadId=thread, targetId=1)["message"]
    msg_id, thread = debug.stop("a = 1\nb = 2", 2)
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"


@needs_debugpy
def test_every_command_is_answered(debug: Debug) -> None:
    """The commands of the Debug Adapter Protocol that are about a stopped thread, and that pydevd does."""
    client = debug.client
    debug.start()
    code = f"{FUNCTION}\ntry:\n    double(None)\nexcept TypeError:\n    x = 1"
    path = debug("dumpCell", code=code)["sourcePath"]
    assert debug("setFunctionBreakpoints", breakpoints=[]) == {"breakpoints": []}
    debug("setExceptionBreakpoints", filters=["raised"])
    msg_id = client.start(code)
    thread = debug.event("stopped")["threadId"]
    assert debug("exceptionInfo", threadId=thread)["exceptionId"] == "TypeError"
    frame = debug.top(thread)
    scope = debug("scopes", frameId=frame)["scopes"][0]["variablesReference"]
    assert debug("completions", frameId=frame, text="x", column=2)["targets"][0]["label"] == "x"
    assert debug("stepInTargets", frameId=frame) == {"targets": []}
    assert debug("setVariable", variablesReference=scope, name="x", value="21")["value"] == "21"
    assert debug("setExpression", frameId=frame, expression="x", value="x * 2")["value"] == "42"
    assert debug("evaluate", frameId=frame, expression="x")["result"] == "42"
    assert debug("setExceptionBreakpoints", filters=[]) == {}
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"

    msg_id, thread = debug.stop("done = []\ndone.append(1)\ndone.append(2)\n0", 2)
    path = debug.frames(thread)[0][2]
    (target,) = debug("gotoTargets", source={"path": path}, line=3)["targets"]
    debug("goto", threadId=thread, targetId=target["id"])
    assert debug.event("stopped")["reason"] == "goto"
    assert debug.frames(thread)[0] == ("<module>", 3, path)
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"
    assert client.execute("done").result == "[2]"
    assert "not supported" in debug.ask("loadedSources")["message"]


@needs_debugpy
@pytest.mark.parametrize("how", ["import pydevd; pydevd.stoptrace()", ""])
def test_pydevd_ends(debug: Debug, how: str) -> None:
    """Nobody waits for it then, and the next session has another one."""
    client = debug.client
    debug.start()
    assert "needs 'line'" in debug.ask("setBreakpoints", source={"path": "x"}, breakpoints=[{}])["message"]
    assert debug("threads")["threads"]
    if how:
        client.execute(how)
    else:
        debug.ask("setFunctionBreakpoints", breakpoints=[{}])  # of which it dies
    while debug("debugInfo")["isStarted"]:
        pass
    assert "not started" in debug.ask("threads")["message"]
    debug.start()
    msg_id, thread = debug.stop(f"{FUNCTION}\ndouble(2)", 2)
    debug("continue", threadId=thread)
    assert client.finish(msg_id).result == "4"


@needs_debugpy
def test_terminate_a_stopped_cell(debug: Debug) -> None:
    client = debug.client
    debug.start()
    msg_id, _ = debug.stop("done = []\ndone.append(1)", 2)
    debug("terminate")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("done").result == "[]"


@needs_debugpy
def test_a_step_and_a_thread(debug: Debug) -> None:
    """The step off the end of a cell ends with the cell, but not the stop to which a thread has come meanwhile."""
    client = debug.client
    debug.start()
    client.execute(FUNCTION)
    path = debug.set_breakpoint(FUNCTION, 2)
    code = "import threading\nt = threading.Thread(target=double, args=[3])\nt.start()"
    for _ in range(5):
        msg_id, thread = debug.stop(code, 3)
        debug("next", threadId=thread)
        other = debug.event("stopped")["threadId"]
        assert other != thread
        assert debug.frames(other)[0] == ("double", 2, path)
        debug("continue", threadId=other)
        assert client.finish(msg_id).status == "ok"
        assert client.execute("t.join()").status == "ok"


@needs_debugpy
def test_threads_that_run_already(debug: Debug) -> None:
    """A thread and a subshell from before the debugger was started have breakpoints, too."""
    client = debug.client
    client.execute(FUNCTION)
    client.execute(
        "import threading; go = threading.Event()\n"
        "thread = threading.Thread(target=lambda: (go.wait(), double(3))); thread.start()"
    )
    subshell = client.create_subshell()
    client.finish(debug.run("1", subshell_id=subshell))
    debug.start()
    debug.set_breakpoint(FUNCTION, 2)
    for code in ("go.set()", "double(4)"):
        msg_id = debug.run(code, subshell_id=subshell)
        debug("continue", threadId=debug.event("stopped")["threadId"])
        assert client.finish(msg_id).status == "ok"
    assert client.execute("thread.join()").status == "ok"


@needs_debugpy
def test_a_subshell(kernel: KernelProcess) -> None:
    """Its cells stop, too, and can be interrupted then; a step ends with its cell."""
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    subshell = client.create_subshell()
    code = f"{FUNCTION}\ndouble(4)"
    for interrupt in (False, True, False):
        msg_id, thread = debug.stop(code, 2, subshell_id=subshell)
        assert debug.frames(thread)[0][:2] == ("double", 2)
        if interrupt:
            client.request("interrupt_request", channel="control")
        else:
            debug("continue", threadId=thread)
        run = client.finish(msg_id)
        assert run.ename == "KeyboardInterrupt" if interrupt else run.result == "8"
        assert client.execute("1 + 1").result == "2"
    msg_id, thread = debug.stop("a = 1\nb = 2", 2, subshell_id=subshell)
    debug("next", threadId=thread)
    assert client.finish(msg_id).status == "ok"
    assert client.finish(debug.run("a + b", subshell_id=subshell)).result == "3"


@needs_debugpy
def test_interrupt_an_evaluation(kernel: KernelProcess) -> None:
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    debug.set_breakpoint("a = 1\nb = 2", 2)
    msg_id = client.start("a = 1\nb = 2")
    thread = debug.event("stopped")["threadId"]
    frame = debug.top(thread)
    request = {"command": "evaluate", "arguments": {"expression": "print('in') or __import__('time').sleep(60)",
                                                    "frameId": frame, "context": "repl"}}  # fmt: skip
    asked = client.send("debug_request", request, "control")
    client.wait_for("iopub", lambda m: m["msg_type"] == "stream")
    assert client.request("interrupt_request", channel="control").status == "ok"
    assert client.finish(asked, "control").reply["success"] is False
    debug("continue", threadId=thread)
    assert client.finish(msg_id).status == "ok"


@needs_debugpy
@pytest.mark.parametrize("stopped", [True, False])
def test_shutdown(kernel: KernelProcess, stopped: bool) -> None:
    client = kernel.client()
    debug = Debug(client)
    debug.start()
    directory = Path(debug.set_breakpoint(FUNCTION, 2)).parent
    client.execute(FUNCTION)
    if stopped:
        client.start("double(1)")
        debug.event("stopped")
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0
    assert not directory.exists()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(kernel.connection_file) not in processes
    assert "debugpy" not in kernel.stderr()


@needs_debugpy
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_no_port_stays_open(kernel: KernelProcess) -> None:
    def listening() -> set[str]:
        found = set()
        inodes = set()
        for fd in Path(f"/proc/{kernel.pid}/fd").iterdir():
            inodes.add(os.readlink(fd).removeprefix("socket:[").rstrip("]"))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                found.add(columns[1])
        return found

    debug = Debug(kernel.client())
    before = listening()
    assert before
    debug.start()
    assert listening() == before
    children = Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children")
    assert not children.exists() or children.read_text() == ""


@needs_debugpy
def test_two_frontends(kernel: KernelProcess) -> None:
    """The events are everybody's, and who comes later finds the session."""
    first, second = kernel.client(), kernel.client()
    debug = Debug(first)
    debug.start()
    path = debug.set_breakpoint(FUNCTION, 2)
    first.execute(FUNCTION)
    msg_id = first.start("double(2)")
    thread = debug.event("stopped")["threadId"]
    other = Debug(second)
    assert other.event("stopped")["threadId"] == thread
    info = other("debugInfo")
    assert info["isStarted"] and info["breakpoints"][0]["source"] == path and thread in info["stoppedThreads"]
    other("continue", threadId=thread)
    assert first.finish(msg_id).result == "4"


@needs_debugpy
def test_initialize_while_a_cell_waits(debug: Debug) -> None:
    """The debugger does not wait for the cell, and traces the cells after it."""
    client = debug.client
    msg_id = client.start("print('go')\ninput()", allow_stdin=True)
    client.output(msg_id, "go")
    debug.start()
    debug.set_breakpoint(FUNCTION, 2)
    client.answer("there")
    assert client.finish(msg_id).result == "'there'"
    client.execute(FUNCTION)
    msg_id = client.start("double(2)")
    debug("continue", threadId=debug.event("stopped")["threadId"])
    assert client.finish(msg_id).result == "4"


@needs_debugpy
def test_cells_that_await(debug: Debug) -> None:
    client = debug.client
    debug.start()
    code = "import asyncio\nawait asyncio.sleep(0.01)\nx = 7\nx"
    path = debug.set_breakpoint(code, 3)
    msg_id = client.start(code)
    thread = debug.event("stopped")["threadId"]
    assert debug.frames(thread)[0] == ("<module>", 3, path)
    debug("continue", threadId=thread)
    assert client.finish(msg_id).result == "7"
