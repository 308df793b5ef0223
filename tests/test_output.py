"""What is printed, displayed and written by others, and to which cell it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Client, KernelProcess


def test_program_order_of_all_outputs(shared: Client) -> None:
    code = """
import random, sys
random.seed(1)
for n in range(300):
    kind = random.choice("oed")
    if kind == "o": print(n)
    elif kind == "e": print(n, file=sys.stderr)
    else: display(n)
300
"""
    run = shared.execute(code)
    order = []
    for message in run.outputs:
        content = message["content"]
        if message["msg_type"] == "stream":
            order += [int(line) for line in content["text"].split()]
        else:
            order.append(int(content["data"]["text/plain"]))
    assert order == list(range(301))


def test_a_flood_is_complete_and_few_messages(shared: Client) -> None:
    run = shared.execute("for n in range(100_000): print(n)")
    assert run.text() == "".join(f"{n}\n" for n in range(100_000))
    assert len(run.messages) < 100


def test_one_large_write(shared: Client) -> None:
    run = shared.execute("print('x' * 20_000_000)")
    assert len(run.text()) == 20_000_001


def test_the_first_line_does_not_wait_for_the_cell(shared: Client) -> None:
    msg_id = shared.start("print('now'); input()", allow_stdin=True)
    assert shared.output(msg_id, "now\n") == "now\n"
    shared.answer("")
    shared.finish(msg_id)


def test_streams_are_proper_text_streams(shared: Client) -> None:
    run = shared.execute("""
import sys, io
assert isinstance(sys.stdout, io.TextIOBase) and sys.stdout.encoding.lower() == 'utf-8'
assert not sys.stdout.isatty() and sys.stdout.writable() and not sys.stdout.closed
assert sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
assert sys.stdout.name == '<stdout>' and sys.stdout.mode == 'w'
sys.stdout.reconfigure(line_buffering=True)
data = 'é€\\n'.encode()
for byte in data: sys.stdout.buffer.write(bytes([byte]))
sys.stdout.writelines(['a', 'b\\n'])
with sys.stdout: print('closing')
sys.stdout.close()
print('still', end='')
sys.stdout.flush()
import sys; print(sys.stdout.write('!'))
""")
    assert run.status == "ok", run.reply
    assert run.text() == "é€\nab\nclosing\nstill!1\n"
    assert shared.execute("sys.stdout.write(b'x')").ename == "TypeError"
    assert shared.execute("print(1, file=sys.stdout.buffer)").ename == "TypeError"


def test_text_that_is_no_unicode(shared: Client) -> None:
    assert shared.execute(r"print('a\ud83db')").text() == "a\ud83db\n"
    assert shared.execute(r"import os; os.write(1, b'\xff\xfe')").text() == "��"
    assert shared.execute(r"print('a\r50%\r\x1b[31mred')").text() == "a\r50%\r\x1b[31mred\n"
    assert shared.execute(r"'\ud83d'").result == r"'\ud83d'"
    assert shared.execute(r"raise ValueError('\ud83d')").reply["evalue"] == "\ud83d"


def test_c_code_and_children_are_captured_in_order(shared: Client) -> None:
    run = shared.execute("""
import os, subprocess, sys, ctypes
print('1'); os.system('echo 2'); print('3'); sys.stdout.flush()
os.write(1, b'4\\n'); sys.stdout.flush(); print('5')
subprocess.run(['sh', '-c', 'echo 6; echo err >&2'])
subprocess.run(['echo', '7'], stdout=sys.stdout)
print('8')
ctypes.CDLL(None).puts(b'9')
""")
    assert run.text().split() == list("123456789")
    assert run.text("stderr") == "err\n"


def test_c_code_that_holds_the_gil_can_print_any_amount(shared: Client) -> None:
    run = shared.execute("""
