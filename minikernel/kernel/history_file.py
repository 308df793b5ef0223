"""The file that remembers sessions: IPython's tables in sqlite3, shared by all kernels of a user.

The file is a convenience, and no cell may fail or wait for its sake.  So this file alone decides what becomes of
homes that are read-only or missing, of full disks, of locked and of damaged files: one line on stderr, and the
history goes on in memory; what could not be saved is tried again with the next cell.  A damaged file is moved
aside and a new one made.  ``sqlite3`` and ``jupyter_core`` are imported with the first use.

No connection outlives the call that opened it: a fork has nothing to inherit, a file that was moved is noticed.
`save` is called by threads that may wait (``history``); `read` waits, but never long, whatever a file system does.

The tables are IPython's, so its tools read them.  What they hold is private: the mode is 0600.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from threading import Lock
from time import strftime, time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .. import __builtins__ as __builtins__
from .. import private
from ..protocol import log
from .worker import in_thread

if TYPE_CHECKING:
    from sqlite3 import Connection

T = TypeVar("T")

#: Seconds that a reader waits for others' locks: a console gives its first history_request one second.
READ_LOCKED = 0.3
#: Seconds after which a reader is left behind: a network file system may hang without an error.
READ_HANGING = 0.8
#: Seconds that a writer waits for others' locks.
WRITE_LOCKED = 2.0

_TABLES = (
    "CREATE TABLE IF NOT EXISTS sessions (session integer primary key autoincrement, "
    "start timestamp, end timestamp, num_cmds integer, remark text)",
    "CREATE TABLE IF NOT EXISTS history (session integer, line integer, source text, source_raw text, "
    "PRIMARY KEY (session, line))",
    "CREATE TABLE IF NOT EXISTS output_history (session integer, line integer, output text, "
    "PRIMARY KEY (session, line))",
)


class Row(NamedTuple):
    """A cell: `source` is what ran, `source_raw` what the user typed, `output` the text/plain of its value."""

    session: int
    line: int
    source: str
    source_raw: str
    output: str | None


class HistoryFile:
    """A history file, and this session's part in it.

    Parameters
    ----------
    path : str
        Empty for ``minikernel/history.sqlite`` in Jupyter's data directory.

    Attributes
    ----------
    number : int or None
        This session's number in the file; None until something of it has been saved.
    """

    def __init__(self, path: str = "") -> None:
        self._path = path and os.path.expanduser(path)
        with suppress(OSError):  # the working directory is gone; then a relative path leads nowhere
            self._path = self._path and os.path.abspath(self._path)
        self._began = time()
        self._reading, self._writing = Lock(), Lock()
        self._told = False
        self.number: int | None = None

    def save(self, rows: dict[int, Row], lines: set[int]) -> bool:
        """Write cells of this session, in one transaction; tell whether they are in the file.

        Parameters
        ----------
        rows : dict
            All cells of the session by line.
        lines : set of int
            Those to write.  All are, when the file doesn't know the session (any more).

        Notes
        -----
        The session's end is that of its last cell: each save says so, and the kernel's end has nothing to add.
        """
        began, now = _timestamp(self._began), _timestamp(time())

        def write(db: Connection) -> bool:
            with db:
                db.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    db.execute(table)
                count, number = len(rows), self.number
                changes = "UPDATE sessions SET end = ?, num_cmds = ? WHERE session = ? AND start = ?"
                chosen: Iterable[int] = lines
                if db.execute(changes, (now, count, number, began)).rowcount == 0:
                    added = "INSERT INTO sessions VALUES (NULL, ?, ?, ?, '')"
                    number, chosen = db.execute(added, (began, now, count)).lastrowid, list(rows)
                for line in filter(rows.__contains__, chosen):  # the file was not to be had for a long time
                    _, _, source, source_raw, output = rows[line]
                    cell = (number, line, _text(source), _text(source_raw))
                    db.execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", cell)
                    if output is not None:
                        value = (number, line, _text(output))
                        db.execute("INSERT OR REPLACE INTO output_history VALUES (?, ?, ?)", value)
            self.number = number
            # After the tables, so that no reader finds a file without them.  Readers and writers don't wait for
            # each other then; where others are at the file just now, a later save will do.
            from sqlite3 import OperationalError

            with suppress(OperationalError):
                db.execute("PRAGMA journal_mode = WAL")
            return True

        return self._do(write, self._writing, WRITE_LOCKED, make=True) or False

    def read(self, use: Callable[[Iterable[Row]], list[Row]], where: str, *parameters: object) -> list[Row] | None:
        """Return what `use` makes of the other sessions' rows for which the SQL `where` holds.

        Returns
        -------
        list of Row or None
            None when there is no file to read, or not in time.
        """
        query = (
            "SELECT session, line, source, source_raw, output "
            f"FROM history LEFT JOIN output_history USING (session, line) WHERE session IS NOT ? AND {where}"
        )
        values = [self.number, *(_text(value) if isinstance(value, str) else value for value in parameters)]
        answer: SimpleQueue[list[Row] | None] = SimpleQueue()

        def read(db: Connection) -> None:  # answers before the file is closed, when sqlite3 may wait for the disk
            answer.put(use(Row(*row) for row in db.execute(query, values)))

        def answer_in_time() -> None:
            self._do(read, self._reading, READ_LOCKED, make=False)
            answer.put(None)

        try:
            in_thread(answer_in_time)
            return answer.get(timeout=READ_HANGING)
        except (Empty, RuntimeError):
            self.tell("it can't be read in time")
            return None

    def _do(self, work: Callable[[Connection], T], lock: Lock, seconds: float, make: bool) -> T | None:
        """Return `work(connection)`; None when there is no file, or it can't be used and the user has been told."""
        try:
            from sqlite3 import Error
        except ImportError as error:  # a Python that was built without it
            self.tell(error)
            return None
        try:
            if not lock.acquire(timeout=seconds):
                raise TimeoutError("another thread still waits for it")
            try:
                return self._connected(work, seconds, make)
            finally:
                lock.release()
        except (OSError, RuntimeError, ImportError, Error) as error:  # RuntimeError: there is no home
            self.tell(error)
        return None

    def _connected(
        self, work: Callable[[Connection], T], seconds: float, make: bool, again: bool = False
    ) -> T | None:
        """Return `work(connection)`, on a new file when this one is damaged; None when there is none to read."""
        from sqlite3 import DatabaseError

        self._path = path = self._path or _default_path()
        if make:
            _make(path)
        elif not os.path.exists(path) or not os.path.getsize(path):
            return None
        for suffix in ("", "-journal", "-wal", "-shm"):  # sqlite3 would believe and write those, too
            private.check(path + suffix)
        found = os.stat(path)
        try:
            with closing(_connect(path, seconds)) as db:
                return work(db)
        except DatabaseError as error:
            if again or type(error) is not DatabaseError:  # its subclasses: locks, full disks, others' tables
                raise
        _move_aside(path, found)
        return self._connected(work, seconds, make, again=True)

    def tell(self, why: object) -> None:
        """Say once that the file can't be used."""
        if not self._told:
            self._told = True
            log.write(f"the history is in memory only, {self._path or 'its file'} can't be used: {why}")


