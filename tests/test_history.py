"""The history of all sessions, in a file that many kernels share and that no kernel depends on."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pexpect
import pytest
from client import Client, KernelProcess, kill
from jupyter_client.jsonutil import json_default

Start = Callable[..., KernelProcess]


def remember(path: Path | str) -> dict[str, str]:
    return {"MINIKERNEL_HISTORY": str(path)}


def history(client: Client, **asked: object) -> list[Any]:
    reply = client.request("history_request", asked).reply
    assert reply["status"] == "ok"
    return reply["history"]


def tail(client: Client, n: int = 1000) -> list[Any]:
    return history(client, hist_access_type="tail", n=n)


def end(kernel: KernelProcess) -> None:
    kernel.clients[0].request("shutdown_request", {"restart": True}, "control")
    assert kernel.wait() == 0


def run(start: Start, path: Path | str, *cells: str) -> None:
    """One session from its start to its end."""
    kernel = start(env=remember(path))
    client = kernel.client()
    for cell in cells:
        client.execute(cell)
    end(kernel)


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, timeout=10)) as db:
        return db.execute(sql).fetchall()


def until(condition: Callable[[], object], timeout: float = 15) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_about_history(kernel: KernelProcess) -> list[str]:
    return re.findall(".*history.*", kernel.stderr())


# -- what is remembered ----------------------------------------------------------------------------------


def test_sessions_are_remembered(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    run(start, path, "a = 1", "'out'")
    run(start, path, ">>> b = 2", "a = 1")
    client = start(env=remember(path)).client()
    assert history(client, hist_access_type="range", session=-1) == [[2, 1, ">>> b = 2"], [2, 2, "a = 1"]]
    client.execute("c = 3")
    everything = [[1, 1, "a = 1"], [1, 2, "'out'"], [2, 1, ">>> b = 2"], [2, 2, "a = 1"], [0, 1, "c = 3"]]
    assert tail(client) == everything
    assert tail(client, 2) == everything[-2:]
    assert history(client, hist_access_type="tail") == everything
    assert tail(client, 0) == []
    assert tail(client, 10**30) == everything

    def session(number: int, **asked: object) -> list[Any]:
        return history(client, hist_access_type="range", session=number, **asked)

    assert session(-2) == session(1) == everything[:2]
    assert session(-1, start=2) == session(2, start=2, stop=3) == everything[3:4]
    assert session(0) == session(0, start=0) == everything[4:]
    assert session(99) == session(-99) == session(10**30) == session(-(10**30)) == []
    assert session(1, output=True) == [[1, 1, ["a = 1", None]], [1, 2, ["'out'", "'out'"]]]
    assert session(2, raw=False) == [[2, 1, "b = 2"], [2, 2, "a = 1"]]

    def search(pattern: str, **asked: object) -> list[Any]:
        return history(client, hist_access_type="search", pattern=pattern, **asked)

    assert search("* = ?") == [everything[i] for i in (0, 2, 3, 4)]
    assert search("* = ?", unique=True) == [everything[i] for i in (2, 3, 4)]
    assert search("* = ?", n=3) == [everything[i] for i in (2, 3, 4)]
    assert search("* = ?", unique=True, n=2) == [everything[i] for i in (3, 4)]
    assert search("[^a] = ?") == [everything[4]]
    assert search("A*") == search("a") == []


def test_this_session_is_0_also_when_it_is_saved(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    run(start, path, "first")
    client = start(env=remember(path)).client()
    client.execute(">>> 6 * 7")
    until(lambda: query(path, "SELECT line FROM history WHERE session = 2"))
    assert tail(client) == [[1, 1, "first"], [0, 1, ">>> 6 * 7"]]
    for number in (0, 2):
        assert history(client, hist_access_type="range", session=number) == [[0, 1, ">>> 6 * 7"]]
    assert history(client, hist_access_type="range", session=-1) == [[1, 1, "first"]]
    last = {"hist_access_type": "tail", "n": 1}
    assert history(client, **last, raw=False, output=True) == [[0, 1, ["6 * 7", "42"]]]


def test_the_file_is_ipythons(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    run(start, path, ">>> 'x' * 3", "hidden = 1")
    rows = [(1, 1, "'x' * 3", ">>> 'x' * 3"), (1, 2, "hidden = 1", "hidden = 1")]
    assert query(path, "SELECT * FROM history") == rows
    assert query(path, "SELECT * FROM output_history") == [(1, 1, "'xxx'")]
    [(session, began, ended, count, remark)] = query(path, "SELECT * FROM sessions")
    assert (session, count, remark) == (1, 2, "")
    assert began < ended and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", ended)
    accessor = pytest.importorskip("IPython.core.history").HistoryAccessor(hist_file=str(path))
    assert next(iter(accessor.get_tail(5, include_latest=True))) == (1, 1, ">>> 'x' * 3")
    assert accessor.get_session_info(1)[1].year > 2000
    accessor.db.close()


def test_half_a_character(start: Start, tmp_path: Path) -> None:
    """JSON can say a lone surrogate, and UTF-8 can't."""
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    client.session.pack = lambda value: json.dumps(value, default=json_default).encode()
    client.execute("'\ud83d'")
    assert history(client, hist_access_type="search", pattern="'\ud83d*") == [[0, 1, "'\ud83d'"]]
    end(kernel)
    assert query(path, "SELECT source FROM history") == [(r"'\ud83d'",)]
    assert not lines_about_history(kernel)