import ctypes
libc = ctypes.PyDLL(None)
line = b'x' * 99
for n in range(100_000): libc.puts(line)
""")
    assert run.text() == ("x" * 99 + "\n") * 100_000


def test_a_child_that_lives_on_prints_into_the_running_cell(client: Client) -> None:
    msg_id = client.start("import subprocess; p = subprocess.Popen(['sh', '-c', 'sleep 0.3; echo late'])")
    client.finish(msg_id)
    assert client.output(msg_id, "late") == "late\n"


@pytest.mark.parametrize("lives_on", [False, True])
def test_no_question_takes_a_childs_output_away(client: Client, tmp_path: Path, lives_on: bool) -> None:
    """What a frontend asks while its user types, and what others ask all the time, runs no code."""
    os.mkfifo(tmp_path / "fifo")
    code = "import os, subprocess\nchild = subprocess.Popen(['sh', '-c', 'echo go; read x <fifo; echo late'])"
    msg_id = client.start(code if lives_on else f"{code}; child.wait()")
    client.output(msg_id, "go")
    if lives_on:
        client.finish_rest(msg_id)
    for msg_type, channel in (
        ("kernel_info_request", "control"), ("usage_request", "control"), ("kernel_info_request", "shell"),
        ("complete_request", "shell"), ("comm_info_request", "shell"),
    ):  # fmt: skip
        if channel == "control" or lives_on or msg_type != "kernel_info_request":
            client.request(
                msg_type, {"code": "o", "cursor_pos": 1} if msg_type == "complete_request" else {}, channel
            )
    (tmp_path / "fifo").write_text("\n")
    assert client.output(msg_id, "late") == "late\n"
    if lives_on:
        client.execute("child.wait()")
    else:
        client.finish_rest(msg_id)


def test_a_forked_child_prints_into_the_cell(shared: Client) -> None:
    run = shared.execute("""
import os
print('parent')
pid = os.fork()
if pid == 0:
    print('child'); display(1)
else:
    os.waitpid(pid, 0)
    print('after')
""")
    assert run.text().split() == ["parent", "child", "after"]
    assert shared.execute("1").result == "1"


def test_threads_print_into_the_cell_that_started_them(client: Client) -> None:
    first = client.start("""
import threading, time
go = threading.Event()
def work():
    go.wait(); print('from the first'); display('shown')
t = threading.Thread(target=work); t.start()
""")
    client.finish(first)
    run = client.execute("go.set(); t.join(); print('from the second')")
    assert run.text() == "from the second\n"
    assert client.output(first, "from the first") == "from the first\n"
    shown = client.wait_for("iopub", lambda m: m["msg_type"] == "display_data")
    assert shown["parent_header"]["msg_id"] == first


def test_jobs_of_an_executor_print_into_the_cell_that_submits_them(client: Client) -> None:
    client.execute(
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(print, 'a').result()"
    )
    run = client.execute("pool.submit(print, 'b').result()")
    assert run.text() == "b\n"
    run = client.execute("import asyncio\nawait asyncio.to_thread(print, 'c')")
    assert run.text() == "c\n"
    run = client.execute("await asyncio.get_running_loop().run_in_executor(pool, print, 'd')")
    assert run.text() == "d\n"


def test_a_threads_traceback_is_shown(shared: Client) -> None:
    run = shared.execute("import threading\ndef bad(): 1/0\nt = threading.Thread(target=bad); t.start(); t.join()")
    assert "ZeroDivisionError" in run.text("stderr")


def test_logging_and_warnings(shared: Client) -> None:
    run = shared.execute("import logging, warnings; logging.warning('logged'); warnings.warn('warned')")
    assert "logged" in run.text("stderr") and "warned" in run.text("stderr")


# -- display -------------------------------------------------------------------------------------------


def bundles(run) -> list[dict]:  # type: ignore[no-untyped-def, type-arg]
    return [m["content"] for m in run.outputs if m["msg_type"] != "stream"]


def test_every_repr_method(shared: Client) -> None:
    shared.execute("""
class Rich:
    def __repr__(self): return 'plain'
    def _repr_html_(self): return '<b>'
    def _repr_markdown_(self): return '*m*'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return b'png', {'width': 3}
    def _repr_jpeg_(self): return b'jpeg'
    def _repr_pdf_(self): return b'pdf'
    def _repr_latex_(self): return '$x$'
    def _repr_json_(self): return {'a': float('nan'), 'b': (1, 2)}
    def _repr_javascript_(self): return 'js'
""")
    content = bundles(shared.execute("Rich()"))[0]
    assert content["data"] == {
        "text/plain": "plain", "text/html": "<b>", "text/markdown": "*m*", "image/svg+xml": "<svg/>",
        "image/png": "cG5n", "image/jpeg": "anBlZw==", "application/pdf": "cGRm", "text/latex": "$x$",
        "application/json": {"a": None, "b": [1, 2]}, "application/javascript": "js",
    }  # fmt: skip
    assert content["metadata"] == {"image/png": {"width": 3}}
    assert list(bundles(shared.execute("Rich"))[0]["data"]) == ["text/plain"]
    assert set(bundles(shared.execute("display(Rich(), include=['text/html'])"))[0]["data"]) == {"text/html"}
    assert "text/html" not in bundles(shared.execute("display(Rich(), exclude=['text/html'])"))[0]["data"]


def test_mimebundles_and_ipython_display(start: Any) -> None:
    shared = start(without=("IPython",)).client()
    shared.execute("""
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/html': 'bundle', 'text/plain': 'p'}, {'text/html': {'x': 1}}
    def _repr_html_(self): return 'not this'
