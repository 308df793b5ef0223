"""Every message of the protocol, as one table.

The table is the protocol as this kernel speaks it: dispatch completes requests from it and refuses what does
not fit, the tests hold every message on every channel against it, and the tools print it.  Sections are those
of "Messaging in Jupyter"; extra fields are always allowed, and a field that is null counts as missing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import __builtins__ as __builtins__


class BadContent(ValueError):
    """A request whose content does not fit its row of the table; `str()` of it is for the one who sent it."""


class Field(NamedTuple):
    """One field of a message's content: its types and, unless it is required, what stands for it."""

    types: tuple[type, ...]
    default: Any = ...

    @property
    def required(self) -> bool:
        return self.default is ...


class Spec(NamedTuple):
    """One message: who sends it where, what answers it, what it holds and what it is for."""

    channel: str
    sender: str
    reply: str | None
    fields: dict[str, Field]
    section: str
    about: str
    since: str = "5.0"


STR, INT, DICT, LIST, BOOL = (Field((kind,)) for kind in (str, int, dict, list, bool))


def optional(kind: type, default: Any = None) -> Field:
    """Return a field that may be missing."""
    return Field((kind,), default)


_STATUS = {"status": STR}


def _request(
    channel: str, reply: str | None, section: str, about: str, since: str = "5.0", **fields: Field
) -> Spec:
    return Spec(channel, "frontend", reply, fields, section, about, since)


def _reply(channel: str, section: str, about: str, since: str = "5.0", **fields: Field) -> Spec:
    return Spec(channel, "kernel", None, {**_STATUS, **fields}, section, about, since)


def _output(section: str, about: str, since: str = "5.0", **fields: Field) -> Spec:
    return Spec("iopub", "kernel", None, fields, section, about, since)


