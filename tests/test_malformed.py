"""What a peer does wrong costs the kernel a line on stderr, and a client that can be answered gets an answer.

On the wire ("Messaging in Jupyter: The Wire Protocol"): dropped, without a reply and without a status.
In a content ("Request / Reply"): an error reply of the request's own type, between busy and idle.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from client import Client, KernelProcess

from minikernel.protocol.iopub import LARGEST
from minikernel.protocol.wire import DELIMITER, EMPTY, Session

Frames = list[bytes]


def frames_of(client: Client, msg_type: str = "kernel_info_request", content: bytes = EMPTY) -> Frames:
    """A genuine request, from the delimiter on."""
    return signed(client, json.dumps(client.session.msg_header(msg_type), default=str).encode(), content=content)


def signed(
    client: Client, header: bytes, parent: bytes = EMPTY, metadata: bytes = EMPTY, content: bytes = EMPTY
) -> Frames:
    """Any four frames with the right signature, from the delimiter on."""
    four = [header, parent, metadata, content]
    return [DELIMITER, Session(client.info["key"].encode()).sign(four), *four]


HEADER = b'{"msg_id": "m", "msg_type": "kernel_info_request"}'
DEEP = b"[" * 100_000 + b"]" * 100_000

MALFORMED: dict[str, Callable[[Client], Frames]] = {
    "an empty message": lambda client: [b""],
    "no delimiter": lambda client: frames_of(client)[1:],
    "nothing after the delimiter": lambda client: [DELIMITER],
    "too few frames": lambda client: frames_of(client)[:-1],
    "no signature": lambda client: [DELIMITER, b"", *frames_of(client)[2:]],
    "a wrong signature": lambda client: [DELIMITER, b"0" * 64, *frames_of(client)[2:]],
    "a signature that is no text": lambda client: [DELIMITER, os.urandom(32), *frames_of(client)[2:]],
    "the signature of another key": lambda client: [
        DELIMITER, Session(b"another").sign(frames_of(client)[2:]), *frames_of(client)[2:]
    ],
    "another content": lambda client: [*frames_of(client)[:-1], b'{"code": "1"}'],
    "a header that is not JSON": lambda client: signed(client, b"{"),
    "a header that is no text": lambda client: signed(client, b"\xff\xfe"),
    "a header that is a list": lambda client: signed(client, b"[]"),
    "a header that is null": lambda client: signed(client, b"null"),
    "a header without msg_id": lambda client: signed(client, b'{"msg_type": "kernel_info_request"}'),
    "a header whose msg_type is a number": lambda client: signed(client, b'{"msg_id": "m", "msg_type": 5}'),
    "a header with NaN": lambda client: signed(client, HEADER[:-1] + b', "x": NaN}'),
    "a content that is not JSON": lambda client: signed(client, HEADER, content=b"{'code': 1}"),
    "a content without an end": lambda client: signed(client, HEADER, content=DEEP),
    "a parent that is not JSON": lambda client: signed(client, HEADER, parent=b""),
    "metadata that is not JSON": lambda client: signed(client, HEADER, metadata=b"\0"),
    "10 MB of garbage": lambda client: [os.urandom(10_000_000)],
    "10 MB of signed garbage": lambda client: signed(client, os.urandom(10_000_000)),
    "10,000 frames": lambda client: [b"x"] * 10_000,
}  # fmt: skip


def send(client: Client, channel: str, frames: Frames) -> None:
    client.sockets[channel].send_multipart(frames)


def unread(client: Client) -> int:
    """How many messages nobody has asked for; an early client has one, the kernel's "starting"."""
    return sum(map(len, client.heard.values()))


def assert_unheard(client: Client, channel: str = "shell") -> None:
    """Ask something: only this being answered shows that nothing before it was, for channels keep their order."""
    before, kept = len(client.iopub), unread(client)
    run = client.request("kernel_info_request", channel=channel)
    assert run.status == "ok"
    assert {m["parent_header"]["msg_id"] for m in client.iopub[before:]} == {run.message["parent_header"]["msg_id"]}
    assert unread(client) == kept


