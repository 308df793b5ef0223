"""What a kernel has to survive, each a function that does it `count` times and says what it has seen.

A storm gets a `Target`, a kernel with a frontend, and raises AssertionError where something was lost.  The tests run
each of them for a second or two, ``python tests/soak`` for as long as you like.  Chance comes from the target's
generator alone, so that a seed repeats what was asked, if not when.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import zmq
from client import TIMEOUT, Client, KernelProcess, endpoint

DELIMITER = b"<IDS|MSG>"


class Target:
    """A kernel, a frontend of it, and the chance that a storm goes by."""

    def __init__(self, kernel: KernelProcess, chance: random.Random) -> None:
        self.kernel = kernel
        self.chance = chance
        self.client: Client = kernel.client()


class Ledger:
    """What was asked, and what has been heard of it: each request needs one busy, one reply, one idle."""

    def __init__(self, client: Client) -> None:
        self._client = client
        #: By msg_id: the channel where the reply is still missing, or "".
        self._replies: dict[str, str] = {}
        #: By msg_id: 0 nothing, 1 busy, 2 idle; also of what others have asked.
        self._states: dict[str, int] = {}
        self._poller = zmq.Poller()
        for channel in ("shell", "control", "iopub"):
            self._poller.register(client.sockets[channel], zmq.POLLIN)
        self._names = {client.sockets[channel]: channel for channel in ("shell", "control", "iopub")}
        self.open: set[str] = set()
        #: How many messages were heard, by type, and replies, by status.
        self.heard: Counter[str] = Counter()

    def ask(self, msg_type: str, content: dict[str, Any], channel: str = "shell") -> str:
        msg_id = self._client.send(msg_type, content, channel)
        self._replies[msg_id] = channel
        self.open.add(msg_id)
        return msg_id

    def listen(self, until: int = 0, timeout: float = TIMEOUT) -> None:
        """Take what has come, and wait until no more than `until` requests are open."""
        self._take_all()
        while len(self.open) > until:
            self._wait(timeout, f"{len(self.open)} requests are not answered: {list(self.open)[:3]}")

    def close(self) -> None:
        """Wait until nothing is half done, whoever has asked."""
        self.listen()
        while half := [msg_id for msg_id, state in self._states.items() if state != 2]:
            self._wait(TIMEOUT, f"no idle for {half[:3]}")

    def _wait(self, timeout: float, otherwise: str) -> None:
        assert self._poller.poll(timeout * 1000), otherwise
        self._take_all()

    def _take_all(self) -> None:
        while ready := self._poller.poll(0):
            for socket, _ in ready:
                self._take(self._names[socket], socket.recv_multipart())

    def _take(self, channel: str, frames: list[bytes]) -> None:
        at = frames.index(DELIMITER)
        msg_type = json.loads(frames[at + 2])["msg_type"]
        msg_id = json.loads(frames[at + 3]).get("msg_id")
        self.heard[msg_type] += 1
        if msg_id is None:
            assert msg_type in ("status", "iopub_welcome"), f"a {msg_type} without a parent"
            return
        if channel != "iopub":
            assert self._replies.get(msg_id) == channel, (
                f"a second reply to {msg_id}, or to somebody else, on {channel}"
            )
            self._replies[msg_id] = ""
            self.heard[json.loads(frames[at + 5])["status"]] += 1
        elif msg_type == "status":
            state, idle = self._states.get(msg_id, 0), b'"idle"' in frames[at + 5]
            assert state == 1 if idle else state < 2, (
                f"an idle without a busy, or a status after the idle of {msg_id}"
            )
            self._states[msg_id] = 2 if idle else 1
        if self._states.get(msg_id) == 2 and not self._replies.get(msg_id, ""):
            self.open.discard(msg_id)


#: Requests of every kind, and where they may go.
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("shell", "execute_request", {"code": "1 / 0", "stop_on_error": False}),
    # not stored: with 50,000 cells and as many names, completion is what takes the time
    *(
        ("shell", "execute_request", {"code": code, "stop_on_error": False, "store_history": False})
        for code in ("x = 1", "print('a'); x", "await asyncio.sleep(0)")
    ),
    ("shell", "complete_request", {"code": "pri", "cursor_pos": 3}),
    ("shell", "inspect_request", {"code": "print", "cursor_pos": 5}),
    ("shell", "is_complete_request", {"code": "for x in y:"}),
    ("shell", "history_request", {"hist_access_type": "tail", "n": 1}),
    ("shell", "comm_info_request", {}),
    ("shell", "kernel_info_request", {}),
    ("control", "kernel_info_request", {}),
    ("control", "comm_info_request", {}),
]


def requests(target: Target, count: int) -> Counter[str]:
    """Requests of all kinds race with their replies, while threads change places after every bytecode."""
    client, chance = target.client, target.chance
    client.execute("import asyncio, sys; before = sys.getswitchinterval(); sys.setswitchinterval(1e-6)")
    ledger = Ledger(client)
    for n in range(count):
        channel, msg_type, content = chance.choice(KINDS)
        ledger.ask(msg_type, content, channel)
        if n % 50 == 0:
            ledger.listen(until=chance.randrange(500))
    ledger.close()
    client.execute("sys.setswitchinterval(before)")
    return Counter(requests=count)


def vanish(target: Target, count: int) -> Counter[str]:
    """Clients connect, ask and are gone, some before they have connected; one stays, and misses nothing."""
    client, chance = target.client, target.chance
    ledger = Ledger(client)
    for _ in range(count):
        channel, msg_type, content = chance.choice(KINDS)
        with client.context.socket(zmq.DEALER) as guest:
            guest.linger = chance.choice((0, 1, 100))
            guest.connect(endpoint(client.info, channel))
            client.session.send(guest, client.session.msg(msg_type, content=content))
            if chance.random() < 0.2:
                guest.poll(chance.randrange(20))
        ledger.ask(*chance.choice([(msg_type, content, channel) for channel, msg_type, content in KINDS]))
        ledger.listen(until=chance.randrange(20))
    ledger.listen()
    ledger.ask("execute_request", {"code": "1"})  # behind all that the guests have asked on shell
    ledger.ask("kernel_info_request", {}, "control")
    ledger.close()
    return Counter(vanished=count, requests=count + 2)


STORMS = {function.__name__: function for function in (requests, vanish)}
