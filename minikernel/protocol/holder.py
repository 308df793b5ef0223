"""Who holds a port: for the one line that says why a kernel could not bind, and for the doctor."""

from __future__ import annotations

import os
from contextlib import suppress

from .. import __builtins__ as __builtins__


def describe(reason: str, port: int) -> str:
    """Return the `reason` of a failed bind and, on Linux, the process that listens on the TCP `port`."""
    pid = listener(port)
    if pid is None:
        return reason
    said = command(pid)
    return f"{reason}; it is held by process {pid}" + (f" ({said[:80]})" if said else "")


def command(pid: int) -> str:
    """Return the command line of a process; empty where it can't be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def listener(port: int) -> int | None:
    """Return the process that listens on a TCP port; None where that can't be told."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        # local address, state 0A (listening) and inode; see proc(5)
        inodes |= {row[9] for row in rows if int(row[1].rsplit(":", 1)[1], 16) == port and row[3] == "0A"}
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        if any(f"socket:[{inode}]" in _links(pid) for inode in inodes):
            return int(pid)
    return None


def _links(pid: str) -> set[str]:
    """Return what the descriptors of a process are."""
    links = set()
    with suppress(OSError):  # gone, or somebody else's
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed since
                links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links
