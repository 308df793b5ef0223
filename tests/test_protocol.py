"""The table of messages, and the tool that prints it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import minikernel
from minikernel.kernel import handlers
from minikernel.protocol.messages import HANDSHAKE, MESSAGES, BadContent, complete
from minikernel.protocol.wire import PROTOCOL_VERSION


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minikernel", "protocol", *arguments], capture_output=True, text=True
    )


def test_every_message_is_listed() -> None:
    done = run()
    assert done.returncode == 0
    assert all(name in done.stdout for name in HANDSHAKE | MESSAGES)


@pytest.mark.parametrize("name", HANDSHAKE | MESSAGES)
def test_every_message_is_described(name: str) -> None:
    from minikernel.tools.protocol import describe

    spec = (HANDSHAKE | MESSAGES)[name]
    text = describe(name, spec)
    assert text.startswith(name) and "Messaging in Jupyter" in text
    assert all(field in text for field in spec.fields)


def test_one_message() -> None:
    assert "code: str\n" in run("execute_request").stdout
    done = run("exec")
    assert done.returncode == 1 and "execute_request" in done.stderr


def test_the_version_is_the_kernelspecs_and_the_latest_of_the_table() -> None:
    versions = {spec.since for spec in (HANDSHAKE | MESSAGES).values()}
    assert max(versions, key=lambda version: tuple(map(int, version.split(".")))) == PROTOCOL_VERSION
    kernelspec = Path(minikernel.__file__).parent.parent / "kernelspec" / "kernel.json"
    assert json.loads(kernelspec.read_text())["kernel_protocol_version"] == PROTOCOL_VERSION


def test_the_table_is_whole() -> None:
    """Every request has a handler and a reply, and every handler a row."""
    for name, spec in MESSAGES.items():
        if spec.sender == "frontend" and spec.channel != "stdin":
            table = handlers.CONTROL if spec.channel.startswith("control") else handlers.SHELL
            assert name in table, name
            assert spec.reply in MESSAGES
            assert spec.about and spec.section
    for name in {*handlers.SHELL, *handlers.CONTROL}:
        assert name in MESSAGES


def test_requests_are_completed_and_refused() -> None:
    assert complete("execute_request", {"code": "1", "extra": 2})["stop_on_error"] is True
    assert complete("complete_request", {"code": "1", "cursor_pos": None})["cursor_pos"] is None
    for content in ({}, {"code": 1}, [], None, {"code": "1", "silent": "yes"}):
        with pytest.raises(BadContent):
            complete("execute_request", content)
