"""Where a new terminal window comes from: tmux, the desktop's terminal emulator or macOS's Terminal."""

from __future__ import annotations

import os
import shlex
import sys
from shutil import which
from subprocess import DEVNULL, Popen

from . import __builtins__ as __builtins__

#: What stands between an emulator and the command that it runs, where that is not ``-e``.
_SEPARATORS = {"gnome-terminal": "--", "xfce4-terminal": "-x", "mate-terminal": "-x"}


def open_window(command: list[str]) -> Popen[bytes]:
    """Run a command in a new window of a terminal; return the process that opens it.

    Raises
    ------
    RuntimeError
        There is no terminal; the message holds the command.
    """
    for opener in _openers(command):
        try:
            process = Popen(opener, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
        except OSError:
            continue
        if opener[0] != "tmux" or process.wait() == 0:  # tmux ends at once, and says whether it could
            return process
    raise RuntimeError(f"there is no terminal to open a window of; type:  {shlex.join(command)}")


def _openers(command: list[str]) -> list[list[str]]:
    """Return the commands that may open a window, the best one first."""
    openers = []
    if os.environ.get("TMUX"):
        openers.append(["tmux", "new-window", *command])
    emulators = [os.environ.get("TERMINAL", ""), "x-terminal-emulator", "xterm"]
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        for words in filter(None, map(shlex.split, emulators)):
            if which(words[0]):
                openers.append([*words, _SEPARATORS.get(os.path.basename(words[0]), "-e"), *command])
    if sys.platform == "darwin":
        line = shlex.join(command).replace("\\", "\\\\").replace('"', '\\"')
        script = f'tell application "Terminal"\nactivate\ndo script "{line}"\nend tell'
        openers.append(["osascript", "-e", script])
    return openers
