"""What a message is, and the bytes it travels as.

::

    [routing ids ...] <IDS|MSG> signature header parent_header metadata content [buffers ...]

A message is four JSON objects.  The signature is the lower-case hex HMAC of their four frames, exactly as
they travel; routing ids and buffers are not signed ("Messaging in Jupyter: The Wire Protocol").

This file alone decides which bytes are let in and how ours are written.  It holds two rules:

* Nothing is done with bytes whose signature is not right, not even remembering them: a digest is verified
  *before* the replay guard keeps it, or rubbish could push the real ones out.
* `Session.unpack` raises `WireError` for anything malformed and nothing else, whatever the frames are.

It is sans-I/O: no socket and no thread, so a test, a tool or a client can use it as it is.  A request's
header frame is kept as it came, for it is the parent_header of all that answers it: nothing is encoded twice.

Next: ``channels``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hmac import compare_digest
from hmac import new as new_mac
from itertools import count
from json.encoder import encode_basestring_ascii as quote
from time import gmtime, strftime, time
from typing import Any, NamedTuple

from .. import __builtins__ as __builtins__
from .encoding import dumps, loads

PROTOCOL_VERSION = "5.6"
DELIMITER = b"<IDS|MSG>"
EMPTY = b"{}"

#: How many digests the replay guard remembers; each costs about 100 bytes.
REPLAY_WINDOW = 8192

Frame = bytes | memoryview


class WireError(Exception):
    """The frames are not a message for us; `str()` of it says why, and never holds a key or a content."""


class Message(NamedTuple):
    """One message as it arrived.

    `content` is whatever JSON the sender put there: that it should be an object is for the dispatch to
    say, who can answer.  `buffers` are views of the received frames.  `header_frame` are the header's bytes.
    """

    idents: list[bytes]
    header: dict[str, Any]
    parent_header: dict[str, Any]
    metadata: dict[str, Any]
    content: Any
    buffers: list[memoryview]
    header_frame: bytes

    @property
    def msg_type(self) -> str:
        msg_type: str = self.header["msg_type"]
        return msg_type


class Session:
    """Signs and reads messages with one key ("Messaging in Jupyter: The Wire Protocol").

    Parameters
    ----------
    key : bytes
        The connection file's key; empty means that nothing is signed or checked.
    signature_scheme : str
        ``hmac-`` and the name of a hash that `hashlib` knows.
    username : str, optional
        Goes into every header; $USER by default.

    Raises
    ------
    ValueError
        The signature scheme is unknown.
    """

    def __init__(
        self, key: bytes = b"", signature_scheme: str = "hmac-sha256", username: str | None = None
    ) -> None:
        scheme, _, algorithm = signature_scheme.partition("-")
        try:
            if scheme != "hmac":
                raise ValueError
            mac = new_mac(key, digestmod=algorithm)
        except (TypeError, ValueError):
            raise ValueError(f"signature_scheme must be hmac-<hash>, not {signature_scheme!r}") from None
        self._mac = mac if key else None
        self._seen: set[int] = set()
        self._order: deque[int] = deque()
        #: Names this process on the wire for its whole life ("session" in every header).
        self.id = os.urandom(16).hex()
        self._ids = count(1)
        self._prefix = f"{self.id}_{os.getpid()}_"
        user = quote(os.environ.get("USER", "") if username is None else username)
        self._tail = f'","session":"{self.id}","username":{user},"version":"{PROTOCOL_VERSION}"}}'

    def new_id(self) -> str:
        """Return a msg_id that no other message has."""
        return f"{self._prefix}{next(self._ids)}"

    def sign(self, frames: Iterable[Frame]) -> bytes:
        """Return the signature of a message's JSON frames; empty when there is no key."""
        if self._mac is None:
            return b""
        mac = self._mac.copy()
        for frame in frames:
            mac.update(frame)
        return mac.hexdigest().encode()

    def verify(self, signature: Frame, frames: Iterable[Frame]) -> None:
        """Raise `WireError` unless `signature` is that of the frames; without a key anything is."""
        if self._mac is not None and not compare_digest(self.sign(frames), bytes(signature)):
            raise WireError("wrong signature" if signature else "not signed")

    def pack(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        parent: bytes = EMPTY,
        *,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[Any] = (),
        idents: Sequence[bytes] = (),
        msg_id: str | None = None,
    ) -> list[Frame]:
        """Return the frames of a new message.

        Parameters
        ----------
        msg_type, content, metadata
            As the protocol has them.  What JSON cannot say is turned into what it can (see `dumps`).
        parent : bytes
            The header frame of the request that this answers; ``b"{}"`` when there is none.
        buffers : sequence of bytes-like
            Contiguous; they are sent as they are and are not signed.
        idents : sequence of bytes
            Routing ids, or the topic on iopub.
        msg_id : str, optional
            From `new_id`, for a caller who has to recognise the answer.

        Raises
        ------
        TypeError, ValueError
            `content` or `metadata` can't be said in JSON, or a buffer is not contiguous.
        """
        msg_id = msg_id or self.new_id()
        header = f'{{"msg_id":"{msg_id}","msg_type":{quote(msg_type)},"date":"{now()}{self._tail}'
        four = (header.encode(), parent, dumps(metadata) if metadata else EMPTY, dumps(content))
        return [*idents, DELIMITER, self.sign(four), *four, *map(_flat, buffers)]

    def unpack(self, frames: Sequence[Any]) -> Message:
        """Return the message that the received frames are.

        Parameters
        ----------
        frames : sequence of bytes-like
            All frames of one multipart message, routing ids first.

        Raises
        ------
        WireError
            No delimiter, too few frames, a missing or wrong signature, a replayed message, or four frames
            that are not JSON objects with a header that has a ``msg_id`` and a ``msg_type``.
        """
        try:
            start = frames.index(DELIMITER)
        except ValueError:
            raise WireError("no <IDS|MSG> delimiter") from None
        if len(frames) < start + 6:
            raise WireError(f"{len(frames) - start - 1} frames after the delimiter, 5 are the least")
        signature, *four = frames[start + 1 : start + 6]
        self.verify(signature, four)
        if self._mac is not None:
            self._refuse_replay(hash(bytes(signature)))  # 64 bits of it are enough, and half as large
        header_frame = bytes(four[0])
        try:
            header = loads(header_frame, strict=True)  # it goes back to clients verbatim
            parent_header, metadata, content = (loads(bytes(frame)) for frame in four[1:])
        except (ValueError, RecursionError) as error:
            raise WireError(f"not JSON: {type(error).__name__}") from None
        if not (
            isinstance(header, dict)
            and isinstance(header.get("msg_id"), str)
            and isinstance(header.get("msg_type"), str)
        ):
            raise WireError("the header lacks msg_id or msg_type")
        return Message(
            [bytes(ident) for ident in frames[:start]],
            header,
            parent_header if isinstance(parent_header, dict) else {},
            metadata if isinstance(metadata, dict) else {},
            content,
            [memoryview(frame) for frame in frames[start + 6 :]],
            header_frame,
        )

    def _refuse_replay(self, mark: int) -> None:
        if mark in self._seen:
            raise WireError("replayed")
        self._seen.add(mark)
        self._order.append(mark)
        if len(self._order) > REPLAY_WINDOW:
            self._seen.remove(self._order.popleft())


def _flat(buffer: Any) -> memoryview:
    """Return the bytes of a buffer of any shape and format, without copying them where that can be."""
    view = memoryview(buffer)
    if not view.contiguous:
        raise ValueError("buffers must be contiguous")
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # Fortran's order, nothing in it, or a format that struct does not know
        return memoryview(view.tobytes("A"))


def now() -> str:
    """Return the time of now in UTC, as headers have it (ISO 8601)."""
    seconds = time()
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{int(seconds % 1 * 1e6):06}Z"
