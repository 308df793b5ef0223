"""What the README says is what happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import book
import pytest
from frontends_table import FRONTENDS

import minikernel
from minikernel.protocol.messages import MESSAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    fenced = re.findall(r"^```(.*?)\n(.*?)^```$", README, re.S | re.M)
    return [block for name, block in fenced if name == language]


def test_the_transcript(start: Any) -> None:
    client = start(env={"NO_COLOR": "1"}).client()
    [transcript] = [block for block in blocks("") if block.startswith("In [1]")]
    for part in re.split(r"^(?=In \[\d+\]: )", transcript, flags=re.M)[1:]:
        lines = part.rstrip().split("\n")
        code = [
            re.sub(r"^(In \[\d+\]: |   \.\.\.: ?)", "", line) for line in lines if re.match(r"In|   \.\.\.:", line)
        ]
        shown = "\n".join(lines[len(code) :])
        run = client.execute("\n".join(code).strip())
        if shown.startswith("Out"):
            assert shown == f"Out[{run.reply['execution_count']}]: {run.result}"
        elif shown:
            traceback = [line for line in run.reply["traceback"] if not set(line.strip()) <= {"~", "^"}]
            assert [line for line in shown.split("\n") if not set(line.strip()) <= {"~", "^"}] == traceback
        else:
            assert run.outputs == []


def test_the_python_blocks(client: Any) -> None:
    assert blocks("python")
    for block in blocks("python"):
        run = client.execute(block)
        assert run.status == "ok", run.reply


def test_ci_runs_the_readmes_test_command() -> None:
    _, command = blocks("sh")
    assert command.strip() in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("number", range(len(book.BLOCKS)), ids=[block.__name__ for block in book.BLOCKS])
def test_the_runs(number: int) -> None:
    """The dump of frames and the diagrams are what happens here and now."""
    assert blocks("text")[number] == book.BLOCKS[number](), "python tests/book.py makes them"


def test_the_connection_file(tmp_path: Path) -> None:
    [block] = blocks("json")
    path = tmp_path / "kernel.json"
    minikernel.write_connection_file(path)
    assert set(json.loads(block)) == set(json.loads(path.read_text()))
    minikernel.write_connection_file(path, **json.loads(block))
    assert json.loads(path.read_text()) == json.loads(block)


@pytest.mark.timeout(150)
def test_the_exercise(tmp_path: Path) -> None:
    """Its test fails before the solution, for want of a reply, and passes with it."""
    if "elapsed_request" in MESSAGES:
        pytest.skip("somebody has done the exercise here")
    shutil.copytree(ROOT / "minikernel", tmp_path / "minikernel", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "client.py", "observer.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    [exercise] = blocks("python exercise")
    (tmp_path / "tests" / "test_elapsed.py").write_text(exercise)
    environment = {name: value for name, value in os.environ.items() if name != "MINIKERNEL_RECORD"}

    def run() -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_elapsed.py"]
        environment["PYTHONPATH"] = str(tmp_path)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=55
        )  # fmt: skip
        return done.returncode, done.stdout

    code, text = run()
    assert code == 1 and "TimeoutError: nothing on control within" in text, text
    [solution] = blocks("diff")
    for part in solution.removeprefix("+++ ").split("\n+++ "):
        name, hunks = part.split("\n", 1)
        text = (tmp_path / name).read_text()
        for hunk in hunks.rstrip("\n").split("\n@@\n"):
            before = "".join(f"{line[1:]}\n" for line in hunk.split("\n") if line.startswith(" "))
            after = "".join(f"{line[1:]}\n" for line in hunk.split("\n"))
            assert text.count(f"\n{before}") == 1, before
            text = text.replace(f"\n{before}", f"\n{after}")
        (tmp_path / name).write_text(text)
    code, text = run()
    assert code == 0, text


def test_every_block_is_run() -> None:
    """Those without a language are the transcript, and what an example of a file looks like."""
    labels = re.findall(r"^```(.+)$", README, re.M)
    assert set(labels) == {"sh", "python", "text", "json", "ladder", "python exercise", "diff"}
    assert len(blocks("")) == 1 and len(blocks("text")) == len(book.BLOCKS)


def test_the_files_that_are_named() -> None:
    for name in re.findall(r"`((?:examples|tests|minikernel)/[\w/]+\.py)`", README):
        assert (ROOT / name).exists() or name == "tests/test_elapsed.py", name
    for path in (ROOT / "examples").glob("*.py"):
        assert f"`{path.name}`" in README or f"`examples/{path.name}`" in README, path.name


def test_the_table_of_frontends() -> None:
    for name, *_ in FRONTENDS:
        assert f"| {name} |" in README
