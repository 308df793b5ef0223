"""The trace for a terminal and for programs: a ladder, whose rungs are messages, and lines of JSON.

::

    12:00:01.123   [7] ├─ shell ── execute_request ─────────▶│ "print('hi')" silent=false
         +0.8 ms   [7] │◀──────────────── status ── iopub ───┤ busy

Frontends are on the left, the kernel is on the right.  A request has the time of day and a number; what belongs to
it has its number, and the time since.  A rule that is broken is told below.  What peers say can move no cursor and
set no colour: all that is not printable is written as an escape.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from ..protocol.wire import DELIMITER
from .transcript import Entry, printable
from .violations import Exchange

#: Columns between the rails.
_SPAN = 46
_COLOURS = {"shell": 34, "control": 35, "iopub": 32, "stdin": 33, "hb": 36}
_RED, _GREY = 31, 90
#: Bytes on one line of a dump, and lines that a frame may have.
_ROW, _ROWS = 16, 16
PARTS = ("signature", "header", "parent_header", "metadata", "content")


def colourful(fd: int) -> bool:
    """Tell whether to colour what is written to a descriptor (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(fd)


def frame_names(entry: Entry) -> list[str]:
    """Return what each frame of a message is."""
    count = len(entry.frames)
    if DELIMITER not in entry.frames:
        first = ["subscription"] if entry.channel == "iopub" else ["routing id"]
        return (first + [entry.msg_type if entry.channel == "hb" else "frame"] * count)[:count]
    at = entry.frames.index(DELIMITER)
    before = ["topic" if entry.channel == "iopub" else "routing id"] * at
    buffers = [f"buffer {number}" for number in range(max(0, count - at - 6))]
    return [*before, "delimiter", *PARTS[: count - at - 1], *buffers]


class Ladder:
    """Writes entries for people.

    Parameters
    ----------
    write : callable
        Takes a text of whole lines.
    colour : bool
        Whether to use colours.
    width : callable
        Returns the columns of a line.
    frames : bool
        Whether to write the bytes of every frame, too.
    unfinished : callable
        Returns the requests that have not ended, which are told at the end.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        colour: bool,
        width: Callable[[], int],
        frames: bool,
        unfinished: Callable[[], list[Exchange]],
    ) -> None:
        self._write = write
        self._unfinished = unfinished
        self._colour = colour
        self._width = width
        self._frames = frames

    def __call__(self, entry: Entry | None) -> None:
        """Write an entry."""
        if entry is None:
            for each in self._unfinished():
                lacks = " and ".join(f"no {what}" for what in each.lacks())
                self._write(f"{f'[{each.number}]':>19} {printable(each.msg_type)} has had {lacks}\n")
            return
        if entry.channel == "hb" and not self._frames and not entry.violations:
            return  # a heartbeat a second would bury the rest
        if entry.latency is None:
            when = f"{time.strftime('%H:%M:%S', time.localtime(entry.time))}.{int(entry.time % 1 * 1000):03}"
        else:
            when = f"+{entry.latency * 1000:.1f} ms"
        number = f"[{entry.exchange.number}]" if entry.exchange else ""
        left = f"{when:>12} {number:>6} "
        lines = [
            self._paint(_GREY, left)
            + self._paint(_COLOURS[entry.channel], _rung(entry))
            + " "
            + entry.summary()[: max(10, self._width() - len(left) - _SPAN - 4)]
        ]
        lines += [" " * len(left) + self._paint(_RED, f"✗ {printable(str(each))}") for each in entry.violations]
        if self._frames:
            lines += [self._paint(_GREY, line) for line in _dump(entry)]
        self._write("\n".join(lines) + "\n")

    def _paint(self, colour: int, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def _rung(entry: Entry) -> str:
    """Return the arrow, with the channel at its begin and the type near its head."""
    label = printable(entry.msg_type)[: _SPAN - 14]
    if entry.direction == "in":
        text = f"─ {entry.channel} ── {label} "
        return f"├{text:─<{_SPAN - 1}}▶│"
    text = f" {label} ── {entry.channel} ─"
    return f"│◀{text:─>{_SPAN - 1}}┤"


def _dump(entry: Entry) -> list[str]:
    """Return the bytes of all frames, in hexadecimal and as text."""
    lines = []
    for name, frame in zip(frame_names(entry), entry.frames, strict=True):
        lines.append(f"    {name}, {len(frame)} bytes")
        for at in range(0, min(len(frame), _ROW * _ROWS), _ROW):
            row = bytes(frame[at : at + _ROW])
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            lines.append(f"      {at:6x}  {row.hex(' '):{3 * _ROW - 1}}  {text}")
        if len(frame) > _ROW * _ROWS:
            lines.append(f"      … {len(frame) - _ROW * _ROWS} more bytes")
    return lines


def as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as an object for JSON: what a record has (``protocol.record``), and what was found of it."""
    message = entry.message
    line: dict[str, Any] = {
        "number": entry.number, "time": round(entry.time, 6), "direction": entry.direction,
        "channel": entry.channel, "msg_type": entry.msg_type,
        "request": entry.exchange.msg_id if entry.exchange else None,
        "latency": None if entry.latency is None else round(entry.latency, 6),
        "signature": entry.signature,
        "violations": [each._asdict() for each in entry.violations],
        "frames": [len(frame) for frame in entry.frames],
    }  # fmt: skip
    if message is not None:
        line |= {
            "idents": [ident.hex() for ident in message.idents], "header": message.header,
            "parent_header": message.parent_header, "metadata": message.metadata, "content": message.content,
            "buffers": [len(buffer) for buffer in message.buffers],
        }  # fmt: skip
    return line


class JsonLines:
    """Writes entries for programs, one object a line.  `write` takes a text of one line."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, entry: Entry | None) -> None:
        """Write an entry."""
        if entry is None:
            return
        line = as_json(entry)
        try:
            text = json.dumps(line)
        except RecursionError:  # it could just be read
            text = json.dumps(line | {"metadata": None, "content": None})
        self._write(text + "\n")


def width_of(fd: int) -> Callable[[], int]:
    """Return what tells the columns of a terminal; without one, lines may be long."""
    if not os.isatty(fd):
        return lambda: 240
    return lambda: os.get_terminal_size(fd).columns
