"""The sources of the cells, under the file names that their code has.

Tracebacks, pdb, `inspect.getsource` and doctest look sources up in linecache.  An entry without a time stamp
stays there, so a function keeps the source of the cell that defined it.  linecache is filled when something
imports it, and not before.
"""

from __future__ import annotations

import re
import sys


class Cells:
    """File names and sources of what has run."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}
        self._count = 0
        self._again = 0

    def add(self, source: str, count: int) -> str:
        """Keep a source; return its file name, which is no other cell's."""
        self._again = self._again + 1 if count == self._count else 0
        self._count = count
        name = f"<cell {count}.{self._again}>" if self._again else f"<cell {count}>"
        self._sources[name] = source
        if "linecache" in sys.modules:
            self._put(name, source)
        return name

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def label(self, name: str) -> str:
        """Return what a user sees instead of the file name."""
        return re.sub(r"<cell (\d+).*>", r"Cell In[\1]", name)

    def fill_linecache(self) -> None:
        """linecache has been imported: tell it of all cells so far."""
        for name, source in self._sources.items():
            self._put(name, source)

    @staticmethod
    def _put(name: str, source: str) -> None:
        lines = [line + "\n" for line in source.splitlines()]
        sys.modules["linecache"].cache[name] = (len(source), None, lines, name)
