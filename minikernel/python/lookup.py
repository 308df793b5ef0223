"""What an expression of a cell stands for, found without running the user's code, and in time.

The rule of this file: a property, ``__getattr__``, ``__getattribute__``, ``__class__`` or ``__repr__`` of the
user's is never called.  So no `getattr`, `hasattr`, `isinstance` or `vars` on an object of unknown type: what
it has is read from its dictionary and from those of its type's bases, and types are told apart by identity, since
even ``==`` may be the user's.  Some foreign code has to run all the same, for an object says by it what it has to
offer (``__dir__``, ``_ipython_key_completions_``): it is only ever called by `ask`.

Help is a generator of answers, each better than the one before, and `latest` takes the last that came in time.

Any thread may call this while user code runs in another: dictionaries are copied before they are walked through
(``dict.copy`` is one step, an iteration is not).  Next: ``completion`` and ``inspection``, which ask this file.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import types
from _thread import get_ident, start_new_thread
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .. import __builtins__ as __builtins__
from .cursor import without_wrong_escapes

T = TypeVar("T")

#: Seconds that help may take while foreign code is at work; what has not been found by then is left out.
BUDGET = 0.15
#: How many times as long it may take while none is.
MOST_BUDGETS = 8
MISSING: Any = object()
ROUTINES = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.MethodWrapperType, types.ClassMethodDescriptorType,
)  # fmt: skip

_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)
#: What a subscript may be, and whose ``__getitem__`` then only looks something up.
_KEYS = {id(kind) for kind in (str, bytes, int, float, bool)}
_PLAIN = {id(vars(kind)["__getitem__"]) for kind in (list, tuple, str, bytes, range, deque)}
_TABLES = {"numpy", "pandas"}
#: Libraries whose C attributes only look something up.
_TRUSTED = {*_TABLES, *sys.stdlib_module_names} - {"__main__"}
_DISPLAYS: dict[type[ast.expr], Any] = {
    ast.List: [], ast.ListComp: [], ast.Tuple: (), ast.JoinedStr: "",
    ast.Dict: {}, ast.DictComp: {}, ast.Set: set(), ast.SetComp: set(),
}  # fmt: skip
_IMPORT = re.compile(r"(?:^|;)[ \t]*((?:import|from)\b(?:[^\n;#(\\\0]|\\\r?\n)*(?:\([^)\0]*\))?)", re.M)


class Instance:
    """A value of which only the type is known, as that of a call."""

    def __init__(self, type_: type) -> None:
        self.type = type_


def latest(answers: Iterator[T], otherwise: T, seconds: float = 0.0) -> T:
    """Return the last answer that comes within `BUDGET`, or within `seconds` if that is more.

    The answers are made in a thread that is left alone when the time is over, and ends with its next answer.
    C code that keeps the interpreter lock can't be left alone.  While that thread is in no foreign code it has some
    more time: the machine is slow, then, or there is much to look through.
    """
    given, failures, over = [otherwise], list[BaseException](), SimpleQueue[None]()
    in_time = True

    def work() -> None:
        try:
            for answer in answers:
                given.append(answer)
                if not in_time:
                    break
        except BaseException as error:  # ours: `ask` keeps what is foreign
            failures.append(error)
        over.put(None)

    thread = start_new_thread(work, ())
    for _ in range(MOST_BUDGETS):
        try:
            over.get(timeout=max(BUDGET, seconds))
            break
        except Empty:
            if thread in _abroad:
                break
    in_time = False
    if failures:
        raise failures[0]
    return given[-1]


#: What is being asked, and the threads that wait for its answer.
_asked: set[int] = set()
_abroad: set[int] = set()


def ask(who: object, question: Callable[..., Any], *arguments: Any) -> Any:
    """Return what foreign code answers; MISSING when it raises.

    So it is when `who` is still at an earlier question: what is slow won't spin a second thread.
    """
    if id(who) in _asked:
        return MISSING
    _asked.add(id(who))
    _abroad.add(get_ident())
    try:
        return question(*arguments)
    except BaseException:  # the user's, whatever it is
        return MISSING
    finally:
        _abroad.discard(get_ident())
        _asked.discard(id(who))


#: A class's bases, name and dictionary, whatever its metaclass says.
mro: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
name_of: Callable[[type], str] = vars(type)["__name__"].__get__
members: Callable[[type], types.MappingProxyType[str, Any]] = vars(type)["__dict__"].__get__


def is_a(obj: Any, kind: type | tuple[type, ...]) -> bool:
    """Do what `isinstance` does, without asking the object for its ``__class__``."""
    return issubclass(type(obj), kind)


def is_trusted(cls: type, libraries: set[str] = _TRUSTED) -> bool:
    """Tell whether a class is one of Python's own or of a library that looks things up only."""
    module = vars(type)["__module__"].__get__(cls)
    return type(module) is str and module.partition(".")[0] in libraries


def is_table(obj: Any) -> bool:
    return is_trusted(type(obj), _TABLES) and name_of(type(obj)) in ("DataFrame", "Series", "ndarray")


def in_type(cls: type, name: str) -> Any:
    """Return what a class or its nearest base has under a name, as it is there."""
    found = (members(base).get(name, MISSING) for base in mro(cls))
    return next((one for one in found if one is not MISSING), MISSING)


