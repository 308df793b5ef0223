"""The user's globals: the module ``__main__``, and what the kernel keeps in it.

That is what pickle, multiprocessing, dataclasses and type hints find as ``__main__``.  ``In`` and ``_i1`` are what
was run, ``Out`` and ``_1`` what it was worth (``display.DisplayHook``); the oldest names and values go.
"""

from __future__ import annotations

import builtins
import os
import sys
from types import ModuleType
from typing import Any

from .. import __builtins__ as __builtins__
from . import display, namesakes
from .display import CACHE_SIZE
from .exit import Exit

#: For programs that cells start: there is no terminal to page on, and frontends show colours.
_ENVIRONMENT = {"PAGER": "cat", "GIT_PAGER": "cat", "CLICOLOR": "1"}
_COLOURS = {"CLICOLOR_FORCE": "1", "FORCE_COLOR": "1"}


def make() -> dict[str, Any]:
    """Make ``__main__``, and the process ready for it; return its namespace."""
    main = ModuleType("__main__")
    # The module that started the process goes on to exist under its own name.
    sys.modules["minikernel.__main__"] = sys.modules["__main__"]
    sys.modules["__main__"] = main
    namesakes.install()
    if "" not in sys.path:
        sys.path.insert(0, "")
    del sys.argv[1:]  # a library that reads them would take the kernel's options for its own
    for name, value in {**_ENVIRONMENT, **({} if os.environ.get("NO_COLOR") else _COLOURS)}.items():
        os.environ.setdefault(name, value)
    namespace = vars(main)
    namespace.update(
        names(), __builtins__=builtins, __session__=os.environ.get("JPY_SESSION_NAME", ""),
        exit=Exit("exit"), quit=Exit("quit"),
    )  # fmt: skip
    return namespace


def names() -> dict[str, Any]:
    """Return what a kernel adds to Python's names, as it is before the first cell."""
    history: list[str] = [""]
    outputs: dict[int, Any] = {}
    return {
        "In": history, "Out": outputs, "_ih": history, "_oh": outputs, "_dh": [_working_directory()],
        "_": "", "__": "", "___": "", "_i": "", "_ii": "", "_iii": "", "display": display.display,
    }  # fmt: skip


class Inputs:
    """``In``, ``_i`` and their kin, in the namespace of the user, who may have taken them away."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._last = ""

    def add(self, count: int, typed: str, source: str) -> None:
        """Keep what was typed as cell `count`, and the Python that it is."""
        namespace = self._namespace
        history = namespace.get("_ih")
        if isinstance(history, list):
            history.append(source.rstrip("\n"))
        namespace["_iii"], namespace["_ii"] = namespace.get("_ii", ""), namespace.get("_i", "")
        namespace["_i"], self._last = self._last, typed
        namespace[f"_i{count}"] = typed
        namespace.pop(f"_i{count - CACHE_SIZE}", None)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it has been removed
