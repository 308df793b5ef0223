"""Real frontends on the installed kernelspec: jupyter_kernel_test, console, run, nbclient."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import nbformat
import pexpect
import pytest
from client import Client
from nbclient import NotebookClient

import minikernel

pytestmark = pytest.mark.usefixtures("kernelspec")


@pytest.fixture(scope="module")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the kernel where all clients of these tests look, under its own name."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(data))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "")
        from minikernel.tools.install import main

        assert main(["install", "--user"]) == 0
        yield


@pytest.mark.usefixtures("kernelspec")
class KernelTests(jupyter_kernel_test.KernelTests):
    kernel_name = "minikernel"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [  # noqa: RUF012
        {"text": "zi", "matches": {"zip"}},
        {"text": "import sys; int.from_b", "matches": {"from_bytes"}},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]  # noqa: RUF012
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]  # noqa: RUF012
    invalid_code_samples = ["import = 7q", "a b"]  # noqa: RUF012
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result = [  # noqa: RUF012
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [  # noqa: RUF012
        {"code": "display('x')", "mime": "text/plain"},
        {"code": "class H:\n    def _repr_html_(self): return '<b>'\ndisplay(H())", "mime": "text/html"},
        {"code": "class S:\n    def _repr_svg_(self): return '<svg/>'\ndisplay(S())", "mime": "image/svg+xml"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "import minikernel; minikernel.clear_output()"


# -- jupyter console, in a terminal ---------------------------------------------------------------------


class Console:
    """``jupyter console`` on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "jupyter_console", "--ZMQTerminalInteractiveShell.simple_prompt=True", *arguments],
            encoding="utf-8", timeout=30, dimensions=(50, 120), env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        )  # fmt: skip

    def prompt(self, number: int) -> None:
        self.child.expect(rf"In ?\[{number}\]: ")

    def type(self, line: str) -> None:
        self.child.sendline(line)

    def expect(self, pattern: str) -> re.Match[str]:
        self.child.expect(pattern)
        match: Any = self.child.match
        return match

    def interrupt(self) -> None:
        self.child.sendintr()

    def end(self) -> None:
        self.child.sendeof()
        if self.child.expect([r"\[y\]/n|\(\[y\]/n\)|exit", pexpect.EOF]) == 0:
            self.child.sendline("y")
            self.child.expect(pexpect.EOF)
        self.child.close()


@pytest.fixture
def console() -> Iterator[Any]:
    consoles: list[Console] = []

    def start(*arguments: str) -> Console:
        consoles.append(Console(*arguments))
        return consoles[-1]

    yield start
    for each in consoles:
        each.child.close(force=True)


@pytest.mark.timeout(120)
def test_jupyter_console(console: Any) -> None:
    shell = console("--kernel", "minikernel")
    shell.prompt(1)
    shell.type("1+1")
    shell.expect(r"Out\[1\]: 2")
    shell.prompt(2)
    shell.type("print('x' + input('who? '))")
    shell.expect(r"who\? ")
    shell.type("me")
    shell.expect("xme")
    shell.prompt(3)
    shell.type("1/0")
    shell.expect("ZeroDivisionError: division by zero")
    endless = ["time.sleep(30)", "exec('while True: pass')", "await asyncio.sleep(30)"]
    for number, code in enumerate(endless, 4):
        shell.prompt(number)
        shell.type("import asyncio, time; print('g' + 'o', flush=True); " + code)
        shell.expect("go")
        shell.interrupt()
        shell.expect("KeyboardInterrupt")
    shell.prompt(7)
    shell.type("import os; os.getpid()")
    pid = int(shell.expect(r"Out\[\d+\]: (\d+)")[1])
    shell.end()
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.05)


@pytest.mark.timeout(120)
def test_a_second_console(console: Any, start: Any) -> None:
    kernel = start()
    client: Client = kernel.client()
    client.execute("x = 'from the first'")
    shell = console("--existing", str(kernel.connection_file))
    shell.expect(r"In ?\[\d+\]: ")
    shell.type("x")
    shell.expect("from the first")
    shell.end()
    assert client.execute("x").result == "'from the first'"


# -- notebooks and scripts -------------------------------------------------------------------------------


def test_nbclient(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(code)
            for code in ("x = 20", "print('out')\nx + 1", "await __import__('asyncio').sleep(0, 3)")
        ]
    )
    NotebookClient(notebook, kernel_name="minikernel", timeout=60).execute(cwd=str(tmp_path))
    assert notebook.cells[1].outputs[0].text == "out\n"
    assert notebook.cells[1].outputs[1].data["text/plain"] == "21"
    assert notebook.cells[2].outputs[0].data["text/plain"] == "3"
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert notebook.metadata.language_info.name == "python"


def test_jupyter_run_passes_its_script_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('ran', 6 * 7)\n")
    output = pexpect.run(
        f"{sys.executable} -m jupyter_client.runapp --kernel minikernel {script}", timeout=60, encoding="utf-8"
    )
    assert "ran 42" in output


def test_the_version_is_the_packages() -> None:
    assert minikernel.__version__
