"""IPython on demand: a real shell where it is installed, one clear error where it is not, nothing until then."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from client import Client, KernelProcess

IPython = pytest.importorskip("IPython")


@pytest.fixture
def bare(start: Any) -> Client:
    """A frontend of a kernel that has no IPython."""
    client: Client = start(without=("IPython", "ipykernel", "matplotlib_inline")).client()
    return client


def ok(client: Client, code: str, **options: Any) -> Any:
    run = client.execute(code, timeout=60, **options)
    assert run.status == "ok", run.reply
    return run


def test_nothing_is_imported_until_it_is_needed(client: Client) -> None:
    look = "import sys; 'IPython' in sys.modules"
    for code in (
        "x = 1",
        "print(x); x",
        "def f(: pass",
        "1/0",
        "display(x)",
        "[1, 2]",
        "'%d' % x",
        "x?",
        "{'a': 1}",
    ):
        client.execute(code)
    assert client.execute(look).result == "False"
    ok(client, "%time pass")
    assert client.execute(look).result == "True"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%time x = 6 * 7", "Wall time"),
        ("%%time\nx = 6", "Wall time"),
        ("%timeit -n1 -r1 pass", "per loop"),
        ("%%timeit -n1 -r1\npass", "per loop"),
        ("!echo out", "out"),
        ("y = !echo out\nprint(y)", "['out']"),
        ("y = %pwd\nprint(y)", "/"),
        ("if True:\n    !echo deep", "deep"),
        ("%%bash\necho bash", "bash"),
        ("%%script sh\necho sh", "sh"),
        ("%%capture c\nprint(1)\ndisplay(2)\n3", ""),
        ("%%writefile file.txt\ntext", "Writing file.txt"),
        ("%who", ""),
        ("%env HOME=/\n", "env: HOME=/"),
        ("%prun -q pass", ""),
        ("%history -n", "%time x"),
        ("%lsmagic\nprint('ok')", "ok"),
        ("%load_ext autoreload\n%autoreload 2", ""),
        ("%alias greet echo hello %s", ""),
        ("greet you", "hello you"),
        ("%config Completer.use_jedi = False", ""),
        ("%xmode", "Exception reporting mode"),
        ("%subshell", "subshell id: None"),
        ("%connect_info", '"shell_port"'),
        ("%macro again 1", "Macro `again` created"),
        ("%precision 3", ""),
        ("%pip --version", "pip "),
        ("%autosave 0", "Autosave disabled"),
        ("stored = 3\n%store stored", "Stored 'stored' (int)"),
        ("%clear", ""),
    ],
)  # fmt: skip
def test_magics(shared: Client, code: str, expected: str) -> None:
    assert expected in ok(shared, code).text()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%pwd", "'/"),
        ("pwd", "'/"),
        ("!!echo 3", "['3']"),
        ("%sx echo 4", "['4']"),
        ("get_ipython().ev('1+1')", "2"),
        ("%env HOME", "'"),
        ("type(get_ipython()).__name__", "'ZMQInteractiveShell'"),
        ("type(get_ipython()).__module__", "'ipykernel.zmqshell'"),
        ("'IPKernelApp' in get_ipython().config", "True"),
        ("get_ipython().user_ns is globals()", "True"),
        ("import IPython; IPython.get_ipython() is get_ipython()", "True"),
        ("get_ipython().kernel.get_parent()['header']['msg_type']", "'execute_request'"),
        ("import comm; get_ipython().kernel.comm_manager is comm.get_comm_manager()", "True"),
        ("get_ipython().run_cell('1+1').result", "2"),
        ("In[-1]", "'In[-1]'"),
        ("get_ipython().has_trait('kernel')", "True"),
    ],
)  # fmt: skip
def test_values(shared: Client, code: str, expected: str) -> None:
    assert (ok(shared, code).result or "").startswith(expected)


def test_cd_and_automagic(client: Client) -> None:
    ok(client, "cd /")
    assert ok(client, "pwd").result == "'/'"
    ok(client, "ls = 5")
    assert ok(client, "ls").result == "5"  # a name of the user's is the user's
    assert client.execute("nobody_knows_it").ename == "NameError"


def test_an_unknown_magic(client: Client) -> None:
    for code in ("%no_such_magic", "%%no_such_magic\nx"):
        run = client.execute(code)
        assert run.ename == "UsageError" and run.reply["traceback"] == []
        assert run.text("stderr").startswith("UsageError:") and "error" not in run.types
    assert ok(client, "1").result == "1"


def test_a_syntax_error_stays_pythons(client: Client) -> None:
    ok(client, "%time pass")
    run = client.execute("x = (1,\nprint 'a'")
    assert run.ename == "SyntaxError" and "Cell In[2]" in "".join(run.reply["traceback"])
    assert run.types.count("error") == 1


def test_captured(client: Client) -> None:
    ok(client, "%%capture c\nprint('a'); display('b')\n3")
    run = ok(client, "print(c.stdout, [o.data['text/plain'] for o in c.outputs])")
    assert run.text() == "a\n [\"'b'\", '3']\n"


def test_payloads(client: Client) -> None:
    ok(client, "%%writefile a.py\nvalue = 1")
    payload = ok(client, "%load a.py").reply["payload"]
    assert payload == [{"source": "set_next_input", "text": "# %load a.py\nvalue = 1\n", "replace": True}]
    (page,) = ok(client, "%less a.py").reply["payload"]
    assert page["source"] == "page" and "value = 1" in page["data"]["text/plain"]
    (page,) = ok(client, "*abs*?").reply["payload"]
    assert "abs" in page["data"]["text/plain"]
    (edit,) = ok(client, "%edit a.py").reply["payload"]
    assert edit["source"] == "edit_magic" and edit["filename"].endswith("a.py")
    assert ok(client, "%run a.py\nvalue").result == "1"


def test_errors_in_magics(client: Client) -> None:
    run = client.execute("%run no_such_file.py")
    assert run.types.count("error") <= 1
    ok(client, "%%writefile bad.py\n1/0")
    run = client.execute("%run bad.py")
    assert [m["content"]["ename"] for m in run.outputs if m["msg_type"] == "error"] == ["ZeroDivisionError"]
    run = client.execute("%time 1/0")
    assert run.types.count("error") == 1


def test_modes_of_tracebacks(client: Client) -> None:
    ok(client, "%xmode Minimal")
    run = client.execute("1/0")
    assert run.reply["traceback"] and "line 1" not in "".join(run.reply["traceback"])
    ok(client, "%xmode Context")
    assert "line 1" in "".join(client.execute("1/0").reply["traceback"])


def test_cells_have_their_names_in_ipythons_tracebacks(client: Client) -> None:
    code = "class A:\n    def _repr_html_(self): raise ValueError\n    def __repr__(self): return 'A'\nget_ipython(); A()"
    run = client.execute(code)
    (error,) = [m for m in run.outputs if m["msg_type"] == "error"]
    text = re.sub(r"\x1b\[[\d;]*m", "", "".join(error["content"]["traceback"]))
    assert "Cell In[1]" in text and run.result == "A" and run.status == "ok"


def test_events(client: Client) -> None:
    ok(client, "seen = []\nfor name in ('pre_execute', 'post_execute'):\n"
               "    get_ipython().events.register(name, lambda name=name: seen.append(name))\n"
               "for name in ('pre_run_cell', 'post_run_cell'):\n"
               "    get_ipython().events.register(name, lambda what, name=name: seen.append(name))")  # fmt: skip
    ok(client, "seen.append('cell')")
    ok(client, "seen.append('silent')", silent=True)
    client.execute("1/0")
    around = ["pre_execute", "pre_run_cell", "{}", "post_execute", "post_run_cell"]
    first = ["post_execute", "post_run_cell"]
    cell, error = [a.format("cell") for a in around], [a for a in around if a != "{}"]
    silent = ["pre_execute", "silent", "post_execute"]
    assert ok(client, "print(seen == " + repr([*first, *cell, *silent, *error, "pre_execute", "pre_run_cell"]) + ", seen)"
              ).text().startswith("True")  # fmt: skip


def test_results_that_events_tell_of(client: Client) -> None:
    code = "get_ipython().events.register('post_run_cell', lambda result: print(result.result, result.success))"
    ok(client, code)
    assert ok(client, "'value'").text() == "value True\n"
    assert ok(client, "'value';").text() == "None True\n"
    assert client.execute("1/0").text() == "None False\n"


def test_what_is_shown_of_a_cell(client: Client) -> None:
    ok(client, "get_ipython().ast_node_interactivity = 'all'")
    run = ok(client, "1\n2\nx = 3")
    assert [m["content"]["data"]["text/plain"] for m in run.outputs] == ["1", "2"]
    ok(client, "get_ipython().ast_node_interactivity = 'last_expr_or_assign'")
    assert ok(client, "y = 5").result == "5"
    ok(client, "get_ipython().ast_node_interactivity = 'none'")
    assert ok(client, "7").result is None


def test_formatters_of_libraries(client: Client) -> None:
    ok(client, "class A: pass\nf = get_ipython().display_formatter.formatters['text/html']\n"
               "f.for_type(A, lambda a: '<b>A</b>')")  # fmt: skip
    run = ok(client, "display(A()); A()")
    assert [m["content"]["data"]["text/html"] for m in run.outputs] == ["<b>A</b>"] * 2
    code = "class Broken:\n    def __repr__(self): raise ValueError('no')\nBroken()"
    run = client.execute(code)
    assert run.ename == "ValueError" and run.types.count("error") == 1


def test_objects_that_display_themselves(client: Client) -> None:
    ok(client, "get_ipython()")
    code = "class A:\n    def _ipython_display_(self): print('itself')\ndisplay(A()); A()"
    run = ok(client, code)
    assert run.text() == "itself\nitself\n" and {m["msg_type"] for m in run.outputs} == {"stream"}
    code = "class B:\n    def _ipython_display_(self): raise ValueError\n    def __repr__(self): return 'B'\nB()"
    run = ok(client, code)
    assert run.types.count("error") == 1 and run.result == "B"
    ok(client, "f = get_ipython().display_formatter.ipython_display_formatter\nclass C: pass\nf.for_type(C, print)")
    run = ok(client, "C()")
    assert "object at" in run.text() and run.result is None


def test_ipython_display(client: Client) -> None:
    code = "from IPython.display import *\ndisplay(HTML('<i>h</i>'), display_id='d'); clear_output(wait=True)\nMath('x')"
    run = ok(client, code)
    assert run.types[2:5] == ["display_data", "clear_output", "execute_result"]
    assert run.outputs[0]["content"]["transient"] == {"display_id": "d"}
    assert run.outputs[-1]["content"]["data"]["text/latex"] == "$\\displaystyle x$"
    run = ok(client, "update_display('new', display_id='d')")
    assert run.types[2:3] == ["update_display_data"]


def test_history_goes_on(client: Client) -> None:
    ok(client, "before = 1")
    ok(client, "%time after = 2")
    sources = ["before = 1", "get_ipython().run_line_magic('time', 'after = 2')"]
    assert ok(client, "(In[1:3], _i1) == " + repr((sources, "before = 1"))).result == "True"
    count = 5 if IPython.version_info >= (9, 8) else 4  # of the next cell, or of this one
    assert ok(client, "get_ipython().execution_count").result == str(count)
    run = ok(client, "%history 1-2")
    assert run.text() == "before = 1\n%time after = 2\n"
    rows = client.request("history_request", {"hist_access_type": "range", "raw": False}).reply["history"]
    assert rows[1][2].startswith("get_ipython().run_line_magic")


def test_out_does_not_hold_itself(client: Client) -> None:
    for code in ("5", "get_ipython(); Out"):
        ok(client, code)
    assert ok(client, "_, Out").result == "(5, {1: 5})"


def test_interrupts_reach_magics(kernel: KernelProcess) -> None:
    client = kernel.client()
    for code in ("%time __import__('time').sleep(60)", "!sleep 60"):
        msg_id = client.start("print('g' + 'o', flush=True)\n" + code)
        client.output(msg_id, "go")
        kernel.interrupt()
        run = client.finish(msg_id)
        assert run.ename == "KeyboardInterrupt" or "!" in code
    assert ok(client, "1").result == "1"


SPINS = """
import ast, os
ip = get_ipython()
def spin(*args, **kwargs):
    if os.path.exists("spins"):
        print("go", flush=True)
        while True: pass
    return args and args[0]
