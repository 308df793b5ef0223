"""Consoles, used by hand: jupyter console and euporie in a terminal, qtconsole on an X display."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pexpect
import pyte
import pytest
from client import TIMEOUT, KernelProcess, alive, kill

pytestmark = [pytest.mark.usefixtures("kernelspec"), pytest.mark.timeout(120)]

#: Alt-Enter runs a cell without asking whether it is complete.  jupyter_console 6.6.3 takes the idle of what it has
#: asked for the cell's if the cell's busy takes longer than 50 ms, and then shows and asks nothing until the reply.
RUN = "\x1b\r"
TAB, ENTER, UP, CTRL_C, CTRL_D = "\t", "\r", "\x1b[A", "\x03", "\x04"


class Terminal:
    """A program in a terminal: what is on the screen, and a keyboard."""

    def __init__(self, *command: str, **env: str) -> None:
        self.screen = pyte.Screen(110, 40)
        self.stream = pyte.ByteStream(self.screen)
        self.child = pexpect.spawn(
            sys.executable, ["-m", *command], dimensions=(40, 110), timeout=TIMEOUT,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **env},
        )  # fmt: skip
        # a program asks its terminal where the cursor is
        self.screen.write_process_input = self.child.send

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def see(self, pattern: str, timeout: float = 2 * TIMEOUT) -> re.Match[str]:
        """Wait until the screen shows `pattern`."""
        deadline = time.monotonic() + timeout
        while (match := re.search(pattern, self.text, re.M)) is None:
            assert time.monotonic() < deadline, f"{pattern} is not in\n{self.text}"
            try:
                self.stream.feed(self.child.read_nonblocking(1 << 16, timeout=0.2))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                pytest.fail(f"ended without {pattern}:\n{self.text}")
        return match

    def end(self) -> None:
        """Wait for the program's end."""
        self.child.expect(pexpect.EOF)
        self.child.wait()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*command: str, **env: str) -> Terminal:
        terminals.append(Terminal(*command, **env))
        return terminals[-1]

    yield start
    for each in terminals:
        kill(each.child)


def prompt(number: int) -> str:
    """The empty prompt of a cell, the last on the screen."""
    return rf"In \[{number}\]:\Z"


def gone(pid: int) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


# -- jupyter console --------------------------------------------------------------------------------------


def test_jupyter_console(terminal: Callable[..., Terminal]) -> None:
    console = terminal("jupyter", "console", "--kernel=minikernel", PAGER="cat")
    console.see(prompt(1))
    assert "minikernel" in console.text
    console.type("1+1" + RUN)
    console.see(r"^Out\[1\]: 2$")
    console.see(prompt(2))
    console.type("print('x' + input('who? '))" + RUN)
    console.see(r"^who\?\Z")
    console.type("me" + ENTER)
    console.see("^xme$")
    console.see(prompt(3))
    console.type("1/0" + RUN)
    console.see("^ZeroDivisionError: division by zero$")
    console.see(prompt(4))
    console.type("def twice(n): return n * 2" + RUN)
    console.see(prompt(5))
    console.type("import os; os.getp" + TAB)
    console.see(r"^ +getpgid +getppid$")
    console.type("id; twice(os.getpi" + TAB)
    console.see(r"os\.getpid; twice\(os\.getpid\Z")
    console.type("())" + RUN)
    pid = int(console.see(r"^Out\[5\]: (\d+)$")[1]) // 2
    console.see(prompt(6))
    console.type("zip?" + RUN)
    console.see(r"zip\(\*iterables, strict=False\)")
    console.see(prompt(7))
    console.type("exit()" + RUN)
    console.end()
    assert gone(pid)


def test_an_indent(terminal: Callable[..., Terminal]) -> None:
    """It is that of is_complete_reply."""
    patience = f"--ZMQTerminalInteractiveShell.kernel_is_complete_timeout={2 * TIMEOUT}"
    console = terminal("jupyter", "console", patience, "--kernel=minikernel")
    console.see(prompt(1))
    console.type("def twice(n):" + ENTER)
    console.see(r"^ +\.\.\.:\Z")
    console.type("return n * 2" + ENTER + ENTER)
    console.see(r"^   \.\.\.:     return n \* 2$")
    console.see(prompt(2))


def test_ctrl_c(terminal: Callable[..., Terminal]) -> None:
    console = terminal("jupyter", "console", "--kernel=minikernel")
    console.see(prompt(1))
    console.type("import asyncio, time" + RUN)
    endless = ["time.sleep(60)", "exec('while True: pass')", "await asyncio.sleep(60)", "input()"]
    for number, code in enumerate(endless, 2):
        console.see(prompt(number))
        console.type(f"print('go', {number}, flush=True); {code}" + RUN)
        console.see(f"^go {number}$")
        console.type(CTRL_C)
        console.see(r"^KeyboardInterrupt(.*\n)+.*" + prompt(number + 1))
    console.type("6*7" + RUN)
    console.see(r"^Out\[6\]: 42$")


