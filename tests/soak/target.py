"""What a storm goes over, and the book that is kept of it."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq
from client import TIMEOUT, Client, KernelProcess

from minikernel.protocol.wire import DELIMITER


class Target:
    """A kernel, a frontend of it, and the chance that a storm goes by."""

    def __init__(self, kernel: KernelProcess, chance: random.Random) -> None:
        self.kernel = kernel
        self.chance = chance
        self.client: Client = kernel.client()

    @contextmanager
    def fresh(self, launcher: int | None = None) -> Iterator[KernelProcess]:
        """Another kernel, for a storm that it may not live through."""
        env = {"JPY_PARENT_PID": str(launcher or os.getpid())}
        kernel = KernelProcess(self.kernel.connection_file.parent, env=env)
        try:
            yield kernel
        finally:
            kernel.close()


class Ledger:
    """What was asked, and what has been heard of it: each request needs one busy, one reply, one idle."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: By msg_id: the channel where the reply is still missing, or "".
        self._replies: dict[str, str] = {}
        #: By msg_id: 0 nothing, 1 busy, 2 idle; also of what others have asked.
        self._states: dict[str, int] = {}
        self._poller = zmq.Poller()
        self._names = {client.sockets[channel]: channel for channel in ("shell", "control", "iopub")}
        for sock in self._names:
            self._poller.register(sock, zmq.POLLIN)
        #: What is not answered yet.
        self.open: set[str] = set()
        #: The names of the errors in replies, and the characters on stdout.
        self.errors: Counter[str] = Counter()
        #: Of each kind of error the last one's.
        self.tracebacks: dict[str, list[str]] = {}
        self.printed = 0

    def ask(self, msg_type: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a request; return its msg_id."""
        msg_id = self._client.send(msg_type, content, channel)
        self.expect(msg_id, channel)
        return msg_id

    def expect(self, msg_id: str, channel: str) -> None:
        """A request has been sent that is to be answered on this channel; or not at all, if that is empty."""
        self._replies[msg_id] = channel
        self.open.add(msg_id)

    def hear(self, milliseconds: float) -> bool:
        """Take what has come, but no more than 100 messages, waiting a while for the first; tell if there was any."""
        ready = heard = self._poller.poll(milliseconds)
        for _ in range(100):
            for sock, _ in ready:
                self._take(self._names[sock], sock.recv_multipart())
            ready = self._poller.poll(0)
            if not ready:
                break
        return bool(heard)

    def listen(self, until: int = 0) -> None:
        """Take what has come, and wait until no more than `until` requests are open."""
        while self.hear(0):
            pass
        while len(self.open) > until:
            assert self.hear(TIMEOUT * 1000), f"{len(self.open)} are not answered: {list(self.open)[:3]}"

    def close(self) -> None:
        """Wait until nothing is half done, whoever has asked."""
        self.listen()
        while half := [msg_id for msg_id, state in self._states.items() if state != 2]:
            assert self.hear(TIMEOUT * 1000), f"no idle for {half[:3]}"

    def _take(self, channel: str, frames: list[bytes]) -> None:
        at = frames.index(DELIMITER)
        msg_type, msg_id = json.loads(frames[at + 2])["msg_type"], json.loads(frames[at + 3]).get("msg_id")
        if msg_id is None:
            assert msg_type in ("status", "iopub_welcome"), f"a {msg_type} without a parent"
        elif channel != "iopub":
            assert self._replies.get(msg_id) == channel, f"{msg_id} has two replies, or that is somebody else's"
            self._replies[msg_id] = ""
            content = json.loads(frames[at + 5])
            self.errors[content.get("ename", "")] += 1
            self.tracebacks[content.get("ename", "")] = [msg_type, *content.get("traceback", ())]
        elif msg_type == "stream":
            content = json.loads(frames[at + 5])
            self.printed += len(content["text"]) if content["name"] == "stdout" else 0
        elif msg_type == "status":
            state, idle = self._states.get(msg_id, 0), b'"idle"' in frames[at + 5]
            assert state == 1 if idle else state < 2, f"{msg_id} is idle before it is busy, or something after that"
            self._states[msg_id] = 2 if idle else 1
        if self._states.get(msg_id) == 2 and not self._replies.get(msg_id, ""):
            self.open.discard(msg_id)