class Transformer(ast.NodeTransformer):
    visit_Module = lambda self, node: spin(node)
class X:
    def __repr__(self): spin(); return "X()"
x = X()
"""
#: How user code comes to be called by IPython, and a cell for which it is.
HOOKS = {
    "ip.events.register('pre_execute', spin)": "1",
    "ip.events.register('pre_run_cell', spin)": "1",
    "ip.events.register('post_execute', spin)": "1",
    "ip.events.register('post_run_cell', spin)": "1",
    "ip.ast_transformers.append(Transformer())": "1",
    "ip.input_transformers_post.append(spin)": "!true",
    "ip.set_custom_exc((ZeroDivisionError,), spin)": "1/0",
    "ip.set_hook('show_in_pager', spin, 0)": "%psource spin",
    "ip.display_formatter.formatters['text/html'].for_type(X, spin)": "x",
    "ip.run_line_magic('xmode', 'Verbose')": "x; 1/0",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_interrupts_reach_what_is_called_by_ipython(kernel: KernelProcess, hook: str) -> None:
    client = kernel.client()
    ok(client, SPINS)
    ok(client, hook)
    (spins := kernel.connection_file.parent / "spins").touch()
    msg_id = client.start(HOOKS[hook])
    client.output(msg_id, "go")
    spins.unlink()
    kernel.interrupt()
    client.finish(msg_id)
    assert client.execute("6 * 7").result == "42" and "minikernel" not in str(client.iopub)


LATE = """
import signal
from minikernel.kernel.request import Request
publish = Request.publish
def interrupted(request, msg_type, *args):
    if msg_type == "execute_result": signal.raise_signal(signal.SIGINT)
    publish(request, msg_type, *args)
