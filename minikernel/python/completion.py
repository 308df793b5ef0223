"""Completion: what could stand at the cursor ("Messaging in Jupyter: Completion").

`complete` asks, one after the other, the functions that know a place: after a backslash, in a string, in an
import, behind a dot, in a subscript, in a call; the first that knows it answers.  What stands there is looked up
statically (``lookup``), and nothing is imported.  A reply is given within about 150 ms, whatever the user's
objects do; what hasn't been found by then is left out.

jedi also follows what a cell has not run yet, and needs a second for its first answer: it is asked only where
the environment says ``MINIKERNEL_JEDI=1``.

Positions count code points.  May be called from any thread.
"""

from __future__ import annotations

import builtins
import keyword
import os
import re
import sys
import types
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import compress, islice, repeat
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple

from .cursor import Cursor, String
from .lookup import MISSING, Box, Find, attribute, attributes, evaluate, imported, in_type, is_a, own, scope

_SECONDS = 0.15
_JEDI_SECONDS = 1.0
_MOST_KEYS = 2000
_MOST_SIGNATURES = 30
_WORDS = 50_000

_SYMBOL = re.compile(r"\\(?:N\{([A-Z][\w -]*\}?)|([A-Za-z]+))$")
_SYMBOLS = dict(
    infty="∞", sum="∑", prod="∏", int="∫", partial="∂", nabla="∇", sqrt="√", pm="±", times="×", div="÷", cdot="⋅",
    le="≤", ge="≥", ne="≠", approx="≈", equiv="≡", to="→", leftarrow="←", Rightarrow="⇒", mapsto="↦", forall="∀",
    exists="∃", emptyset="∅", notin="∉", subset="⊂", subseteq="⊆", cup="∪", cap="∩", land="∧", lor="∨", neg="¬",
    oplus="⊕", otimes="⊗", aleph="ℵ", hbar="ħ", ell="ℓ", degree="°", **{"in": "∈"},
)  # fmt: skip
for _code in (*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA)):
    _case, _, _letter = unicodedata.name(chr(_code)).removeprefix("GREEK ").partition(" LETTER ")
    _SYMBOLS[_letter.lower() if _case == "SMALL" else _letter.capitalize()] = chr(_code)

_IMPORT = re.compile(r"\s*(?:import\s(?:[\w.\s]+,)*\s*|from\s+)([\w.]*)$")
_FROM = re.compile(r"\s*from\s+([\w.]+)\s+(?:import[\s(](?:[\w\s(]+,)*[\s(]*(\w*)|(i\w*)?)$")
_DEFINITION = re.compile(r"^(?:(?:async +)?def +(\w+)|class +(\w+)|(\w+)[ \t]*(?::[^=\n]+)?=(?!=))", re.M)
_WORD = re.compile(r"(?<![\w.])[^\W\d]\w*")

_KINDS = dict.fromkeys(
    [
        types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType,
        types.WrapperDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType,
        staticmethod, classmethod,
    ],
    "function",
) | {property: "property"}  # fmt: skip


class Match(NamedTuple):
    """A text that may stand at the cursor, and what it is, as frontends show it beside the text."""

    text: str
    type: str
    value: Any = MISSING


class Place(NamedTuple):
    """What `complete` hands to the functions that know a place."""

    code: str
    position: int
    cursor: Cursor
    find: Find
    namespace: dict[str, Any]
    box: Box


#: Where the matches start, and the matches.
Found = tuple[int, list[Match]]


