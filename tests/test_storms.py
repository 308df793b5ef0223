"""Each storm of the soak command for a second or two, and what they have shown."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from client import TIMEOUT, KernelProcess

sys.path.insert(0, str(Path(__file__).parent / "soak"))

from storms import STORMS
from target import Target

#: How often, here; and more is the soak command's business.
COUNTS = {
    "requests": 3000, "vanish": 300, "welcome": 20, "interrupts": 300, "flood": 20, "fuzz": 500,
    "damage": 3, "forks": 10, "starts": 3, "belongings": 60, "registers": 8,
}  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", STORMS)
def test_a_storm(kernel: KernelProcess, name: str) -> None:
    STORMS[name](Target(kernel, random.Random(name)), COUNTS[name])
    assert kernel.client().execute("6 * 7").result == "42"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="can't choose the core")
def test_a_storm_on_one_core(kernel: KernelProcess) -> None:
    target = Target(kernel, random.Random(1))
    core = min(os.sched_getaffinity(kernel.pid))
    for thread in os.listdir(f"/proc/{kernel.pid}/task"):  # later ones inherit it
        os.sched_setaffinity(int(thread), {core})
    STORMS["requests"](target, 1000)
    code = "import os; {frozenset(os.sched_getaffinity(int(t))) for t in os.listdir('/proc/self/task')}"
    assert target.client.execute(code).result == f"{{frozenset({{{core}}})}}"


def test_what_is_kept_waiting_overtakes_and_the_rest_keeps_its_order(kernel: KernelProcess, tmp_path: Path) -> None:
    """Many requests behind a cell: those that need no user code are answered beside it, in their own order."""
    client = kernel.client()
    client.start(f"import os, time\nwhile not os.path.exists({str(tmp_path / 'on')!r}): time.sleep(0.01)")
    kinds = [
        ("execute_request", {"code": "x = 1"}), ("complete_request", {"code": "pri", "cursor_pos": 3}),
        ("kernel_info_request", {}), ("history_request", {"hist_access_type": "tail", "n": 1}),
    ]  # fmt: skip
    queued = [[client.send(kind, content) for _ in range(100) for kind, content in kinds[n::2]] for n in (0, 1)]
    beside = [client.receive("shell")["parent_header"]["msg_id"] for _ in queued[1]]
    assert beside == queued[1]
    (tmp_path / "on").touch()
    answered = [client.receive("shell")["parent_header"]["msg_id"] for _ in range(1 + len(queued[0]))]
    assert answered[1:] == queued[0]


def test_the_command() -> None:
    """Two turns, and a figure of each; what it makes of a loss, and of a name that it does not know."""
    command = [sys.executable, str(Path(__file__).parent / "soak")]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], capture_output=True, text=True, timeout=3 * TIMEOUT)

    done = run("--minutes", "0", "--seed", "7", "--only", "requests=200,fuzz=50")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("seed 7\n") and "\n          50  bad inputs\n" in done.stdout
    assert done.stdout.endswith("\n           0  losses\n")
    assert run("--only", "sunshine").returncode == 2
