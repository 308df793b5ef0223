"""execute_request: counts, results, silence, aborts, expressions, errors ("Messaging in Jupyter: Execute")."""

from __future__ import annotations

import pytest
from client import Client


def test_a_result_and_its_order(shared: Client) -> None:
    run = shared.execute("print('hi')\n1 + 1")
    assert run.types == ["status", "execute_input", "stream", "execute_result", "status"]
    assert run.result == "2"
    assert run.reply["payload"] == [] and run.reply["user_expressions"] == {}


def test_counts(client: Client) -> None:
    assert client.execute("1").reply["execution_count"] == 1
    assert client.execute("2", silent=True).reply["execution_count"] == 1
    run = client.execute("3", store_history=False)
    assert run.reply["execution_count"] == 1
    assert {m["content"]["execution_count"] for m in run.messages if "execution_count" in m["content"]} == {1}
    assert client.execute("").reply["execution_count"] == 1
    assert client.execute("# hi").reply["execution_count"] == 2
    assert client.execute("1/0").reply["execution_count"] == 3
    assert client.execute("4").reply["execution_count"] == 4


def test_silent_code_shows_no_input_and_no_result(client: Client) -> None:
    run = client.execute("5", silent=True)
    assert run.types == ["status", "status"]
    assert client.execute("Out").result == "{}"


def test_unstored_code_is_in_no_history(client: Client) -> None:
    client.execute("'kept'")
    client.execute("'lost'", store_history=False)
    assert client.execute("In, Out").result == "(['', \"'kept'\", 'In, Out'], {1: 'kept'})"
    history = client.request("history_request", {"hist_access_type": "tail", "n": 10}).reply["history"]
    assert [row[1:] for row in history] == [[1, "'kept'"], [2, "In, Out"]]


def test_a_semicolon_hides_the_value(shared: Client) -> None:
    for code in ("1;", "1 ; # no", "x = 1; x;", "'a;b';"):
        assert shared.execute(code).result is None, code
    for code in ("'1;'", "1 # ;", "1; 2"):
        assert shared.execute(code).result is not None, code


def test_user_expressions(shared: Client) -> None:
    run = shared.execute("a = 6", user_expressions={"good": "a * 7", "bad": "nope"})
    good, bad = run.reply["user_expressions"]["good"], run.reply["user_expressions"]["bad"]
    assert good == {"status": "ok", "data": {"text/plain": "42"}, "metadata": {}}
    assert bad["status"] == "error" and bad["ename"] == "NameError" and bad["traceback"]
    assert shared.execute("1/0", user_expressions={"a": "1"}).reply["user_expressions"] == {}


def test_one_error_with_the_same_content(shared: Client) -> None:
    run = shared.execute("1/0")
    errors = [m["content"] for m in run.outputs if m["msg_type"] == "error"]
    assert len(errors) == 1
    assert errors[0] == {name: run.reply[name] for name in ("ename", "evalue", "traceback")}
    assert run.ename == "ZeroDivisionError" and run.reply["evalue"] == "division by zero"


@pytest.mark.parametrize("stop", [True, False])
def test_an_error_aborts_what_is_queued(client: Client, stop: bool) -> None:
    subshell = client.create_subshell()
    client.execute("import threading; go = threading.Event()")
    first = client.start("go.wait(20); 1/0", stop_on_error=stop)
    queued = [client.start(f"x = {n}", stop_on_error=False) for n in range(5)]
    info = client.send("kernel_info_request")
    client.execute("go.set()", subshell)  # came after them, through the same socket
    assert client.finish(first).status == "error"
    runs = [client.finish(msg_id) for msg_id in queued]
    assert {run.status for run in runs} == {"aborted" if stop else "ok"}
    if stop:
        assert {run.reply["execution_count"] for run in runs} == {2}
        assert {tuple(run.types) for run in runs} == {("status", "status")}
    assert client.finish(info).status == "ok"
    assert client.execute("2").status == "ok"


def test_what_is_sent_after_the_error_is_known_runs(client: Client) -> None:
    for _ in range(50):
        msg_id = client.start("1/0")
        client.wait_for("shell", lambda m, msg_id=msg_id: m["parent_header"]["msg_id"] == msg_id)
        assert client.execute("3").result == "3"


