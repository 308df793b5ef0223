"""The debugger: the Debug Adapter Protocol over debug_request and debug_event, with debugpy's pydevd behind it.

A frontend (JupyterLab, VS Code) sends DAP requests as debug_requests.  Some are the kernel's own to answer:
what is in the user's namespace, which file stands for a cell.  The others go to pydevd, the tracer inside this
process ("Messaging in Jupyter: Debug request"; DAP: https://microsoft.github.io/debug-adapter-protocol).

=====================  ================================================================================
main thread            `pydevd.settrace`, between two cells, and then whatever pydevd stops
minikernel-debug       answers the debug_requests, one after another; control stays live beside it
minikernel-debugger    reads what pydevd says: answers for the others, events for iopub
=====================  ================================================================================

pydevd knows a cell by a file: `dumpCell` writes it, its name is a hash of the code.  Cells that run from then on
have that name; for those that ran before, pydevd is told which ``<cell N>`` the file is (see ``cells``).

Without debugpy all that needs no tracer works, and `initialize` says what to install.
"""

from __future__ import annotations

import os
import re
import reprlib
import struct
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from .. import private
from ..kernel.request import Request
from . import display
from .tracer import PACKAGE, Failed, Tracer

if TYPE_CHECKING:
    from .interpreter import Interpreter

Content = dict[str, Any]

#: The seed of the hash in the names of cells' files; JupyterLab computes the same.
SEED = 0xC70F6907
#: Children of one object that are shown.
CHILDREN = 500

_WORD = struct.Struct("<I")
_HIDDEN = re.compile(
    r"_{1,3}|_i{1,3}|_i?\d+|_[iod]h|__\w+__|In|Out|display|exit|quit|get_ipython|debugpy", re.ASCII
)
#: What pydevd does; it would never answer anything else.
_FORWARDED = {
    "completions", "configurationDone", "continue", "evaluate", "exceptionInfo", "goto", "gotoTargets", "next",
    "pause", "scopes", "setExceptionBreakpoints", "setExpression", "setFunctionBreakpoints", "setVariable",
    "stackTrace", "stepIn", "stepInTargets", "stepOut", "threads",
}  # fmt: skip
#: What it answers only when the thread is stopped, or is so again.
_STOPPED = {"exceptionInfo", "goto", "next", "stepIn", "stepOut"}


