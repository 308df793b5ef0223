"""IPython's shell on our kernel: a real `InteractiveShell`, of which only the ends are ours.

Cells are run by our interpreter, whether there is a shell or not.  The shell translates magics, and what magics do
ends here: they publish through the kernel's channels, their values go to the kernel's display hook, their pages and
next inputs into the reply's payload, their history is the kernel's.  Libraries that ask which kernel they are
in find the names that they know: ``ZMQInteractiveShell`` of ``ipykernel.zmqshell``, with a ``kernel``.

Imported when something needs IPython, and not before (``ipython``).
"""

from __future__ import annotations

import os
import re
import sys
from ast import AnnAssign, Assign, AugAssign, Expr, Load, Name, copy_location, fix_missing_locations
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython import version_info
from IPython.core import page
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magics.code import CodeMagics, MacroToEdit
from IPython.core.payload import PayloadManager
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from .. import __builtins__ as __builtins__
from .. import connect
from ..kernel import interrupt
from ..kernel.output_to import output_to
from ..kernel.request import Request, current_request
from ..kernel.stdin import StdinNotImplementedError
from . import completion, imports
from . import display as ours

if TYPE_CHECKING:
    from ..kernel.comm import CommManager
    from ..kernel.history_file import Row
    from .interpreter import Interpreter


#: The errors of the formatters that are at work.
_failures: ContextVar[list[Any] | None] = ContextVar("minikernel_failures", default=None)


class Compiler(CachingCompiler):
    """Knows the cells under the names that the kernel has given them."""

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        """Return what a traceback calls a cell; None for what is none."""
        cells = ZMQInteractiveShell.interpreter.cells
        if name not in cells:
            return super().format_code_name(name)
        kind, _, number = cells.label(name).partition(" ")
        return kind, number


class Hook(DisplayHook):
    """`sys.displayhook` of the code that magics run: the kernel's, and the value for the magic."""

    def __init__(self, shell: Any = None, **kwargs: Any) -> None:
        kept = {name: shell.user_ns[name] for name in ("_", "__", "___") if name in shell.user_ns}
        super().__init__(shell=shell, **kwargs)
        shell.user_ns.update(kept)

    def __call__(self, result: Any = None) -> None:
        self.check_for_underscore()
        if result is not None and not self.quiet():
            self.fill_exec_result(result)
            self.shell.interpreter.hook(result)


class Publisher(DisplayPublisher):
    """What `IPython.display` and ``%%capture`` publish through."""

    def publish(
        self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False, **kwargs: Any
    ) -> None:
        """Publish a mime bundle as an output of the current request."""
        self._validate_data(data, metadata)
        ours.publish(data, metadata or {}, transient or {}, update)

    def clear_output(self, wait: bool = False) -> None:
        """Take away what the cell has shown."""
        ours.clear_output(wait)


class Payload(PayloadManager):
    """What goes into the execute_reply, one of each source."""

    def write_payload(self, data: dict[str, Any], single: bool = True) -> None:
        """Add a payload to the reply of the current request."""
        request = current_request()
        if request is not None:
            others = [each for each in request.payload if not single or each["source"] != data.get("source")]
            request.payload[:] = [*others, data]


