"""What leaves the kernel, in which order, and when.

One first-in-first-out queue for everything: stdout, stderr, displays, results, replies and statuses leave in the
order in which the program made them.  Order is this queue, so nothing needs a flush timer, a marker or a sleep.

Any thread puts in; only the thread that owns the sockets takes out.  Text is special, because programs write
it in crumbs: a text goes to the *tail* of the queue when the tail is text of the same request and stream, and
is packed as one message when it leaves.  A text waits for company: `CRUMB` seconds from its first crumb, or
`UNFINISHED` while its last line has no end, for ``print("hi")`` writes twice; and `COMPANY` seconds from the text
before it, so that a flood becomes a few large messages.  What comes behind it in the queue ends the wait.

Crumbs are many, and a lock for each would cost more than all else.  So who has begun a text (its `owner`) may go on
to `append` to it without one, and asks afterwards whether it was `closed` by then.  The owner of the sockets closes
it first and takes what it holds after that: a crumb that comes too late is seen by its writer, and goes into a new
text.  No crumb is lost, and none is sent twice, for what was taken is what is removed.

That a status or a reply is queued is marked in its request in the same step, all of it in C: a signal handler of
the user's that raises strikes before or after, never between, and so nothing is lost and nothing is said twice.

No frontend holds the queue up: what a slow one can't take yet has left it and waits for that one alone, where it
still counts (see ``iopub``).  Over the bound writers wait; nothing is dropped.

Waking the owner is one byte into a pipe, and only when it sleeps: a burst costs one.

The lock is re-entrant: a finaliser that prints may run inside any of these methods, in the same thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from itertools import starmap
from os import close, read, write
from queue import Empty, SimpleQueue
from threading import RLock
from time import monotonic

from .. import __builtins__ as __builtins__
from .wire import EMPTY, Frame

#: Seconds that a text waits for more, from its first crumb and from the last text that left.
CRUMB, UNFINISHED, COMPANY = 0.001, 0.030, 0.010
#: Characters after which a text message is full: a flood costs no less with larger ones, and a frontend that can
#: hold so many messages before it must read has less to hold.
FULL = 1 << 16
#: Bytes (characters, for text) that may wait, here and for the slowest frontend, before writers have to wait.
BOUND = 64 << 20


class Text:
    """Text of one stream and one request that has not left yet."""

    __slots__ = ("append", "began", "closed", "counted", "name", "owner", "parent", "pieces", "room", "text")

    def __init__(self, parent: bytes, name: str, owner: object) -> None:
        self.parent = parent
        self.name = name
        #: Who may append without the queue's lock.
        self.owner = owner
        self.pieces: list[str] = []
        self.append = self.pieces.append
        #: How many characters more make it full.
        self.room = FULL
        #: How many characters the queue counts as waiting.
        self.counted = 0
        #: Whether nothing is taken from it any more.
        self.closed = False
        #: What has been taken from it.
        self.text = ""
        self.began = monotonic()

    def pop(self) -> str:
        """Take out all that is in it.  With the queue's lock; what is appended meanwhile stays."""
        taken = self.pieces[:]
        text = "".join(taken)
        del self.pieces[: len(taken)]
        return text


#: Calls a function of C: no bytecode, and so no signal handler, runs between two such calls.
_call = type(len).__call__

#: What is set, and to what, when a message is queued: an object, the name of an attribute, its value.
Mark = tuple[object, str, object]
#: (channel, frames), a text, or something that the owner calls when its turn comes.
Entry = tuple[str, list[Frame]] | Text | Callable[[], object]


