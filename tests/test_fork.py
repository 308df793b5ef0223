"""Kernels forked from a zygote are to their manager as any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client import TIMEOUT, Client, alive
from jupyter_client import KernelManager

from minikernel.tools import install
from minikernel.tools.provisioner import Zygote

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

Manage = Callable[..., KernelManager]


@pytest.fixture
def manage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manage]:
    """Start kernels through a kernelspec that names the provisioner."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert install.main(["install", "--user", "--name", "forked", "--fork", "wave"]) == 0
    managers: list[KernelManager] = []

    def start(**options: Any) -> KernelManager:
        manager = KernelManager(kernel_name="forked")
        managers.append(manager)
        manager.start_kernel(**options)
        return manager

    yield start
    for manager in managers:
        manager.shutdown_kernel(now=True)
    for zygote in Zygote._all.values():
        zygote.process.kill()
        zygote.process.wait()
    Zygote._all.clear()


def frontend(manager: KernelManager) -> Client:
    return Client(manager.connection_file)


def parent_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


def ended(pid: int) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_is_a_process_of_its_own(manage: Manage, tmp_path: Path) -> None:
    first, second = manage(cwd=str(tmp_path), env={**os.environ, "ONLY_HERE": "1"}), manage()
    pids = [manager.provisioner.pid for manager in (first, second)]
    assert parent_of(pids[0]) == parent_of(pids[1]) == next(iter(Zygote._all.values())).process.pid
    client, other = frontend(first), frontend(second)
    code = "import os, sys; (os.getpid(), os.getsid(0), os.getcwd(), os.environ.get('ONLY_HERE'), os.environ['JPY_PARENT_PID']).__repr__()"
    assert client.execute(code).result == repr(repr((pids[0], pids[0], str(tmp_path), "1", str(os.getpid()))))
    assert other.execute("import os; os.environ.get('ONLY_HERE'), os.getsid(0)").result == repr((None, pids[1]))
    assert client.execute("sys.argv, __name__, 'wave' in sys.modules").result.endswith("'__main__', True)")
    assert client.execute("import random; a = random.random(); import uuid; str(uuid.uuid4())").result
    names = "len([t for t in __import__('threading').enumerate() if not t.daemon])"
    assert client.execute(names).result == "1"
    client.close()
    other.close()


def test_shutdown_kill_and_exit_codes(manage: Manage) -> None:
    manager = manage()
    process = manager.provisioner.process
    assert manager.is_alive() and process.poll() is None
    manager.shutdown_kernel()
    assert process.returncode == 0 and ended(process.pid) and not manager.is_alive()
    manager = manage()
    process = manager.provisioner.process
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL == process.poll()
    assert not manager.is_alive()


def test_restart_and_interrupt(manage: Manage) -> None:
    manager = manage()
    before = manager.provisioner.pid
    client = frontend(manager)
    client.execute("x = 1")
    client.close()
    manager.restart_kernel()
    assert manager.provisioner.pid != before and ended(before)
    client = frontend(manager)
    assert client.execute("x").ename == "NameError"
    msg_id = client.start("import time; print('go', flush=True); time.sleep(60)")
    client.output(msg_id, "go")
    manager.interrupt_kernel()
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    client.close()


def test_streams(manage: Manage, tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        manager = manage(stdout=log, stderr=log)
    client = frontend(manager)
    client.execute("import sys, os")
    client.send("no_such_request", {})
    client.execute("pass")
    manager.shutdown_kernel()
    client.close()
    assert "no handler" in (tmp_path / "log").read_text()


def test_a_zygote_that_was_killed_is_replaced(manage: Manage) -> None:
    manager = manage()
    (zygote,) = Zygote._all.values()
    zygote.process.kill()
    zygote.process.wait()
    assert manager.is_alive()  # a kernel needs no zygote any more
    client = frontend(manager)
    assert client.execute("6 * 7").result == "42"
    assert manage().is_alive() and next(iter(Zygote._all.values())) is not zygote
    manager.shutdown_kernel()
    assert not manager.is_alive()
    client.close()


@pytest.mark.parametrize("how", ["pass", "import os; os.kill(os.getpid(), 9)"])
def test_it_ends_with_its_owner(manage: Manage, tmp_path: Path, how: str) -> None:
    script = f"""
        from jupyter_client import KernelManager
        from minikernel.tools.provisioner import Zygote
        manager = KernelManager(kernel_name="forked")
        manager.start_kernel()
        print(manager.provisioner.pid, *(z.process.pid for z in Zygote._all.values()), flush=True)
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout={TIMEOUT})
        {how}
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=2 * TIMEOUT
    )
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2 and all(map(ended, pids)), run.stderr


def test_many_at_once(manage: Manage) -> None:
    managers = [manage() for _ in range(5)]
    clients = [frontend(manager) for manager in managers]
    ids = [client.start("6 * 7") for client in clients]
    assert [client.finish(msg_id).result for client, msg_id in zip(clients, ids, strict=True)] == ["42"] * 5
    for client in clients:
        client.close()


def test_a_module_that_cannot_be_preloaded(manage: Manage, capfd: pytest.CaptureFixture[str]) -> None:
    install.main(["install", "--user", "--name", "forked", "--fork", "no_such_module"])
    client = frontend(manage())
    assert client.execute("6 * 7").result == "42"
    client.close()
    assert "cannot preload no_such_module" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_else_can_reach_the_zygote(manage: Manage, tmp_path: Path) -> None:
    """Its socket has no name and listens to nobody; no key is on a command line or in an environment."""
    manager = manage()
    client = frontend(manager)
    client.execute("pass")
    (zygote,) = Zygote._all.values()
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{zygote.process.pid}/fd").iterdir()}
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in inodes if name.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    mine = [row for row in rows if row[6] in inodes]
    listens = "00010000"  # SO_ACCEPTCON
    assert len(mine) == len(inodes) == 1 and len(mine[0]) == 7 and mine[0][3] != listens
    key = manager.session.key.decode()
    for pid in (zygote.process.pid, manager.provisioner.pid):
        for name in ("cmdline", "environ"):
            assert key not in Path(f"/proc/{pid}/{name}").read_text()
    client.close()
