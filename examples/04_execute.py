"""04: code runs.

New: execute_request.  All frontends hear what runs (execute_input), what its value looks like (execute_result) and
what went wrong (error); the one that has asked hears how it ended (execute_reply).  And is_complete_request, by
which a console learns whether Enter runs the code or begins another line.

Run it: ``python examples/04_execute.py -f connection.json``, and in another terminal ``jupyter console --existing
connection.json``; try ``6 * 7``, ``1 / 0``, and a second console beside the first.

Still wrong: what ``print`` says is shown in the kernel's terminal, and not in the frontend's.  A traceback shows
the kernel's own frames, too.
"""

import ast
import codeop
import traceback
from importlib import import_module
from typing import Any

from minikernel.protocol.wire import Message

stage = import_module("03_kernel_info")  # the file beside this one; `import` takes no name that begins with a digit
main = stage.main


class Kernel(stage.Kernel):
    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(info)
        self.handlers["execute_request"] = self.execute_request
        self.handlers["is_complete_request"] = self.is_complete_request
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.execution_count = 0

    def execute_request(self, request: Message) -> dict[str, Any]:
        code, silent = request.content["code"], request.content.get("silent", False)
        if not silent:  # frontends run silent code for themselves: it has no number and shows nothing
            self.execution_count += 1
            self.publish("execute_input", {"code": code, "execution_count": self.execution_count}, request)
        reply = {"execution_count": self.execution_count, "user_expressions": {}, "payload": []}
        try:
            value = self.run_code(code)
            if value is not None and not silent:
                data = {"text/plain": repr(value)}  # and text/html, image/png …, for what has them
                result = {"execution_count": self.execution_count, "data": data, "metadata": {}}
                self.publish("execute_result", result, request)
        except BaseException as error:  # the user's, SystemExit too: no cell may end the kernel
            lines = "".join(traceback.format_exception(error)).splitlines()
            content = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
            if not silent:
                self.publish("error", content, request)
            return {**reply, **content, "status": "error"}
        return reply

    def run_code(self, code: str) -> Any:
        """Run code; return the value of its last statement, if that is an expression."""
        tree = ast.parse(code)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = compile(ast.Expression(tree.body.pop().value), "<cell>", "eval")
        exec(compile(tree, "<cell>", "exec"), self.namespace)
        return None if last is None else eval(last, self.namespace)

    def is_complete_request(self, request: Message) -> dict[str, Any]:
        try:
            complete = codeop.compile_command(request.content["code"], symbol="exec") is not None
        except (SyntaxError, ValueError, OverflowError):
            return {"status": "invalid"}
        return {"status": "complete"} if complete else {"status": "incomplete", "indent": ""}


if __name__ == "__main__":
    main(Kernel)
