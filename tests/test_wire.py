"""The wire: what is let in, what is refused, what others can read ("Messaging in Jupyter: The Wire Protocol")."""

from __future__ import annotations

import ctypes
import datetime
import decimal
import enum
import hashlib
import json
import os
import struct
from array import array
from types import MappingProxyType
from typing import Any

import jupyter_client.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikernel.protocol.encoding import dumps
from minikernel.protocol.wire import DELIMITER, EMPTY, REPLAY_WINDOW, Session, WireError

# The same examples in every run, however slow the machine is.
settings.register_profile(
    "minikernel", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minikernel")

KEY = b"a key of the tests"

NUMBERS = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
BUFFERS = st.lists(st.binary(max_size=64), max_size=3)
IDENTS = st.lists(st.binary(max_size=16).filter(lambda ident: ident != DELIMITER), max_size=3)


def theirs(key: bytes = KEY, scheme: str = "hmac-sha256") -> jupyter_client.session.Session:
    """The session of a frontend."""
    return jupyter_client.session.Session(key=key, signature_scheme=scheme, username="tester")


def signed(*four: bytes, key: bytes = KEY, buffers: tuple[bytes, ...] = ()) -> list[bytes]:
    """A message of any four frames with the right signature."""
    return [b"id", DELIMITER, Session(key).sign(four), *four, *buffers]


def header(**fields: Any) -> bytes:
    return json.dumps({"msg_id": "1", "msg_type": "x", **fields}).encode()


# -- both ways --------------------------------------------------------------------------------------------


@given(st.sampled_from([KEY, b""]), st.text(min_size=1), OBJECTS, OBJECTS, BUFFERS, IDENTS)
def test_what_is_packed_is_unpacked(
    key: bytes, msg_type: str, content: Any, metadata: Any, buffers: list[bytes], idents: list[bytes]
) -> None:
    parent = {"msg_id": "p", "msg_type": "ask"}
    frames = Session(key).pack(
        msg_type, content, json.dumps(parent).encode(), metadata=metadata, buffers=buffers, idents=idents
    )
    message = Session(key).unpack(frames)
    assert message.msg_type == message.header["msg_type"] == msg_type
    assert (message.content, message.metadata, message.parent_header) == (content, metadata, parent)
    assert (message.idents, [bytes(view) for view in message.buffers]) == (idents, buffers)
    assert json.loads(message.header_frame) == message.header


@given(OBJECTS, OBJECTS, BUFFERS)
def test_jupyter_client_reads_ours(content: Any, metadata: Any, buffers: list[bytes]) -> None:
    ours, reader = Session(KEY), theirs()
    asked = ours.pack("ask", {})
    frames = ours.pack("t", content, bytes(asked[2]), metadata=metadata, buffers=buffers, idents=[b"one", b"two"])
    idents, rest = reader.feed_identities([bytes(frame) for frame in frames])
    message = reader.deserialize(rest)
    assert idents == [b"one", b"two"]
    assert (message["msg_type"], message["content"], message["metadata"]) == ("t", content, metadata)
    assert [bytes(buffer) for buffer in message["buffers"]] == buffers
    assert message["parent_header"]["msg_id"] == json.loads(bytes(asked[2]))["msg_id"]
    assert message["header"]["session"] == ours.id
    assert message["header"]["date"].utcoffset() == datetime.timedelta(0)


@given(OBJECTS, OBJECTS, BUFFERS)
def test_we_read_jupyter_clients(content: Any, metadata: Any, buffers: list[bytes]) -> None:
    writer = theirs()
    msg = writer.msg("ask", content=content, metadata=metadata)
    frames = [*writer.serialize(msg, ident=[b"one"]), *buffers]
    for kind in (bytes, memoryview):  # sockets give both
        message = Session(KEY).unpack([kind(frame) for frame in frames])
        assert (message.msg_type, message.content, message.metadata) == ("ask", content, metadata)
        assert message.header["msg_id"] == msg["header"]["msg_id"]
        assert message.idents == [b"one"] and [bytes(view) for view in message.buffers] == buffers
        assert all(isinstance(view, memoryview) for view in message.buffers)


@pytest.mark.parametrize("name", sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}))
def test_any_hash_signs(name: str) -> None:
    ours, other = Session(KEY, f"hmac-{name}"), theirs(scheme=f"hmac-{name}")
    assert other.deserialize(other.feed_identities(ours.pack("t", {"a": 1}))[1])["content"] == {"a": 1}
    frames = other.serialize(other.msg("t", content={"b": 2}))
    assert ours.unpack(frames).content == {"b": 2}
    with pytest.raises(WireError, match="replayed"):
        ours.unpack(frames)