class Debugger:
    """Answers the DAP requests of all frontends.  Its methods belong to the thread of the debug_requests."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._kernel = interpreter.kernel
        self._namespace = interpreter.namespace
        self._cells = interpreter.cells
        self._request: Request | None = None
        self._tracer: Tracer | None = None
        self._started = False
        self._stepping = False
        self._breakpoints: dict[str, list[Content]] = {}
        self._shown: list[Any] = []
        self._directory = os.path.realpath(private.new_name("cells"))
        self._own: dict[str, Callable[[Content], Content]] = {
            method.__name__: method
            for method in (
                self.debugInfo, self.initialize, self.attach, self.disconnect, self.terminate, self.dumpCell,
                self.source, self.setBreakpoints, self.variables, self.inspectVariables,
                self.richInspectVariables, self.copyToGlobals, self.modules,
            )
        }  # fmt: skip

    def answer(self, request: Request) -> Content:
        """Return the DAP response to a debug_request."""
        self._request = request
        command, arguments = request.content["command"], request.content["arguments"] or {}
        seq = request.content["seq"]
        response = {"type": "response", "seq": seq, "request_seq": seq, "command": command}
        try:
            if command in self._own:
                body = self._own[command](arguments)
            elif command in _FORWARDED:
                body = self._forward(command, arguments)
            else:
                raise Failed(f"{command} is not supported")
        except Failed as failed:
            return {**response, "success": False, "message": str(failed)}
        except KeyError as missing:
            return {**response, "success": False, "message": f"{command} needs {missing}"}
        except (TypeError, ValueError, AttributeError) as error:  # an argument of another kind
            return {**response, "success": False, "message": f"{command}: {error}"}
        return {**response, "success": True, "body": body}

    # -- what the frontends ask for, under the names of the protocol ------------------------------------

    def debugInfo(self, arguments: Content) -> Content:
        """What a frontend asks first; also after a reload of its page."""
        stopped = self._started and self._stopped  # one thread, and so all of them
        threads = self._forward("threads", {})["threads"] if stopped else []
        return {
            "isStarted": self._started,
            "hashMethod": "Murmur2",
            "hashSeed": SEED,
            "tmpFilePrefix": self._directory + os.sep,
            "tmpFileSuffix": ".py",
            "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in self._breakpoints.items()],
            "stoppedThreads": [thread["id"] for thread in threads],
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    def initialize(self, arguments: Content) -> Content:
        """Start the tracer, unless it runs."""
        if self._tracer is None or self._tracer.ended:
            self._tracer = Tracer(self._kernel, self._event)
            self._cells.file_name = self._dump
        body = self._tracer.request("initialize", arguments)
        self._started = True
        self._tracer.install_breakpointhook()
        return body

    def attach(self, arguments: Content) -> Content:
        """Begin a session: from here on pydevd stops where it is told to.

        Only the user's own code stops unless the frontend asks for more: a thread that is held inside the
        standard library may hold a lock that the kernel needs.
        """
        rules = [*arguments.get("rules", []), {"path": PACKAGE + "**", "include": False}]
        self._forward("attach", {"justMyCode": True, **arguments, "rules": rules})
        for code, name in list(self._cells.names.items()):
            if name.startswith("<"):  # it ran before there was a debugger
                lines = {"line": 1, "endLine": code.count("\n") + 1, "runtimeLine": 1}
                maps = [{**lines, "runtimeSource": {"path": name}}]
                source = {"path": self._dump(code)}
                self._forward("setPydevdSourceMap", {"source": source, "pydevdSourceMaps": maps})
        return self._forward("configurationDone", {})

    def disconnect(self, arguments: Content) -> Content:
        """End the session; what was stopped goes on.  The kernel is no debuggee that ends with it."""
        if self._started and self._tracer is not None and not self._tracer.ended:
            self._tracer.request("disconnect", {"terminateDebuggee": False})
        self._ended()
        self._breakpoints.clear()
        return {}

    def terminate(self, arguments: Content) -> Content:
        """End the session and the cell that runs."""
        if self._stopped or self._kernel.main.running is not None:
            self._kernel.interrupt()  # first: the line at which it is stopped must not run
        return self.disconnect({})

    def dumpCell(self, arguments: Content) -> Content:
        """Write the file that stands for a cell."""
        return {"sourcePath": self._dump(arguments["code"])}

    def _dump(self, code: str) -> str:
        data = code.encode(errors="surrogatepass")
        path = os.path.join(self._directory, f"{murmur2(data, SEED)}.py")
        if not os.path.isdir(self._directory):
            private.make(self._directory)
            self._kernel.clean_up.append(lambda: private.remove(self._directory))
        with open(path, "wb") as file:
            file.write(data)
        return path

    def source(self, arguments: Content) -> Content:
        """Return the text of a file."""
        path = arguments["source"]["path"]
        try:
            with open(path, encoding="utf-8", errors="replace", newline="") as file:
                return {"content": file.read()}
        except (OSError, ValueError) as error:
            raise Failed(f"source unavailable: {error}") from None

    def setBreakpoints(self, arguments: Content) -> Content:
        """Set the breakpoints of one file; they are remembered where pydevd has put them."""
        path, asked = arguments["source"]["path"], arguments.get("breakpoints") or []
        lines = [int(point["line"]) for point in asked]  # pydevd would die of one without
        body = self._forward("setBreakpoints", arguments)
        self._breakpoints[path] = [
            {**point, "line": actual.get("line", line)}
            for point, line, actual in zip(asked, lines, body["breakpoints"], strict=False)
        ]
        if not asked:
            del self._breakpoints[path]
        return body

    def variables(self, arguments: Content) -> Content:
        """Return what is in a scope or an object: pydevd's, or of the namespace when nothing is stopped."""
        if self._stopped:
            body = self._forward("variables", arguments)
            return {"variables": [child for child in body["variables"] if not _HIDDEN.fullmatch(child["name"])]}
        reference = arguments["variablesReference"]
        if not 0 < reference <= len(self._shown):
            raise Failed("there is no such variable any more")
        first = arguments.get("start") or 0
        children = _children(self._shown[reference - 1])[first : first + (arguments.get("count") or CHILDREN)]
        return {"variables": [self._variable(*child) for child in children]}

    def inspectVariables(self, arguments: Content) -> Content:
        """Return the user's variables; works without a session."""
        self._shown.clear()
        shown = [
            self._variable(name, value, name)
            for name, value in self._namespace.copy().items()
            if isinstance(name, str) and not _HIDDEN.fullmatch(name)
        ]
        return {"variables": shown}

    def _variable(self, name: str, value: Any, expression: str = "") -> Content:
        reference = 0
        if _children(value):
            self._shown.append(value)
            reference = len(self._shown)
        return {
            "name": name,
            "value": _brief.repr(value),
            "type": type(value).__name__,
            "evaluateName": expression,
            "variablesReference": reference,
        }

    def richInspectVariables(self, arguments: Content) -> Content:
        """Return a variable's mime bundle: of a stopped frame, else of the namespace."""
        name, frame = arguments["variableName"], arguments.get("frameId")
        if not name.isidentifier():  # a row of the panel that is no variable, such as "special variables"
            return {"data": {}, "metadata": {}}
        if self._stopped and frame is not None:
            look = f"__import__('sys').modules[{__name__!r}].look({name})"
            _looked_at.clear()
            body = self._forward("evaluate", {"expression": look, "frameId": frame, "context": "clipboard"})
            if not _looked_at:
                raise Failed(str(body.get("result")))
            data, metadata = _looked_at.pop()
        elif name in self._namespace:
            try:
                data, metadata = display.bundle(self._namespace[name])
            except Exception as error:  # the user's __repr__
                raise Failed(f"{type(error).__name__}: {error}") from None
        else:
            raise Failed(f"name {name!r} is not defined")
        return {"data": data, "metadata": metadata}

    def copyToGlobals(self, arguments: Content) -> Content:
        """Copy a variable of a stopped frame into the namespace."""
        source, target = arguments["srcVariableName"], arguments["dstVariableName"]
        if not source.isidentifier() or not target.isidentifier():
            raise Failed("srcVariableName and dstVariableName must be identifiers")
        expression = {"expression": f"globals()[{target!r}]", "value": source, "frameId": arguments["srcFrameId"]}
        return self._forward("setExpression", expression)

    def modules(self, arguments: Content) -> Content:
        """Return the modules that come from a Python file."""
        found = []
        for number, (name, module) in enumerate(list(sys.modules.items())):
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            if isinstance(path, str) and path.endswith(".py"):
                found.append({"id": number, "name": name, "path": path})
        first = arguments.get("startModule") or 0
        count = arguments.get("moduleCount") or len(found)
        return {"modules": found[first : first + count], "totalModules": len(found)}

    # -- pydevd ----------------------------------------------------------------------------------------

    def _forward(self, command: str, arguments: Content) -> Content:
        if self._tracer is None or not self._started:
            raise Failed(f"{command}: the debugger is not started (initialize, then attach)")
        if command == "continue":  # pydevd would answer when a thread that is stopped goes on: if none is, never
            self._stepping = False
            self._tracer.resume()
            return {"allThreadsContinued": True}
        if command in _STOPPED and not self._stopped:
            raise Failed(f"{command}: no thread is stopped")
        if command in ("next", "stepIn", "stepOut"):
            self._stepping = True
        elif command == "pause":
            arguments = {**arguments, "threadId": "*"}  # stopped together, on together
        return self._tracer.request(command, arguments)

    @property
    def _stopped(self) -> bool:
        return self._tracer is not None and bool(self._tracer.stops)

    def cell_ended(self) -> None:
        """Tidy up after a cell.  The thread that has run it."""
        if self._tracer is not None:
            self._tracer.cell_ended(self._stepping)

    def _event(self, event: Content) -> None:
        """Publish an event of pydevd.  The reading thread."""
        if event["event"] == "stopped":
            self._stepping = False
        cell = self._kernel.main.running
        request = cell if cell is not None and cell.started else self._request  # or it would come before the busy
        if self._started and request is not None:
            request.publish("debug_event", event)
        if event["event"] == "terminated":
            self._ended()

    def _ended(self) -> None:
        self._started = self._stepping = False
        sys.breakpointhook = sys.__breakpointhook__


