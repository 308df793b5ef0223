"""What Python's values are in JSON, and JSON in Python.

Cells show what they like, and clients read JSON to the letter: this file alone decides how one becomes the other.

`json` is C inside Python.  The Python goes through names that a cell may break, and costs more than the C, so here
the C is called, as `json` calls it.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from json import JSONDecoder, encoder
from json.encoder import encode_basestring
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from .. import __builtins__ as __builtins__

_make_encoder: Any = vars(encoder)["c_make_encoder"]
#: Characters of a string from which C's loop over them is slower than a search for each that JSON escapes.
LARGE = 2000
_ESCAPES = [(char, encode_basestring(char)[1:-1]) for char in ("\\", '"', *map(chr, range(32)))]
#: The encoder has a text of its own for these; a float's may be NaN.
_KEYS = (str, int, type(None))


def dumps(value: Any) -> bytes:
    """Return `value` as UTF-8 JSON that every client can read.

    NaN and the infinities become null, bytes become base64, sets and other iterables become lists, numbers
    of other libraries become numbers, dates ISO 8601, keys strings; lone surrogates are escaped.

    Raises
    ------
    TypeError, ValueError
        There is no JSON for it: an object of an unknown type, or a circular or bottomless structure.
    """
    # what is large is the data of displays, results and comms
    large = isinstance(value, dict) and "data" in value
    try:
        return _encode(value, _quote if large else encode_basestring).encode()
    except (TypeError, ValueError, RecursionError):  # a lone surrogate is a ValueError, too
        pass
    try:
        return _encode(_plain(value), quote).encode()
    except RecursionError:
        raise ValueError("circular, or nested too deeply for JSON") from None


def loads(frame: bytes, strict: bool = False) -> Any:
    """Return what UTF-8 JSON says; NaN and the infinities may be in it, unless `strict`.

    Raises
    ------
    ValueError, RecursionError
        It is not JSON.
    """
    text = frame.decode().strip(" \t\r\n")
    try:
        value, end = (_scan_strictly if strict else _scan)(text, 0)
    except StopIteration:
        raise ValueError("no value") from None
    if end != len(text):
        raise ValueError("more than a value")
    return value


def _encode(value: Any, text: Callable[[str], str]) -> str:
    """Return JSON whose strings are written by `text`; C's own need no call for each."""
    return "".join(_make_encoder({}, _default, text, None, ":", ",", False, False, False)(value, 0))


def _quote(text: str) -> str:
    """Return the JSON of a string that may be large."""
    if type(text) is not str or len(text) < LARGE or not text.isascii():
        return encode_basestring(text)
    for char, escaped in _ESCAPES:
        if char in text:  # most are not, and nothing is faster than this
            text = text.replace(char, escaped)
    return f'"{text}"'


def _default(value: Any) -> Any:
    """Say in JSON what the encoder can't."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(value, newline=False).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):  # before numbers: arrays call themselves both
        if isinstance(value, Iterator):
            raise TypeError("an iterator can be read once only")  # `_plain` does that
        return list(value)
    for convert in ("__index__", "__float__", "isoformat"):  # numpy's numbers, Decimal, datetime
        method = getattr(type(value), convert, None)
        if method is not None:
            return method(value)
    raise TypeError(f"no JSON for an object of type {type(value).__name__}")


def _plain(value: Any) -> Any:
    """Rebuild what the encoder refused: NaN, iterators, keys that JSON has no text for."""
    if isinstance(value, (str, bool, int, type(None))):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # NaN and the infinities are not JSON
    if isinstance(value, Mapping):
        return {key if isinstance(key, _KEYS) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, Iterator)):
        return [_plain(item) for item in value]
    return _plain(_default(value))


def _refuse(name: str) -> Any:
    raise ValueError(name)


_scan: Any = vars(JSONDecoder())["scan_once"]
_scan_strictly: Any = vars(JSONDecoder(parse_constant=_refuse))["scan_once"]
