"""Cells that break what the kernel itself stands on: it goes on, and answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client import Client, KernelProcess, until
from damage_cells import CELLS

ONE_THING = list(CELLS)[list(CELLS).index("no stdout") :]
#: What breaks one name alone: what goes on with the others may come further, and to another end.
ALONE = [
    "len is None", "builtins.len is None", "builtins.isinstance is None", "json raises", "time raises", "hmac raises",
    "threading raises", "asyncio raises", "os raises", "io raises", "re raises", "linecache raises", "zmq is gone",
    "zmq can't be imported",
]  # fmt: skip
#: What a cell's last value or error may be like, and the error that is shown for it; None for a value.
ODD = {
    "import sys, asyncio; sys.setrecursionlimit(3000)\ndef f(n): return f(n - 1) if n else 1 / 0\nf(2500)": "ZeroDivisionError",
    "def g(n): return h(n - 1)\ndef h(n): return g(n - 1) if n > 0 else 1 / 0\ng(2500)": "ZeroDivisionError",
    "sys.setrecursionlimit(1000)\nf(2500)": "RecursionError",
    "e = None\nfor n in range(3000):\n    new = ValueError(n); new.__cause__ = e; e = new\nraise e": "ValueError",
    "a, b = ValueError(1), ValueError(2); a.__context__ = b; b.__context__ = a\nraise a": "ValueError",
    "class E(Exception):\n    def __str__(self): return 3\nraise E": "E",
    "class R(Exception):\n    def __repr__(self): return repr(self)\n    def __str__(self): return str(self)\nraise R": "R",
    "R()": "RecursionError",
    "class S:\n    def __repr__(self): return '\\ud83d'\nS()": None,
    "class I:\n    def __repr__(self): return 3\nI()": "TypeError",
    "'\ud83d'": "UnicodeEncodeError",
    "\ud83d = 1": "UnicodeEncodeError",
    "e = ValueError('x'); e.__notes__ = ['\\ud83d', 3, S()]\nraise e": "ValueError",
    "class G(Exception):\n    def __getattribute__(self, name): raise KeyError(name)\nraise G": "G",
    "class C(Exception):\n    __class__ = property(lambda self: 1 / 0)\nraise C": "C",
    "raise SyntaxError('m', ('f', -5, 10**9, '\\ud83d', 3, -1))": "SyntaxError",
    "raise SyntaxError('m', ('f', 'x', None, 3))": "SyntaxError",
    "raise ImportError('x', name=S(), path=3)": "ImportError",
    "raise 3": "TypeError",
    "raise asyncio.CancelledError('mine')": "CancelledError",
    "await asyncio.sleep(0)\nraise StopIteration(3)": "RuntimeError",
    "await asyncio.sleep(0)\nraise KeyboardInterrupt('mine')": "KeyboardInterrupt",
    "await asyncio.sleep(0)\nraise SystemExit('mine')": "SystemExit",
}
if sys.version_info >= (3, 11):
    ODD |= {
        "raise BaseExceptionGroup('\\ud83d', [ValueError('\\ud83d'), ExceptionGroup('x', [E(), KeyError(1)])])": "ExceptionGroup",
        "e = ValueError(1)\nfor n in range(3000): e = ExceptionGroup(str(n), [e])\nraise e": "ExceptionGroup",
    }
#: Defined before the damage, for it may leave no other way to print.
PREPARE = "say = __import__('sys').stdout.write\nasync def pause(): pass"


def answers(kernel: KernelProcess, client: Client) -> None:
    """Hold a kernel to all that it owes its user, to the end."""
    run = client.execute("say('42\\n')\n6 * 7")
    assert (run.status, run.text(), run.result) == ("ok", "42\n", "42"), run.reply
    run = client.execute("1 / 0")
    assert run.ename == "ZeroDivisionError" and run.types.count("error") == 1, run.reply
    assert "line 1" in "".join(run.reply["traceback"])
    client.execute("await pause()")  # as far as there is an event loop that can run
    for channel in ("shell", "control"):
        assert client.request("kernel_info_request", channel=channel).status == "ok"
    for name in ("complete", "inspect"):
        content = {"code": "client", "cursor_pos": 6, "detail_level": 0}
        assert client.request(f"{name}_request", content).status in ("ok", "error")
    assert client.request("is_complete_request", {"code": "1"}).status in ("complete", "error")
    msg_id = client.start("say('go')\nwhile True: pass")
    client.output(msg_id, "go")
    client.request("interrupt_request", channel="control")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("1 + 1").result == "2"
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0


@pytest.mark.parametrize("used", ["", "import asyncio"])
@pytest.mark.parametrize("cell", [name for name in CELLS if name.startswith(("all ", "every "))])
def test_what_a_cell_breaks_for_everybody(start: Callable[..., KernelProcess], cell: str, used: str) -> None:
    kernel = start()
    client = kernel.client()
    client.request("kernel_info_request")
    client.execute(f"{used}\n{PREPARE}")
    assert client.execute(CELLS[cell]).status == "ok"
    answers(kernel, client)
    kernel.log.write_text("")  # what was broken is said there


@pytest.mark.parametrize("cell", ALONE + ONE_THING)
def test_what_a_cell_may_do(start: Callable[..., KernelProcess], cell: str) -> None:
    kernel = start()
    client = kernel.client()
    client.request("kernel_info_request")
    client.execute(PREPARE)
    assert client.execute(CELLS[cell]).status in ("ok", "error")
    answers(kernel, client)
    kernel.log.write_text("")


def test_one_error_or_result_each(shared: Client) -> None:
    shared.session.pack = lambda content: json.dumps(
        content, default=str
    ).encode()  # so that lone surrogates get through
    for code, ename in ODD.items():
        run = shared.execute(code)
        assert run.ename == ename, (code, run.reply)
        assert run.types.count("error") == bool(ename) and run.types.count("execute_result") == (not ename), code
        if ename:
            assert run.reply["traceback"] and all(isinstance(line, str) for line in run.reply["traceback"]), code
        assert shared.execute("6 * 7").result == "42", code


def test_a_stack_that_overflows(start: Callable[..., KernelProcess]) -> None:
    """An error where Python guards its stack, else a death that the next kernel explains."""
    kernel = start()
    client = kernel.client()
    code = "import sys; sys.setrecursionlimit(10**7)\nclass A:\n    def __repr__(self): return repr([self, A()])\nrepr(A())"
    msg_id = client.start(code)
    assert until(lambda: kernel.process.poll() is not None or client.sockets["shell"].poll(0))
    if kernel.process.poll() is None:
        assert client.finish(msg_id).ename in ("RecursionError", "MemoryError")
    else:
        text = start(connection_file=kernel.connection_file).client().execute("pass").text("stderr")
        assert "in cell 1: Segmentation fault" in text and "Cell In[1], line 3" in text


def test_a_displayhook_of_the_users(client: Client) -> None:
    client.execute("import sys; ours, sys.displayhook = sys.displayhook, lambda value: 1 / 0")
    assert client.execute("3").ename == "ZeroDivisionError"
    client.execute("sys.displayhook = ours")
    assert client.execute("3").result == "3"


def test_descriptors_that_were_closed_are_opened_again(client: Client, tmp_path: Path) -> None:
    """Else the next file that is opened, a history's, would get what children print."""
    client.execute("import os; os.close(0); os.close(1); os.close(2)")
    run = client.execute(
        f"f = open({str(tmp_path / 'f')!r}, 'w'); os.system('cat; echo out; echo err >&2'), f.fileno() > 2"
    )
    assert (run.result, run.text(), run.text("stderr")) == ("(0, True)", "out\n", "err\n")
    client.execute("os.dup2(f.fileno(), 1)")  # which was meant
    assert client.execute("os.system('echo there')").text() == ""
    assert (tmp_path / "f").read_text() == "there\n"


def test_builtins_are_shared(client: Client, tmp_path: Path) -> None:
    """The kernel's own copy is nobody else's: what cells put into builtins is there for their modules, too."""
    (tmp_path / "theirs.py").write_text("def f(): return shout('x')")
    client.execute(
        "import builtins, theirs; builtins.shout = str.upper; print = None; builtins.len = lambda value: 7"
    )
    assert (
        client.execute("theirs.f(), shout('y'), len([]), __builtins__ is builtins").result == "('X', 'Y', 7, True)"
    )
    assert client.execute("del __builtins__").status == "ok"
    assert client.execute("theirs.f(), shout('y'), len([])").result == "('X', 'Y', 7)"
    assert client.execute("import builtins\n__builtins__ is builtins").result == "True"
    assert client.execute("__builtins__ = {'abs': abs}").status == "ok"
    assert client.execute("len([])").ename == "NameError"  # as in any module