def test_interrupts_and_exits_are_errors(shared: Client) -> None:
    assert shared.execute("raise SystemExit(3)").ename == "SystemExit"
    assert shared.execute("raise KeyboardInterrupt").ename == "KeyboardInterrupt"
    assert shared.execute("class E(BaseException): pass\nraise E").ename == "E"
    assert shared.execute("raise GeneratorExit").ename == "GeneratorExit"
    assert shared.execute("import sys; sys.exit()").ename == "SystemExit"
    assert shared.execute("1").status == "ok"


def test_broken_objects_make_one_error_each(shared: Client) -> None:
    shared.execute("class R:\n def __repr__(self): raise ValueError('r')")
    run = shared.execute("R()")
    assert (run.ename, run.reply["evalue"]) == ("ValueError", "r")
    shared.execute("class S(Exception):\n def __str__(self): raise TypeError('s')")
    run = shared.execute("raise S()")
    assert run.ename == "S" and run.types.count("error") == 1
    run = shared.execute("def f(): f()\nf()")
    assert run.ename == "RecursionError" and len(run.reply["traceback"]) < 100
    run = shared.execute("raise MemoryError")
    assert run.ename == "MemoryError"
    run = shared.execute("'1+' * 20000 + '1'")
    assert run.status == "ok"
    run = shared.execute("+".join(["1"] * 20_000))  # which Python's compiler does, or refuses
    if run.status == "error":
        assert run.ename in ("RecursionError", "MemoryError") and run.types.count("error") == 1
        assert run.reply["traceback"] and all(isinstance(line, str) for line in run.reply["traceback"])
    else:
        assert run.result == "20000" and run.types.count("execute_result") == 1
    assert shared.execute("3").result == "3"


def test_a_syntax_error_names_its_line(shared: Client) -> None:
    run = shared.execute("a = 1\nb = = 2")
    assert run.ename == "SyntaxError" and "line 2" in run.reply["evalue"]
    assert any("b = = 2" in line for line in run.reply["traceback"])


def test_tracebacks_show_the_cells_lines_and_no_frame_of_the_kernel(client: Client) -> None:
    client.execute("def f(x):\n    return 1 / x  # here")
    client.execute("def f2(x):\n    return 2")
    text = "\n".join(client.execute("f(0)").reply["traceback"])
    assert "Cell In[3], line 1" in text and "Cell In[1], line 2, in f" in text and "# here" in text
    text += "\n".join(client.execute("import asyncio\nasync def g(): f(0)\nawait g()").reply["traceback"])
    text += "\n".join(client.execute("class R:\n def __repr__(self): f(0)\nR()").reply["traceback"])
    text += "\n".join(
        client.execute("try:\n f(0)\nexcept Exception as e:\n raise KeyError(1) from e").reply["traceback"]
    )
    assert "minikernel" not in text, text
    assert "The above exception was the direct cause" in text


def test_notes_and_groups(shared: Client) -> None:
    code = "e = ValueError('v')\nif hasattr(e, 'add_note'): e.add_note('a note')\nelse: e = ValueError('a note')\nraise e"
    assert "a note" in "\n".join(shared.execute(code).reply["traceback"])
    run = shared.execute("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])")
    if run.ename == "ExceptionGroup":
        text = "\n".join(run.reply["traceback"])
        assert "ValueError" in text and "KeyError" in text and "minikernel" not in text
    else:
        assert run.ename == "NameError"  # before 3.11


def test_no_color(start) -> None:  # type: ignore[no-untyped-def]
    client = start(env={"NO_COLOR": "1"}).client()
    assert "\x1b" not in "".join(client.execute("1/0").reply["traceback"])
    assert "\x1b" not in "".join(client.execute("a b").reply["traceback"])


def test_the_namespace_is_main(client: Client) -> None:
    assert (
        client.execute("import sys; __name__, sys.modules['__main__'].__dict__ is globals()").result
        == "('__main__', True)"
    )
    client.execute("import pickle\nclass A:\n    x = 1")
    assert client.execute("pickle.loads(pickle.dumps(A())).x").result == "1"
    client.execute("def f():\n    return 1")
    assert client.execute("import inspect; print(inspect.getsource(f))").text() == "def f():\n    return 1\n\n"
    client.execute("def d():\n    '''\n    >>> d()\n    4\n    '''\n    return 4")
    assert client.execute("import doctest; doctest.testmod()").result == "TestResults(failed=0, attempted=1)"
    assert client.execute("hasattr(sys.modules['__main__'], '__file__')").result == "False"
    assert client.execute("sys.path[0]").result == "''"


