"""Connection files and the connect API, outside and inside of a kernel, and how a kernel is started with one."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from client import Client, KernelProcess
from jupyter_client import BlockingKernelClient

import minikernel
from minikernel import connect
from minikernel.connect import (
    PORTS,
    connect_qtconsole,
    find_connection_file,
    get_connection_file,
    get_connection_info,
    write_connection_file,
)

REAL = {"shell_port": 5001, "iopub_port": 5002, "stdin_port": 5003, "control_port": 5004, "hb_port": 5005}


def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    """Wait for what sends no message: a file, a port, a line in a log."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def mode(path: str | os.PathLike[str]) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def free_ports() -> dict[str, Any]:
    info = connect.normal({})
    connect.choose_ports(info, "")
    return {port: info[port] for port in PORTS}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Jupyter runtime directory, not yet made, and an empty working directory beside it."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "runtime"


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, wherever pytest's own is."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


class Launched(KernelProcess):
    """A kernel that is started with any arguments, in any directory."""

    def __init__(
        self, cwd: Path, log: Path, arguments: tuple[str, ...], env: dict[str, str], **options: Any
    ) -> None:
        self.log = log
        environment = {**os.environ, "JPY_PARENT_PID": str(os.getpid()), **env}
        environment = {name: value for name, value in environment.items() if value}
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "minikernel", *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                cwd=cwd, env=environment, start_new_session=True, **options,
            )  # fmt: skip
        self.clients: list[Client] = []

    def at(self, path: str | os.PathLike[str]) -> Client:
        """A client, as soon as the kernel has put its real ports into the file `path`."""
        self.connection_file = Path(path)
        until(lambda: os.path.exists(path) and all(int(read(path).get(port, 0)) for port in PORTS))
        return self.client()

    def end(self) -> None:
        self.client().request("shutdown_request", {"restart": False}, "control")
        assert self.wait() == 0


@pytest.fixture
def launch(runtime: Path) -> Iterator[Callable[..., Launched]]:
    """Start kernels by their command line: ``launch("-f", path, env={...}, umask=0)``."""
    kernels: list[Launched] = []

    def launch(
        *arguments: Any, env: dict[str, str] | None = None, cwd: Path | None = None, **options: Any
    ) -> Launched:
        log = runtime.parent / f"{len(kernels)}.log"
        kernels.append(Launched(cwd or Path.cwd(), log, tuple(map(str, arguments)), env or {}, **options))
        return kernels[-1]

    yield launch
    for kernel in kernels:
        kernel.close()


# -- write_connection_file --------------------------------------------------------------------------------


def test_signatures() -> None:
    names = "connect_qtconsole find_connection_file get_connection_file get_connection_info write_connection_file"
    for name in names.split():
        assert getattr(minikernel, name) is getattr(connect, name)
        assert name in minikernel.__all__ and name in connect.__all__ and name in dir(minikernel)

    def parameters(function: Callable[..., Any]) -> dict[str, Any]:
        every = inspect.signature(function).parameters.values()
        return {each.name: each.default for each in every if each.kind < each.KEYWORD_ONLY}

    assert list(parameters(write_connection_file).items()) == [
        ("fname", None),
        ("shell_port", 0), ("iopub_port", 0), ("stdin_port", 0), ("control_port", 0), ("hb_port", 0),
        ("ip", "127.0.0.1"), ("key", b""), ("transport", "tcp"), ("signature_scheme", "hmac-sha256"),
        ("kernel_name", ""),
    ]  # fmt: skip
    assert parameters(get_connection_file) == {"app": None}
    assert list(parameters(get_connection_info).items()) == [("connection_file", None), ("unpack", None)]
    assert list(parameters(find_connection_file).items()) == [
        ("filename_or_glob", "kernel-*.json"), ("profile", None),
    ]  # fmt: skip
    assert list(parameters(connect_qtconsole).items()) == [("argv", None), ("connection_file", None)]
    with pytest.raises(AttributeError):
        minikernel.no_such_name  # noqa: B018


def test_a_file_with_everything_given(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    written = write_connection_file(
        path, 5001, 5002, 5003, 5004, 5005, "192.168.1.100", b"secret", "tcp", "hmac-sha512", "mini",
        jupyter_session="a.ipynb", kernel_id=None,
    )  # fmt: skip
    fields = {
        **REAL, "ip": "192.168.1.100", "key": "secret", "transport": "tcp", "signature_scheme": "hmac-sha512",
        "kernel_name": "mini", "jupyter_session": "a.ipynb", "kernel_id": None,
    }  # fmt: skip
    assert read(path) == fields
    assert list(read(path))[:5] == ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]
    assert written == str(path) and written.info == fields