Request.publish = interrupted
get_ipython().events.register("post_run_cell", lambda result: print("after", result.result))
"""


def test_an_interrupt_that_comes_too_late_takes_nothing_away(kernel: KernelProcess) -> None:
    client = kernel.client()
    ok(client, LATE)
    run = ok(client, "1")
    assert (run.result, run.text()) == ("1", "after 1\n")


def test_nor_when_it_comes_before_a_callback(kernel: KernelProcess) -> None:
    client = kernel.client()
    ok(
        client,
        "import signal\nclass Callbacks(dict):\n    def __getitem__(self, event):\n"
        "        if event == 'post_run_cell': signal.raise_signal(signal.SIGINT)\n        return super().__getitem__(event)\n"
        "events = get_ipython().events\n"
        "events.register('post_run_cell', lambda result: print('after', result.result))\n"
        "events.callbacks = Callbacks(events.callbacks)",
    )
    assert ok(client, "1").text() == "after 1\n"


def test_an_error_is_described_though_ipython_was_interrupted(kernel: KernelProcess) -> None:
    client = kernel.client()
    ok(client, "%xmode Verbose\nclass X:\n    def __repr__(self): print('go', flush=True); spin()\nx = X()")
    ok(client, "def spin():\n    while True: pass")
    msg_id = client.start("x; 1 / 0")
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert (run.ename, run.reply["evalue"]) == ("ZeroDivisionError", "division by zero")


def test_debug_looks_at_what_was_interrupted(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = client.start("def f(deep):\n    print('go', flush=True)\n    while True: pass\nf('value')")
    client.output(msg_id, "go")
    kernel.interrupt()
    client.finish(msg_id)
    msg_id = client.start("%debug", allow_stdin=True)
    client.answer("p deep")
    client.answer("q")
    assert "'value'" in client.finish(msg_id).text()


TORN = """
exec('''
from signal import SIGINT, raise_signal
enqueue, left = GroupQueue.enq, -1
def enq(self, group):
    global left
    if (left := left - 1) == 0: raise_signal(SIGINT)
    return enqueue(self, group)
GroupQueue.enq = enq
''', vars(pretty))
"""


def test_the_printer_is_not_torn(kernel: KernelProcess) -> None:
    """It would raise an IndexError instead, from its ``finally``, and that would be the cell's."""
    client = kernel.client()
    ok(client, "from IPython.lib import pretty")
    ok(client, TORN)
    for group in (1, 2, 3, 500):
        run = client.execute(f"pretty.left = {group}; list(range(1000))")
        assert run.ename in (None, "KeyboardInterrupt"), run.reply