def test_multiprocessing_by_fork(client: Client) -> None:
    client.execute("import multiprocessing\ndef square(x):\n    print('in child', flush=True)\n    return x * x")
    run = client.execute(
        "with multiprocessing.get_context('fork').Pool(2) as pool: r = pool.map(square, range(4))\nr"
    )
    assert run.result == "[0, 1, 4, 9]"
    assert run.text().count("in child") == 4


def test_the_caches(client: Client) -> None:
    client.execute("10")
    client.execute("20")
    assert client.execute("_, __, _1, _2, Out[1]").result == "(20, 10, 10, 20, 10)"
    assert client.execute("_i, _i1, In[2]").result == "('_, __, _1, _2, Out[1]', '10', '20')"
    client.execute("_ = 'mine'")
    client.execute("30")
    assert client.execute("_").result == "'mine'"


def test_only_so_many_results_are_kept(client: Client) -> None:
    for _ in range(3):
        client.execute("1")
    client.execute("import minikernel.python.display as d; d.CACHE_SIZE = 3")
    for _ in range(4):
        client.execute("1")
    assert client.execute("len(Out), '_1' in globals()").result == "(3, False)"


def test_pasted_prompts_and_indentation(shared: Client) -> None:
    assert shared.execute("    x = 1\n    if x:\n        x = 2\n    x").result == "2"
    assert shared.execute(">>> y = 3\n>>> for _ in [1]:\n...     y = 4\n>>> y").result == "4"
    assert shared.execute("In [1]: 5").result == "5"


def test_future_imports_last(client: Client) -> None:
    client.execute("from __future__ import annotations")
    client.execute("def f(x: undefined): pass")
    assert client.execute("f.__annotations__").result == "{'x': 'undefined'}"


def test_exit_asks_the_frontend_and_ends_the_kernel(kernel) -> None:  # type: ignore[no-untyped-def]
    client = kernel.client()
    run = client.execute("exit")
    assert run.reply["payload"] == [{"source": "ask_exit", "keepkernel": False}]
    assert kernel.wait() == 0


def test_a_cell_that_runs_while_another_thread_imports_linecache(client: Client) -> None:
    if client.execute("import sys; 'linecache' in sys.modules").result == "True":
        pytest.skip("this Python imports it, or zmq does, before any cell runs")
    client.execute("import sys, types; sys.modules['linecache'] = types.ModuleType('linecache')")  # so far
    assert client.execute("f = lambda: 1 + 1; f()").result == "2"
    run = client.execute("del sys.modules['linecache']; import linecache; linecache.getline('<cell 3>', 1)")
    assert run.result == "'f = lambda: 1 + 1; f()\\n'", run.reply


def test_the_source_of_a_cell_is_kept_as_long_as_its_code(client: Client) -> None:
    client.execute("import gc, inspect, linecache\nclass Kept:\n    def method(self): return lambda: 1 / 0")
    client.execute("inner = Kept().method(); del Kept")
    for n in range(50):
        client.execute(f"{n}", silent=n % 2 == 0)
    client.execute("class Kept:\n    pass\ndef gone(): 1 / 0")
    count = "gc.collect(); len([name for name in linecache.cache if name.startswith('<cell ')])"
    assert int(client.execute(count).result or 0) <= 4  # this one, and those of the two functions
    assert "def method" in (client.execute("inspect.getsource(inner)").result or "")
    assert "return lambda: 1 / 0" in "\n".join(client.execute("inner()").reply["traceback"])
    client.execute("del gone, inner; 'no error'")
    client.execute("raise ValueError")  # what the last error holds goes with the next
    assert int(client.execute(count).result or 0) <= 4


def test_a_kernel_that_runs_thousands_of_cells_stays_small(client: Client) -> None:
    """Names of inputs and outputs go when there are a thousand newer ones; ``In`` stays whole."""
    ids = [
        client.send("execute_request", {"code": str(n), "silent": False, "store_history": True})
        for n in range(1100)
    ]
    for _ in ids:
        client.receive("shell")
    assert client.execute("len(In), '_i50' in dir(), '_50' in dir(), _i1000, _1000, In[50]").result == (
        "(1102, False, False, '999', 999, '49')"
    )