class History(HistoryManager):
    """The kernel's history, as magics ask for it; `HistoryManager` itself keeps this session's lists."""

    def _rows(self, rows: list[Row], raw: bool, output: bool) -> Iterator[tuple[int, int, Any]]:
        for row in rows:
            source = row.source_raw if raw else row.source
            yield row.session, row.line, (source, row.output) if output else source

    def get_tail(
        self, n: int | None = 10, raw: bool = True, output: bool = False, include_latest: bool = False
    ) -> list[Any]:
        """Return the last cells of all sessions, oldest first."""
        rows = self.shell.interpreter.kernel.history.tail((10 if n is None else n) + (not include_latest))
        return list(self._rows(rows if include_latest else rows[:-1], raw, output))

    def search(
        self, pattern: str = "*", raw: bool = True, search_raw: bool = True, output: bool = False,
        n: int | None = None, unique: bool = False,
    ) -> Iterator[Any]:  # fmt: skip
        """Return the cells that match a glob."""
        return self._rows(self.shell.interpreter.kernel.history.search(pattern, n, unique), raw, output)

    def get_range(
        self, session: int = 0, start: int = 1, stop: int | None = None, raw: bool = True, output: bool = False
    ) -> Any:
        """Return cells of a session; of this one, values instead of their texts."""
        if session == 0:
            return self._get_range_session(start, stop, raw, output)
        return self._rows(self.shell.interpreter.kernel.history.range(session, start, stop), raw, output)


@magics_class
class KernelMagics(Magics):
    """The magics that a kernel adds, and those that a terminal does otherwise."""

    @line_magic
    def connect_info(self, line: str) -> None:
        """Print what another frontend needs to connect to this kernel."""
        name = connect.get_connection_file() or ""
        print(Path(name).read_text())
        print(f"Connect another frontend:\n    jupyter console --existing {os.path.basename(name)}")

    @line_magic
    def qtconsole(self, line: str) -> None:
        """Open a Qt console on this kernel."""
        connect.connect_qtconsole(argv=line.split())

    @line_magic
    def subshell(self, line: str) -> None:
        """Print which subshell runs this, and which there are."""
        request = current_request()
        assert request is not None
        print(f"subshell id: {request.header.get('subshell_id')}")
        print(f"subshell list: {request.kernel.subshells.ids()}")

    @line_magic
    def edit(self, line: str) -> None:
        """Have the frontend open the source of an object, or a file, in an editor."""
        options, arguments = self.parse_options(line, "prn:")
        try:
            name, number, _ = CodeMagics._find_edit_target(self.shell, arguments, options, ["", ""])
        except MacroToEdit:
            raise UsageError("a macro can't be edited in a kernel") from None
        payload = {"source": "edit_magic", "filename": os.path.abspath(name), "line_number": number}
        self.shell.payload_manager.write_payload(payload)

    @line_magic
    def less(self, line: str) -> None:
        """Show a file in the frontend's pager."""
        if not line:
            raise UsageError("Missing filename.")
        page.page(Path(line).read_text())

    @line_magic
    def autosave(self, line: str) -> None:
        """Tell the classic notebook how often to save, in seconds; 0 for never."""
        try:
            interval = int(line)
        except ValueError:
            raise UsageError(f"%autosave requires an integer, got {line!r}") from None
        code = f"IPython.notebook.set_autosave_interval({1000 * interval})"
        ours.display({"application/javascript": code}, raw=True)
        print(f"Autosaving every {interval} seconds" if interval else "Autosave disabled")

    @line_magic
    def man(self, line: str) -> None:
        """Show a page of the manual in the frontend's pager."""
        page.page(self.shell.getoutput(f"man {line} | col -b", split=False))


class _Kernel:
    """The kernel, under the names that libraries look for in ``get_ipython().kernel``."""

    iopub_socket = "iopub"

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self._kernel = shell.interpreter.kernel

    @property
    def comm_manager(self) -> CommManager:
        """The open comms and their targets."""
        manager: CommManager = self._kernel.comms
        return manager

    @property
    def io_loop(self) -> Any:
        """tornado's view of the event loop."""
        from tornado.ioloop import IOLoop

        return IOLoop.current()

    @property
    def session(self) -> _Kernel:
        """What libraries that send messages of their own call ``send`` of."""
        return self

    def send(
        self, stream: object, msg_type: str, content: Any = None, *, metadata: Any = None, buffers: Any = None,
        **others: object,
    ) -> None:  # fmt: skip
        """Publish a message on iopub, as an output of the current request; the stream is `iopub_socket`."""
        request = current_request()
        assert request is not None
        request.publish(msg_type, content or {}, metadata, buffers or ())

    send_response = send

    def get_parent(self, channel: str | None = None) -> dict[str, Any]:
        """Return the message that the calling code works for."""
        parent: dict[str, Any] = self._kernel.get_parent()
        return parent


