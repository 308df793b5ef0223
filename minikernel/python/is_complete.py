"""Does Enter run this cell, or does it go on?  ("Messaging in Jupyter: Code completeness")

The compiler decides, told that the source may be unfinished; a block ends with a blank line, as at Python's own
prompt.  Consoles ask at every Enter and wait for a second at most, so a source too long to be compiled in that
time is judged by its brackets and strings alone.

``codeop`` is not asked: it changes the warnings filters for a moment, which user code may be changing just
then in another thread.  May be called from any thread.
"""

from __future__ import annotations

import re
import sys
from _ast import Module, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from typing import Any

from .cursor import outline
from .transforms import is_question

_LONG = 200_000
_DONT_IMPLY_DEDENT = 0x200  # as in codeop
_INCOMPLETE_INPUT = 0x4000 if sys.version_info >= (3, 11) else 0  # likewise
_UNFINISHED = re.compile(r"incomplete input|unterminated triple-quoted|unexpected EOF|was never closed")
#: What Python 3.10 says, which has no such flag; where it says it decides.
_UNFINISHED_AT_END = re.compile(r"expected an indented block|expected 'except' or 'finally' block|invalid syntax")
#: An escape sequence that Python warns of when it parses it.
_WRONG_ESCAPE = re.compile(r"(\\[\s\\'\"abfnrtv0-7xNuU])|\\.")


def is_complete(code: str) -> dict[str, Any]:
    """Return the content of an is_complete_reply: ``status``, and ``indent`` of the next line if incomplete."""
    lines = code.rstrip(" \t").split("\n")
    last = lines[-1]
    stripped = code.strip()
    if not stripped or is_question(code):
        return {"status": "complete"}
    if stripped.startswith("%%"):
        return {"status": "incomplete" if last or len(lines) == 1 else "complete", "indent": ""}
    if stripped.startswith(("%", "!")) and "\n" not in stripped:
        return {"status": "complete"}
    status, in_block = _by_marks(code) if len(code) > _LONG else _by_compiler(code)
    if status == "complete" and in_block and last:
        status = "incomplete"
    if status != "incomplete":
        return {"status": status}
    return {"status": status, "indent": "" if last.endswith("\\") else _indent(lines)}


def _by_compiler(code: str) -> tuple[str, bool]:
    """Return a status, and whether the last statement has a block, which may go on."""
    flags = _DONT_IMPLY_DEDENT | _INCOMPLETE_INPUT | PyCF_ONLY_AST | PyCF_ALLOW_TOP_LEVEL_AWAIT
    if "\\" in code:
        code = _WRONG_ESCAPE.sub(lambda match: match[1] or "__", code)
    try:
        tree = compile(code, "<input>", "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        return "incomplete" if _is_unfinished(error, code) else "invalid", False
    except (ValueError, OverflowError, MemoryError, RecursionError):
        return "invalid", False
    assert isinstance(tree, Module)
    return "complete", bool(tree.body) and hasattr(tree.body[-1], "body")


def _is_unfinished(error: SyntaxError, code: str) -> bool:
    message = error.msg or ""
    if _UNFINISHED.search(message):
        return True
    if _INCOMPLETE_INPUT or not _UNFINISHED_AT_END.search(message) or error.lineno is None:
        return False
    lines = code.rstrip().split("\n")
    if error.lineno < len(lines) or error.offset is None:
        return False
    if message == "invalid syntax":
        return error.offset == 0 and lines[-1].lstrip().startswith("@")
    return error.offset > len(lines[-1])


def _by_marks(code: str) -> tuple[str, bool]:
    """Do as `_by_compiler` for a source that is too long for it."""
    _, brackets, in_string = outline(code, 0, len(code))
    if brackets or in_string or code.endswith("\\"):
        return "incomplete", False
    return "complete", code[code.rfind("\n") + 1 :][:1].isspace()


def _indent(lines: list[str]) -> str:
    """Return the indentation of the next line: that of the last, and more behind a colon."""
    last = next((line for line in reversed(lines) if line.strip()), "")
    indent = last[: len(last) - len(last.lstrip())]
    return indent + "    " * last.rstrip().endswith(":")
