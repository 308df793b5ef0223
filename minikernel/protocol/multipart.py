"""How the frames of one message go through a socket, without waiting.

pyzmq's own `send_multipart`, `rcvmore`, `Again` and `Poller` are Python: enumerations are combined and attributes
looked up for every frame.  They take four times as long as the C below them, and go through names of Python's that
a cell may break.  Here that C is called, by the thread that owns the socket (``channels``, ``iopub``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zmq
from zmq.backend import Socket, zmq_poll

from .. import __builtins__ as __builtins__
from .wire import Frame

INFINITY = float("inf")
_LAST, _MORE, _IN = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.POLLIN)
#: One routing id and six more frames are small; what follows are buffers, and not copied.
_SMALL = 7
_send: Any = Socket.send


def send(socket: zmq.Socket[bytes], frames: list[Frame]) -> None:
    """Send a message; raise `zmq.Again` when there is no room for it.  Frames that are large are not copied."""
    *more, last = frames
    for frame in more:
        _send(socket, frame, _MORE, False)
    _send(socket, last, _LAST, False)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Tell whether a message has arrived."""
    return bool(zmq_poll([(socket, _IN)], 0))


def receive(socket: zmq.Socket[bytes]) -> list[Any]:
    """Return the frames of a message that has arrived."""
    frame = Socket.recv(socket, _LAST, False)
    frames: list[Any] = [frame.bytes]
    while frame.more:
        frame = Socket.recv(socket, _LAST, False)
        frames.append(frame.bytes if len(frames) < _SMALL else frame.buffer)
    return frames


def poll(sources: Iterable[Any], seconds: float) -> list[Any]:
    """Return which of these sockets and descriptors can be read; wait for one for so many seconds."""
    wait = -1 if seconds == INFINITY else int(max(seconds, 0.0) * 1000) + (seconds > 0)
    return [source for source, _ in zmq_poll([(source, _IN) for source in sources], wait)]
