"""From a message type to its handler, and back to a reply.

A handler is a function of a `Request` that returns the content of the reply (or an awaitable of it, or None
where the protocol knows no reply).  `Kernel.dispatch` alone completes the request, sends busy, the reply and
idle, and turns whatever goes wrong into an error reply: who sends a request that the table knows is answered,
whatever is in it and whatever bug we have.  An unknown type gets busy, idle and a line on stderr ("Messaging in
Jupyter: Request / Reply", "Kernel status").

An idle means "nothing runs" to a frontend, whichever request it closes.  So an idle is followed by a busy of the
cell that still runs on the main shell, if one does; one lock makes the two one step.

Who answers is decided when a request arrives: the control thread what the CONTROL table has, the subshell that
the header names what is for it, the main thread the rest; or another thread, what these keep waiting (``beside``).

Next: ``python.interpreter``; the handlers are in ``handlers``.
"""

from __future__ import annotations

from collections.abc import Callable
from os import _exit, getpid
from threading import Lock, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import __builtins__ as __builtins__
from ..protocol import log
from ..protocol.messages import MESSAGES, BadContent, complete, reply_type
from ..protocol.wire import Message, now
from . import handlers, interrupt
from .beside import BESIDE, Beside
from .history import History
from .request import Request, current_request
from .subshells import Subshells, UnknownSubshellError
from .worker import Worker

if TYPE_CHECKING:
    from ..protocol.channels import Channels
    from ..protocol.outbox import Mark
    from ..python.interpreter import Interpreter
    from .comm import CommManager
    from .stdin import Prompts

Handler = Callable[[Request], Any]

#: Messages that reach the objects of a cell that awaits, instead of waiting for its end.
WHILE_AWAITING = frozenset(("comm_open", "comm_msg", "comm_close"))


class Language(NamedTuple):
    """What a kernel knows of its language before it needs the interpreter.

    `info` is kernel_info's language_info; `interpreter` makes the interpreter when it is first needed;
    `has_debugger` tells whether its `debug` can set breakpoints here.
    """

    info: dict[str, Any]
    banner: str
    help_links: list[dict[str, str]]
    interpreter: Callable[[Kernel], Interpreter]
    has_debugger: Callable[[], bool] = lambda: False


