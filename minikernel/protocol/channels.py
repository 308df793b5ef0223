"""The five sockets, and the one thread that owns four of them.

=========  ======  =====================================================================================
shell      ROUTER  requests and replies
control    ROUTER  the same for interrupt, shutdown and debugging, read before shell
stdin      ROUTER  the kernel asks (input_request), the frontend answers (input_reply)
iopub      XPUB    everything that all frontends should see (see ``iopub``)
hb         ROUTER  echoes what it gets, in C, so that it beats while Python is stuck
=========  ======  =====================================================================================

Only the channels thread touches shell, control, stdin and iopub.  It sleeps in one level-triggered poll: that
ends as long as there is something to read, not only when it comes.  What arrives is verified and handed to
`receive`, what leaves comes from the `Outbox`, in order.  Two users of one socket, edge-triggered wake-ups and
loops joined by inner sockets is how other kernels came to lose requests.

A slow frontend holds up nothing here.  The reply to a cell and the question of one leave when its output has been
handed over to all who go on reading, for clients give up on output soon after the reply; what is for control leaves
at once.

The sockets are bound before anything else is imported, ports that were 0 are real after that, and requests
queue in the sockets until `start`.  A bug in this thread ends the process, unless that has another owner: a dead
kernel is restarted by its manager, a half-dead one is not.

Next: ``kernel.request``.
"""

from __future__ import annotations

import os
from bisect import insort
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, SIGTERM, pthread_sigmask
from threading import Thread
from time import monotonic, sleep
from typing import Any, TypeVar

import zmq

from .. import __builtins__ as __builtins__
from . import log, multipart
from .iopub import Publisher
from .multipart import INFINITY
from .outbox import Entry, Mark, Outbox, Text
from .wire import EMPTY, Frame, Message, Session, WireError

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
#: Seconds for which a port that is in use is tried again: a predecessor may be on its way out.
PORT_PATIENCE = 3.0
#: Seconds for which a question waits for its frontend's stdin to connect.
STDIN_PATIENCE = 10.0
#: Seconds that unsent messages may hold up the end of the process: one half here, the other in libzmq.
LINGER = 1.0
#: Bytes from which a frame is sent without copying it.  The first costs pyzmq three threads and seven descriptors.
LARGE = 1 << 20
#: Messages that leave, or arrive on one socket, before the others have their turn.
TURN = 100

T = TypeVar("T")
Receive = Callable[[str, Message], None]
#: Sees every message: "in" or "out", the channel, the frames; at last "end", when all has been sent.
Tracer = Callable[[str, str, list[Frame]], None]


def endpoint(transport: str, ip: str, port: int | str) -> str:
    """Return zmq's name of the place that these fields of a connection file say."""
    if transport == "ipc":
        return f"ipc://{ip}-{port}"
    return f"{transport}://[{ip}]:{port}" if ":" in ip else f"{transport}://{ip}:{port}"


