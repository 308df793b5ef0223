"""What the kernel imports is Python's, not a namesake in the directory of the notebook.

That directory is the first on `sys.path`, as a script's is, and a traceback.py or a queue.py in it is the user's
to import.  But much of the kernel is imported when it is first needed, and means Python's own.  So the kernel's
modules have an ``import`` of their own (see ``minikernel.__builtins__``): while it runs, the standard library is
looked for where it was before that directory came first.  What the kernel has imported, cells have, too.
"""

from __future__ import annotations

import sys
from builtins import __import__ as import_module
from collections.abc import Sequence
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt

#: Where the import that goes on has to look; None for one of the user's.
_path: ContextVar[list[str] | None] = ContextVar("minikernel_path", default=None)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = _path.get()
        if ours is None or path is not None or name not in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, ours, target)


def install() -> None:
    """Let what the kernel imports from now on come from where it would come from just now."""
    path = sys.path.copy()

    @interrupt.shield
    def import_ours(*args: Any, **kwargs: Any) -> ModuleType:
        token = _path.set(path)
        try:
            return import_module(*args, **kwargs)
        finally:
            _path.reset(token)

    names: Any = __builtins__
    names["__import__"] = import_ours
    sys.meta_path.insert(0, _Finder)
