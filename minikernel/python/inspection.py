"""Inspection: what is known of the thing at the cursor ("Messaging in Jupyter: Introspection").

That thing is the name under the cursor, with what it is an attribute of; where there is none, or nobody knows
it, what the call around the cursor calls.  It is described by what lies in it (``lookup``): a value is shown of
built-in types only, since to show another would run its ``__repr__``.  ``name?`` pages are made here as well.

May be called from any thread.
"""

from __future__ import annotations

import html
import inspect as inspecting
import keyword
import linecache
import os
import re
import sys
import types
from collections.abc import Iterator
from itertools import islice
from tokenize import TokenError
from typing import Any

from .. import __builtins__ as __builtins__
from . import lookup
from .cursor import Cursor
from .lookup import MISSING, ROUTINES, attribute, evaluate, in_type, is_a, is_trusted, members, mro, name_of, own

_SOURCE_SECONDS = 1.0
_TEXTS = {id(str), id(bytes)}
_CONTAINERS = {id(kind) for kind in (list, tuple, set, frozenset, dict)}
_BUILT_IN = {id(kind) for kind in (int, float, complex, bool, type(None), type(...), range)} | _TEXTS | _CONTAINERS
_EMPTY = inspecting.Signature.empty
Fields = list[tuple[str, str]]


def inspect(code: str, cursor_pos: int, detail_level: int, namespace: dict[str, Any]) -> dict[str, str]:
    """Return what is known of the thing at the cursor.

    Parameters
    ----------
    code : str
        A cell, finished or not.
    cursor_pos : int
        In code points.
    detail_level : int
        1 to be shown the source instead of the documentation.
    namespace : dict
        The user's globals.

    Returns
    -------
    dict
        A mime bundle of text/plain and text/html; empty when nothing is known.
    """
    answers = _answers(code, cursor_pos, detail_level, namespace)
    fields = lookup.latest(answers, [], _SOURCE_SECONDS if detail_level else 0)
    if not fields:
        return {}
    bold = "{}:" if os.environ.get("NO_COLOR") else "\x1b[0;31m{}:\x1b[0m"
    rows = "\n".join(f"<b>{title}:</b> {html.escape(text)}" for title, text in fields)
    return {
        "text/plain": "\n".join(f"{bold.format(title)} {text}" for title, text in fields),
        "text/html": f"<pre>{rows}</pre>",
    }


def _answers(code: str, position: int, detail_level: int, namespace: dict[str, Any]) -> Iterator[Fields]:
    for source in filter(None, _sources(code, position)):
        obj, (owner, _, name) = evaluate(source, namespace, code), source.rpartition(".")
        if obj is MISSING and owner and name.isidentifier():  # perhaps a property
            obj = attribute(evaluate(owner, namespace, code), name, bound=False)
        if obj is MISSING or type(obj) is lookup.Instance:
            continue
        fields = _describe(source if source.replace(".", "").isidentifier() else name, obj)
        yield fields
        text = _source(obj) if detail_level else ""
        if text:
            yield [field for field in fields if "ocstring" not in field[0]] + [("Source", "\n" + text.rstrip())]
        return


def _sources(code: str, position: int) -> Iterator[str | None]:
    """Yield the expressions that may be meant, the most likely first."""
    rest = re.split(r"[\s!-/:-@[-^`{-~]", code[position : position + 200], maxsplit=1)[0]  # of the name
    end = len(code[: position + len(rest)].rstrip(" ?"))
    cursor = Cursor(code[:end])
    if cursor.in_comment or (keyword.iskeyword(cursor.word) and not cursor.quote):
        return
    is_parameter = cursor.brackets and re.compile(r"\s*=(?!=)").match(code, end)
    if cursor.word.isidentifier() and not cursor.quote and not is_parameter:
        yield cursor.word if cursor.before != "." else cursor.owner and f"{cursor.owner}.{cursor.word}"
    elif not cursor.word and not cursor.quote and cursor.tokens and cursor.tokens[-1].end == end:
        yield cursor.call(len(cursor.tokens) - 1)
    yield from map(cursor.call, reversed(cursor.brackets))


def _describe(name: str, obj: Any) -> Fields:
    """Return what is known, the best first: a call tip has few lines."""
    is_class, kind, called, text = is_a(obj, type), id(type(obj)), signature(obj), _documentation(obj)
    is_callable, init = is_class or is_a(obj, ROUTINES), in_type(obj, "__init__") if is_class else object.__init__
    value = repr(_safe(obj)) if kind in _BUILT_IN else ""
    fields = [
        ("Init signature" if is_class else "Signature", called and f"{name}{called}"),
        ("Docstring", (text or "<no docstring>") if is_callable else ""),
        ("Init docstring", "" if init is object.__init__ else _documentation(init)),
        ("Type", name_of(type(obj))),
        ("Value", value[:300] + "…" * (len(value) > 300)),
        ("Length", str(len(obj)) if kind in _TEXTS | _CONTAINERS else ""),
        ("File", _origin(obj)[0]),
        ("Docstring", "" if is_callable else text),
    ]
    return [(title, "\n" * ("\n" in text and "ocstring" in title) + text) for title, text in fields if text]


