"""Where a kernel may have to live: without a home, a disk, standard streams or other processes, among namesakes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from client import TIMEOUT, Client, until

import minikernel
from minikernel import connect

KERNEL = [sys.executable, "-m", "minikernel"]
#: As another user, who may read what this one may.
NOBODY = [
    "setpriv",
    "--reuid=54321",
    "--regid=54321",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
]


def works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )


needs_root = pytest.mark.skipif(not works(*NOBODY), reason="needs root")
needs_mounts = pytest.mark.skipif(not works("unshare", "-m"), reason="needs mount namespaces")
needs_pids = pytest.mark.skipif(not works("unshare", "-pf", "--mount-proc"), reason="needs PID namespaces")


@contextmanager
def running(command: list[str], directory: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process group, for the time of a block."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": directory,
    } | options
    process = subprocess.Popen(command, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate(timeout=TIMEOUT)


@contextmanager
def connected(file: str | Path) -> Iterator[Client]:
    assert until(lambda: minikernel.get_connection_info(file)["shell_port"])  # when it is bound
    client = Client(file)
    try:
        yield client
    finally:
        client.close()


def serves(client: Client) -> None:
    """Hold a kernel to what it owes its user anywhere."""
    run = client.execute(
        "import os, sys\nprint('out'); print('err', file=sys.stderr); os.system('echo child; echo too >&2')"
    )
    assert (run.text(), run.text("stderr"), run.result) == ("out\nchild\n", "err\ntoo\n", "0")
    assert client.execute("1 / 0").ename == "ZeroDivisionError"
    assert client.request("complete_request", {"code": "sys.path_h", "cursor_pos": 10}).reply["matches"] == [
        "path_hooks"
    ]
    asked = {"hist_access_type": "tail", "n": 1, "raw": True, "output": False}
    assert [row[2] for row in client.request("history_request", asked).reply["history"]] == ["1 / 0"]


def ends(process: subprocess.Popen[str], client: Client) -> None:
    client.send("shutdown_request", {"restart": False}, "control")
    assert process.wait(TIMEOUT) == 0


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A connection file whose ports the kernel chooses."""
    file, info = minikernel.write_connection_file(tmp_path / "c.json")
    connect.save(file, info | dict.fromkeys(connect.PORTS, 0))
    return file


@pytest.fixture
def settled(tmp_path: Path) -> str:
    """A connection file for a kernel that can't write one: with ports that the system gives to nobody by itself."""
    base = 20_000 + os.getpid() % 2000 * 5
    ports = {name: base + number for number, name in enumerate(connect.PORTS)}
    return str(minikernel.write_connection_file(tmp_path / "c.json", **ports))


@pytest.mark.parametrize("closed", ["0", "1", "2", "12", "012"])
def test_closed_descriptors(tmp_path: Path, file: str, closed: str) -> None:
    script = "exec " + " ".join(f"{fd}>&-" for fd in closed) + '; exec "$@"'
    with running(["sh", "-c", script, "sh", *KERNEL, "-f", file], tmp_path) as process, connected(file) as client:
        serves(client)
        run = client.execute("[os.path.basename(os.readlink(f'/proc/self/fd/{fd}')) for fd in range(3)]")
        assert "null" in str(run.result) and str(run.result).count("memfd") in (0, 2)
        assert client.execute("import subprocess; subprocess.run(['cat'], stdout=-1).stdout").result == "b''"
        ends(process, client)


def test_no_streams(tmp_path: Path, file: str) -> None:
    code = "import sys; sys.stdin = sys.stdout = sys.stderr = None; from minikernel.__main__ import main; main(['-f', sys.argv[1]])"
    with running([sys.executable, "-c", code, file], tmp_path) as process, connected(file) as client:
        serves(client)
        ends(process, client)