def test_debug(client: Client) -> None:
    client.execute("def f(deep):\n    1/0\nf('value')")
    msg_id = client.start("%debug", allow_stdin=True)
    assert client.answer("p deep")["content"]["prompt"].strip() == "ipdb>"
    client.answer("q")
    assert "value" in client.finish(msg_id).text()


def test_debug_looks_at_the_last_error(client: Client) -> None:
    ok(client, "%%writefile bad.py\n1/0")
    client.execute("%run bad.py")
    client.execute("here = 'cell'\nraise KeyError")
    msg_id = client.start("%debug", allow_stdin=True)
    client.answer("p here")
    client.answer("q")
    assert "'cell'" in client.finish(msg_id).text()


def test_pdb_of_every_error(client: Client) -> None:
    ok(client, "%pdb on")
    msg_id = client.start("def f(deep):\n    1/0\nf('value')", allow_stdin=True)
    client.answer("p deep")
    client.answer("q")
    run = client.finish(msg_id)
    assert "value" in run.text() and run.ename == "ZeroDivisionError"
    run = client.execute("1/0", allow_stdin=False)  # jupyter nbconvert's way
    assert run.ename == "ZeroDivisionError" and "does not support input" in run.text("stderr")
    assert client.execute("x = (").types.count("error") == 1


