"""connect_console: a console in a new window of a terminal, whatever terminal there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client import TIMEOUT

import minikernel


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No terminal at all, but what the test puts into this directory."""
    for name in ("TMUX", "TERMINAL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def terminal(directory: Path, name: str) -> Path:
    """Put a terminal there that has no window: it writes down how it was called."""
    path, called = directory / name, directory / f"{name}.called"
    script = (
        f"#!{sys.executable}\nimport os, sys\nopen({str(called) + '~'!r}, 'w').write('\\n'.join(sys.argv[1:]))\n"
    )
    path.write_text(f"{script}os.replace({str(called) + '~'!r}, {str(called)!r})\n")
    path.chmod(0o700)
    return called


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TIMEOUT * 2
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return condition()


def command(path: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "jupyter_console", "--existing", path, *more]


@pytest.fixture
def tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """A tmux server with one session, in which this process is from now on; a function that talks to it."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    name = f"minikernel-{os.urandom(4).hex()}"

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", name, "-f", os.devnull, *arguments], capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    monkeypatch.setenv("NO_COLOR", "1")
    run("new-session", "-d", "-x", "120", "-y", "40", "cat")
    try:
        monkeypatch.setenv("TMUX", run("display-message", "-p", "#{socket_path},#{pid},0"))
        yield run
    finally:
        run("kill-server")


@pytest.mark.timeout(120)
def test_a_window_of_tmux(tmux: Callable[..., str], start: Any) -> None:
    kernel = start()
    client = kernel.client()
    client.execute("secret = 6")
    opener = minikernel.connect_console(str(kernel.connection_file))
    assert opener.wait(TIMEOUT) == 0
    assert len(tmux("list-windows").splitlines()) == 2
    wait_for(lambda: "In [" in tmux("capture-pane", "-p"))
    tmux("send-keys", "secret * 7", "Enter")
    wait_for(lambda: "]: 42" in tmux("capture-pane", "-p"))
    assert client.execute("secret").result == "6"
    wait_for(lambda: re.search(r"In \[\d+\]:\s*$", tmux("capture-pane", "-p").split("]: 42")[-1]))
    tmux("send-keys", "C-d")  # at a prompt: before it nobody listens
    wait_for(lambda: "[y]/n" in tmux("capture-pane", "-p"))
    tmux("send-keys", "y", "Enter")
    wait_for(lambda: len(tmux("list-windows").splitlines()) == 1)
    assert client.execute("secret").result == "6"


def test_a_window_from_a_cell(tmux: Callable[..., str], start: Any) -> None:
    client = start(env={"TMUX": os.environ["TMUX"]}).client()
    run = client.execute("import minikernel; minikernel.connect_console().wait()")
    assert run.result == "0", run.reply
    assert len(tmux("list-windows").splitlines()) == 2


def test_a_tmux_that_has_gone_is_no_terminal(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmux = nowhere / "tmux"
    tmux.write_text("#!/bin/sh\nexit 1\n")
    tmux.chmod(0o700)
    monkeypatch.setenv("TMUX", "gone,1,0")
    path, _ = minikernel.write_connection_file(tmp_path / "k.json")
    with pytest.raises(RuntimeError, match="there is no terminal"):
        minikernel.connect_console(path)


@pytest.mark.parametrize(
    ("name", "variable", "separator"),
    [
        ("x-terminal-emulator", "", ["-e"]),
        ("xterm", "", ["-e"]),
        ("own", "own --fast", ["--fast", "-e"]),
        ("gnome-terminal", "gnome-terminal", ["--"]),
    ],
)
def test_a_terminal_of_the_desktop(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str, separator: list[str]
) -> None:
    called = terminal(nowhere, name)
    path, _ = minikernel.write_connection_file(tmp_path / "k.json")
    monkeypatch.setenv("TERMINAL", variable)
    with pytest.raises(RuntimeError):
        minikernel.connect_console(path)  # there is no display
    monkeypatch.setenv("DISPLAY", ":0")
    assert minikernel.connect_console(path, ["--debug"], simple_prompt=True).wait(TIMEOUT) == 0
    arguments = wait_for(called.exists) and called.read_text().split("\n")
    assert arguments == [*separator, *command(path, "--debug", "--simple-prompt")]


def test_no_terminal_is_a_command_to_type(nowhere: Path, tmp_path: Path) -> None:
    path, _ = minikernel.write_connection_file(tmp_path / "a b.json")
    with pytest.raises(RuntimeError, match=rf"type:  .* -m jupyter_console --existing '{path}'"):
        minikernel.connect_console(path)


def test_what_else_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="not in a running kernel"):
        minikernel.connect_console()
    with pytest.raises(OSError, match="could not find"):
        minikernel.connect_console(tmp_path / "none.json")
    path, _ = minikernel.write_connection_file(tmp_path / "k.json")
    monkeypatch.setitem(sys.modules, "jupyter_console", None)
    with pytest.raises(ImportError, match="pip install jupyter_console"):
        minikernel.connect_console(path)
