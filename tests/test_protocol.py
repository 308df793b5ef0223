"""The table of messages, and the tool that prints it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minikernel.kernel import handlers
from minikernel.protocol.messages import MESSAGES, BadContent, complete


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minikernel", "protocol", *arguments], capture_output=True, text=True
    )


def test_every_message_is_listed() -> None:
    done = run()
    assert done.returncode == 0
    assert all(name in done.stdout for name in MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_is_described(name: str) -> None:
    from minikernel.tools.protocol import describe

    text = describe(name, MESSAGES[name])
    assert text.startswith(name) and "Messaging in Jupyter" in text
    assert all(field in text for field in MESSAGES[name].fields)


def test_one_message() -> None:
    assert "code: str\n" in run("execute_request").stdout
    done = run("exec")
    assert done.returncode == 1 and "execute_request" in done.stderr


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