def own(obj: Any) -> dict[str, Any]:
    """Return an instance's or a module's dictionary itself."""
    slot = in_type(type(obj), "__dict__")
    found = slot.__get__(obj) if is_a(slot, _FIELDS) else None
    return found if type(found) is dict else {}


def _class_of(obj: Any) -> type:
    return obj if is_a(obj, type) else obj.type if type(obj) is Instance else type(obj)


def attributes(obj: Any) -> Iterator[dict[str, Any]]:
    """Yield what an object has to offer: names, with what they stand for where that is known."""
    found = {} if is_a(obj, type) else own(obj).copy()
    for base in mro(_class_of(obj)):
        found = members(base).copy() | found
    yield found
    has_own, lister = is_a(obj, types.ModuleType), in_type(type(obj), "__dir__")
    if type(lister) is not types.MethodDescriptorType or (has_own and "__dir__" in own(obj)):  # not Python's
        # not dir(), which sorts, and fails when something else than names is listed
        listed = ask(obj if has_own else type(obj), lambda: list(lister.__get__(obj, type(obj))()))
        if listed is not MISSING:
            yield {name: found.get(name, MISSING) for name in listed if type(name) is str}


def attribute(obj: Any, name: str, bound: bool = True) -> Any:
    """Return an attribute, if it can be had without running anything; as it lies there, if not `bound`."""
    cls, instance = _class_of(obj), None if is_a(obj, type) else obj
    found = in_type(cls, name)
    if instance is None:
        found = in_type(type(obj), name) if found is MISSING else found
    elif not is_a(found, (property, *_FIELDS)):
        mine = own(obj).get(name, MISSING)
        if mine is not MISSING:
            return mine
        if found is MISSING and is_trusted(cls, _TABLES):
            return item(obj, name)  # df.column
    if not bound or in_type(type(found), "__get__") is MISSING:
        return found
    try:
        if is_a(found, classmethod):
            return types.MethodType(found.__func__, cls)
        if is_a(found, (*ROUTINES, staticmethod, _FIELDS[0])) or (
            is_a(found, _FIELDS[1]) and is_trusted(found.__objclass__)
        ):
            return found.__get__(instance, cls)
    except AttributeError:  # a slot that nothing has been put into
        return MISSING
    except TypeError:  # C code wants a real instance
        return found
    is_accessor = is_trusted(type(found), _TABLES) and is_trusted(cls, _TABLES)  # df.index, series.str
    return ask(cls, found.__get__, instance, cls) if is_accessor else MISSING


def item(obj: Any, key: Any) -> Any:
    """Return a subscript, if that only looks something up."""
    getter = in_type(type(obj), "__getitem__")
    if id(type(key)) not in _KEYS:
        return MISSING
    if getter is dict.__getitem__:
        return dict.get(obj, key, MISSING)  # without __missing__, which is foreign
    if id(getter) in _PLAIN or is_table(obj):
        return ask(type(obj), getter, obj, key)
    return MISSING


def evaluate(source: str | None, namespace: dict[str, Any], code: str) -> Any:
    """Return what an expression stands for, an `Instance`, or MISSING when only running it could tell.

    Names are looked for in the namespace, in what the import statements of `code` will bind, and in builtins.
    """

    def find(name: str) -> Any:
        found = namespace.get(name, MISSING)
        if found is not MISSING:
            return found
        module, member = imported(code).get(name, ("", ""))
        loaded = sys.modules.get(module, MISSING)
        if loaded is MISSING:
            return vars(builtins).get(name, MISSING)
        return own(loaded).get(member, sys.modules.get(f"{module}.{member}", MISSING)) if member else loaded

    try:
        tree = ast.parse(f"({without_wrong_escapes(source)})", mode="eval") if source else None
        return _value(tree.body, find) if tree else MISSING
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return MISSING


def _value(node: ast.expr, find: Callable[[str], Any]) -> Any:
    match node:
        case ast.Name(name):
            return find(name)
        case ast.Constant(value):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(int() as number)):
            return -number
        case ast.Attribute(owner, name):
            return attribute(_value(owner, find), name)
        case ast.Subscript(owner, ast.Slice()):
            kind = type(_value(owner, find))
            return Instance(kind) if is_trusted(kind) else MISSING
        case ast.Subscript(owner, key):
            return item(_value(owner, find), _value(key, find))
        case ast.Call(called):
            cls = _value(called, find)
            return Instance(cls) if is_a(cls, type) and cls is not type else MISSING
    return _DISPLAYS.get(type(node), MISSING)


def imported(source: str) -> dict[str, tuple[str, str]]:
    """Return the names that the import statements of some source bind, each with its module and member.

    The name that stands for all names, ``*``, is bound to the last module that it was imported from.
    """
    bound: dict[str, tuple[str, str]] = {}
    for match in _IMPORT.finditer(source):
        try:
            [statement] = ast.parse(match[1]).body
        except (SyntaxError, ValueError):
            continue
        for alias in getattr(statement, "names", ()):
            first = alias.name.partition(".")[0]
            if isinstance(statement, ast.ImportFrom):
                bound[alias.asname or alias.name] = "." * statement.level + (statement.module or ""), alias.name
            else:
                bound[alias.asname or first] = (alias.name if alias.asname else first), ""
    return bound
