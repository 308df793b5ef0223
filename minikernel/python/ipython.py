"""When IPython is needed: `shell` makes it, once, and everything else here decides when.

The kernel neither needs nor fakes IPython.  Where it is installed, a real `InteractiveShell` is made the moment
that something asks for it: a cell with IPython's syntax, `get_ipython()`, or an ``import IPython``, be it by a cell
or by a library.  Until then nothing of it is imported, and a kernel that never needs it never pays.

What compiles as Python is Python, and goes no further; what does not is IPython's if it looks like that.  The
exception is automagic: a single name that nobody has defined, ``ls``, may be a magic's.

Where IPython is not installed, a magic is a `UsageError` that says so.  Next: ``shell``, what the shell is.
"""

from __future__ import annotations

import builtins
import re
from _ast import Expr, Module
from keyword import iskeyword
from threading import RLock
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from . import display, imports
from .imports import installed

if TYPE_CHECKING:
    from .interpreter import Interpreter

#: Lines that Python can't have and IPython may.
_MAGIC = re.compile(r"^[ \t]*(%|!|\?|[\w.,* ]*=[ \t]*[%!]|.*\?[ \t]*$|[,;/][ \t]*\w)", re.M)
#: A word, perhaps with more, alone in its cell.
_WORD = re.compile(r"\s*([^\W\d]\w*)([ \t]+\S.*)?\s*")
#: Notebooks begin with it, and without IPython figures are inline anyhow.
_INLINE = re.compile(r"^[ \t]*%matplotlib[ \t]+inline[ \t]*$", re.M)

_making = RLock()


class UsageError(Exception):
    """A magic that is not there; as IPython's own, it needs no traceback."""


def install(interpreter: Interpreter) -> None:
    """Offer `get_ipython` where IPython could be imported, and wait for somebody to import it."""

    def get_ipython() -> Any:
        """Return the IPython shell of this kernel."""
        return make(interpreter)

    if installed("IPython"):
        builtins.get_ipython = get_ipython  # type: ignore[attr-defined]
        display.make_formatter = get_ipython
    imports.when_imported("IPython", lambda: make(interpreter))


@interrupt.shield
def make(interpreter: Interpreter) -> Any:
    """Return the shell; make it when there is none.  Any thread."""
    if interpreter.shell is None:
        __import__("IPython")  # which makes it (see `install`), unless this is that import
        with _making:
            if interpreter.shell is None:
                from . import shell

                shell.make(interpreter)
    return interpreter.shell


def translate(interpreter: Interpreter, source: str) -> str:
    """Return the Python that a source means that does not compile; the source itself if it is not IPython's.

    Raises
    ------
    UsageError
        It has a magic, and IPython is not installed.
    """
    if _is_offered(interpreter):
        if interpreter.shell is None and not _MAGIC.search(source) and not _is_automagic(interpreter, source):
            return source
        return _transform(interpreter, source)
    source = _INLINE.sub("", source)
    magic = re.search(r"^[ \t]*([\w.,* ]*=[ \t]*)?(%%?\w+|!)", source, re.M)
    if magic is None:
        return source
    reason = "is not installed here: pip install ipython"
    if not interpreter.kernel.owns_process:
        reason = "wants the whole process, and this kernel is an application's guest"
    instead = ", or use subprocess.run()" if magic[2] == "!" else ""
    raise UsageError(f"{magic[2]} is IPython's, which {reason}{instead}")


def automagic(interpreter: Interpreter, source: str, tree: Module) -> str:
    """Return the Python that a cell means that compiles: something else only where its first word is undefined."""
    one = len(tree.body) == 1 and isinstance(tree.body[0], Expr)
    if not one or not _is_automagic(interpreter, source) or not _is_offered(interpreter):
        return source
    return _transform(interpreter, source)


def _is_offered(interpreter: Interpreter) -> bool:
    return interpreter.kernel.owns_process and installed("IPython")


def _transform(interpreter: Interpreter, source: str) -> str:
    python: str = interrupt.call(make(interpreter).transform_cell, source)
    return source if python.strip() == source.strip() else python


def _is_automagic(interpreter: Interpreter, source: str) -> bool:
    word = _WORD.fullmatch(source)
    return word is not None and not (
        word[1] in interpreter.namespace or hasattr(builtins, word[1]) or iskeyword(word[1])
    )
