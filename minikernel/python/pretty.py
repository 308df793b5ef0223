"""The text of containers: on one line while they fit there, else one item a line, as `pprint` has it.

`pprint` asks for every repr again and again, and prints whatever there is.  So it is given a copy of the container
in which each object's repr has been asked for once, and of which only the beginning is there when it is long:
what a cell shows is quick to make and to look at.  Only containers whose class leaves the repr to Python are
taken apart; any other object is its repr.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import islice
from operator import is_
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt

#: Columns of a line.
WIDTH = 79
#: Items shown of one container, as IPython has it.
ITEMS = 1000
#: Items looked at in all, each as often as `pprint` looks at it: once for every container that it is in.
LOOKS = 200_000
#: Containers within containers that are shown.
DEPTH = 100
#: Characters of a string that `pprint` may break into lines.
STRING = 1000

_ATOMS = frozenset((int, float, complex, bool, type(None), type(...)))
#: How to come by the items of a container, and how to make a copy of some of them.
_CONTAINERS: dict[type, tuple[Callable[[Any], Iterator[Any]], Callable[[Any, list[Any]], Any]]] = {
    list: (list.__iter__, lambda obj, items: items),
    tuple: (tuple.__iter__, lambda obj, items: tuple(items)),
    set: (set.__iter__, lambda obj, items: set(items)),
    frozenset: (frozenset.__iter__, lambda obj, items: frozenset(items)),
    deque: (deque.__iter__, lambda obj, items: deque(items, obj.maxlen)),
    dict: (lambda obj: iter(dict.items(obj)), lambda obj, items: dict(items)),
    OrderedDict: (lambda obj: iter(obj.items()), lambda obj, items: OrderedDict(items)),
    defaultdict: (lambda obj: iter(obj.items()), lambda obj, items: defaultdict(obj.default_factory, items)),
    Counter: (lambda obj: iter(obj.most_common()), lambda obj, items: Counter(dict(items))),
}
#: The name of a class that is derived from these is not in its repr.
_NAMELESS: tuple[type, ...] = (list, tuple, dict)


class _Text:
    """What stands in the copy for an object: its repr."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def __lt__(self, other: object) -> bool:
        return False  # sorting leaves it where it is

    __gt__ = __lt__


_MORE = _Text("...")
_INNER: dict[type, _Text] = {list: _Text("[...]"), tuple: _Text("(...)"), dict: _Text("{...}")}


def text(obj: Any) -> str:
    """Return the repr of an object; that of a container is laid out in lines of 79 columns.

    Raises
    ------
    Exception
        What a ``__repr__`` raises.
    """
    if _container(obj) is None:
        return str(interrupt.call(repr, obj))
    copy = _Copier().copy(obj)
    line = repr(copy)
    if len(line) <= WIDTH:
        return line
    from pprint import pformat

    return pformat(copy, width=WIDTH, sort_dicts=False)


class _Copier:
    def __init__(self) -> None:
        self._looks = LOOKS
        #: The containers that are being copied, from the outermost inwards.
        self._path: list[int] = []

    def copy(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _ATOMS or (kind in (str, bytes) and len(obj) <= STRING):
            return obj
        container = _container(obj)
        if container is None:
            return _Text(interrupt.call(repr, obj))
        if id(obj) in self._path or len(self._path) == DEPTH:
            return _INNER.get(container, _MORE)
        self._path.append(id(obj))
        iterate, make = _CONTAINERS[container]
        room = min(ITEMS, self._looks // len(self._path))
        items = list(islice(iterate(obj), room + 1))
        more = len(items) > room
        del items[room:]
        self._looks -= len(items) * len(self._path)
        copies: list[Any]
        if issubclass(container, dict):
            copies = [(self.copy(key), self.copy(value)) for key, value in items]
            same = all(old[0] is new[0] and old[1] is new[1] for old, new in zip(items, copies, strict=True))
        else:
            copies = [self.copy(item) for item in items]
            same = all(map(is_, items, copies))
        self._path.pop()
        if same and not more and kind is container:
            return obj  # a set has its order
        if more:
            copies.append((_MORE, _MORE) if issubclass(container, dict) else _MORE)
        return make(obj, copies)


def _container(obj: Any) -> type | None:
    """Return the type as which an object is taken apart, if it is."""
    kind = type(obj)
    if kind is Counter:  # shown with the most common first, where numbers are counted
        return kind if all(type(count) is int for count in obj.values()) else None
    if kind in _CONTAINERS:
        return kind
    return next((base for base in _NAMELESS if kind.__repr__ is base.__repr__), None)
