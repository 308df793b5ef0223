"""Ctrl-C: in user code, always; in the kernel, never."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from client import Client, KernelProcess, Result, until

PREPARE = """
import asyncio, socket, subprocess, threading, time, os
here, there = socket.socketpair()
lock = threading.Lock(); lock.acquire()
async def blocks():
    print('go', flush=True); time.sleep(30)
async def generator():
    while True:
        yield 1
        await asyncio.sleep(0)
def blocks_plain():
    print('go', flush=True); time.sleep(30)
class Slow:
    def __repr__(self): blocks_plain()
class SlowPage:
    def _repr_html_(self): blocks_plain()
class SlowBundle:
    def _repr_mimebundle_(self, **kwargs): blocks_plain()
class SlowDisplay:
    def _ipython_display_(self): blocks_plain()
class SlowError(Exception):
    def __str__(self): blocks_plain()
class Dying:
    def __del__(self): blocks_plain()
after_fork = []
os.register_at_fork(after_in_parent=lambda: after_fork and after_fork.pop()())
class Endless:
    def __repr__(self):
        print('go')
        while True: pass
def forever():
    while True: yield 1
with open('slow_module.py', 'w') as file: file.write("import time; print('go'); time.sleep(30)")
import sys; sys.path.insert(0, os.getcwd())
import concurrent.futures, getpass, multiprocessing, queue, re, select, signal, weakref
"""

CODES = {
    "sleep": "print('go'); time.sleep(30)",
    "loop": "print('go')\nwhile True: pass",
    "printing": "print('go')\nwhile True: print('x', end='')",
    "lock": "print('go'); lock.acquire()",
    "event": "print('go'); threading.Event().wait()",
    "join": "print('go'); t = threading.Thread(target=time.sleep, args=(30,), daemon=True); t.start(); t.join()",
    "recv": "print('go'); here.recv(1)",
    "subprocess": "print('go'); subprocess.run(['sleep', '30'])",
    "asyncio.run": "print('go'); asyncio.run(asyncio.sleep(30))",
    "await": "print('go'); await asyncio.sleep(30)",
    "await that blocks": "await blocks()",
    "gather": "print('go'); await asyncio.gather(*[asyncio.sleep(30) for _ in range(3)])",
    "async generator": "print('go')\nasync for x in generator(): pass",
    "task that blocks": "t = asyncio.create_task(blocks()); await asyncio.sleep(30)",
    "asyncio.run of what blocks": "asyncio.run(blocks())",
    "asyncio.run of a loop": "print('go')\nasync def f():\n    while True: await asyncio.sleep(0)\nasyncio.run(f())",
    "executor": "print('go'); await asyncio.get_running_loop().run_in_executor(None, time.sleep, 3)",
    "wait_for": "print('go'); await asyncio.wait_for(asyncio.Event().wait(), 60)",
    "async with": "condition = asyncio.Condition(); print('go')\nasync with condition: await condition.wait()",
    "queue": "print('go'); queue.Queue().get()",
    "simple queue": "print('go'); queue.SimpleQueue().get()",
    "future": "print('go'); concurrent.futures.Future().result()",
    "process": "p = multiprocessing.get_context('fork').Process(target=time.sleep, args=(30,)); p.start(); print('go'); p.join()",
    "waitpid": "child = subprocess.Popen(['sleep', '30'], start_new_session=True); print('go')\ntry: child.wait()\nfinally: child.kill()",
    "select": "print('go'); select.select([here], [], [])",
    "pipe": "r, w = os.pipe(); print('go'); os.read(r, 1)",
    "accept": "listener = socket.create_server(('127.0.0.1', 0)); print('go'); listener.accept()",
    "pause": "print('go'); signal.pause()",
    "regular expression": "print('go'); time.sleep(0.6); re.match('(a+)+$', 'a' * 50 + 'b')",
    "generator": "print('go')\nfor x in forever(): pass",
    "sum of a generator": "print('go'); sum(forever())",
    "finally": "try: blocks_plain()\nfinally: x = 'tidied'",
    "in an except": "try: 1 / 0\nexcept ZeroDivisionError: blocks_plain()",
    "import": "sys.modules.pop('slow_module', None); import slow_module",
    "exec": "exec('blocks_plain()')",
    "trace": "sys.settrace(lambda *a: None); print('go')\ntry: time.sleep(30)\nfinally: sys.settrace(None)",
    "__del__": "Dying(); time.sleep(30)",
    "weak reference": "r = weakref.ref(it := Endless(), lambda r: blocks_plain()); del it; time.sleep(30)",
    "after a fork": "after_fork.append(blocks_plain)\nif not os.fork(): os._exit(0)\ntime.sleep(30)",
    "repr": "Slow()",
    "print of a repr": "print(Slow())",
    "endless repr": "[Endless()]",
    "formatter": "SlowPage()",
    "displayed formatter": "display(SlowPage())",
    "bundle": "SlowBundle()",
    "_ipython_display_": "SlowDisplay()",
    "input": "print('go'); input()",
    "getpass": "print('go'); getpass.getpass()",
    "stdin": "print('go'); sys.stdin.readline()",
    "pdb": "print('go'); breakpoint(); x = 1",
}
#: Those in which the user is asked.
ASKS = ("input", "getpass", "stdin", "pdb")
#: Those that hold the GIL: a message is not read before they give it up.
HOLDS = ("regular expression",)


@pytest.mark.parametrize("how", ["signal", "message"])
def test_it_lands(start: Callable[..., KernelProcess], how: str) -> None:
    kernel = start()
    client = kernel.client()
    client.execute(PREPARE)
    for name, code in CODES.items():
        msg_id = client.start(code, allow_stdin=True)
        client.output(msg_id, "go")
        if name in ASKS:
            client.wait_for("stdin", lambda m: True)
        if how == "signal" or name in HOLDS:
            kernel.interrupt()
        else:
            assert client.request("interrupt_request", channel="control").status == "ok"
        run = client.finish(msg_id, timeout=10)
        assert run.ename == "KeyboardInterrupt", name
        assert run.types.count("error") == 1, name
        assert "minikernel" not in "".join(run.reply["traceback"]), run.reply["traceback"]
        assert client.execute("await asyncio.sleep(0, 'on')").result == "'on'", name


@pytest.mark.parametrize("subshell", [False, True])
def test_an_event_loop_is_not_torn(kernel: KernelProcess, subshell: bool) -> None:
    """Else a task whose step it has just taken from its queue is lost, and asyncio.run waits for its end for ever."""
    client = kernel.client()
    client.execute("import asyncio\nasync def spin():\n    while True: await asyncio.sleep(0)")
    where = client.create_subshell() if subshell else None
    for _ in range(60):
        msg_id = client.start("print('go'); asyncio.run(spin())", where)
        client.output(msg_id, "go")
        kernel.interrupt()
        assert client.finish(msg_id).ename == "KeyboardInterrupt"


IGNORED = {
    "one": "Torn();",
    "many": "them = [Torn() for _ in range(40)]; them.clear(); time.sleep(30)",
    "endless": "while True: Torn()",
    "in an empty context": "import contextvars; contextvars.Context().run(lambda: Torn() and None); time.sleep(30)",
}


@pytest.mark.parametrize("subshell", [False, True])
def test_what_python_ignores_lands_in_the_code_that_goes_on(kernel: KernelProcess, subshell: bool) -> None:
    client = kernel.client()
    client.execute(
        "import time; torn = 0\nclass Torn:\n    def __del__(self):\n        global torn\n"
        "        print('go', flush=True)\n        try:\n"
        "            for _ in range(20 if torn else 20_000): time.sleep(0.001)\n"
        "        except KeyboardInterrupt: torn += 1; raise"
    )
    where, beside = client.create_subshell() if subshell else None, client.create_subshell()
    # in the last, outputs are the latest cell's
    for name, code in list(IGNORED.items())[: 3 if subshell else None]:
        msg_id = client.start(code.replace("sleep(30)", "sleep(1)"), where)
        client.output(msg_id, "go")
        client.execute("pass", beside)  # the latest request
        kernel.interrupt()
        run = client.finish(msg_id)
        assert run.ename == "KeyboardInterrupt" and not run.text("stderr"), name
        assert client.execute("torn, (torn := 0)").result == "(1, 0)", name


SPINS = """
import asyncio, logging, sys
def spin(*args):
    print('go', flush=True)
    while True: pass