def test_messages_that_libraries_send_themselves(client: Client) -> None:
    content = "dict(data={'text/plain': 'hi'}, metadata={})"
    ok(client, "ip = get_ipython(); k = ip.kernel")
    run = ok(client, f"k.session.send(k.iopub_socket, 'display_data', {content}, parent=ip.parent_header)")
    assert run.outputs[0]["msg_type"] == "display_data"
    run = ok(client, f"k.send_response(k.iopub_socket, 'display_data', {content})")
    assert run.outputs[0]["content"]["data"] == {"text/plain": "hi"}


def test_future_imports_in_the_midst_of_a_cell(client: Client) -> None:
    code = "x = 1\nfrom __future__ import annotations\ndef f(a: nobody): pass\nf.__annotations__"
    assert ok(client, code).result == "{'a': 'nobody'}"
    assert ok(client, "def g(a: nobody): pass\ng.__annotations__").result == "{'a': 'nobody'}"


def test_output_widget(client: Client) -> None:
    pytest.importorskip("ipywidgets")
    run = ok(client, "from ipywidgets import Output\no = Output()\nwith o: print('inside')")
    ids = [m["content"]["data"]["state"].get("msg_id") for m in run.outputs if m["msg_type"] == "comm_msg"]
    assert ids == [run.message["parent_header"]["msg_id"], ""]


def test_libraries_that_want_ipykernels_connections(client: Client, kernel: KernelProcess) -> None:
    pytest.importorskip("ipykernel")
    ok(client, "get_ipython()")
    assert ok(client, "import ipykernel; ipykernel.get_connection_file()").result == repr(
        str(kernel.connection_file)
    )
    assert ok(client, "from ipykernel.comm import Comm; Comm.__module__").result.startswith("'minikernel")


# -- without IPython -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["%time x = 1", "%%timeit\nx", "!ls", "x = !ls", "x = 1\n%cd /"])
def test_a_magic_without_ipython(bare: Client, code: str) -> None:
    run = bare.execute(code)
    assert run.ename == "UsageError" and "pip install ipython" in run.reply["evalue"]
    assert run.types.count("error") == 1 and len(run.reply["traceback"]) == 1


def test_start_up_code_of_frontends_without_ipython(bare: Client) -> None:
    run = bare.execute("%cd /", silent=True)
    assert run.types == ["status", "status"] and run.status == "error"


def test_figures_are_inline_anyhow(bare: Client) -> None:
    assert ok(bare, "%matplotlib inline\nx = 5\nx").result == "5"


