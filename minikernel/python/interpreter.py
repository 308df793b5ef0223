"""Running the user's code.

The user's namespace is the module ``__main__``, and so is what pickle, multiprocessing, dataclasses and type
hints find there.  A cell is compiled once from its tree, so that the value of a last expression can be had; it
runs while the event loop is paused, or as a task of the loop when it awaits something at the top level
(``kernel.loop``).  Whatever it raises is the user's, is caught here, and becomes one error.

An `Interpreter` is made when the first request needs one, in whatever thread; making it gives the process's
streams, hooks and ``input`` to the user's code.  A kernel for another language overrides `execute`,
`evaluate`, `complete`, `inspect` and `is_complete`.

Next: ``tracebacks``, ``display``, ``streams``, ``capture``.
"""

from __future__ import annotations
import __future__

import builtins
import os
import sys
from _ast import Expr, Expression, Module, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from ..kernel import interrupt, loop
from ..kernel.request import current_request
from ..protocol.wire import dumps
from . import comms, display, imports, stdin, streams, threads
from .cells import NEWLINE, Cells
from .transforms import is_question, leading_indent, leading_prompts

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel
    from ..kernel.request import Request
    from .debugger import Debugger

Content = dict[str, Any]

#: For programs that cells start: there is no terminal to page on, and frontends show colours.
_ENVIRONMENT = {"PAGER": "cat", "GIT_PAGER": "cat", "CLICOLOR": "1"}
if not os.environ.get("NO_COLOR"):
    _ENVIRONMENT |= {"CLICOLOR_FORCE": "1", "FORCE_COLOR": "1"}

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE
_FUTURES = 0
for _name in __future__.all_feature_names:
    _FUTURES |= getattr(__future__, _name).compiler_flag


