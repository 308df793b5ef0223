"""``minikernel replay``: what a kernel was asked, asked again of a fresh one, and how the answers differ."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from client import Client, KernelProcess
from test_check import spec

from minikernel.tools.replay import main

Start = Callable[..., KernelProcess]
Replay = Callable[..., tuple[int, str]]


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Replay a record on our kernel, or on a program; return the exit code and what was printed."""

    def replay(record: Path, *program: str, timeout: float = 30) -> tuple[int, str]:
        directory = spec(tmp_path, *(program or ("-m", "minikernel")), "-f", "{connection_file}")
        code = main(["replay", str(record), "--kernel", directory, "--timeout", str(timeout)])
        said = capsys.readouterr()
        assert not said.err or code == 2 or "is torn" in said.err, said
        return code, said.out + said.err

    return replay


def end(client: Client, kernel: KernelProcess) -> None:
    client.send("shutdown_request", {"restart": False}, "control")
    kernel.wait()


def mutant(fault: str) -> tuple[str, str]:
    return str(Path(__file__).with_name("mutants.py")), fault


@pytest.fixture
def session(start: Start, tmp_path: Path) -> Path:
    """A record of all sorts of requests."""
    path = tmp_path / "record"
    kernel = start("--record", str(path))
    client, other = kernel.client(), kernel.client()
    client.request("kernel_info_request")
    client.execute(
        "import os, threading, time, uuid; print('out', object()); print('err', file=__import__('sys').stderr); uuid.uuid4()"
    )
    client.execute("for n in range(3): display(n)\n1 / 0")
    run = client.start("name = input('who? '); name", allow_stdin=True)
    client.answer("Ada")
    client.finish(run)
    other.execute("name * 2", user_expressions={"good": "name", "bad": "nobody"})
    # a comm and a subshell have ids that the kernel has chosen
    client.execute(
        "from minikernel.kernel.comm import Comm\ncomm = Comm('t')\ncomm.on_msg(lambda m: print(m['content']['data']))"
    )
    (opened,) = [m for m in client.iopub if m["msg_type"] == "comm_open"]
    said = client.send("comm_msg", {"comm_id": opened["content"]["comm_id"], "data": {"n": 1}})
    client.finish(said, reply=False)
    subshell = client.create_subshell()
    run = client.start("print('waiting'); time.sleep(60)")
    client.output(run, "waiting")
    client.execute("print('beside')", subshell)
    client.request("delete_subshell_request", {"subshell_id": subshell}, "control")
    kernel.interrupt()  # of which the record knows what it did
    assert client.finish(run).ename == "KeyboardInterrupt"
    run = client.start("print('waiting'); time.sleep(60)")
    client.output(run, "waiting")
    client.request("interrupt_request", channel="control")
    assert client.finish(run).ename == "KeyboardInterrupt"
    run, queued = client.start("time.sleep(1); 1 / 0"), client.start("print('never')")
    assert client.finish(run).status == "error" and client.finish(queued).status == "aborted"
    client.request("complete_request", {"code": "os.pathse", "cursor_pos": 9})
    client.execute("thread = threading.Thread(target=lambda: (time.sleep(0.2), print('late')))\nthread.start()")
    client.execute("thread.join()")
    end(client, kernel)
    return path


def test_the_same_answers(session: Path, replay: Replay) -> None:
    result = replay(session)
    assert result[0] == 0, result[1]
    assert result == (0, "19 requests; none answered differently\n")


def test_differences_are_shown(session: Path, replay: Replay) -> None:
    code, text = replay(session, *mutant("reports_no_error"))
    assert code == 1
    assert "execute_request 'for n in range(3): display(n)\\n1 / 0'\n" in text
    assert '  - error: ename = "ZeroDivisionError"' in text
    assert not [line for line in text.splitlines() if line.startswith("  + ")]
    assert "complete_request" not in text and text.endswith(" requests; 4 answered differently\n")


