"""Running the user's code.

The user's namespace is the module ``__main__`` (``namespace``).  A cell (``compiler`` says what it is for Python)
runs while the event loop is paused, or as a task of the loop when it awaits something at the top level
(``kernel.loop``).  Whatever it raises is the user's, is caught here, and becomes one error.

An `Interpreter` is made when the first request needs one, in whatever thread; making it gives the process's
streams, hooks and ``input`` to the user's code.  A kernel for another language overrides `run_cell`, `describe`,
`evaluate`, `complete`, `inspect` and `is_complete` (``examples/wrapper_kernel.py``).

Next: ``compiler``, ``tracebacks``, ``display``, ``streams``, ``capture``.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from os import _exit, getpid
from types import CodeType
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from .. import connect
from ..kernel import interrupt, loop
from ..kernel.request import current_request
from ..protocol.encoding import dumps
from . import comms, crash, display, imports, ipython, libraries, namespace, stdin, streams, stuck, threads
from .cells import Cells
from .compiler import Compiler
from .transforms import is_question, leading_indent, leading_prompts

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel
    from ..kernel.request import Request
    from .debugger import Debugger

Content = dict[str, Any]

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE


class Interpreter:
    """Runs Python for a kernel, in the process that it is made in.

    Attributes
    ----------
    namespace : dict
        The user's globals.
    names : dict
        Where ``In``, ``Out``, ``_`` and their kin are: the same one, where the process is the kernel's.
    transforms : list of callable
        Each takes a cell's source and returns the source that runs instead.
    after_cell : list of callable
        Called, before the reply, when a cell or a comm's callback has ended, well or not.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.transforms: list[Callable[[str], str]] = [leading_prompts, leading_indent]
        self.after_cell: list[Callable[[], object]] = []
        self.cells = Cells()
        self._compiler = Compiler(self)
        self._pid = getpid()
        self._debugger: Debugger | None = None
        self.namespace = self._make_namespace()
        self._inputs = namespace.Inputs(self.names)
        #: IPython's shell, once something has needed it.
        self.shell: Any = None
        self.hook = display.DisplayHook(self.names)
        self._take_over()

    def _make_namespace(self) -> dict[str, Any]:
        self.names = namespace.make()
        return self.names

    def _take_over(self) -> None:
        """Give the process's streams, hooks and ``input`` to the user's code."""
        kernel = self.kernel
        sys.displayhook = self.hook
        streams.install(kernel)
        stdin.install(kernel)
        threads.install()
        imports.when_imported("asyncio", loop.asyncio_imported)
        imports.when_imported("linecache", self.cells.fill_linecache)
        comms.install(kernel)
        ipython.install(self)
        libraries.install(self)
        stuck.install(self.cells)
        self._evidence = crash.Evidence(kernel, connect.get_connection_file() or "")

    # -- execute ---------------------------------------------------------------------------------------

    def execute(self, request: Request) -> Content | None:
        """Run the code of an execute_request and publish what it shows.

        Returns
        -------
        dict or None
            ``ename``, ``evalue`` and ``traceback`` of what it raised; None when all went well.
        """
        error: BaseException | None = None
        content: Content | None = None
        self.namespace.pop("__warningregistry__", None)  # a cell is a new file: it warns again
        if request.worker is self.kernel.main:
            self._evidence.note(f"cell {request.execution_count}")
        if self._evidence.of_predecessor and not request.content["silent"]:
            self._evidence.tell()
        try:
            self.run_cell(request, request.content["code"])
        except BaseException as raised:  # the user's, whatever it is
            error = raised
        if getpid() != self._pid:
            self._end_of_child(error)
        if self._debugger is not None:
            self._debugger.cell_ended()
        self._restore(request)
        try:
            if error is not None:
                content = self.describe(error)
                if content["traceback"] and not request.content["silent"]:  # else it has been said already
                    request.publish("error", content)
        finally:
            if self.shell is not None:
                self.shell.end(request, error)
            else:
                self.cell_ended()
            error = None  # its frames end here, and with them what they hold
        if request.worker is self.kernel.main:
            self._evidence.note("idle")
        return content

    def cell_ended(self) -> None:
        """Do what is to be done when user code has run; show what goes wrong with it."""
        interrupt.forget()  # or it would end a callback, and nothing of the user's
        for callback in tuple(self.after_cell):
            try:
                interrupt.call(callback)
            except BaseException as error:  # the user's: figures that can't be drawn
                self.show_error(error)
        streams.flush()

    def describe(self, error: BaseException) -> Content:
        """Return ``ename``, ``evalue`` and ``traceback`` of what user code has raised."""
        try:
            from .tracebacks import describe  # from a module: from a package, Python takes a longer way

            content = describe(error, self.cells)
            return (self.shell and self.shell.describe(error)) or content
        except BaseException as broken:  # no descriptor or stack left to import or format with, or a cell's damage
            ename = type(error).__name__
            line = f"{ename} (no more can be told: {type(broken).__name__} while describing it)"
            return {"ename": ename, "evalue": "", "traceback": [*self.cells.lines(error), line]}

    def run_cell(self, request: Request, typed: str) -> None:
        """Run the code of a cell, and show its value; what this raises is the cell's error."""
        source, question = typed, None
        try:
            source = self.transform(typed)
            question = is_question(source)
            if question is None:
                name = self.cells.add(source, request.execution_count, typed)
                source, tree = self._compiler.parse(source, name)
        finally:
            if request.stored:
                self.kernel.history.add_source(request.execution_count, source)
                self._inputs.add(request.execution_count, typed, source)
        if question is not None:
            self._page(question["name"], 1 if "??" in source else 0)
            return
        if self.shell is not None:
            self.shell.begin(request, source)
        codes, shows_value = self._compiler.compile(source, tree, name)
        self.cells.keep_while(name, typed, codes)
        self._run(request, codes, shows_value)

    def _run(self, request: Request, codes: list[CodeType], shows_value: bool) -> None:
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
            interrupt.call(sys.displayhook if self.kernel.owns_process else self.hook, value)

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

    def _restore(self, request: Request) -> None:
        """Put back what the kernel can't do without, should a cell have taken it away."""
        streams.restore()
        if request.worker is self.kernel.main:
            interrupt.restore()
        if not callable(getattr(sys, "displayhook", None)):
            sys.displayhook = self.hook

    def _end_of_child(self, error: BaseException | None) -> None:
        """The cell has forked, and this is the child: its sockets are its parent's, so it ends here."""
        status = 0
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            self.show_error(error)
        streams.flush()
        _exit(status)

    def show_error(self, error: BaseException) -> None:
        """Print the traceback of what a callback has raised."""
        print("\n".join(self.describe(error)["traceback"]), file=sys.stderr)

    def evaluate(self, expressions: dict[str, Any]) -> dict[str, Content]:
        """Return what user_expressions are, each ok with a mime bundle or an error."""
        results: dict[str, Content] = {}
        for name, expression in expressions.items():
            try:
                code = self._compiler.expression(str(expression))
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
        from .completion import complete

        return complete(code, cursor_pos, self.names | self.namespace)

    def inspect(self, code: str, cursor_pos: int, detail_level: int) -> dict[str, str]:
        """Return what is known of the thing at the cursor as a mime bundle; empty when nothing is."""
        from .inspection import inspect

        return inspect(code, cursor_pos, detail_level, self.names | self.namespace)

    def is_complete(self, code: str) -> Content:
        """Return the content of an is_complete_reply."""
        from .is_complete import is_complete

        return is_complete(self.transform(code))


@interrupt.landing
def run(code: CodeType, namespace: dict[str, Any]) -> Any:
    """Run compiled user code: the frame below all user frames, in which a KeyboardInterrupt may land."""
    if interrupt.pending:
        interrupt.checkpoint()
    namespace.setdefault("__builtins__", builtins)  # or eval would put ours there
    return eval(code, namespace)


@interrupt.landing
async def run_awaiting(codes: list[CodeType], namespace: dict[str, Any]) -> Any:
    """Run compiled user code that awaits, all of it in one task."""
    value = None
    namespace.setdefault("__builtins__", builtins)
    for code in codes:
        value = eval(code, namespace)
        if code.co_flags & _CO_COROUTINE:
            value = await value
    return value