@pytest.mark.parametrize("scheme", ["", "sha256", "hmac", "hmac-", "hmac-nope", "hmac-shake_128", "HMAC-sha256"])
@pytest.mark.parametrize("key", [KEY, b""])
def test_no_other_scheme_does(scheme: str, key: bytes) -> None:
    with pytest.raises(ValueError, match="signature_scheme must be hmac-<hash>"):
        Session(key, scheme)


def test_the_header() -> None:
    session = Session(KEY, username='a "quoted"\nüser \udcff')
    headers = [json.loads(bytes(session.pack("t", {})[2])) for _ in range(3)]
    assert all(set(h) == {"msg_id", "msg_type", "session", "username", "date", "version"} for h in headers)
    assert {h["username"] for h in headers} == {'a "quoted"\nüser \udcff'}
    assert {h["session"] for h in headers} == {session.id} and session.id != Session(KEY).id
    assert len({h["msg_id"] for h in headers}) == 3
    assert {h["version"] for h in headers} == {"5.6"}
    before = datetime.datetime.now(datetime.timezone.utc)
    date = datetime.datetime.fromisoformat(
        json.loads(bytes(session.pack("t", {})[2]))["date"].replace("Z", "+00:00")
    )
    assert abs(date - before) < datetime.timedelta(minutes=1)
    msg_id = session.new_id()
    assert Session(KEY).unpack(session.pack("t", {}, msg_id=msg_id)).header["msg_id"] == msg_id


def test_a_header_is_kept_as_it_came() -> None:
    frame = b' {"msg_type":"x",  "msg_id" : "\\u0031", "extra": [1e400, 1.0] }'
    assert Session(KEY).unpack(signed(frame, EMPTY, EMPTY, EMPTY)).header_frame == frame


# -- what is refused --------------------------------------------------------------------------------------


@given(st.integers(0, 4), st.data())
def test_a_flipped_bit_is_seen(index: int, data: st.DataObject) -> None:
    frames = Session(KEY).pack("t", {"a": [1, "é"]}, header(), metadata={"m": 1}, idents=[b"id"])
    flipped = bytearray(frames[2 + index])
    bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    reader = Session(KEY)
    with pytest.raises(WireError, match="wrong signature"):
        reader.unpack([*frames[: 2 + index], bytes(flipped), *frames[3 + index :]])
    reader.unpack(frames)  # the genuine one is still new


JUNK = (
    st.binary(max_size=40)
    | st.sampled_from([DELIMITER, b"", EMPTY, header(), b"[]", b"null", b"NaN", b"1" * 5000, b"\xff", b'"\\ud83d"'])
    | VALUES.map(lambda value: json.dumps(value).encode())
)


@settings(max_examples=300)
@given(st.lists(JUNK, max_size=9), st.sampled_from([KEY, b""]), st.sampled_from([bytes, memoryview]))
def test_junk_is_a_wire_error_and_nothing_else(frames: list[bytes], key: bytes, kind: Any) -> None:
    four = frames[-4:]
    for attempt in (frames, [b"id", DELIMITER, *frames], signed(*four, key=key)):
        try:
            message = Session(key).unpack([kind(frame) for frame in attempt])
        except WireError as error:
            assert str(error)
        else:
            assert isinstance(message.header["msg_id"], str) and isinstance(message.msg_type, str)
            assert isinstance(message.metadata, dict) and isinstance(message.parent_header, dict)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("four", "reason"),
    [
        ((b"", EMPTY, EMPTY, EMPTY), "not JSON"),
        ((b"[]", EMPTY, EMPTY, EMPTY), "lacks"),
        ((b"null", EMPTY, EMPTY, EMPTY), "lacks"),
        ((EMPTY, EMPTY, EMPTY, EMPTY), "lacks"),
        ((header(msg_id=1), EMPTY, EMPTY, EMPTY), "lacks"),
        ((header(msg_type=None), EMPTY, EMPTY, EMPTY), "lacks"),
        ((header(x=float("nan")), EMPTY, EMPTY, EMPTY), "not JSON"),
        ((header(x=[-float("inf")]), EMPTY, EMPTY, EMPTY), "not JSON"),
        ((b"\xef\xbb\xbf" + header(), EMPTY, EMPTY, EMPTY), "not JSON"),
        ((header() + b"x", EMPTY, EMPTY, EMPTY), "not JSON"),
        ((header()[:-1] + b',"x":"\xff"}', EMPTY, EMPTY, EMPTY), "not JSON"),
        ((header(), b"{", EMPTY, EMPTY), "not JSON"),
        ((header(), EMPTY, b"", EMPTY), "not JSON"),
        ((header(), EMPTY, EMPTY, b"\x80"), "not JSON"),
        ((header(), EMPTY, EMPTY, DEEP), "not JSON"),
        ((DEEP, EMPTY, EMPTY, EMPTY), "not JSON"),
    ],
)
@pytest.mark.parametrize("key", [KEY, b""])
def test_what_is_signed_but_no_message(four: tuple[bytes, ...], reason: str, key: bytes) -> None:
    with pytest.raises(WireError, match=reason):
        Session(key).unpack(signed(*four, key=key))


