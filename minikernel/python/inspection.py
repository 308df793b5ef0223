"""Inspection: what is known of the thing at the cursor ("Messaging in Jupyter: Introspection").

That thing is the name under the cursor, with what it is an attribute of; where there is none, or nobody knows
it, what the call around the cursor calls.  It is described by what lies in it (``lookup``): a value is shown of
built-in types only, since to show another would run its ``__repr__``.  ``name?`` pages are made here as well.

May be called from any thread.  What takes longer than its time is left out.
"""

from __future__ import annotations

import html
import inspect as inspecting
import keyword
import os
import types
from collections.abc import Callable
from itertools import islice
from typing import Any

from .cursor import Cursor
from .lookup import (
    MISSING,
    Box,
    Find,
    Some,
    attribute,
    evaluate,
    in_type,
    is_a,
    is_tame,
    is_trusted,
    members,
    mro,
    name_of,
    own,
    scope,
)

_SECONDS = 0.15
_SOURCE_SECONDS = 1.0

_CALLABLES = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType,
)  # fmt: skip
_SCALARS = (int, float, complex, bool, str, bytes, type(None), type(...), range)
_CONTAINERS: dict[Any, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}"}
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
    find = scope(namespace, code)
    for source in _sources(code, cursor_pos):
        obj = _thing(source, find)
        if obj is not MISSING and type(obj) is not Some:
            break
    else:
        return {}
    box = Box(_SECONDS)
    name = source if source.replace(".", "").isidentifier() else source.rpartition(".")[2]
    fields: Fields = []
    box.call(_describe, name, obj, fields.append)
    fields = list(fields)  # whatever has been found by now
    if detail_level > 0:
        found = Box(_SOURCE_SECONDS).call(_source, obj)
        if found is not MISSING:
            fields = [field for field in fields if "ocstring" not in field[0]] + [("Source", "\n" + found.rstrip())]
    bold = "{}:" if os.environ.get("NO_COLOR") else "\x1b[0;31m{}:\x1b[0m"
    return {
        "text/plain": "\n".join(f"{bold.format(title)} {text}" for title, text in fields),
        "text/html": "<pre>"
        + "\n".join(f"<b>{title}:</b> {html.escape(text)}" for title, text in fields)
        + "</pre>",
    }


def _sources(code: str, position: int) -> list[str]:
    """Return the expressions that may be meant, the most likely first."""
    end = position
    while end < len(code) and (code[end].isalnum() or code[end] == "_"):
        end += 1
    cursor = Cursor(code, end)
    last = cursor.tokens[-1] if cursor.tokens else None
    if cursor.in_comment:
        return []
    found: list[str | None] = []
    if last is not None and last.kind == "name" and not code[last.end : end].strip(" "):
        if keyword.iskeyword(last.text):
            return []
        after = code[end : end + 20].lstrip()
        if not (cursor.brackets and after.startswith("=") and not after.startswith("==")):  # no parameter's name
            found.append(cursor.primary(len(cursor.tokens) - 1))
    elif last is not None and last.end == end and last.text == ")":
        found.append(cursor.callee(len(cursor.tokens) - 1))
    found += [cursor.call(bracket) for bracket in reversed(cursor.brackets)]
    return [source for source in found if source]


def _thing(source: str, find: Find) -> Any:
    """Return what an expression stands for; a property itself where its value can't be had."""
    obj = evaluate(source, find)
    owner, dot, name = source.rpartition(".")
    if (obj is MISSING or type(obj) is Some) and dot and name.isidentifier():
        holder = evaluate(owner, find)
        if holder is not MISSING:
            obj = attribute(holder, name, bound=False)
    return obj


# -- descriptions --------------------------------------------------------------------------------------


def _describe(name: str, obj: Any, add: Callable[[tuple[str, str]], None]) -> None:
    """Add what is known, the best first: a call tip has few lines."""
    is_class = is_a(obj, type)
    try:
        called = signature(obj)
    except (ValueError, TypeError):
        called = None
    if called is not None:
        add(("Init signature" if is_class else "Signature", f"{name}{called}"))
    documentation = _documentation(obj)
    if is_class or type(obj) in _CALLABLES:
        add(("Docstring", _block(documentation) or "<no docstring>"))
    if is_class:
        of_init = _documentation(in_type(obj, "__init__"))
        if of_init and of_init != object.__init__.__doc__:
            add(("Init docstring", _block(of_init)))
    add(("Type", name_of(type(obj))))
    shown = preview(obj)
    if shown is not None:
        add(("Value", shown))
    if type(obj) in (*_CONTAINERS, str, bytes, range, bytearray):
        add(("Length", str(len(obj))))
    file = _file(obj)
    if file:
        add(("File", file))
    if not is_class and type(obj) not in _CALLABLES and documentation:
        add(("Docstring", _block(documentation)))


def _block(text: str) -> str:
    return "\n" + text if "\n" in text else text


