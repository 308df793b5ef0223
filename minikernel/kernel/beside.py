"""Answering beside the queue what another request, mostly a cell, has kept waiting.

A frontend asks for completions, help and history while its user types, and waits.  These need no user code, so
another thread can answer them; but short requests in quick succession shall keep their order.  So what has waited
`PATIENCE` seconds for one and the same request is answered beside it, oldest first, and before what came before it.

There is one timer for each worker, however many requests wait: a flood of them must not keep the channels thread
busy, to which all of this belongs but the answering.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from .. import __builtins__ as __builtins__
from .worker import Worker

if TYPE_CHECKING:
    from .request import Request

#: Requests that can be answered beside another, once they have waited for it for `PATIENCE` seconds.
BESIDE = frozenset(
    ("complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request")
)
PATIENCE = 0.2


class Beside:
    """The thread that answers beside the others; started when it is first needed.

    Parameters
    ----------
    dispatch : callable
        Answers a request.
    call_later : callable
        Calls something after some seconds, in the channels thread.
    """

    def __init__(
        self, dispatch: Callable[[Request], None], call_later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._dispatch = dispatch
        self._call_later = call_later
        self._worker: Worker | None = None
        #: When they have arrived and what they are, by who should answer them.
        self._waiting: dict[Worker, deque[tuple[float, Request]]] = {}

    def add(self, request: Request) -> None:
        """Look after a request that its worker is about to be given."""
        request.claim = {}
        worker = request.worker
        if worker not in self._waiting:
            self._waiting[worker] = deque()
            self._call_later(PATIENCE, lambda: self._look_after(worker))
        self._waiting[worker].append((monotonic(), request))

    def stop(self, timeout: float) -> None:
        """End the thread, when the channels thread has ended; wait for that."""
        if self._worker is not None:
            self._worker.stop()
            self._worker.join(timeout)

    def _look_after(self, worker: Worker) -> None:
        waiting = self._waiting[worker]
        while waiting and not worker.ended.is_set():
            (arrived, request), running, now = waiting[0], worker.running, monotonic()
            if not request.claim:
                since = now if running is None else max(arrived, running.began)
                if now < since + PATIENCE:
                    self._call_later(since + PATIENCE - now, lambda: self._look_after(worker))
                    return
                self._answer(request)
            waiting.popleft()
        del self._waiting[worker]

    def _answer(self, request: Request) -> None:
        self._worker = self._worker or Worker(self._dispatch, "minikernel-beside")
        if request.take(self._worker):
            request.worker = self._worker
            self._worker.put(lambda: self._dispatch(request))
            self._worker.start()
