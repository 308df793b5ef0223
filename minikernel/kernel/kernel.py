"""From a message type to its handler, and back to a reply.

A handler is a function of a `Request` that returns the content of the reply (or an awaitable of it, or None
where the protocol knows no reply).  `Kernel.dispatch` alone completes the request, sends busy, the reply and
idle, and turns whatever goes wrong into an error reply: no client waits for ever, whatever it sent and whatever
bug we have ("Messaging in Jupyter: Request / Reply", "Kernel status").

An idle means "nothing runs" to a frontend, whichever request it closes.  So the idle of a control request is
followed by a busy of the cell that still runs; one lock makes the two one step.

Next: ``python.interpreter``; the handlers are in ``handlers``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..protocol import log
from ..protocol.messages import BadContent, complete, reply_type
from ..protocol.wire import Message
from . import handlers, interrupt
from .history import History
from .request import Request
from .worker import Worker

if TYPE_CHECKING:
    from ..protocol.channels import Channels
    from ..python.interpreter import Interpreter
    from .stdin import Prompts

Handler = Callable[[Request], Any]


class Language(NamedTuple):
    """What a kernel knows of its language before it needs the interpreter.

    `info` is kernel_info's language_info; `interpreter` makes the interpreter when it is first needed.
    """

    info: dict[str, Any]
    banner: str
    help_links: list[dict[str, str]]
    interpreter: Callable[[Kernel], Interpreter]


class Kernel:
    """One kernel: its channels, its workers, its interpreter.

    Parameters
    ----------
    channels : Channels
        Bound, not started.
    info : dict
        The connection file's fields.
    language : Language
        The floor above.

    Attributes
    ----------
    shell, control : dict
        The handlers by message type; a new message is a new row.
    main : Worker
        Answers what comes on shell, in the thread that calls `run`.
    """

    def __init__(self, channels: Channels, info: dict[str, Any], language: Language) -> None:
        self.channels = channels
        self.info = info
        self.language = language
        self.shell: dict[str, Handler] = dict(handlers.SHELL)
        self.control: dict[str, Handler] = dict(handlers.CONTROL)
        self.history = History()
        self.main = Worker(self.dispatch, runs_code=True)
        self.control_worker = Worker(self.dispatch)
        #: Called before every output, so that what C code has written keeps its place.
        self.before_output: Callable[[], None] = lambda: None
        #: Interrupts what runs on shell.
        self.interrupt: Callable[[], None] = interrupt.send
        #: Called by `stop`, in the control thread.
        self.on_stop: Callable[[], None] = lambda: None
        self._interpreter: Interpreter | None = None
        self._prompts: Prompts | None = None
        self._status = threading.Lock()

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter; made, and its modules imported, when something first needs it."""
        if self._interpreter is None:
            self._interpreter = self.language.interpreter(self)
        return self._interpreter

    @property
    def prompts(self) -> Prompts:
        """The questions that user code asks on stdin."""
        if self._prompts is None:
            from .stdin import Prompts

            self._prompts = Prompts()
        return self._prompts

    def run(self) -> None:
        """Announce the kernel and answer requests in the calling thread until `stop`."""
        self.channels.send("iopub", "status", {"execution_state": "starting"})
        self.channels.start(self._receive)
        threading.Thread(target=self.control_worker.run, name="minikernel-control", daemon=True).start()
        self.main.run()

    def quit(self) -> None:
        """Have the control thread stop the kernel.  Any thread, and signal handlers."""
        self.control_worker.put(self.stop)

    def stop(self) -> None:
        """End `run`, interrupting what runs."""
        self.main.stop()
        if self.main.running is not None:
            self.interrupt()
        self.on_stop()

    def _receive(self, channel: str, message: Message) -> None:
        """Give a message to the worker that answers it.  The channels thread; must not block."""
        if channel == "stdin":
            if self._prompts is not None and message.msg_type == "input_reply":
                self._prompts.answer(message)
            return
        worker = self.control_worker if channel == "control" else self.main
        worker.put(Request(self, worker, channel, message, self.channels.received))

    def dispatch(self, request: Request) -> None:
        """Answer one request: busy, what its handler does, reply, idle.  Never raises."""
        worker = request.worker
        request.make_current()
        if worker is self.main:
            interrupt.pending = False
        with self._status:
            worker.running = request
            self._publish_status(request, "busy")
        try:
            content = self._handle(request)
            if content is not None:
                self._reply(request, content)
        except BadContent as error:
            self._reply(request, error_content(error))
        except BaseException as error:  # a bug: said aloud, and answered all the same
            log.traceback(f"the handler of {request.msg_type}", error)
            self._reply(request, error_content(error))
        with self._status:
            self._publish_status(request, "idle")
            worker.running = None
            busy = self.main.running
            if busy is not None:
                self._publish_status(busy, "busy")
        if request.afterwards is not None:
            request.afterwards()
        request.content = {}  # a thread may keep the request for long; it need not keep the code
        del request.message

    def _handle(self, request: Request) -> dict[str, Any] | None:
        table = self.control if request.channel == "control" else self.shell
        handler = table.get(request.msg_type)
        if handler is None:
            log.complain(f"no handler for {request.msg_type!r} on {request.channel}")
            return None
        request.content = complete(request.msg_type, request.content)
        if request.number <= request.worker.aborted and request.msg_type == "execute_request":
            return {"status": "aborted", "execution_count": request.worker.execution_count}
        content = handler(request)
        if hasattr(content, "__await__") and request.worker.loop is not None:
            content = request.worker.loop.run(content)
        return cast("dict[str, Any] | None", content)

    def _reply(self, request: Request, content: dict[str, Any]) -> None:
        msg_type = reply_type(request.msg_type) or request.msg_type.replace("_request", "_reply")
        request.reply(msg_type, {"status": "ok", **content})

    def _publish_status(self, request: Request, state: str) -> None:
        self.channels.send("iopub", "status", {"execution_state": state}, request.header_frame)


def error_content(error: BaseException) -> dict[str, Any]:
    """Return the content of the reply to a request that failed outside user code."""
    return {
        "status": "error",
        "ename": type(error).__name__,
        "evalue": str(error),
        "traceback": [f"{type(error).__name__}: {error}"],
    }