MESSAGES: dict[str, Spec] = {
    # -- shell -----------------------------------------------------------------------------------------
    "execute_request": _request(
        "shell control", "execute_reply", "Execute", "Run code.",
        code=STR, silent=optional(bool, False), store_history=optional(bool),
        user_expressions=optional(dict, {}), allow_stdin=optional(bool, False),
        stop_on_error=optional(bool, True),
    ),
    "execute_reply": _reply(
        "shell control", "Execute", "The code has run (ok), has failed (error), or was not begun (aborted).",
        execution_count=INT, user_expressions=optional(dict), payload=optional(list),
    ),
    "inspect_request": _request(
        "shell control", "inspect_reply", "Introspection", "What is the thing at the cursor?",
        code=STR, cursor_pos=optional(int), detail_level=optional(int, 0),
        omit_sections=optional(list, []),
    ),
    "inspect_reply": _reply(
        "shell control", "Introspection", "What is known of it.", found=BOOL, data=DICT, metadata=DICT,
    ),
    "complete_request": _request(
        "shell control", "complete_reply", "Completion", "How could the code at the cursor go on?",
        code=STR, cursor_pos=optional(int),
    ),
    "complete_reply": _reply(
        "shell control", "Completion", "What may replace the text from cursor_start to cursor_end.",
        matches=LIST, cursor_start=INT, cursor_end=INT, metadata=DICT,
    ),
    "history_request": _request(
        "shell control", "history_reply", "History", "Earlier input, and output if wanted.",
        output=optional(bool, False), raw=optional(bool, True), hist_access_type=optional(str, "tail"),
        session=optional(int, 0), start=optional(int, 1), stop=optional(int), n=optional(int),
        pattern=optional(str, "*"), unique=optional(bool, False),
    ),
    "history_reply": _reply("shell control", "History", "Rows of (session, line, input).", history=LIST),
    "is_complete_request": _request(
        "shell control", "is_complete_reply", "Code completeness", "Does Enter run this, or does it go on?",
        code=STR,
    ),
    "is_complete_reply": _reply(
        "shell control", "Code completeness", "complete, incomplete, invalid or unknown (in `status`).",
        indent=optional(str),
    ),
    "connect_request": _request(
        "shell control", "connect_reply", "Connect", "Which ports are yours?  Deprecated since 5.1.",
    ),
    "connect_reply": _reply(
        "shell control", "Connect", "The ports of the connection file.",
        shell_port=INT, iopub_port=INT, stdin_port=INT, control_port=INT, hb_port=INT,
    ),
    "comm_info_request": _request(
        "shell control", "comm_info_reply", "Comm info", "Which comms are open?", "5.1",
        target_name=optional(str),
    ),
    "comm_info_reply": _reply(
        "shell control", "Comm info", "Open comms by id, each with its target_name.", "5.1", comms=DICT,
    ),
    "kernel_info_request": _request(
        "shell control", "kernel_info_reply", "Kernel info", "Who are you, and which protocol do you speak?",
    ),
    "kernel_info_reply": _reply(
        "shell control", "Kernel info", "The kernel, its language, and what it can do.",
        protocol_version=STR, implementation=STR, implementation_version=STR, language_info=DICT,
        banner=STR, help_links=optional(list), supported_features=optional(list), debugger=optional(bool),
    ),
    # -- control ---------------------------------------------------------------------------------------
    "shutdown_request": _request(
        "control shell", "shutdown_reply", "Kernel shutdown", "End, perhaps to be started again.",
        restart=optional(bool, False),
    ),
    "shutdown_reply": _reply(
        "control shell iopub", "Kernel shutdown", "The kernel ends; iopub tells it to the other frontends.",
        restart=BOOL,
    ),
    "interrupt_request": _request(
        "control shell", "interrupt_reply", "Kernel interrupt", "Stop what runs.", "5.3",
    ),
    "interrupt_reply": _reply("control shell", "Kernel interrupt", "It has been told.", "5.3"),
    "debug_request": _request(
        "control", "debug_reply", "Debug request", "A request of the Debug Adapter Protocol.", "5.5",
        seq=optional(int, 0), command=STR, arguments=optional(dict),
    ),
    "debug_reply": Spec(
        "control", "kernel", None, {"command": optional(str), "success": optional(bool)},
        "Debug request", "The response of the Debug Adapter Protocol.", "5.5",
    ),
    "usage_request": _request(
        "control", "usage_reply", "(jupyter-resource-usage)", "How much of the machine is in use?",
    ),
    "usage_reply": Spec(
        "control", "kernel", None, {"hostname": STR, "pid": INT, "kernel_cpu": optional(float),
                                    "kernel_memory": optional(int), "cpu_count": INT},
        "(jupyter-resource-usage)", "CPU in percent, memory in bytes.",
    ),
    "create_subshell_request": _request(
        "control", "create_subshell_reply", "Create subshell", "Make another thread that runs code.", "5.5",
    ),
    "create_subshell_reply": _reply(
        "control", "Create subshell", "Its id, for the header of requests.", "5.5", subshell_id=STR,
    ),
    "delete_subshell_request": _request(
        "control", "delete_subshell_reply", "Delete subshell", "End a subshell.", "5.5", subshell_id=STR,
    ),
    "delete_subshell_reply": _reply("control", "Delete subshell", "It ends.", "5.5"),
    "list_subshell_request": _request(
        "control", "list_subshell_reply", "List subshells", "Which subshells are there?", "5.5",
    ),
    "list_subshell_reply": _reply(
        "control", "List subshells", "Their ids; the main shell has none.", "5.5", subshell_id=LIST,
    ),
    # -- comms, both ways ------------------------------------------------------------------------------
    "comm_open": Spec(
        "shell iopub", "both", None,
        {"comm_id": STR, "target_name": STR, "data": optional(dict, {}), "target_module": optional(str)},
        "Opening a Comm", "Connect an object of the frontend with one of the kernel.",
    ),
    "comm_msg": Spec("shell iopub", "both", None, {"comm_id": STR, "data": optional(dict, {})},
                     "Comm Messages", "A message between the two."),
    "comm_close": Spec("shell iopub", "both", None, {"comm_id": STR, "data": optional(dict, {})},
                       "Tearing Down Comms", "The end of the connection."),
    # -- iopub -----------------------------------------------------------------------------------------
    "status": _output("Kernel status", "busy before, idle after each request; starting once.",
                      execution_state=STR),
    "execute_input": _output("Code inputs", "What runs, for all frontends.", code=STR, execution_count=INT),
    "stream": _output("Streams (stdout, stderr, etc)", "Text that was printed.", name=STR, text=STR),
    "display_data": _output("Display data", "Something to show.", data=DICT, metadata=DICT,
                            transient=optional(dict)),
    "update_display_data": _output("Update Display Data", "Show this instead, wherever it is shown.", "5.1",
                                   data=DICT, metadata=DICT, transient=DICT),
    "execute_result": _output("Execution results", "The value of a cell.", execution_count=INT,
                              data=DICT, metadata=DICT),
    "error": _output("Execution errors", "What went wrong in a cell.",
                     ename=STR, evalue=STR, traceback=LIST),
    "clear_output": _output("Clear output", "Forget what this cell has shown.", wait=BOOL),
    "debug_event": Spec("iopub", "kernel", None, {"event": STR, "body": optional(dict)},
                        "Debug event", "An event of the Debug Adapter Protocol.", "5.5"),
    "iopub_welcome": _output("Welcome message", "A subscription is in force.", "5.4", subscription=STR),
    # -- stdin -----------------------------------------------------------------------------------------
    "input_request": Spec("stdin", "kernel", "input_reply", {"prompt": STR, "password": BOOL},
                          "Messages on the stdin ROUTER/DEALER channel", "Ask the user for a line."),
    "input_reply": Spec("stdin", "frontend", None, {"value": STR},
                        "Messages on the stdin ROUTER/DEALER channel", "The line."),
}  # fmt: skip

#: What a kernel and its launcher say before all that (``handshake``): contents that no header names.
HANDSHAKE: dict[str, Spec] = {
    "registration": Spec(
        "registration", "kernel", "acknowledgement",
        {"kernel_id": optional(str), "shell_port": STR, "iopub_port": STR, "stdin_port": STR, "control_port": STR,
         "hb_port": STR},
        "Kernel startup handshake", "These are my ports.  One signed frame; the name is not in it.", "5.6",
    ),
    "acknowledgement": Spec(
        "registration", "launcher", None, {}, "Kernel startup handshake",
        "Understood.  One signed frame with any content.", "5.6",
    ),
}  # fmt: skip


def reply_type(msg_type: str) -> str | None:
    """Return the type of the kernel's reply to a message of the table; None where it makes none."""
    spec = MESSAGES.get(msg_type)
    return spec.reply if spec is not None and spec.sender == "frontend" else None


def complete(msg_type: str, content: Any) -> dict[str, Any]:
    """Return a request's content with its missing fields filled in.

    Raises
    ------
    BadContent
        The content is no object, a required field is missing, or a field has another type.
    """
    if not isinstance(content, dict):
        raise BadContent(f"the content of {msg_type} must be an object, not {type(content).__name__}")
    spec = MESSAGES.get(msg_type)
    if spec is None:
        return content
    result = dict(content)
    for name, (types, default) in spec.fields.items():
        value = result.get(name)
        if value is None:
            if default is ...:
                raise BadContent(f"{msg_type} needs {name}")
            result[name] = default
        elif not isinstance(value, types):
            expected = " or ".join(kind.__name__ for kind in types)
            raise BadContent(f"{name} of {msg_type} must be {expected}, not {type(value).__name__}")
    return result
