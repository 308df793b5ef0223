"""What an expression of a cell stands for, found without running the user's code.

The rule of this file: a property, ``__getattr__``, ``__getattribute__``, ``__class__`` or ``__repr__`` of the
user's is never called.  So no `getattr`, `hasattr`, `isinstance` or `vars` on an object of unknown type: what
an object has is read from its dictionary and from those of its type's bases.  Two kinds of foreign code have
to run all the same, since an object says by them what it has to offer (``__dir__``,
``_ipython_key_completions_``).  They run in a `Box`, as does what may have to wait for a slow disk.

Any thread may call this while user code runs in another: dictionaries are copied before they are walked through
(``dict.copy`` is one step, an iteration is not).

Next: ``cursor``, then ``completion`` and ``inspection``, which ask this file.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

MISSING: Any = object()
Find = Callable[[str], Any]

_METHODS = (types.MethodDescriptorType, types.WrapperDescriptorType)
_FIELDS = (types.GetSetDescriptorType, types.MemberDescriptorType)
#: What ``__getitem__`` of these types does is known; `dict` is asked by ``get``, for ``__missing__`` is foreign.
_PLAIN = [kind.__getitem__ for kind in (list, tuple, str, bytes, range, deque)]
#: Libraries whose C attributes and subscripts only look something up.
_TRUSTED = {"builtins", "numpy", "pandas", *sys.stdlib_module_names} - {"__main__"}
_IMPORT = re.compile(r"(?:^|;)[ \t]*import[ \t]+([\w., \t]+)", re.M)
_FROM = re.compile(r"(?:^|;)[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*(?:\(([^)]*)\)?|([\w, \t]+|\*))", re.M)
_slow: set[int] = set()


class Some:
    """A value of which only the type is known, as that of a call."""

    __slots__ = ("type",)

    def __init__(self, type_: type) -> None:
        self.type = type_


class Box:
    """Seconds to spend on foreign code.  It runs in a thread that is left alone when they are over.

    C code that keeps the interpreter lock can't be left alone.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` returns; MISSING when that takes too long, or when it raises."""
        result = [MISSING]

        def work() -> None:
            try:
                result[0] = function(*arguments)
            except BaseException:  # foreign code's, whatever it is
                pass

        if self.left > 0:
            thread = threading.Thread(target=work, name="minikernel-help", daemon=True)
            thread.start()
            thread.join(self.left)
        return result[0]

    def ask(self, function: Callable[[Any], Any], obj: Any) -> Any:
        """Do as `call`, once: what has been too slow for an object or its type won't spin a second thread."""
        who = id(obj if is_a(obj, types.ModuleType) else type(obj))
        if who in _slow or self.left <= 0:
            return MISSING
        result = self.call(function, obj)
        if result is MISSING and self.left <= 0:
            _slow.add(who)
        return result


# -- objects -------------------------------------------------------------------------------------------


def is_a(obj: Any, kind: type) -> bool:
    """Do what `isinstance` does, without asking the object for its ``__class__``."""
    return issubclass(type(obj), kind)


def mro(cls: type) -> tuple[type, ...]:
    """Return a class and its bases, whatever its metaclass says."""
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return bases


def name_of(cls: type) -> str:
    """Return a class's name, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(cls)
    return name


def is_tame(cls: type) -> bool:
    """Tell whether the attributes of a class can be asked for without calling its metaclass's own code."""
    meta = type(cls)
    return in_type(meta, "__getattr__") is MISSING and (
        in_type(meta, "__getattribute__") is in_type(type, "__getattribute__")
    )


def members(cls: type) -> dict[str, Any]:
    """Return a copy of a class's dictionary."""
    own: dict[str, Any] = type.__dict__["__dict__"].__get__(cls).copy()
    return own


