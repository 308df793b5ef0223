"""What is taken away from a cell's source before it is Python: pasted prompts and leading indentation.

A transform takes source and returns source.  ``interpreter.transforms`` begins with these; a user's code may
append its own.
"""

from __future__ import annotations

import re

from .. import __builtins__ as __builtins__

#: ``name?``, ``??name`` and so on ask for help; no Python looks like this.
QUESTION = re.compile(r"\s*\?{0,2}\s*(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)\s*\?{0,2}\s*")

_PROMPT = re.compile(r"^(>>> ?|\.\.\. ?|In \[\d+\]: ?| {3,}\.{3,}: ?)", re.M)


def leading_prompts(source: str) -> str:
    """Take ``>>>`` and ``In [1]:`` away when the first line has one."""
    return _PROMPT.sub("", source) if source.startswith((">>>", "In [")) and _PROMPT.match(source) else source


def leading_indent(source: str) -> str:
    """Take the first line's indentation away from all lines that have it."""
    if not source[:1].isspace():
        return source
    first = source.lstrip("\n")
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    return re.sub(rf"^{indent}", "", source, flags=re.M) if indent else source


def is_question(source: str) -> re.Match[str] | None:
    """Return the match of a cell that asks for help, with its ``name``."""
    return QUESTION.fullmatch(source) if "?" in source else None
