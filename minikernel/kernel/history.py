"""What was run: tail, range and search ("Messaging in Jupyter: History").

An execution puts its cell into memory, and that is all it does for history's sake.  A short-lived thread writes
what has gathered to the file of all sessions (``history_file``) about a second later, and the kernel's end
writes the rest.  So a cell that kills the process is in the file too, if it took its time.

This file alone decides how memory and file are joined: this session's latest cells always come from memory, under
the number 0, and count as newer than everything in the file, also than what other kernels run meanwhile: the arrow
keys of a console find its own lines first.

``MINIKERNEL_HISTORY`` is the path of the file, or ``memory`` for no file, or ``off`` for no history at all.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import chain, islice
from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic, sleep

from .. import __builtins__ as __builtins__
from .history_file import HistoryFile, Row
from .worker import in_thread

#: Seconds in which cells gather before they are written.
GATHER = 1.0
#: Seconds that the kernel's end leaves the file: most disks take milliseconds, some a second when others write.
AT_END = 1.0
#: Cells that are kept in memory, and how many more there are when the oldest go.
KEPT, MORE = 4_000, 1_000
#: Characters of an output that are worth keeping; of a longer one the history knows nothing.
LONGEST_OUTPUT = 20_000
#: Beyond any session's number, within sqlite3's integers.
_FAR = 2**62


class History:
    """The cells of this session and of the earlier ones.

    Parameters
    ----------
    where : str, optional
        ``off``, ``memory`` (or ``:memory:``) or a path; by default what ``MINIKERNEL_HISTORY`` says, else
        ``minikernel/history.sqlite`` in Jupyter's data directory.
    """

    def __init__(self, where: str | None = None) -> None:
        where = where or os.environ.get("MINIKERNEL_HISTORY", "")
        self._off = where == "off"
        self._file = None if where in ("off", "memory", ":memory:") else HistoryFile(where)
        self._rows: dict[int, Row] = {}
        self._unsaved: deque[int] = deque()
        self._writing = Lock()
        #: Whether there is a thread that will write what gathers.
        self._gathers = False
        #: Gets a None when what was left at the kernel's end has been written, and until when that is waited for.
        self._written: SimpleQueue[None] | None = None
        self._deadline = 0.0

    # -- keeping: the main thread --------------------------------------------------------------------------

    def add(self, line: int, source_raw: str, source: str | None = None) -> None:
        """Keep a cell: what was typed, and the code that it means where that is something else."""
        if not self._off:
            self._keep(Row(0, line, source_raw if source is None else source, source_raw, None))

    def add_source(self, line: int, source: str) -> None:
        """Keep the code that a cell means."""
        row = self._rows.get(line)
        if row is not None and row.source != source:
            self._keep(row._replace(source=source))

    def add_output(self, line: int, output: str) -> None:
        """Keep what a cell's value looked like."""
        row = self._rows.get(line)
        if row is not None and len(output) <= LONGEST_OUTPUT:
            self._keep(row._replace(output=output))

    def _keep(self, row: Row) -> None:
        self._rows[row.line] = row
        if len(self._rows) > KEPT + MORE:
            for line in list(islice(self._rows, MORE)):
                del self._rows[line]
        if self._file is None:
            return
        self._unsaved.append(row.line)
        if not self._gathers:
            with suppress(RuntimeError):  # no more threads: the next cell tries again
                in_thread(self._write_soon)
                self._gathers = True

    # -- writing: a thread of its own ----------------------------------------------------------------------

    def _write_soon(self) -> None:
        sleep(GATHER)
        self._gathers = False  # what is added from now on is another thread's
        self._write()

    def _write(self) -> None:
        with self._writing:
            unsaved = list(self._unsaved)
            if unsaved and self._file is not None and self._file.save(self._rows, set(unsaved)):
                for _ in unsaved:  # not before: the kernel's end waits for what is on its way
                    self._unsaved.popleft()

    def end(self) -> None:
        """Begin to write what is not written: the kernel ends, and its other steps need not wait for a disk."""
        written = SimpleQueue[None]()

        def write() -> None:
            self._write()
            written.put(None)

        if self._unsaved:
            with suppress(RuntimeError):  # no more threads
                in_thread(write)
                self._written, self._deadline = written, monotonic() + AT_END

    def ended(self) -> None:
        """Wait until that is done, but no longer than `AT_END` seconds since `end`; tell when it was not."""
        if self._written is not None:
            with suppress(Empty):
                self._written.get(timeout=max(0.0, self._deadline - monotonic()))
        if self._file is not None and (left := len(set(self._unsaved))):
            self._file.tell(f"cells that were not written in time before the kernel's end: {left}")

    # -- asking: any thread --------------------------------------------------------------------------------

    def tail(self, n: int | None) -> list[Row]:
        """Return the last `n` cells (10 if None) of all sessions, oldest first."""
        return self._last(10 if n is None else n, "*", unique=False)

    def search(self, pattern: str, n: int | None, unique: bool) -> list[Row]:
        """Return the last `n` cells (all if None) that were typed like the glob `pattern`, oldest first.

        Of equal cells only the last, if `unique`.
        """
        return self._last(n, pattern, unique)

    def range(self, session: int, start: int, stop: int | None) -> list[Row]:
        """Return the cells from line `start` to before line `stop` of a session.

        0 is this session, -1 the one before, and a positive number is that of the file.
        """

        def between(rows: Iterable[Row]) -> list[Row]:
            return [row for row in rows if row.line >= start and (stop is None or row.line < stop)]

        number = None if self._file is None else self._file.number
        if session in (0, number):
            return between(list(self._rows.values()))
        if session > 0:
            return self._others(between, "session = ? ORDER BY line", min(session, _FAR))
        # before anything of it is saved, this session is the next one
        back = "session = ? + coalesce(?, (SELECT max(session) + 1 FROM sessions)) ORDER BY line"
        return self._others(between, back, max(session, -_FAR), number)

    def _last(self, n: int | None, pattern: str, unique: bool) -> list[Row]:
        mine = list(self._rows.values())[::-1]
        glob = pattern.replace("[^", "[!")  # sqlite3's glob to Python's
        limit = None if n is None else max(0, min(n, sys.maxsize))

        def last(others: Iterable[Row]) -> list[Row]:
            """Read from the newest on, and no further than needed."""
            rows = chain((row for row in mine if fnmatchcase(row.source_raw, glob)), others)
            return list(islice(_first_of_each(rows) if unique else rows, limit))[::-1]

        return self._others(last, "source_raw GLOB ? ORDER BY session DESC, line DESC", pattern)

    def _others(self, use: Callable[[Iterable[Row]], list[Row]], where: str, *parameters: object) -> list[Row]:
        """Return what `use` makes of the file's rows, or of none if they can't be had."""
        found = None if self._file is None else self._file.read(use, where, *parameters)
        return use(()) if found is None else found


def _first_of_each(rows: Iterable[Row]) -> Iterator[Row]:
    seen: set[str] = set()
    for row in rows:
        if row.source_raw not in seen:
            seen.add(row.source_raw)
            yield row
