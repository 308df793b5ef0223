"""Nobody is let in: files, sockets and keys are the owner's alone, and what others have planted is not believed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client import Client, KernelProcess, memory_of, until
from jupyter_client.session import Session
from line import Line

import minikernel

Start = Callable[..., KernelProcess]

NOBODY = 65534
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A short one that everybody may write to, as /tmp."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


def own(arguments: list[str], directory: Path, **env: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a kernel that makes its connection file itself; return it and that file."""
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(directory / "runtime"), "TMPDIR": str(directory), **env}
    environment.pop("JPY_PARENT_PID", None)
    kernel = subprocess.Popen(
        [sys.executable, "-m", "minikernel", *arguments], env=environment, cwd=directory, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert kernel.stdout
    name = kernel.stdout.readline().split()[-1]
    return kernel, Path(environment["JUPYTER_RUNTIME_DIR"]) / name


def end(kernel: subprocess.Popen[str]) -> str:
    """End a kernel, cleanly; return what it has said."""
    kernel.send_signal(signal.SIGTERM)
    said = kernel.communicate(timeout=20)[1]
    assert kernel.returncode == 0, said
    return said


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_files_are_never_readable_by_others(shared_directory: Path, transport: str) -> None:
    """Whatever the umask is, and at no moment: in this kernel no chmod does anything."""
    (shared_directory / "site").mkdir()
    hiding = "import os\nos.umask(0)\nos.chmod = os.fchmod = os.lchmod = lambda *args, **kwargs: None\n"
    (shared_directory / "site" / "sitecustomize.py").write_text(hiding)
    path = os.pathsep.join([str(shared_directory / "site"), os.environ.get("PYTHONPATH", "")])
    history, record = shared_directory / "data" / "h.sqlite", shared_directory / "record"
    kernel, file = own(
        ["--transport", transport, "--record", str(record)], shared_directory,
        PYTHONPATH=path, MINIKERNEL_HISTORY=str(history), MINIKERNEL_RECORD="",
    )  # fmt: skip
    client = Client(file)
    try:
        assert client.execute("import os; os.umask(0)").result == "0"
        arguments = {"type": "request", "seq": 1, "command": "dumpCell", "arguments": {"code": "x = 1"}}
        client.request("debug_request", arguments, "control")
        client.execute("1 / 0")
        assert until(history.exists)
        private = set()
        for path in sorted(shared_directory.rglob("*")):
            inside = next((parent for parent in path.parents if parent in private), None)
            if inside is None and not path.is_relative_to(shared_directory / "site"):
                mode = path.stat().st_mode
                if stat.S_ISDIR(mode) and not mode & 0o077:
                    private.add(path)
                elif not stat.S_ISDIR(mode):
                    assert not mode & 0o077, (path, oct(mode))
        names = {path.suffix for path in file.parent.iterdir()} | {record.name}
        assert names >= {".json", ".crash", "record"} and len(list(file.parent.iterdir())) == (
            7 if transport == "ipc" else 2
        )
    finally:
        client.close()
        end(kernel)
    assert list(file.parent.iterdir()) == []


@as_root
@linux
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_another_user_gets_nothing(shared_directory: Path, start: Start, transport: str) -> None:
    file = shared_directory / "c.json"
    minikernel.write_connection_file(file, transport=transport)
    kernel = start(connection_file=file)
    client = kernel.client()
    client.execute("pass")
    code = (
        "import os, socket, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        if '-ipc-' in path: socket.socket(socket.AF_UNIX).connect(path)\n"
        "        else: os.open(path, os.O_RDONLY)\n"
        "        print('got', path)\n"
        "    except PermissionError: pass"
    )
    paths = [
        *map(str, shared_directory.iterdir()),
        *(f"/proc/{kernel.pid}/{name}" for name in ("fd/1", "mem", "environ")),
    ]
    assert len(paths) >= (8 if transport == "ipc" else 3)
    run = subprocess.run(["/usr/bin/env", "-i", shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", code, *paths],
                         user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=False)  # fmt: skip
    if run.returncode:
        pytest.skip(f"nobody has no Python: {run.stderr}")
    assert [line.split()[1] for line in run.stdout.splitlines()] == [str(kernel.log)]  # the test's own


def plant_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def plant_hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def plant_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path, 0o666)


def plant_file_of_another(path: Path, victim: Path) -> None:
    path.write_text("cell 666 0".ljust(64) + "Fatal Python error: planted\n")
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_pipe, plant_file_of_another])
def test_what_is_planted_in_the_place_of_the_evidence(
    shared_directory: Path, start: Start, plant: Callable[[Path, Path], None]
) -> None:
    victim, file = shared_directory / "victim", shared_directory / "c.json"
    victim.write_text("precious")
    minikernel.write_connection_file(file)
    plant(file.with_suffix(".crash"), victim)
    client = start(connection_file=file).client()
    run = client.execute("6 * 7")
    assert run.result == "42" and victim.read_text() == "precious"
    if os.geteuid() == 0 or plant is not plant_file_of_another:
        assert "planted" not in run.text("stderr")
    found = file.with_suffix(".crash").lstat()
    assert stat.S_ISREG(found.st_mode) and found.st_mode & 0o777 == 0o600 and found.st_nlink == 1
    assert found.st_uid == os.geteuid()


