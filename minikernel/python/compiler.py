"""What a cell is for Python: its tree, its code objects, and whether its last expression is to be shown.

A cell is compiled once from its tree, so that the value of a last expression can be had.  What does not compile may
be IPython's (``ipython``).  ``from __future__ import`` holds for the cells that follow, too.
"""

from __future__ import annotations
import __future__

import gc
from _ast import Expr, Expression, ImportFrom, Interactive, Module, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from types import CodeType
from typing import TYPE_CHECKING

from .. import __builtins__ as __builtins__
from . import ipython
from .cells import NEWLINE

if TYPE_CHECKING:
    from .interpreter import Interpreter

_FUTURES = 0
for _name in __future__.all_feature_names:
    _FUTURES |= getattr(__future__, _name).compiler_flag


class Compiler:
    """Compiles the cells of an interpreter."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._flags = PyCF_ALLOW_TOP_LEVEL_AWAIT

    def parse(self, source: str, name: str) -> tuple[str, Module]:
        """Return the Python that the cell of the file `name` is, and its tree."""
        interpreter, refused = self._interpreter, None
        try:
            tree = self._tree(source, name)
        except SyntaxError as error:
            refused = error
        if refused is None:
            python = ipython.automagic(interpreter, source, tree)
        else:
            python = ipython.translate(interpreter, source)
            if python == source:
                raise refused
        if python != source:
            interpreter.cells.change(name, python)
            tree = self._tree(python, name)
        return python, tree if interpreter.shell is None else interpreter.shell.transform_ast(tree)

    def _tree(self, python: str, name: str) -> Module:
        collects = gc.isenabled()
        gc.disable()  # of all the new nodes none is garbage
        try:
            tree = compile(python, name, "exec", self._flags | PyCF_ONLY_AST, dont_inherit=True)
        finally:
            if collects:
                gc.enable()
        assert isinstance(tree, Module)
        if "__future__" in python:  # a notebook may ask for it in the midst of a cell
            tree.body.sort(key=lambda node: not (isinstance(node, ImportFrom) and node.module == "__future__"))
        return tree

    def compile(self, source: str, tree: Module, name: str) -> tuple[list[CodeType], bool]:
        """Return the code objects of a cell, and whether the last is an expression to be shown."""
        body, shell = tree.body, self._interpreter.shell
        shown = "last_expr" if shell is None else shell.ast_node_interactivity
        if shown == "all":
            return [compile(Interactive(body), name, "single", self._flags, dont_inherit=True)], False
        last: Expression | None = None
        if body and isinstance(body[-1], Expr) and shown != "none" and not _ends_with_semicolon(source, body[-1]):
            last = Expression(body[-1].value)
            del body[-1]
        codes = []
        if body or last is None:
            codes.append(compile(tree, name, "exec", self._flags, dont_inherit=True))
            self._flags |= codes[0].co_flags & _FUTURES
        if last is not None:
            codes.append(compile(last, name, "eval", self._flags, dont_inherit=True))
        return codes, last is not None

    def expression(self, source: str) -> CodeType:
        """Return the code object of a user expression."""
        code: CodeType = compile(source, "<user expression>", "eval", self._flags & _FUTURES, dont_inherit=True)
        return code


def _ends_with_semicolon(source: str, node: Expr) -> bool:
    """Tell whether the value of the last expression is not wanted."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    if ";" not in source:
        return False
    first, *more = NEWLINE.split(source)[node.end_lineno - 1 :]
    rest = first.encode(errors="surrogatepass")[node.end_col_offset :].decode(errors="surrogatepass")
    return "\n".join([rest, *more]).lstrip(" \t\f\\\n").startswith(";")