@pytest.mark.parametrize("channel", ["shell", "control", "stdin"])
@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_dropped(shared: Client, case: str, channel: str) -> None:
    send(shared, channel, MALFORMED[case](shared))
    assert_unheard(shared, "shell" if channel == "stdin" else channel)
    assert shared.execute("6 * 7").result == "42"


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_a_replayed_request_is_dropped(shared: Client, channel: str) -> None:
    frames = frames_of(shared)
    send(shared, channel, frames)
    msg_id = json.loads(frames[2])["msg_id"]
    assert shared.finish(msg_id, channel).status == "ok"
    for _ in range(3):
        send(shared, channel, frames)
        assert_unheard(shared, channel)
    send(shared, "control" if channel == "shell" else "shell", frames)  # nor elsewhere
    assert_unheard(shared)
    assert_unheard(shared, "control")


def test_replayed_code_does_not_run_again(shared: Client) -> None:
    shared.execute("runs = 0", silent=True)
    frames = frames_of(shared, "execute_request", b'{"code": "runs += 1"}')
    for _ in range(3):
        send(shared, "shell", frames)
    shared.finish(json.loads(frames[2])["msg_id"])
    assert shared.execute("runs").result == "1"


def test_the_other_sockets_take_garbage_too(kernel: KernelProcess) -> None:
    client = kernel.client()
    for frame in (
        b"",
        b"\x01\xff\xfe",
        b"\x01" + b"x" * LARGEST,
        b"\x00gone",
        b"junk",
        b"\xff" + os.urandom(1_000_000),
    ):
        subscriber = client.context.socket(zmq.XSUB)
        subscriber.linger = 5000
        subscriber.connect(f"tcp://127.0.0.1:{client.info['iopub_port']}")
        subscriber.send_multipart([frame, b"more"])
        subscriber.close()
    for name in ("shell", "control", "iopub", "stdin", "hb"):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(100_000), b"\xff\0\0\0\0\0\0\0\x01\x7f", b""):
            with socket.create_connection(("127.0.0.1", client.info[f"{name}_port"])) as raw:
                try:
                    raw.sendall(garbage)
                except OSError:
                    pass  # hung up on, which is right
    assert client.beats()
    assert client.execute("1 + 1").result == "2"
    assert kernel.client().execute("2 + 2").result == "4"


def test_a_flood_leaves_a_few_lines(kernel: KernelProcess) -> None:
    client = kernel.client()
    for case in ("no delimiter", "a wrong signature", "a header that is not JSON"):
        frames = MALFORMED[case](client)
        for _ in range(1000):
            send(client, "shell", frames)
        assert_unheard(client)
    said = kernel.stderr().splitlines()
    assert 0 < len(said) < 20, said
    assert all(line.startswith("[minikernel] ") and len(line) < 200 for line in said), said
    assert client.info["key"] not in kernel.stderr()


# -- requests that can be answered ------------------------------------------------------------------------

#: Requests whose content lacks a field or has one of the wrong type.
WRONG = [
    ("execute_request", {}),
    ("execute_request", {"code": None}),
    ("execute_request", {"code": 1}),
    ("execute_request", {"code": ["1"]}),
    ("execute_request", {"code": "1", "silent": "no"}),
    ("execute_request", {"code": "1", "store_history": 3.5}),
    ("execute_request", {"code": "1", "user_expressions": []}),
    ("execute_request", {"code": "1", "allow_stdin": {}}),
    ("complete_request", {}),
    ("complete_request", {"cursor_pos": 0}),
    ("complete_request", {"code": 5, "cursor_pos": 0}),
    ("complete_request", {"code": "a", "cursor_pos": "end"}),
    ("complete_request", {"code": "a", "cursor_pos": 1.5}),
    ("complete_request", {"code": "a", "cursor_pos": 2}),
    ("complete_request", {"code": "a", "cursor_pos": -1}),
    ("complete_request", {"code": "", "cursor_pos": 10**30}),
    ("inspect_request", {}),
    ("inspect_request", {"code": "print", "cursor_pos": 6}),
    ("inspect_request", {"code": "print", "cursor_pos": 5, "detail_level": "1"}),
    ("is_complete_request", {}),
    ("is_complete_request", {"code": 1}),
    ("history_request", {"hist_access_type": "all"}),
    ("history_request", {"hist_access_type": 5}),
    ("history_request", {"hist_access_type": "tail", "n": "ten"}),
    ("history_request", {"hist_access_type": "range", "start": "1"}),
    ("history_request", {"hist_access_type": "search", "pattern": 5}),
    ("comm_info_request", {"target_name": 5}),
    ("shutdown_request", {"restart": "yes"}),
]