class Spins(logging.Handler):
    emit = spin
class Dying:
    __del__ = spin
def fail():
    it = Dying()
    1 / 0
sys.addaudithook(lambda event, args: event == "compile" and args[0] == b"'audited'" and spin())
logging.getLogger("asyncio").addHandler(Spins())
"""


@pytest.mark.parametrize("subshell", [False, True])
def test_it_lands_in_what_the_kernel_has_called_unawares(kernel: KernelProcess, subshell: bool) -> None:
    client = kernel.client()
    client.execute(SPINS)
    where = client.create_subshell() if subshell else None

    def interrupted(code: str) -> Result:
        msg_id = client.start(code, where)
        client.output(msg_id, "go")
        kernel.interrupt()
        return client.finish(msg_id)

    assert interrupted("'audited'").ename == "KeyboardInterrupt"
    assert client.execute("fail()", where).ename == "ZeroDivisionError"
    assert interrupted("nobody").ename == "NameError"  # the last error's frames end while this one is described
    fails = "asyncio.get_running_loop().call_soon(lambda: 1 / 0)"
    assert interrupted(f"{fails}; await asyncio.sleep(30)").ename == "KeyboardInterrupt"
    msg_id = client.start(f"{fails}; None", where)
    client.output(msg_id, "go")  # while all is idle
    client.finish(msg_id)
    kernel.interrupt()
    assert client.execute("1", where).result == "1"


def test_an_import_of_the_kernels_own_is_not_torn(start: Callable[..., KernelProcess]) -> None:
    client = (kernel := start(without=("IPython",))).client()
    client.execute(
        "import sys, time; through = []\nclass Slow:\n    def find_spec(self, name, *args):\n"
        "        if name == 'pprint':\n            print('go', flush=True); time.sleep(2); through.append(name)"
    )
    msg_id = client.start("sys.modules.pop('pprint', None); sys.meta_path.insert(0, Slow()); list(range(100))")
    client.output(msg_id, "go")
    kernel.interrupt()
    client.finish(msg_id)
    assert client.execute("through").result == "['pprint']"


def test_asyncio_is_not_torn_when_the_kernel_imports_it(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute(
        "import sys, time\nclass Slow:\n    def find_spec(self, name, *args):\n"
        "        if name == 'asyncio.runners': print('go', flush=True); time.sleep(1)\n"
        "sys.meta_path.insert(0, Slow())"
    )
    if client.execute("'asyncio' in sys.modules").result == "True":
        pytest.skip("this Python imports it before any cell runs")
    code = "async def f(): return 5\nawait f()"
    msg_id = client.start(code)
    client.output(msg_id, "go")
    kernel.interrupt()
    client.finish(msg_id)
    assert client.execute(code).result == "5"


def test_it_lands_where_a_loop_handles_signals(kernel: KernelProcess) -> None:
    """Where they go to, the channels thread does not hear of them."""
    client = kernel.client()
    client.execute(SPINS)
    handler = "asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)"
    for code in (f"import signal; {handler}; compile(\"'audited'\", '', 'eval')", "'audited'"):
        msg_id = client.start(code)
        client.output(msg_id, "go")
        kernel.interrupt()
        assert client.finish(msg_id).ename == "KeyboardInterrupt"


def test_it_lands_in_a_handler_that_runs_while_all_is_idle(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute(
        "import signal\ndef spin(*args):\n    open('spins', 'w')\n    while True: pass\n"
        "signal.signal(signal.SIGALRM, spin)"
    )
    client.execute("signal.setitimer(signal.ITIMER_REAL, 0.1)")
    assert until((kernel.connection_file.parent / "spins").exists)
    kernel.interrupt()
    assert client.execute("1").result == "1"
    kernel.log.write_text("")  # there it was said


def test_no_frame_of_the_kernels_is_shown(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import time, traceback\ntry: print('go', flush=True); time.sleep(30)\n"
        "except KeyboardInterrupt as error: last = traceback.extract_tb(error.__traceback__)[-1]"
    )
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).status == "ok"
    assert client.execute("last.lineno, last.name").result == "(2, '<module>')"


def test_a_child_is_not_interrupted_for_its_parent(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute("import os, threading, time\nslow = lambda: print('go', flush=True) or time.sleep(5)")
    msg_id = client.start(
        "os.register_at_fork(before=slow)\npid = os.fork()\nif pid == 0:\n    try:\n"
        "        for _ in range(9): threading.Thread(target=int).start()\n        os._exit(7)\n"
        "    except BaseException: os._exit(8)\ntime.sleep(30)"
    )
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("os.waitstatus_to_exitcode(os.wait()[1])").result == "7"


def test_it_lands_in_what_prints_where_nobody_looks(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import signal, sys; signal.signal(signal.SIGURG, lambda *_: None); print('go', flush=True)\n"
        "while True: sys.stderr.write('x' * 10)"
    )
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"


def test_a_hook_that_was_there_is_told(start: Callable[..., KernelProcess], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.unraisablehook = lambda what: print('ignored', what.exc_value, file=sys.stderr)"
    )
    client = start(env={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}).client()
    run = client.execute("class D:\n    def __del__(self): raise ValueError('mine')\nD(); 1")
    assert run.result == "1" and run.text("stderr") == "ignored mine\n"


def test_what_a_destructor_raises_is_told(client: Client) -> None:
    run = client.execute("class D:\n    def __del__(self): raise ValueError('mine')\nD(); 1")
    assert run.result == "1" and "Exception ignored in" in run.text("stderr") and "mine" in run.text("stderr")


def test_it_lands_where_little_is_shown(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute(PREPARE)
    msg_id = client.start("blocks_plain()", silent=True)
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.ename == "KeyboardInterrupt" and run.types == ["status", "status"]
    msg_id = client.start("1", user_expressions={"slow": "blocks_plain()", "after": "2"})
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.status == "ok" and run.result == "1"
    assert run.reply["user_expressions"]["slow"]["ename"] == "KeyboardInterrupt"
    assert run.reply["user_expressions"]["after"]["data"] == {"text/plain": "2"}
    msg_id = client.start("raise SlowError")
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.ename == "SlowError" and "interrupted" in run.reply["evalue"]


def test_what_waits_behind_an_interrupted_cell(kernel: KernelProcess) -> None:
    """Its error aborts what was sent before it, unless the cell says otherwise; what is sent later runs."""
    client = kernel.client()
    for stop in (True, False):
        running = client.start("import time; print('go'); time.sleep(30)", stop_on_error=stop)
        client.output(running, "go")
        queued = [client.start(f"x = {n}") for n in range(20)]
        client.request("is_complete_request", {"code": "1"})  # answered beside the cell: the others have arrived
        kernel.interrupt()
        assert client.finish(running).ename == "KeyboardInterrupt"
        assert {client.finish(msg_id).status for msg_id in queued} == {"aborted" if stop else "ok"}
        assert client.execute("6 * 7").result == "42"


def test_code_in_c_is_broken_off_when_it_returns(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("import time; print('go'); time.sleep(0.1)\nsum(range(50_000_000))\nx = 'went on'")
    client.output(msg_id, "go")
    for _ in range(3):
        kernel.interrupt()
    run = client.finish(msg_id)
    assert run.ename == "KeyboardInterrupt" and not run.text("stderr")
    assert client.execute("'x' in globals()").result == "False"


def test_a_cell_that_swallows_it(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import time\nn = 0\nwhile n < 5:\n    try:\n        print('go', n, flush=True)\n        time.sleep(30)\n"
        "    except KeyboardInterrupt: n += 1"
    )
    for n in range(5):
        client.output(msg_id, f"go {n}")
        kernel.interrupt()
    run = client.finish(msg_id)
    assert run.status == "ok" and not run.text("stderr")


#: C code that gives up the GIL, and that no signal ends: a lock is locked twice.
LOCK_TWICE = """
import ctypes
libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(128)
def deadlock():
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)
"""
#: 1 is a locked mutex of glibc's, 2 one that somebody waits for: the code is in C.
WAIT_FOR_DEADLOCK = r"""
import time
while lock[0] != b"\2": time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of glibc's")
def test_a_second_one_says_where_the_code_is_stuck(kernel: KernelProcess) -> None:
    client = kernel.client()
    subshell = client.create_subshell()
    client.execute(LOCK_TWICE)
    for number, first in ((2, "signal"), (4, "message")):
        msg_id = client.start("deadlock()\nprint('not reached')")
        client.execute(WAIT_FOR_DEADLOCK, subshell)
        if first == "signal":
            kernel.interrupt()
        else:
            client.request("interrupt_request", channel="control")
        for _ in range(3):  # one message, however many follow
            client.request("interrupt_request", channel="control")
        said = client.output(msg_id, ", in deadlock\n", "stderr")
        assert said == (
            "[minikernel] Ctrl-C has not got through: it waits for the end of\n"
            f"  Cell In[{number}], line 1\n  Cell In[1], line 6, in deadlock\n"
        )
        client.execute("libc.pthread_mutex_unlock(lock)", subshell)
        run = client.finish(msg_id)
        assert run.ename == "KeyboardInterrupt" and not run.text() and not run.text("stderr")
        client.execute("libc.pthread_mutex_unlock(lock)")
    assert client.execute("2").result == "2"