class Itself:
    def _ipython_display_(self): print('I do it')
class Anything:
    def __getattr__(self, name): return lambda *a, **k: 1/0
    def __repr__(self): return 'any'
class Half:
    def __repr__(self): return 'half'
    def _repr_html_(self): raise ValueError('no html')
    def _repr_latex_(self): raise NotImplementedError
""")
    content = bundles(shared.execute("Bundle()"))[0]
    assert content["data"] == {"text/html": "bundle", "text/plain": "p"} and content["metadata"] == {
        "text/html": {"x": 1}
    }
    run = shared.execute("Itself()")
    assert run.text() == "I do it\n" and run.result is None
    assert shared.execute("Anything()").result == "any"
    run = shared.execute("Half()")
    assert run.result == "half" and "no html" in run.text("stderr") and run.status == "ok"


def test_formatters_by_type_and_by_name(client: Client) -> None:
    client.execute("from minikernel.python.display import formatters\nimport decimal, fractions")
    client.execute("formatters[decimal.Decimal] = lambda d: {'text/html': f'<i>{d}</i>'}")
    client.execute("formatters['fractions.Fraction'] = lambda f: ({'text/latex': str(f)}, {'m': 1})")
    assert bundles(client.execute("decimal.Decimal(2)"))[0]["data"]["text/html"] == "<i>2</i>"
    content = bundles(client.execute("fractions.Fraction(1, 2)"))[0]
    assert content["data"]["text/latex"] == "1/2" and content["metadata"] == {"m": 1}


def test_display_ids(shared: Client) -> None:
    run = shared.execute(
        "h = display('a', display_id='one')\nh.update('b')\nupdate = __import__('minikernel').update_display\nupdate('c', display_id='one');"
    )
    assert [m["msg_type"] for m in run.outputs] == [
        "display_data",
        "update_display_data",
        "update_display_data",
    ]
    assert {json.dumps(c["transient"]) for c in bundles(run)} == {'{"display_id": "one"}'}
    run = shared.execute("h = display(1, display_id=True); len(h.display_id) > 8")
    assert run.result == "True"
    assert shared.execute("h.update()").ename == "TypeError"


def test_clear_output(shared: Client) -> None:
    run = shared.execute("import minikernel; minikernel.clear_output(wait=True); minikernel.clear_output()")
    assert [c["wait"] for c in bundles(run)] == [True, False]


def test_raw_bundles_and_what_json_cannot_say(shared: Client) -> None:
    run = shared.execute("display({'application/json': {'nan': float('inf'), 'set': {1}, 1: b'x'}}, raw=True)")
    assert bundles(run)[0]["data"]["application/json"] == {"nan": None, "set": [1], "1": "eA=="}
    assert shared.execute("display({'application/json': object()}, raw=True)").ename == "TypeError"
    assert shared.execute("a = []; a.append(a); display({'application/json': a}, raw=True)").ename == "ValueError"


@pytest.mark.parametrize("code", ["None", "x = 3", "", "def f(): pass"])
def test_nothing_to_show(shared: Client, code: str) -> None:
    assert shared.execute(code).outputs == []


def test_outputs_that_are_sent_to_another_cell(client: Client) -> None:
    code = "import threading, minikernel; go, named = threading.Event(), get_ipython().get_parent()"
    zeroth = client.execute(code).message["parent_header"]["msg_id"]
    code = (
        "def work():\n    go.wait(5)\n    print('usual')\n    with minikernel.output_to('current'): print('current')\n"
        "    with minikernel.output_to(named): print('named')\n    print('usual again')\n"
        "thread = threading.Thread(target=work); thread.start()"
    )
    first = client.execute(code).message["parent_header"]["msg_id"]
    second = client.execute("go.set(); thread.join()")
    assert second.text() == "current\n"
    texts = [
        (m["parent_header"]["msg_id"], m["content"]["text"]) for m in client.iopub if m["msg_type"] == "stream"
    ]
    texts += [
        (m["parent_header"]["msg_id"], m["content"]["text"])
        for m in client.heard["iopub"]
        if m["msg_type"] == "stream"
    ]
    assert {(zeroth, "named\n"), (first, "usual\n"), (first, "usual again\n")} <= set(texts)


def test_what_outlives_its_cell_prints_below_the_current_one(client: Client) -> None:
    client.execute(
        "import threading, minikernel; go = threading.Event(); minikernel.output_to('current').everywhere()"
    )
    client.execute("thread = threading.Thread(target=lambda: go.wait(5) and print('late')); thread.start()")
    assert client.execute("go.set(); thread.join()").text() == "late\n"
    assert client.execute("minikernel.output_to('nowhere')").ename == "ValueError"


#: What a first cell begins and a second one sets off, and below which of them it is shown.
BEGUN = {
    "a thread": ("t = threading.Thread(target=late); t.start()", "go.set(); t.join()", 1),
    "a thread of a dead thread": (
        "def outer():\n    global t\n    t = threading.Thread(target=late); t.start()\n"
        "o = threading.Thread(target=outer); o.start(); o.join()",
        "go.set(); t.join()",
        1,
    ),
    "a timer": ("t = threading.Timer(0, late); t.start()", "go.set(); t.join()", 1),
    "a thread that fails": ("t = threading.Thread(target=fail); t.start()", "go.set(); t.join()", 1),
    "a thread without an object": ("_thread.start_new_thread(late, ());", "go.set(); done.wait(10)", 2),
    "a job": ("p = ThreadPoolExecutor(1); f = p.submit(late)", "go.set(); f.result()", 1),
    "a job of a pool in use": (
        "p = ThreadPoolExecutor(1); p.submit(int).result();",
        "go.set(); p.submit(late).result()",
        2,
    ),
    "mapped jobs": ("p = ThreadPoolExecutor(1); p.submit(int).result();", "go.set(); list(p.map(late, '1'));", 2),
    "a job's callback": (
        "p = ThreadPoolExecutor(1); p.submit(int).result(); f = p.submit(go.wait); f.add_done_callback(late)",
        "go.set(); done.wait(10)",
        1,
    ),
    "a job of multiprocessing's": ("p = ThreadPool(1)", "go.set(); p.apply(late)", 2),
    "jobs of multiprocessing's": ("p = ThreadPool(1)", "go.set(); p.map(late, '1'); p.close();", 2),
    "lazy jobs of multiprocessing's": ("p = ThreadPool(1)", "go.set(); list(p.imap(func=late, iterable='1'));", 2),
    "a task": ("t = asyncio.create_task(soon())", "event.set(); await t", 1),
    "a task in a task group's place": (
        "async def outer(): await asyncio.gather(soon(), asyncio.sleep(0))\nt = asyncio.create_task(outer())",
        "event.set(); await t",
        1,
    ),
    "a callback": (
        "f = asyncio.get_running_loop().create_future(); f.add_done_callback(late); go.set()",
        "f.set_result(1); await asyncio.sleep(0)",
        1,
    ),
    "a callback that fails": (
        "f = asyncio.get_running_loop().create_future(); f.add_done_callback(fail); go.set()",
        "f.set_result(1); await asyncio.sleep(0)",
        1,
    ),
    "a task that fails": (
        "t = asyncio.create_task(soon(fail)); go.set()",
        "event.set(); await asyncio.wait([t]); del t; gc.collect();",
        1,
    ),
    "a task that is dropped": (
        "class Here: __repr__ = lambda self: 'here'\n"
        "async def drop(): await Here.future\n"
        "Here.future = asyncio.get_running_loop().create_future(); t = asyncio.create_task(drop(), name='here')",
        "await asyncio.sleep(0); Here.future = None; del t; gc.collect();",
        1,
    ),
    "a timer of the loop": (
        "async def soon_after():\n    await event.wait(); asyncio.get_running_loop().call_later(0.001, late)\n"
        "t = asyncio.create_task(soon_after()); go.set()",
        "event.set()\nwhile not done.is_set(): await asyncio.sleep(0.001)",
        1,
    ),
    "a call from a thread": (
        "loop = asyncio.get_running_loop()\n"
        "def work(): go.wait(10); loop.call_soon_threadsafe(late)\n"
        "t = threading.Thread(target=work); t.start()",
        "go.set()\nwhile not done.is_set(): await asyncio.sleep(0.001)",
        1,
    ),
    "to_thread": ("t = asyncio.create_task(asyncio.to_thread(late))", "go.set(); await t", 1),
    "a logging handler": ("log = logger(logging.StreamHandler())", "log.warning('here')", 2),
    "a listener": (
        "q = queue.Queue(); log = logger(h.QueueHandler(q)); l = h.QueueListener(q, logging.StreamHandler()); l.start()",
        "log.warning('here'); l.stop()",
        1,
    ),
    "__del__": ("class D:\n    def __del__(self): late()\nd = D(); go.set()", "del d", 2),
    "__del__ that fails": ("class D:\n    def __del__(self): fail()\nd = D(); go.set()", "del d", 2),
    "__del__ in a job": (
        "class D:\n    def __del__(self): late()\n"
        "p = ThreadPoolExecutor(1); p.submit(int).result(); f = p.submit(lambda d: go.wait(10), D());",
        "go.set(); done.wait(10)",
        1,
    ),
}  # fmt: skip
TOOLS = """
import asyncio, gc, logging, logging.handlers as h, queue, threading, _thread
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from minikernel import output_to
def begin():
    global go, done, event
    go, done, event = threading.Event(), threading.Event(), asyncio.Event()