class Interpreter:
    """Runs Python for a kernel, in the process that it is made in.

    Attributes
    ----------
    namespace : dict
        The user's globals.
    transforms : list of callable
        Each takes a cell's source and returns the source that runs instead.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.transforms: list[Callable[[str], str]] = [leading_prompts, leading_indent]
        self.cells = Cells()
        self._flags = PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._pid = os.getpid()
        self._last_input = ""
        self._debugger: Debugger | None = None
        self.namespace = self._make_main()
        self._hook = display.DisplayHook(self.namespace)
        sys.displayhook = self._hook
        streams.install(kernel)
        stdin.install(kernel)
        threads.install()
        imports.when_imported("asyncio", loop.asyncio_imported)
        imports.when_imported("linecache", self.cells.fill_linecache)
        comms.install(kernel)

    def _make_main(self) -> dict[str, Any]:
        main = ModuleType("__main__")
        # The module that started the process goes on to exist under its own name.
        sys.modules["minikernel.__main__"] = sys.modules["__main__"]
        sys.modules["__main__"] = main
        if "" not in sys.path:
            sys.path.insert(0, "")
        del sys.argv[1:]  # a library that reads them would take the kernel's options for its own
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        namespace = vars(main)
        history: list[str] = [""]
        outputs: dict[int, Any] = {}
        namespace.update(
            __builtins__=builtins, In=history, Out=outputs, _ih=history, _oh=outputs, _dh=[_working_directory()],
            _="", __="", ___="", _i="", _ii="", _iii="",
            __session__=os.environ.get("JPY_SESSION_NAME", ""),
            display=display.display, exit=Exit("exit"), quit=Exit("quit"),
        )  # fmt: skip
        return namespace

    # -- execute ---------------------------------------------------------------------------------------

    def execute(self, request: Request) -> Content | None:
        """Run the code of an execute_request and publish what it shows.

        Returns
        -------
        dict or None
            ``ename``, ``evalue`` and ``traceback`` of what it raised; None when all went well.
        """
        source = request.content["code"]
        error: BaseException | None = None
        self.namespace.pop("__warningregistry__", None)  # a cell is a new file: it warns again
        try:
            if request.stored:
                self._keep_input(request.execution_count, source)
            self._run_cell(request, source)
        except BaseException as raised:  # the user's, whatever it is
            error = raised
        if os.getpid() != self._pid:
            self._end_of_child(error)
        if self._debugger is not None:
            self._debugger.cell_ended(request, error)
        self._restore(request)
        try:
            return None if error is None else self.describe(error)
        finally:
            error = None  # its frames end here, and with them what they hold
            streams.flush()

    def describe(self, error: BaseException) -> Content:
        """Return ``ename``, ``evalue`` and ``traceback`` of what user code has raised."""
        try:
            from . import tracebacks

            return tracebacks.describe(error, self.cells)
        except BaseException as broken:  # no descriptor or stack left to import or format with
            ename = type(error).__name__
            line = f"{ename} (no traceback: {type(broken).__name__} while describing it)"
            return {"ename": ename, "evalue": "", "traceback": [line]}

    def _run_cell(self, request: Request, source: str) -> None:
        typed, source = source, self.transform(source)
        if request.stored:
            self.kernel.history.add_source(request.execution_count, source)
        question = is_question(source)
        if question is not None:
            self._page(question["name"], 1 if "??" in source else 0)
            return
        name = self.cells.add(source, request.execution_count, typed)
        codes, shows_value = self._compile(source, name)
        event_loop = request.worker.loop
        if event_loop is not None and event_loop.needed:
            event_loop.ready()
        value = None
        if any(code.co_flags & _CO_COROUTINE for code in codes):
            assert event_loop is not None
            value = event_loop.run(run_awaiting(codes, self.namespace))
        else:
            for code in codes:
                value = run(code, self.namespace)
        if shows_value:
            interrupt.call(sys.displayhook, value)

    def _compile(self, source: str, name: str) -> tuple[list[CodeType], bool]:
        """Return the code objects of a cell, and whether the last is an expression to be shown."""
        tree = compile(source, name, "exec", self._flags | PyCF_ONLY_AST, dont_inherit=True)
        assert isinstance(tree, Module)
        last: Expression | None = None
        if tree.body and isinstance(tree.body[-1], Expr) and not _ends_with_semicolon(source, tree.body[-1]):
            last = Expression(tree.body[-1].value)
            del tree.body[-1]
        codes = []
        if tree.body or last is None:
            codes.append(compile(tree, name, "exec", self._flags, dont_inherit=True))
            self._flags |= codes[0].co_flags & _FUTURES
        if last is not None:
            codes.append(compile(last, name, "eval", self._flags, dont_inherit=True))
        return codes, last is not None

    def transform(self, source: str) -> str:
        """Return the Python that runs for a cell's source."""
        for transform in self.transforms:
            source = interrupt.call(transform, source)
        return source

    def _page(self, name: str, detail_level: int) -> None:
        """Answer ``name?`` with a page ("Messaging in Jupyter: Payloads")."""
        data = self.inspect(name, len(name), detail_level)
        request = current_request()
        if not data:
            print(f"Object `{name}` not found.")
        elif request is not None:
            request.payload.append({"source": "page", "data": data, "start": 0})

    def _keep_input(self, count: int, source: str) -> None:
        namespace = self.namespace
        history = namespace.get("_ih")
        if isinstance(history, list):
            history.append(source)
        namespace["_iii"], namespace["_ii"] = namespace.get("_ii", ""), namespace.get("_i", "")
        namespace["_i"], self._last_input = self._last_input, source
        namespace[f"_i{count}"] = source

    def _restore(self, request: Request) -> None:
        """Put back what the kernel can't do without, should a cell have taken it away."""
        streams.restore()
        if request.worker is self.kernel.main:
            interrupt.restore()
        if not callable(getattr(sys, "displayhook", None)):
            sys.displayhook = self._hook

    def _end_of_child(self, error: BaseException | None) -> None:
        """The cell has forked, and this is the child: its sockets are its parent's, so it ends here."""
        status = 0
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            self.show_error(error)
        streams.flush()
        os._exit(status)

    def show_error(self, error: BaseException) -> None:
        """Print the traceback of what a callback has raised."""
        print("\n".join(self.describe(error)["traceback"]), file=sys.stderr)

    def evaluate(self, expressions: dict[str, Any]) -> dict[str, Content]:
        """Return what user_expressions are, each ok with a mime bundle or an error."""
        results: dict[str, Content] = {}
        for name, expression in expressions.items():
            try:
                code = compile(
                    str(expression), "<user expression>", "eval", self._flags & _FUTURES, dont_inherit=True
                )
                data, metadata = display.bundle(run(code, self.namespace))
                dumps([data, metadata])  # or one that JSON can't say would take the others with it
                results[name] = {"status": "ok", "data": data, "metadata": metadata}
            except BaseException as error:  # the user's
                results[name] = {"status": "error", **self.describe(error)}
        return results

    # -- debug -----------------------------------------------------------------------------------------

    def debug(self, request: Request) -> Content:
        """Return the response to a request of the Debug Adapter Protocol.  The thread of the debug_requests."""
        if self._debugger is None:
            from .debugger import Debugger

            self._debugger = Debugger(self)
        return self._debugger.answer(request)

    # -- help ------------------------------------------------------------------------------------------

    def complete(self, code: str, cursor_pos: int) -> Content:
        """Return the content of a complete_reply; `cursor_pos` counts code points."""
        from . import completion

        return completion.complete(code, cursor_pos, self.namespace)

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, str]:
        """Return what is known of the thing at the cursor as a mime bundle; empty when nothing is."""
        from . import inspection

        return inspection.inspect(code, cursor_pos, detail_level, self.namespace)

    def is_complete(self, code: str) -> Content:
        """Return the content of an is_complete_reply."""
        from .is_complete import is_complete

        return is_complete(self.transform(code))


@interrupt.landing
def run(code: CodeType, namespace: dict[str, Any]) -> Any:
    """Run compiled user code: the frame below all user frames, in which a KeyboardInterrupt may land."""
    if interrupt.pending:
        interrupt.checkpoint()
    return eval(code, namespace)


@interrupt.landing
async def run_awaiting(codes: list[CodeType], namespace: dict[str, Any]) -> Any:
    """Run compiled user code that awaits, all of it in one task."""
    value = None
    for code in codes:
        value = eval(code, namespace)
        if code.co_flags & _CO_COROUTINE:
            value = await value
    return value


class Exit:
    """``exit`` and ``quit``: ask the frontend to end, and the kernel with it unless others use it too."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, keepkernel: bool | None = None) -> None:
        request = current_request()
        if request is None:
            raise SystemExit
        kernel = request.kernel
        if keepkernel is None:
            keepkernel = len(kernel.sessions) > 1 and kernel.channels.subscriptions > 1
        request.payload.append({"source": "ask_exit", "keepkernel": keepkernel})
        if not keepkernel:
            request.afterwards = kernel.quit

    def __repr__(self) -> str:
        return f"{self._name}()"

    def _ipython_display_(self) -> None:
        self()


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it has been removed


def _ends_with_semicolon(source: str, node: Expr) -> bool:
    """Tell whether the value of the last expression is not wanted."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    if ";" not in source:
        return False
    first, *more = NEWLINE.split(source)[node.end_lineno - 1 :]
    rest = first.encode(errors="surrogatepass")[node.end_col_offset :].decode(errors="surrogatepass")
    return "\n".join([rest, *more]).lstrip(" \t\f\\\n").startswith(";")
