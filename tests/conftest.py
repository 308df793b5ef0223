"""Kernels and clients for the tests.  Every process ends with its test, also when that fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from client import Client, KernelProcess, alive
from observer import Observer

# what is started in the background of a script, or by nohup, ignores these, and so would all that the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

os.environ["MINIKERNEL_HISTORY"] = "memory"  # no kernel of a test may touch the user's file, whoever starts it


@pytest.fixture(scope="session")
def observer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    """Has every kernel record its messages, and reads the records."""
    directory = tmp_path_factory.mktemp("record")
    os.environ["MINIKERNEL_RECORD"] = str(directory)
    observer = Observer(directory, alive)
    yield observer
    observer.check()


@pytest.fixture(autouse=True)
def observed(observer: Observer) -> Iterator[None]:
    """After each test, when its kernels have ended: hold all that kernels have said against the rules."""
    yield
    observer.check()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., KernelProcess]]:
    """Start kernels: ``kernel = start(...)``; the arguments are those of `KernelProcess`."""
    kernels: list[KernelProcess] = []

    def start(*arguments: str, **options: Any) -> KernelProcess:
        kernels.append(KernelProcess(tmp_path, *arguments, **options))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.close()


@pytest.fixture
def kernel(start: Callable[..., KernelProcess]) -> KernelProcess:
    """A fresh kernel."""
    return start()


@pytest.fixture
def client(kernel: KernelProcess) -> Client:
    """A frontend of a fresh kernel."""
    return kernel.client()


@pytest.fixture(scope="module")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the kernel where the frontends of a module's tests look, who find nothing of the user's there."""
    directory = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("data", "runtime", "config"):
            patch.setenv(f"JUPYTER_{name.upper()}_DIR", str(directory / name))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "")  # frontends are large, and start more than once
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        from minikernel.tools.install import main

        assert main(["install", "--user"]) == 0
        yield directory


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A frontend of a kernel that a module's tests share, for tests that leave nothing behind."""
    process = KernelProcess(tmp_path_factory.mktemp("shared"))
    yield process.client()
    process.close()
