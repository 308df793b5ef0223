"""The benchmarks run, and say what they promise.  How fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from client import TIMEOUT

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, str(ROOT / "tests" / "benchmarks")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc")


def test_two_metrics_of_one_kernel(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    chosen = ["--quick", "--rounds", "1", "--only", "start,prints", "--json", str(out)]
    run = subprocess.run(
        [*COMMAND, *chosen, f"ours={ROOT / 'kernelspec'}"], capture_output=True, text=True, timeout=2 * TIMEOUT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(
        "|  | floor | ours | × floor |\n| --- | --: | --: | --: |\n| spawn → kernel_info_reply |"
    )
    report = json.loads(out.read_text())
    assert report["problems"] == [] and report["kernels"]["ours"].startswith("minikernel ")
    rows = {f"{row['metric']}.{row['row']}": row["kernels"]["ours"] for row in report["rows"]}
    assert set(rows) == {"start.info", "start.result", "start.cpu", "prints.time", "prints.messages", "prints.cpu"}
    assert all(row["median"] > 0 and row["× floor"] > 0 and len(row["samples"]) == 1 for row in rows.values())
    assert rows["start.info"]["median"] < rows["start.result"]["median"]


def test_each_metric_says_what_it_times() -> None:
    listed = subprocess.run(
        [*COMMAND, "--list"], capture_output=True, text=True, timeout=TIMEOUT, check=True
    ).stdout
    assert "\nround_trip\n    From before an execute_request is sent" in listed
    assert "None" not in listed
    wrong = subprocess.run([*COMMAND, "--only", "nonsense"], capture_output=True, text=True, timeout=TIMEOUT)
    assert wrong.returncode == 2 and "no metric nonsense" in wrong.stderr
