"""What the kernel does the moment that user code imports something: `when_imported`.

Much of what the kernel does for a library (asyncio, getpass, linecache, comm …) is needed only where that
library is used, and would cost every start otherwise.  A finder at the front of `sys.meta_path` lets the others
find such a module, and calls back when its code has run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt

_callbacks: dict[str, list[Callable[[], object]]] = {}


def when_imported(name: str, callback: Callable[[], object]) -> None:
    """Call `callback` as soon as the module `name` has been imported; at once if it is there."""
    if sys.modules.get(name) is not None:
        callback()
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _callbacks.setdefault(name, []).append(callback)


def installed(name: str) -> bool:
    """Tell whether a top-level package could be imported, and import nothing: every start asks."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return any(finder.find_spec(name, None) is not None for finder in sys.meta_path)


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _callbacks:
            return None
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        return None


class _Loader:
    """A module's own loader, for one import."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    @interrupt.landing
    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for callback in _callbacks.pop(module.__name__, ()):
            callback()


_finder: Any = _Finder()