class Channels:
    """The sockets of one kernel.

    Parameters
    ----------
    info : dict
        A connection file's fields; its ports that are 0 are replaced by the ports that were bound.
    session : Session
        Signs and verifies every message.

    Raises
    ------
    OSError
        A socket could not be bound; the message names the endpoint and, where known, who holds it.
    """

    def __init__(self, info: dict[str, Any], session: Session) -> None:
        self.session = session
        self.outbox = Outbox()
        self.tracers: list[Tracer] = []
        #: How many messages have arrived.
        self.received = 0
        #: Called in the channels thread about every `interval()` seconds, and never while that is infinite.
        self.tick: Callable[[], None] = lambda: None
        self.interval: Callable[[], float] = lambda: INFINITY
        #: Called in the channels thread with the numbers of signals that Python has put into the wake-up pipe.
        self.on_signals: Callable[[bytes], object] = lambda signals: None
        #: Called in the channels thread when a bug has ended it.
        self.on_bug: Callable[[], object] = lambda: os._exit(1)
        #: Sockets and descriptors, in the order in which they are read.
        self._polled: list[Any] = []
        self._watched: dict[int, Callable[[], None]] = {}
        #: When the sockets have to be closed.
        self._closing: float | None = None
        #: What is for shell and stdin, with the number of the last message on iopub before it.
        self._replies: deque[tuple[int, str, list[Frame]]] = deque()
        self._late: list[tuple[float, list[Frame]]] = []
        self._paths: list[str] = []
        self._ports: set[int] = set()
        #: In order of time.
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = count()
        self._context = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        try:
            for channel in CHANNELS:
                self._sockets[channel] = self._bind(channel, info)
        except BaseException:
            self._context.destroy(linger=0)
            self.outbox.close()
            raise
        self._hb = self._sockets.pop("hb")
        self._heartbeat = Thread(target=self._beat, name="minikernel-heartbeat", daemon=True)
        self._thread = Thread(target=self._run, name="minikernel-channels", daemon=True)

    def _bind(self, channel: str, info: dict[str, Any]) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.XPUB if channel == "iopub" else zmq.ROUTER)
        socket.linger = int(LINGER / 2 * 1000)
        socket.copy_threshold = LARGE
        if channel == "iopub":
            self._iopub = Publisher(socket, self.session, self.outbox, self._trace)
        else:
            socket.router_handover = 1  # a client that reconnects keeps its identity (ipykernel#270)
            if channel != "hb":  # where nothing is lost with an echo that nobody reads
                socket.sndhwm = 0  # a ROUTER drops what is over its mark
            socket.router_mandatory = channel == "stdin"  # see _ask_late
        if info.get("curve_secretkey"):
            from .curve import serve

            serve(socket, info)
        ip, port = info["ip"], int(info[f"{channel}_port"])
        address = endpoint(info["transport"], ip, port or "*")
        socket.ipv6 = ":" in ip
        if info["transport"] == "ipc":
            self._paths.append(os.path.abspath(f"{ip}-{port}"))
        deadline = monotonic() + PORT_PATIENCE
        while True:
            try:
                socket.bind(address)
                break
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or monotonic() > deadline:
                    from .holder import describe

                    raise OSError(
                        error.errno, f"cannot bind {channel} to {address}: {describe(str(error.strerror), port)}"
                    ) from None
                sleep(0.05)  # nobody tells us when a port becomes free
        if info["transport"] == "tcp" and not port:
            info[f"{channel}_port"] = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._ports.add(int(info[f"{channel}_port"]))
        return socket

    def start(self, receive: Receive) -> None:
        """Start the heartbeat and the channels thread; `receive` gets every message that is let in."""
        self._receive = receive
        before = pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM})  # threads inherit it: signals are main's
        self._heartbeat.start()
        self._thread.start()
        pthread_sigmask(SIG_SETMASK, before)

    def send(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        parent: bytes = EMPTY,
        *,
        metadata: dict[str, Any] | None = None,
        buffers: Any = (),
        idents: list[bytes] | None = None,
        msg_id: str | None = None,
        mark: Mark | None = None,
    ) -> None:
        """Sign a message and queue it, and set the `mark` in the same step.  Any thread.

        On iopub the topic is the message's type unless `idents` names another.  Raises what `Session.pack`
        raises, in the caller's thread; nothing has been queued then.
        """
        if idents is None:
            idents = [msg_type.encode()]
        self.outbox.put(
            channel,
            self.session.pack(
                msg_type, content, parent, metadata=metadata, buffers=buffers, idents=idents, msg_id=msg_id
            ),
            mark,
        )

    @property
    def subscriptions(self) -> int:
        """How many subscriptions to iopub are in force.  Any thread."""
        return self._iopub.subscriptions

    def catch_up(self) -> int:
        """Read all that has reached the shell socket; return how many messages have arrived so far."""

        def read() -> int:
            self._read("shell", limit=None)
            return self.received

        return self.ask(read) if self._thread.is_alive() else self.received

    def ask(self, function: Callable[[], T]) -> T:
        """Have the channels thread call `function` between two messages, and return what it returns."""
        answer: SimpleQueue[T] = SimpleQueue()
        self.outbox.call(lambda: answer.put(function()))
        return answer.get()

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` in the channels thread, after some time.  The channels thread."""
        insort(self._timers, (monotonic() + seconds, next(self._counter), function))

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` once, in the channels thread, when the descriptor `fd` is readable."""
        self._watched[fd] = on_readable
        self.outbox.call(lambda: self._polled.append(fd))

    def close(self) -> None:
        """Send all that is queued, close the sockets and end both threads, within about `LINGER` seconds."""

        def end() -> None:
            self._closing = monotonic() + LINGER / 2

        self.outbox.call(end)
        self._thread.join()
        self._trace("end", "", [])
        self._context.term()  # ends the proxy, whose thread closes its socket
        self._heartbeat.join()
        self.outbox.abandon()
        self.unlink()

    def unlink(self) -> None:
        """Remove the files of ipc sockets, of which libzmq forgets some."""
        for path in self._paths:
            if os.path.exists(path):
                os.unlink(path)

    def abandon(self) -> None:
        """Let go of the sockets: this is a forked child, and they are the parent's.

        Otherwise a child that outlives the kernel would keep its ports from a successor.
        """
        import _socket  # what a child of multiprocessing would not import for anything else

        self.outbox.abandon()
        for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
            try:
                descriptor = _socket.socket(fileno=int(name))
            except OSError:
                continue  # not a socket
            try:
                address = descriptor.getsockname()
            except OSError:
                address = None
            if address in self._paths or (isinstance(address, tuple) and address[1] in self._ports):
                descriptor.close()
            else:
                descriptor.detach()

    # -- the heartbeat's thread ------------------------------------------------------------------------

    def _beat(self) -> None:
        try:
            zmq.proxy(self._hb, self._hb)
        except zmq.ContextTerminated:
            self._hb.close(linger=0)

    # -- the channels thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            try:
                log.traceback("the channels thread", error)
            finally:  # there may be no memory left to say so
                self.on_bug()
        for socket in self._sockets.values():
            socket.close()
        self.outbox.close()

    def _loop(self) -> None:
        readers = {socket: channel for channel, socket in self._sockets.items()}
        for channel in ("control", "shell", "stdin", "iopub"):
            self._polled.append(self._sockets[channel])
        wake_fd = self.outbox.wake_fd
        self._polled.append(wake_fd)
        due = INFINITY
        iopub_fd = self._sockets["iopub"].FD
        while True:
            wait = self._send_some()
            now = monotonic()
            if self._closing is not None:
                if self._iopub.reached == self._iopub.published or now >= self._closing:
                    break
                wait = min(wait, self._closing - now)
            due = min(due, now + self.interval())
            if due <= now:
                self.tick()
                due = now + self.interval()
            while self._timers and self._timers[0][0] <= now:
                self._timers.pop(0)[2]()
            timeout = min(due - now, wait)
            if self._timers:
                timeout = min(timeout, self._timers[0][0] - now)
            if self._late:
                timeout = min(timeout, self._ask_late())
            if self._iopub.late and iopub_fd not in self._watched:  # there may be room before `wait` is over
                self._watched[iopub_fd] = lambda: None
                self._polled.append(iopub_fd)
            readable = multipart.poll(self._polled, timeout)
            called = False
            for ready in readable:
                if ready == wake_fd:
                    called = True
                elif isinstance(ready, int):
                    self._polled.remove(ready)
                    self._watched.pop(ready)()
            signals = self.outbox.awake(called)
            if signals:
                self.on_signals(signals)
            for ready in readable:
                if not isinstance(ready, int):
                    self._read(readers[ready])
        self._send_replies(INFINITY)

    def _read(self, channel: str, limit: int | None = TURN) -> None:
        """Hand on what has arrived; after `limit` messages the other sockets have their turn."""
        if channel == "iopub":
            self._iopub.listen(TURN)
            return
        socket = self._sockets[channel]
        while (limit is None or limit > 0) and multipart.readable(socket):
            if limit is not None:
                limit -= 1
            frames = multipart.receive(socket)
            self._trace("in", channel, frames)
            try:
                message = self.session.unpack(frames)
            except WireError as error:
                log.complain(f"dropped a message on {channel}", str(error))
                continue
            self.received += 1
            self._receive(channel, message)

    def _send_some(self) -> float:
        """Send what may leave, but not for ever; return the seconds until more may."""
        wait = 0.0
        for _ in range(TURN):
            entry = self.outbox.take()
            if entry is None or isinstance(entry, float):
                wait = INFINITY if entry is None else entry
                break
            self._send(entry)
        wait = min(wait, self._iopub.catch_up())
        self._send_replies(self._iopub.reached)
        return wait

    def _send(self, entry: Entry) -> None:
        if isinstance(entry, Text):
            content = {"name": entry.name, "text": entry.text}
            topic = f"stream.{entry.name}".encode()
            frames = self.session.pack("stream", content, entry.parent, idents=[topic])
            self._trace("out", "iopub", frames)
            self._iopub.publish(frames, entry.text)
        elif isinstance(entry, tuple):
            channel, frames = entry
            self._trace("out", channel, frames)
            if channel == "iopub":
                self._iopub.publish(frames)
            elif channel == "control":
                self._transmit(channel, frames)
            else:
                self._replies.append((self._iopub.published, channel, frames))
                if not self._iopub.late:
                    self._send_replies(INFINITY)
        else:
            entry()

    def _send_replies(self, reached: float) -> None:
        """Send the replies and questions that come before the message on iopub with the number `reached`."""
        while self._replies and self._replies[0][0] <= reached:
            _, channel, frames = self._replies.popleft()
            try:
                self._transmit(channel, frames)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._late.append((monotonic() + STDIN_PATIENCE, frames))

    def _ask_late(self) -> float:
        """Repeat the questions that reached nobody; return the seconds until the next try.

        A frontend's sockets connect one by one: it may ask for an input() before its stdin has arrived,
        and a ROUTER drops what is for somebody it does not know.
        """
        late, self._late = self._late, []
        for deadline, frames in late:
            try:
                self._transmit("stdin", frames)
            except zmq.ZMQError:
                if monotonic() < deadline:
                    self._late.append((deadline, frames))
                else:
                    log.complain("a frontend asked for stdin and did not connect to it")
        return 0.02 if self._late else INFINITY

    def _trace(self, direction: str, channel: str, frames: list[Frame]) -> None:
        for trace in self.tracers:
            trace(direction, channel, frames)

    def _transmit(self, channel: str, frames: list[Frame]) -> None:
        multipart.send(self._sockets[channel], frames)