def late(*_):
    go.wait(10); print('here'); done.set()
def fail(*_):
    go.wait(10); raise ZeroDivisionError('here')
async def soon(function=None):
    await event.wait()
    function() if function else print('here')
def logger(handler):
    log = logging.Logger('l'); log.addHandler(handler); return log
"""


@pytest.fixture(scope="module")
def tools(shared: Client) -> Client:
    assert shared.execute(TOOLS).status == "ok"
    return shared


@pytest.mark.parametrize("where", ["origin", "current"])
@pytest.mark.parametrize("name", BEGUN)
def test_whose_it_is(tools: Client, name: str, where: str) -> None:
    first, second, cell = BEGUN[name]
    tools.execute(f"output_to({where!r}).everywhere(); begin()")
    ids = [tools.start(first)]
    assert tools.finish(ids[0]).status == "ok"
    ids.append(tools.start(second))
    run = tools.finish(ids[1])
    assert run.status == "ok", run.reply
    shown = [m for m in run.outputs if "here" in str(m["content"])] or [
        tools.wait_for("iopub", lambda m: m["msg_type"] == "stream" and "here" in m["content"]["text"])
    ]
    assert [m["parent_header"]["msg_id"] for m in shown] == [ids[1 if where == "current" else cell - 1]]


def test_a_switch_leaves_the_descriptors_alone(start: Callable[..., KernelProcess]) -> None:
    """Then C code, children and forks write where the launcher's stdout goes, and Python to the frontend as ever."""
    kernel = start(env={"MINIKERNEL_CAPTURE": "off"})
    client = kernel.client()
    run = client.execute(
        "import ctypes, os, sys\nos.system('echo from a child; echo and its stderr >&2'); os.write(1, b'by number\\n')\n"
        "ctypes.CDLL(None).puts(b'from C')\nif not (pid := os.fork()):\n    print('from a fork'); os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint('from Python'); sys.stdout.flush(); print('too', file=sys.stderr)"
    )
    assert run.text() == "from Python\n" and run.text("stderr").endswith("too\n")
    for text in ("from a child", "and its stderr", "by number", "from C", "from a fork"):
        assert text in kernel.stderr()
    assert "from Python" not in kernel.stderr()


