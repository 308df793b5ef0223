"""The sources of the cells, under the file names that their code has.

Tracebacks, pdb, `inspect.getsource` and doctest look sources up in linecache.  An entry without a time stamp
stays there, so a function keeps the source of the cell that defined it.  linecache is filled when something
imports it, and not before.  A source goes with the last code object of its cell: a kernel that is polled with
little cells for days stays as large as it is.

A cell is ``<cell N>`` to Python and ``Cell In[N]`` to its user.  A debugger knows cells by their content, because
a frontend sets breakpoints in cells that have not run yet.  So while there is one (`file_name` is set), a cell
whose source has run before has the name that it had, and a new one the name that the debugger gives it.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterable
from types import CodeType, TracebackType
from typing import NamedTuple
from weakref import ref

from .. import __builtins__ as __builtins__


class _Cell(NamedTuple):
    number: int
    source: str


#: How many lines of a plain traceback are told.
_LINES = 10
#: Of any exception, also of one whose class has something else under that name.
_traceback: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
#: What ends a line for Python's tokenizer; str.splitlines knows others, too.
NEWLINE = re.compile(r"\r\n|\r|\n")


class Cells:
    """File names and sources of what has run.

    Parameters
    ----------
    kernel : str, optional
        What sets the names of its cells apart, where a process has several kernels.

    Attributes
    ----------
    file_name : callable or None
        Takes the code of a cell as its user has typed it, and returns the file name that a debugger looks for.
    names : dict of str
        By what has been typed, the file name of the cell that was last typed so.
    """

    def __init__(self, kernel: str = "") -> None:
        self._of = f" of {kernel}" if kernel else ""
        self.file_name: Callable[[str], str] | None = None
        self._cells: dict[str, _Cell] = {}
        self._codes: dict[str, dict[int, object]] = {}
        self.names: dict[str, str] = {}
        self._again = itertools.count(1)

    def add(self, source: str, count: int, typed: str | None = None) -> str:
        """Keep a source; return the file name for its code.

        Parameters
        ----------
        source : str
            What is compiled.
        count : int
            The number of the cell.
        typed : str, optional
            What the user has typed, where a transform has changed it.
        """
        typed = source if typed is None else typed
        if self.file_name is not None:
            name = self.names.get(typed) or self.file_name(typed)
        else:
            name, cell = f"<cell {count}{self._of}>", _Cell(count, source)
            if self._cells.setdefault(name, cell) is not cell:  # a silent one, or in another subshell
                name = f"<cell {count}.{next(self._again)}{self._of}>"
        self.names[typed] = name
        self._cells[name] = _Cell(count, source)
        self._put(name, source)
        return name

    def keep_while(self, name: str, typed: str, codes: Iterable[CodeType]) -> None:
        """Forget the cell of the file `name` when the last of these code objects, and of those in them, is gone.

        Nothing can ask for its source then, but a debugger for the cell.
        """
        if self.file_name is not None:
            return
        cell = self._cells.get(name)
        left: dict[int, object] = {}
        self._codes[name] = left  # a weak reference that nobody holds is never called

        def gone(reference: ref[CodeType]) -> None:
            left.pop(id(reference), None)
            if not left and self._cells.get(name) is cell:
                del self._cells[name], self._codes[name]
                if self.names.get(typed) == name:
                    del self.names[typed]
                getattr(sys.modules.get("linecache"), "cache", {}).pop(name, None)

        for code in _with_nested(codes):
            reference = ref(code, gone)
            left[id(reference)] = reference

    def change(self, name: str, source: str) -> None:
        """A cell is other Python than it seemed: keep that."""
        self._cells[name] = self._cells[name]._replace(source=source)
        self._put(name, source)

    def __contains__(self, name: str) -> bool:
        return name in self._cells

    def label(self, name: str) -> str:
        """Return what a user sees instead of the file name."""
        return f"Cell In[{self._cells[name].number}]"

    def lines(self, error: BaseException) -> list[str]:
        """Return where in the cells an exception comes from; with nothing but what it has by itself."""
        lines, tb = [], _traceback(error)
        while tb is not None:
            name = tb.tb_frame.f_code.co_filename
            if name in self:
                lines.append(f"{self.label(name)}, line {tb.tb_lineno}")
            tb = tb.tb_next
        return lines[-_LINES:]

    def fill_linecache(self) -> None:
        """linecache has been imported: tell it of all cells so far."""
        for name, cell in list(self._cells.items()):
            self._put(name, cell.source)

    @staticmethod
    def _put(name: str, source: str) -> None:
        cache = getattr(sys.modules.get("linecache"), "cache", None)
        if cache is not None:  # else `fill_linecache` is to come: another thread may be importing it just now
            cache[name] = (len(source), None, [line + "\n" for line in NEWLINE.split(source)], name)


def _with_nested(codes: Iterable[CodeType]) -> list[CodeType]:
    """Return code objects, and those of the functions and classes in them."""
    found = list(codes)
    for code in found:
        found += [constant for constant in code.co_consts if type(constant) is CodeType]
    return found