def test_arrow_up_reaches_the_last_session(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    for number in (1, 2):
        console = terminal(
            "jupyter", "console", "--kernel=minikernel", MINIKERNEL_HISTORY=str(tmp_path / "h.sqlite")
        )
        console.see(prompt(1))
        console.type("print('session', 'one')" if number == 1 else UP)
        console.see(r"^In \[1\]: print\('session', 'one'\)\Z")
        console.type(RUN)
        console.see("^session one$")
        console.see(prompt(2))
        console.type(CTRL_D)
        console.see("exit")
        console.type("y" + ENTER)
        console.end()


def test_a_second_console(terminal: Callable[..., Terminal], start: Callable[..., KernelProcess]) -> None:
    kernel = start()
    client = kernel.client()
    client.execute("x = 'from the first'")
    console = terminal("jupyter", "console", "--existing", str(kernel.connection_file))
    console.see(r"^In \[\d+\]:\Z")
    console.type("y = x.upper(); y" + RUN)
    console.see("FROM THE FIRST")
    assert client.execute("y").result == "'FROM THE FIRST'"
    console.type("exit()" + RUN)
    console.end()
    assert client.execute("y").result == "'FROM THE FIRST'"  # the other frontend keeps its kernel


def test_sockets_that_are_files(terminal: Callable[..., Terminal], kernelspec: Path) -> None:
    console = terminal("jupyter", "console", "--transport=ipc", "--kernel=minikernel")
    console.see(prompt(1))
    console.type("6*7" + RUN)
    console.see(r"^Out\[1\]: 42$")
    assert [path for path in (kernelspec / "runtime").iterdir() if path.is_socket()]
    console.type("exit()" + RUN)
    console.end()
    assert [path for path in (kernelspec / "runtime").iterdir() if path.is_socket()] == []


# -- euporie ----------------------------------------------------------------------------------------------


def test_euporie(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """euporie 2.10 takes no answers to input(), be it ipykernel's."""
    pytest.importorskip("euporie")
    console = terminal("euporie.console", "--kernel-name=minikernel", HOME=str(tmp_path))
    console.see(r"In \[1\]:")
    console.type("1/0" + ENTER)
    console.see("ZeroDivisionError: division by zero")
    console.type("import time; print('g' + 'o'); time.sleep(60)" + ENTER)
    console.see("^ *go$")
    console.type(CTRL_C)
    console.see("^ *KeyboardInterrupt")
    console.type("6*7" + ENTER)
    console.see(r"Out\[3\]: +42")


# -- qtconsole --------------------------------------------------------------------------------------------


@pytest.fixture
def display() -> Iterator[str]:
    """The name of an X display of this test's own."""
    for module in ("qtconsole", "PySide6"):
        if find_spec(module) is None:  # importing Qt is not for this process
            pytest.skip(f"{module} is not installed")
    for program in ("Xvfb", "xdotool"):
        if which(program) is None:
            pytest.skip(f"{program} is not installed")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp", "-screen", "0", "1000x800x24"],
        pass_fds=[write], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with open(read) as numbers:
        number = numbers.readline().strip()
    try:
        assert number, "Xvfb has not started"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(TIMEOUT)


@pytest.mark.display
def test_qtconsole(start: Callable[..., KernelProcess], display: str) -> None:
    environment = {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
    client = start(env=environment).client()

    def heard(msg_type: str) -> dict[str, Any]:
        """What the console has caused, not we."""
        return client.wait_for(
            "iopub",
            lambda m: m["msg_type"] == msg_type and m["parent_header"].get("msg_type") == "execute_request"
            and m["parent_header"]["session"] != client.session.session,
        )["content"]  # fmt: skip

    def xdotool(*arguments: str) -> None:
        subprocess.run(["xdotool", *arguments], env={**os.environ, **environment}, timeout=2 * TIMEOUT, check=True)

    def enter(line: str) -> None:
        """Type a line, and again when the window had not yet got the keyboard with its first letters."""
        for _ in range(5):
            xdotool("type", line)
            xdotool("key", "Return")
            try:
                if heard("execute_input")["code"] == line:
                    return
            except TimeoutError:
                pass
        pytest.fail(line)

    client.execute("import minikernel; console = minikernel.connect_qtconsole()")
    heard("status")  # of the empty request that numbers the first prompt
    xdotool("search", "--sync", "--onlyvisible", "--name", "QtConsole", "windowfocus", "--sync")
    enter("pass")
    enter("x = [n * n for n in range(7)]; x")
    assert heard("execute_result")["data"]["text/plain"] == "[0, 1, 4, 9, 16, 25, 36]"
    assert client.execute("x[-1], console.poll()").result == "(36, None)"
    enter("exit()")
    assert client.execute("console.wait(20)").result == "0"
