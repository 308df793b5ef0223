"""A blocking frontend for the tools: it talks to any kernel, and keeps all that was said.

What was sent and what came is kept as one list of *entries*, each a line of a record (``protocol.record``): the
tools judge, compare and print entries, and do not care whether they were heard today or read from a file.  A
direction is the kernel's: "in" is what it hears, "out" what it says.

One thread owns it, every wait has a deadline, and a kernel that says nothing is a `Silence`, never a hang.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from ..protocol.channels import endpoint
from ..protocol.encoding import dumps
from ..protocol.wire import DELIMITER, EMPTY, Frame, Session, WireError

SOCKETS = {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB}
#: Seconds for which a flood is read on in search of what was to come before.
FLOOD = 1.0
Entry = dict[str, Any]


class Silence(TimeoutError):
    """What was waited for has not come in time."""


class Client:
    """The sockets of one frontend.

    Parameters
    ----------
    info : dict
        The fields of the connection file, as ``connect.load`` returns them.

    Attributes
    ----------
    log : list of dict
        Every message that was sent or has come, in that order; times are in seconds since the epoch.
    greetings : set of str
        The msg_ids of what `greet` has sent, which is not in the log.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.session = Session(info["key"].encode(), info["signature_scheme"], "minikernel")
        self.log: list[Entry] = []
        self.greetings: set[str] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets = {channel: self.socket(channel, kind) for channel, kind in SOCKETS.items()}
        self._sockets["iopub"].subscribe(b"")
        self._poller = zmq.Poller()
        for socket in self._sockets.values():
            self._poller.register(socket, zmq.POLLIN)

    def socket(self, channel: str, kind: int, monitor: str = "") -> zmq.Socket[bytes]:
        """Return a new socket that is connected to a channel of the kernel; `monitor` is told how it fares."""
        socket = self._context.socket(kind)
        if monitor:
            socket.monitor(monitor, zmq.EVENT_ALL)
        socket.linger, socket.reconnect_ivl, socket.ipv6 = 0, 20, ":" in self.info["ip"]
        socket.set_hwm(0)
        if kind == zmq.DEALER:  # the same on all three: the kernel asks where it was asked
            socket.identity = self.session.id.encode()
        if self.info.get("curve_publickey"):
            from ..protocol import curve

            curve.join(socket, self.info)
        ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.info["ip"], self.info["ip"])
        socket.connect(endpoint(self.info["transport"], ip, self.info[f"{channel}_port"]))
        return socket

    def monitor(self, name: str) -> zmq.Socket[bytes]:
        """Return the socket that tells how another fares."""
        socket = self._context.socket(zmq.PAIR)
        socket.connect(name)
        return socket

    def close(self) -> None:
        """Give the sockets back."""
        self._context.destroy(linger=0)

    def pack(self, msg_type: str, content: Any, parent: bytes = EMPTY, **header: Any) -> list[Frame]:
        """Return the signed frames of a new message, with further fields in its header."""
        frames = self.session.pack(msg_type, content, parent)
        if header:
            frames[2] = dumps(json.loads(bytes(frames[2])) | header)
            frames[1] = self.session.sign(frames[2:6])
        return frames

    def send(self, msg_type: str, content: Any = None, channel: str = "shell", **header: Any) -> Entry:
        """Send a message; return its entry."""
        return self.send_frames(self.pack(msg_type, {} if content is None else content, **header), channel)

    def send_frames(self, frames: Sequence[Frame], channel: str = "shell") -> Entry:
        """Send frames as they are, whatever they are; return their entry."""
        self._sockets[channel].send_multipart(frames)
        try:
            at = list(frames).index(DELIMITER)
            four = [json.loads(bytes(frame)) for frame in frames[at + 2 : at + 6]]
            header, parent, metadata, content = four
            entry = _entry("in", channel, header, parent, metadata, content, frames[:at], frames[at + 6 :])
        except (ValueError, RecursionError):  # not a message, and not meant to be one
            entry = {"time": time.time(), "direction": "in", "channel": channel, "refused": "malformed"}
        self.log.append(entry)
        return entry

    def receive(self, timeout: float) -> Entry | None:
        """Return the next message of any channel, or None when none comes within `timeout` seconds."""
        ready = dict(self._poller.poll(int(max(0.0, timeout) * 1000) + 1))
        for channel, socket in self._sockets.items():
            if socket not in ready:
                continue
            frames = socket.recv_multipart()
            try:
                idents, header, parent, metadata, content, buffers, _ = self.session.unpack(frames)
                entry = _entry("out", channel, header, parent, metadata, content, idents, buffers)
            except WireError as error:
                entry = {"time": time.time(), "direction": "out", "channel": channel, "refused": str(error)}
            self.log.append(entry)
            return entry
        return None

    def wait(self, wanted: Callable[[Entry], bool], timeout: float, since: int = 0) -> Entry:
        """Return the first entry from `since` on for which `wanted(entry)` is true.

        Raises
        ------
        Silence
            There is none after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for entry in self.log[since:]:
            if wanted(entry):
                return entry
        while True:
            heard = self.receive(deadline - time.monotonic())
            if heard is not None and wanted(heard):
                return heard
            overdue = time.monotonic() - deadline
            if overdue >= 0 and (heard is None or overdue > FLOOD):
                raise Silence(f"nothing for {timeout:g} s")

    def beats(self, timeout: float) -> bool:
        """Tell whether the heartbeat echoes what it gets within `timeout` seconds."""
        socket = self.socket("hb", zmq.REQ)
        try:
            socket.send(b"beat")
            return bool(socket.poll(int(timeout * 1000))) and socket.recv() == b"beat"
        finally:
            socket.close()

    def greet(self, timeout: float, alive: Callable[[], bool] = lambda: True) -> Entry:
        """Ask for kernel_info until the kernel answers and is heard on iopub; return the reply.

        What it takes is not kept in the log, but for a welcome: nobody was there to hear all of it.

        Raises
        ------
        Silence
            The kernel does not answer in time, or is no longer `alive()`.
        """
        deadline = time.monotonic() + timeout
        reply, asked, patience = None, self.greetings, 0.05
        while time.monotonic() < deadline and alive():
            last = msg_id(self.send("kernel_info_request"))
            asked.add(last)
            nudge = min(deadline, time.monotonic() + patience)
            patience = min(0.5, patience * 1.5)
            while time.monotonic() < nudge and not self._greeted():
                self.receive(nudge - time.monotonic())
            if self._greeted():
                reply = next(
                    entry for entry in self.log if parent_id(entry) in asked and entry["channel"] == "shell"
                )
                break
        if reply is None:
            raise Silence(f"no kernel_info_reply and status within {timeout:g} s")
        try:
            self.wait(lambda entry: parent_id(entry) == last and state(entry) == "idle", 1.0)
        except Silence:
            pass  # a fault of its own, found by who looks for it
        self.log = [entry for entry in self.log if msg_id(entry) not in asked and parent_id(entry) not in asked]
        return reply

    def _greeted(self) -> bool:
        channels = {entry["channel"] for entry in self.log if parent_id(entry) in self.greetings}
        return channels >= {"shell", "iopub"}


def msg_id(entry: Entry) -> str:
    """Return the msg_id of an entry; "" where it is no message."""
    return str(entry.get("header", {}).get("msg_id", ""))


def msg_type(entry: Entry) -> str:
    """Return the msg_type of an entry; "" where it is no message."""
    return str(entry.get("header", {}).get("msg_type", ""))


def parent_id(entry: Entry) -> str:
    """Return the msg_id of what an entry answers; "" where it answers nothing."""
    return str(entry.get("parent_header", {}).get("msg_id", ""))


def answers(request: Entry, *channels: str) -> Callable[[Entry], bool]:
    """Return a function that tells whether an entry belongs to a request, and came on one of these channels."""
    asked = msg_id(request)
    return lambda entry: (
        asked != "" and parent_id(entry) == asked and (not channels or entry["channel"] in channels)
    )


def state(entry: Entry) -> str:
    """Return the execution_state of a status message; "" of others."""
    content = entry.get("content")
    return (
        str(content.get("execution_state", "")) if msg_type(entry) == "status" and isinstance(content, dict) else ""
    )


def _entry(
    direction: str,
    channel: str,
    header: Any,
    parent: Any,
    metadata: Any,
    content: Any,
    idents: Sequence[Frame],
    buffers: Sequence[Frame],
) -> Entry:
    if not isinstance(header, dict) or not isinstance(parent, dict):
        raise ValueError("no message")
    return {
        "time": time.time(), "direction": direction, "channel": channel,
        "idents": [bytes(ident).hex() for ident in idents], "header": header, "parent_header": parent,
        "metadata": metadata, "content": content, "buffers": [len(buffer) for buffer in buffers],
    }  # fmt: skip