def test_what_is_planted_in_the_place_of_sockets_and_the_connection_file(
    shared_directory: Path, start: Start
) -> None:
    victim, file = shared_directory / "victim", shared_directory / "c.json"
    victim.write_text("precious")
    for n in range(1, 6):
        (shared_directory / f"c-ipc-{n}").symlink_to(victim)
    file.symlink_to(victim)
    minikernel.write_connection_file(file, transport="ipc")
    assert start(connection_file=file).client().execute("6 * 7").result == "42"
    assert victim.read_text() == "precious" and not file.is_symlink()


HISTORY = {"MINIKERNEL_HISTORY": "{}", "MINIKERNEL_RECORD": ""}
RECORD = {"MINIKERNEL_HISTORY": "memory", "MINIKERNEL_RECORD": "{}"}


def plant_journal(path: Path, victim: Path) -> None:
    """What sqlite3 would play into the file."""
    Path(f"{path}-journal").symlink_to(victim)
    os.chown(f"{path}-journal", NOBODY, NOBODY, follow_symlinks=False)


PLANTS = [plant_link, plant_hard_link, plant_pipe, plant_file_of_another]


@as_root
@pytest.mark.parametrize(
    ("plant", "env"), [*((plant, env) for plant in PLANTS for env in (HISTORY, RECORD)), (plant_journal, HISTORY)]
)
def test_what_is_planted_in_the_place_of_what_was_said(
    shared_directory: Path, start: Start, plant: Callable[[Path, Path], None], env: dict[str, str]
) -> None:
    """Neither does it go where somebody else reads it, nor into another file of ours."""
    victim, path = shared_directory / "victim", shared_directory / "said"
    victim.write_text("precious")
    victim.chmod(0o644)
    plant(path, victim)
    if plant in (plant_link, plant_pipe):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    before = path.read_bytes() if plant is plant_file_of_another else b""
    kernel = start(env={name: value.format(path) for name, value in env.items()})
    client = kernel.client()
    assert client.execute("6 * 7").result == "42"
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0
    assert victim.read_text() == "precious" and stat.S_IMODE(victim.stat().st_mode) == 0o644
    if plant is plant_file_of_another:
        assert path.read_bytes() == before
    (line,) = kernel.stderr().splitlines()
    assert "another user has put it there" in line


@as_root
@pytest.mark.parametrize("option", ["-o", "--record"])
@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_in_the_place_of_a_trace(
    shared_directory: Path, plant: Callable[[Path, Path], None], option: str
) -> None:
    victim, path = shared_directory / "victim", shared_directory / "said"
    victim.write_text("precious")
    plant(path, victim)
    if plant in (plant_link, plant_pipe):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    command = [sys.executable, "-m", "minikernel", "trace", option, str(path), "--", "true"]
    traced = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert traced.returncode == 1 and traced.stderr.endswith("another user has put it there\n"), traced
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("env", [HISTORY, RECORD], ids=["history", "record"])
def test_a_link_of_ones_own_is_followed(shared_directory: Path, start: Start, env: dict[str, str]) -> None:
    (shared_directory / "private").mkdir(mode=0o700)
    there, path = shared_directory / "private" / "there", shared_directory / "said"
    path.symlink_to(there)
    if env is HISTORY:
        there.touch(0o600)
    kernel = start(env={name: value.format(path) for name, value in env.items()})
    client = kernel.client()
    assert client.execute("6 * 7").result == "42"
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0 and kernel.stderr() == ""
    assert there.stat().st_size and stat.S_IMODE(there.stat().st_mode) == 0o600 and path.is_symlink()