def _documentation(obj: Any) -> str:
    """Return a docstring: a function's, a class's or its bases', an instance's or its class's.

    `inspect.getdoc` would ask whatever a method belongs to for its ``__class__``.
    """
    found = [attribute(obj, "__doc__")]
    if is_a(obj, type):
        found += [members(base).get("__doc__") for base in mro(obj)[:-1]]
    elif is_a(obj, types.MethodType):
        cls = obj.__self__ if is_a(obj.__self__, type) else type(obj.__self__)
        found += [attribute(in_type(base, obj.__name__), "__doc__") for base in mro(cls)[:-1]]
    return inspecting.cleandoc(next((text for text in found if type(text) is str), ""))


def signature(obj: Any) -> inspecting.Signature | None:
    """Return a signature that is safe to print; None if `obj` can't be called, or nobody can tell how."""
    if is_a(obj, type):
        if not is_trusted(type(obj)):  # a metaclass that may say anything
            obj = types.MethodType(in_type(obj, "__init__"), obj)
    elif not is_a(obj, ROUTINES):
        call = in_type(type(obj), "__call__")
        if type(call) is types.FunctionType:
            obj = types.MethodType(call, obj)
        elif call is MISSING or not is_trusted(type(obj)):  # partial, lru_cache and the like can be asked
            return None
    try:
        found = inspecting.signature(obj)
    except (ValueError, TypeError):
        return None
    parameters = [
        one.replace(default=_safe(one.default), annotation=_annotation(one.annotation))
        for one in found.parameters.values()
    ]
    return found.replace(parameters=parameters, return_annotation=_annotation(found.return_annotation))


def _annotation(annotation: Any) -> Any:
    if type(annotation) is str:
        return _Text(annotation)
    is_typing = is_trusted(type(annotation), {"typing"}) or is_a(annotation, (types.GenericAlias, types.UnionType))
    return annotation if is_typing else _safe(annotation)


class _Text:
    """Is shown instead of an object whose ``__repr__`` may be the user's."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _safe(obj: Any, depth: int = 2) -> Any:
    """Return something with the `repr` of an object of a built-in type, cut short; a `_Text` for any other."""
    kind: Any = type(obj)
    if id(kind) in _CONTAINERS and (depth or not obj):
        is_dict, more = kind is dict, _Text("…")
        few: list[Any] = [
            _safe(one, depth - (not is_dict)) for one in list(islice(obj.items() if is_dict else obj, 10))
        ]
        return kind(few + [(more, more) if is_dict else more] * (len(obj) > 10))
    if id(kind) in _TEXTS and len(obj) > 200:
        return _Text(repr(obj[:200]) + "…")
    if obj is _EMPTY or (id(kind) in _BUILT_IN - _CONTAINERS and not (kind is int and obj.bit_length() > 1000)):
        return obj
    return _Text(name_of(obj) if is_a(obj, type) else f"<{name_of(kind)}>")


def _origin(obj: Any) -> tuple[str, int, type | None]:
    """Return where something was written: a file, a line of it (0 for all), and the class, if it is one's."""
    obj = obj.fget if is_a(obj, property) else obj
    obj = own(obj).get("__wrapped__", obj)
    obj = obj.__func__ if is_a(obj, types.MethodType) else obj
    if is_a(obj, types.ModuleType):
        return str(own(obj).get("__file__") or ""), 0, None
    cls = None if type(obj) is types.FunctionType else obj if is_a(obj, type) else type(obj)
    for one in [obj] if cls is None else members(cls).copy().values():  # a class of a cell knows no file itself
        is_own = cls is None or (type(one) is types.FunctionType and f"{name_of(cls)}." in one.__qualname__)
        if is_own and "__wrapped__" not in own(one) and one.__code__.co_filename != "<string>":
            return one.__code__.co_filename, one.__code__.co_firstlineno, cls
    module = sys.modules.get(str(in_type(cls or type(obj), "__module__")))
    return str(own(module).get("__file__") or ""), sys.maxsize, cls


def _source(obj: Any) -> str:
    """Return the source of something, or "".  `inspect.getsource` would ask every module for its ``__file__``."""
    file, line, cls = _origin(obj)
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    if cls is not None:
        header = re.compile(rf"\s*class\s+{re.escape(name_of(cls))}\b")
        line = max((n for n, text in enumerate(lines[:line], 1) if header.match(text)), default=sys.maxsize)
    try:
        return "".join(inspecting.getblock(lines[line - 1 :]) if line else lines)
    except (SyntaxError, TokenError):  # the file is another by now
        return ""