#: A value of which the kernel thinks that IPython prints it better; and an IPython that takes its time.
LONG = "list(range(1000))"
SLOW_IPYTHON = """
import builtins, time
class Finder:
    def find_spec(self, name, *args):
        if name == "IPython.core.interactiveshell":
            print("go", flush=True); time.sleep(1)
import sys; sys.meta_path.insert(0, Finder())
"""


def test_what_the_kernel_imports_is_not_torn(kernel: KernelProcess) -> None:
    pytest.importorskip("IPython")
    client = kernel.client()
    client.execute(SLOW_IPYTHON)
    msg_id = client.start(LONG)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    run = client.execute(LONG)
    assert run.result and run.result.startswith("[0,\n 1,") and not kernel.stderr()
    assert client.execute("get_ipython().user_ns['SLOW'] = 1; SLOW").result == "1"


def test_a_value_is_shown_without_an_ipython_that_is_broken(kernel: KernelProcess) -> None:
    pytest.importorskip("IPython")
    client = kernel.client()
    client.execute("import sys; sys.modules['IPython.core'] = None")
    run = client.execute(LONG)
    assert run.status == "ok" and run.result and run.result.startswith("[0,\n 1,")
    assert "IPython is of no use" in kernel.stderr()


def test_idle_interrupts_are_harmless(kernel: KernelProcess) -> None:
    client = kernel.client()
    for prepare in ("1", "import asyncio; t = asyncio.create_task(asyncio.sleep(60))"):
        client.execute(prepare)
        for _ in range(20):
            kernel.interrupt()
            assert client.request("interrupt_request", channel="control").status == "ok"
        assert client.execute("2").result == "2"
    assert client.execute("t.done()").result == "False"


