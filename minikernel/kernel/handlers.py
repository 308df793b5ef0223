"""The handlers: what each request means.  A handler bears its message's name and returns the reply's content.

What a request asks of the language is the interpreter's; here are the protocol's rules around it: counts,
silence, history, aborting the queue ("Messaging in Jupyter: Messages on the shell ROUTER/DEALER channel").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from .. import __version__
from ..protocol.messages import BadContent
from ..protocol.wire import PROTOCOL_VERSION
from .subshells import UnknownSubshellError

if TYPE_CHECKING:
    from .kernel import Handler
    from .request import Request

Content = dict[str, Any]


def kernel_info_request(request: Request) -> Content:
    kernel = request.kernel
    return {
        "protocol_version": PROTOCOL_VERSION,
        "implementation": "minikernel",
        "implementation_version": __version__,
        "language_info": kernel.language.info,
        "banner": kernel.language.banner,
        "help_links": kernel.language.help_links,
        "supported_features": ["kernel subshells", *(["debugger"] if kernel.debugger else [])],
        "debugger": kernel.debugger,
    }


def execute_request(request: Request) -> Content:
    """Run code.

    `silent` code is not counted, kept or shown to other frontends; what it prints is shown all the same, or
    nobody would see a library's warning.  Code that is not stored shows the count of the last that was.
    """
    kernel, worker, content = request.kernel, request.worker, request.content
    kernel.sessions.add(str(request.header.get("session")))
    code, silent = content["code"], content["silent"]
    store = not silent if content["store_history"] is None else content["store_history"] and not silent
    store = store and code != ""
    interpreter = kernel.interpreter
    if store:
        worker.execution_count += 1
    count = worker.execution_count
    request.execution_count, request.stored = count, store and worker is kernel.main
    if not silent:
        request.publish("execute_input", {"code": code, "execution_count": count})
    if request.stored:
        kernel.history.add(count, code)
    error = interpreter.execute(request)
    reply: Content = {
        "status": "ok",
        "execution_count": count,
        "user_expressions": {},
        "payload": request.payload,
    }
    if error is None:
        reply["user_expressions"] = interpreter.evaluate(content["user_expressions"])
        return reply
    if content["stop_on_error"] and not silent:
        # What has arrived was sent by someone who could not know of the error; what comes later was not.
        worker.aborted = kernel.channels.catch_up()
    return reply | error | {"status": "error"}


def complete_request(request: Request) -> Content:
    code, cursor_pos = _code_and_cursor(request)
    return request.kernel.interpreter.complete(code, cursor_pos)


def inspect_request(request: Request) -> Content:
    code, cursor_pos = _code_and_cursor(request)
    data = request.kernel.interpreter.inspect(code, cursor_pos, request.content["detail_level"])
    return {"found": bool(data), "data": data, "metadata": {}}


def is_complete_request(request: Request) -> Content:
    return request.kernel.interpreter.is_complete(request.content["code"])


def history_request(request: Request) -> Content:
    asked = request.content
    history = request.kernel.history
    kind = asked["hist_access_type"]
    if kind == "tail":
        rows = history.tail(asked["n"])
    elif kind == "range":
        rows = history.range(asked["session"], asked["start"], asked["stop"])
    elif kind == "search":
        rows = history.search(asked["pattern"], asked["n"], asked["unique"])
    else:
        raise BadContent(f"hist_access_type must be tail, range or search, not {kind!r}")
    shown = [(row, row.source_raw if asked["raw"] else row.source) for row in rows]
    if not asked["output"]:
        return {"history": [[row.session, row.line, source] for row, source in shown]}
    return {"history": [[row.session, row.line, [source, row.output]] for row, source in shown]}


def comm_info_request(request: Request) -> Content:
    return {"comms": request.kernel.comms.info(request.content["target_name"])}


def comm_open(request: Request) -> None:
    request.kernel.comms.comm_open(request)


def comm_msg(request: Request) -> None:
    request.kernel.comms.comm_msg(request)


def comm_close(request: Request) -> None:
    request.kernel.comms.comm_close(request)


def connect_request(request: Request) -> Content:
    return {name: port for name, port in request.kernel.info.items() if name.endswith("_port")}


def interrupt_request(request: Request) -> Content:
    request.kernel.interrupt()
    return {}


def shutdown_request(request: Request) -> None:
    """Answer, tell the other frontends, and end after the idle."""
    content = {"status": "ok", "restart": request.content["restart"]}
    request.reply("shutdown_reply", content)
    request.publish("shutdown_reply", content)
    request.afterwards = request.kernel.quit


def usage_request(request: Request) -> Content:
    from .usage import usage

    return usage()


def debug_request(request: Request) -> Content:
    return request.kernel.interpreter.debug(request)


def create_subshell_request(request: Request) -> Content:
    return {"subshell_id": request.kernel.subshells.create()}


def delete_subshell_request(request: Request) -> Content:
    kernel, subshell_id = request.kernel, request.content["subshell_id"]
    # where requests are handed to it: none can come behind its end
    worker = kernel.channels.ask(lambda: kernel.subshells.delete(subshell_id))
    if worker is None:
        raise UnknownSubshellError(subshell_id)
    return {}


def list_subshell_request(request: Request) -> Content:
    return {"subshell_id": request.kernel.subshells.ids()}


def _code_and_cursor(request: Request) -> tuple[str, int]:
    code, cursor_pos = request.content["code"], request.content["cursor_pos"]
    if cursor_pos is None:
        cursor_pos = len(code)
    if not 0 <= cursor_pos <= len(code):
        raise BadContent(f"cursor_pos {cursor_pos} is outside of the code, which has {len(code)} characters")
    return code, cursor_pos


def _table(*functions: Handler) -> dict[str, Handler]:
    return {function.__name__: function for function in functions}


_EVERYWHERE = (
    kernel_info_request,
    complete_request,
    inspect_request,
    is_complete_request,
    history_request,
    comm_info_request,
    connect_request,
    interrupt_request,
    shutdown_request,
)
SHELL: dict[str, Handler] = _table(*_EVERYWHERE, execute_request, comm_open, comm_msg, comm_close)
#: What is answered beside user code.  An execute_request that comes on control is a worker's of shell.
CONTROL: dict[str, Handler] = _table(
    *_EVERYWHERE,
    usage_request,
    debug_request,
    create_subshell_request,
    delete_subshell_request,
    list_subshell_request,
)
