"""pydevd, the tracer of debugpy: started in this process, and talked to in the Debug Adapter Protocol.

debugpy would start an adapter, a process that listens on a port where anybody on the machine could debug this
one.  Here the kernel is the adapter: it listens on 127.0.0.1 for the one moment in which pydevd connects to
it, and asks who is there for a token.  No port stays open, and no process can be left behind.

What pydevd must never hold is a thread that has a lock of the kernel's: threads of the kernel's own are not
traced, and neither is what the main thread runs when it sends a message.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..kernel import interrupt

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

Content = dict[str, Any]

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: Seconds for a running cell to end before the tracer starts beside it.
MAIN_PATIENCE = 1.0
#: Seconds for pydevd's answer: a thread that has gone on gives none.
PATIENCE = 30.0


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
    trace : callable
        Has all threads traced, and the calling one above all.

    Raises
    ------
    Failed
        There is no debugpy, or it does not start.
    """

    def __init__(self, kernel: Kernel, on_event: Callable[[Content], None]) -> None:
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or it warns of frozen modules
        try:
            server = importlib.import_module(
                "debugpy.server"
            )  # makes its pydevd the one that is found, speaking DAP
            pydevd = importlib.import_module("pydevd")
        except ImportError as error:
            raise Failed(f"the debugger needs debugpy ({error}): pip install debugpy") from None
        self._kernel = kernel
        self._on_event = on_event
        self._sending = threading.Lock()
        self._seq = 0
        self._waiting: dict[int, Callable[[Content], object]] = {}
        for thread in threading.enumerate():
            if thread.name.startswith("minikernel-"):
                _never_trace(thread)
        token = os.urandom(32).hex()
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            host, port = listener.getsockname()
            debugpy = os.path.dirname(os.path.dirname(str(server.__file__))) + os.sep
            library = os.path.dirname(os.__file__)
            untraced = (debugpy, PACKAGE, os.path.join(library, "json", ""), os.path.join(library, "hmac.py"))
            self.trace: Callable[[], object] = partial(
                pydevd.settrace, host=host, port=port, client_access_token=token, suspend=False,
                wait_for_ready_to_run=False, notify_stdin=False, dont_trace_start_patterns=untraced,
            )  # fmt: skip
            self._in_main(self.trace)
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
        interrupt.held = self._held

    def send(self, command: str, arguments: Content, then: Callable[[Content], object]) -> None:
        """Send a request; `then` gets its response, in the reading thread."""
        with self._sending:
            self._seq += 1
            self._waiting[self._seq] = then
            message = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
            data = json.dumps(message).encode()
            try:
                self._connection.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(data), data))
            except OSError:
                pass  # the reading thread sees it, too

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
        while self._waiting:
            self._waiting.popitem()[1]({"success": False, "message": "the debugger has ended"})

    def _receive(self, message: Content) -> None:
        if message["type"] == "event":
            self._on_event(message)
        elif message["type"] == "response":
            then = self._waiting.pop(message["request_seq"], None)
            if then is not None:
                then(message)

    def _in_main(self, function: Callable[[], object]) -> None:
        """Call `function` in the main thread between two cells; here, when a cell does not end soon.

        Where pydevd can't reach into threads that run already (Python 3.11 and older, without its compiled
        helper), the main thread is traced in the first case only.
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

    def _held(self, frame: FrameType | None) -> bool:
        """Tell whether an interrupt has to wait because pydevd is on top of the user's code.  Signal handlers, too.

        Where pydevd holds a thread, KeyboardInterrupt is raised like in any other wait: the line that the user
        looks at must not run first.
        """
        while frame is not None and frame.f_globals.get("__name__") == "threading":
            frame = frame.f_back
        if frame is None or not str(frame.f_globals.get("__name__")).startswith(("pydevd", "_pydev")):
            return False
        if frame.f_code.co_name != "_do_wait_suspend":
            return True
        self.send("continue", {"threadId": "*"}, lambda response: None)
        return False


def _never_trace(thread: threading.Thread) -> None:
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