def signature(obj: Any) -> inspecting.Signature | None:
    """Return the signature of what can be called, if it is safe to print; None if `obj` can't be called.

    Raises
    ------
    ValueError
        It has none that Python could tell.
    """
    if type(obj) not in _CALLABLES and not is_a(obj, type):
        call = in_type(type(obj), "__call__")
        if type(call) is types.FunctionType:
            obj = types.MethodType(call, obj)
        elif call is MISSING or not is_trusted(type(obj)):  # partial, lru_cache and the like can be asked
            return None
    elif is_a(obj, type) and not is_tame(obj):
        obj = types.MethodType(in_type(obj, "__init__"), obj)
    found = inspecting.signature(obj)
    empty = inspecting.Parameter.empty
    parameters = [
        one.replace(
            default=one.default
            if one.default is empty
            else _Shown(preview(one.default) or _placeholder(one.default)),
            annotation=_annotation(one.annotation),
        )
        for one in found.parameters.values()
    ]
    return found.replace(parameters=parameters, return_annotation=_annotation(found.return_annotation))


class _Shown:
    """Stands in a signature for an object whose ``__repr__`` may be the user's."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _annotation(annotation: Any) -> Any:
    if type(annotation) is str:
        return _Shown(annotation)
    if is_a(annotation, type) and not is_tame(annotation):
        return _Shown(name_of(annotation))
    return (
        annotation if is_trusted(type(annotation)) or is_a(annotation, type) else _Shown(_placeholder(annotation))
    )


def _placeholder(obj: Any) -> str:
    return f"<{name_of(type(obj))}>"


def preview(obj: Any, depth: int = 2) -> str | None:
    """Return the beginning of what `repr` says of a built-in type; None for any other type."""
    kind = type(obj)
    if kind is int and obj.bit_length() > 1000:
        return f"<int of {obj.bit_length()} bits>"
    if kind in _SCALARS:
        return _short(repr(obj[:200] if kind in (str, bytes) else obj), kind in (str, bytes) and len(obj) > 200)
    if kind not in _CONTAINERS:
        return None
    if not depth:
        return "…".join(_CONTAINERS[kind])

    def one(item: Any) -> str:
        return preview(item, depth - 1) or _placeholder(item)

    if kind is dict:
        items = [f"{one(key)}: {one(value)}" for key, value in list(islice(obj.items(), 10))]
    else:
        items = [one(item) for item in list(islice(obj, 10))]
    if kind is tuple and len(obj) == 1:
        items[0] += ","
    if kind in (set, frozenset) and not items:
        return f"{kind.__name__}()"
    text = ", ".join(items) + ", …" * (len(obj) > 10)
    text = _CONTAINERS[kind][0] + text + _CONTAINERS[kind][1]
    return _short(f"frozenset({text})" if kind is frozenset else text)


def _short(text: str, cut: bool = False) -> str:
    return text[:200] + "…" if cut or len(text) > 200 else text


def _documentation(obj: Any) -> str:
    """Return a docstring: a function's, a class's or its bases', an instance's or its class's.

    `inspect.getdoc` would ask whatever a method belongs to for its ``__class__``.
    """
    found: Any = None
    if type(obj) in (*_CALLABLES, property, types.GetSetDescriptorType, types.MemberDescriptorType):
        found = obj.__doc__
        if found is None and type(obj) is types.MethodType:
            holder: Any = obj.__self__ if is_a(obj.__self__, type) else type(obj.__self__)
            inherited = (members(base).get(obj.__name__) for base in mro(holder))
            found = next((one.__doc__ for one in inherited if type(one) in _CALLABLES and one.__doc__), None)
    elif is_a(obj, type):
        texts = (members(base).get("__doc__") for base in mro(obj) if base is not object or obj is object)
        found = next((text for text in texts if type(text) is str), None)
    else:
        found = attribute(obj, "__doc__")
    return inspecting.cleandoc(found) if type(found) is str else ""


def _underlying(obj: Any) -> Any:
    """Return what has the code: of a property its function, of an instance its class."""
    if type(obj) is property:
        return obj.fget
    obj = own(obj).get("__wrapped__", obj)
    known = (*_CALLABLES, types.ModuleType)
    return obj if type(obj) in known or is_a(obj, type) else type(obj)


def _file(obj: Any) -> str:
    obj = _underlying(obj)
    found = _code_of(obj)
    if found is not None:
        return found.co_filename
    if is_a(obj, type) and not is_tame(obj):
        return ""
    try:
        return inspecting.getsourcefile(obj) or ""
    except (TypeError, OSError):
        return ""


def _code_of(obj: Any) -> types.CodeType | None:
    """Return the code of a function, or of a class's first method: a class of a cell knows no file itself."""
    if is_a(obj, type):
        functions = (value for value in members(obj).values() if type(value) is types.FunctionType)
        obj = next((one for one in functions if one.__module__ == in_type(obj, "__module__")), None)
    if type(obj) is types.MethodType:
        obj = obj.__func__
    return obj.__code__ if type(obj) is types.FunctionType else None


def _source(obj: Any) -> str:
    """Return the source of something; raises what `inspect.getsource` raises."""
    obj = _underlying(obj)
    code = _code_of(obj)
    if code is None or not is_a(obj, type):
        return inspecting.getsource(obj)
    import ast
    import linecache

    lines = linecache.getlines(code.co_filename)
    around = [
        node for node in ast.walk(ast.parse("".join(lines)))
        if isinstance(node, ast.ClassDef) and node.name == name_of(obj)
        and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0)
    ]  # fmt: skip
    return "".join(lines[around[-1].lineno - 1 : around[-1].end_lineno])
