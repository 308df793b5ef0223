"""Whatever a cell does, short of killing the process: the kernel goes on, and says what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from client import Client, KernelProcess, alive


def restart(kernel: KernelProcess) -> Client:
    """Start a successor on the same connection file."""
    with open(kernel.log, "ab") as log:
        kernel.process = subprocess.Popen(
            [sys.executable, "-m", "minikernel", "-f", str(kernel.connection_file)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return kernel.client()


@pytest.mark.parametrize("code", [
    "import multiprocessing as mp; p = mp.get_context('fork').Pool(2)",
    "import os, time\nif os.fork() == 0: time.sleep(60)",
    "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(5)",
    "import subprocess; p = subprocess.Popen(['sleep', '60'])",
    "import multiprocessing as mp, time; p = mp.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True); p.start()",
])  # fmt: skip
def test_children_do_not_keep_a_successor_out(kernel: KernelProcess, code: str) -> None:
    client = kernel.client()
    client.execute(code)
    client.request("shutdown_request", {"restart": True}, "control")
    assert kernel.wait() == 0
    assert restart(kernel).execute("1").result == "1"
    assert "in use" not in kernel.stderr()


def test_children_end_with_the_kernel_unless_detached(kernel: KernelProcess) -> None:
    client = kernel.client()
    run = client.execute(
        "import subprocess\na = subprocess.Popen(['sleep', '60'])\n"
        "b = subprocess.Popen(['sleep', '60'], start_new_session=True)\na.pid, b.pid"
    )
    attached, detached = eval(run.result or "")
    client.request("shutdown_request", channel="control")
    assert kernel.wait() == 0
    assert not alive(attached) and alive(detached)
    os.kill(detached, signal.SIGKILL)


def test_a_forked_child_obeys_signals_and_says_how_it_ended(client: Client) -> None:
    client.execute("import multiprocessing, os, time; context = multiprocessing.get_context('fork')")
    run = client.execute(
        "p = context.Process(target=time.sleep, args=(60,)); p.start(); p.terminate(); p.join(10); p.exitcode"
    )
    assert run.result == str(-signal.SIGTERM), (run.reply, run.text("stderr"))
    run = client.execute("with context.Pool(2) as pool: r = pool.map_async(time.sleep, [60, 60]); time.sleep(.2)")
    assert run.status == "ok"
    for code, status in (("sys.exit(3)", 3), ("1/0", 1), ("pass", 0), ("raise SystemExit('x')", 1)):
        run = client.execute(
            f"import sys\npid = os.fork()\nif pid == 0:\n    {code}\nelse:\n    r = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\nr"
        )
        assert run.result == str(status), code
        assert ("ZeroDivisionError" in run.text("stderr")) == (code == "1/0")
    run = client.execute("p = context.Process(target=input); p.start(); p.join(10); p.exitcode")
    assert run.result == "1"


@pytest.mark.parametrize("prepare", ["", "import asyncio"])
def test_a_signal_handler_that_raises_while_idle(kernel: KernelProcess, prepare: str) -> None:
    client = kernel.client()
    client.execute(
        f"{prepare}\nimport signal\ndef h(*a): raise ValueError('from the handler')\nsignal.signal(signal.SIGUSR1, h)"
    )
    msg_id = client.start("1")
    client.finish(msg_id)
    os.kill(kernel.pid, signal.SIGUSR1)
    assert "from the handler" in client.output(msg_id, "from the handler", "stderr")
    assert client.execute("2").result == "2"


@pytest.mark.parametrize("code", [
    "signal.signal(signal.SIGINT, signal.default_int_handler)",
    "signal.signal(signal.SIGINT, signal.SIG_DFL)",
    "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "import asyncio\nl = asyncio.new_event_loop(); l.add_signal_handler(signal.SIGINT, print); l.remove_signal_handler(signal.SIGINT); l.close()",
])  # fmt: skip
def test_sigint_is_taken_back_after_a_cell(kernel: KernelProcess, code: str) -> None:
    client = kernel.client()
    client.execute("import signal\n" + code)
    kernel.interrupt()
    msg_id = client.start("import time; print('go'); time.sleep(30)")
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("2").result == "2"


@pytest.mark.parametrize("code", [
    "import sys\nprint('go')\nwhile True: sys.stdout.flush()",
    "import threading\nprint('go')\nwhile True:\n    t = threading.Thread(target=int); t.start(); t.join()",
    "class A:\n    def __getattr__(self, name):\n        print('go'); __import__('time').sleep(30)\nA()",
    "class E(Exception):\n    def __str__(self):\n        print('go'); __import__('time').sleep(30); return ''\nraise E",
    "print('go')\nwhile True: display(1)",
])  # fmt: skip
def test_an_interrupt_lands_beside_kernel_code(kernel: KernelProcess, code: str) -> None:
    client = kernel.client()
    msg_id = client.start(code)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).status == "error"
    assert client.execute("2").result == "2"


def test_a_shutdown_interrupts_the_cell(start: Callable[..., KernelProcess]) -> None:
    for n in range(5):
        kernel = start()
        client = kernel.client()
        msg_id = client.start(
            "import time\nprint('go')\ntry: time.sleep(60)\nfinally: print('finally', flush=True)"
        )
        client.output(msg_id, "go")
        client.send("shutdown_request", {"restart": False}, "control")
        assert "finally" in client.output(msg_id, "finally"), n
        assert kernel.wait() == 0


def test_sigterm_while_the_main_thread_is_in_c(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("import os; print('go', flush=True); os.system('sleep 30')")
    client.output(msg_id, "go")
    os.kill(kernel.pid, signal.SIGTERM)
    assert kernel.wait() == 0


def test_a_child_that_floods(kernel: KernelProcess) -> None:
    """A file can't make its writer wait: much of it is left out, aloud, and control stays live."""
    client = kernel.client()
    msg_id = client.start("import os; print('go'); os.system('timeout 3 yes ' + 'x' * 200)")
    client.output(msg_id, "go")
    slowest = 0.0
    for _ in range(10):
        began = time.monotonic()
        client.request("kernel_info_request", channel="control")
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 10
    client.finish_rest(msg_id)
    assert client.execute("1").result == "1"