def test_a_killed_kernel_is_remembered(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    client.execute("a = 1")
    client.start("import time; time.sleep(60)")
    until(lambda: path.exists() and path.stat().st_size and len(query(path, "SELECT * FROM history")) == 2)
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.wait()
    assert tail(start(env=remember(path)).client()) == [[1, 1, "a = 1"], [1, 2, "import time; time.sleep(60)"]]


def test_what_is_not_stored_is_not_remembered(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    client.execute("a = 1", silent=True)
    client.execute("b = 2", store_history=False)
    assert tail(client) == []
    end(kernel)
    assert not path.exists()


# -- where, and at what cost -----------------------------------------------------------------------------


def test_the_default_file_is_private(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    kernel = start(env={**remember(""), "JUPYTER_DATA_DIR": str(data)})
    kernel.client().execute("a = 1")
    end(kernel)
    path = data / "minikernel" / "history.sqlite"
    assert len(query(path, "SELECT * FROM history")) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(os.listdir(path.parent)) == ["history.sqlite"]


def test_a_start_touches_nothing(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    kernel = start(env={**remember(""), "JUPYTER_DATA_DIR": str(data)}, ports=True)
    client = kernel.client()
    code = "import sys; [m for m in ('sqlite3', 'jupyter_core') if m in sys.modules]"
    assert client.execute(code, store_history=False).result == "[]"
    assert tail(client) == []
    end(kernel)
    assert not data.exists()


def test_the_writer_lives_only_while_there_is_something_to_write(start: Start, tmp_path: Path) -> None:
    client = start(env=remember(tmp_path / "history.sqlite")).client()
    code = "import sys; '_write_soon' in str(sys._current_frames())"
    assert client.execute(code, store_history=False).result == "False"
    until(lambda: client.execute(code).result == "True")
    until(lambda: client.execute(code, store_history=False).result == "False")


@pytest.mark.parametrize("value", ["off", "memory", ":memory:"])
def test_without_a_file(start: Start, tmp_path: Path, value: str) -> None:
    data = tmp_path / "data"
    kernel = start(env={**remember(value), "JUPYTER_DATA_DIR": str(data)})
    client = kernel.client()
    code = "import sys; '_write_soon' in str(sys._current_frames())"
    assert client.execute(code).result == "False"
    expected = [] if value == "off" else [[0, 1, code]]
    assert tail(client) == expected
    assert history(client, hist_access_type="search", pattern="*cur?ent*") == expected
    for session in (-1, 1):
        assert history(client, hist_access_type="range", session=session) == []
    assert client.execute("import sys; 'sqlite3' in sys.modules").result == "False"
    end(kernel)
    assert not data.exists() and not lines_about_history(kernel)


def test_nbclients_option(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start("--HistoryManager.hist_file=:memory:", env=remember(path))
    client = kernel.client()
    client.execute("a = 1")
    assert tail(client) == [[0, 1, "a = 1"]]
    end(kernel)
    assert not path.exists()
    assert kernel.stderr() == ""


# -- many kernels, one file ------------------------------------------------------------------------------


def test_kernels_at_once(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernels = [start(env=remember(path)) for _ in range(6)]
    clients = [kernel.client() for kernel in kernels]
    for line in range(1, 4):
        running = [client.start(f"{line} * {number}") for number, client in enumerate(clients)]
        for client, msg_id in zip(clients, running, strict=True):
            client.finish(msg_id)
    until(lambda: path.exists() and path.stat().st_size and len(query(path, "SELECT * FROM history")) == 18)
    for kernel in kernels:  # all at once, too
        kernel.clients[0].send("shutdown_request", {"restart": False}, "control")
    for kernel in kernels:
        assert kernel.wait() == 0
        assert not lines_about_history(kernel)
    sessions = query(path, "SELECT session, num_cmds FROM sessions WHERE end IS NOT NULL")
    assert sessions == [(number, 3) for number in range(1, 7)]
    rows = query(path, "SELECT session, line, source FROM history ORDER BY session, line")
    for number in range(6):
        mine = rows[3 * number : 3 * number + 3]
        assert {session for session, _, _ in mine} == {number + 1}
        assert len({source.split()[-1] for _, _, source in mine}) == 1
    assert sorted(tail(start(env=remember(path)).client())) == [list(row) for row in rows]


def test_other_kernels_that_run(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    one, other = (start(env=remember(path)).client() for _ in range(2))
    one.execute("one")
    until(lambda: tail(other) == [[1, 1, "one"]])
    other.execute("other")
    assert tail(other) == [[1, 1, "one"], [0, 1, "other"]]
    until(lambda: tail(one) == [[2, 1, "other"], [0, 1, "one"]])


# -- what can go wrong with a file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        {"HOME": "/proc/nobody"},
        {"JUPYTER_DATA_DIR": "/proc/nowhere"},
        {"MINIKERNEL_HISTORY": "/dev/null/history.sqlite"},
        {"MINIKERNEL_HISTORY": "."},
        {"MINIKERNEL_HISTORY": "read-only/history.sqlite"},
        {"MINIKERNEL_HISTORY": "/sys/history.sqlite"},
    ],
    ids=lambda env: "=".join(*env.items()),
)
def test_a_home_that_is_not_there_or_read_only(start: Start, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "read-only").mkdir(mode=0o500)
    clean = dict.fromkeys(("MINIKERNEL_HISTORY", "JUPYTER_DATA_DIR", "XDG_DATA_HOME"), "")
    kernel = start(env={**clean, **env})
    client = kernel.client()
    client.execute("a = 1")
    assert tail(client) == [[0, 1, "a = 1"]]
    client.execute("b = 2")
    end(kernel)
    if os.getuid() != 0 or "read-only" not in str(env):  # root may write there
        assert len(lines_about_history(kernel)) == 1


@pytest.mark.parametrize("kind", ["garbage", "torn"])
def test_a_damaged_file(start: Start, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "history.sqlite"
    if kind == "garbage":
        path.write_bytes(b"no database " * 1000)
    else:
        run(start, path, *(f"'{'x' * 5000}'" for _ in range(5)))
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    before = path.read_bytes()
    kernels = [start(env=remember(path)) for _ in range(3)]
    clients = [kernel.client() for kernel in kernels]
    assert tail(clients[0]) == []
    for client, msg_id in [(client, client.start("a = 1")) for client in clients]:
        client.finish(msg_id)
    for kernel in kernels:
        end(kernel)
    assert len(query(path, "SELECT * FROM history")) == 3
    [aside] = tmp_path.glob("history.sqlite.damaged-*")
    assert aside.read_bytes() == before
    assert sum(aside.name in kernel.stderr() for kernel in kernels) == 1
    assert tail(start(env=remember(path)).client()) == [[number, 1, "a = 1"] for number in (1, 2, 3)]


def test_another_programs_file_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE history (url text)")
    kernel = start(env=remember(path))
    client = kernel.client()
    client.execute("a = 1")
    assert tail(client) == [[0, 1, "a = 1"]]
    end(kernel)
    assert len(lines_about_history(kernel)) == 1
    assert query(path, "SELECT sql FROM sqlite_master") == [("CREATE TABLE history (url text)",)]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_locked_file(start: Start, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "history.sqlite"
    run(start, path, "before")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("BEGIN EXCLUSIVE")
        kernel = start(env=remember(path))
        client = kernel.client()
        client.execute("a = 1")
        began = time.monotonic()
        readable = [[1, 1, "before"]] if mode == "wal" else []
        assert tail(client) == [*readable, [0, 1, "a = 1"]]
        assert time.monotonic() - began < 10  # for ever, without a bound
        until(lambda: lines_about_history(kernel))  # the writer has given up
        client.execute("b = 2")
        for code in ("lost", "import atexit, time; atexit.register(time.sleep, 30)"):
            ending = start(env=remember(path))
            ending.client().execute(code)
            end(ending)
            assert len(lines_about_history(ending)) == 1  # that of the lock, or that of the end
        db.execute("ROLLBACK")
    client.execute("c = 3")
    until(lambda: len(query(path, "SELECT * FROM history WHERE session = 2")) == 3)
    assert tail(client) == [[1, 1, "before"], [0, 1, "a = 1"], [0, 2, "b = 2"], [0, 3, "c = 3"]]
    assert len(lines_about_history(kernel)) == 1


def test_exit_handlers_run_while_the_end_is_written(start: Start, tmp_path: Path) -> None:
    """Else two things that take their time would take it one after the other, and the frontend kills."""
    path = tmp_path / "history.sqlite"
    run(start, path, "before")
    holding = f"""
import atexit, sqlite3, time
holder = sqlite3.connect({str(path)!r}, isolation_level=None)
holder.execute("BEGIN EXCLUSIVE")
atexit.register(holder.close)
atexit.register(time.sleep, 0.3)
"""
    run(start, path, holding)
    assert query(path, "SELECT source FROM history WHERE session = 2") == [(holding,)]


def test_a_full_disk(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({}, r.RLIM_INFINITY))"
    client.execute(limit.format("8192"), silent=True)
    assert client.execute("a = 1").status == "ok"
    until(lambda: lines_about_history(kernel))
    assert client.execute("b = 2").status == "ok"
    assert tail(client) == [[0, 1, "a = 1"], [0, 2, "b = 2"]]
    client.execute(limit.format("r.RLIM_INFINITY"), silent=True)
    end(kernel)
    assert [source for (source,) in query(path, "SELECT source FROM history")] == ["a = 1", "b = 2"]


def test_a_file_that_goes_away(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    client.execute("a = 1")
    until(lambda: path.exists() and path.stat().st_size and query(path, "SELECT * FROM history"))
    until(lambda: not list(tmp_path.glob("history.sqlite-*")))
    path.unlink()
    run(start, path, "other")
    client.execute("b = 2")
    end(kernel)
    assert query(path, "SELECT session, source FROM history") == [(1, "other"), (2, "a = 1"), (2, "b = 2")]


def test_a_forked_child_leaves_it_alone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    kernel = start(env=remember(path))
    client = kernel.client()
    client.execute("import os, time\nfor _ in range(5):\n    if not (pid := os.fork()): break\npid and 'parent'")
    client.execute("a = 1")
    end(kernel)
    assert len(query(path, "SELECT * FROM history")) == 2
    assert query(path, "SELECT output FROM output_history") == [("'parent'",)]


def test_sqlite3_is_missing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "sqlite3.py").write_text("raise ImportError('built without')\n")
    kernel = start(env={**remember(tmp_path / "history.sqlite"), "PYTHONPATH": str(tmp_path)})
    client = kernel.client()
    client.execute("a = 1")
    assert tail(client) == [[0, 1, "a = 1"]]
    end(kernel)
    assert len(lines_about_history(kernel)) == 1


# -- a frontend ------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_consoles_arrow_key_reaches_back_over_a_restart(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    run(start, path, "print('from', 'before')")
    kernel = start(env=remember(path))
    console = pexpect.spawn(
        sys.executable, ["-m", "jupyter_console", "--existing", str(kernel.connection_file)],
        encoding="utf-8", timeout=30, dimensions=(50, 120), env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    try:
        console.expect(r"In \[")
        console.expect(r"\x1b\[\?25h")  # the prompt is drawn, and takes keys
        console.send("\x1b[A")
        console.expect("before")
        console.send("\x1b\r")  # Alt-Enter
        console.expect("from before")
    finally:
        kill(console)
