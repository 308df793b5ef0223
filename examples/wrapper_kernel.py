"""Another language: a Lisp by a subclass of `Interpreter`.

What is the protocol's stays minikernel's: sockets, statuses, counts, history, streams, ``input()``, Ctrl-C,
aborting a queue.  What is the language's is in five methods and in a `Language`, which says what a frontend hears
of it before anything runs.  `run_cell` runs and shows what there is to show; what it raises becomes the error that
`describe` makes of it.  Code that may run for long is called by `interrupt.call`: there a Ctrl-C may land.

Run it: ``python examples/wrapper_kernel.py -f connection.json``, and in another terminal ``jupyter console
--existing connection.json``; try::

    (define (square x) (* x x))
    (map square (list 1 2 3))
    (print "hello" (input "who? "))

Still missing: a kernelspec, a kernel.json whose argv is this command, and an interpreter that is worth it.
"""

import operator
import re
from functools import reduce
from typing import Any

from minikernel import Interpreter, Kernel
from minikernel.__main__ import main
from minikernel.kernel import interrupt
from minikernel.kernel.kernel import Language
from minikernel.kernel.request import Request

# -- the language -----------------------------------------------------------------------------------------

TOKEN = re.compile(r"""\s*(?:;[^\n]*\s*)*([()']|"[^"]*"|[^\s()'";]+)""")


class Symbol(str):
    pass


class LispError(Exception):
    pass


def read(code: str) -> list[Any]:
    """Return the expressions of a text, as nested lists."""
    tokens = TOKEN.findall(code)[::-1]
    expressions = []
    while tokens:
        expressions.append(read_one(tokens))
    return expressions


def read_one(tokens: list[str]) -> Any:
    if not tokens:
        raise LispError("the text ends within an expression")
    token = tokens.pop()
    if token == ")":
        raise LispError("a ) too many")
    if token == "'":
        return [Symbol("quote"), read_one(tokens)]
    if token == "(":
        items = []
        while tokens[-1:] != [")"]:
            items.append(read_one(tokens))
        tokens.pop()
        return items
    if token[0] == '"':
        return token[1:-1]
    for number in (int, float):
        try:
            return number(token)
        except ValueError:
            pass
    return Symbol(token)


def evaluate(expression: Any, names: dict[str, Any]) -> Any:
    if isinstance(expression, Symbol):
        if expression not in names:
            raise LispError(f"{expression} is not defined")
        return names[expression]
    if not isinstance(expression, list) or not expression:
        return expression
    head, *rest = expression
    if head == "quote":
        return rest[0]
    if head == "if":
        return evaluate(rest[1] if evaluate(rest[0], names) else rest[2], names)
    if head == "lambda":
        parameters, *body = rest
        return lambda *values: [evaluate(e, {**names, **dict(zip(parameters, values, strict=True))}) for e in body][
            -1
        ]
    if head == "define":
        name, *body = rest
        if isinstance(name, list):  # (define (f x) …)
            name, body = name[0], [[Symbol("lambda"), name[1:], *body]]
        names[name] = evaluate(body[0], names)
        return None
    function, *values = [evaluate(item, names) for item in expression]
    if not callable(function):
        raise LispError(f"{show(function)} is no function")
    return function(*values)


def show(value: Any) -> str:
    if isinstance(value, list):
        return f"({' '.join(map(show, value))})"
    if isinstance(value, str) and not isinstance(value, Symbol):
        return f'"{value}"'
    return f"<function {value.__name__}>" if callable(value) else str(value)


def builtins() -> dict[str, Any]:
    folds = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
    names = {name: lambda *values, fold=fold: reduce(fold, values) for name, fold in folds.items()}
    names |= {"<": operator.lt, "=": operator.eq, "list": lambda *values: list(values), "first": lambda x: x[0]}
    names |= {"rest": lambda x: x[1:], "map": lambda f, *lists: list(map(f, *lists))}
    return names | {"print": print, "input": lambda *prompt: input(*prompt)}


# -- the kernel -------------------------------------------------------------------------------------------


class Lisp(Interpreter):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.globals = builtins()

    def run(self, code: str) -> Any:
        return ([evaluate(expression, self.globals) for expression in read(code)] or [None])[-1]

    def run_cell(self, request: Request, code: str) -> None:
        value = interrupt.call(self.run, code)
        if value is not None and not request.content["silent"]:
            data = {"text/plain": show(value)}
            content = {"execution_count": request.execution_count, "data": data, "metadata": {}}
            request.publish("execute_result", content)

    def describe(self, error: BaseException) -> dict[str, Any]:
        ename, evalue = type(error).__name__, str(error)
        return {"ename": ename, "evalue": evalue, "traceback": [f"{ename}: {evalue}"]}

    def evaluate(self, expressions: dict[str, Any]) -> dict[str, Any]:
        results = {}
        for name, expression in expressions.items():
            try:
                data = {"text/plain": show(interrupt.call(self.run, expression))}
                results[name] = {"status": "ok", "data": data, "metadata": {}}
            except BaseException as error:  # the user's
                results[name] = {"status": "error", **self.describe(error)}
        return results

    def complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        start = cursor_pos - len(re.split(r"[\s()']", code[:cursor_pos])[-1])
        matches = [name for name in self.globals if name.startswith(code[start:cursor_pos])]
        return {"matches": matches, "cursor_start": start, "cursor_end": cursor_pos, "metadata": {}}

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, str]:
        names = [token[1] for token in TOKEN.finditer(code) if token.start() <= cursor_pos <= token.end()]
        return {"text/plain": show(self.globals[names[0]])} if names and names[0] in self.globals else {}

    def is_complete(self, code: str) -> dict[str, Any]:
        tokens = TOKEN.findall(code)
        opened = tokens.count("(") - tokens.count(")")
        return {"status": "incomplete", "indent": "  "} if opened > 0 else {"status": "complete"}


LISP = Language(
    info={"name": "lisp", "version": "1", "mimetype": "text/x-scheme", "file_extension": ".scm"},
    banner="A small Lisp in minikernel",
    help_links=[],
    interpreter=Lisp,
)

if __name__ == "__main__":
    main(language=LISP)
