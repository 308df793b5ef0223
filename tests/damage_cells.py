"""Cells that damage the process they run in.  After each of them, a kernel goes on and answers.

``DAMAGES`` is for `test_damage`, which holds every one against a kernel of its own, and for anything that wants to
hurt a kernel in passing.
"""

from __future__ import annotations

#: Python's own names, as a cell may take them from everybody.
_BUILTINS = [
    "len",
    "isinstance",
    "print",
    "open",
    "__import__",
    "getattr",
    "hasattr",
    "setattr",
    "type",
    "repr",
    "str",
    "int",
    "super",
    "tuple",
    "list",
    "dict",
    "set",
    "bytes",
    "min",
    "max",
    "sum",
    "map",
    "zip",
    "iter",
    "next",
    "enumerate",
    "callable",
    "property",
    "memoryview",
    "eval",
    "compile",
    "Exception",
    "__build_class__",
    "vars",
    "range",
    "sorted",
    "id",
    "hash",
    "any",
    "all",
    "bool",
    "float",
    "filter",
    "issubclass",
    "ValueError",
    "OSError",
    "KeyError",
    "StopIteration",
]
_MODULES = [
    "json",
    "time",
    "threading",
    "asyncio",
    "os",
    "io",
    "re",
    "linecache",
    "hmac",
    "traceback",
    "contextvars",
    "signal",
    "zmq",
    "queue",
    "codecs",
    "sys",
]

#: Replaces all functions and classes of a module that are called by others.
_BREAK = """
import {0} as module, types
def broken(*args, **kwargs): raise RuntimeError('broken by a cell')
for name, value in list(vars(module).items()):
    if callable(value) and not name.startswith('__'): {1}
"""

DAMAGES: dict[str, str] = {
    **{f"builtins.{name} = None": f"import builtins; builtins.{name} = None" for name in _BUILTINS},
    **{f"{name} raises": _BREAK.format(name, "setattr(module, name, broken)") for name in _MODULES},
    **{f"{name} is None": _BREAK.format(name, "setattr(module, name, None)") for name in _MODULES},
    **{
        f"del {name}": f"import sys; import {name}; [sys.modules.pop(m) for m in list(sys.modules) if m.split('.')[0] == '{name}']"
        for name in _MODULES
    },
    **{
        f"sys.modules[{name!r}] = None": f"import sys; import {name}; sys.modules['{name}'] = None"
        for name in _MODULES
    },
}
