"""Kernelspecs: installing, removing and listing them, and what a wheel brings along."""

from __future__ import annotations

import configparser
import email
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import TIMEOUT
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent.parent
FILES = {"kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command line where Jupyter's directories are below `tmp_path`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "CONDA"))}
    environment["JUPYTER_DATA_DIR"] = str(tmp_path / "user")

    def run(*arguments: str | Path, python: str = sys.executable, status: int = 0, **options: Any) -> Any:
        env = environment | options.pop("env", {})
        done = subprocess.run(
            [python, "-m", "minikernel", *map(str, arguments)],
            capture_output=True, text=True, timeout=TIMEOUT, cwd=tmp_path, env=env, **options,
        )  # fmt: skip
        assert done.returncode == status, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


def kernels(prefix: Path) -> Path:
    return prefix / "share" / "jupyter" / "kernels"


def spec(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "kernel.json").read_text(encoding="utf-8"))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def ask(directory: Path, name: str, code: str) -> str:
    """Start an installed kernel as a frontend does, and return the text of an expression's value."""
    specs = KernelSpecManager(kernel_dirs=[str(directory)], ensure_native_kernel=False)
    manager = KernelManager(kernel_name=name, kernel_spec_manager=specs)
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=TIMEOUT)
        content = client.execute(code, user_expressions={"it": code}, reply=True, timeout=TIMEOUT)["content"]
        return content["user_expressions"]["it"]["data"]["text/plain"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_install_into_a_prefix(run: Run, tmp_path: Path) -> None:
    target = kernels(tmp_path / "p") / "minikernel"
    done = run("install", "--prefix", tmp_path / "p")
    assert done.stdout.startswith(f"installed {target}\n") and not done.stderr
    assert names(target) == FILES and names(target.parent) == {"minikernel"}
    source = spec(ROOT / "kernelspec")
    assert spec(target) == source | {"argv": [sys.executable, *source["argv"][1:]]}
    for logo in FILES - {"kernel.json"}:
        assert (target / logo).read_bytes() == (ROOT / "kernelspec" / logo).read_bytes()


def test_install_for_the_user_under_a_name(run: Run, tmp_path: Path) -> None:
    run("install", "--user", "--name", "Mine.2", "--env", "A=1=2", "--env", "B", "x y", "--env", "A=3=4")
    mine = spec(tmp_path / "user" / "kernels" / "mine.2")
    assert mine["display_name"] == "Python 3 (mine.2)"
    assert mine["env"] == {"A": "3=4", "B": "x y"}
    run("install", "--user", "--name", "mine.2", "--display-name", "Größe")
    mine = spec(tmp_path / "user" / "kernels" / "mine.2")
    assert mine["display_name"] == "Größe" and "env" not in mine


@pytest.mark.parametrize("environment", [True, False])
def test_default_location(run: Run, tmp_path: Path, environment: bool) -> None:
    """An environment's own directory inside of one, the user's outside."""
    if environment:
        venv.create(tmp_path / "venv", symlinks=os.name != "nt")
        python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        target = kernels(tmp_path / "venv") / "minikernel"
    elif os.name == "nt":
        pytest.skip("no Python outside of a virtual environment is known")
    else:
        python = Path(sys.executable).resolve()
        target = tmp_path / "user" / "kernels" / "minikernel"
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(os.path.isdir, sys.path)])}
    run("install", python=str(python), env=path)
    assert spec(target)["argv"][0] == str(python)
    assert f"* minikernel  {target}\n" in run("list", python=str(python), env=path).stdout
    run("uninstall", python=str(python), env=path)
    assert not target.exists()


def test_installing_again_replaces_the_whole_directory(run: Run, tmp_path: Path) -> None:
    directory = kernels(tmp_path)
    for old in ("minikernel", "linked"):
        (directory / old).mkdir(parents=True)
        (directory / old / "left.over").touch()
    os.rename(directory / "linked", tmp_path / "elsewhere")
    if os.name != "nt":
        (directory / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("minikernel", "linked"):
        run("install", "--prefix", tmp_path, "--name", name)
        assert names(directory / name) == FILES and not (directory / name).is_symlink()
    assert names(directory) == {"minikernel", "linked"}
    assert (tmp_path / "elsewhere" / "left.over").exists()  # what a link led to is not ours to remove


def test_uninstall(run: Run, tmp_path: Path) -> None:
    run("install", "--prefix", tmp_path, "--name", "a")
    run("install", "--prefix", tmp_path, "--name", "b")
    done = run("uninstall", "--prefix", tmp_path, "--name", "A")
    assert str(kernels(tmp_path) / "a") in done.stdout
    assert names(kernels(tmp_path)) == {"b"}
    done = run("uninstall", "--prefix", tmp_path, "--name", "a", status=1)
    assert "there is no such kernel" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ['{"argv": ["python", "-m", "ipykernel"]}', '{"argv": 3}', "[]", "{"])
def test_uninstall_leaves_other_kernels_alone(run: Run, tmp_path: Path, text: str) -> None:
    (kernels(tmp_path) / "other").mkdir(parents=True)
    (kernels(tmp_path) / "other" / "kernel.json").write_text(text)
    done = run("uninstall", "--prefix", tmp_path, "--name", "other", status=1)
    assert "not minikernel's" in done.stderr and done.stderr.count("\n") == 1
    assert names(kernels(tmp_path)) == {"other"}