class Outbox:
    """The queue between every thread and the one that owns the sockets."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Entry, int]] = deque()
        #: The text at the end of the queue, if there is one.
        self.tail: Text | None = None
        self._lock = RLock()
        self._size = self._held_back = 0
        self._asleep = False
        self._last_text = 0.0
        self._waiters = 0
        self._room: SimpleQueue[None] = SimpleQueue()
        #: The owner polls the one; a byte into the other wakes it, and `awake` returns it when it is not 0.
        self.wake_fd, self.waker_fd = os.pipe()
        #: Whether the process's signals use the pipe, and it is never closed.
        self.lent = False
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self.waker_fd, False)

    def put(self, channel: str, frames: list[Frame], mark: Mark | None = None) -> None:
        """Queue a message; its frames are not looked at any more."""
        self._append((channel, frames), sum(map(len, frames)), mark)

    def call(self, function: Callable[[], object]) -> None:
        """Have the owner call `function` when all that was put before has left."""
        self._append(function, 0)

    def _append(self, entry: Entry, size: int, mark: Mark | None = None) -> None:
        with self._lock:
            if mark is None:
                self._end_tail()
                self._size += size
                self._entries.append((entry, size))
            else:
                # what any() calls returns None; a text that a handler has begun since `_end_tail` gets no more
                step = starmap(_call, (
                    (self._entries.append, (entry, size)), (setattr, self, "tail", None), (setattr, *mark),
                ))  # fmt: skip
                self._end_tail()
                self._size += size
                any(step)
            self._rouse()

    def write(self, parent: bytes, name: str, text: str, owner: object = None) -> Text:
        """Queue `text` for the stream `name` ("stdout" or "stderr") of the request whose header is `parent`.

        Returns the text that it is a piece of; its `owner` may append to that while it is the `tail`.
        """
        with self._lock:
            tail = self.tail
            new = tail is None or tail.name != name or tail.parent is not parent or tail.owner is not owner
            if tail is None or new:
                tail = Text(parent, name, owner)
            tail.append(text)
            tail.room -= len(text)
            if new:
                self._end_tail()
                self._entries.append((tail, 0))
                self.tail = tail
            if tail.room <= 0:
                self._end_tail()
            if new or tail.room <= 0:
                self._rouse()
        return tail

    def _end_tail(self) -> None:
        """Let no more into the text at the end, and count it."""
        tail, self.tail = self.tail, None
        if tail is not None:
            tail.counted = FULL - tail.room
            self._size += tail.counted

    def recover(self, closed: Text) -> None:
        """Queue anew what has been appended to a text after it had left."""
        with self._lock:  # it may not be empty yet, and what another thread writes next comes behind
            late = closed.pop()
            if late:
                self.write(closed.parent, closed.name, late, closed.owner)

    def _rouse(self) -> None:
        """Wake the owner.  With the lock: what `close` has given back may be another's descriptor by now."""
        if self._asleep:
            write(self.waker_fd, b"\0")
            self._asleep = False

    def begins(self, parent: bytes, name: str) -> bool:
        """Tell whether a text written now would begin a message of its own."""
        tail = self.tail
        return tail is None or tail.name != name or tail.parent is not parent

    @property
    def full(self) -> bool:
        """Whether more is waiting than `BOUND` allows."""
        return self._size + self._held_back > BOUND

    def wait_for_room(self) -> None:
        """Wait until the owner has caught up.  An interrupt may end the wait (see ``kernel.interrupt``)."""
        while self.full:
            self._waiters += 1
            try:
                self._room.get(timeout=1)
            except Empty:
                pass

    def take(self) -> Entry | float | None:
        """Return the next entry; or the seconds until there is one; or None, and the owner may sleep.

        The owner's thread only.
        """
        with self._lock:
            if not self._entries:
                self._asleep = True
                return None
            entry, size = self._entries[0]
            if isinstance(entry, Text):
                now = monotonic()
                if entry is self.tail:
                    crumb = CRUMB if entry.pieces[-1].endswith("\n") else UNFINISHED
                    wait = max(self._last_text + COMPANY, entry.began + crumb) - now
                    if wait > 0:
                        self._asleep = True
                        return wait
                    self._end_tail()
                self._last_text = now
                entry.closed = True  # and only then it is emptied
                entry.text, size = entry.pop(), entry.counted
            self._entries.popleft()
            self._size -= size
        self._let_in()
        return entry

    def hold_back(self, size: int) -> None:
        """Count `size` bytes that were taken and have not been sent as waiting.  The owner's thread only."""
        self._held_back = size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiters and not self.full:
            self._waiters -= 1
            self._room.put(None)

    def awake(self, called: bool) -> bytes:
        """The owner is up, and needs no waking until it sleeps again; `called` says that the pipe woke it.

        Returns what others than `put` and `call` have put into the pipe.
        """
        self._asleep = False
        return read(self.wake_fd, 4096).replace(b"\0", b"") if called else b""

    def abandon(self) -> None:
        """Take nothing any more: the owner has ended, or this is a forked child and it is in the parent."""
        self._lock, self.tail = RLock(), None
        nowhere = Text(EMPTY, "", None)
        for name in ("put", "call", "write"):
            setattr(self, name, lambda *args: nowhere)

    def close(self) -> None:
        """Give the wake-up pipe back; the owner does this last."""
        with self._lock:
            self._asleep = False
        if not self.lent:
            close(self.wake_fd)
            close(self.waker_fd)
