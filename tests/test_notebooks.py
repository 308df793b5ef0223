"""Notebooks and scripts that run without a page: nbclient, jupyter execute, jupyter run, nbconvert, papermill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.usefixtures("kernelspec")

METADATA = {"kernelspec": {"name": "minikernel", "display_name": "Python 3 (minikernel)", "language": "python"}}
CELLS = ("x = 20", "print('out')\nx + 1", "await __import__('asyncio').sleep(0, 3)")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def notebook(*cells: str) -> Any:
    return new_notebook(metadata=METADATA, cells=[new_code_cell(cell) for cell in cells])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program of Jupyter's, ``python -m ...``, in `tmp_path`."""

    def run(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
            stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def execute(*cells: str, **options: Any) -> Any:
    """Run cells by nbclient."""
    book = notebook(*cells)
    NotebookClient(book, **{"kernel_name": "minikernel", "timeout": 60} | options).execute()
    return book


def check(book: Any) -> None:
    """What `CELLS` give."""
    first, second, third = (cell for cell in book.cells if cell.source in CELLS)
    assert first.outputs == []
    *streams, result = second.outputs  # a print may take more than one message
    assert ["".join(stream.text for stream in streams), result.data["text/plain"]] == ["out\n", "21"]
    assert third.outputs[0].data["text/plain"] == "3"
    assert third.execution_count == second.execution_count + 1 == first.execution_count + 2
    assert book.metadata.language_info.name == "python"


# -- nbclient --------------------------------------------------------------------------------------------


def test_nbclient() -> None:
    check(execute(*CELLS))


def test_outputs_that_change() -> None:
    """nbclient keeps a display's last state in each cell that shows it, and obeys clear_output."""
    book = execute(
        "h = display('one', display_id=True)",
        "h.update('two')",
        "import minikernel\nprint('gone')\nminikernel.clear_output()\nprint('there')",
    )
    assert [[output.get("data", output) for output in cell.outputs] for cell in book.cells[:2]] == [
        [{"text/plain": "'two'"}], []
    ]  # fmt: skip
    assert [output.text for output in book.cells[2].outputs] == ["there\n"]


def test_a_cell_that_fails() -> None:
    book = notebook("print('before')", "def f():\n    1 / 0", "f()", "print('never')")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        NotebookClient(book, kernel_name="minikernel").execute()
    (error,) = book.cells[2].outputs
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert "1 / 0" in "\n".join(error.traceback)
    assert book.cells[3].outputs == []
    book = execute("1 / 0", "print('on')", allow_errors=True)
    assert book.cells[0].outputs[0].ename == "ZeroDivisionError" and book.cells[1].outputs[0].text == "on\n"


def test_a_cell_that_takes_too_long_is_interrupted() -> None:
    options = {"interrupt_on_timeout": True, "allow_errors": True, "timeout": 1}
    book = execute("import time\ntime.sleep(60)", "print('on')", **options)
    assert book.cells[0].outputs[-1].ename == "KeyboardInterrupt"
    assert book.cells[1].outputs[0].text == "on\n"
    with pytest.raises(CellTimeoutError):
        execute("import time\ntime.sleep(60)", timeout=1)


def test_there_is_nobody_to_ask() -> None:
    assert execute("input()", allow_errors=True).cells[0].outputs[0].ename == "StdinNotImplementedError"


def test_the_state_of_widgets_is_kept() -> None:
    pytest.importorskip("ipywidgets")
    book = execute("import ipywidgets\nipywidgets.IntSlider(value=7)")
    mime = "application/vnd.jupyter.widget-view+json"
    model = book.cells[0].outputs[0].data[mime]["model_id"]
    state = book.metadata.widgets["application/vnd.jupyter.widget-state+json"].state[model]
    assert (state.model_name, state.state.value) == ("IntSliderModel", 7)


# -- programs ---------------------------------------------------------------------------------------------


def test_jupyter_execute(run: Run, tmp_path: Path) -> None:
    nbformat.write(notebook(*CELLS), tmp_path / "book.ipynb")
    run("jupyter", "execute", "book.ipynb", "--inplace", "--kernel_name=minikernel")
    check(nbformat.read(tmp_path / "book.ipynb", as_version=4))


def test_jupyter_run_passes_its_script_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('ran', 6 * 7)\n")
    assert "ran 42" in run("jupyter", "run", "--kernel=minikernel", "script.py").stdout


def test_jupyter_run_of_a_script_that_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('before')\n1 / 0\n")
    done = run("jupyter", "run", "--kernel=minikernel", "script.py", status=1)
    assert "before" in done.stdout and "ZeroDivisionError: division by zero" in done.stdout + done.stderr


def test_nbconvert(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("nbconvert")
    book = notebook(*CELLS)
    book.cells.insert(0, new_markdown_cell("# A title"))
    nbformat.write(book, tmp_path / "book.ipynb")
    run("nbconvert", "--execute", "--to=notebook", "--output=done.ipynb", "book.ipynb")
    check(nbformat.read(tmp_path / "done.ipynb", as_version=4))
    run("nbconvert", "--to=script", "done.ipynb")
    script = (tmp_path / "done.py").read_text()
    assert "# # A title" in script and "x + 1" in script and "Out" not in script


def test_nbconvert_of_a_cell_that_fails(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("nbconvert")
    nbformat.write(notebook("1 / 0"), tmp_path / "book.ipynb")
    done = run("nbconvert", "--execute", "--to=html", "book.ipynb", status=1)
    assert "ZeroDivisionError: division by zero" in done.stderr and not (tmp_path / "book.html").exists()
    run("nbconvert", "--execute", "--allow-errors", "--to=html", "book.ipynb")
    assert "division by zero" in (tmp_path / "book.html").read_text()


def test_papermill(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("papermill")
    book = notebook("number, name, flags = 1, 'nobody', None", "print(name, number * 2, flags)")
    book.cells[0].metadata.tags = ["parameters"]
    nbformat.write(book, tmp_path / "book.ipynb")
    run(
        "papermill",
        "book.ipynb",
        "done.ipynb",
        "-p",
        "number",
        "21",
        "-r",
        "name",
        "it's",
        "-y",
        "flags: [true, null]",
    )
    done = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    assert [cell.execution_count for cell in done.cells] == [1, 2, 3]
    assert done.cells[1].metadata.tags == ["injected-parameters"]
    assert done.cells[2].outputs[0].text == "it's 42 [True, None]\n"
    assert done.metadata.papermill.exception is None


def test_papermill_of_a_cell_that_fails(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("papermill")
    nbformat.write(notebook("print('before')", "1 / 0", "print('never')"), tmp_path / "book.ipynb")
    done = run("papermill", "-k", "minikernel", "book.ipynb", "done.ipynb", status=1)
    assert "ZeroDivisionError: division by zero" in done.stderr
    cells = [c for c in nbformat.read(tmp_path / "done.ipynb", as_version=4).cells if c.cell_type == "code"]
    assert cells[0].outputs[0].text == "before\n"
    assert cells[1].outputs[0].ename == "ZeroDivisionError" and "1 / 0" in "\n".join(cells[1].outputs[0].traceback)
    assert cells[2].outputs == []
