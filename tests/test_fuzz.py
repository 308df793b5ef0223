"""Messages that nobody means: whatever comes, `unpack` raises `WireError` and nothing else, and a kernel answers.

The soak command goes on where this ends (``soak.fuzz``).  What has ever been found stays here, in `CORPUS`.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikernel.protocol.messages import reply_type
from minikernel.protocol.wire import Session, WireError

sys.path.insert(0, str(Path(__file__).parent / "soak"))

import fuzz
from target import Ledger

KEY = b"a key"
CHANCE = st.randoms(use_true_random=False)

#: Requests that were answered wrongly once, or come as far as one can with values that nobody expects: their
#: type, a content, and fields of the header.
CORPUS: list[tuple[str, Any, dict[str, Any]]] = [
    ("comm_open", {"comm_id": "\ud83d", "target_name": "x"}, {}),  # a topic that UTF-8 can't say
    ("comm_open", {"comm_id": "", "target_name": "\ud83d", "target_module": "\0"}, {}),
    ("comm_close", {"comm_id": "\ud83d", "data": {"\ud83d": [10**400]}}, {}),
    ("comm_info_request", {"target_name": "\udfff"}, {}),
    ("complete_request", {"code": "\ud83d.\ud83d", "cursor_pos": 1}, {}),
    ("complete_request", {"code": "é\u2028[(\"'\\\n", "cursor_pos": 5}, {}),
    ("complete_request", {"code": "x" * 100_000 + ".", "cursor_pos": 100_001}, {}),
    ("inspect_request", {"code": "print", "cursor_pos": 3, "detail_level": 2**63}, {}),
    ("inspect_request", {"code": "\0\ud83d", "cursor_pos": 2, "omit_sections": [None, {}, 1e308]}, {}),
    ("is_complete_request", {"code": "(" * 5000}, {}),
    ("is_complete_request", {"code": "\\\n" * 1000 + "\x0c\ufeff"}, {}),
    ("history_request", {"hist_access_type": "tail", "n": 10**30}, {}),
    ("history_request", {"hist_access_type": "range", "session": -(10**30), "start": -1, "stop": 2**63}, {}),
    ("history_request", {"hist_access_type": "search", "pattern": "[\ud83d", "n": -1, "unique": True}, {}),
    ("execute_request", {"code": "\ud83d", "user_expressions": {"\ud83d": "\ud83d", "": "lambda: (yield)"}}, {}),
    ("execute_request", {"code": "1", "user_expressions": {"x": {"y": []}, "z": "await f()"}}, {}),
    ("execute_request", {"code": "#" * 100_000, "store_history": True, "silent": True}, {}),
    ("kernel_info_request", None, {}),
    ("kernel_info_request", {}, {"session": {"a": [1]}, "username": 5, "date": [], "version": None}),
    ("kernel_info_request", {}, {"session": "\ud83d", "date": "0000-00-00"}),
    ("execute_request", {"code": "1"}, {"subshell_id": "\ud83d"}),
    ("execute_request", {"code": "1"}, {"subshell_id": {"a": 1e308}}),
    ("list_subshell_request", {}, {"subshell_id": "]"}),  # control's, but on shell for a subshell that is not there
    ("kernel_info_request", {}, {"subshell_id": True}),
    ("connect_request", [[[]]], {"subshell_id": 0}),
    ("interrupt_request", {"\0": None}, {}),
    ("delete_subshell_request", {"subshell_id": "\ud83d"}, {}),
    ("usage_request", 1e308, {}),
    ("shutdown_request", {"restart": "\ud83d"}, {}),
    ("debug_request", {"command": 5, "arguments": "\ud83d", "seq": None}, {}),
]


@settings(max_examples=400, deadline=None)
@given(CHANCE, st.sampled_from([bytes, memoryview]))
def test_what_is_damaged_is_a_wire_error_and_nothing_else(chance: random.Random, kind: Any) -> None:
    frames = fuzz.message(chance, Session(KEY))
    try:
        Session(KEY).unpack([kind(frame) for frame in frames])
    except WireError as error:
        assert str(error) and KEY.decode() not in str(error)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chance=CHANCE)
def test_a_kernel_drops_or_answers_it(shared: Client, chance: random.Random) -> None:
    session, ledger = Session(shared.info["key"].encode()), Ledger(shared)
    count = range(chance.randrange(1, 8))
    # all of it first: hypothesis may break off here
    requests = [(*fuzz.request(chance, session), chance.choice(("shell", "control"))) for _ in count]
    damaged = [fuzz.message(chance, session) for _ in count]
    for (msg_type, frames, channel), other in zip(requests, damaged, strict=True):
        shared.sockets[channel].send_multipart(frames)
        ledger.expect(json.loads(frames[2])["msg_id"], channel if reply_type(msg_type) else "")
        shared.sockets["stdin"].send_multipart(other)
    ledger.ask("execute_request", {"code": "6 * 7"})
    ledger.close()


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize(("msg_type", "content", "header"), CORPUS)
def test_what_is_kept(shared: Client, msg_type: str, content: Any, header: dict[str, Any], channel: str) -> None:
    session, ledger = Session(shared.info["key"].encode()), Ledger(shared)
    full = json.loads(bytes(session.pack(msg_type, {})[2])) | header
    frames = [json.dumps(part).encode() for part in (full, {}, {}, content)]
    shared.sockets[channel].send_multipart(fuzz.signed(session, frames))
    ledger.expect(full["msg_id"], channel if reply_type(msg_type) else "")
    ledger.ask("kernel_info_request", {}, "control")
    ledger.close()