def test_what_is_not_even_signed() -> None:
    session, frames = Session(KEY), signed(header(), EMPTY, EMPTY, EMPTY)
    for short in ([], [b""], frames[:1], frames[2:]):
        with pytest.raises(WireError, match=r"^no <IDS.MSG> delimiter$"):
            session.unpack(short)
    for n in range(2, 7):
        with pytest.raises(WireError, match=f"{n - 2} frames after the delimiter"):
            session.unpack(frames[:n])
    with pytest.raises(WireError, match="not signed"):
        session.unpack([*frames[:2], b"", *frames[3:]])
    with pytest.raises(WireError, match="wrong signature"):
        session.unpack([*frames[:2], frames[2].upper(), *frames[3:]])
    with pytest.raises(WireError, match="wrong signature"):
        Session(b"another key").unpack(frames)
    assert session.unpack(frames)


def test_a_reason_tells_no_secret() -> None:
    secret = b'{"password": "hunter2"'
    with pytest.raises(WireError) as caught:
        Session(KEY).unpack(signed(header(), EMPTY, EMPTY, secret))
    assert "hunter2" not in str(caught.value) and KEY.decode() not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_content_may_be_anything() -> None:
    for content in (b"[1]", b"null", b"NaN", b'"text"', b"5"):
        assert not isinstance(Session(KEY).unpack(signed(header(), EMPTY, EMPTY, content)).content, dict)
    odd = Session(KEY).unpack(signed(header(), b"[]", b"null", EMPTY))
    assert odd.parent_header == {} and odd.metadata == {}


def test_buffers_are_not_signed_and_may_hold_a_delimiter() -> None:
    frames = signed(header(), EMPTY, EMPTY, EMPTY, buffers=(DELIMITER, b""))
    assert [bytes(view) for view in Session(KEY).unpack(frames).buffers] == [DELIMITER, b""]


# -- replays ----------------------------------------------------------------------------------------------


def test_a_message_is_let_in_once() -> None:
    reader, frames = Session(KEY), Session(KEY).pack("t", {})
    reader.unpack(frames)
    for again in (frames, [b"other id", *frames], [*frames, b"a buffer"]):
        with pytest.raises(WireError, match="replayed"):
            reader.unpack(again)


def test_forgeries_do_not_push_out_the_genuine() -> None:
    reader, frames = Session(KEY), Session(KEY).pack("t", {})
    reader.unpack(frames)
    for _ in range(REPLAY_WINDOW + 10):
        with pytest.raises(WireError, match="wrong signature"):
            reader.unpack([DELIMITER, os.urandom(32).hex().encode(), *frames[2:]])
    with pytest.raises(WireError, match="replayed"):
        reader.unpack(frames)


def test_the_latest_messages_are_remembered() -> None:
    writer, reader = Session(KEY), Session(KEY)
    messages = [writer.pack("t", {}) for _ in range(REPLAY_WINDOW + 1)]
    for frames in messages:
        reader.unpack(frames)
    for frames in (messages[1], messages[-1]):
        with pytest.raises(WireError, match="replayed"):
            reader.unpack(frames)
    reader.unpack(messages[0])  # forgotten: the memory has a bound


def test_without_a_key_nothing_is_signed_or_refused() -> None:
    session = Session()
    frames = session.pack("t", {"a": 1})
    assert frames[1] == b""
    for _ in range(2):
        assert session.unpack(frames).content == {"a": 1}
    assert session.unpack(signed(header(), EMPTY, EMPTY, EMPTY)).msg_type == "x"
    assert theirs(b"").deserialize([bytes(frame) for frame in frames[1:]])["content"] == {"a": 1}


# -- what JSON can't say ----------------------------------------------------------------------------------


class Scalar:
    """A number as numpy has it: no number to Python, but it can become one."""

    def __init__(self, value: float) -> None:
        self.value = value


