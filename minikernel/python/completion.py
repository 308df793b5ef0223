"""Completion: what could stand at the cursor ("Messaging in Jupyter: Completion").

`places` are functions that know a place: a string, a subscript, an import, what is behind a dot, a call.  They are
asked one after the other; the first that answers is believed.  What stands there is looked up statically
(``lookup``), and nothing is imported.

jedi follows what a cell has not run yet, and needs a second for its first answer: it is asked where all that finds
nothing, and only if the environment says ``MINIKERNEL_JEDI=1``.

Positions count code points.  May be called from any thread.
"""

from __future__ import annotations

import builtins
import keyword
import os
import pickle
import re
import shutil
import sys
import types
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from .. import __builtins__ as __builtins__
from . import lookup
from .cursor import Cursor
from .inspection import signature
from .lookup import MISSING, ROUTINES, ask, attribute, attributes, evaluate, imported, in_type, is_a, is_table

_JEDI_SECONDS = 1.0
_MOST_KEYS = 2000
_MOST_SIGNATURES = 50
#: Matches up to which each is given with its type.
_MOST_TYPES = 2_000

_SYMBOL = re.compile(r"\\([A-Za-z]+)$")
_NAMED = """
    infty∞ sum∑ prod∏ int∫ partial∂ nabla∇ sqrt√ pm± times× div÷ cdot⋅ le≤ ge≥ ne≠ approx≈ equiv≡ to→ leftarrow←
    Rightarrow⇒ mapsto↦ forall∀ exists∃ emptyset∅ in∈ notin∉ subset⊂ subseteq⊆ cup∪ cap∩ land∧ lor∨ neg¬ oplus⊕
    otimes⊗ aleph\N{ALEF SYMBOL} hbarħ ellℓ degree°
"""
_SYMBOLS = {pair[:-1]: pair[-1] for pair in _NAMED.split()}
for _code in (*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA)):
    _case, _, _letter = unicodedata.name(chr(_code)).removeprefix("GREEK ").partition(" LETTER ")
    _SYMBOLS[_letter.lower() if _case == "SMALL" else _letter.capitalize()] = chr(_code)

_IMPORT = re.compile(r"\s*(?:import\s(?:.*,)?|from\s)\s*([\w.]*)", re.S)
_FROM = re.compile(r"\s*from\s+([\w.]+)\s+(?:import[\s(\\](?:.*,)?[\s(\\]*(\w*)|(i?\w*))", re.S)
_DEFINITION = re.compile(r"^(?:(?:async +)?def +|class +)(\w+)|^(\w+)[ \t]*(?::[^=\n]+)?=(?!=)", re.M)
_WORD = re.compile(r"(?<![\w.])[^\W\d]\w*")
#: A line of the shell's, or of IPython's with a path in it; and its last word.
_LINE = re.compile(r"[ \t]*(?:[\w, ]+=[ \t]*)?(?:!(?!=)|%%?(?:cd|load|ls|run|writefile)\b)[^\n]*?([^\s'\"=]*)")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "function": (*ROUTINES, staticmethod, classmethod), "class": type, "module": types.ModuleType,
    "property": property, "instance": object,
}  # fmt: skip

Names = dict[str, Any]
#: ``text`` and ``type`` of something that may stand at the cursor, as in ``_jupyter_types_experimental``.
Match = dict[str, Any]
#: Where the matches start, and the matches.  The list may still grow after it has been given.
Found = tuple[int, list[Match]]


class Kind(str):
    """The type of a match, for want of its value."""


