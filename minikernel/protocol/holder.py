"""Who holds a port, for the one line that says why a kernel could not bind.  Imported when that happens."""

from __future__ import annotations

import os

from .. import __builtins__ as __builtins__


def describe(reason: str, port: int) -> str:
    """Return the `reason` of a failed bind and, on Linux, the process that listens on the TCP `port`."""
    pid = _listener(port)
    if pid is None:
        return reason
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"{reason}; it is held by process {pid}" + (f" ({command[:80]})" if command else "")


def _listener(port: int) -> int | None:
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
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue  # gone, or somebody else's
        if any(link == f"socket:[{inode}]" for link in links for inode in inodes):
            return int(pid)
    return None
