"""Kernels with one fault each, for tests of what should find it: ``python mutants.py FAULT -f FILE``.

Each is our own kernel, in which one function does something else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from minikernel.__main__ import main
from minikernel.kernel import handlers, interrupt, kernel
from minikernel.protocol import channels, wire
from minikernel.python import interpreter

FAULTS: dict[str, Callable[[], None]] = {}


def fault(function: Callable[[], None]) -> Callable[[], None]:
    FAULTS[function.__name__] = function
    return function


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Replace a function by one that gets the original as its first argument."""

    def replace(other: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: other(original, *args, **kwargs))

    return replace


def execute(change: Callable[[dict[str, Any]], Any]) -> None:
    """Have execute_request see another content than was sent."""
    original = handlers.SHELL["execute_request"]

    def changed(request: Any) -> Any:
        change(request.content)
        return original(request)

    handlers.SHELL["execute_request"] = changed


def packed(msg_type: str, change: Callable[[list[Any], wire.Session], Any]) -> None:
    """Change the frames of what the kernel sends, from the delimiter on."""

    @wrap(wire.Session, "pack")
    def pack(original: Any, self: wire.Session, name: str, *args: Any, **kwargs: Any) -> Any:
        frames = original(self, name, *args, **kwargs)
        if name == msg_type:
            at = frames.index(wire.DELIMITER)
            rest = frames[at:]
            change(rest, self)
            frames[at:] = rest
        return frames


def signed(rest: list[Any], session: wire.Session) -> None:
    rest[1] = session.sign(rest[2:6])


@fault
def loses_an_idle() -> None:
    @wrap(kernel.Kernel, "_publish_status")
    def publish(original: Any, self: Any, request: Any, state: str, *args: Any, **kwargs: Any) -> None:
        if (request.msg_type, state) != ("complete_request", "idle"):
            original(self, request, state, *args, **kwargs)


@fault
def shows_a_result_after_idle() -> None:
    held: list[Any] = []

    @wrap(channels.Channels, "send")
    def send(original: Any, self: Any, channel: str, msg_type: str, *args: Any, **kwargs: Any) -> None:
        if msg_type == "execute_result":
            held.append((args, kwargs))
            return
        original(self, channel, msg_type, *args, **kwargs)
        if held and args[0].get("execution_state") == "idle":
            args, kwargs = held.pop()
            original(self, "iopub", "execute_result", *args, **kwargs)


@fault
def forgets_a_parent() -> None:
    def change(rest: list[Any], session: wire.Session) -> None:
        rest[3] = b"{}"
        signed(rest, session)

    packed("execute_input", change)


@fault
def rewrites_a_parent() -> None:
    def change(rest: list[Any], session: wire.Session) -> None:
        rest[3] = rest[3].replace(b'"username":"', b'"username":"not ')
        signed(rest, session)

    packed("execute_reply", change)


@fault
def does_not_sign() -> None:
    packed("execute_input", lambda rest, session: rest.__setitem__(1, b""))


@fault
def leaves_out_the_zone() -> None:
    now = wire.now
    wire.now = lambda: now().removesuffix("Z")


@fault
def uses_a_msg_id_twice() -> None:
    wire.Session.new_id = lambda self: f"{self.id}_1"  # type: ignore[method-assign]


@fault
def verifies_nothing() -> None:
    wire.Session.verify = lambda *_: None  # type: ignore[method-assign]


@fault
def obeys_twice() -> None:
    wire.Session._refuse_replay = lambda *_: None  # type: ignore[method-assign]


@fault
def dies_of_bad_json() -> None:
    loads = wire.loads
    wire.loads = lambda frame, **strict: {}["no key"] if frame == b"{" else loads(frame, **strict)  # type: ignore[misc]


@fault
def loses_routing_ids() -> None:
    @wrap(wire.Session, "unpack")
    def unpack(original: Any, *args: Any) -> Any:
        message = original(*args)
        return message._replace(idents=message.idents[:1])