def test_text_is_compared_and_its_pieces_are_not(start: Start, tmp_path: Path, replay: Replay) -> None:
    path = tmp_path / "record"
    kernel = start("--record", str(path))
    client = kernel.client()
    client.execute("import sys\nfor n in range(3): print(n); sys.stdout.flush()")
    end(client, kernel)
    assert replay(path)[0] == 0
    lines = path.read_text().replace(r"1\n", r"one\n")
    path.write_text(lines)
    code, text = replay(path)
    assert code == 1
    assert [line for line in text.splitlines() if line[2] in "+-"] == [
        "  - stream stdout: one",
        "  + stream stdout: 1",
    ]


def test_a_relays_record(start: Start, tmp_path: Path, replay: Replay) -> None:
    """A relay hears requests before its kernel has started."""
    path = tmp_path / "record"
    kernel = start("--record", str(path))
    client = kernel.client()
    client.execute("1 / 0")
    end(client, kernel)
    starting, *rest = path.read_text().splitlines(keepends=True)
    (request,) = [line for line in rest if '"in"' in line and "execute_request" in line]
    rest.remove(request)
    path.write_text("".join([request, starting, *rest]))
    assert replay(path) == (0, "2 requests; none answered differently\n")


def test_kernels_one_after_the_other(start: Start, tmp_path: Path, replay: Replay) -> None:
    """One that was killed too; the last line of it may be cut off."""
    path = tmp_path / "record"
    for code in ("x = 1; x", "'x' in globals()", "import time; print(1); time.sleep(60)"):
        kernel = start("--record", str(path))
        client = kernel.client()
        if "sleep" in code:
            client.output(client.start(code), "1")
            os.killpg(kernel.pid, signal.SIGKILL)
            kernel.wait()
        else:
            client.execute(code)
            end(client, kernel)
    with path.open("a") as file:
        file.write('{"time": 1')
    torn = len(path.read_text().splitlines())
    said = f"line {torn} is torn: its kernel was killed as it wrote\n"
    assert replay(path) == (0, "5 requests; none answered differently\n" + said)


def test_a_kernel_that_hangs_or_dies(start: Start, tmp_path: Path, replay: Replay) -> None:
    path = tmp_path / "record"
    client = start("--record", str(path)).client()
    client.execute("import os; os.environ.get('REPLAYED') and os._exit(3)")
    client.execute("1 + 1")
    program = tmp_path / "dies.py"
    program.write_text("import os; os.environ['REPLAYED'] = '1'\nfrom minikernel.__main__ import main\nmain()")
    code, text = replay(path, str(program))
    assert code == 1 and '  - execute_result: data.text/plain = "2"' in text and "2 answered differently" in text
    code, text = replay(path, *mutant("loses_an_idle"))
    assert (code, text) == (0, "2 requests; none answered differently\n")
    run = client.start("import time; print('here'); time.sleep(0.01)")
    client.finish(run)
    lines = path.read_text().replace("time.sleep(0.01)", "time.sleep(60)")
    path.write_text(lines)
    code, text = replay(path, timeout=1)
    assert code == 1 and "  - execute_reply: " in text


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "there are no requests in it"),
        ("not JSON\n", "line 1 is not a record's"),
        ('{"direction": "out"}\n', "line 1 is not a record's"),
        ("[]\n", "line 1 is not a record's"),
    ],
)
def test_what_is_no_record(text: str, said: str, tmp_path: Path, replay: Replay) -> None:
    path = tmp_path / "record"
    path.write_text(text)
    code, line = replay(path)
    assert code == 2 and said in line and len(line.splitlines()) == 1


def test_what_cannot_be_replayed(start: Start, tmp_path: Path, replay: Replay) -> None:
    assert "No such file" in replay(tmp_path / "nothing")[1]
    path = tmp_path / "record"
    clients = [start("--record", str(path)).client() for _ in range(2)]
    for client in clients:
        client.execute("1")
    code, line = replay(path)
    assert code == 2 and "several kernels have written to it at once" in line