def test_the_result_is_a_path_and_unpacks_as_jupyter_clients(tmp_path: Path) -> None:
    written = write_connection_file(str(tmp_path / "k.json"))
    assert isinstance(written, str) and written == str(tmp_path / "k.json") == f"{written}"
    path, info = written
    assert type(path) is str and path == written
    with open(written) as file:
        assert json.load(file) == info
    assert os.path.basename(written) == "k.json" and json.loads(json.dumps(written)) == path
    assert Path(written).exists() and {path: 1}[written] == 1


def test_ipykernels_keywords(tmp_path: Path) -> None:
    """Each keyword of ``jupyter_client.connect.write_connection_file``, as its callers use them."""
    path, info = write_connection_file(
        fname=str(tmp_path / "k.json"), shell_port=1, iopub_port=2, stdin_port=3, hb_port=5, control_port=4, ip="",
        key=b"k", transport="tcp", signature_scheme="hmac-sha256", kernel_name="",
        curve_publickey=None, curve_secretkey=None, jupyter_session="x",
    )  # fmt: skip
    assert info == read(path)
    assert [info[port] for port in PORTS] == [1, 2, 3, 4, 5]
    assert (info["ip"], info["jupyter_session"]) == ("127.0.0.1", "x") and "curve_publickey" not in info


def test_jupyter_client_reads_it(tmp_path: Path) -> None:
    path, info = write_connection_file(tmp_path / "k.json", key=b"\xff\x00 no text", signature_scheme="hmac-sha1")
    client = BlockingKernelClient(connection_file=path)
    client.load_connection_file()
    assert client.session.key == info["key"].encode() and client.session.signature_scheme == "hmac-sha1"
    assert client.get_connection_info()["hb_port"] == info["hb_port"]


def test_free_ports_are_chosen(tmp_path: Path) -> None:
    info = write_connection_file(tmp_path / "a.json", hb_port=REAL["hb_port"], shell_port=-1).info
    ports = [info[port] for port in PORTS]
    assert len(set(ports)) == 5 and all(0 < port < 65536 for port in ports) and info["hb_port"] == 5005
    write_connection_file(tmp_path / "a.json", ip="192.0.2.1", **REAL)  # not ours: no socket is opened
    with pytest.raises(OSError):
        write_connection_file(tmp_path / "b.json", ip="192.0.2.1")
    assert not (tmp_path / "b.json").exists()


def test_ports_may_be_strings(tmp_path: Path) -> None:
    strings = {port: str(number) for port, number in REAL.items()}
    assert write_connection_file(tmp_path / "k.json", **strings).info.items() >= REAL.items()
    for wrong in ("many", "", [], 65536, "1e3"):
        with pytest.raises(ValueError, match="shell_port is no"):
            write_connection_file(tmp_path / "k.json", shell_port=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ip", "expected"), [("", "127.0.0.1"), (None, "127.0.0.1"), ("*", "0.0.0.0")])
def test_addresses(tmp_path: Path, ip: str | None, expected: str) -> None:
    assert write_connection_file(tmp_path / "k.json", ip=ip).info["ip"] == expected


def test_keys(tmp_path: Path) -> None:
    def key(key: Any) -> str:
        info = write_connection_file(tmp_path / "k.json", key=key).info
        assert read(tmp_path / "k.json")["key"] == info["key"] == get_connection_info(tmp_path / "k.json")["key"]
        assert type(info["key"]) is str
        return str(info["key"])

    assert key(b"bytes") == "bytes" and key("text") == "text" and key("ü".encode()) == "ü"
    assert key(None) == ""
    assert len({key(b""), key(b""), key("")}) == 3 and len(key(b"")) >= 32
    assert key(b"\xff\xfe\x00") == "//4A"  # base64, and this text is what signs


def test_curve_keys_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="go together"):
        write_connection_file(tmp_path / "k.json", curve_publickey=b"p" * 40)
    info = write_connection_file(tmp_path / "k.json", curve_publickey=b"p" * 40, curve_secretkey="s" * 40).info
    assert (info["curve_publickey"], info["curve_secretkey"]) == ("p" * 40, "s" * 40)


def test_without_a_name_it_is_where_frontends_look(runtime: Path) -> None:
    written = write_connection_file()
    assert re.fullmatch(r"kernel-[0-9a-f-]{36}\.json", os.path.basename(written))
    assert os.path.dirname(written) == str(runtime)
    assert mode(runtime) == 0o1700 and mode(written) == 0o600
    assert write_connection_file() != written


