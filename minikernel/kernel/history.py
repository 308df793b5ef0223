"""What was run, in this session: tail, range and search ("Messaging in Jupyter: History")."""

from __future__ import annotations

from fnmatch import fnmatchcase

#: (session, line, source, output)
Row = tuple[int, int, str, str | None]


class History:
    """The cells of this session, numbered by their execution counts; the running session is 0."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, line: int, source: str, output: str | None = None) -> None:
        """Keep a cell."""
        self._rows.append((0, line, source, output))

    def add_output(self, line: int, output: str) -> None:
        """Keep what a cell's value looked like."""
        for index in range(len(self._rows) - 1, -1, -1):
            if self._rows[index][1] == line:
                self._rows[index] = (*self._rows[index][:3], output)
                return

    def tail(self, n: int | None) -> list[Row]:
        """Return the last `n` cells (10 if None), oldest first."""
        n = 10 if n is None else n
        return self._rows[-n:] if n > 0 else []

    def range(self, session: int, start: int, stop: int | None) -> list[Row]:
        """Return the cells from line `start` to before line `stop` of a session; 0 is this one."""
        if session != 0:
            return []
        return [row for row in self._rows if row[1] >= start and (stop is None or row[1] < stop)]

    def search(self, pattern: str, n: int | None, unique: bool) -> list[Row]:
        """Return the last `n` cells (all if None) that match the glob `pattern`, oldest first."""
        rows = [row for row in self._rows if fnmatchcase(row[2], pattern)]
        if unique:
            latest: dict[str, Row] = {}
            for row in rows:
                latest.pop(row[2], None)
                latest[row[2]] = row
            rows = list(latest.values())
        return rows if n is None else rows[-n:] if n > 0 else []
