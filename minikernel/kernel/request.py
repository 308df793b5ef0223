"""One request, and who is asking.

Whatever a request causes carries that request's header as its parent: that is how a frontend knows which cell
an output belongs to.  So the parent of an output is a value, found by `current_request`, and not a global
"the cell that runs now":

1. the context's: a task, a callback and a job of an executor keep the request that made them;
2. else the thread's: a thread keeps the request that started it;
3. else the latest request that may run code, for threads that were born in C.  Never an empty parent.

Next: ``kernel.worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..protocol.wire import Message

if TYPE_CHECKING:
    from .kernel import Kernel
    from .worker import Worker

#: None stands for the latest.
_current: ContextVar[Request | None] = ContextVar("minikernel_request")
_UNKNOWN: Any = object()
#: Takes a default and returns the context's request; a thread's is in its context once it has been looked up.
context_request = _current.get
_latest: Request | None = None
#: Where outputs go whose request has ended: to it, "origin", or to the latest, "current" (see ``output_to``).
outlived = "origin"


class Request:
    """A message that asks for something, with what is needed to answer it.  Any thread may publish.

    Attributes
    ----------
    kernel : Kernel
    worker : Worker
        The thread that answers it.
    channel : str
        "shell" or "control": the reply goes back there.
    content : dict
        Completed from the table of messages before a handler sees it.
    header_frame : bytes
        The header as it came; the parent of every answer.
    number : int
        Its place in the order in which all messages have arrived.
    payload : list of dict
        What goes into the execute_reply's payload.
    execution_count : int
        The number of the cell, for execute_request.
    stored : bool
        Whether the cell goes into the history, In and Out.
    claim : dict, optional
        Of a request that two threads may come to: who is in it answers.
    replied, idle, done : bool
        What has been sent already, and whether all has.
    before : Request, optional
        The cell that awaits meanwhile.
    began, started : float, str
        When its answering began: on the monotonic clock, and in ISO 8601 for the reply's metadata.
    afterwards : callable, optional
        Called by dispatch when the idle has been queued.
    """

    __slots__ = (
        "afterwards", "before", "began", "channel", "claim", "content", "done", "execution_count", "header",
        "header_frame", "idents", "idle", "kernel", "message", "metadata", "msg_type", "number", "payload",
        "replied", "started", "stored", "worker",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, worker: Worker, channel: str, message: Message, number: int) -> None:
        self.kernel = kernel
        self.worker = worker
        self.channel = channel
        self.message = message
        self.msg_type = message.msg_type
        self.idents = message.idents
        self.header = message.header
        self.header_frame = message.header_frame
        self.metadata = message.metadata
        self.content: dict[str, Any] = message.content
        self.number = number
        self.payload: list[dict[str, Any]] = []
        self.execution_count = 0
        self.stored = False
        self.began, self.started = 0.0, ""
        self.replied = self.idle = self.done = False
        self.before: Request | None = None
        self.claim: dict[str, object] | None = None
        self.afterwards: Callable[[], object] | None = None

    def reply(self, msg_type: str, content: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Answer the one who asked, on the channel where it asked."""
        self.kernel.channels.send(
            self.channel, msg_type, content, self.header_frame, metadata=metadata, idents=self.idents,
            mark=(self, "replied", True),
        )  # fmt: skip

    def publish(
        self,
        msg_type: str,
        content: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] = (),
        topic: str | None = None,
    ) -> None:
        """Tell all frontends, on iopub.

        Raises TypeError or ValueError where `content` can't be said in JSON; nothing is sent then.
        """
        self.kernel.before_output()
        channels = self.kernel.channels
        channels.send(
            "iopub", msg_type, content, self.header_frame,
            metadata=metadata, buffers=buffers, idents=[topic.encode(errors="replace")] if topic else None,
        )  # fmt: skip
        if channels.outbox.full and msg_type not in ("error", "shutdown_reply"):  # an end is not put off
            channels.outbox.wait_for_room()

    def take(self, who: object) -> bool:
        """Claim this request for `who`, who may do so again; False when another has it."""
        return self.claim is None or self.claim.setdefault("by", who) is who

    def make_current(self, beside: bool) -> None:
        """Make this the request of this context, and the latest of all.

        What is answered `beside` user code must not be taken for the cell that a child or C code prints for.
        """
        if beside and self.kernel.owns_process and _latest is not None:
            _current.set(None)
        else:
            self.make_latest()
            _current.set(self)

    def make_latest(self) -> None:
        """Make this the request of all that has no other, where there is nothing but the kernel."""
        global _latest
        if self.kernel.owns_process:
            _latest = self


def latest_request() -> Request | None:
    """Return the request that was last begun, in whatever thread, of those that may run code."""
    return _latest


def current_request() -> Request | None:
    """Return the request that the calling code works for; None only before the first one."""
    request = _current.get(_UNKNOWN)
    if request is _UNKNOWN:
        request = getattr(current_thread(), "_minikernel_request", None)
        if request is None:
            return _latest
        _current.set(request)
    return _latest if request is None or (request.idle and outlived == "current") else request


def inherit(thread: Thread) -> None:
    """Let `thread`, before it starts, work for the request of the calling code."""
    thread._minikernel_request = current_request()  # type: ignore[attr-defined]


def as_request(request: Request | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `function` as part of `request`."""
    if request is None:
        return function(*args, **kwargs)
    token = _current.set(request)
    try:
        return function(*args, **kwargs)
    finally:
        _current.reset(token)