@pytest.mark.parametrize("how", ["writable", "another user's"])
def test_a_connection_file_that_others_may_have_written(shared_directory: Path, start: Start, how: str) -> None:
    """Whoever wrote it knows the key."""
    file = shared_directory / "c.json"
    minikernel.write_connection_file(file)
    if how == "writable":
        file.chmod(0o666)
    elif os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
    else:
        pytest.skip("may not give a file away")
    kernel = start(connection_file=file)
    assert kernel.client().execute("6 * 7").result == "42"
    (line,) = kernel.stderr().splitlines()
    assert "other users can write the connection file" in line


def test_sockets_of_a_long_name_have_a_private_directory(shared_directory: Path) -> None:
    runtime = shared_directory / ("r" * 120)
    kernel, file = own(["--transport", "ipc"], shared_directory, JUPYTER_RUNTIME_DIR=str(runtime))
    client = Client(file)
    try:
        assert client.execute("import os; os.chdir('/'); 6 * 7").result == "42"
        directory = Path(client.info["ip"]).parent
        assert directory.parent == shared_directory and stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert len(list(directory.iterdir())) == 5
    finally:
        client.close()
        end(kernel)
    assert not directory.exists() and list(runtime.iterdir()) == []


def test_private_directories_of_kernels_that_were_killed_are_removed(shared_directory: Path) -> None:
    kernels, clients = [], []

    def directory() -> Path:
        """Of the sockets of another kernel; it looks old."""
        kernel, file = own(["--transport", "ipc"], shared_directory, JUPYTER_RUNTIME_DIR=str(runtime))
        kernels.append(kernel)
        clients.append(Client(file))
        found = Path(clients[-1].info["ip"]).parent
        os.utime(found, (0, 0))
        return found

    runtime = shared_directory / ("r" * 120)
    try:
        left, used = directory(), directory()
        kernels[0].kill()
        kernels[0].communicate()
        assert len(list(left.iterdir())) == 5
        third = directory()
        assert not left.exists() and used.exists() and third.exists()
        assert all(client.execute("6 * 7").result == "42" for client in clients[1:])
    finally:
        for client in clients:
            client.close()
        for kernel in kernels[1:]:
            end(kernel)
    assert not used.exists() and not third.exists()


def test_sockets_of_a_kernel_that_was_killed_are_taken_over(shared_directory: Path, start: Start) -> None:
    file = shared_directory / "c.json"
    minikernel.write_connection_file(file, transport="ipc")
    kernel = start(connection_file=file)
    assert kernel.client().execute("1").result == "1"
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.wait()
    before = {path.name for path in shared_directory.iterdir() if path.is_socket()}
    assert len(before) == 5
    kernel = start(connection_file=file)
    client = kernel.client()
    assert client.execute("1").result == "1"
    assert {path.name for path in shared_directory.iterdir() if path.is_socket()} == before
    client.request("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0 and not any(path.is_socket() for path in shared_directory.iterdir())


# -- keys ----------------------------------------------------------------------------------------------------


@linux
def test_the_key_is_nowhere_to_be_seen(kernel: KernelProcess) -> None:
    """Not in `ps`, not in what children inherit, not in tracebacks, not on stderr."""
    client = kernel.client()
    key = client.info["key"]
    client.execute("import minikernel, os, subprocess, sys\nchild = subprocess.Popen(['sleep', '60'])")
    client.session.key = b"another"  # what is forged is complained about
    client.send("kernel_info_request")
    client.session.key = key.encode()
    texts = []
    for code in (
        "def f(info): 1 / 0\nf(minikernel.get_connection_info())",
        "minikernel.get_connection_info('/nowhere')",
        "minikernel.connect_qtconsole('/nowhere')",
        "minikernel.write_connection_file('/nowhere/x.json', key=minikernel.get_connection_info()['key'])",
        "minikernel.write_connection_file('x.json', key=minikernel.get_connection_info()['key'], shell_port='x')",
        "{**os.environ}, sys.argv, sys.orig_argv, os.times()",
    ):
        texts.append(str(client.execute(code).messages))
    for pid in (kernel.pid, int(client.execute("child.pid").result or 0)):
        texts += [Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "environ")]
    texts.append(kernel.stderr())
    assert "wrong signature" in texts[-1]
    assert not [text for text in texts if key in text]


# -- the network ---------------------------------------------------------------------------------------------


def listens(pid: int) -> set[str]:
    """Return the addresses on which a process listens (proc_net_tcp)."""
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1].partition(":")[0])
    return found