def test_a_relative_name_stays_relative(runtime: Path) -> None:
    assert write_connection_file("k.json") == "k.json" and os.path.isfile("k.json")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_only_the_owner_reads_it(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "old.json").chmod(0o666)
    for path in (tmp_path / "new.json", tmp_path / "old.json", None):
        assert mode(write_connection_file(path)) == 0o600
    assert mode(runtime) == 0o1700


def test_the_sticky_bit_is_for_the_runtime_directory_only(runtime: Path, tmp_path: Path) -> None:
    before = mode(tmp_path)
    write_connection_file(tmp_path / "k.json")
    assert mode(tmp_path) == before
    runtime.mkdir()
    runtime.chmod(0o777)
    write_connection_file(runtime / "k.json")
    assert mode(runtime) == 0o1777
    with pytest.raises(FileNotFoundError):
        write_connection_file(tmp_path / "none" / "k.json")  # a typing error is no wish for a directory


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "k.json"
    victim.write_text("mine")
    for target in (victim, tmp_path / "nowhere"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        write_connection_file(link)
        assert not link.is_symlink() and mode(link) == 0o600 and read(link)["key"]
    assert victim.read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    write_connection_file(path, **REAL)
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            try:
                seen.append((len(read(path)), mode(path)))
            except (OSError, ValueError) as error:
                seen.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for n in range(300):
            write_connection_file(path, **REAL, padding="x" * (n * 100))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert set(seen) <= {(10, 0o600), (11, 0o600)} and len(seen) > 2
    assert os.listdir(tmp_path) == ["k.json"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    write_connection_file(tmp_path / "k.json", key="old")
    with pytest.raises(TypeError):
        write_connection_file(tmp_path / "k.json", unknown=object())
    with pytest.raises(OSError):
        write_connection_file(tmp_path)
    assert os.listdir(tmp_path) == ["k.json"] and read(tmp_path / "k.json")["key"] == "old"


def test_ipc_sockets_are_beside_the_file(tmp_path: Path, runtime: Path, short: Path) -> None:
    info = write_connection_file(short / "k.json", transport="ipc").info
    assert info["ip"] == f"{short}/k-ipc" and [info[port] for port in PORTS] == [1, 2, 3, 4, 5]
    for name in ("k-ipc-1", "k-ipc-3"):
        (short / name).touch()
    info = write_connection_file(short / "k.json", transport="ipc", hb_port=2).info
    assert [info[port] for port in PORTS] == [4, 5, 6, 7, 2]
    assert write_connection_file(short / "k.json", transport="ipc", ip="./s").info["ip"] == "./s"
    os.chdir(short)
    assert write_connection_file("r.json", transport="ipc").info["ip"] == os.path.join(os.getcwd(), "r-ipc")
    with pytest.raises(ValueError, match=r"ipc path may have 10\d bytes"):
        write_connection_file(short / "k.json", transport="ipc", ip=str(tmp_path / ("x" * 100)))
    private = Path(write_connection_file(short / f"{'ü' * 50}.json", transport="ipc").info["ip"]).parent
    assert private.stat().st_mode & 0o777 == 0o700 and private.name.startswith("minikernel-")
    private.rmdir()


# -- get_connection_file, get_connection_info -------------------------------------------------------------


def test_outside_of_a_kernel(runtime: Path, tmp_path: Path) -> None:
    assert get_connection_file() is None
    with pytest.raises(RuntimeError, match="not in a running kernel"):
        get_connection_info()
    with pytest.raises(RuntimeError, match="not in a running kernel"):  # before ImportError
        connect_qtconsole()
    assert get_connection_file(SimpleNamespace(connection_file="k.json")) == os.path.abspath("k.json")
    with pytest.raises(OSError):
        get_connection_info(tmp_path / "none.json")
    write_connection_file(runtime / "kernel-none.json")
    with pytest.raises(OSError):
        get_connection_info(runtime / "none.json")  # a path is a path, and no pattern


def test_the_info_of_a_file(runtime: Path) -> None:
    path, fields = write_connection_file(runtime / "kernel-abc.json", key=b"k", extra=[1])
    for name in (path, Path(path), "kernel-abc.json", "abc", "kernel-a*"):
        assert get_connection_info(name) == fields
    assert get_connection_info(path, unpack=True) == {**fields, "key": b"k"}
    assert get_connection_info(path, True)["key"] == b"k"
    text = get_connection_info(path, unpack=False)
    assert type(text) is str and json.loads(text) == fields


def test_a_file_that_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text('{"shell_port": "5001", "hb_port": null, "ip": "*", "key": null, "x": null}')
    info = get_connection_info(path)
    assert (info["shell_port"], info["hb_port"], info["iopub_port"]) == (5001, 0, 0)
    assert (info["ip"], info["key"], info["transport"], info["x"]) == ("0.0.0.0", "", "tcp", None)
    for wrong in ("", "[]", "{", '{"shell_port": "x"}', '{"shell_port": {}}', '{"key": 5}', '{"hb_port": 70000}'):
        path.write_text(wrong)
        with pytest.raises(ValueError):
            get_connection_info(path)


# -- find_connection_file ---------------------------------------------------------------------------------


@pytest.fixture
def find(runtime: Path) -> Callable[..., str]:
    """find_connection_file, without its warning."""
    runtime.mkdir()

    def find(*args: Any, **kwargs: Any) -> str:
        with pytest.warns(DeprecationWarning, match="find_connection_file is deprecated"):
            found = find_connection_file(*args, **kwargs)
        assert os.path.isabs(found) and type(found) is str
        return found

    return find


def put(path: Path, when: float = 1000, *, accessed: float | None = None) -> str:
    path.write_text("{}")
    os.utime(path, (when if accessed is None else accessed, when))
    return str(path)


def test_find_by_path_name_and_id(find: Callable[..., str], runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = put(runtime / "kernel-1.json", 1000), put(runtime / "kernel-1b.json", 2000)
    for name in (one, "kernel-1.json", "1", f'"{one}"', Path(one)):
        assert find(name) == one
    monkeypatch.setenv("SOMEWHERE", str(runtime))
    monkeypatch.setenv("HOME", str(runtime))
    assert find("$SOMEWHERE/kernel-1.json") == find("~/kernel-1.json") == one
    assert find("1b") == find("b") == find("-1b.js") == other
    assert find(filename="1") == one  # jupyter_client's name for it
    here = put(Path("kernel-1.json").absolute(), 500)
    assert find("kernel-1.json") == here  # a name is looked for here first


def test_find_the_latest(find: Callable[..., str], runtime: Path) -> None:
    put(runtime / "kernel-a.json", 1000)
    latest = put(runtime / "kernel-b.json", 3000)
    put(runtime / "kernel-c.json", 2000)
    put(runtime / "other-d.json", 9000)
    assert find() == find("kernel-*.json") == find("kernel") == find("k*l-*") == latest
    used = put(runtime / "kernel-e.json", 100, accessed=5000)
    assert find() == used
    assert find("") == find("*") == str(runtime / "other-d.json")


def test_find_files_only(find: Callable[..., str], runtime: Path) -> None:
    (runtime / "kernel-1.json").mkdir()
    (runtime / "kernel-link.json").symlink_to(runtime / "gone")
    put(runtime / ".kernel-1.json.0.tmp", 9000)
    put(runtime / "kernel-1.json.bak", 9000)
    put(Path("sock-1"), 9000)
    for name in ("1", "", "kernel-1.json", "kernel-*.json", "link", str(runtime / "kernel-1.json"), "kernel-*"):
        with pytest.raises(OSError, match="could not find a connection file for"):
            find(name)
    plain = put(runtime / "kernel-2.json")
    assert find("kernel-*") == find() == plain
    assert find("kernel-1.json*") == str(runtime / "kernel-1.json.bak")  # the pattern says so
    put(Path("plain.conn"))
    assert find("plain.conn") == os.path.abspath("plain.conn")


def test_find_in_given_places(find: Callable[..., str], runtime: Path, tmp_path: Path) -> None:
    in_runtime, here = put(runtime / "kernel-x.json"), put(Path("kernel-x.json").absolute())
    assert find("kernel-*.json") == in_runtime  # on a tie
    os.utime(here, (2000, 2000))
    assert find("kernel-*.json") == here
    place = tmp_path / "a [place]"
    place.mkdir()
    there = put(place / "kernel-x.json", 1)
    for given in (str(place), place, [str(place)], (str(runtime / "none"), place)):
        assert find("x", path=given) == there
    assert find("x", [str(place)]) == there  # jupyter_client's second parameter
    assert find(str(runtime / "kernel-*")) == in_runtime
    with pytest.raises(OSError):
        find("x", path=[])


def test_a_profile_is_warned_of(find: Callable[..., str], runtime: Path, tmp_path: Path) -> None:
    security = tmp_path / "profile" / "security"
    security.mkdir(parents=True)
    there = put(security / "kernel-x.json")
    with pytest.warns(UserWarning, match="no profiles"):
        assert find("x", str(security.parent)) == there
    with pytest.warns(UserWarning, match="no profiles"), pytest.raises(OSError):
        find("x", profile="default")


# -- connect_qtconsole ------------------------------------------------------------------------------------

FAKE_QTCONSOLE = """
import json, os, sys
def main():
    with open(os.environ["RECORD"] + ".new", "w") as file:
        json.dump({"argv": sys.argv[1:], "session": os.getsid(0) == os.getpid()}, file)
    print("x" * 1_000_000, file=sys.stderr)  # must not block
    os.replace(os.environ["RECORD"] + ".new", os.environ["RECORD"])
"""


@pytest.fixture
def qtconsole(tmp_path: Path) -> dict[str, str]:
    """The environment of a process for which ``qtconsole`` is a package that writes its arguments into a file."""
    package = tmp_path / "fake" / "qtconsole"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "qtconsoleapp.py").write_text(FAKE_QTCONSOLE)
    return {"PYTHONPATH": str(package.parent), "RECORD": str(tmp_path / "record.json")}


def test_both_orders_of_qtconsoles_arguments(
    qtconsole: dict[str, str], monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    for name, value in qtconsole.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(qtconsole["PYTHONPATH"])
    path = write_connection_file(runtime / "kernel-1.json")
    calls: list[tuple[tuple[Any, ...], dict[str, Any], list[str]]] = [
        ((path,), {}, []),
        ((path, ["--x"]), {}, ["--x"]),
        ((Path(path), ("--x",)), {}, ["--x"]),
        (("kernel-1.json", None), {}, []),
        ((["--style", "x"], path), {}, ["--style", "x"]),
        ((), {"connection_file": path, "argv": ["--x"]}, ["--x"]),
        ((), {"connection_file": "1"}, []),
        (
            (["--a"], path),
            {"style": "monokai", "no_confirm_exit": True, "font_size": 12, "off": False, "none": None},
            ["--a", "--style=monokai", "--no-confirm-exit", "--font-size=12"],
        ),
    ]
    for args, kwargs, expected in calls:
        process = connect_qtconsole(*args, **kwargs)
        assert isinstance(process, subprocess.Popen)
        assert process.wait(30) == 0
        assert read(qtconsole["RECORD"]) == {"argv": ["--existing", str(path), *expected], "session": True}
    with pytest.raises(OSError):
        connect_qtconsole("none.json")


def test_a_kernel_opens_a_console_on_itself(start: Callable[..., KernelProcess], qtconsole: dict[str, str]) -> None:
    kernel = start(env=qtconsole)
    client = kernel.client()
    client.execute("from minikernel import connect_qtconsole")
    for call, expected in (
        ("connect_qtconsole()", []),
        ("connect_qtconsole(['--style', 'x'])", ["--style", "x"]),
        ("connect_qtconsole(None, ['--x'])", ["--x"]),
        ("connect_qtconsole(argv=['--x'], style='y')", ["--x", "--style=y"]),
    ):
        assert client.execute(f"{call}.wait(30)").result == "0"
        assert read(qtconsole["RECORD"])["argv"] == ["--existing", str(kernel.connection_file), *expected]


def test_without_qtconsole_it_is_an_import_error(start: Any) -> None:
    client = start(without=("qtconsole",)).client()
    code = """
        import minikernel
        try:
            minikernel.connect_qtconsole()
        except ImportError as error:
            print(error.name, error)
    """
    assert client.execute(inspect.cleandoc(code)).text().startswith("qtconsole qtconsole is not installed")


# -- inside of a kernel -----------------------------------------------------------------------------------

ASK = """
import json
from minikernel import get_connection_file, get_connection_info
def ask():
    as_text, as_bytes = get_connection_info(unpack=False), get_connection_info(unpack=True)
    assert json.loads(as_text) == get_connection_info() == {**as_bytes, "key": as_bytes["key"].decode()}
    assert get_connection_info(None, True) == as_bytes
    return json.dumps([get_connection_file(), get_connection_info()])
"""


def test_a_kernel_knows_its_file_everywhere(start: Callable[..., KernelProcess], tmp_path: Path) -> None:
    kernel = start(unknown="field")
    client = kernel.client()
    expected = [str(kernel.connection_file), read(kernel.connection_file)]
    assert expected[1]["unknown"] == "field"

    def check(code: str) -> None:
        run = client.execute(code)
        assert run.status == "ok", run.reply
        assert json.loads(run.text()) == expected

    client.execute(ASK)
    check("print(ask())")
    check("import threading\nt = threading.Thread(target=lambda: print(ask()))\nt.start()\nt.join()")
    check("async def f(): return ask()\nprint(await f())")
    check("import os\nos.mkdir('elsewhere')\nos.chdir('elsewhere')\nprint(ask())")
    client.execute("get_connection_info()['key'] = 'spoilt'")
    kernel.connection_file.unlink()
    check("print(ask())")
    check(
        "r, w = os.pipe()\n"
        "pid = os.fork()\n"
        "if not pid:\n    os.write(w, ask().encode())\n    os._exit(0)\n"
        "os.close(w)\nos.waitpid(pid, 0)\nprint(os.read(r, 65536).decode())"
    )
    ports = client.request("connect_request").reply
    assert {port: ports[port] for port in PORTS} == {port: expected[1][port] for port in PORTS}


# -- a kernel and its file --------------------------------------------------------------------------------


def test_ports_that_are_zero_become_real_and_the_rest_stays(
    launch: Callable[..., Launched], tmp_path: Path
) -> None:
    path = tmp_path / "k.json"
    before = {
        "jupyter_session": "a.ipynb", "kernel_id": None, "nested": {"a": [1]}, "key": "k", "ip": "127.0.0.1",
        "transport": "tcp", "signature_scheme": "hmac-sha256", "kernel_name": "n", **dict.fromkeys(PORTS, 0),
        "control_port": "0",
    }  # fmt: skip
    path.write_text(json.dumps(before))
    client = launch("-f", path, umask=0).at(path)
    after = read(path)
    assert {**after, **dict.fromkeys(PORTS, 0)} == {**before, "control_port": 0}
    assert len({after[port] for port in PORTS}) == 5 and mode(path) == 0o600
    assert (
        client.execute("import minikernel; minikernel.get_connection_info()['jupyter_session']").result
        == "'a.ipynb'"
    )
    ports = client.request("connect_request").reply
    assert {port: ports[port] for port in PORTS} == {port: after[port] for port in PORTS}
    assert client.beats()


@pytest.mark.parametrize("as_string", [False, True])
def test_a_file_that_is_right_is_not_touched(
    launch: Callable[..., Launched], tmp_path: Path, as_string: bool
) -> None:
    path = tmp_path / "k.json"
    fields: dict[str, Any] = {**free_ports(), "key": "k", "ip": "127.0.0.1", "unknown": 1}
    if as_string:
        fields |= {port: str(fields[port]) for port in PORTS}
    path.write_text(json.dumps(fields))
    path.chmod(0o644)
    before = path.stat()
    kernel = launch("-f", path)
    assert kernel.at(path).execute("1").result == "1"
    after = path.stat()
    kernel.end()
    assert path.read_text() == json.dumps(fields)  # nor removed at the end: it is the launcher's
    for name in ("st_ino", "st_mtime_ns", "st_mode"):
        assert getattr(before, name) == getattr(after, name) == getattr(path.stat(), name)


def test_the_command_line_wins_and_is_written(launch: Callable[..., Launched], tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    write_connection_file(path, key="old", unknown=1)
    before, ports = read(path), free_ports()
    kernel = launch("-f", path, f"--shell={ports['shell_port']}", "--Session.key", "new")
    until(lambda: read(path)["key"] == "new")
    assert read(path) == {**before, "shell_port": ports["shell_port"], "key": "new"}
    assert kernel.at(path).execute("1").result == "1"
    kernel.end()
    assert path.exists()


FORMS = {
    "-f FILE": lambda path: ["-f", path],
    "-f=FILE": lambda path: [f"-f={path}"],
    "--f=FILE": lambda path: [f"--f={path}"],
    "--f FILE": lambda path: ["--f", path],
    "--connection-file=FILE": lambda path: [f"--connection-file={path}"],
    "--connection-file FILE": lambda path: ["--connection-file", path],
    '--f="FILE"': lambda path: [f'--f="{path}"'],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_missing_is_made_and_removed(
    launch: Callable[..., Launched], tmp_path: Path, form: str
) -> None:
    path = tmp_path / "a = file.json"
    kernel = launch(*FORMS[form](str(path)), umask=0)
    client = kernel.at(path)
    assert mode(path) == 0o600 and len(read(path)["key"]) >= 32
    assert client.execute("import os, minikernel; os.chdir('/'); minikernel.get_connection_file()").result == repr(
        str(path)
    )
    kernel.end()
    assert not path.exists() and kernel.stderr() == ""


def test_a_bare_name_is_here_or_in_the_runtime_directory(launch: Callable[..., Launched], runtime: Path) -> None:
    write_connection_file("here.json", key="here")
    write_connection_file(runtime / "here.json", key="there")
    write_connection_file(runtime / "there.json", key="there")
    for name, expected in (("here.json", Path("here.json").absolute()), ("there.json", runtime / "there.json")):
        kernel = launch("-f", name)
        client = kernel.at(expected)
        assert client.execute("import minikernel; minikernel.get_connection_file()").result == repr(str(expected))
        kernel.end()  # another file may name the same ports: none of them was taken
    kernel = launch("-f", "new.json")
    assert kernel.at(runtime / "new.json").execute("1").result == "1"
    kernel.end()
    assert not (runtime / "new.json").exists()


def test_without_f_a_file_is_made_and_removed(launch: Callable[..., Launched], runtime: Path) -> None:
    kernel = launch(env={"JPY_PARENT_PID": "", "JUPYTER_RUNTIME_DIR": os.path.relpath(runtime)}, umask=0)
    until(lambda: "--existing" in kernel.stderr())
    (path,) = runtime.iterdir()
    assert kernel.stderr() == f"To attach a console:  jupyter console --existing {path.name}\n"
    assert mode(path) == 0o600 and mode(runtime) == 0o1700
    client = kernel.at(path)
    assert client.execute("import os, minikernel; os.chdir('/'); minikernel.get_connection_file()").result == repr(
        str(path)
    )
    kernel.process.terminate()
    assert kernel.wait() == 0
    assert list(runtime.iterdir()) == []


def test_a_launcher_is_not_told_how_to_attach(launch: Callable[..., Launched], runtime: Path) -> None:
    kernel = launch()
    until(lambda: runtime.exists() and list(runtime.glob("kernel-*.json")))
    kernel.at(next(runtime.glob("kernel-*.json"))).execute("1")
    assert kernel.stderr() == ""


@pytest.mark.parametrize("name", ["kernel-v2-1.json", "with a space.json"])
def test_vs_codes_arguments(launch: Callable[..., Launched], tmp_path: Path, name: str) -> None:
    """VS Code names a file that doesn't exist, and waits for the ports."""
    path, ports = tmp_path / name, free_ports()
    kernel = launch(
        "--ip=127.0.0.1",
        f"--stdin={ports['stdin_port']}",
        f"--control={ports['control_port']}",
        f"--hb={ports['hb_port']}",
        '--Session.signature_scheme="hmac-sha256"',
        '--Session.key=b"6d0f4ed5-3e1a-4f0e-8ea4-8c1b4b0f4b9d"',
        f"--shell={ports['shell_port']}",
        '--transport="tcp"',
        f"--iopub={ports['iopub_port']}",
        f'--f="{path}"' if " " in name else f"--f={path}",
        "--debug",
    )
    assert kernel.at(path).execute("6 * 7").result == "42"
    info = read(path)
    assert {port: info[port] for port in PORTS} == ports
    assert (info["key"], info["ip"], info["transport"]) == (
        "6d0f4ed5-3e1a-4f0e-8ea4-8c1b4b0f4b9d",
        "127.0.0.1",
        "tcp",
    )
    kernel.end()
    assert not path.exists()


def test_what_is_unknown_is_named_and_ignored(launch: Callable[..., Launched], tmp_path: Path) -> None:
    path = write_connection_file(tmp_path / "k.json")
    kernel = launch(
        "script.py", "-f", path, "--IPKernelApp.matplotlib=inline", "--no-stdout", "--log-level", "10",
        "-x", "a b", "--Session.keyfile=secret",
    )  # fmt: skip
    assert kernel.at(path).execute("import sys; sys.argv[1:]").status == "ok"
    (line,) = kernel.stderr().splitlines()
    for name in ("script.py", "--IPKernelApp.matplotlib", "--no-stdout", "--log-level", "-x"):
        assert name in line
    assert line.startswith("[minikernel] ignored: ") and "secret" not in line


def test_a_notebooks_modules_are_not_ours(launch: Callable[..., Launched], tmp_path: Path) -> None:
    path = write_connection_file(tmp_path / "k.json")
    for name in ("json", "zmq", "hmac", "queue", "signal", "threading", "socket", "uuid", "random"):
        Path(f"{name}.py").write_text(f"raise SystemExit('{name} of the notebook')")
    Path("helper.py").write_text("value = 42")
    client = launch("-f", path).at(path)
    assert client.execute("import helper; helper.value").result == "42"
    assert client.execute("import sys; sys.path[0]").result == "''"
    assert client.execute("1/0").ename == "ZeroDivisionError"


def test_a_directory_that_is_gone(launch: Callable[..., Launched], tmp_path: Path) -> None:
    path, gone = write_connection_file(tmp_path / "k.json"), tmp_path / "gone"
    gone.mkdir()
    client = launch("-f", path, cwd=gone, preexec_fn=gone.rmdir).at(path)
    assert client.request("kernel_info_request").status == "ok"
    # A bug of python.interpreter: `_make_main` calls os.getcwd() for _dh, and then no cell can run.
    assert client.execute("1 + 1").result == "2"


def test_ipc(launch: Callable[..., Launched], short: Path) -> None:
    for name, arguments in (("given", []), ("zero", []), ("missing", ["--transport=ipc"])):
        path = short / f"{name}.json"
        if name == "given":
            write_connection_file(path, transport="ipc")
        elif name == "zero":
            path.write_text('{"transport": "ipc", "key": "k", "x": 1}')
        kernel = launch("-f", path, *arguments)
        client = kernel.at(path)
        assert client.execute("1").result == "1" and client.beats()
        assert read(path)["ip"] == f"{short}/{name}-ipc" and len(os.listdir(short)) >= 6
        kernel.end()
    assert set(os.listdir(short)) == {"given.json", "zero.json"}  # and no socket


@pytest.mark.parametrize("scheme", ["hmac-md5", "hmac-sha512", "hmac-blake2s", "hmac-sha3_256"])
def test_any_signature_scheme(start: Callable[..., KernelProcess], scheme: str) -> None:
    assert start(signature_scheme=scheme).client().execute("1").result == "1"


@pytest.mark.parametrize("ip", ["*", "localhost", "::1"])
def test_other_addresses(launch: Callable[..., Launched], tmp_path: Path, ip: str) -> None:
    path = tmp_path / "k.json"
    path.write_text(json.dumps({"ip": ip, "key": "k"}))
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if ip == "::1":
            pytest.skip("no IPv6 here")
    kernel = launch("-f", path)
    kernel.connection_file = path
    until(lambda: read(path).get("shell_port"))
    info = get_connection_info(path)
    context = zmq.Context()
    try:
        hb = context.socket(zmq.REQ)
        hb.linger, hb.ipv6 = 0, ":" in ip
        hb.connect(f"tcp://{'[::1]' if ip == '::1' else '127.0.0.1'}:{info['hb_port']}")
        hb.send(b"beat")
        assert hb.poll(20_000) and hb.recv() == b"beat"
    finally:
        context.destroy(linger=0)


# -- a start that fails -----------------------------------------------------------------------------------


def fails(*arguments: Any, cwd: Path | None = None) -> str:
    """Start a kernel that can't be; return the one line that it says."""
    command = [sys.executable, "-m", "minikernel", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=cwd, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("[minikernel] "), line
    return line


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("", "cannot read the connection file"),
        ("[1]", "cannot read the connection file .*holds no JSON object"),
        ({"shell_port": "five"}, "shell_port is no number: 'five'"),
        ({"shell_port": 70000}, "shell_port is no port: 70000"),
        ({"key": 5}, "key is no text"),
        ({"signature_scheme": "hmac-nope"}, "signature_scheme must be hmac-<hash>, not 'hmac-nope'"),
        ({"signature_scheme": "hmac-"}, "signature_scheme must be hmac-<hash>"),
        ({"ip": "192.0.2.1"}, "cannot bind shell to tcp://192.0.2.1"),
        ({"ip": "no address"}, "cannot bind shell to tcp://no address"),
        ({"transport": "udp"}, "cannot bind shell to udp://127.0.0.1"),
        ({"transport": "ipc", "ip": "x" * 120}, "an ipc path may have"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path: Path, fields: Any, reason: str) -> None:
    path = tmp_path / "k.json"
    text = fields if isinstance(fields, str) else json.dumps({"key": "secret-key"} | fields)
    path.write_text(text)
    line = fails("-f", path)
    assert re.search(reason, line) and "secret-key" not in line
    assert path.read_text() == text


def test_a_place_that_is_wrong_is_one_line(runtime: Path, tmp_path: Path) -> None:
    assert "cannot read the connection file" in fails("-f", tmp_path)
    assert "cannot write the connection file" in fails("-f", tmp_path / "none" / "k.json")
    assert "shell_port is no number: 'five'" in fails("--shell=five")
    assert not runtime.exists()


def test_a_port_in_use_is_one_line_that_names_the_holder(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]
        line = fails("-f", write_connection_file(tmp_path / "k.json", iopub_port=port))
    assert f"cannot bind iopub to tcp://127.0.0.1:{port}: Address already in use" in line
    if sys.platform == "linux":
        assert f"it is held by process {os.getpid()} (" in line
    assert (tmp_path / "k.json").exists()


def test_a_port_that_becomes_free_is_taken(launch: Callable[..., Launched], tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        path = write_connection_file(tmp_path / "k.json", control_port=holder.getsockname()[1])
        kernel = launch("-f", path)
        with pytest.raises(subprocess.TimeoutExpired):
            kernel.wait(1)
    client = kernel.at(path)
    assert client.request("kernel_info_request", channel="control").status == "ok"
    assert kernel.stderr() == ""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["-f", "k.json", "--help"]])
def test_help(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minikernel", *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: minikernel") and "--connection-file" in done.stdout
    assert os.listdir(tmp_path) == []


def test_version() -> None:
    command = [sys.executable, "-m", "minikernel", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{minikernel.__version__}\n", "")
