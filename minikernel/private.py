"""Files and directories that are nobody else's, also where everybody may write, as in /tmp.

Somebody else may have been there first, with a link that leads to another file of ours, or a file that he reads
later.  What is not ours is refused; a link of our own is followed, for it says where we want the file.

A directory is locked for as long as a process lives that uses it.  One that nobody locks was left by a process that
was killed, perhaps with a key in it: who makes the next for the same purpose removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from time import time

from . import __builtins__ as __builtins__

#: Seconds for which a directory that nobody locks is left alone: it may be about to be.
GRACE = 60.0

#: The descriptors by which this process locks directories.
_locks: dict[str, int] = {}


def check(path: str) -> None:
    """Raise PermissionError where somebody else has put a file, or a link to one."""
    with suppress(FileNotFoundError):
        for found in (os.lstat(path), os.stat(path)):
            _check(path, found)


def _check(path: str, found: os.stat_result) -> None:
    mode = found.st_mode
    ours = found.st_uid in (0, os.geteuid()) and not (stat.S_ISREG(mode) and found.st_nlink > 1)
    shared = os.stat(os.path.dirname(path) or ".").st_mode & 0o022  # else only who may: root in another's home
    if shared and not ours and not stat.S_ISCHR(mode):  # a terminal is its user's, whoever this process runs as
        raise PermissionError(errno.EPERM, "another user has put it there", path)


def open_file(path: str, flags: int) -> int:
    """Open a file, or make it with mode 0600, and return its descriptor.

    Raises
    ------
    OSError
        It can't be had, or it is not ours.
    """
    with suppress(FileExistsError):
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    check(path)
    fd = os.open(path, flags | (os.O_CREAT if os.path.islink(path) else os.O_NOFOLLOW), 0o600)
    try:
        _check(path, os.fstat(fd))
    except PermissionError:
        os.close(fd)
        raise
    return fd


def new_name(purpose: str) -> str:
    """Return the path of a directory in $TMPDIR that is not there, and remove those that nobody has any more."""
    from glob import escape, glob
    from tempfile import gettempdir

    beginning = os.path.join(gettempdir(), f"minikernel-{purpose}-")
    for path in glob(escape(beginning) + "[0-9a-f]" * 8):
        _remove_if_left(path)
    return beginning + os.urandom(4).hex()


def make(path: str) -> str:
    """Make the directory that has a `new_name`, unless it is there, and lock it; return the path.

    Raises
    ------
    OSError
        It can't be made, or it is not ours.
    """
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if path not in _locks:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _check(path, os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_SH)
        except OSError:
            os.close(fd)
            raise
        _locks[path] = fd
    return path


def let_go(path: str) -> None:
    """Lock a directory no more, if this process does."""
    if path in _locks:
        os.close(_locks.pop(path))


def remove(path: str) -> None:
    """Remove a directory, with all that is in it."""
    from shutil import rmtree

    rmtree(path, ignore_errors=True)
    let_go(path)


def _remove_if_left(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # another's
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and not found.st_mode & 0o077 and time() - found.st_mtime > GRACE:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
    except OSError:
        pass  # who uses it lives
    finally:
        os.close(fd)