def _default_path() -> str:
    from jupyter_core.paths import jupyter_data_dir

    return os.path.join(jupyter_data_dir(), "minikernel", "history.sqlite")


def _make(path: str) -> None:
    """Make an empty private file and its directory, if there is none."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _connect(path: str, seconds: float) -> Connection:
    """Open a file that exists: made by sqlite3 it would be everybody's to read."""
    import sqlite3

    for character in "%?#":  # not urllib's quote: the kernel's end would wait for the import
        path = path.replace(character, f"%{ord(character):02x}")
    return sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=seconds, isolation_level=None)


def _move_aside(path: str, found: os.stat_result) -> None:
    """Give a damaged file another name, unless another kernel has done so by now."""
    with suppress(FileNotFoundError):
        if not os.path.samestat(os.stat(path), found):
            return
        aside = f"{path}.damaged-{strftime('%Y%m%d-%H%M%S')}"
        for suffix in ("-wal", "-shm", ""):  # a log without its file would be played into the new one
            with suppress(FileNotFoundError):
                os.replace(path + suffix, aside + suffix)
        log.write(f"the history file was damaged: it is {aside} now, and a new one is made")


def _text(value: str) -> str:
    """Return text that UTF-8 can say: JSON brings lone surrogates."""
    return value.encode(errors="backslashreplace").decode()


def _timestamp(seconds: float) -> str:
    """Return a time as IPython writes it: local, with microseconds."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).isoformat(" ", "microseconds")