@linux
@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({}, {"0100007F"}),
        ({"ip": "127.0.0.7"}, {"0700007F"}),
        ({"ip": "0.0.0.0"}, {"00000000"}),
        ({"ip": "*"}, {"00000000"}),
        ({"ip": "0.0.0.0", "curve": True}, {"00000000"}),
        ({"transport": "ipc"}, set()),
    ],
)  # fmt: skip
def test_who_can_reach_it(
    shared_directory: Path, start: Start, fields: dict[str, Any], addresses: set[str]
) -> None:
    """Beyond this machine only if it was told to, and then it says so, once, unless all is encrypted."""
    import zmq

    if fields.pop("curve", False):
        public, secret = zmq.curve_keypair()
        fields |= {"curve_publickey": public, "curve_secretkey": secret}
    kernel = KernelProcess(shared_directory, **fields)
    try:
        assert kernel.client().execute("6 * 7").result == "42"
        assert listens(kernel.pid) == addresses
        lines = kernel.stderr().splitlines()
        if addresses == {"00000000"} and "curve_publickey" not in fields:
            (line,) = lines
            assert "bound to 0.0.0.0 without curve keys" in line
        else:
            assert lines == []
    finally:
        kernel.close()


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_is_heard_on_the_way(start: Start, encrypted: bool) -> None:
    import zmq

    keys = dict(zip(("curve_publickey", "curve_secretkey"), zmq.curve_keypair(), strict=True)) if encrypted else {}
    kernel = start(**keys)
    kernel.ready()
    info = minikernel.get_connection_info(kernel.connection_file)
    line = Line(info)
    file = kernel.connection_file.with_name("by-line.json")
    try:
        minikernel.write_connection_file(file, **{**info, **line.ports})
        client = Client(file)
        kernel.clients.append(client)
        msg_id = client.start("print('said' + 'aloud'); input('a' + 'sked? ')", allow_stdin=True)
        client.answer("answered")
        assert client.finish(msg_id).result == "'answered'" and client.beats()
        heard = b"".join(line.heard)
        secrets = (b"print(", b"saidaloud", b"asked? ", b"answered", b"execute_re", b"msg_id")
        assert len(heard) > 4000 and [secret in heard for secret in secrets] == [not encrypted] * len(secrets)
        assert info["key"].encode() not in heard
    finally:
        line.close()


# -- what comes in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b'{"code": "6 * 7", "x": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"code": "6 * 7", "x": {' + b",".join(b'"%d": 0' % n for n in range(200_000)) + b"}}",
        b'{"code": "6 * 7", "x": "' + b"y" * 20_000_000 + b'"}',
        b'{"code": "6 * 7", "user_expressions": {' + b",".join(b'"%d": "1"' % n for n in range(2_000)) + b"}}",
        b'{"code": "6 * 7", "code ": 1e999, "code": "6 * 7"}',
    ],
    ids=["deep", "wide", "long", "many", "odd"],
)
def test_what_is_large_and_right_is_answered(shared: Client, content: bytes) -> None:
    header = json.dumps(shared.session.msg_header("execute_request"), default=str).encode()
    four = [header, b"{}", b"{}", content]
    frames = [b"<IDS|MSG>", Session(key=shared.info["key"].encode()).sign(four), *four]
    shared.sockets["shell"].send_multipart(frames)
    assert shared.finish(json.loads(header)["msg_id"]).result == "42"


@linux
def test_strangers_take_no_memory_for_good(kernel: KernelProcess) -> None:
    """What is not signed is dropped, however much it is."""
    client = kernel.client()

    def memory_after(count: int) -> int:
        for _ in range(count):
            client.sockets["shell"].send_multipart([b"<IDS|MSG>", b"0" * 64, *[b"{}"] * 3, bytes(20_000_000)])
            assert client.execute("6 * 7").result == "42"
        return memory_of(kernel)

    before = memory_after(3)  # which malloc keeps some of
    assert memory_after(9) - before < 100_000_000
    assert len(kernel.stderr().splitlines()) <= 6


def test_a_connection_that_says_nothing_holds_nobody_up(kernel: KernelProcess) -> None:
    client = kernel.client()
    strangers = [socket.create_connection(("127.0.0.1", client.info["shell_port"])) for _ in range(50)]
    try:
        assert client.execute("6 * 7").result == "42"
    finally:
        for stranger in strangers:
            stranger.close()
