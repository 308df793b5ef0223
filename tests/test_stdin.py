"""input, getpass and sys.stdin: asked of the right frontend, refused and interrupted clean."""

from __future__ import annotations

from pathlib import Path

from client import Client, KernelProcess


def ask(client: Client, code: str) -> str:
    return client.start(code, allow_stdin=True)


def test_input(shared: Client) -> None:
    msg_id = ask(shared, "print('before'); name = input('who? '); name")
    question = shared.answer("me")
    assert question["content"] == {"prompt": "who? ", "password": False}
    assert question["parent_header"]["msg_id"] == msg_id
    run = shared.finish(msg_id)
    assert run.result == "'me'" and run.text() == "before\n"


def test_an_answer_that_names_the_question(shared: Client) -> None:
    """JupyterLab sends the question's header as the parent, jupyter_client none."""
    msg_id = ask(shared, "input()")
    question = shared.wait_for("stdin", lambda m: True)
    shared.send("input_reply", {"value": "stale"}, "stdin", parent={**question["header"], "msg_id": "another"})
    shared.send("input_reply", {"value": "right"}, "stdin", parent=question["header"])
    assert shared.finish(msg_id).result == "'right'"


def test_getpass(shared: Client) -> None:
    msg_id = ask(shared, "import getpass; getpass.getpass('key: ')")
    assert shared.answer("secret")["content"] == {"prompt": "key: ", "password": True}
    assert shared.finish(msg_id).result == "'secret'"


def test_sys_stdin(shared: Client) -> None:
    msg_id = ask(shared, "import sys; sys.stdin.readline(), sys.stdin.buffer.readline()")
    shared.answer("one")
    shared.answer("é")
    assert shared.finish(msg_id).result == r"('one\n', b'\xc3\xa9\n')"
    msg_id = ask(shared, "list(sys.stdin)")
    for line in ("a", "b", "\x04"):
        shared.answer(line)
    assert shared.finish(msg_id).result == r"['a\n', 'b\n']"


def test_the_end_of_input(shared: Client) -> None:
    msg_id = ask(shared, "input()")
    shared.answer("\x04")
    assert shared.finish(msg_id).ename == "EOFError"


def test_a_frontend_that_cannot_be_asked(shared: Client) -> None:
    assert shared.execute("input()").ename == "StdinNotImplementedError"
    assert shared.execute("import getpass; getpass.getpass()").ename == "StdinNotImplementedError"
    assert shared.execute("import sys; sys.stdin.readline(), sys.stdin.read()").result == "('', '')"


def test_threads_ask_one_after_another(shared: Client) -> None:
    msg_id = ask(
        shared,
        """
import threading
answers = {}
def work(name): answers[name] = input(name)
threads = [threading.Thread(target=work, args=(name,)) for name in 'abc']
[t.start() for t in threads]; [t.join() for t in threads]
answers == {name: name * 2 for name in 'abc'}
""",
    )
    for _ in range(3):
        question = shared.wait_for("stdin", lambda m: True)
        shared.send("input_reply", {"value": question["content"]["prompt"] * 2}, "stdin")
    assert shared.finish(msg_id).result == "True"


def test_only_the_asker_is_asked_and_heard(kernel: KernelProcess) -> None:
    one, two = kernel.client(), kernel.client()
    msg_id = ask(two, "input('two? ')")
    question = two.wait_for("stdin", lambda m: True)
    one.send("input_reply", {"value": "intruder"}, "stdin", parent=question["header"])
    assert one.request("kernel_info_request", channel="control").status == "ok"
    two.send("input_reply", {"value": "right"}, "stdin")
    assert two.finish(msg_id).result == "'right'"
    assert not one.sockets["stdin"].poll(0)


def test_an_interrupted_question_is_forgotten(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = ask(client, "input('first? ')")
    first = client.wait_for("stdin", lambda m: True)
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    msg_id = ask(client, "input('second? ')")
    client.wait_for("stdin", lambda m: m["content"]["prompt"] == "second? ")
    client.send("input_reply", {"value": "late"}, "stdin", parent=first["header"])
    client.send("input_reply", {"value": "right"}, "stdin")
    assert client.finish(msg_id).result == "'right'"


def test_interrupt_while_another_thread_asks(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = ask(
        client,
        "import threading; t = threading.Thread(target=input, daemon=True); t.start(); import time; time.sleep(.2); input()",
    )
    client.wait_for("stdin", lambda m: True)
    client.request("kernel_info_request", channel="control")
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"


def test_pdb(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = ask(client, "def f():\n    x = 41\n    breakpoint()\n    return x\nf()")
    for line in ("x + 1", "x = 7", "continue"):
        assert client.answer(line)["content"]["prompt"] == "(Pdb) "
    run = client.finish(msg_id)
    assert "42" in run.text() and run.result == "7"
    msg_id = ask(client, "import pdb; pdb.set_trace()")
    client.wait_for("stdin", lambda m: True)
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    client.execute("1/0")
    msg_id = ask(client, "pdb.pm()")
    client.answer("q")
    assert client.finish(msg_id).status == "ok"


def test_a_question_ends_with_its_request(kernel: KernelProcess, tmp_path: Path) -> None:
    client = kernel.client()
    go_on = tmp_path / "go on"
    client.execute("import os, threading, time")
    run_id = ask(
        client,
        "t = threading.Thread(target=input, daemon=True); t.start()\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)",
    )
    client.wait_for("stdin", lambda m: True)
    go_on.touch()
    client.finish(run_id)
    msg_id = ask(client, "t.join(10); input('next? ')")
    client.answer("yes")
    assert client.finish(msg_id).result == "'yes'"


def test_an_interrupt_ends_the_question_of_a_thread(kernel: KernelProcess) -> None:
    client = kernel.client()
    msg_id = ask(
        client, "import threading, time; t = threading.Thread(target=input, daemon=True); t.start(); time.sleep(30)"
    )
    client.wait_for("stdin", lambda m: True)
    kernel.interrupt()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    msg_id = ask(client, "input('next? ')")
    client.answer("yes")
    assert client.finish(msg_id).result == "'yes'"
