"""Does Enter run this cell, or does it go on?  ("Messaging in Jupyter: Code completeness")

The compiler decides, by what it says of the end of the source; a block ends with a blank line, as at Python's own
prompt.  Consoles ask at every Enter and wait for a second at most: a source too long to be compiled in that time is
left to them.

``codeop`` is not asked: it changes the warnings filters for a moment, which user code may be changing just
then in another thread.  May be called from any thread.
"""

from __future__ import annotations

import re
from _ast import Module, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from typing import Any

from .. import __builtins__ as __builtins__
from .cursor import Cursor, without_wrong_escapes

_LONG = 200_000
_FLAGS = PyCF_ONLY_AST | PyCF_ALLOW_TOP_LEVEL_AWAIT
_OPEN = re.compile(r"was never closed|unterminated triple-quoted|unexpected EOF")
_BODY_MISSING = re.compile(r"expected an indented block|expected 'except' or 'finally'")
#: A line that isn't Python but a statement all the same: ``%time f()``, ``files = !ls``, ``name?``.
_MAGIC = re.compile(r"^([ \t]*)(?:(?:[\w, ]+=[ \t]*)?[%!?].*|[\w.]+\?+[ \t]*)$", re.M)


def is_complete(code: str) -> dict[str, Any]:
    """Return the content of an is_complete_reply: ``status``, and ``indent`` of the next line if incomplete."""
    last = code[code.rfind("\n") + 1 :].strip(" \t")
    if code.lstrip().startswith("%%"):
        goes_on = bool(last) or "\n" not in code
        return {"status": "incomplete", "indent": ""} if goes_on else {"status": "complete"}
    if len(code) > _LONG:
        return {"status": "unknown"}
    status, in_block = _by_compiler(code)
    if status == "invalid":
        status, in_block = _by_compiler(_MAGIC.sub(r"\1pass", code))
    if status == "incomplete" or (in_block and last):
        return {"status": "incomplete", "indent": _indent(code)}
    return {"status": status}


def _by_compiler(code: str) -> tuple[str, bool]:
    """Return a status, and whether the last statement has a block, which may go on."""
    try:
        tree = compile(without_wrong_escapes(code), "<input>", "exec", _FLAGS, dont_inherit=True)
    except SyntaxError as error:
        return "incomplete" if _is_unfinished(error, code.rstrip().split("\n")) else "invalid", False
    except (ValueError, OverflowError, MemoryError, RecursionError):
        return "invalid", False
    assert isinstance(tree, Module)
    return "complete", bool(tree.body) and bool({"body", "cases"} & {*tree.body[-1]._fields})


def _is_unfinished(error: SyntaxError, lines: list[str]) -> bool:
    if error.msg == "invalid syntax":
        return error.offset == 0  # a decorator without its function
    at_end = (error.lineno or 0, error.offset or 0) > (len(lines), len(lines[-1]))
    return bool(_OPEN.search(error.msg) or (at_end and _BODY_MISSING.match(error.msg)))


def _indent(code: str) -> str:
    """Return the indentation of the next line: that of the last, and more behind a colon."""
    code = code.rstrip()
    cursor, last = Cursor(code), code[code.rfind("\n") + 1 :]
    opens = cursor.before == ":" and not cursor.brackets and not cursor.word and not cursor.quote
    return "" if last.endswith("\\") else last[: len(last) - len(last.lstrip())] + "    " * opens