def complete(code: str, cursor_pos: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a complete_reply.

    Parameters
    ----------
    code : str
        A cell, finished or not.
    cursor_pos : int
        In code points.
    namespace : dict
        The user's globals.  Another thread may change them meanwhile.

    Returns
    -------
    dict
        ``matches``, ``cursor_start``, ``cursor_end`` and ``metadata``, which has the type of each match.
    """
    box = Box(_SECONDS)
    start, matches = _at(code, cursor_pos, 0, namespace, box)
    if os.environ.get("MINIKERNEL_JEDI") == "1":
        start, matches = _with_jedi(code, cursor_pos, namespace, start, matches)
    known: list[dict[str, Any]] = [
        {"start": start, "end": cursor_pos, "text": match.text, "type": match.type} for match in matches
    ]
    functions = [index for index, match in enumerate(matches) if type(match.value) is types.FunctionType]
    if functions:
        box.call(_add_signatures, known, matches, functions[:_MOST_SIGNATURES])
    return {
        "matches": [match.text for match in matches],
        "cursor_start": start,
        "cursor_end": cursor_pos,
        "metadata": {"_jupyter_types_experimental": known},
    }


def _add_signatures(known: list[dict[str, Any]], matches: list[Match], indices: list[int]) -> None:
    from .inspection import signature

    for index in indices:
        known[index]["signature"] = str(signature(matches[index].value))


def _at(code: str, position: int, start: int, namespace: dict[str, Any], box: Box) -> Found:
    cursor = Cursor(code, position, start)
    place = Place(code, position, cursor, scope(namespace, code[:position]), namespace, box)
    if cursor.string is not None:
        return _in_string(place, cursor.string)
    if cursor.in_comment:
        return position, []
    for known in (_symbols, _imports, _after_dot, _in_brackets):
        found = known(place)
        if found is not None:
            return found
    return position, []


# -- places --------------------------------------------------------------------------------------------


def _symbols(place: Place) -> Found | None:
    r"""``\alpha`` becomes α, ``\al`` what it may go on to; so do ``\N{DEGREE SIGN}`` and ``\N{DEG``."""
    match = _SYMBOL.search(place.code, max(0, place.position - 100), place.position)
    if match is None:
        return None
    name, word = match[1], match[2]
    if name is not None and name.endswith("}"):
        try:
            texts = [unicodedata.lookup(name[:-1])]
        except KeyError:
            texts = []
    elif name is not None:
        common = (*range(0x20, 0x3000), *range(0x1F300, 0x1FB00))
        names = (unicodedata.name(chr(code), "") for code in common)
        texts = [f"\\N{{{each}}}" for each in names if each.startswith(name)]
    elif word in _SYMBOLS:
        texts = [_SYMBOLS[word]]
    else:
        texts = sorted(f"\\{each}" for each in _SYMBOLS if each.startswith(word))
    return match.start(), [Match(text, "symbol") for text in texts]


def _in_string(place: Place, string: String) -> Found:
    """In a string: the expression of an f-string, a dictionary's keys, a path."""
    if "f" in string.prefix:
        brace = string.text.replace("{{", "  ").rfind("{")
        if brace > string.text.rfind("}"):
            return _at(place.code, place.position, string.start + brace + 1, place.namespace, place.box)
    if "r" not in string.prefix:
        found = _symbols(place)
        if found is not None and found[1] and place.position - found[0] > 2:  # not "\n"
            return found
    keys = _keys(place, string)
    return keys if keys is not None else _paths(place, string)


def _paths(place: Place, string: String) -> Found:
    directory, prefix = os.path.split(string.text)

    def entries() -> list[Match]:
        with os.scandir(os.path.expanduser(directory) or ".") as found:
            return [
                Match(entry.name + "/" * entry.is_dir(), "path")
                for entry in found
                if entry.name.startswith(prefix) and (prefix or not entry.name.startswith("."))
            ]

    matches = place.box.call(entries) if "\n" not in string.text and "\0" not in string.text else MISSING
    return place.position - len(prefix), [] if matches is MISSING else _ordered(matches)


def _keys(place: Place, string: String | None) -> Found | None:
    """In a subscript, ``d["a`` or ``d[``: the keys of what is subscribed."""
    tokens, brackets = place.cursor.tokens, place.cursor.brackets
    if not brackets or tokens[brackets[-1]].text != "[":
        return None
    inside = tokens[brackets[-1] + 1 :]
    prefix = ""
    if string is not None:
        prefix = string.text
        inside.pop()
    elif len(inside) == 1 and inside[0].kind == "number":
        prefix = inside.pop().text
    source = place.cursor.primary(brackets[-1] - 1)
    owner = evaluate(source, place.find) if source and not inside else MISSING
    keys = _keys_of(owner, place.box)
    if keys is None:
        return None
    texts: list[str] = []
    if string is not None and prefix and "\\" not in prefix:
        try:  # most of a million keys had better go quickly
            keys = list(compress(keys, map(str.startswith, keys, repeat(prefix))))
        except TypeError:
            pass  # not all of them are strings
    for first in range(0, len(keys), 20_000):
        written = (_written(key, string) for key in keys[first : first + 20_000])
        texts += islice((text for text in written if text and text.startswith(prefix)), _MOST_KEYS)
        if len(texts) >= _MOST_KEYS or place.box.left < 0:
            break
    return place.position - len(prefix), [Match(text, "dict key") for text in texts[:_MOST_KEYS]]


def _written(key: Any, string: String | None) -> str | None:
    """Return a key as it is written at the cursor; None if it can't be."""
    if is_a(key, str):
        key = str.__str__(key)
    if string is None:
        short = type(key) is int and key.bit_length() < 1000  # Python refuses to write the longest
        return repr(key) if short or type(key) in (str, bytes) else None
    if type(key) is not (bytes if "b" in string.prefix else str):
        return None
    text = repr(key).removeprefix("b")[1:-1].replace("\\'", "'")
    if "r" in string.prefix:
        return text.replace("\\\\", "\\")
    return text.replace(string.quote[0], "\\" + string.quote[0])


def _keys_of(owner: Any, box: Box) -> Sequence[Any] | None:
    """Return the keys that an object can tell of; None if its kind can't."""
    if in_type(type(owner), "__getitem__") is dict.__getitem__:
        return list(dict.keys(owner))
    if type(owner) is type(os.environ):
        return list(owner)
    teller = in_type(type(owner), "_ipython_key_completions_")
    if teller is not MISSING:
        keys = box.ask(lambda obj: list(teller.__get__(obj)()), owner)
        return [] if keys is MISSING else keys
    names = attribute(attribute(owner, "dtype"), "names")  # of a structured array of numpy's
    return names if type(names) is tuple else None


def _imports(place: Place) -> Found | None:
    statement = place.code[place.cursor.statement : place.position]
    match = _IMPORT.match(statement)
    if match is not None:
        package, dot, prefix = match[1].rpartition(".")
        names = _ordered(_matches(_modules(package, place.box), prefix, "module"))
        # consoles show whole matches: they had better be whole names
        return place.position - len(match[1]), [each._replace(text=package + dot + each.text) for each in names]
    match = _FROM.match(statement)
    if match is None:
        return None
    if match[2] is None:
        prefix = match[3] or ""
        return place.position - len(prefix), _matches(["import"], prefix, "keyword")
    module = sys.modules.get(match[1], MISSING)
    members = place.box.call(_in_source, match[1]) if module is MISSING else attributes(module, place.box)
    matches = _matches(_modules(match[1], place.box), match[2], "module")
    if members is not MISSING:
        matches += _matches(members, match[2])
    return place.position - len(match[2]), _ordered(matches)


def _modules(package: str, box: Box) -> set[str]:
    """Return the names of the modules in a package, or of all that stand alone."""
    start = package and package + "."
    names = {name[len(start) :] for name in list(sys.modules) if name.startswith(start)}
    if not package:
        names |= sys.stdlib_module_names
    listed = box.call(_listed, package)
    if listed is not MISSING:
        names.update(listed)
    return {name for name in names if "." not in name}


def _listed(package: str) -> list[str]:
    from pkgutil import iter_modules

    path = list(_spec(package).submodule_search_locations or []) if package else None
    return [module.name for module in iter_modules(path)]


def _spec(dotted: str) -> Any:
    """Return the spec of a module.  `importlib.util.find_spec` would import the packages around it."""
    from importlib.machinery import PathFinder

    loaded = sys.modules.get(dotted)
    if loaded is not None:
        return own(loaded)["__spec__"]
    package = dotted.rpartition(".")[0]
    return PathFinder.find_spec(dotted, _spec(package).submodule_search_locations if package else None)


def _in_source(module: str, depth: int = 0) -> dict[str, Any]:
    """Return what the source of a module that isn't imported seems to define."""
    from importlib.util import resolve_name

    spec = _spec(module)
    if spec is None or not (spec.origin or "").endswith(".py"):
        return {}
    with open(spec.origin, encoding="utf-8", errors="replace") as file:
        source = file.read(2_000_000)
    found: dict[str, Any] = dict.fromkeys(imported(source), MISSING)
    if found.pop("*", None) is not None and depth < 3:
        package = module if spec.submodule_search_locations else module.rpartition(".")[0]
        for star in re.findall(r"^[ \t]*from +([\w.]+) +import +\*", source, re.M):
            found.update(_in_source(resolve_name(star, package), depth + 1))
    for function, class_, name in _DEFINITION.findall(source):
        found[function or class_ or name] = len if function else type if class_ else MISSING
    return found


def _after_dot(place: Place) -> Found | None:
    tokens = place.cursor.tokens
    named = bool(tokens) and tokens[-1].kind == "name" and tokens[-1].end == place.position
    dot = len(tokens) - 1 - named
    if dot < 0 or tokens[dot].text != ".":
        return None
    prefix = tokens[-1].text if named else ""
    source = place.cursor.primary(dot - 1) if dot else None
    owner = evaluate(source, place.find) if source else MISSING
    if owner is not MISSING:
        names = attributes(owner, place.box)
    else:  # a module that the cell is going to import
        module, member = imported(place.code[: place.position]).get(source or "", ("", ""))
        listed = place.box.call(_in_source, module) if module and not member else MISSING
        names = {} if listed is MISSING else listed
    return place.position - len(prefix), _ordered(_matches(names, prefix))


def _in_brackets(place: Place) -> Found | None:
    """Anywhere else: keys, keyword arguments of the call, names."""
    keys = _keys(place, None)
    if keys is not None and keys[1]:
        return keys
    tokens, brackets = place.cursor.tokens, place.cursor.brackets
    last = tokens[-1] if tokens else None
    prefix = ""
    if last is not None and last.end == place.position:
        if last.kind == "name":
            prefix = last.text
        elif last.kind in ("number", "string", "close"):
            return place.position, []
    before = len(tokens) - 1 - bool(prefix)
    if prefix and before >= 0 and tokens[before].kind == "number" and tokens[before].end == tokens[-1].start:
        return place.position, []
    parameters: list[Match] = []
    if brackets and tokens[before].text in ("(", ",") and brackets[-1] <= before:
        parameters = _parameters(place, brackets[-1], prefix)
    start = place.position - len(prefix)
    matches = [
        *_matches(_WORD.findall(place.code, max(0, start - _WORDS), start), prefix, "statement"),
        *_matches(vars(builtins).copy(), prefix),
        *_matches(place.namespace.copy(), prefix),
        *_matches([*keyword.kwlist, *keyword.softkwlist], prefix, "keyword"),
    ]
    return start, parameters + _ordered(matches)


def _parameters(place: Place, bracket: int, prefix: str) -> list[Match]:
    from .inspection import signature

    source = place.cursor.call(bracket)
    called = evaluate(source, place.find) if source else MISSING
    found = MISSING if called is MISSING else place.box.call(signature, called)
    if found is MISSING or found is None:
        return []
    tokens = place.cursor.tokens
    given = {one.text for one, two in zip(tokens[bracket:], tokens[bracket + 1 :], strict=False) if two.text == "="}
    return [
        Match(f"{name}=", "param")
        for name, parameter in found.parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and name.startswith(prefix)
        and name not in given
    ]


# -- matches -------------------------------------------------------------------------------------------


def _matches(names: Iterable[Any], prefix: str, kind: str = "") -> list[Match]:
    """Return those names that `prefix` may go on to, private ones only where it is private itself.

    What a name stands for is `kind`, or what `names` has for it.
    """
    public = not prefix.startswith("_")
    fitting = [
        name
        for name in names
        if type(name) is str and name.startswith(prefix) and not (public and name.startswith("_"))
    ]
    if kind:
        return [Match(name, kind) for name in fitting]
    assert isinstance(names, dict)
    kinds = _Kinds(_KINDS)
    values = [names[name] for name in fitting]
    return list(map(Match, fitting, [kinds[type(value)] for value in values], values))


def _ordered(matches: list[Match]) -> list[Match]:
    """Sort by name, special names last; of those with the same text, the last stays."""
    ordered = sorted({match.text: match for match in matches}.values(), key=itemgetter(0))
    if any(map(str.startswith, map(itemgetter(0), ordered), repeat("_"))):
        ordered.sort(key=lambda match: match.text.startswith("_") + match.text.startswith("__"))
    return ordered


class _Kinds(dict[type, str]):
    """The words for what a name stands for, by its type, as jedi and IPython have them."""

    def __missing__(self, kind: type) -> str:
        self[kind] = (
            "class" if issubclass(kind, type) else "module" if issubclass(kind, types.ModuleType) else "instance"
        )
        return self[kind]


_jedi_lock = Lock()


def _with_jedi(code: str, position: int, namespace: dict[str, Any], start: int, matches: list[Match]) -> Found:
    """Add what jedi knows; what it can't tell in time is missed."""

    def ask() -> list[tuple[int, Match]]:
        import jedi

        if not _jedi_lock.acquire(blocking=False):
            return []  # it still works on an earlier question
        try:
            lines = code[:position].split("\n")
            found = jedi.Interpreter(code, [namespace.copy()]).complete(len(lines), len(lines[-1]))
            return [
                (position - one.get_completion_prefix_length(), Match(one.name_with_symbols, one.type))
                for one in found
            ]
        finally:
            _jedi_lock.release()

    found = Box(_JEDI_SECONDS).call(ask)
    if found is MISSING or not found:
        return start, matches
    if not matches:
        start = found[0][0]
    seen = {match.text for match in matches}
    return start, matches + [match for at, match in found if at == start and match.text not in seen]
