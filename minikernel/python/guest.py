"""Running a client's code in somebody else's process.

The namespace is the application's, and so are the streams, the hooks and everything else that an `Interpreter`
takes for itself where the process is the kernel's.  What a cell prints and asks must reach its frontend all the
same, and what anybody else prints must not.  So from a guest's first cell to its end a `Router` stands in the place
of each of `sys.stdout`, `sys.stderr` and `sys.stdin`: to code that works for a guest's request, which
`current_request` knows by a ContextVar, it is the frontend's stream; to everybody else it is what was there.

What a kernel adds to Python's names (``In``, ``Out``, ``_``, `display`) is not put into the application's globals.
Cells find it among their builtins, as `exec` allows: the namespace has builtins of our own while a cell runs.
"""

from __future__ import annotations

import builtins
import os
import re
import sys
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel.request import current_request
from . import namespace as user
from . import stdin
from .capture import Capture
from .cells import Cells
from .crash import Evidence
from .exit import Exit
from .interpreter import Content, Interpreter
from .streams import OutStream

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel
    from ..kernel.request import Request

_input = builtins.input
_EXIT = re.compile(r"\s*(exit|quit)\s*(\(\s*\))?\s*")

#: The streams of each guest that has run code, by the names that they have in `sys`.
_guests: dict[Kernel, dict[str, Any]] = {}
_routers: list[Router] = []
_routing = Lock()


class GuestInterpreter(Interpreter):
    """Runs Python for a kernel in an application that has other things to do.

    Parameters
    ----------
    namespace : dict
        The globals of the cells.
    keepkernel : bool or None
        Whether ``exit`` leaves the kernel running; None asks `Exit`.
    """

    def __init__(self, kernel: Kernel, namespace: dict[str, Any], keepkernel: bool | None) -> None:
        self._given = namespace
        self._keepkernel = keepkernel
        self._last_error: BaseException | None = None
        super().__init__(kernel)

    def _make_namespace(self) -> dict[str, Any]:
        import asyncio  # noqa: F401  # where nothing tells us of an import,
        import linecache  # noqa: F401  # what has to know of loops and cells must be there before

        self.names = user.names()
        self._builtins = _Builtins("builtins")
        self.cells = Cells(self.kernel.channels.session.id[:8])
        return self._given

    def _take_over(self) -> None:
        self._evidence = _NoEvidence()
        capture = _NoCapture()
        streams = {
            "stdin": stdin.stream(),
            "stdout": OutStream(self.kernel, "stdout", 1, capture),
            "stderr": OutStream(self.kernel, "stderr", 2, capture),
        }
        with _routing:
            if not _guests:
                _routers[:] = [Router(name, getattr(sys, name)) for name in streams]
                for router in _routers:
                    setattr(sys, router._name, router)
            _guests[self.kernel] = streams

    def give_back(self) -> None:
        """Let the process be what it was, as far as nobody else has changed it since.  Any thread."""
        with _routing:
            _guests.pop(self.kernel, None)
            for router in [] if _guests else _routers:
                if getattr(sys, router._name) is router:
                    setattr(sys, router._name, router._before)
        self._builtins.refresh({})  # functions that cells have defined go on to have these builtins
        self._forget_error()

    def _forget_error(self) -> None:
        if self._last_error is not None and getattr(sys, "last_value", None) is self._last_error:
            for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                vars(sys).pop(name, None)
        self._last_error = None

    # -- execute ---------------------------------------------------------------------------------------

    def run_cell(self, request: Request, source: str) -> None:
        """Run the code of a cell with the builtins of guests."""
        exits = _EXIT.fullmatch(source)
        if exits is not None and exits[1] not in self.namespace:
            Exit(exits[1])(self._keepkernel)
            return
        self._builtins.refresh(self.names)
        before = self.namespace.get("__builtins__", builtins)
        # a cell of another guest or of a subshell may run here
        self._builtins.before = before.before if isinstance(before, _Builtins) else before
        self.namespace["__builtins__"] = self._builtins
        try:
            super().run_cell(request, source)
        finally:
            self.namespace["__builtins__"] = self._builtins.before

    def _restore(self, request: Request) -> None:
        pass

    def describe(self, error: BaseException) -> Content:
        """Return ``ename``, ``evalue`` and ``traceback`` of what user code has raised."""
        description = super().describe(error)
        self._last_error = error
        if self.kernel not in _guests:  # it has ended, and this cell had not let go
            self._forget_error()
        return description


def ask(prompt: object = "", /) -> str:
    """`input` for cells: the question goes to the frontend as one, and not as a text and a wait for a line."""
    stream: Any = sys.stdin
    if type(stream) is Router and stream._here() is not stream._before:
        return stdin.ask(str(prompt))
    return _input(prompt)  # a cell has put another there, or it is the application that calls a cell's function


class _Builtins(ModuleType):
    """Python's builtins, and the names of a guest beside them.

    Attributes
    ----------
    before : object
        What the application has as ``__builtins__`` in the namespace.
    """

    __slots__ = ("before",)  # the module's own attributes are what cells see
    before: Any

    def refresh(self, names: dict[str, Any]) -> None:
        """Hold `names`, and all that `builtins` holds now: what the application has put there wins."""
        now, mine = names | vars(builtins), vars(self)
        if now.get("input") is _input:
            now["input"] = ask
        for name in mine.keys() - now.keys():
            del mine[name]
        mine.update(now)


class _NoCapture(Capture):
    """Descriptors 1 and 2 are the application's."""

    def __init__(self) -> None:
        pass

    def look(self) -> None:
        pass


class _NoEvidence(Evidence):
    """What the process dies of is the application's to find out."""

    def __init__(self) -> None:
        self.of_predecessor = ""

    def note(self, state: str) -> None:
        pass


class Router:
    """What stands in the place of one of the process's streams, while there are guests.

    Parameters
    ----------
    name : str
        "stdin", "stdout" or "stderr".
    before : object
        What was there; None in a process without it.
    """

    def __init__(self, name: str, before: Any) -> None:
        vars(self).update(_name=name, _before=before)

    def _here(self) -> Any:
        """Return the stream that this is for the calling code."""
        request = current_request()
        streams = None if request is None else _guests.get(request.kernel)
        if request is None or streams is None or os.getpid() != request.kernel.pid:
            return self._before
        return streams[self._name]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._here())  # for isinstance

    def write(self, text: str, /) -> Any:
        """Write; in an application without the stream, be silent as `print` is there."""
        stream = self._here()
        return len(text) if stream is None else stream.write(text)

    def flush(self) -> None:
        """Flush, if there is anything to flush."""
        stream = self._here()
        if stream is not None:
            stream.flush()

    def close(self) -> None:
        """Close the application's stream; a cell can't close its frontend's, as site's ``exit()`` tries."""
        if self._here() is self._before:
            self._before.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._here(), name, value)

    def __iter__(self) -> Any:
        return iter(self._here())

    def __next__(self) -> Any:
        return next(self._here())

    def __enter__(self) -> Any:
        return self._here().__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._here().__exit__(*error)

    def __repr__(self) -> str:
        return repr(self._here())
