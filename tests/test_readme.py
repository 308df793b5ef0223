"""What the README and the examples say is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from client import Client
from frontends_table import FRONTENDS

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


def test_the_example_inside(client: Any) -> None:
    run = client.execute((ROOT / "examples" / "connect_api.py").read_text())
    assert run.status == "ok" and f"tcp://127.0.0.1:{client.info['shell_port']}" in run.text()


def test_the_example_outside() -> None:
    path = ROOT / "examples" / "launch.py"
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "stream: {'name': 'stdout', 'text': 'hi\\n'}" in done.stdout
    assert "'text/plain': '2'" in done.stdout and "ended with 0" in done.stdout


def test_the_example_embedded(tmp_path: Path) -> None:
    path = ROOT / "examples" / "embed.py"
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    name = process.stdout.readline().split()[-1]
    client = Client(tmp_path / name)
    try:
        docstring = path.read_text().split('"""')[1]
        lines = [line.split("#")[0].strip() for line in docstring.splitlines() if line.startswith("    ")]
        runs = [client.execute(line) for line in lines[:4]]
        assert [run.status for run in runs] == ["ok"] * 4, runs[-1].reply
        client.start(lines[4])  # the application goes on at once, and the end of its kernel may interrupt this cell
        assert runs[2].text() == "only in the console\n" and "hello you, you are number" in runs[3].result
        out, _ = process.communicate(timeout=50)
    finally:
        client.close()
        process.kill()
    assert process.returncode == 0 and "console" not in out and out.endswith(" visitors\n")
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_say_what_they_show(path: Path) -> None:
    text = path.read_text()
    assert text.startswith('"""') and len(text.splitlines()) < 200 and "still missing" in text


def test_the_table_of_frontends() -> None:
    for name, *_ in FRONTENDS:
        assert f"| {name} |" in README