@fault
def welcomes_the_first_alone() -> None:
    welcomed: list[Any] = []

    @wrap(wire.Session, "pack")
    def pack(original: Any, self: wire.Session, name: str, *args: Any, **kwargs: Any) -> Any:
        welcomed.extend([name] * (name == "iopub_welcome"))
        return original(self, "unheard_of" if name == "iopub_welcome" and welcomed[1:] else name, *args, **kwargs)


@fault
def runs_the_queue_after_an_error() -> None:
    channels.Channels.catch_up = lambda self: 0  # type: ignore[method-assign]


@fault
def always_aborts() -> None:
    execute(lambda content: content.update(stop_on_error=True))


@fault
def is_never_silent() -> None:
    execute(lambda content: content.update(silent=False))


@fault
def counts_what_is_not_stored() -> None:
    execute(lambda content: content.update(store_history=True))


@fault
def asks_whoever_it_is() -> None:
    execute(lambda content: content.update(allow_stdin=True))


@fault
def reports_no_error() -> None:
    @wrap(channels.Channels, "send")
    def send(original: Any, self: Any, channel: str, msg_type: str, *args: Any, **kwargs: Any) -> None:
        if msg_type != "error":
            original(self, channel, msg_type, *args, **kwargs)


@fault
def fails_with_an_expression() -> None:
    @wrap(interpreter.Interpreter, "evaluate")
    def evaluate(original: Any, self: Any, expressions: dict[str, str]) -> Any:
        results = original(self, expressions)
        if any(result["status"] == "error" for result in results.values()):
            raise RuntimeError("an expression has failed")
        return results


@fault
def counts_in_utf_16() -> None:
    original = handlers.SHELL["complete_request"]

    def complete(request: Any) -> Any:
        code = request.content["code"]
        content = original(request)
        for name in ("cursor_start", "cursor_end"):
            content[name] = len(code[: content[name]].encode("utf-16-le")) // 2
        return content

    handlers.SHELL["complete_request"] = complete


@fault
def has_no_heartbeat() -> None:
    channels.Channels._beat = lambda self: None  # type: ignore[method-assign]


@fault
def cannot_be_interrupted() -> None:
    interrupt.on_sigint = lambda *_: None  # type: ignore[assignment]


@fault
def dies_of_ctrl_c() -> None:
    interrupt.on_sigint = lambda *_: os._exit(1)  # type: ignore[assignment]


@fault
def forgets_the_restart() -> None:
    original = handlers.CONTROL["shutdown_request"]

    def shutdown(request: Any) -> Any:
        request.content["restart"] = False
        return original(request)

    handlers.CONTROL["shutdown_request"] = shutdown


@fault
def never_ends() -> None:
    kernel.Kernel.quit = lambda self: None  # type: ignore[method-assign]


@fault
def runs_what_is_for_no_subshell() -> None:
    @wrap(kernel.Kernel, "_receive")
    def receive(original: Any, self: Any, channel: str, message: wire.Message) -> None:
        if message.header.get("subshell_id") not in (None, *self.subshells.ids()):
            message.header.pop("subshell_id")
        original(self, channel, message)


@fault
def floods_and_never_answers() -> None:
    original = handlers.SHELL["execute_request"]

    def execute_request(request: Any) -> Any:
        while request.worker.execution_count:  # all but the first
            request.publish("stream", {"name": "stdout", "text": "more"})
            time.sleep(0.001)
        return original(request)

    handlers.SHELL["execute_request"] = execute_request


@fault
def has_no_file_extension() -> None:
    @wrap(handlers, "kernel_info_request")
    def kernel_info(original: Any, request: Any) -> Any:
        content = original(request)
        return content | {"language_info": {**content["language_info"], "file_extension": None}}

    handlers.SHELL["kernel_info_request"] = handlers.CONTROL["kernel_info_request"] = handlers.kernel_info_request


if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    main(sys.argv[2:])