class Kernel:
    """One kernel: its channels, its workers, its interpreter.

    Parameters
    ----------
    channels : Channels
        Bound, not started.
    info : dict
        The connection file's fields.
    language : Language
        How the floor ``python`` is reached, before any of it is imported.
    history : str, optional
        Where earlier sessions are remembered, as `History` takes it.

    Attributes
    ----------
    shell, control : dict
        The handlers by message type; a new message is a new row.
    main : Worker
        Answers what comes on shell, in the thread that calls `run`.
    owns_process : bool
        Whether the process is there for the kernel; else the kernel is a guest of an application.
    """

    owns_process = True

    def __init__(
        self, channels: Channels, info: dict[str, Any], language: Language, history: str | None = None
    ) -> None:
        self.pid = getpid()
        self.channels = channels
        self.info = info
        self.language = language
        self.shell: dict[str, Handler] = dict(handlers.SHELL)
        self.control: dict[str, Handler] = dict(handlers.CONTROL)
        self.history = History(history)
        self.main = Worker(
            self.dispatch,
            "minikernel-main",
            runs_code=True,
            report=lambda error: self.interpreter.show_error(error),
        )
        self.control_worker = Worker(self.dispatch, "minikernel-control")
        #: Answers debug_requests: they may take as long as user code does, and control must stay live.
        self.debug_worker = Worker(self.dispatch, "minikernel-debug")
        self.subshells = Subshells(self.dispatch)
        #: The sessions of the frontends that have run code.
        self.sessions: set[str] = set()
        #: Called before every output, so that what C code has written keeps its place.
        self.before_output: Callable[[], None] = lambda: None
        #: Called when the process ends by itself: what removes the files that it has made.
        self.clean_up: list[Callable[[], object]] = []
        #: What ``os._exit`` means while the process ends: it gets the status.
        self.ending: Callable[[int], object] | None = None
        #: Called by `stop`, in the control thread.
        self.on_stop: Callable[[], None] = lambda: None
        self._debugger: bool | None = None
        self._interpreter: Interpreter | None = None
        self._prompts: Prompts | None = None
        self._comms: CommManager | None = None
        self._beside = Beside(self.dispatch, channels.call_later)
        self._stopping = False
        #: What a SIGINT that is on its way is meant for, in other threads than the main one.
        self._to_interrupt: list[tuple[Worker, Request | None]] | None = None
        self._status = Lock()
        self._making = RLock()

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter; made, and its modules imported, when something first needs it."""
        if self._interpreter is None:
            with self._making:
                if self._interpreter is None:
                    self._interpreter = self.language.interpreter(self)
        return self._interpreter

    @property
    def debugger(self) -> bool:
        """Whether breakpoints can be set; looked up once, for kernel_info."""
        if self._debugger is None:
            try:
                self._debugger = self.language.has_debugger()
            except Exception:  # user code has broken what finds modules, or used up all descriptors
                return False
        return self._debugger

    @property
    def prompts(self) -> Prompts:
        """The questions that user code asks on stdin."""
        if self._prompts is None:
            from .stdin import Prompts

            with self._making:
                self._prompts = self._prompts or Prompts()
        return self._prompts

    @property
    def comms(self) -> CommManager:
        """The open comms and their targets."""
        if self._comms is None:
            from .comm import CommManager

            with self._making:
                self._comms = self._comms or CommManager()
        return self._comms

    def get_parent(self) -> dict[str, Any]:
        """Return the message that the calling code works for, as ipywidgets' Output asks for it."""
        request = current_request()
        return {} if request is None else {"header": request.header}

    def run(self) -> None:
        """Announce the kernel and answer requests in the calling thread until `stop`."""
        self.start()
        interrupt.others = self._interrupt_others
        self.main.run()

    def start(self) -> None:
        """Announce the kernel and start to listen."""
        self.channels.send("iopub", "status", {"execution_state": "starting"})
        self.channels.start(self._receive)

    def quit(self) -> None:
        """Have the control thread stop the kernel.  Any thread, and signal handlers."""
        self._on_control(self.stop)

    def _on_control(self, function: Callable[[], object]) -> None:
        self.control_worker.put(function)
        self.channels.outbox.call(lambda: self.control_worker.start())

    def _interrupt_others(self) -> None:
        """Interrupt what runs beside the main thread.  Any thread, and signal handlers."""
        cells, self._to_interrupt = self._to_interrupt or self._beside_main(), None
        if self._prompts is not None or cells:
            self._on_control(lambda: self.interrupt_cells(cells))

    def _beside_main(self) -> list[tuple[Worker, Request | None]]:
        return [(worker, worker.cell) for worker in self.subshells.workers()]

    def interrupt(self) -> None:
        """Interrupt what runs on shell and in the subshells.  Any thread."""
        self._to_interrupt = self._beside_main()
        interrupt.send()

    def interrupt_cells(self, cells: list[tuple[Worker, Request | None]]) -> None:
        """Interrupt what other threads run than the main one, if it is still the same.  Any thread."""
        for worker, cell in cells:
            interrupt.throw(worker, cell)
        if self._prompts is not None:
            self._prompts.interrupt()

    def stop(self) -> None:
        """End `run`, interrupting what runs.  The control thread."""
        if self._stopping:
            return
        self._stopping = True
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
        msg_type = message.msg_type
        if channel == "control" and msg_type == "debug_request":
            worker = self.debug_worker
        elif channel == "control" and msg_type in self.control:
            worker = self.control_worker
        else:
            worker = self.subshells.worker(message.header.get("subshell_id"), self.main) or self.control_worker
        if msg_type == "comm_msg" and self._comms is not None:
            worker = self._comms.awaiting(message.content) or worker
        request = Request(self, worker, channel, message, self.channels.received)
        if msg_type in BESIDE and worker is not self.control_worker:
            self._beside.add(request)
        worker.put(request, while_awaiting=msg_type in WHILE_AWAITING)
        worker.start()

    def dispatch(self, request: Request) -> None:
        """Answer one request: busy, what its handler does, reply, idle.

        A signal handler of the user's may raise between any two lines here, and the worker calls this again then:
        what has been sent is not sent again, and what has not been sent still is.
        """
        worker = request.worker
        if not request.started:
            if worker.running is not request:  # a cell that awaits, while a comm's message is delivered
                request.before = worker.running
            if request.before is None:
                interrupt.pending.pop(worker.ident, None)
            request.began = monotonic()
            with self._status:
                worker.running = request
                self._publish_status(request, "busy", mark=(request, "started", now()))
            try:
                # not before: a thread that was born in C may print at any moment
                request.make_current(beside=request.msg_type in self.control)
                content = self._handle(request)
                if getpid() != self.pid:
                    _exit(0)  # a callback has forked, and this is the child: its sockets are its parent's
                if content is not None:
                    self._reply(request, content)
            except (BadContent, KeyboardInterrupt) as error:
                self._reply(request, error_content(error))
            except BaseException as error:  # a bug: said aloud, and answered all the same
                log.traceback(f"the handler of {request.msg_type}", error)
                self._reply(request, error_content(error))
        elif not request.replied and reply_type(request.msg_type) is not None:
            self._reply(request, error_content(RuntimeError("a signal handler has raised before the reply")))
        self._end(request)
        if self._prompts is not None:
            self._prompts.forget(request)
        if request.before is not None:
            request.before.make_latest()
        if request.afterwards is not None:
            request.afterwards()
        request.done = True
        request.content, request.before = {}, None  # a thread may keep the request for long, but not the code
        del request.message

    def _end(self, request: Request) -> None:
        """Publish the idle of a request, and what is still busy beside it."""
        before = request.before
        with self._status:
            request.worker.running = None if before is None or before.done else before
            if request.idle:
                return
            self._publish_status(request, "idle", mark=(request, "idle", True))
            cell = self.main.running
            if cell is not None:
                self._publish_status(cell, "busy")

    def _handle(self, request: Request) -> dict[str, Any] | None:
        table = self.control if request.worker in (self.control_worker, self.debug_worker) else self.shell
        known = request.msg_type in table
        if table is self.control and (request.channel == "shell" if known else request.msg_type in self.shell):
            raise UnknownSubshellError(request.header.get("subshell_id"))  # or it would not be here
        handler = table.get(request.msg_type)
        if handler is None:
            log.complain("no handler", f"{request.msg_type[:80]!r} on {request.channel}")
            if reply_type(request.msg_type) is None:
                return None
            raise BadContent(f"{request.msg_type} is not for {request.channel}")
        request.content = complete(request.msg_type, request.content)
        if request.number <= request.worker.aborted and request.msg_type == "execute_request":
            return {"status": "aborted", "execution_count": request.worker.execution_count}
        content = handler(request)
        if hasattr(content, "__await__") and request.worker.loop is not None:
            content = request.worker.loop.run(content)
        return cast("dict[str, Any] | None", content)

    def _reply(self, request: Request, content: dict[str, Any]) -> None:
        name = request.msg_type
        msg_type = reply_type(name) if name in MESSAGES else name.replace("_request", "_reply")
        if msg_type is None:  # nobody waits for an answer to a comm's message
            log.complain(f"refused a {name}", content.get("evalue", ""))
            return
        if request.msg_type == "execute_request":  # the console counts on it, whatever went wrong
            content.setdefault("execution_count", request.worker.execution_count)
        if not request.replied:
            request.reply(msg_type, {"status": "ok", **content}, {"started": request.started})

    def _publish_status(self, request: Request, state: str, mark: Mark | None = None) -> None:
        self.channels.send("iopub", "status", {"execution_state": state}, request.header_frame, mark=mark)


def error_content(error: BaseException) -> dict[str, Any]:
    """Return the content of the reply to a request that failed outside user code."""
    name, value = type(error).__name__, str(error)
    return {"status": "error", "ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}