def test_no_descriptors_left(kernel: KernelProcess) -> None:
    client = kernel.client()
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\nfs = []\nwhile True: fs.append(open('/dev/null'))"
    assert client.execute(code).ename == "OSError"
    client.execute("fs.clear()")
    assert client.execute("1").result == "1"


def test_a_first_frontend_after_the_last_descriptor(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute("import os; [os.open(os.devnull, os.O_RDONLY) for _ in range(10**6)]")
    assert client.request("kernel_info_request").status == "ok"
    assert client.execute("6 * 7").result == "42"


def test_pdb_does_not_step_into_the_kernel(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("breakpoint()\ny = 2", allow_stdin=True)
    for _ in range(40):
        try:
            client.wait_for("stdin", lambda m: True, timeout=1.5)
        except TimeoutError:
            break
        client.send("input_reply", {"value": "n"}, "stdin")
    run = client.finish(msg_id)
    assert run.status == "ok" and "minikernel" not in run.text()
    assert client.execute("y").result == "2"


@pytest.mark.parametrize(
    "code", ["del sys.stdout", "del sys.stderr", "sys.stdout = None", "sys.stderr = None", "del sys.displayhook"]
)
def test_streams_that_were_taken_away(client: Client, code: str) -> None:
    run = client.execute("import sys\n" + code)
    assert run.status == "ok"
    run = client.execute("print('out'); print('err', file=sys.stderr); 3")
    assert run.text() == "out\n" and run.text("stderr") == "err\n" and run.result == "3"


def test_odd_values(shared: Client) -> None:
    assert shared.execute('"a\u2028b;"\n5').result == "5"
    assert shared.execute("5 \\\n;").result is None
    run = shared.execute("import warnings\nwarnings.warn('w')")
    assert "w" in run.text("stderr") and "w" in shared.execute("import warnings\nwarnings.warn('w')").text("stderr")
    shared.execute("class B:\n    def _repr_mimebundle_(self, **k): return {'a/b': object()}\nb = B()")
    run = shared.execute("1", user_expressions={"z": "b", "y": "2"})
    assert run.status == "ok"
    assert run.reply["user_expressions"]["z"]["status"] == "error"
    assert run.reply["user_expressions"]["y"]["data"] == {"text/plain": "2"}
    run = shared.execute("class E(Exception): __traceback__ = property(lambda self: 1 / 0)\nraise E")
    assert run.ename == "E" and run.types.count("error") == 1
    run = shared.request("execute_request", {"code": 5})
    assert run.status == "error" and "execution_count" in run.reply
    run = shared.execute(
        "import io, sys\nbefore = sys.stdin; sys.stdin = io.StringIO('from io\\n')\nr = input()\nsys.stdin = before\nr"
    )
    assert run.result == "'from io'"
    run = shared.execute(
        "import asyncio\nt = asyncio.current_task()\nawait asyncio.sleep(0)\nt is asyncio.current_task()"
    )
    assert run.result == "True"


def test_a_bug_of_the_kernels_is_answered_and_said_aloud(kernel: KernelProcess) -> None:
    """Not below a cell, but where the launcher's stderr goes."""
    client = kernel.client()
    client.execute("from minikernel.kernel.request import current_request as r\nkernel = r().kernel")
    for table, channel in (("shell", "shell"), ("control", "control")):
        client.execute(f"kernel.{table}['connect_request'] = lambda request: request.no_such_thing")
        run = client.request("connect_request", channel=channel)
        assert run.reply["ename"] == "AttributeError" and run.types == ["status", "status"]
    assert not [m for m in client.iopub if m["msg_type"] in ("stream", "error")]
    assert client.execute("6 * 7").result == "42"
    assert kernel.stderr().count("error in the handler of connect_request:\nTraceback (most") == 2
    kernel.log.write_text("")


def test_a_failed_cells_locals_are_freed(client: Client) -> None:
    client.execute(
        "import weakref, gc; gc.disable()\nclass Big: pass\nrefs = []\ndef f():\n    big = Big(); refs.append(weakref.ref(big)); raise ValueError"
    )
    for _ in range(3):
        client.execute("f()")
    assert client.execute("sum(r() is not None for r in refs)").result == "1"  # the last one is sys.last_value's


@pytest.mark.parametrize("prepare", ["", "import asyncio"])
def test_an_alarm_that_strikes_anywhere(kernel: KernelProcess, prepare: str) -> None:
    """A raising signal handler of the user's may strike in the kernel's own code: every request is answered, once."""
    client = kernel.client()
    client.execute(
        f"{prepare}\nimport signal\ndef h(*a): raise ValueError('alarm')\nsignal.signal(signal.SIGALRM, h)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.005);"
    )
    for _ in range(300):
        client.finish(client.start("pass", stop_on_error=False))
    while client.finish(client.start("signal.setitimer(signal.ITIMER_REAL, 0)")).status != "ok":
        pass  # it has struck there
    assert "alarm" in kernel.stderr()
    kernel.log.write_text("")
    assert client.execute("1").result == "1"