@needs_root
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_no_home_and_no_passwd_entry(tmp_path: Path, home: str | None) -> None:
    """It has a connection file all the same, in a private directory, which it takes away at the end."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o777)
    with running([*NOBODY, *KERNEL], Path("/"), env=env | ({"HOME": home} if home else {})) as process:
        assert process.stdout is not None
        file = Path(process.stdout.readline().split()[-1])
        assert file.parent.parent == tmp_path and file.stat().st_uid == 54321
        assert [oct(path.stat().st_mode)[-3:] for path in (file, file.parent)] == ["600", "700"]
        with connected(file) as client:
            serves(client)
            assert client.execute("os.getuid()").result == "54321"
            ends(process, client)
        assert not list(tmp_path.iterdir())


@needs_root
def test_an_application_without_a_home_starts_one_kernel_after_another(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o777)
    code = (
        "import minikernel, os\nbefore = len(os.listdir('/proc/self/fd'))\n"
        "for n in range(3):\n"
        "    with minikernel.start({}) as one, minikernel.start({}, transport='ipc') as two:\n"
        "        print(os.path.dirname(one.connection_file) == os.path.dirname(two.connection_file))\n"
        "    print(os.listdir(os.environ['TMPDIR']), len(os.listdir('/proc/self/fd')) - before)"
    )
    command = [*NOBODY, sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.stdout == "True\n[] 0\n" * 3 and done.stderr == "", done


@needs_mounts
def test_nothing_can_be_written(tmp_path: Path, settled: str) -> None:
    script = 'mount -o remount,bind,ro / && exec "$@"'
    env = {**os.environ, "MINIKERNEL_HISTORY": "", "MINIKERNEL_RECORD": "", "TMPDIR": str(tmp_path)}
    inside = ["unshare", "-m", "sh", "-c", script, "sh"]
    with running([*inside, *KERNEL, "-f", settled], tmp_path, env=env) as process, connected(settled) as client:
        assert client.execute(f"open({str(tmp_path / 'new')!r}, 'w')").ename == "OSError"
        serves(client)
        ends(process, client)
    refused = subprocess.run(
        [*inside, *KERNEL], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (
        refused.returncode == 1 and refused.stderr.startswith("[minikernel] ") and refused.stderr.count("\n") == 1
    )


@needs_mounts
def test_a_full_disk(tmp_path: Path, settled: str) -> None:
    """A file that is there can be read; there is no evidence, no history, no record, and all the rest."""
    home = tmp_path / "home"
    home.mkdir()
    script = 'mount -t tmpfs -o size=16k none "$0" && cd "$0" && cp ../c.json . && cat /dev/zero > rest; exec "$@"'
    env = {**os.environ, "HOME": str(home), "MINIKERNEL_HISTORY": "", "MINIKERNEL_RECORD": "", "TMPDIR": str(home)}
    inside = ["unshare", "-m", "sh", "-c", script, str(home)]
    command = [*inside, *KERNEL, "-f", "c.json"]
    with running(command, tmp_path, env=env) as process, connected(settled) as client:
        assert client.execute("open('rest', 'a').write('x' * 9999)").ename == "OSError"
        serves(client)
        ends(process, client)
    refused = subprocess.run(
        [*inside, *KERNEL], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (
        refused.returncode == 1 and "No space left" in refused.stderr and refused.stderr.count("[minikernel]") == 1
    )


@needs_pids
def test_process_1(tmp_path: Path, file: str) -> None:
    """It buries others' orphans, no cell's children, and ends on SIGTERM."""
    inside = ["unshare", "-pf", "--mount-proc", "--kill-child=SIGKILL"]
    with running([*inside, *KERNEL, "-f", file], tmp_path) as process, connected(file) as client:
        serves(client)
        client.execute("import subprocess, time; mine = subprocess.Popen(['sh', '-c', 'exit 3'])")
        client.execute("os.system('for n in 1 2 3; do (exit &) ; done')")
        left = (
            "subprocess.run(['ps', '-e', '-o', 'stat=,pid='], capture_output=True, text=True).stdout.split('\\n')"
        )
        zombies = f"[line for line in {left} if line.startswith('Z') and int(line.split()[1]) != mine.pid]"
        assert until(lambda: client.execute(zombies).result == "[]")
        assert client.execute("mine.wait()").result == "3"
        msg_id = client.start("print('go', flush=True); subprocess.run(['sleep', '60'])")
        client.output(msg_id, "go")
        client.request("interrupt_request", channel="control")
        assert client.finish(msg_id).ename == "KeyboardInterrupt"
        client.execute(f"import atexit; atexit.register(open({str(tmp_path / 'mark')!r}, 'w').close)")
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(first, signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0 and (tmp_path / "mark").exists()


@needs_pids
def test_process_1_ends_as_the_kernel_does(tmp_path: Path, file: str) -> None:
    inside = ["unshare", "-pf", "--mount-proc", "--kill-child=SIGKILL"]
    with running([*inside, *KERNEL, "-f", file], tmp_path) as process, connected(file) as client:
        client.start("import os; os._exit(7)")
        assert process.wait(TIMEOUT) == 7


def test_namesakes_in_the_working_directory(tmp_path: Path, file: str) -> None:
    """What the kernel needs to start is Python's; what a cell imports is the user's, as in any program."""
    directory = tmp_path / "work"
    directory.mkdir()
    names = "json hmac random zmq asyncio typing signal queue traceback inspect ast linecache tokenize pprint sqlite3 token"
    for name in names.split():
        (directory / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    for name in ("mine", "tornado", "turtle"):
        (directory / f"{name}.py").write_text("whose = 'mine'\n")
    (directory / "code").mkdir()
    (directory / "code" / "__init__.py").write_text("whose = 'mine'\n")
    with running([*KERNEL, "-f", file], directory) as process, connected(file) as client:
        serves(client)
        assert (
            client.execute("import code, mine, turtle; code.whose, mine.whose, turtle.whose").result
            == "('mine', 'mine', 'mine')"
        )
        assert (
            client.execute("import json, minikernel; json.loads('3'), minikernel.__version__ != ''").result
            == "(3, True)"
        )
        serves(client)
        ends(process, client)
