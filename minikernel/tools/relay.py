"""The sockets between frontends and a kernel: what arrives on one side leaves on the other, frame by frame.

=========  ==================  ==================  ===================================================
channel    to the frontends    to the kernel
=========  ==================  ==================  ===================================================
shell      ROUTER, bound       DEALER, connected   and control and stdin
iopub      XPUB, bound         XSUB, connected     messages one way, subscriptions the other
hb         ROUTER, bound       DEALER, connected
=========  ==================  ==================  ===================================================

A ROUTER puts the routing id of the frontend in front of what it receives, and takes it off from what it sends: so
the kernel finds it before the delimiter, as the second routing id behind the relay's own, and answers to both.
The relay has one id on shell, control and stdin, as frontends do; so a question on stdin finds the frontend whose
cell asks.  Subscriptions reach the kernel as frontends make them, so ``iopub_welcome`` is the kernel's own.  They
are not taken back: to the kernel all frontends are one, and one would take back what others have asked for.

This file decides nothing about a message and reads none: it would forward rubbish as faithfully.  Only on iopub it
lets nothing but subscriptions through, for a kernel may hang up on who sends it rubbish, and that would be all.
Frames are handed from socket to socket without copying their bytes, and `tracers` see them when they have left.
One thread runs all this, in a poll; that it holds no lock and waits for nobody is what keeps the relay below a
millisecond.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import zmq

from ..protocol import curve, log
from ..protocol.channels import CHANNELS, LINGER, PORT_PATIENCE, STDIN_PATIENCE, Tracer, endpoint
from ..protocol.iopub import LARGEST, MOST
from ..protocol.wire import Frame

#: Seconds for which one frontend that reads nothing from iopub may hold up the others; then it misses messages.
STALL = 3.0
#: Seconds after which what could not be delivered is tried again.
AGAIN = 0.005
#: Seconds without a message after which a kernel that has gone has said all.
SILENCE = 0.1

#: Flags of sending; as enums they take longer than the sending itself.
_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)


class Relay:
    """The sockets of one kernel, twice: those that frontends connect to, and from `connect` on the kernel's.

    Parameters
    ----------
    front : dict
        A connection file's fields, for frontends; its ports that are 0 are replaced by those that were bound.

    Raises
    ------
    OSError
        A socket could not be bound; the message names the endpoint and, where known, who holds it.
    """

    def __init__(self, front: dict[str, Any]) -> None:
        #: Called with every message, after it has been forwarded: direction, channel, frames.
        self.tracers: list[Tracer] = []
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._watched: dict[int, Callable[[], None]] = {}
        self._running = True
        self._held: list[zmq.Frame] | None = None
        self._stalled_since = 0.0
        self._late: list[tuple[float, list[zmq.Frame]]] = []
        #: What frontends may have subscribed to.
        self._topics = {b""}
        self._paths = [f"{front['ip']}-{front[f'{name}_port']}" for name in CHANNELS if front["transport"] == "ipc"]
        #: Where what arrives at a socket goes to.
        self._ways: dict[zmq.Socket[bytes], tuple[str, str, zmq.Socket[bytes]]] = {}
        self._back: dict[str, zmq.Socket[bytes]] = {}
        try:
            self._front = {name: self._bind(name, front) for name in CHANNELS}
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def connect(self, back: dict[str, Any]) -> None:
        """Connect to the kernel, which may come later; `back` are the fields of its own connection file.

        Its ports are to be chosen when those of the frontends are bound, and can't be the same.
        """
        identity = b"minikernel-trace-" + os.urandom(8).hex().encode()
        self._back = {name: self._connect(name, back, identity) for name in CHANNELS}
        for name in ("control", "shell", "stdin", "iopub", "hb"):
            self._ways[self._front[name]] = "in", name, self._back[name]
            self._ways[self._back[name]] = "out", name, self._front[name]
        #: What a kernel sends on these comes after what it has sent on iopub.
        self._behind_iopub = [self._back[name] for name in ("shell", "control", "stdin")]
        for socket in self._ways:
            self._poller.register(socket, zmq.POLLIN)

    def _bind(self, channel: str, info: dict[str, Any]) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.XPUB if channel == "iopub" else zmq.ROUTER)
        if channel == "iopub":
            socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # the kernel welcomes every subscriber
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.maxmsgsize = LARGEST
        else:
            socket.router_handover = 1
            if channel != "hb":  # there, what nobody reads may be dropped
                socket.router_mandatory = 1
                socket.sndhwm = 0
        if info.get("curve_secretkey"):
            curve.serve(socket, info)
        socket.ipv6 = ":" in info["ip"]
        port = int(info[f"{channel}_port"])
        address = endpoint(info["transport"], info["ip"], port or "*")
        deadline = monotonic() + PORT_PATIENCE
        while True:
            try:
                socket.bind(address)
                break
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or monotonic() > deadline:
                    from ..protocol.holder import describe

                    reason = describe(str(error.strerror), port)
                    raise OSError(error.errno, f"cannot bind {channel} to {address}: {reason}") from None
                sleep(0.05)  # nobody tells us when the relay before us has let go of it
        if not port:
            info[f"{channel}_port"] = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        return socket

    def _connect(self, channel: str, info: dict[str, Any], identity: bytes) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.XSUB if channel == "iopub" else zmq.DEALER)
        socket.sndhwm = socket.linger = 0
        socket.reconnect_ivl = 10  # milliseconds: the kernel will soon be there
        if channel in ("shell", "control", "stdin"):
            socket.identity = identity
        if info.get("curve_secretkey"):
            curve.join(socket, info)
        socket.ipv6 = ":" in info["ip"]
        socket.connect(endpoint(info["transport"], info["ip"], info[f"{channel}_port"]))
        return socket

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` in the thread that runs the relay whenever the descriptor `fd` is readable."""
        self._watched[fd] = on_readable
        self._poller.register(fd, zmq.POLLIN)

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more."""
        del self._watched[fd]
        self._poller.unregister(fd)

    def run(self) -> None:
        """Forward messages until `stop` is called from what is watched, and then what the kernel said last."""
        while self._running:
            self._step(None)
        deadline = monotonic() + LINGER
        while self._step(SILENCE) and monotonic() < deadline:
            pass

    def stop(self) -> None:
        """Let `run` return."""
        self._running = False

    def close(self) -> None:
        """Close all sockets when what they hold has been sent, or after a second."""
        for tracer in self.tracers:
            tracer("end", "", [])
        for socket in self._back.values():
            socket.close(linger=0)
        self._context.destroy(linger=int(LINGER * 1000))
        for path in self._paths:
            if os.path.exists(path):  # libzmq forgets some
                os.unlink(path)

    def _step(self, patience: float | None) -> bool:
        """Wait up to `patience` seconds, without end by default, and forward what has come; tell if any has."""
        if self._held is not None or self._late:
            patience = AGAIN
            self._try_again()
        events = self._poller.poll(None if patience is None else int(patience * 1000))
        for ready, _ in events:
            if isinstance(ready, int):
                self._watched[ready]()
                continue
            if ready in self._behind_iopub:
                while self._forward(self._back["iopub"]):  # it came before this reply or question
                    pass
            self._forward(ready)
        return bool(events) or self._held is not None

    def _forward(self, source: zmq.Socket[bytes]) -> bool:
        """Hand on one message; tell whether there was one."""
        direction, channel, sink = self._ways[source]
        if self._held is not None and source is self._back["iopub"]:
            return False
        try:
            frames = [source.recv(_LAST, copy=False)]
        except zmq.Again:
            return False
        while frames[-1].more:
            frames.append(source.recv(copy=False))
        try:
            if channel != "iopub" or direction == "out" or self._is_wanted(frames):
                _send(sink, frames)
        except zmq.Again:  # only iopub has a mark
            self._hold(frames)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            # a frontend that has gone; or, on stdin, one whose sockets connect one by one
            if channel == "stdin":
                self._late.append((monotonic() + STDIN_PATIENCE, frames))
        else:
            if channel == "iopub" and direction == "out":
                self._stalled_since = 0.0
        if self.tracers:
            seen: list[Frame] = [frame.buffer for frame in frames]
            for tracer in self.tracers:
                tracer(direction, channel, seen)
        return True

    def _is_wanted(self, frames: list[zmq.Frame]) -> bool:
        """Tell whether what a frontend has sent on iopub is a subscription, and not one of too many."""
        said, topic = frames[0].bytes[:1], frames[0].bytes[1:]
        if said != b"\x01" or len(frames) > 1:
            return False
        if topic not in self._topics:
            if len(self._topics) >= MOST:
                log.complain("frontends ask for too many topics")
                return False
            self._topics.add(topic)
        return True

    def _hold(self, frames: list[zmq.Frame]) -> None:
        """Keep a message that some subscriber is too full for, and read no more of them from the kernel."""
        self._stalled_since = self._stalled_since or monotonic()
        self._held = frames
        self._poller.unregister(self._back["iopub"])
        self._try_again()

    def _try_again(self) -> None:
        """Send what could not be sent: to a full subscriber of iopub, or to a stdin that was not there."""
        if self._held is not None:
            iopub = self._front["iopub"]
            left_behind = monotonic() - self._stalled_since > STALL
            iopub.setsockopt(zmq.XPUB_NODROP, 0 if left_behind else 1)
            try:
                _send(iopub, self._held)
            except zmq.Again:
                pass
            else:
                if left_behind:
                    log.complain("a frontend reads no output any more: it will miss some of it")
                else:
                    self._stalled_since = 0.0
                self._held = None
                self._poller.register(self._back["iopub"], zmq.POLLIN)
            iopub.setsockopt(zmq.XPUB_NODROP, 1)
        late, self._late = self._late, []
        for deadline, frames in late:
            try:
                _send(self._front["stdin"], frames)
            except zmq.ZMQError:
                if monotonic() < deadline:
                    self._late.append((deadline, frames))


def _send(socket: zmq.Socket[bytes], frames: list[zmq.Frame]) -> None:
    """Send a message at once, or raise `zmq.ZMQError`."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE, copy=False)
    socket.send(frames[-1], _LAST, copy=False)