# -- looking at objects ------------------------------------------------------------------------------------

_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother, _brief.maxlong = 4, 1000, 1000, 200
_brief.maxlist = _brief.maxtuple = _brief.maxset = _brief.maxfrozenset = _brief.maxdict = 30
_looked_at: list[tuple[Content, Content]] = []


def look(value: Any) -> None:
    """Leave a value's mime bundle for `richInspectVariables`: an expression that it evaluates in a frame."""
    _looked_at.append(display.bundle(value))


def _children(value: Any) -> list[tuple[str, Any]]:
    """Return the parts of an object, by name: items, elements or attributes."""
    if isinstance(value, dict):
        return [(_brief.repr(key), part) for key, part in dict.copy(value).items()][:CHILDREN]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(str(number), part) for number, part in enumerate(list(value)[:CHILDREN])]
    if isinstance(value, (type, ModuleType, FunctionType)):
        return []
    attributes = getattr(value, "__dict__", None)
    return [(str(name), part) for name, part in attributes.copy().items()] if type(attributes) is dict else []


def murmur2(data: bytes, seed: int) -> int:
    """Return the 32-bit MurmurHash2 of `data`, by which JupyterLab names cells."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (seed ^ len(data)) & mask
    whole = len(data) & ~3
    for (word,) in _WORD.iter_unpack(data[:whole]):
        k = word * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if whole != len(data):
        h = ((h ^ int.from_bytes(data[whole:], "little")) * m) & mask
    h = ((h ^ h >> 13) * m) & mask
    return h ^ h >> 15
