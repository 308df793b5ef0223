"""The text of containers, where IPython does not print them."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from pprint import pformat
from typing import Any

import pytest
from client import Client

from minikernel.python.pretty import text


@pytest.fixture
def client(start: Any) -> Client:
    """A frontend of a kernel that has no IPython."""
    return start(without=("IPython",)).client()


def sample(depth: int, chance: random.Random) -> Any:
    kind = chance.randrange(14)
    if not depth or kind < 4:
        return chance.choice([1, 2.5, None, "abc", "x" * 90, "some words " * 12, b"bytes" * 30, range(3)])
    some = [sample(depth - 1, chance) for _ in range(chance.randrange(8))]
    named = {f"key {n}": value for n, value in enumerate(some)}
    return [
        some, tuple(some), named, named, {*range(len(some) * 20)}, frozenset("abc"), deque(some, maxlen=99),
        defaultdict(list, named), OrderedDict(named), Counter("abcdefghijkl" * len(some)),
    ][kind - 4]  # fmt: skip


def test_containers_are_as_pprint_has_them() -> None:
    chance = random.Random(7)
    for _ in range(2000):
        obj = [sample(4, chance)]
        assert text(obj) == pformat(obj, width=79, sort_dicts=False)


def test_what_fits_is_the_repr() -> None:
    chance = random.Random(8)
    for _ in range(500):
        obj = {chance.randrange(10**6) for _ in range(chance.randrange(8))}
        assert text(obj) == repr(obj)


class Named(list[int]):
    def __repr__(self) -> str:
        return f"Named of {len(self)}"


class Nameless(dict[str, int]):
    pass


class Set(set[int]):
    pass


def test_subclasses() -> None:
    assert text(Named(range(1000))) == "Named of 1000"
    assert text([Named(range(1000))] * 2) == "[Named of 1000, Named of 1000]"
    assert text(Nameless(a=1)) == "{'a': 1}" and text(Nameless({"x" * 50: 1, "y" * 50: 2})).count("\n") == 1
    assert text(Set(range(100))) == repr(Set(range(100)))


def test_long_containers_are_cut() -> None:
    lines = text(list(range(10**6))).split("\n")
    assert len(lines) == 1001 and lines[-2:] == [" 999,", " ...]"]
    assert text(dict.fromkeys(range(10**5))).endswith(" 999: None,\n ...: ...}")
    assert text(Counter({n: n for n in range(2000)})).startswith("Counter({1999: 1999,\n         1998: 1998,")
    assert text(set(range(10**5))).endswith(",\n ...}")
    assert len(text([[0] * 1000] * 1000)) < 10**6  # and not two million


def test_what_would_never_end() -> None:
    obj: list[Any] = [1]
    obj.append({"self": obj})
    assert text(obj) == "[1, {'self': [...]}]" == repr(obj)
    deep: Any = 1
    for _ in range(2000):
        deep = [deep, deep]  # 2 ** 2000 items
    assert len(text(deep)) < 10**6


def test_a_repr_is_asked_for_once(client: Client) -> None:
    code = "class A:\n    def __repr__(self): print('asked'); return 'A' * 50\n{'k': [A(), A()]}"
    run = client.execute(code)
    assert run.text() == "asked\nasked\n" and run.result is not None
    assert run.result == f"{{'k': [{'A' * 50},\n       {'A' * 50}]}}"


@pytest.mark.parametrize("code", ["[Bad()]", "{'a': [1, {Bad(): 2}]}", "display([Bad()])"])
def test_a_repr_that_fails_is_the_cells_error(client: Client, code: str) -> None:
    client.execute("class Bad:\n    def __repr__(self): raise ValueError('no text')")
    run = client.execute(code)
    assert run.ename == "ValueError" and run.reply["evalue"] == "no text"


def test_a_value_in_lines(client: Client) -> None:
    run = client.execute("{'second': list(range(40)), 'first': 'short'}")
    assert run.result == pformat(
        {"second": list(range(40)), "first": "short"}, width=79, sort_dicts=False
    )  # fmt: skip
    assert client.execute("'words ' * 100").result == repr("words " * 100)  # a string is one line
