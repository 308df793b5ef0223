"""How much of the machine the kernel and its children use: usage_request (jupyter-resource-usage).

From /proc, or from psutil where that is installed and /proc is not there.  CPU is in percent of one core since the
request before, memory in bytes.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

from .. import __builtins__ as __builtins__

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
#: What the request before this one saw: time, the kernel's CPU seconds, the host's busy and total ticks.
_before: tuple[float, float, int, int] | None = None


def usage() -> dict[str, Any]:
    """Return the content of a usage_reply; what can't be known is left out."""
    content: dict[str, Any] = {
        "hostname": os.uname().nodename,
        "pid": os.getpid(),
        "cpu_count": os.cpu_count() or 1,
    }
    try:
        content |= _from_proc()
    except (OSError, ValueError, KeyError, IndexError):
        content |= _from_psutil()
    return content


def _from_proc() -> dict[str, Any]:
    global _before
    family = _family()
    seconds = sum(_cpu_seconds(pid) for pid in family)
    with open("/proc/stat") as file:
        ticks = [int(number) for number in file.readline().split()[1:9]]
    now, busy, total = monotonic(), sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    then, _before = _before or (now, seconds, busy, total), (now, seconds, busy, total)
    cpu = 100 * (seconds - then[1]) / (now - then[0]) if now > then[0] else 0.0
    host = 100 * (busy - then[2]) / (total - then[3]) if total > then[3] else 0.0
    with open("/proc/meminfo") as file:
        kib = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in file)}
    memory = {
        "total": kib["MemTotal"],
        "available": kib["MemAvailable"],
        "percent": round(100 * (kib["MemTotal"] - kib["MemAvailable"]) / kib["MemTotal"], 1),
        "used": kib["MemTotal"] - kib["MemAvailable"],
        "free": kib["MemFree"],
        "active": kib["Active"],
        "inactive": kib["Inactive"],
        "buffers": kib["Buffers"],
        "cached": kib["Cached"],
        "shared": kib["Shmem"],
        "slab": kib["Slab"],
    }
    return {
        "kernel_cpu": round(max(cpu, 0.0), 1),
        "kernel_memory": sum(map(_memory, family)),
        "host_cpu_percent": round(host, 1),
        "host_virtual_memory": memory,
    }


def _family() -> list[int]:
    """Return this process and its descendants."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            children.setdefault(int(_stat(int(name))[1]), []).append(int(name))
        except OSError:
            continue  # gone
    family = [os.getpid()]
    for pid in family:
        family += children.get(pid, [])
    return family


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: state, parent, …"""
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    try:
        return sum(map(int, _stat(pid)[11:13])) / _TICK
    except OSError:
        return 0.0


def _memory(pid: int) -> int:
    """Return what a process uses alone and its share of the rest (Pss), or what it has in memory (Rss)."""
    for path, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            with open(f"/proc/{pid}/{path}") as file:
                for line in file:
                    if line.startswith(field):
                        return int(line.split()[1]) * 1024
        except OSError:
            continue
    return 0


def _from_psutil() -> dict[str, Any]:
    from importlib import import_module

    try:
        psutil: Any = import_module("psutil")
    except ImportError:
        return {}
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return {
        "kernel_cpu": sum(each.cpu_percent() for each in family),
        "kernel_memory": sum(each.memory_info().rss for each in family),
        "host_cpu_percent": psutil.cpu_percent(),
        "host_virtual_memory": dict(psutil.virtual_memory()._asdict()),
    }
