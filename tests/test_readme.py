"""What the README says is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


def test_the_table_of_frontends() -> None:
    for name, *_ in FRONTENDS:
        assert f"| {name} |" in README