class Integer(Scalar):
    def __index__(self) -> int:
        return int(self.value)


class Real(Scalar):
    def __float__(self) -> float:
        return float(self.value)


class Array:
    """An array as numpy has it: it has the methods of a number, which fail."""

    def __iter__(self) -> Any:
        return iter([Integer(1), Real(2.5)])

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    __float__ = __index__


class Color(enum.IntEnum):
    RED = 3


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, None),
        ([1.5, INF, {"x": -INF}], [1.5, None, {"x": None}]),
        ({"a": NAN, "b": (1, {2})}, {"a": None, "b": [1, [2]]}),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        ((1, (2,)), [1, [2]]),
        ({1}, [1]),
        (frozenset("a"), ["a"]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (MappingProxyType({"a": {"b": b"a"}}), {"a": {"b": "YQ=="}}),
        ({1: "a", None: "b", False: "c", 2.5: "d"}, {"1": "a", "null": "b", "false": "c", "2.5": "d"}),
        ({1: NAN, None: 1, False: 2}, {"1": None, "null": 1, "false": 2}),
        ({(1, 2): 3, b"k": NAN, NAN: 4}, {"(1, 2)": 3, "b'k'": None, "nan": 4}),
        (Integer(7), 7),
        (Real(7.5), 7.5),
        (Real(NAN), None),
        ([Integer(1), {Integer(1)}], [1, [1]]),
        (Array(), [1, 2.5]),
        (array("i", [1, 2]), [1, 2]),
        (Color.RED, 3),
        (decimal.Decimal("1.5"), 1.5),
        (decimal.Decimal("NaN"), None),
        (datetime.date(2026, 11, 22), "2026-11-22"),
        (datetime.datetime(2026, 11, 22, 1, tzinfo=datetime.timezone.utc), "2026-11-22T01:00:00+00:00"),
        ("\ud83d", "\ud83d"),
        ({"\udcff": ["é", NAN]}, {"\udcff": ["é", None]}),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_what_json_cannot_say(value: Any, expected: Any) -> None:
    text = dumps({"value": value}).decode()  # valid UTF-8, whatever was in it
    assert json.loads(text, parse_constant=pytest.fail) == {"value": expected}
    assert Session(KEY).unpack(Session(KEY).pack("t", {"value": value})).content == {"value": expected}


def test_an_iterator_is_read_once() -> None:
    value = {"items": (n for n in range(3)), "other": NAN, "text": "\ud83d"}
    assert json.loads(dumps(value)) == {"items": [0, 1, 2], "other": None, "text": "\ud83d"}


def test_plain_text_is_not_escaped() -> None:
    assert dumps({"é": "\U0001f600\u2028"}) == '{"é":"\U0001f600\u2028"}'.encode()


def test_what_has_no_json() -> None:
    circle: list[Any] = []
    circle.append(circle)
    mapping: dict[str, Any] = {"nan": NAN}
    mapping["self"] = mapping
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, mapping, deep):
        with pytest.raises(ValueError, match="circular, or nested too deeply"):
            dumps({"value": value})
    for thing in (object(), len, 1j, Ellipsis, Session):
        with pytest.raises(TypeError, match="no JSON for an object of type"):
            dumps({"value": [thing]})
        with pytest.raises(TypeError, match="no JSON for an object of type"):
            Session(KEY).pack("t", {}, metadata={"value": thing})
    while deep:
        deep = deep.pop()  # or its end is a recursion too


def test_buffers_of_any_kind() -> None:
    two_rows = memoryview(bytes(range(6))).cast("B", (2, 3))
    number = ctypes.c_int32(7)
    buffers = [b"", bytearray(b"a"), array("d", [1.5, 2.5]), two_rows, number, (ctypes.c_int16 * 0)()]
    frames = Session(KEY).pack("t", {}, buffers=buffers)
    expected = [b"", b"a", struct.pack("2d", 1.5, 2.5), bytes(range(6)), struct.pack("i", 7), b""]
    assert [bytes(view) for view in frames[-6:]] == expected
    assert all(len(view) == len(raw) for view, raw in zip(frames[-6:], expected, strict=True))
    with pytest.raises(ValueError, match="contiguous"):
        Session(KEY).pack("t", {}, buffers=[memoryview(b"abcd")[::2]])
    with pytest.raises(TypeError):
        Session(KEY).pack("t", {}, buffers=["text"])


def test_a_large_buffer_is_not_copied() -> None:
    large = bytearray(10)
    view = Session(KEY).pack("t", {}, buffers=[large])[-1]
    large[0] = 1
    assert view[0] == 1
