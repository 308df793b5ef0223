"""Questions to the user: one at a time, to the frontend whose request asks, each with its own answer.

`Prompts.ask` sends an input_request on stdin, to the routing ids that the request had on shell: a frontend gives
both sockets the same identity.  It goes through the outbox like everything else, behind what the cell has printed.
Then the thread of the cell waits, while the kernel's other threads go on ("Messaging in Jupyter: Messages on the
stdin ROUTER/DEALER channel").

An answer is taken only when it comes from the one that was asked, and names the pending question, the request
that asks, or none at all: jupyter_client's ``kc.input()`` sends no parent_header.  An interrupted question is
forgotten, and its late answer is dropped.

Any thread may ask; the channels thread brings the answers.
"""

from __future__ import annotations

from queue import SimpleQueue
from threading import Lock, get_ident, main_thread
from typing import TYPE_CHECKING

from .. import __builtins__ as __builtins__
from ..protocol.wire import Message
from . import interrupt

if TYPE_CHECKING:
    from .request import Request


class StdinNotImplementedError(NotImplementedError):
    """The frontend said that it can't be asked (``allow_stdin`` was false)."""


class Prompts:
    """The pending question of a kernel."""

    def __init__(self) -> None:
        self._one_at_a_time = Lock()
        self._pending: tuple[str, Request, SimpleQueue[str | None], int] | None = None

    def ask(self, request: Request, prompt: str, password: bool) -> str:
        """Ask the frontend of `request` for a line and wait for it.  An interrupt may end the wait.

        Raises
        ------
        EOFError
            The user has ended the input, or the request has ended.
        """
        channels = request.kernel.channels
        while not self._one_at_a_time.acquire(timeout=0.1):  # another thread is asking
            interrupt.checkpoint()
        try:
            msg_id = channels.session.new_id()
            answers: SimpleQueue[str | None] = SimpleQueue()
            self._pending = (msg_id, request, answers, get_ident())
            if request.idle:  # it has ended meanwhile, and `forget` has come too early
                raise EOFError
            channels.send(
                "stdin", "input_request", {"prompt": prompt, "password": password},
                request.header_frame, idents=request.idents, msg_id=msg_id,
            )  # fmt: skip
            value = _wait(answers)
            if value is None:
                raise KeyboardInterrupt
        finally:
            self._pending = None
            self._one_at_a_time.release()
        if value == "\x04":
            raise EOFError
        return value

    def interrupt(self) -> None:
        """End the wait of a question whose thread no signal reaches.  Any thread."""
        pending = self._pending
        if pending is not None and pending[3] != main_thread().ident:
            pending[2].put(None)

    def forget(self, request: Request) -> None:
        """End the question of a request that has ended: its frontend has put the prompt away.  Any thread."""
        pending = self._pending
        if pending is not None and pending[1] is request:
            pending[2].put("\x04")

    def answer(self, message: Message) -> None:
        """Take an input_reply.  The channels thread."""
        if self._pending is None:
            return
        msg_id, request, answers, _ = self._pending
        parent = message.parent_header.get("msg_id", msg_id)
        value = message.content.get("value") if isinstance(message.content, dict) else None
        if parent in (msg_id, request.header["msg_id"]) and message.idents == request.idents:
            answers.put(value if isinstance(value, str) else "")


@interrupt.landing
def _wait(answers: SimpleQueue[str | None]) -> str | None:
    if interrupt.pending:
        interrupt.checkpoint()
    return answers.get()
