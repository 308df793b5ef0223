"""Subshells (JEP 91), and what is answered beside a cell that runs."""

from __future__ import annotations

import pytest
from client import Client, KernelProcess


def test_create_list_and_delete(client: Client) -> None:
    assert "kernel subshells" in client.request("kernel_info_request").reply["supported_features"]
    one, two = client.create_subshell(), client.create_subshell()
    assert client.request("list_subshell_request", channel="control").reply["subshell_id"] == [one, two]
    assert client.request("delete_subshell_request", {"subshell_id": one}, "control").status == "ok"
    assert client.request("list_subshell_request", channel="control").reply["subshell_id"] == [two]
    run = client.request("delete_subshell_request", {"subshell_id": one}, "control")
    assert run.reply["ename"] == "UnknownSubshellError" and run.reply["traceback"]
    run = client.execute("1", "no such subshell")
    assert run.ename == "UnknownSubshellError"
    for msg_type in ("kernel_info_request", "list_subshell_request", "nonsense"):  # nor does another answer for it
        header = client.session.msg_header(msg_type) | {"subshell_id": "no such subshell"}
        run = client.finish(client.send(msg_type, header=header), reply=msg_type != "nonsense")
        assert run.ename == (None if msg_type == "nonsense" else "UnknownSubshellError")


def test_it_runs_beside_the_main_shell(client: Client) -> None:
    subshell = client.create_subshell()
    client.execute("import threading; x = 5; go = threading.Event()")
    main = client.start("print('main'); go.wait(); 'main done'")
    client.output(main, "main")
    run = client.execute("print(x); y = 6; go.set(); 'sub'", subshell)
    assert run.result == "'sub'" and run.text() == "5\n"
    assert run.message["parent_header"]["subshell_id"] == subshell
    client.finish_rest(main)
    assert client.execute("y").result == "6"


def test_its_own_count_queue_and_abort(client: Client) -> None:
    subshell = client.create_subshell()
    client.execute("import threading; go = threading.Event()")
    bad = client.start("go.wait(20); 1/0", subshell)
    queued = [client.start(str(n), subshell) for n in range(3)]
    assert client.execute("go.set(); 'main runs on'").result == "'main runs on'"
    assert client.finish(bad).ename == "ZeroDivisionError"
    assert [client.finish(msg_id).status for msg_id in queued] == ["aborted"] * 3
    run = client.execute("1", subshell)
    assert run.reply["execution_count"] == 2
    assert client.execute("2").reply["execution_count"] == 3


def test_tracebacks_show_the_cell_of_the_right_subshell(client: Client) -> None:
    """Each counts its cells from 1."""
    client.execute("def f():\n    1/0  # the main shell's")
    client.execute("1")
    client.execute("x = 1\ny = 2", client.create_subshell())
    assert "1/0  # the main shell's" in "".join(client.execute("f()").reply["traceback"])


def test_input_await_and_asyncio_in_a_subshell(client: Client) -> None:
    subshell = client.create_subshell()
    msg_id = client.start("input('sub? ')", subshell, allow_stdin=True)
    assert client.answer("yes")["parent_header"]["msg_id"] == msg_id
    assert client.finish(msg_id).result == "'yes'"
    assert client.execute("import asyncio\nawait asyncio.sleep(0.01, 3)", subshell).result == "3"
    assert client.execute("asyncio.run(asyncio.sleep(0.01, 4))", subshell).result == "4"
    assert client.execute("t = asyncio.create_task(asyncio.sleep(0, 5))", subshell).status == "ok"
    assert client.execute("await t", subshell).result == "5"
    assert client.execute("await asyncio.sleep(0, 6)").result == "6"


@pytest.mark.parametrize("code", [
    "print('go')\nwhile True: pass",
    "print('go')\nwhile True: print(end='')",
    "import asyncio; print('go'); await asyncio.sleep(30)",
    "print('go'); input()",
])  # fmt: skip
@pytest.mark.parametrize("how", ["signal", "message"])
def test_an_interrupt_reaches_it(kernel: KernelProcess, code: str, how: str) -> None:
    client = kernel.client()
    subshell = client.create_subshell()
    msg_id = client.start(code, subshell, allow_stdin=True)
    client.output(msg_id, "go")
    if "input" in code:
        client.wait_for("stdin", lambda m: True)
    if how == "signal":
        kernel.interrupt()
    else:
        client.request("interrupt_request", channel="control")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("1", subshell).result == "1"