class ZMQInteractiveShell(InteractiveShell):
    """The shell of this kernel; libraries know kernels by this name."""

    compiler_class = Type(Compiler)
    displayhook_class = Type(Hook)
    display_pub_class = Type(Publisher)
    #: A trait, for which some libraries look.
    kernel = AnyTrait()
    #: Set before the shell is made, for everything in it asks.
    interpreter: Interpreter
    #: The cell that runs, and what IPython's events tell of it.
    _running: tuple[Request | None, ExecutionResult | None] = None, None

    def init_virtualenv(self) -> None:
        """Leave sys.path alone: the kernel is installed where it runs."""

    def init_prompts(self) -> None:
        """Leave sys.ps1 alone: nobody sees a prompt."""

    def init_history(self) -> None:
        """Continue the lists of the cells that have run, as they are."""
        interpreter = self.interpreter
        self.history_manager = history = History(shell=self, parent=self)
        self.configurables.append(history)
        inputs, outputs = interpreter.namespace.get("_ih"), interpreter.namespace.get("_oh")
        if isinstance(inputs, list):
            history.input_hist_raw = list(inputs[: max(1, self.interpreter.kernel.main.execution_count)])
            history.input_hist_parsed = inputs
            history._i00 = inputs[-1]
        if isinstance(outputs, dict):
            history.output_hist = outputs

    def init_user_ns(self) -> None:
        """Add what IPython adds, but leave the kernel's way to exit."""
        names = {name: self.user_ns[name] for name in ("exit", "quit", "display", "_dh") if name in self.user_ns}
        super().init_user_ns()
        self.user_ns.update(names)
        self.user_ns_hidden.update(names)

    def init_hooks(self) -> None:
        """Page in the frontend."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(self._page), 99)

    def init_payload(self) -> None:
        """Collect payloads in the request."""
        self.payload_manager = Payload(parent=self)

    def init_magics(self) -> None:
        """Add the magics of a kernel."""
        super().init_magics()
        self.register_magics(KernelMagics)
        for alias, name in {"ed": "edit", "more": "less"}.items():
            self.magics_manager.register_alias(alias, name)

    def _page(self, text: Any, start: int = 0, screen_lines: int = 0, pager_cmd: str | None = None) -> None:
        data = text if isinstance(text, dict) else {"text/plain": text}
        self.payload_manager.write_payload({"source": "page", "data": data, "start": max(0, start)})

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Put a text into the frontend's next cell, or replace this one's."""
        self.payload_manager.write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def ask_exit(self) -> None:
        """End the frontend, and the kernel with it unless others use it."""
        self.user_ns["exit"]()

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        """Show an error; those of formatters are for `_Formatter` to judge."""
        failures = _failures.get()
        if failures is None:
            super().showtraceback(exc_tuple, *args, **kwargs)
        else:
            failures.append(exc_tuple)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        """Publish an error that code of a magic has raised; the cell itself goes on."""
        request = current_request()
        if request is not None:
            content = {"ename": etype.__name__, "evalue": str(evalue), "traceback": list(stb)}
            request.publish("error", content)

    def enable_gui(self, gui: str | None = None) -> None:
        """Let the event loop of a GUI run while cells don't."""
        from . import gui as guis

        try:
            guis.enable(self.interpreter.kernel, gui)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def get_parent(self) -> dict[str, Any]:
        """Return the message that the calling code works for."""
        return self.kernel.get_parent()

    @property
    def parent_header(self) -> dict[str, Any]:
        """The same."""
        return self.get_parent()

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Let the calling thread's outputs go to the cell of a message that `get_parent` has returned."""
        output_to(parent).__enter__()

    def set_thread_parent(self, parent: dict[str, Any]) -> output_to:
        """The same; return what `reset_thread_parent` takes."""
        block = output_to(parent)
        block.__enter__()
        return block

    def reset_thread_parent(self, block: output_to) -> None:
        """Undo a `set_thread_parent`."""
        block.__exit__()

    # -- around the cells that the interpreter runs ------------------------------------------------------

    def transform_ast(self, node: Any) -> Any:
        """Apply the transformations of trees that libraries have registered, and show assignments if wanted."""
        node = interrupt.call(super().transform_ast, node)
        last = node.body[-1] if node.body else None
        if self.ast_node_interactivity == "last_expr_or_assign" and isinstance(
            last, (Assign, AnnAssign, AugAssign)
        ):
            target = last.targets[-1] if isinstance(last, Assign) else last.target
            if isinstance(target, Name):
                node.body.append(fix_missing_locations(copy_location(Expr(Name(target.id, Load())), last)))
        return node

    def begin(self, request: Request, source: str) -> None:
        """A cell begins, which is `source` for Python: tell who has asked to be told."""
        result = self._begin(request, source)
        interrupt.call(self.events.trigger, "pre_execute")
        if not request.content["silent"]:
            interrupt.call(self.events.trigger, "pre_run_cell", result.info)

    def _begin(self, request: Request, source: str) -> ExecutionResult:
        typed, silent = request.content["code"], request.content["silent"]
        if request.stored:
            self.history_manager.input_hist_raw.append(typed)
        # which IPython counts when it begins, and once counted when it had ended
        self.execution_count = request.execution_count + (version_info >= (9, 8))
        info = ExecutionInfo(typed, request.stored, silent, True, request.metadata.get("cellId"))
        info.transformed_cell = source
        self._running = request, ExecutionResult(info)
        self._running[1].execution_count = request.execution_count
        self.displayhook.exec_result = self._running[1]  # which takes the cell's value
        return self._running[1]

    def end(self, request: Request, error: BaseException | None) -> None:
        """A cell has ended: tell who has asked to be told."""
        running, result = self._running
        if running is not request or result is None:  # the cell has made the shell, or is no Python
            result = self._begin(request, request.content["code"])
        result.error_in_exec = error
        self.execution_count = request.execution_count + 1
        if self.call_pdb and isinstance(error, Exception) and not isinstance(error, SyntaxError):
            self._debug()
        self.last_execution_result, self.last_execution_succeeded = result, error is None
        self.interpreter.cell_ended()
        if not request.content["silent"]:
            for callback in tuple(self.events.callbacks["post_run_cell"]):
                interrupt.forget()  # what was for the cell must not take a callback away
                try:
                    interrupt.call(callback, result)
                except (Exception, KeyboardInterrupt) as raised:
                    print(f"Error in callback {callback} (for post_run_cell):", file=sys.stderr)
                    self.interpreter.show_error(raised)

    def _debug(self) -> None:
        """Look at what the cell has raised, with the debugger that ``%pdb`` has asked for."""
        try:
            interrupt.call(self.debugger, force=True)
        except StdinNotImplementedError as refused:
            print(f"%pdb: {refused}", file=sys.stderr)
        except KeyboardInterrupt:  # its user has had enough of it
            pass

    def describe(self, error: BaseException) -> dict[str, Any] | None:
        """Return a description of an error where the user wants IPython's: None for the kernel's own."""
        self.InteractiveTB.tb = None  # %debug looks there first, and then at sys.last_traceback
        if isinstance(error, UsageError):
            self.show_usage_error(error)
            return {"ename": "UsageError", "evalue": str(error), "traceback": []}
        if isinstance(error, self.custom_exceptions):
            interrupt.call(self.CustomTB, type(error), error, error.__traceback__)
            return {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        if self.InteractiveTB.mode == type(self).xmode.default_value or isinstance(error, SyntaxError):
            return None
        trace = self.InteractiveTB.structured_traceback
        try:
            lines = interrupt.call(trace, type(error), error, error.__traceback__, tb_offset=0)
        except KeyboardInterrupt:  # the user does not want it any more
            return None
        return {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}


def make(interpreter: Interpreter) -> None:
    """Make the shell and let the kernel know."""
    ZMQInteractiveShell.interpreter = interpreter
    ZMQInteractiveShell.__module__ = "ipykernel.zmqshell"
    if "ipykernel.zmqshell" not in sys.modules:  # tqdm looks there
        module = sys.modules["ipykernel.zmqshell"] = ModuleType("ipykernel.zmqshell")
        module.ZMQInteractiveShell = ZMQInteractiveShell  # type: ignore[attr-defined]
    main = sys.modules["__main__"]
    config = Config(
        IPKernelApp={"connection_file": connect.get_connection_file() or ""},  # libraries ask for this, too
        HistoryManager={"enabled": False, "hist_file": ":memory:"},
    )
    shell = ZMQInteractiveShell.instance(user_module=main, user_ns=interpreter.namespace, config=config)
    shell.display_trap.__enter__()  # for good: or a magic that runs code would take the hook of %%capture away
    shell.kernel = _Kernel(shell)
    shell.extension_manager.load_extension("storemagic")
    shell.alias_manager.soft_define_alias("clear", "clear")
    interpreter.shell = shell
    interpreter.after_cell.append(partial(shell.events.trigger, "post_execute"))  # where figures are shown
    ours.formatter = _Formatter(shell)
    ours.publisher = lambda **message: shell.display_pub.publish(**message)
    completion.places.insert(0, _magics)
    imports.when_imported("ipykernel.comm", _our_comms)
    imports.when_imported("ipykernel.connect", _our_connections)


class _Formatter:
    """Mime bundles as IPython's formatters make them, with all that libraries have registered there."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def __call__(self, obj: Any, include: Any, exclude: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        failures: list[Any] = []
        token = _failures.set(failures)
        try:
            formatter = self._shell.display_formatter
            data, metadata = interrupt.call(formatter.format, obj, include=include, exclude=exclude)
        finally:
            _failures.reset(token)
        wanted = (include is None or "text/plain" in include) and "text/plain" not in (exclude or ())
        if wanted and "text/plain" not in data and failures:
            raise failures[0][1]  # of its __repr__: an object without a text is an error of the cell
        for failure in failures:
            self._shell.showtraceback(failure)
        return data, metadata


#: A magic's name at the beginning of a line, or behind the name that gets its value.
_MAGIC = re.compile(r"(?:\A|.*\n)[ \t]*(?:[\w, ]+=[ \t]*)?(%%?)(\w*)", re.S)


def _magics(cursor: Any, namespace: dict[str, Any]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Complete the names of magics (see ``completion.places``)."""
    line = _MAGIC.fullmatch(cursor.code)
    if line is None:
        return
    kinds = InteractiveShell.instance().magics_manager.magics
    found = [
        {"text": name, "type": "magic"}
        for name in sorted({*kinds["cell"], *(kinds["line"] if line[1] == "%" else ())})
        if name.startswith(line[2])
    ]
    yield line.start(2), found


def _our_comms() -> None:
    from ..kernel.comm import Comm, CommManager

    package = sys.modules["ipykernel.comm"]
    request = current_request()
    package.Comm = Comm if request is None else request.kernel.comms.comm_class  # type: ignore[attr-defined]
    package.CommManager = CommManager  # type: ignore[attr-defined]


def _our_connections() -> None:
    module = sys.modules["ipykernel.connect"]
    for name in ("get_connection_file", "get_connection_info", "connect_qtconsole"):
        setattr(module, name, getattr(connect, name))