def test_what_stands_among_the_modules_is_not_asked(client: Client) -> None:
    """Any object may, and a lazy module would be imported by the first look."""
    run = client.execute(
        "import importlib.util, sys, time\nclass Blocks:\n    def __getattr__(self, name): time.sleep(60)\n"
        "    __class__ = property(lambda self: time.sleep(60))\n"
        "sys.modules['blocks'] = Blocks()\nspec = importlib.util.find_spec('this')\n"
        "spec.loader = importlib.util.LazyLoader(spec.loader); lazy = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(lazy); sys.modules['this'] = lazy\nprint('done')"
    )
    assert run.text() == "done\n"
    assert client.execute("import ctypes; ctypes.CDLL(None).puts(b'from C')").text() == "from C\n"


def test_a_child_that_outlives_cells_prints_to_the_last_of_them(client: Client) -> None:
    """Descriptor 1 is the process's: who holds it does not say for which cell."""
    client.execute("import subprocess\nchild = subprocess.Popen(['cat'], stdin=subprocess.PIPE)")
    for n in range(3):
        run = client.execute(f"child.stdin.write(b'{n}' * 100_000 + b'\\n'); child.stdin.flush(); 1")
        text = run.text()
        while not text.endswith("\n"):
            message = client.wait_for("iopub", lambda m: m["msg_type"] == "stream")
            assert message["parent_header"]["msg_id"] == run.message["parent_header"]["msg_id"]
            text += message["content"]["text"]
        assert text == str(n) * 100_000 + "\n"
    client.execute("child.stdin.close(); child.wait()")