def in_type(cls: type, name: str) -> Any:
    """Return what a class or its nearest base has under a name, as it is there."""
    for base in mro(cls):
        found = type.__dict__["__dict__"].__get__(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def own(obj: Any) -> dict[str, Any]:
    """Return an instance's or a module's dictionary itself."""
    slot = in_type(type(obj), "__dict__")
    found = slot.__get__(obj) if type(slot) in _FIELDS else None
    return found if type(found) is dict else {}


def attributes(obj: Any, box: Box) -> dict[str, Any]:
    """Return what an object has to offer: names, with what they stand for where that is known."""
    is_class, owner = is_a(obj, type), obj.type if type(obj) is Some else type(obj)
    found: dict[str, Any] = {}
    for base in reversed(mro(obj if is_class else owner)):
        found.update(members(base))
        annotations = found.get("__annotations__")
        if type(obj) is Some and type(annotations) is dict:
            found.update((name, MISSING) for name in annotations if name not in found)
    if type(obj) is Some:
        return found
    if not is_class:
        found.update(own(obj).copy())
    lister = own(obj).get("__dir__") if is_a(obj, types.ModuleType) else None
    if lister is None and type(in_type(type(obj), "__dir__")) is types.MethodDescriptorType:
        return found  # Python's own
    listed = box.ask(_listed, obj)
    if listed is MISSING:
        return found
    return {name: found.get(name, MISSING) for name in listed if type(name) is str}


def _listed(obj: Any) -> list[Any]:
    # not dir(), which sorts, and fails when something else than names is listed
    lister: Any = type(obj).__dir__
    return list(lister(obj))


def attribute(obj: Any, name: str, bound: bool = True) -> Any:
    """Return an attribute, if it can be had without running anything; as it lies there, if not `bound`."""
    is_class, known = is_a(obj, type), type(obj) is not Some
    cls = obj if is_class else type(obj) if known else obj.type
    found = in_type(cls, name)
    if not is_class and known and type(found) not in (property, *_FIELDS):
        mine = own(obj).get(name, MISSING)
        if mine is not MISSING:
            return mine
    if is_class and found is MISSING:
        found = in_type(type(obj), name)
    kind = type(found)
    if not bound or found is MISSING:
        return found
    if kind is staticmethod:
        return found.__func__
    if kind is classmethod:
        return types.MethodType(found.__func__, cls)
    if is_class:
        return found if kind in (types.FunctionType, *_METHODS) or not _is_descriptor(kind) else MISSING
    if kind is types.FunctionType:
        return types.MethodType(found, obj)
    if kind in (property, cached_property):
        return _returned(found.fget if kind is property else found.func)
    if not known:
        return found if kind in _METHODS or not _is_descriptor(kind) else MISSING
    if kind in _METHODS or (kind in _FIELDS and (kind is _FIELDS[1] or is_trusted(found.__objclass__))):
        try:
            return found.__get__(obj)
        except AttributeError:  # a slot that nothing has been put into
            return MISSING
    return MISSING if _is_descriptor(kind) else found


def _is_descriptor(kind: type) -> bool:
    return in_type(kind, "__get__") is not MISSING


def is_trusted(cls: type) -> bool:
    """Tell whether a class is one of Python's own or of a library that looks things up only."""
    module = type.__dict__["__module__"].__get__(cls)
    return type(module) is str and module.partition(".")[0] in _TRUSTED


def _returned(function: Any) -> Any:
    """Return what a function's annotation says of what it returns."""
    if type(function) is types.MethodType:
        function = function.__func__
    if type(function) is not types.FunctionType:
        return MISSING
    hint = function.__annotations__.get("return")
    if type(hint) is str:
        names = function.__globals__
        hint = evaluate(hint, lambda name: names.get(name, vars(builtins).get(name, MISSING)))
    if type(hint) is types.GenericAlias:
        hint = hint.__origin__
    return Some(hint) if hint is not None and is_a(hint, type) else MISSING


# -- expressions ---------------------------------------------------------------------------------------


def evaluate(source: str, find: Find) -> Any:
    """Return what an expression stands for, a `Some`, or MISSING when only running it could tell."""
    try:
        return _value(ast.parse(f"({source})", mode="eval").body, find)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return MISSING


def _value(node: ast.expr, find: Find) -> Any:
    if isinstance(node, ast.Name):
        return find(node.id)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand, find)
        return -number if type(number) in (int, float) else MISSING
    displays = {ast.List: list, ast.Tuple: tuple, ast.Dict: dict, ast.Set: set, ast.JoinedStr: str,
                ast.ListComp: list, ast.DictComp: dict, ast.SetComp: set}  # fmt: skip
    if type(node) in displays:
        return Some(displays[type(node)])
    if isinstance(node, ast.Attribute):
        obj = _value(node.value, find)
        return MISSING if obj is MISSING else attribute(obj, node.attr)
    if isinstance(node, ast.Subscript):
        return _item(_value(node.value, find), node.slice, find)
    if isinstance(node, ast.Call):
        called = _value(node.func, find)
        return Some(called) if is_a(called, type) and called is not type else _returned(called)
    return MISSING


def _item(obj: Any, index: ast.expr, find: Find) -> Any:
    getter = in_type(type(obj), "__getitem__")
    if isinstance(index, ast.Slice):
        return Some(type(obj)) if getter in _PLAIN else MISSING
    key = _value(index, find)
    if type(key) not in (str, bytes, int, float, bool):
        return MISSING
    try:
        if getter is dict.__getitem__:
            return dict.get(obj, key, MISSING)
        if any(getter is plain for plain in _PLAIN):
            return getter(obj, key)
        if is_trusted(type(obj)) and name_of(type(obj)) in ("DataFrame", "Series", "ndarray"):
            return Box(0.1).call(getter, obj, key)
    except (TypeError, IndexError):
        pass
    return MISSING


def scope(namespace: Mapping[str, Any], code: str) -> Find:
    """Return what finds a name: in the namespace, in what the cell's own imports will bind, in builtins."""
    imports: dict[str, tuple[str, str]] = {}

    def find(name: str) -> Any:
        found = namespace.get(name, MISSING)
        if found is MISSING:
            if not imports:
                imports.update(imported(code), **{"": ("", "")})
            found = _module_or_member(*imports[name]) if name in imports else vars(builtins).get(name, MISSING)
        return found

    return find


def _module_or_member(module: str, member: str) -> Any:
    loaded = sys.modules.get(module, MISSING)
    if not member or loaded is MISSING:
        return loaded
    return own(loaded).get(member, sys.modules.get(f"{module}.{member}", MISSING))


def imported(source: str) -> dict[str, tuple[str, str]]:
    """Return the names that the import statements of some source bind, each with its module and member.

    The name that stands for all names, ``*``, is bound to the last module that it was imported from.
    """
    bound = {}
    for match in _IMPORT.finditer(source):
        for words in map(str.split, match[1].split(",")):
            if len(words) == 3:
                bound[words[2]] = words[0], ""
            elif words:
                first = words[0].partition(".")[0]
                bound[first] = first, ""
    for match in _FROM.finditer(source):
        for words in map(str.split, re.sub(r"#.*", "", match[2] or match[3] or "").split(",")):
            if words and (words[-1].isidentifier() or words == ["*"]):
                bound[words[-1]] = match[1], words[0]
    return bound