def assert_refused(client: Client, msg_type: str, content: Any, channel: str = "shell") -> None:
    run = client.request(msg_type, content, channel)
    assert run.message["msg_type"] == msg_type.replace("_request", "_reply")
    assert run.status == "error", run.reply
    assert run.reply["ename"] and run.reply["evalue"] and isinstance(run.reply["traceback"], list)
    assert run.types == ["status", "status"]


@pytest.mark.parametrize(("msg_type", "content"), WRONG)
def test_a_wrong_content_is_answered(shared: Client, msg_type: str, content: Any) -> None:
    assert_refused(shared, msg_type, content)
    assert shared.execute("1").status == "ok"


@pytest.mark.parametrize("content", [[], ["code"], "code", 5, True, float("nan")])
@pytest.mark.parametrize(
    "msg_type", sorted({"kernel_info_request", "connect_request", *(name for name, _ in WRONG)})
)
def test_a_content_that_is_no_object_is_answered(shared: Client, msg_type: str, content: Any) -> None:
    header = shared.session.msg_header(msg_type)
    frame = json.dumps(header, default=str).encode()
    send(shared, "shell", signed(shared, frame, content=json.dumps(content).encode()))
    run = shared.finish(header["msg_id"])
    assert (run.message["msg_type"], run.status) == (msg_type.replace("_request", "_reply"), "error")
    assert run.types == ["status", "status"]


@pytest.mark.parametrize("msg_type", ["kernel_info_request", "interrupt_request", "shutdown_request"])
def test_control_answers_a_wrong_content(shared: Client, msg_type: str) -> None:
    header = shared.session.msg_header(msg_type)
    frame = json.dumps(header, default=str).encode()
    send(shared, "control", signed(shared, frame, content=b"[]"))
    assert shared.finish(header["msg_id"], "control").status == "error"
    assert shared.execute("1").status == "ok"


@pytest.mark.parametrize(
    "code",
    [
        "\0",
        "'\ud83d'",
        "\ud83d = 1",
        "print('\ud83d')",
        "\ufeff1",
        "x = 1\x1a",
        "(" * 10_000,
        "\r",
        "\x0c1",
        "1" * 5000,
    ],
)
def test_any_text_as_code_is_answered(shared: Client, code: str) -> None:
    for msg_type in ("execute_request", "complete_request", "inspect_request", "is_complete_request"):
        header = shared.session.msg_header(msg_type)
        content = json.dumps({"code": code, "cursor_pos": len(code)}).encode()
        send(shared, "shell", signed(shared, json.dumps(header, default=str).encode(), content=content))
        run = shared.finish(header["msg_id"])
        assert run.message["msg_type"] == msg_type.replace("_request", "_reply")
    assert shared.execute("3").result == "3"


def test_user_expressions_that_are_no_text_are_answered(shared: Client) -> None:
    run = shared.execute("1", user_expressions={"a": 5, "b": None, "c": "2", "d": "1 +"})
    answers = run.reply["user_expressions"]
    assert answers["c"] == {"status": "ok", "data": {"text/plain": "2"}, "metadata": {}}
    assert answers["d"]["status"] == "error" and {"a", "b"} < set(answers)


