"""Help at the cursor: completion, inspection, and whether a cell is complete.

Nothing here runs the user's code: attributes are looked up statically, so no property and no ``__getattr__`` is
called.  Positions count code points ("Messaging in Jupyter: Completion, Introspection, Code completeness").
"""

from __future__ import annotations

import builtins
import codeop
import keyword
import re
import sys
import warnings
from inspect import cleandoc, getattr_static, signature
from types import ModuleType
from typing import Any

from .transforms import is_question

_CHAIN = re.compile(r"(?:[^\W\d]\w*\s*\.\s*)*(?:[^\W\d]\w*)?$")
_IMPORT = re.compile(r"^\s*(?:import\s+(?:[\w.]+\s*,\s*)*|from\s+)([\w.]*)$")
_FROM = re.compile(r"^\s*from\s+([\w.]+)\s+import\s+(?:\(?\s*(?:\w+\s*,\s*)*)(\w*)$")
_MISSING = object()


def complete(code: str, cursor_pos: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a complete_reply."""
    line = code[:cursor_pos].rpartition("\n")[2]
    imported = _complete_import(line)
    if imported is not None:
        matches, prefix = imported
    else:
        match = _CHAIN.search(line)
        chain = match[0] if match is not None else ""
        owner, dot, prefix = chain.rpartition(".")
        if dot:
            obj = _resolve(owner.strip(), namespace)
            names = set() if obj is _MISSING else _attributes(obj)
        else:
            names = {name for name in namespace if isinstance(name, str)}
            names |= {*vars(builtins), *keyword.kwlist}
        prefix = prefix.strip()
        matches = sorted(name for name in names if name.startswith(prefix))
        if not prefix.startswith("_"):
            matches = [name for name in matches if not name.startswith("_")]
    return {
        "matches": matches,
        "cursor_start": cursor_pos - len(prefix),
        "cursor_end": cursor_pos,
        "metadata": {},
    }


def _complete_import(line: str) -> tuple[list[str], str] | None:
    match = _IMPORT.match(line)
    if match is not None:
        return _modules(match[1])
    match = _FROM.match(line)
    if match is not None:
        module = sys.modules.get(match[1])
        names = set(_attributes(module)) if module is not None else set()
        names |= {name.rpartition(".")[2] for name in _modules(match[1] + ".")[0]}
        return sorted(name for name in names if name.startswith(match[2])), match[2]
    return None


def _modules(prefix: str) -> tuple[list[str], str]:
    """Return the modules that `prefix` may go on to, whole dotted names, without importing any."""
    from pkgutil import iter_modules

    package, dot, _ = prefix.rpartition(".")
    if dot:
        path = getattr(sys.modules.get(package), "__path__", None)
        if path is None:
            from importlib.machinery import PathFinder

            spec = PathFinder.find_spec(package) if "." not in package else None
            path = spec.submodule_search_locations if spec is not None else None
        names = {f"{package}.{module.name}" for module in iter_modules(path or [])}
    else:
        names = {module.name for module in iter_modules()} | set(sys.stdlib_module_names)
    return sorted(name for name in names if name.startswith(prefix)), prefix


def _resolve(dotted: str, namespace: dict[str, Any]) -> Any:
    """Return what a dotted name stands for, without running anything; _MISSING if that can't be known."""
    first, *rest = [part.strip() for part in dotted.split(".")]
    obj = namespace.get(first, vars(builtins).get(first, _MISSING))
    for name in rest:
        if obj is _MISSING:
            break
        if isinstance(obj, ModuleType):
            obj = vars(obj).get(name, _MISSING)
            continue
        try:
            found = getattr_static(obj, name)
        except AttributeError:
            return _MISSING
        if hasattr(type(found), "__get__"):
            if isinstance(found, (property,)) or not callable(found):
                return _MISSING
            found = found.__get__(
                None if isinstance(obj, type) else obj, obj if isinstance(obj, type) else type(obj)
            )
        obj = found
    return obj


def _attributes(obj: Any) -> set[str]:
    try:
        return {name for name in dir(obj) if isinstance(name, str)}
    except Exception:  # the object's own __dir__
        return set()


def name_at(code: str, cursor_pos: int) -> str:
    """Return the dotted name at the cursor, or that of the call that the cursor is in."""
    start = end = cursor_pos
    while end < len(code) and (code[end].isidentifier() or code[end].isdigit()):
        end += 1
    match = _CHAIN.search(code[:end])
    if match is not None and match[0] and end >= start:
        return match[0].strip()
    depth = 0
    for position in range(min(cursor_pos, len(code)) - 1, -1, -1):
        character = code[position]
        depth += {")": 1, "(": -1}.get(character, 0)
        if depth < 0:
            match = _CHAIN.search(code[:position])
            return match[0].strip() if match is not None else ""
    return ""


def inspect(code: str, cursor_pos: int, detail_level: int, namespace: dict[str, Any]) -> dict[str, str]:
    """Return what is known of the thing at the cursor, as a mime bundle; empty when nothing is."""
    name = name_at(code, cursor_pos)
    obj = _resolve(name, namespace) if name else _MISSING
    if obj is _MISSING:
        return {}
    return {"text/plain": describe(name, obj, detail_level)}


def describe(name: str, obj: Any, detail_level: int) -> str:
    """Say what an object is: signature, type, documentation, file and, at level 1, source."""
    import inspect

    parts = []
    if callable(obj):
        try:
            parts.append(("Signature", name.rpartition(".")[2] + str(signature(obj))))
        except (ValueError, TypeError):
            pass  # has none that Python could tell
    parts.append(("Type", type(obj).__name__))
    if not callable(obj) and not isinstance(obj, ModuleType):
        text = repr(obj)
        parts.append(("Value", text if len(text) < 200 else text[:200] + "…"))
    source = ""
    try:
        file = inspect.getsourcefile(obj)
        if detail_level > 0:
            source = inspect.getsource(obj)
    except (TypeError, OSError):
        file = None
    if file:
        parts.append(("File", file))
    if source:
        parts.append(("Source", "\n" + source.rstrip()))
    else:
        doc = getattr(obj, "__doc__", None)
        parts.append(("Docstring", "\n" + cleandoc(doc) if isinstance(doc, str) and doc else "<no docstring>"))
    return "\n".join(f"\x1b[0;31m{title}:\x1b[0m {text}" for title, text in parts)


def is_complete(code: str) -> dict[str, Any]:
    """Return the content of an is_complete_reply: does Enter run this code, or does it go on?"""
    lines = code.split("\n")
    stripped = code.strip()
    if not stripped or is_question(code):
        return {"status": "complete"}
    if stripped.startswith("%%"):
        return {"status": "incomplete" if lines[-1] or len(lines) == 1 else "complete", "indent": ""}
    last = lines[-1]
    if last.endswith("\\"):
        return {"status": "incomplete", "indent": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = codeop.compile_command(code, "<input>", "exec") is not None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        if _decorator_only(lines):
            return {"status": "incomplete", "indent": ""}
        if not _compiles_with_await(code):
            return {"status": "invalid"}
        whole = True
    if not whole or _open_block(lines):
        return {"status": "incomplete", "indent": _indent(lines)}
    return {"status": "complete"}


def _decorator_only(lines: list[str]) -> bool:
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.lstrip().startswith("@") and bool(last.strip("@ \t"))


def _compiles_with_await(code: str) -> bool:
    from _ast import PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST

    try:
        compile(code, "<input>", "exec", PyCF_ONLY_AST | PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False
    return True


def _open_block(lines: list[str]) -> bool:
    """Tell whether the last line is in a block that a blank line would end."""
    return bool(lines[-1].strip()) and lines[-1][:1].isspace()


def _indent(lines: list[str]) -> str:
    last = next((line for line in reversed(lines) if line.strip()), "")
    indent = last[: len(last) - len(last.lstrip())]
    if last.rstrip().endswith(":"):
        indent += "    "
    return indent
