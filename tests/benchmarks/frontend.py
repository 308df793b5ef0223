"""A frontend that adds as little as can be to what it measures.

Requests are packed and signed before the clock starts, each anew, because kernels refuse a message that they
have had before.  While it runs, frames are sent, received and looked at as bytes: no JSON, no signature, no
event loop, no thread.  What came is read, and checked, when the clock has stopped.
"""

from __future__ import annotations

import hmac
import json
import os
from itertools import count
from time import perf_counter
from typing import Any, NamedTuple

import zmq

DELIMITER = b"<IDS|MSG>"
#: Seconds of silence after which a kernel counts as deaf.
PATIENCE = 60
_ids = count()

Frames = list[Any]


class AnswerError(Exception):
    """A kernel has said nothing, not all, or not what was asked for."""


class Request(NamedTuple):
    """A message that is ready to leave; by `msg_id` its answers are told from others."""

    msg_id: bytes
    frames: Frames


class Message(NamedTuple):
    """A message that has been read."""

    msg_type: str
    content: dict[str, Any]
    buffers: Frames


class Frontend:
    """The sockets of one frontend.

    Parameters
    ----------
    info : dict
        The fields of the connection file.
    context : zmq.Context
    retry : int
        Milliseconds between two tries to reach a port that the kernel has not bound yet.
    """

    def __init__(self, info: dict[str, Any], context: zmq.Context[Any], retry: int = 1) -> None:
        self._info, self._context, self._retry = info, context, retry
        self._mac = hmac.new(info["key"].encode(), digestmod="sha256")
        self._session = os.urandom(16).hex()
        self.sockets: dict[str, zmq.Socket[bytes]] = {}
        self._connect("shell", zmq.DEALER)  # it alone: while a kernel starts, each socket that tries costs time

    def _connect(self, channel: str, kind: int) -> None:
        socket = self.sockets[channel] = self._context.socket(kind)
        socket.linger, socket.rcvtimeo, socket.reconnect_ivl = 0, PATIENCE * 1000, self._retry
        socket.set_hwm(0)
        if kind == zmq.DEALER:
            socket.identity = self._session.encode()
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(f"tcp://{self._info['ip']}:{self._info[f'{channel}_port']}")

    def listen(self) -> None:
        """Connect the other sockets, and come back when no message on iopub can be missed any more."""
        for channel, kind in (("iopub", zmq.SUB), ("control", zmq.DEALER), ("hb", zmq.REQ)):
            self._connect(channel, kind)
        while not self.sockets["iopub"].poll(20):
            self.ask("kernel_info_request", {})
        self.run(self.pack("kernel_info_request", {}))

    def close(self) -> None:
        for socket in self.sockets.values():
            socket.close()

    # -- before the clock starts -----------------------------------------------------------------------

    def pack(self, msg_type: str, content: dict[str, Any], *buffers: bytes) -> Request:
        msg_id = f"{self._session}_{next(_ids)}"
        header = {"msg_id": msg_id, "msg_type": msg_type, "session": self._session, "username": "benchmark",
                  "date": "2026-01-01T00:00:00.000000Z", "version": "5.3"}  # fmt: skip
        parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return Request(msg_id.encode(), [DELIMITER, mac.hexdigest().encode(), *parts, *buffers])

    def cell(self, code: str) -> Request:
        """Return an execute_request, as frontends send it."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": False}  # fmt: skip
        return self.pack("execute_request", content)

    # -- while it runs ---------------------------------------------------------------------------------

    def send(self, request: Request, channel: str = "shell") -> None:
        self.sockets[channel].send_multipart(request.frames, copy=len(request.frames) == 6)

    def receive(self, channel: str, copy: bool = True) -> Frames:
        try:
            return self.sockets[channel].recv_multipart(copy=copy)
        except zmq.Again:
            raise AnswerError(f"nothing on {channel} for {PATIENCE} s") from None

    def reply(self, request: Request, channel: str = "shell") -> Frames:
        """Receive until the reply to a request is there."""
        while request.msg_id not in (frames := self.receive(channel))[-3]:  # the parent_header
            pass
        return frames

    def until_idle(self, request: Request, copy: bool = True) -> list[Frames]:
        """Receive on iopub until the idle of a request; return all that came."""
        heard = []
        while True:
            frames = self.receive("iopub", copy)
            heard.append(frames)
            if len(frames[-1]) < 100 and b'"idle"' in bytes(frames[-1]) and request.msg_id in bytes(frames[-3]):
                return heard

    def until_stream(self, text: bytes) -> None:
        """Receive on iopub until a stream message that has `text`."""
        while text not in (frames := self.receive("iopub"))[-1] or b'"stream"' not in frames[-4]:
            pass

    def run(self, request: Request, copy: bool = True) -> tuple[float, list[Frames], Frames]:
        """Send a request; return the seconds until idle and reply are both there, and what came."""
        began = perf_counter()
        self.send(request)
        heard = self.until_idle(request, copy)
        reply = self.reply(request)
        return perf_counter() - began, heard, reply

    # -- beside it -------------------------------------------------------------------------------------

    def execute(self, code: str) -> list[Message]:
        """Run code that must not fail; return what came on iopub."""
        _, heard, reply = self.run(self.cell(code))
        if read(reply).content["status"] != "ok":
            raise AnswerError(f"{code[:60]!r}: {read(reply).content.get('evalue')}")
        return [read(frames) for frames in heard]

    def ask(self, msg_type: str, content: dict[str, Any]) -> dict[str, Any]:
        """Return the content of the reply to a request."""
        request = self.pack(msg_type, content)
        self.send(request)
        return read(self.reply(request)).content


def read(frames: Frames) -> Message:
    """Read a message.  Whether its signature is right is for the tests."""
    parts = [bytes(frame) for frame in frames]
    start = parts.index(DELIMITER)
    header, _, _, content = map(json.loads, parts[start + 2 : start + 6])
    return Message(header["msg_type"], content, frames[start + 6 :])


def printed(heard: list[Frames]) -> tuple[str, int]:
    """Return what was written to stdout, as it came, and in how many messages."""
    texts = [message.content["text"] for message in map(read, heard) if message.msg_type == "stream"]
    return "".join(texts), len(texts)
