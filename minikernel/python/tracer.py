"""pydevd, the tracer of debugpy: started in this process, and talked to in the Debug Adapter Protocol.

debugpy would start an adapter, a process that listens on a port where anybody on the machine could debug this
one.  Here the kernel is the adapter: it listens on 127.0.0.1 for the one moment in which pydevd connects to
it, and asks who is there for a token.  No port stays open, and no process can be left behind.

What pydevd must never hold is a thread that has a lock of the kernel's: threads of the kernel's own are not
traced, and neither is what the main thread runs when it sends a message.

An interrupt must not tear pydevd: it is pending while pydevd is on top of the user's code.  Where pydevd holds a
thread, an interrupt lets all threads go on, and that thread leaves pydevd with a KeyboardInterrupt: the line that
the user looks at does not run.  It leaves only when all have been let go: to do so later would end its next stop.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __builtins__ as __builtins__
from ..kernel import interrupt, worker

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

Content = dict[str, Any]

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: Seconds for a running cell to end before the tracer starts beside it.
MAIN_PATIENCE = 1.0
#: Seconds for pydevd's answer: a thread that is not stopped gives none.
PATIENCE = 30.0

_ENDED = {"type": "response", "success": False, "message": "the debugger has ended; initialize starts it again"}


class Failed(Exception):
    """A request that can't be fulfilled; its text is the response's message."""


class Tracer:
    """pydevd in this process: requests and their responses, by number.  Any thread.

    Parameters
    ----------
    kernel : Kernel
    on_event : callable
        Gets every event, in the reading thread.

    Attributes
    ----------
    stops : dict
        The threads that pydevd holds, by ident.
    install_breakpointhook : callable
        Has `breakpoint` stop in the debugger.
    ended : bool
        pydevd has gone, as when it does not understand a request; another Tracer can start it again.

    Raises
    ------
    Failed
        There is no debugpy, or it does not start.
    """

    def __init__(self, kernel: Kernel, on_event: Callable[[Content], None]) -> None:
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or it warns of frozen modules
        try:
            server = importlib.import_module("debugpy.server")  # has its own pydevd found, and that speak DAP
            pydevd = importlib.import_module("pydevd")
            api = importlib.import_module("_pydevd_bundle.pydevd_api").PyDevdAPI()
        except ImportError as error:
            raise Failed(f"the debugger needs debugpy ({error}): pip install debugpy") from None
        self._kernel = kernel
        self._on_event = on_event
        self._sending = threading.Lock()
        self._seq = 0
        self._waiting: dict[int, Callable[[Content], object]] = {}
        self.stops: dict[int, _Stop] = {}
        self._interrupted: set[int] = set()
        self.ended = False
        for thread in threading.enumerate():
            if thread.name.startswith("minikernel-"):
                _never_trace(thread)
        worker.on_begin[:] = [_never_trace_this]
        _never_trace_this()
        if kernel.control_worker.started:
            marked = threading.Event()
            kernel.control_worker.put(_never_trace_this)
            kernel.control_worker.put(marked.set)
            marked.wait(MAIN_PATIENCE)  # pydevd looks at a thread when it first does something under a tracer
        token = os.urandom(32).hex()
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            host, port = listener.getsockname()
            debugpy = os.path.dirname(os.path.dirname(str(server.__file__))) + os.sep
            library = os.path.dirname(os.__file__)
            untraced = (debugpy, PACKAGE, os.path.join(library, "json", ""), os.path.join(library, "hmac.py"))
            settrace = partial(
                pydevd.settrace, host=host, port=port, client_access_token=token, suspend=False,
                wait_for_ready_to_run=False, notify_stdin=False, dont_trace_start_patterns=untraced,
            )  # fmt: skip
            self._in_main(settrace)
            listener.settimeout(1)  # it has connected already
            try:
                self._connection, _ = listener.accept()
            except TimeoutError:
                raise Failed("this process is being debugged by somebody else") from None
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = threading.Thread(target=self._read, name="minikernel-debugger", daemon=True)
        _never_trace(reader)
        reader.start()
        if self.request("pydevdAuthorize", {}).get("clientAccessToken") != token:
            self._connection.close()
            raise Failed("somebody else has connected in the place of pydevd")
        debugger = pydevd.get_global_debugger()
        self.install_breakpointhook: Callable[[], object] = pydevd.install_breakpointhook
        self._trace = debugger.enable_tracing
        self._resume = api.request_resume_thread
        self._pause = partial(api.request_suspend_thread, debugger)
        self._id = pydevd.get_current_thread_id
        debugger.do_wait_suspend = partial(self._stop, debugger.do_wait_suspend)
        interrupt.held = self._held

    # -- requests --------------------------------------------------------------------------------------

    def send(self, command: str, arguments: Content, then: Callable[[Content], object]) -> None:
        """Send a request; `then` gets its response, in the reading thread.  Signal handlers, too."""
        with self._sending:
            self._seq += 1
            self._waiting[self._seq] = then
            message = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
            data = json.dumps(message).encode()
            try:
                self._connection.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
            except OSError:
                self._fail([self._seq], "the debugger has ended")

    def request(self, command: str, arguments: Content) -> Content:
        """Return the body of the response to a request.

        Raises
        ------
        Failed
            pydevd could not do it, or does not answer.
        """
        responses: SimpleQueue[Content] = SimpleQueue()
        self.send(command, arguments, responses.put)
        try:
            response = responses.get(timeout=PATIENCE)
        except Empty:
            raise Failed(f"{command} was not answered within {PATIENCE:.0f} seconds") from None
        if not response.get("success"):
            raise Failed(str(response.get("message")))
        body: Content = response.get("body") or {}
        return body

    def _read(self) -> None:
        with self._connection.makefile("rb") as file:
            for line in file:  # headers; the only one is Content-Length, and an empty line ends them
                if hasattr(socket, "TCP_QUICKACK"):  # or the body, which is sent apart, comes 40 ms later
                    self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                if line.startswith(b"Content-Length:"):
                    file.readline()
                    self._receive(json.loads(file.read(int(line.split(b":")[1]))))
        self._connection.close()
        self._receive({"type": "event", "event": "terminated", "seq": 0})
        self._fail(list(self._waiting), "the debugger has ended")

    def _receive(self, message: Content) -> None:
        if message["type"] == "response":
            then = self._waiting.pop(message["request_seq"], None)
            if then is not None:
                then(message)
        elif message["type"] == "event":
            self.ended |= message["event"] == "terminated"
            self._on_event(message)

    def _fail(self, asked: list[int], message: str) -> None:
        for seq in asked:
            self._receive({"type": "response", "request_seq": seq, "success": False, "message": message})

    # -- threads ---------------------------------------------------------------------------------------

    def _in_main(self, function: Callable[[], object]) -> None:
        """Call `function` in the main thread between two cells; here, when a cell does not end soon.

        Where pydevd can't reach into threads that run already (Python 3.11 and older, without its compiled
        helper), that cell is not traced in the second case.
        """
        turn = threading.Lock()
        done: SimpleQueue[Exception | None] = SimpleQueue()

        def once() -> None:
            if turn.acquire(blocking=False):
                try:
                    function()
                except Exception as error:  # must end neither the main thread nor be lost
                    done.put(error)
                else:
                    done.put(None)

        self._kernel.main.put(once)
        try:
            error = done.get(timeout=MAIN_PATIENCE)
        except Empty:
            once()
            error = done.get()
        if error is not None:
            raise Failed(f"the debugger could not be started: {error}") from error

    def resume(self) -> None:
        """Have all threads go on and step no further.  Not in signal handlers: pydevd takes its locks."""
        self._resume("*")

    def cell_ended(self, stepping: bool) -> None:
        """Leave the calling thread as its next cell needs it; `stepping`: nothing has stopped since a step."""
        if sys.gettrace() is None:
            self._trace()  # Python stops to trace a thread that is interrupted in its trace function
        ident = threading.get_ident()
        if ident in self._interrupted:  # and there was no next line
            self._interrupted.discard(ident)
            self.resume()
        elif stepping and not self.stops:  # the step would end in the next cell
            self._resume(self._id(threading.current_thread()))

    @interrupt.landing  # of what is evaluated meanwhile
    def _stop(self, hold: Any, thread: Any, frame: Any, event: str, arg: Any, *more: Any, **named: Any) -> None:
        """Have pydevd `hold` the calling thread; end that with KeyboardInterrupt when an interrupt has come."""
        ident = threading.get_ident()
        stop = self.stops[ident] = _Stop(threading.Lock(), threading.Event())
        try:
            interrupted = ident in interrupt.pending or ident in self._interrupted
            if interrupted or (event == "exception" and issubclass(arg[0], KeyboardInterrupt)):
                self.resume()
            else:
                hold(thread, frame, event, arg, *more, **named)
            if not stop.end.acquire(blocking=False):
                interrupted = True
                stop.ended.wait(PATIENCE)  # or the next stop would be ended, too
            if interrupted:
                interrupt.pending.pop(ident, None)
                self._interrupted.discard(ident)
                if event != "exception":
                    raise KeyboardInterrupt
                self._interrupted.add(ident)  # pydevd would swallow it here, but not in the next line
                self._pause(self._id(thread))
        finally:
            self.stops.pop(ident, None)
            if not self.stops:  # what pydevd has not asked the thread by now it would ask in its next stop
                asked = list(self._waiting)
                self.send("threads", {}, lambda response: self._fail(asked, "the thread has gone on"))

    def _held(self, ident: int, frame: FrameType | None) -> bool:
        """Tell whether pydevd is on top of a thread's code; have it let go of the thread.  Signal handlers, too."""
        while frame is not None and frame.f_code is not _STOP and _module(frame) in _LIBRARIES:
            frame = frame.f_back
        if frame is None or not (frame.f_code is _STOP or _module(frame).startswith(("pydev", "_pydev"))):
            return False
        stop = self.stops.get(ident)
        if stop is None:
            signal.raise_signal(interrupt.NUDGE)  # look again a few bytecodes later
        elif stop.end.acquire(blocking=False):

            def end(response: Content) -> None:
                if response["success"]:
                    self.resume()
                stop.ended.set()

            self.send("threads", {}, end)  # whatever the question: the reading thread can take pydevd's locks
        return True


class _Stop(NamedTuple):
    """A thread that pydevd holds."""

    #: Who gets it has ended the stop: the thread, because pydevd has let it go, or an interrupt.
    end: threading.Lock
    #: Set when the interrupt has resumed all threads.
    ended: threading.Event


_STOP = Tracer._stop.__code__
#: What pydevd calls, too: the import of a module, for one, leads into the kernel.
_LIBRARIES = sys.stdlib_module_names | {__name__.partition(".")[0]}


def _module(frame: FrameType) -> str:
    """Return the name of the package, or the module outside one, whose code runs in a frame."""
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _never_trace_this() -> None:
    _never_trace(threading.current_thread())


def _never_trace(thread: threading.Thread) -> None:
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
