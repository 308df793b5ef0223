"""Subshells (JEP 91): more threads that run code, each with an inbox, a count and an abort of its own.

A subshell shares the main shell's namespace, and so sees its variables.  Its cells are not in ``In`` and
``Out``, which are numbered by the main shell's counts.  An interrupt reaches it between two bytecodes, at an
``await`` and at ``input``; a system call it sits out, since only the main thread is woken by signals.
"""

from __future__ import annotations

from _signal import SIG_BLOCK, pthread_sigmask
from collections.abc import Callable
from typing import Any

from .. import __builtins__ as __builtins__
from ..protocol.messages import BadContent
from .request import Request
from .worker import Worker


class UnknownSubshellError(BadContent):
    """A request names a subshell that is not there (any more)."""

    def __init__(self, subshell_id: object) -> None:
        super().__init__(f"Unknown subshell_id {subshell_id!r}")


class Subshells:
    """The subshells of a kernel, by id.  Any thread."""

    def __init__(self, dispatch: Callable[[Request], None]) -> None:
        self._dispatch = dispatch
        self._mask = pthread_sigmask(SIG_BLOCK, ())
        self._workers: dict[str, Worker] = {}
        self._deleted: list[Worker] = []

    def worker(self, subshell_id: Any, main: Worker) -> Worker | None:
        """Return who answers a request for `subshell_id`: `main` when there is no id, None when it is unknown."""
        return main if subshell_id is None else self._workers.get(str(subshell_id))

    def workers(self) -> list[Worker]:
        """Return all subshells' workers, also those that are deleted and have not ended yet."""
        return [*self._workers.values(), *(worker for worker in self._deleted if not worker.ended.is_set())]

    def ids(self) -> list[str]:
        """Return all ids, oldest first."""
        return list(self._workers)

    def create(self) -> str:
        """Start a subshell; return its id."""
        from uuid import uuid4

        subshell_id = str(uuid4())
        worker = self._workers[subshell_id] = Worker(
            self._dispatch, f"subshell-{subshell_id[:8]}", runs_code=True, mask=self._mask
        )
        worker.run_in_thread()
        return subshell_id

    def delete(self, subshell_id: str) -> Worker | None:
        """End a subshell when it has answered what it was sent; return None when there is none.

        The channels thread: it hands requests to subshells, and none may come behind the end.
        """
        worker = self._workers.pop(subshell_id, None)
        if worker is not None:
            self._deleted = [each for each in self._deleted if not each.ended.is_set()] + [worker]
            worker.finish()
        return worker