def complete(code: str, cursor_pos: int, namespace: Names) -> dict[str, Any]:
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
        ``matches``, ``cursor_start``, ``cursor_end`` and ``metadata``, which has the type of each match unless they
        are more than anybody reads.
    """
    with_jedi = os.environ.get("MINIKERNEL_JEDI") == "1"
    answers = _answers(Cursor(code[:cursor_pos]), namespace, with_jedi)
    start, found = lookup.latest(answers, (cursor_pos, []), _JEDI_SECONDS if with_jedi else 0)
    matches, metadata = list(found), {}
    if len(matches) <= _MOST_TYPES:
        metadata["_jupyter_types_experimental"] = [
            {"start": start, "end": cursor_pos, **match} for match in matches
        ]
    return {
        "matches": [match["text"] for match in matches],
        "cursor_start": start,
        "cursor_end": cursor_pos,
        "metadata": metadata,
    }


def _answers(cursor: Cursor, namespace: Names, with_jedi: bool = False) -> Iterator[Found]:
    found = None
    for place in () if cursor.in_comment else places:
        for found in place(cursor, namespace):
            yield found
        if found is not None:
            break
    if with_jedi and not (found and found[1]):
        matches = ask(_jedi, _jedi, cursor, namespace)
        if matches is not MISSING and matches:
            yield matches


def _jedi(cursor: Cursor, namespace: Names) -> Found | None:
    import jedi

    jedi.settings.allow_unsafe_interpreter_executions = False  # of properties
    # it would ask other objects for their __class__, and import lazy modules
    kinds = (types.ModuleType, types.FunctionType, type)
    known = {name: value for name, value in namespace.copy().items() if any(type(value) is kind for kind in kinds)}
    try:
        found = jedi.Interpreter(cursor.code, [known]).complete()
    except (EOFError, pickle.UnpicklingError):  # a process has ended while it wrote the cache: it would stay so
        shutil.rmtree(jedi.settings.cache_directory)
        found = jedi.Interpreter(cursor.code, [known]).complete()
    start = cursor.end - max((one.get_completion_prefix_length() for one in found), default=0)
    return start, [{"text": one.name_with_symbols, "type": one.type} for one in found]


def _symbols(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    r"""``\alpha`` becomes α, ``\al`` what it may go on to; in a string, ``\n`` is left alone."""
    match = _SYMBOL.search(cursor.code, max(0, cursor.end - 20))
    if match is None or (cursor.quote and ("r" in cursor.prefix or len(match[1]) == 1)):
        return
    known = _SYMBOLS.get(match[1])
    texts = [known] if known else sorted(f"\\{name}" for name in _SYMBOLS if name.startswith(match[1]))
    if texts:
        yield match.start(), [{"text": text, "type": "symbol"} for text in texts]


def _keys(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    """In a subscript, ``d["a`` or ``d[``: the keys of what is subscribed."""
    bracket = len(cursor.tokens) - 1
    if cursor.before != "[" or bracket not in cursor.brackets:
        return
    keys = _keys_of(evaluate(cursor.primary(bracket - 1), namespace, cursor.code))
    if keys is None:
        return
    word, found = cursor.word, list[Match]()
    simple = bool(cursor.quote) and "\\" not in word
    for number, key in enumerate(keys):
        if number % 20_000 == 0 and (found or cursor.quote):
            yield cursor.end - len(word), found
        if simple and type(key) is str and not key.startswith(word):
            continue  # most of a million had better go quickly
        text = _written(key, cursor)
        if text and text.startswith(word):
            found.append({"text": text, "type": "dict key"})
            if len(found) == _MOST_KEYS:
                break
    if found or cursor.quote:
        yield cursor.end - len(word), found


def _keys_of(owner: Any) -> Sequence[Any] | None:
    """Return the keys that an object can tell of; None if its kind can't."""
    if in_type(type(owner), "__getitem__") is dict.__getitem__:
        return list(dict.keys(owner))
    if type(owner) is type(os.environ):
        return list(owner)
    teller = in_type(type(owner), "keys" if is_table(owner) else "_ipython_key_completions_")
    if teller is not MISSING:
        keys = ask(type(owner), lambda: list(teller.__get__(owner, type(owner))()))
        return [] if keys is MISSING else keys
    names = attribute(attribute(owner, "dtype"), "names")  # of a structured array of numpy's
    return names if type(names) is tuple else None


def _written(key: Any, cursor: Cursor) -> str:
    """Return a key as it is written at the cursor; "" if it can't be."""
    key = str.__str__(key) if is_a(key, str) else key
    text = repr(key) if type(key) is str or type(key) is bytes or (type(key) is int and abs(key) < 1 << 64) else ""
    if not cursor.quote:
        return text
    if type(key) is not (bytes if "b" in cursor.prefix else str):
        return ""
    text = text.removeprefix("b")[1:-1].replace("\\'", "'")
    return text.replace(cursor.quote[0], "\\" + cursor.quote[0])


def _paths(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    """In a string and in a line for the shell: a path."""
    line = _LINE.fullmatch(cursor.code, cursor.code.rfind("\n") + 1)
    if line is None and not cursor.quote:
        return
    directory, prefix = os.path.split(line[1] if line is not None and not cursor.quote else cursor.word)
    names: list[str] = []
    try:
        with os.scandir(os.path.expanduser(directory) or ".") as entries:
            names = [entry.name + "/" * entry.is_dir() for entry in entries if entry.name.startswith(prefix)]
    except (OSError, ValueError):  # ValueError: a null character
        pass
    matches = [{"text": name, "type": "path"} for name in sorted(names) if prefix or not name.startswith(".")]
    if matches or cursor.quote:
        yield cursor.end - len(prefix), matches


def _imports(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    statement = re.sub(r"#[^\n]*", "", cursor.code[cursor.statement :])
    match = _IMPORT.fullmatch(statement)
    if match is not None:
        package, dot, word = match[1].rpartition(".")
        for modules in _modules(package):
            # consoles show whole matches: they had better be whole names
            matches = [each | {"text": package + dot + each["text"]} for each in _matches(modules, word)]
            yield cursor.end - len(match[1]), matches
        return
    match = _FROM.fullmatch(statement)
    if match is None:
        return
    module, word, rest = match.groups()
    if word is None:
        yield cursor.end - len(rest), _matches({"import": Kind("keyword")}, rest)
        return
    for members in _members(module):
        for modules in _modules(module):
            yield cursor.end - len(word), _matches(modules | members, word)


def _modules(package: str) -> Iterator[Names]:
    """Yield the modules in a package, or all that stand alone."""
    start = package and package + "."
    names = {name[len(start) :] for name in list(sys.modules) if name.startswith(start)}
    names |= set() if package else sys.stdlib_module_names
    names = {name for name in names if "." not in name}
    yield dict.fromkeys(names, Kind("module"))
    listed = ask(_listed, _listed, package)
    if listed is not MISSING:
        yield dict.fromkeys(names.union(listed), Kind("module"))


def _listed(package: str) -> list[str]:
    from pkgutil import iter_modules

    path = list(_spec(package).submodule_search_locations or []) if package else None
    return [module.name for module in iter_modules(path)]


def _spec(dotted: str) -> Any:
    """Return the spec of a module.  `importlib.util.find_spec` would import the packages around it."""
    from importlib.machinery import PathFinder

    if dotted in sys.modules:
        return attribute(sys.modules[dotted], "__spec__")
    package = dotted.rpartition(".")[0]
    return PathFinder.find_spec(dotted, _spec(package).submodule_search_locations if package else None)


def _members(module: str) -> Iterator[Names]:
    """Yield what a module has; if it isn't imported, what its source seems to define."""
    if module in sys.modules:
        yield from attributes(sys.modules[module])
        return
    names = ask(_in_source, _in_source, module)
    yield dict.fromkeys(() if names is MISSING else names, Kind("instance"))


def _in_source(module: str, depth: int = 0) -> set[str]:
    from importlib.util import resolve_name

    spec = _spec(module)
    if not (spec.origin or "").endswith(".py"):
        return set()
    with open(spec.origin, encoding="utf-8", errors="replace") as file:
        source = file.read(2_000_000)
    names = {*imported(source)}.union(*_DEFINITION.findall(source))
    if "*" in names and depth < 3:
        for star in re.findall(r"^[ \t]*from +([\w.]+) +import +\*", source, re.M):
            names |= _in_source(resolve_name(star, spec.parent), depth + 1)
    return names - {"", "*"}


def _after_dot(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    if cursor.before != ".":
        return
    owner = evaluate(cursor.owner, namespace, cursor.code)
    names = attributes(owner)
    if owner is MISSING:  # perhaps a module that the cell is going to import
        module, member = imported(cursor.code).get(cursor.owner or "", ("", ""))
        names = _members(module) if module and not member else iter([{}])
    for known in names:
        yield cursor.end - len(cursor.word), _matches(known, cursor.word)


def _names(cursor: Cursor, namespace: Names) -> Iterator[Found]:
    """Anywhere else: names, and keyword arguments of the call."""
    start, last = cursor.end - len(cursor.word), cursor.tokens[-1] if cursor.tokens else None
    if last is not None and last.end == cursor.end and last.kind in ("group", "string"):
        return
    names = dict.fromkeys(_WORD.findall(cursor.code, 0, start), Kind("statement"))
    names |= vars(builtins).copy() | namespace.copy()
    names |= dict.fromkeys([*keyword.kwlist, *keyword.softkwlist], Kind("keyword"))
    matches = _matches(names, cursor.word)
    yield start, matches
    if cursor.brackets and cursor.before in ("(", ","):
        bracket = cursor.brackets[-1]
        called = signature(evaluate(cursor.call(bracket), namespace, cursor.code))
        given = {one.text for one, two in pairwise(cursor.tokens[bracket:]) if two.text == "="}
        parameters = [
            {"text": f"{one.name}=", "type": "param"} for one in (called.parameters.values() if called else ())
            if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
            and one.name.startswith(cursor.word) and one.name not in given
        ]  # fmt: skip
        yield start, parameters + matches


#: In the order of being asked.  Who knows another place, as IPython does its magics, may put it in front.
places: list[Callable[[Cursor, Names], Iterator[Found]]] = [_symbols, _keys, _paths, _imports, _after_dot, _names]


def _matches(names: Names, word: str) -> list[Match]:
    """Return those names that a word may go on to; private ones only where it is private itself, and last."""
    word = unicodedata.normalize("NFKC", word)  # as Python does
    fitting = sorted(name for name in names if type(name) is str and name.startswith(word))
    if word.startswith("_"):
        fitting.sort(key=lambda name: name.startswith("__"))
    elif not word:
        fitting = [name for name in fitting if not name.startswith("_")]
    types_of: dict[
        int, str
    ] = {}  # the words for types, as jedi and IPython have them; a user's type may not be hashed
    matches = []
    for name in fitting:
        value = names[name]
        kind = id(type(value))
        if kind not in types_of:
            types_of[kind] = next(one for one, kinds in _KINDS.items() if is_a(value, kinds))
        matches.append({"text": name, "type": value if type(value) is Kind else types_of[kind]})
    for match in matches if len(matches) <= _MOST_SIGNATURES else ():
        if type(names[match["text"]]) is types.FunctionType:
            match["signature"] = str(signature(names[match["text"]]))
    return matches
