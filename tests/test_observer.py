"""The observer finds each fault that is put into a genuine record, and nothing in the record itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from client import KernelProcess, alive
from observer import Observer, Record

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """What a kernel recorded that was asked all sorts of things, from its first message to its end."""
    directory = tmp_path_factory.mktemp("genuine")
    kernel = KernelProcess(directory, "--record", str(directory / "record"))
    try:
        client = kernel.client()
        client.execute("print('out')\n6 * 7")
        queued = [client.send("connect_request") for _ in range(2)]
        for msg_id in queued:
            client.finish(msg_id)
        for n in range(2):
            client.request("is_complete_request", {"code": str(n)})
        client.execute("1/0")
        asks = client.start("input()", allow_stdin=True)
        client.answer("yes")
        client.finish(asks)
        client.send("comm_open", {"comm_id": "c", "target_name": "nobody"})
        client.wait_for("iopub", lambda m: m["msg_type"] == "comm_close")
        client.execute("'the next'")
        running = client.start("import time\nprint('go')\nwhile not globals().get('stop'): time.sleep(0.01)")
        client.output(running, "go")
        client.request("kernel_info_request", channel="control")
        client.request("complete_request", {"code": "ru", "cursor_pos": 2})
        subshell = client.create_subshell()
        client.execute("stop = True", subshell)
        client.finish_rest(running)
        client.request("kernel_info_request")
        client.send("shutdown_request", {"restart": False}, "control")
        assert kernel.wait() == 0
    finally:
        kernel.close()
    return [json.loads(line) for line in (directory / "record").read_text().splitlines()]


def take(lines: Lines) -> Record:
    record = Record()
    for line in lines:
        record.take(json.loads(json.dumps(line)))
    return record


def test_nothing_is_wrong_with_a_genuine_record(genuine: Lines) -> None:
    assert take(genuine).ended


def test_a_kernel_may_be_killed_at_any_moment(genuine: Lines) -> None:
    for end in range(len(genuine)):
        take(genuine[:end])


def test_output_may_come_late(genuine: Lines) -> None:
    lines = deepcopy(genuine)
    lines.insert(find(lines, "status", "idle") + 1, lines[find(lines, "stream")])
    take(lines)


# -- faults --------------------------------------------------------------------------------------------------


def find(lines: Lines, msg_type: str, state: str | None = None, of: str | None = None, code: str = "") -> int:
    """Return where the first message of a type (and state) is that answers a request of a type (with `code`)."""
    codes = {
        line["header"]["msg_id"]: str(line["content"].get("code", ""))
        for line in lines
        if line["direction"] == "in" and "refused" not in line
    }
    for index, line in enumerate(lines):
        if line["direction"] == "end" or line["header"]["msg_type"] != msg_type:
            continue
        parent = line["parent_header"]
        if (
            (of is None or parent.get("msg_type") == of)
            and (state is None or line["content"]["execution_state"] == state)
            and (not code or code in codes.get(parent.get("msg_id"), ""))
        ):
            return index
    raise LookupError(f"{state or msg_type} of {of}")


def without(*what: Any, **more: Any) -> Callable[[Lines], None]:
    """Take one message away."""

    def fault(lines: Lines) -> None:
        del lines[find(lines, *what, **more)]

    return fault


def without_all(msg_type: str | None, state: str | None, of: str) -> Callable[[Lines], None]:
    """Take away all messages (of a type and state) that answer requests of a type."""

    def fault(lines: Lines) -> None:
        lines[:] = [
            line
            for line in lines
            if line.get("parent_header", {}).get("msg_type") != of
            or (msg_type is not None and line["header"]["msg_type"] != msg_type)
            or (state is not None and line["content"]["execution_state"] != state)
        ]

    return fault


def twice(*what: Any, **more: Any) -> Callable[[Lines], None]:
    """Repeat one message."""

    def fault(lines: Lines) -> None:
        index = find(lines, *what, **more)
        lines.insert(index, lines[index])

    return fault


def exchanged(one: tuple[str, ...], other: tuple[str, ...]) -> Callable[[Lines], None]:
    """Let two messages change places."""

    def fault(lines: Lines) -> None:
        a, b = find(lines, *one), find(lines, *other)
        lines[a], lines[b] = lines[b], lines[a]

    return fault


def changed(what: tuple[str, ...], path: str, value: Any = ...) -> Callable[[Lines], None]:
    """Give the field at the dotted path another value, or take it away."""

    def fault(lines: Lines) -> None:
        line: Any = lines[find(lines, *what)]
        *way, last = path.split(".")
        for name in way:
            line = line[name]
        if value is ...:
            del line[last]
        else:
            line[last] = value

    return fault


def lost(lines: Lines) -> None:
    """No answer at all to the first of two queued requests."""
    asked = lines[find(lines, "connect_request")]["header"]
    lines[:] = [line for line in lines if line.get("parent_header") != asked]


def overtaken(lines: Lines) -> None:
    """Of two requests to one thread, the later is answered first."""
    later = lines.pop(find(lines, "create_subshell_request"))
    lines.insert(find(lines, "kernel_info_request"), later)


def unasked_busy(lines: Lines) -> None:
    """The cell that runs beside says so again, though nothing has become idle."""
    index = find(lines, "stream", None, "execute_request", code="stop")
    lines.insert(index, lines[find(lines, "status", "busy", "execute_request", code="while")])


def hidden(lines: Lines) -> None:
    """An idle beside a running cell, without the busy behind it."""
    index = find(lines, "status", "idle", "kernel_info_request") + 1
    while lines[index]["direction"] == "in":
        index += 1
    assert lines[index]["content"]["execution_state"] == "busy"
    del lines[index]


def forbidden(lines: Lines) -> None:
    """A question of a request that does not allow any."""
    asked = lines[find(lines, "input_request")]["parent_header"]
    next(line for line in lines if line.get("header") == asked)["content"]["allow_stdin"] = False


def replied_comm(lines: Lines) -> None:
    reply = deepcopy(lines[find(lines, "connect_reply")])
    index = find(lines, "status", "idle", "comm_open")
    reply["parent_header"] = lines[index]["parent_header"]
    lines.insert(index, reply)


def late(msg_type: str, of: str) -> Callable[[Lines], None]:
    """A message after the idle of its request."""

    def fault(lines: Lines) -> None:
        message = lines.pop(find(lines, msg_type, None, of))
        parent = message["parent_header"]
        idle = next(
            index
            for index, line in enumerate(lines)
            if line.get("parent_header") == parent and line["content"].get("execution_state") == "idle"
        )
        lines.insert(idle + 1, message)

    return fault


CELL = "execute_request"
INFO = "kernel_info_request"
FAULTS: dict[str, tuple[Callable[[Lines], None], str]] = {
    # the bracket
    "no busy": (without("status", "busy", CELL), "comes before its busy"),
    "two busy": (twice("status", "busy", CELL), "a second busy"),
    "busy after the first output": (exchanged(("status", "busy", CELL), ("execute_input",)), "before its busy"),
    "busy after idle": (exchanged(("status", "busy", INFO), ("status", "idle", INFO)), "before its busy"),
    "no idle": (without("status", "idle", CELL, code="1/0"), "begins before .* has ended"),
    "no idle at the end": (without("status", "idle", "shutdown_request"), "the kernel ended before shutdown_request"),
    "two idle": (twice("status", "idle", CELL), "idle of .* comes after its idle"),
    "no reply": (without("execute_reply"), "has no reply"),
    "two replies": (twice("execute_reply"), "a second reply"),
    "a reply after idle": (late("connect_reply", "connect_request"), "has no reply"),
    "a reply before busy": (exchanged(("kernel_info_reply",), ("status", "busy", INFO)), "comes before its busy"),
    "a reply of another type": (changed(("connect_reply",), "header.msg_type", "interrupt_reply"), "is answered by"),
    "a reply on another channel": (changed(("connect_reply",), "channel", "control"), "is answered on control"),
    "a reply to another frontend": (changed(("connect_reply",), "idents", ["00"]), "goes to"),
    "a reply to a comm": (replied_comm, "is answered by connect_reply"),
    "a result after idle": (late("execute_result", CELL), "comes after its idle"),
    "an error after idle": (late("error", CELL), "comes after its idle"),
    "a question after idle": (late("input_request", CELL), "comes after its idle"),
    "a question to another frontend": (changed(("input_request",), "idents", ["00"]), "asks"),
    "a question that was not allowed": (forbidden, "does not allow to ask"),
    "an idle that hides a cell": (hidden, "hides that"),
    "a busy too many beside": (unasked_busy, "a second busy"),
    # the order
    "a lost request": (lost, "begins before connect_request .* has begun"),
    "an answer out of order": (overtaken, "begins before"),
    "no idle of what may be answered beside": (without_all("status", "idle", "is_complete_request"), "has ended"),
    "no idle of a comm": (without("status", "idle", "comm_open"), "begins before comm_open .* has ended"),
    "a lost comm": (without_all(None, None, "comm_open"), "begins before comm_open .* has begun"),
    "a request that has not arrived": (without(CELL), "has not arrived"),
    "something before starting": (exchanged(("status", "starting"), ("iopub_welcome",)), "starting comes first"),
    "two starting": (twice("status", "starting"), "starting comes first"),
    "something after the end": (lambda lines: lines.append(lines[0]), "after the end"),
    # the parent
    "no parent": (changed(("stream",), "parent_header", {}), "has no parent"),
    "a parent where there is none": (changed(("status", "starting"), "parent_header", {"msg_id": "x"}), "has a parent"),
    "half a parent": (changed(("stream",), "parent_header.username"), "has not arrived"),
    "another's parent": (changed(("stream",), "parent_header.msg_id", "x"), "has not arrived"),
    # the table
    "an unknown type": (changed(("stream",), "header.msg_type", "output"), "not in the table"),
    "a frontend's type": (changed(("stream",), "header.msg_type", CELL), "not the kernel's"),
    "a wrong channel": (changed(("stream",), "channel", "shell"), "stream on shell"),
    "a missing field": (changed(("kernel_info_reply",), "content.banner"), "lacks banner"),
    "a null": (changed(("execute_result",), "content.data", None), "lacks data"),
    "a wrong type": (changed(("execute_input",), "content.execution_count", "1"), "execution_count of execute_input"),
    "a reply without status": (changed(("kernel_info_reply",), "content.status"), "lacks status"),
    "an error without a name": (changed(("execute_reply", None, CELL), "content.status", "error"), "'status': 'error'"),
    "an empty stream": (changed(("stream",), "content.text", ""), "an empty stream"),
    "a header without date": (changed(("stream",), "header.date"), "lacks date"),
    "a date without a zone": (changed(("stream",), "header.date", "2026-01-01T00:00:00.0"), "2026"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(genuine: Lines, name: str) -> None:
    fault, reason = FAULTS[name]
    lines = deepcopy(genuine)
    fault(lines)
    with pytest.raises(AssertionError, match=reason):
        take(lines)


# -- the files -----------------------------------------------------------------------------------------------


def text(lines: Lines) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_a_record_is_read_as_it_grows_and_removed_at_its_end(genuine: Lines, tmp_path: Path) -> None:
    living, dead = tmp_path / f"kernel-{os.getpid()}.jsonl", tmp_path / "kernel-4194305.jsonl"  # above any pid
    dead.write_text(text(genuine) + '{"time": 1, "direct')
    observer = Observer(tmp_path, alive)
    whole = text(genuine)
    for end in (0, 10, len(whole) // 2, len(whole)):
        living.write_text(whole[:end])
        observer.check()
        assert living.exists() and not dead.exists()
    assert observer.count == 2 * len(genuine)


def test_a_fault_in_a_file_is_told(genuine: Lines, tmp_path: Path) -> None:
    lines = deepcopy(genuine)
    FAULTS["no reply"][0](lines)
    (tmp_path / f"kernel-a-{os.getpid()}.jsonl").write_text(text(lines))
    (tmp_path / f"kernel-b-{os.getpid()}.jsonl").write_text(text(genuine))
    observer = Observer(tmp_path, alive)
    with pytest.raises(AssertionError, match=r"kernel-a-\d+.jsonl: execute_request .* has no reply\n  at byte"):
        observer.check()
    observer.check()  # once is enough
    assert [path.name for path in tmp_path.iterdir()] == [f"kernel-b-{os.getpid()}.jsonl"]