def test_unknown_fields_are_ignored(shared: Client) -> None:
    assert shared.execute("1", later="field", code_id=[1]).result == "1"
    tail = {"hist_access_type": "tail", "n": 1, "search_raw": True}  # as jupyter_console sends it
    assert shared.request("history_request", tail).status == "ok"


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize(
    "msg_type", ["nonsense", "", "nonsense_request", "execute_reply", "status", "__init__", "\ud83d"]
)
def test_an_unknown_type_gets_busy_and_idle_and_no_reply(shared: Client, msg_type: str, channel: str) -> None:
    before, kept = len(shared.iopub), unread(shared)
    header = shared.session.msg_header(msg_type)
    send(shared, channel, signed(shared, json.dumps(header, default=str).encode(), content=b'{"a": [1]}'))
    run = shared.finish(header["msg_id"], channel, reply=False)
    assert [m["content"].get("execution_state") for m in run.messages] == ["busy", "idle"]
    assert shared.request("kernel_info_request", channel=channel).status == "ok"
    assert unread(shared) == kept
    assert len(shared.iopub) == before + 4


def test_a_flood_of_unknown_types_leaves_a_few_lines(kernel: KernelProcess) -> None:
    client = kernel.client()
    for n in range(300):
        client.send(f"nonsense_{n}", {})
    client.send("x" * 100_000, {})
    assert client.request("kernel_info_request").status == "ok"
    # A bug of kernel.kernel: `complain` gets the sender's text as its *kind*, so each is a new kind.
    assert 0 < len(kernel.stderr()) < 5000
    assert len(kernel.stderr().splitlines()) < 20


@pytest.mark.parametrize(
    "msg_type", ["execute_request", "complete_request", "inspect_request", "is_complete_request"]
)
def test_what_is_known_but_not_for_control_is_answered(shared: Client, msg_type: str) -> None:
    msg_id = shared.send(msg_type, {"code": "1", "cursor_pos": 1}, "control")
    shared.finish(msg_id, "control", reply=False)
    shared.request("kernel_info_request", channel="control")
    answers = [m for m in shared.heard["control"] if m["parent_header"]["msg_id"] == msg_id]
    shared.heard["control"].clear()
    assert [m["msg_type"] for m in answers] == [msg_type.replace("_request", "_reply")]


# -- without a key ----------------------------------------------------------------------------------------


def test_a_kernel_without_a_key_takes_unsigned_messages(start: Callable[..., KernelProcess]) -> None:
    kernel = start(key=None)
    client = kernel.client()
    assert client.info["key"] == ""
    frames = frames_of(client, "execute_request", b'{"code": "6 * 7"}')
    assert frames[1] == b""
    for signature in (b"", b"0" * 64):
        header = client.session.msg_header("execute_request")
        frame = json.dumps(header, default=str).encode()
        send(client, "shell", [DELIMITER, signature, frame, EMPTY, EMPTY, b'{"code": "6 * 7"}'])
        assert client.finish(header["msg_id"]).result == "42"
    for case in (
        "an empty message",
        "no delimiter",
        "too few frames",
        "a header that is a list",
        "a header with NaN",
    ):
        send(client, "shell", MALFORMED[case](client))
        assert_unheard(client)
    assert sum("not signed" in line for line in kernel.stderr().splitlines()) == 1


# -- what gets no reply ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("subshell", [None, "nobody"])
@pytest.mark.parametrize(
    "msg_type",
    ["comm_open", "comm_msg", "comm_close", "input_request", "input_reply", "execute_reply", "no_request", "no"],
)
def test_no_message_is_answered_by_itself(
    shared: Client, msg_type: str, subshell: str | None, channel: str
) -> None:
    """Busy and idle are all that a comm's message gets that makes no sense, and a message that is no request."""
    header = shared.session.msg_header(msg_type) | ({"subshell_id": subshell} if subshell else {})
    msg_id = shared.send(msg_type, {}, channel, header=header)
    assert shared.finish(msg_id, channel, reply=False).types == ["status", "status"]
    assert_unheard(shared, channel)
