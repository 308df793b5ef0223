"""iopub: what everybody should see, to each at the pace at which it reads.

What does not work is leaving this to libzmq.  A PUB drops, without a word, what a full subscriber can't take.  An
XPUB that must not drop refuses a message while *anybody* is full and does not say who; let past the full one, it
does not say what that one misses, nor when it is back.

So each connection has an address.  XPUB_MANUAL leaves it to us what a connection is subscribed to: not to its
topic, but to ``topic@7``, which no other has.  A message goes to each whose topic it matches, as
``@7 stream.stdout`` or ``stream@8 stream.stdout``: filters by prefix work as ever, and a refusal is this one
subscriber's.  Hence the rules:

* Nobody waits for another.  What a subscriber can't take yet waits for it here; the frames are shared.
* Who reads gets all, however slowly.  When the slowest of those is `outbox.BOUND` behind, the *program* waits.
* Who has taken nothing for `STALL` seconds is not waited for.  While it is over the bound, text is left out for it;
  statuses, results, errors and displays are kept for it up to twice the bound.
* When it reads again, it finds one line on stderr in the place of the gap that counts what is missing.  So do the
  others, once: when it is back, or before the idle of the cell whose text was left out.

Of a subscriber that is full, nothing shows whether it reads slowly or not at all until there is room again, and the
system and libzmq make room in lumps, of half a megabyte or some hundred messages: `STALL` is long for this reason.

Only the channels thread comes in here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from os import close, dup, fstat
from sys import platform
from time import monotonic
from typing import NamedTuple

import zmq

from .. import __builtins__ as __builtins__
from . import log, multipart
from .encoding import dumps
from .multipart import INFINITY
from .outbox import BOUND, Outbox
from .wire import Frame, Session

#: Seconds after which a subscriber that takes nothing is not waited for.
STALL = 10.0
#: Seconds without progress for which a reply waits for the output before it: some clients read replies first.
#: With progress it waits for each piece of output no longer than `STALL`: nobody may hold up another's replies.
PATIENCE = 1.0
#: Messages for one subscriber that libzmq may hold: few, for they may be large.
MARK = 128
#: Bytes of the largest message that is taken here, which is a subscription; who sends more is hung up on.  Anybody
#: who can connect may subscribe, and libzmq keeps 160 bytes for each of a topic, and may walk them recursively.
LARGEST = 1_000
#: How many topics one subscriber may have, and everything besides; who asks for more is hung up on.
MOST = 100
#: What a message that waits costs beside its bytes.
COST = 1024
#: Seconds until what waits is tried again: a quarter of the time for which nothing was taken, within these.
SOON, LATE = 0.001, 1.0
#: Where the frames of a message with one topic are.
PARENT, CONTENT = 4, 6
IDLE = dumps({"execution_state": "idle"})


Trace = Callable[[str, str, list[Frame]], None]


class Waiting(NamedTuple):
    """A message that waits for one subscriber; `number` is its place in all that was published."""

    number: int
    address: bytes
    frames: list[Frame]
    size: int
    #: When it began to wait.
    since: float
    #: The topic that it welcomes to, if it does.
    topic: bytes | None = None


class Subscriber:
    """One connection to iopub."""

    __slots__ = (
        "addresses", "gap", "inode", "missed", "number", "parent", "since", "size", "text", "told", "waiting",
        "welcomes",
    )  # fmt: skip

    def __init__(self, number: int, inode: int) -> None:
        self.number = number
        #: Tells this connection from a later one that has its descriptor.
        self.inode = inode
        #: Its subscriptions, topic and address; the longest topic is first.
        self.addresses: list[tuple[bytes, bytes]] = []
        #: The topics whose welcome waits.
        self.welcomes: set[bytes] = set()
        self.waiting: deque[Waiting] = deque()
        #: Bytes of all that waits.
        self.size = 0
        #: When it has last taken something, or something began to wait.
        self.since = 0.0
        #: What waits in the place of what was left out: so many messages with so many bytes of text.
        self.gap: Waiting | None = None
        self.missed = self.text = 0
        #: The header of the last request of which something was left out.
        self.parent: Frame = b""
        #: Whether the others know.
        self.told = False

    def idle_for(self) -> float:
        """Return the seconds for which it has taken nothing."""
        return monotonic() - self.since

    @property
    def reads(self) -> bool:
        """Whether the program waits for it."""
        return self.idle_for() < STALL

    def address(self, topic: bytes) -> bytes:
        """Return where a message with this topic goes, and where nobody is when it is not wanted.

        Of several subscriptions the longest counts: behind a proxy there may be somebody for each.
        """
        return next((address for prefix, address in self.addresses if topic.startswith(prefix)), b"")


class Publisher:
    """The iopub socket and its subscribers.

    Parameters
    ----------
    socket : zmq.Socket
        An XPUB.
    session : Session
        Signs what is said here.
    outbox : Outbox
        Is told how far the slowest reader is behind.
    trace : callable
        Sees what is said here, as `channels.Tracer` has it.
    """

    def __init__(self, socket: zmq.Socket[bytes], session: Session, outbox: Outbox, trace: Trace) -> None:
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.sndhwm = MARK
        socket.maxmsgsize = LARGEST
        self._socket = socket
        self._session = session
        self._outbox = outbox
        self._trace = trace
        self._numbers = count(1)
        #: Whether libzmq may take the next subscription for another connection's (see `listen`).
        self._confused = False
        #: By the descriptors of their connections.
        self._subscribers: dict[int, Subscriber] = {}
        #: Those for whom something waits.
        self._late: set[Subscriber] = set()
        #: How many messages were published, and how many of them no reply has to wait for any more.
        self.published = self.reached = 0

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are in force.  Any thread."""
        return sum(len(subscriber.addresses) for subscriber in tuple(self._subscribers.values()))

    @property
    def late(self) -> bool:
        """Whether something waits for somebody."""
        return bool(self._late)

    def listen(self, limit: int) -> None:
        """Take in subscriptions, up to so many, and answer them (JEP 65).

        What is sent here and is no subscription makes libzmq book those behind it, up to the last that has arrived,
        on each other's connections.  Who has sent it is hung up on, and so is who subscribes then, and comes again.
        """
        for _ in range(limit):
            if not multipart.readable(self._socket):
                self._confused = False
                break
            event = self._socket.recv(zmq.NOBLOCK, copy=False)
            said, topic = event.bytes[:1], event.bytes[1:]
            self._confused = self._confused or said not in (b"\x00", b"\x01")
            try:
                fd = int(event.get(zmq.SRCFD))
            except zmq.ZMQError:  # not from a subscriber: libzmq says that a connection has ended
                continue
            subscriber, inode = self._subscribers.get(fd), _inode(fd)
            if not inode:  # it has ended since
                continue
            if subscriber is None or inode != subscriber.inode:
                self._forget_the_gone()
                subscriber = self._subscribers[fd] = Subscriber(next(self._numbers), inode)
            address = b"%b@%d " % (topic, subscriber.number)
            others = [subscription for subscription in subscriber.addresses if subscription[0] != topic]
            known = len(others) < len(subscriber.addresses)
            if known and said == b"\x01":
                self._welcome(subscriber, topic)  # behind a relay, it may be another's
            elif self._confused:
                log.complain("hung up on a subscriber of iopub: it, or one before it, has sent no subscription")
                self._hang_up(fd)
            elif said == b"\x01":
                if topic and max(len(others), len(subscriber.welcomes)) >= MOST:
                    log.complain("hung up on a subscriber of iopub: it asks for too many topics")
                    self._hang_up(fd)
                    continue
                subscriber.addresses = sorted([*others, (topic, address)], reverse=True)
                self._socket.setsockopt(zmq.SUBSCRIBE, address)
                self._welcome(subscriber, topic)
            elif known:
                subscriber.addresses = others
                self._socket.setsockopt(zmq.UNSUBSCRIBE, address)
        self._forget_the_gone()

    def _hang_up(self, fd: int) -> None:
        """Shut a connection down, if it is still ours; who is behind it may come again."""
        import _socket

        try:
            copy = dup(fd)
        except OSError:
            return  # it has ended
        try:
            connection = _socket.socket(fileno=copy)
        except OSError:
            close(copy)
            return
        try:
            name = connection.getsockname()
            if self._socket.getsockopt_string(zmq.LAST_ENDPOINT).endswith(
                f":{name[1]}" if isinstance(name, tuple) else f"//{name}"
            ):
                connection.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended meanwhile
        finally:
            connection.close()

    def _welcome(self, subscriber: Subscriber, topic: bytes) -> None:
        """Tell a subscriber that it will miss nothing from here on; once, when it has not read that yet.

        To its address, as everything: a subscription to the topic alone, for as long as this takes, could not be
        taken back when another connection ends meanwhile, and this one would get all that is for others, too.
        """
        if topic in subscriber.welcomes:
            return
        try:
            content = {"subscription": topic.decode()}
        except UnicodeDecodeError:
            return
        frames = self._session.pack("iopub_welcome", content, idents=[topic])
        self._trace("out", "iopub", frames)
        self._give(subscriber, frames, "", topic)

    def _forget_the_gone(self) -> None:
        for fd, subscriber in tuple(self._subscribers.items()):
            if _inode(fd) != subscriber.inode:
                self._late.discard(self._subscribers.pop(fd))
        self._hold_back()

    def publish(self, frames: list[Frame], text: str = "") -> None:
        """Send a message to all who want it, now or when they can take it.

        Parameters
        ----------
        frames : list
            A packed message with one topic.
        text : str
            What it shows, when it is text.
        """
        if self._late and frames[CONTENT] == IDLE:
            for subscriber in tuple(self._late):
                if subscriber.gap and not subscriber.told and subscriber.parent == frames[PARENT]:
                    self._tell_the_others(subscriber)
        self.published += 1
        for subscriber in self._subscribers.values():
            self._give(subscriber, frames, text)
        if self._late:
            self._hold_back()

    def _give(self, subscriber: Subscriber, frames: list[Frame], text: str, topic: bytes | None = None) -> None:
        address = subscriber.address(bytes(frames[0]))
        if not address:
            return
        if not subscriber.waiting:
            if self._send(address, frames):
                return
            subscriber.since = monotonic()
            self._late.add(subscriber)
        number = self.published + (topic is not None)  # for a welcome no reply waits, only for what is behind it
        length, now = len(text.encode(errors="surrogatepass")), monotonic()
        if subscriber.size > (BOUND if text else 2 * BOUND) and not subscriber.reads:
            if subscriber.gap is None:
                subscriber.gap = Waiting(number, subscriber.address(b"stream.stderr"), frames, 0, now)
                subscriber.waiting.append(subscriber.gap)
            subscriber.missed += 1
            subscriber.text += length
            subscriber.parent = frames[PARENT]
            return
        size = sum(map(len, frames)) + COST
        subscriber.waiting.append(Waiting(number, address, frames, size, now, topic))
        subscriber.size += size
        if topic is not None:
            subscriber.welcomes.add(topic)

    def catch_up(self) -> float:
        """Send what waits, as far as it can leave; return the seconds until it should be tried again."""
        self.reached = self.published
        if not self._late:
            return INFINITY
        wait = LATE
        for subscriber in tuple(self._late):
            self._send_waiting(subscriber)
            if not subscriber.waiting:
                self._late.discard(subscriber)
                continue
            first = subscriber.waiting[0]
            if subscriber.idle_for() < PATIENCE and monotonic() - first.since < STALL:
                self.reached = min(self.reached, first.number - 1)
            wait = min(wait, max(SOON, subscriber.idle_for() / 4))
        self._hold_back()
        return wait

    def _hold_back(self) -> None:
        """Have the program wait for the slowest who reads."""
        self._outbox.hold_back(max((late.size for late in self._late if late.reads), default=0))

    def _send_waiting(self, subscriber: Subscriber) -> None:
        while subscriber.waiting:
            item = subscriber.waiting[0]
            frames = item.frames
            if item is subscriber.gap:
                frames = self._notice("this", subscriber, frames[PARENT])
            if not self._send(item.address, frames):
                return
            subscriber.since = monotonic()
            subscriber.waiting.popleft()
            subscriber.size -= item.size
            if item.topic is not None:
                subscriber.welcomes.discard(item.topic)
            if item is subscriber.gap:
                self._trace("out", "iopub", frames)
                if not subscriber.told:
                    self._tell_the_others(subscriber)
                subscriber.gap, subscriber.told = None, False
                subscriber.missed = subscriber.text = 0

    def _tell_the_others(self, subscriber: Subscriber) -> None:
        subscriber.told = True
        frames = self._notice("another", subscriber, subscriber.parent)
        self._trace("out", "iopub", frames)
        for other in self._subscribers.values():
            if other is not subscriber:
                self._give(other, frames, "")

    def _notice(self, who: str, subscriber: Subscriber, parent: Frame) -> list[Frame]:
        text = (
            f"[minikernel] {who} frontend has read nothing for {STALL:g} s or more: "
            f"it misses {subscriber.missed} messages with {subscriber.text} bytes of output\n"
        )
        content = {"name": "stderr", "text": text}
        return self._session.pack("stream", content, bytes(parent), idents=[b"stream.stderr"])

    def _send(self, address: bytes, frames: list[Frame]) -> bool:
        """Send to whoever has this address; tell whether it was taken."""
        frames = [address + bytes(frames[0]), *frames[1:]]
        try:
            multipart.send(self._socket, frames)  # all of a message has room, or nothing
        except zmq.Again:
            # has libzmq look who has made room; by itself it does that once in a while
            self._socket.get(zmq.EVENTS)
            try:
                multipart.send(self._socket, frames)
            except zmq.Again:
                return False
        return True


def _inode(fd: int) -> int:
    """Return what tells the connection behind a descriptor from all others; 0 when it has been closed."""
    if platform == "win32":
        return 1  # a socket is no file there, and nothing tells
    try:
        return fstat(fd).st_ino
    except OSError:
        return 0