def test_an_interrupt_reaches_it_beside_a_cell_with_a_handler_of_its_own(kernel: KernelProcess) -> None:
    client = kernel.client()
    subshell = client.create_subshell()
    own = client.start(
        "import signal, threading\ncaught = []\n"
        "signal.signal(signal.SIGINT, lambda *_: caught.append(1))\nprint('go')\n"
        "while not caught: threading.Event().wait(0.01)"
    )
    client.output(own, "go")
    beside = client.start("print('go')\nwhile True: pass", subshell)
    client.output(beside, "go")
    kernel.interrupt()
    assert client.finish(beside).ename == "KeyboardInterrupt"
    assert client.finish(own).status == "ok"
    assert client.execute("caught").result == "[1]"


def test_deleting_answers_what_was_sent(client: Client) -> None:
    subshell = client.create_subshell()
    client.execute("import time")
    runs = [client.start(f"time.sleep(0.1); {n}", subshell) for n in range(3)]
    client.request("is_complete_request", {"code": ""})
    assert client.request("delete_subshell_request", {"subshell_id": subshell}, "control").status == "ok"
    results = [client.finish(msg_id) for msg_id in runs]
    assert all(run.status == "ok" or run.ename == "UnknownSubshellError" for run in results)
    assert results[0].status == "ok"
    threads = client.execute(
        "import threading; [t.name for t in threading.enumerate() if t.name.startswith('subshell')]"
    )
    assert threads.status == "ok", threads.reply


BESIDE = [
    ("complete_request", {"code": "my_na", "cursor_pos": 5}),
    ("inspect_request", {"code": "my_name", "cursor_pos": 3}),
    ("is_complete_request", {"code": "1"}),
    ("history_request", {"hist_access_type": "tail", "n": 1}),
    ("comm_info_request", {}),
]


@pytest.mark.parametrize("code", ["time.sleep(30)", "while True: pass"])
def test_a_busy_kernel_answers(kernel: KernelProcess, code: str) -> None:
    client = kernel.client()
    client.execute("import time; my_name = 1")
    msg_id = client.start("print('go')\n" + code)
    client.output(msg_id, "go")
    for msg_type, content in BESIDE:
        run = client.request(msg_type, content)
        assert run.status in ("ok", "complete"), msg_type
    busy = [
        m["parent_header"]["msg_id"]
        for m in client.iopub
        if m["msg_type"] == "status" and m["content"]["execution_state"] == "busy"
    ]
    assert busy.count(msg_id) > 1, "the frontend must go on showing a busy kernel"
    info = client.send("kernel_info_request")
    kernel.interrupt()
    client.finish_rest(msg_id)
    assert client.finish(info).status == "ok"
    states = [m["content"]["execution_state"] for m in client.iopub if m["msg_type"] == "status"]
    assert states[-1] == "idle"


def test_quick_requests_keep_their_place(client: Client) -> None:
    for n in range(50):
        cell = client.start(f"name_{n} = 1")
        asked = client.send("complete_request", {"code": f"name_{n}", "cursor_pos": len(f"name_{n}")})
        client.finish(cell)
        assert f"name_{n}" in client.finish(asked).reply["matches"]


def test_what_a_subshell_starts_obeys_signals(client: Client) -> None:
    subshell = client.create_subshell()
    code = "import subprocess\np = subprocess.Popen(['sleep', '60']); p.terminate(); p.wait(10)"
    assert client.execute(code, subshell).result == "-15"


def test_a_task_that_loops_in_a_subshell_can_be_interrupted(kernel: KernelProcess) -> None:
    client = kernel.client()
    subshell = client.create_subshell()
    code = "import asyncio\nasync def f():\n    print('go')\n    while True: pass\nawait asyncio.create_task(f())"
    msg_id = client.start(code, subshell)
    client.output(msg_id, "go")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("await asyncio.sleep(0, 1)", subshell).result == "1"


def test_a_long_callback_does_not_keep_help_waiting(client: Client) -> None:
    client.execute("import time\nfrom minikernel.kernel.request import current_request\n"
                   "current_request().kernel.comms.register_target('slow', lambda c, m: (print('go'), time.sleep(3)))")  # fmt: skip
    msg_id = client.send("comm_open", {"comm_id": "s", "target_name": "slow", "data": {}})
    client.output(msg_id, "go")
    assert client.request("complete_request", {"code": "tim", "cursor_pos": 3}, timeout=20).reply["matches"]
    assert not [
        m
        for m in client.iopub
        if m["parent_header"].get("msg_id") == msg_id and m["content"].get("execution_state") == "idle"
    ]
