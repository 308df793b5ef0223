"""``exit`` and ``quit``: who ends when a cell says so."""

from __future__ import annotations

from .. import __builtins__ as __builtins__
from ..kernel.request import current_request

#: Seconds between ``exit()`` and the kernel's end.
TO_BE_HEARD = 1.0


class Exit:
    """``exit`` and ``quit``: ask the frontend to end, and the kernel with it unless others use it too."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, keepkernel: bool | None = None) -> None:
        request = current_request()
        if request is None:
            raise SystemExit
        kernel = request.kernel
        if keepkernel is None:
            keepkernel = len(kernel.sessions) > 1 and kernel.channels.subscriptions > 1
        request.payload.append({"source": "ask_exit", "keepkernel": keepkernel})
        if not keepkernel:
            # jupyter_console drops the replies of a process that has ended; having read this one, it ends us itself
            channels = kernel.channels
            request.afterwards = lambda: channels.outbox.call(lambda: channels.call_later(TO_BE_HEARD, kernel.quit))

    def __repr__(self) -> str:
        return f"{self._name}()"

    def _ipython_display_(self) -> None:
        self()