def test_no_get_ipython_without_ipython(bare: Client) -> None:
    assert bare.execute("get_ipython()").ename == "NameError"
    assert bare.execute("x").ename == "NameError"
    assert bare.request("kernel_info_request").reply["language_info"]["pygments_lexer"] == "python3"


def test_the_language_with_magics(client: Client) -> None:
    info = client.request("kernel_info_request").reply["language_info"]
    assert info["pygments_lexer"] == "ipython3" and info["codemirror_mode"]["name"] == "ipython"
    assert sys.version.startswith(info["version"])


def test_outputs_of_a_thread_are_sent_where_it_says(client: Client) -> None:
    code = (
        "import threading; parent, go = get_ipython().get_parent(), threading.Event()\n"
        "def work(set):\n    set(parent)\n    go.wait(); print('late')\n"
        "def later():\n    threads = [threading.Thread(target=work, args=[f]) for f in\n"
        "        (get_ipython().set_parent, get_ipython().set_thread_parent)]\n"
        "    for t in threads: t.start()\n    return threads"
    )
    first = ok(client, code).message["parent_header"]["msg_id"]
    ok(client, "threads = later()")
    second = client.start("go.set()\nfor t in threads: t.join()")
    assert client.output(first, "late\nlate\n")
    assert client.finish(second).text() == ""


def test_a_gui_lives_between_cells(start: Any) -> None:
    kernel = start(env={"QT_QPA_PLATFORM": "offscreen"})
    client = kernel.client()
    if client.execute("import PySide6.QtCore").status == "error":
        pytest.skip("needs Qt")
    ok(client, "%gui qt\nfrom PySide6.QtCore import QTimer\nt, n = QTimer(), []\n"
               "t.timeout.connect(lambda: n.append(1)); t.start(1)")  # fmt: skip
    ok(client, "import asyncio\nwhile len(n) < 10: await asyncio.sleep(0.01)")
    assert ok(client, "%gui\nlen(n) >= 10").result == "True"


def test_an_unknown_gui(client: Client) -> None:
    run = client.execute("%gui wx")
    assert "qt and tk" in run.text("stderr")


@pytest.mark.parametrize(
    ("code", "status", "indent"),
    [
        ("if True:\n    !ls", "incomplete", "    "),
        ("if True:\n    !ls\n", "complete", ""),
        ("x = !ls", "complete", ""),
        ("%time x", "complete", ""),
        ("x = )", "invalid", ""),
    ],
)
def test_is_complete(shared: Client, code: str, status: str, indent: str) -> None:
    reply = shared.request("is_complete_request", {"code": code}).reply
    assert (reply["status"], reply.get("indent", "")) == (status, indent)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("{3, 1, 2}", "{1, 2, 3}"),
        ("def f(x): pass\nf", "<function __main__.f(x)>"),
        ("class A: pass\nA", "__main__.A"),
        ("list(range(40))", "[0,\n 1,"),
        ("[object]", "[object]"),
        ("from collections import OrderedDict; OrderedDict(a=1)", "OrderedDict([('a', 1)])"),
    ],
)
def test_texts_that_are_not_the_repr(client: Client, code: str, expected: str) -> None:
    assert (ok(client, code).result or "").startswith(expected)


def test_texts_that_are_the_repr_do_not_load_ipython(client: Client) -> None:
    for code in ("[1, 'a', {'b': 2.5}]", "{}", "{1}", "'long' * 100", "import datetime; datetime.date(2020, 1, 1)"):
        ok(client, code)
    assert ok(client, "import sys; 'IPython' in sys.modules").result == "False"


def test_completion_of_magics(client: Client) -> None:
    ok(client, "%time pass")
    for code, start, some in (
        ("%tim", 1, {"time", "timeit"}),
        ("x = 1\n%%ba", 8, {"bash"}),
        ("y = %pw", 5, {"pwd"}),
    ):
        reply = client.request("complete_request", {"code": code}).reply
        assert reply["cursor_start"] == start and some <= set(reply["matches"]), reply
    assert "print" in client.request("complete_request", {"code": "x %prin"}).reply["matches"]
