"""Cells that damage the process in which they run, by name.  After each of them a kernel still answers.

`test_damage` holds kernels against them, many at once; the soak command, one after another.
"""

from __future__ import annotations

#: Python's own names that everybody uses.
BUILTINS = [
    "ArithmeticError",
    "AttributeError",
    "BaseException",
    "Exception",
    "ImportError",
    "KeyError",
    "KeyboardInterrupt",
    "OSError",
    "RuntimeError",
    "StopIteration",
    "TypeError",
    "ValueError",
    "__build_class__",
    "__import__",
    "all",
    "any",
    "bool",
    "bytes",
    "callable",
    "chr",
    "compile",
    "delattr",
    "dict",
    "dir",
    "enumerate",
    "eval",
    "exec",
    "filter",
    "float",
    "format",
    "getattr",
    "globals",
    "hasattr",
    "hash",
    "id",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "open",
    "ord",
    "print",
    "property",
    "range",
    "repr",
    "reversed",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "vars",
    "zip",
]
#: Modules that a kernel can't do without.  What is in sys and zmq has to stay: there is one of each in a process.
MODULES = [
    "asyncio",
    "collections",
    "contextlib",
    "contextvars",
    "codecs",
    "fcntl",
    "functools",
    "hmac",
    "io",
    "itertools",
    "json",
    "linecache",
    "os",
    "queue",
    "re",
    "selectors",
    "signal",
    "threading",
    "time",
    "traceback",
    "types",
    "warnings",
    "weakref",
]

_ALL_OF = """
import {module}, types
def broken(*args, **kwargs): raise RuntimeError('a cell has broken this')
values = {{name: value for name, value in vars({module}).items() if callable(value) and not name.startswith('__')}}
vars({module}).update(dict.fromkeys(values, {by}))
"""
_MODULES = "import sys, {module}; gone = [name for name in sys.modules if name.split('.')[0] == '{module}']\n"

CELLS: dict[str, str] = {}
for _name in BUILTINS:
    CELLS[f"builtins.{_name} is None"] = f"import builtins; builtins.{_name} = None"
    CELLS[f"{_name} is None"] = f"{_name} = None"
for _name in MODULES:
    CELLS[f"{_name} raises"] = _ALL_OF.format(module=_name, by="broken")
    CELLS[f"{_name} is empty"] = _ALL_OF.format(module=_name, by="None")
for _name in (*MODULES, "zmq"):
    CELLS[f"{_name} is gone"] = _MODULES.format(module=_name) + "for name in gone: del sys.modules[name]"
    CELLS[f"{_name} can't be imported"] = (
        _MODULES.format(module=_name) + "for name in gone: sys.modules[name] = None"
    )

#: Many at once.
CELLS["all builtins are None"] = f"import builtins; vars(builtins).update(dict.fromkeys({BUILTINS}))"
CELLS["all builtins raise"] = (
    "import builtins\ndef broken(*args, **kwargs): raise RuntimeError('a cell has broken this')\n"
    f"vars(builtins).update(dict.fromkeys({[name for name in BUILTINS if not name.endswith('Error')]}, broken))"
)
CELLS["all builtins are deleted"] = f"import builtins\nfor name in {BUILTINS}: builtins.__dict__.pop(name)"
for _how in ("raises", "is empty", "is gone", "can't be imported"):
    CELLS[f"every module {_how}"] = "\n".join(CELLS[f"{name} {_how}"] for name in MODULES)