@pytest.mark.parametrize("subshell", [False, True])
def test_a_background_task_that_blocks_an_idle_kernel_can_be_interrupted(
    kernel: KernelProcess, subshell: bool
) -> None:
    client = kernel.client()
    where = client.create_subshell() if subshell else None
    code = "import asyncio\nasync def f():\n    print('go')\n    while True: pass\nt = asyncio.create_task(f())"
    msg_id = client.start(code, where)
    client.finish(msg_id)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.execute("t.done()", where).result == "True"


def test_a_child_of_the_cell_is_interrupted_too(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("import os; r = os.system('echo go; sleep 30'); print('done')")
    client.output(msg_id, "go")
    client.request("interrupt_request", channel="control")
    client.finish(msg_id)


def test_only_interrupts_are_looked_after(kernel: KernelProcess) -> None:
    """What waits for the next signal is not woken a second time, neither by an alarm nor by an interrupt before."""
    client = kernel.client()
    client.execute("import signal, time; signal.signal(signal.SIGALRM, lambda *a: None)")
    for _ in range(3):
        msg_id = client.start("print('go'); time.sleep(30)")
        client.output(msg_id, "go")
        kernel.interrupt()
        client.finish(msg_id)
        code = "began = time.monotonic()\nfor _ in range(2): signal.setitimer(signal.ITIMER_REAL, 0.1); signal.pause()\n"
        assert client.execute(code + "time.monotonic() - began >= 0.2").result == "True"


def test_a_cell_may_catch_it(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start(
        "import time\ntry:\n    print('go'); time.sleep(30)\nexcept KeyboardInterrupt: print('caught')"
    )
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.status == "ok" and run.text() == "caught\n"


@pytest.mark.timeout(120)
def test_interrupts_at_random_moments(kernel: KernelProcess) -> None:
    """In the middle of anything, between messages, while idle: the kernel answers every request, in order."""
    client = kernel.client()
    client.execute("import asyncio, time\nclass R:\n    def _repr_html_(self): return 'x' * 1000")
    client.execute("import minikernel.kernel.interrupt; minikernel.kernel.interrupt.PATIENCE = 1")
    codes = ["x = 1", "1 + 1", "print('a' * 100)", "R()", "display(R())", "await asyncio.sleep(0.001)",
             "for n in range(100): print(n)", "time.sleep(0.001)", "1/0", "asyncio.run(asyncio.sleep(0))"]  # fmt: skip
    chance = random.Random(7)
    for _ in range(400):
        msg_id = client.start(chance.choice(codes), stop_on_error=False)
        for _ in range(chance.randrange(4)):
            until = time.perf_counter() + chance.random() * 0.002
            while time.perf_counter() < until:
                pass
            os.kill(kernel.pid, signal.SIGINT)
        run = client.finish(msg_id)
        assert run.ename in (None, "KeyboardInterrupt", "ZeroDivisionError"), run.reply
    assert client.execute("6 * 7").result == "42"
    # Python's and IPython's own code may complain where it is interrupted; the kernel has nothing to say
    assert "[minikernel]" not in "".join(m["content"]["text"] for m in client.iopub if m["msg_type"] == "stream")


def test_turns_that_are_too_long_are_not(kernel: KernelProcess) -> None:
    """Else a message would be read, and the process would end, when the cell lets go: by itself, or after its turn."""
    client = kernel.client()
    client.execute("import sys; sys.setswitchinterval(0.002)")
    assert client.execute("sys.getswitchinterval()").result == "0.002"
    code = "sys.setswitchinterval(1000); print('go', flush=True)\nwhile True: pass"
    msg_id = client.start(code)
    client.output(msg_id, "go")
    client.request("interrupt_request", channel="control")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("sys.setswitchinterval('x')").ename == "TypeError"
    client.output(client.start(code), "go")
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0


def test_it_comes_up_while_the_kernel_starts(start: Callable[..., KernelProcess]) -> None:
    kernel = start()
    client = kernel.client()
    kernel.interrupt()
    assert client.execute("2").result == "2"


def test_sigint_that_was_ignored_by_the_launcher(start: Callable[..., KernelProcess]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        kernel = start()
    finally:
        signal.signal(signal.SIGINT, before)
    client: Client = kernel.client()
    msg_id = client.start("import time; print('go'); time.sleep(30)")
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"


@pytest.mark.parametrize("subshell", [False, True])
@pytest.mark.parametrize("code", ["spin()", "asyncio.run(asyncio.sleep(30))", "asyncio.run(many())"])
def test_a_greenlet(client: Client, code: str, subshell: bool) -> None:
    """It has a stack of its own, with no frame of the kernel below: gevent's loop, Playwright's and SQLAlchemy's calls."""
    pytest.importorskip("greenlet")
    where = client.create_subshell() if subshell else None
    client.execute(
        "import asyncio, greenlet\ndef spin():\n    while True: pass\n"
        "async def one():\n    while True: await asyncio.sleep(0)\n"
        "async def many(): await asyncio.gather(*(one() for _ in range(20)))"
    )
    for _ in range(10 if "many" in code else 1):
        msg_id = client.start(f"greenlet.greenlet(lambda: (print('go'), {code})).switch()", where)
        client.output(msg_id, "go")
        client.request("interrupt_request", channel="control")
        assert client.finish(msg_id, timeout=10).ename == "KeyboardInterrupt"
        assert client.execute("6 * 7", where).result == "42"


@pytest.mark.parametrize("subshell", [False, True])
def test_an_event_loop_is_not_torn_while_it_is_made(kernel: KernelProcess, subshell: bool) -> None:
    """Else a ruin is left, which complains when it is collected."""
    client = kernel.client()
    client.execute(
        "import asyncio, gc, selectors, time\nimport minikernel.kernel.interrupt\n"
        "minikernel.kernel.interrupt.LOOKS = 10**6  # the machine may be slow\n"
        "class Slow(selectors.DefaultSelector):\n    def __init__(self):\n        super().__init__()\n"
        "        print('go')\n        for _ in range(50): time.sleep(0.001)\nselectors.DefaultSelector = Slow"
    )
    where = client.create_subshell() if subshell else None
    msg_id = client.start("asyncio.run(asyncio.sleep(30))", where)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id, timeout=10).ename == "KeyboardInterrupt"
    client.execute("1/0", where)  # the last traceback holds the ruin
    client.execute("1/0")
    client.execute("gc.collect(); selectors.DefaultSelector = Slow.__base__")
    assert not [m for m in client.iopub if m["content"].get("name") == "stderr"]


def test_only_what_ran_at_the_time_is_interrupted(kernel: KernelProcess) -> None:
    """And not the next cell of a subshell, when the kernel is slow to get there."""
    client = kernel.client()
    where = client.create_subshell()
    client.execute(
        "import time\nfrom minikernel.kernel.request import current_request\nkernel = current_request().kernel"
    )
    client.request("kernel_info_request", channel="control")
    client.execute("kernel.control_worker.put(lambda: time.sleep(0.5))")
    kernel.interrupt()
    client.execute("pass")  # by now it has come
    assert client.execute("time.sleep(1); 7", where).result == "7"


@pytest.mark.skipif(sys.platform != "linux", reason="a zeroed mutex is Linux's")
@pytest.mark.parametrize("how", ["signal", "message"])
def test_a_subshell_does_not_wait_for_the_main_thread(kernel: KernelProcess, how: str) -> None:
    """Which is in code in C that no signal ends."""
    client = kernel.client()
    where, beside = client.create_subshell(), client.create_subshell()
    client.execute(LOCK_TWICE)
    stuck = client.start("deadlock()")
    client.execute(WAIT_FOR_DEADLOCK, beside)
    for _ in range(3):
        msg_id = client.start("print('go')\nwhile True: pass", where)
        client.output(msg_id, "go")
        if how == "signal":
            kernel.interrupt()
        else:
            client.request("interrupt_request", channel="control")
        assert client.finish(msg_id).ename == "KeyboardInterrupt"
    client.execute("libc.pthread_mutex_unlock(lock)", beside)
    assert client.finish(stuck).ename == "KeyboardInterrupt"
    client.execute("libc.pthread_mutex_unlock(lock)")


def test_an_idle_interrupt_needs_no_ctypes(start: Callable[..., KernelProcess]) -> None:
    kernel = start(without=("ctypes",))
    client = kernel.client()
    where = client.create_subshell()
    client.request("interrupt_request", channel="control")
    assert client.execute("6 * 7", where).result == "42"
    assert kernel.stderr() == ""