def test_list_shows_the_first_of_a_name(run: Run, tmp_path: Path) -> None:
    for place in ("one", "two"):
        run("install", "--prefix", tmp_path / place, "--name", "twice")
    run("install", "--user", "--name", "mine")
    other = kernels(tmp_path / "one") / "Other"
    other.mkdir()
    (other / "kernel.json").write_text('{"argv": ["other"]}')
    (kernels(tmp_path / "one") / "nothing").mkdir()
    both = os.pathsep.join(str(tmp_path / place / "share" / "jupyter") for place in ("one", "none", "two"))
    lines = run("list", env={"JUPYTER_PATH": both}).stdout.splitlines()
    found = {line[2:].split(None, 1)[0]: (line[0], line[2:].split(None, 1)[1]) for line in lines}
    assert found["twice"] == ("*", str(kernels(tmp_path / "one") / "twice"))
    assert found["mine"] == ("*", str(tmp_path / "user" / "kernels" / "mine"))
    assert found["other"] == (" ", str(other))
    assert "nothing" not in found


def test_install_tells_where_jupyter_looks(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "share" / "jupyter"
    done = run("install", "--prefix", tmp_path, "--name", "x")
    assert f"note: Jupyter looks there only with JUPYTER_PATH={data}\n" in done.stdout
    first = {"JUPYTER_PATH": str(data)}
    assert "note" not in run("install", "--prefix", tmp_path, "--name", "x", env=first).stdout
    hidden = f"note: from here, Jupyter finds {kernels(tmp_path) / 'x'}\n"
    assert hidden in run("install", "--user", "--name", "x", env=first).stdout
    assert hidden in run("uninstall", "--user", "--name", "x", env=first).stdout
    assert "note" not in run("install", "--user", "--name", "x").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["install", "--name", "a b"], "argument --name: 'a b'"),
        (["install", "--name", "../up"], "argument --name: '../up'"),
        (["uninstall", "--name", ".."], "argument --name: '..'"),
        (["install", "--name", "x\n"], "argument --name: "),
        (["install", "--name", ""], "argument --name: ''"),
        (["install", "--user", "--prefix", "p"], "not allowed with argument --user"),
        (["uninstall", "--sys-prefix", "--system"], "not allowed with argument --sys-prefix"),
        (["install", "--env", "K"], "argument --env: expected K=V or K V, got 'K'"),
        (["install", "--env", "K=V", "W"], "argument --env: expected K=V or K V, got 'K=V W'"),
        (["install", "--env", "=V"], "argument --env: expected K=V or K V, got '=V'"),
        (["list", "--user"], "unrecognized arguments: --user"),
    ],
)
def test_bad_usage(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments, status=2)
    assert message in done.stderr.splitlines()[-1]
    assert not done.stdout and not names(tmp_path)


def test_a_prefix_that_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("install", "--prefix", tmp_path / "file", status=1)
    assert re.fullmatch(r"cannot install .*minikernel: .+\n", done.stderr) and not done.stdout


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_read_only_prefix(run: Run, tmp_path: Path, command: str) -> None:
    run("install", "--prefix", tmp_path, "--env", "OLD=1")
    kernels(tmp_path).chmod(0o555)
    if os.access(kernels(tmp_path), os.W_OK):
        pytest.skip("root may write everywhere, and so may anybody on Windows")
    try:
        done = run(command, "--prefix", tmp_path, status=1)
    finally:
        kernels(tmp_path).chmod(0o755)
    assert "Permission denied; try --user or --prefix" in done.stderr and done.stderr.count("\n") == 1
    assert spec(kernels(tmp_path) / "minikernel")["env"] == {"OLD": "1"}


def test_an_installed_kernel_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.chdir(tmp_path)
    run("install", "--prefix", tmp_path, "--name", "real", "--env", "GREETING=hello world")
    value = ask(kernels(tmp_path), "real", "1 + 1, __import__('os').environ['GREETING']")
    assert value == "(2, 'hello world')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (path,) = directory.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_brings_the_kernelspec(wheel: zipfile.ZipFile) -> None:
    contents = {name.partition("/")[2]: name for name in wheel.namelist() if ".data/" in name}
    assert set(contents) == {f"data/share/jupyter/kernels/minikernel/{name}" for name in FILES}
    shipped = json.loads(wheel.read(contents["data/share/jupyter/kernels/minikernel/kernel.json"]))
    # jupyter_client replaces exactly this word by the Python that it runs on itself
    assert shipped["argv"] == ["python", "-m", "minikernel", "-f", "{connection_file}"]
    assert shipped["language"] == "python" and shipped["interrupt_mode"] == "signal"


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    required = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert sorted(re.split(r"[<>=]", r)[0].replace("-", "_") for r in required) == [
        "jupyter_core",
        "pyzmq",
        "tornado",
    ]
    assert metadata["Requires-Python"] == ">=3.10"
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == {"minikernel": "minikernel.__main__:main"}
    assert "minikernel/py.typed" in wheel.namelist()
    assert not [name for name in wheel.namelist() if "test" in name or name.endswith(".pyc")]


def test_install_from_a_wheel(wheel: zipfile.ZipFile, run: Run, tmp_path: Path) -> None:
    """As ``pip install --target`` leaves it: the package alone, in whatever directory."""
    wheel.extractall(tmp_path / "target")
    run("install", "--prefix", tmp_path / "p", env={"PYTHONPATH": str(tmp_path / "target")})
    assert names(kernels(tmp_path / "p") / "minikernel") == FILES
    for name in FILES:  # nothing of the source tree can have been used
        (tmp_path / "target" / "minikernel" / "kernelspec" / name).unlink()
    done = run("install", "--prefix", tmp_path / "p", env={"PYTHONPATH": str(tmp_path / "target")}, status=1)
    assert "lacks" in done.stderr
