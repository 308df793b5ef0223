"""Cells that break what the kernel itself stands on: it goes on, and answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client import Client, KernelProcess
from damage_cells import CELLS

#: Defined before the damage, for it may leave no other way to print.
PREPARE = "say = __import__('sys').stdout.write;"


def answers(kernel: KernelProcess, client: Client) -> None:
    """Hold a kernel to all that it owes its user, to the end."""
    run = client.execute("say('42\\n')\n6 * 7")
    assert (run.status, run.text(), run.result) == ("ok", "42\n", "42"), run.reply
    run = client.execute("1 / 0")
    assert run.ename == "ZeroDivisionError" and run.types.count("error") == 1, run.reply
    assert "line 1" in "".join(run.reply["traceback"])
    for channel in ("shell", "control"):
        assert client.request("kernel_info_request", channel=channel).status == "ok"
    for name in ("complete", "inspect"):
        content = {"code": "client", "cursor_pos": 6, "detail_level": 0}
        assert client.request(f"{name}_request", content).status in ("ok", "error")
    assert client.request("is_complete_request", {"code": "1"}).status in ("complete", "error")
    msg_id = client.start("say('go')\nwhile True: pass")
    client.output(msg_id, "go")
    client.request("interrupt_request", channel="control")
    assert client.finish(msg_id).ename == "KeyboardInterrupt"
    assert client.execute("1 + 1").result == "2"
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0


@pytest.mark.parametrize("used", ["", "import asyncio"])
@pytest.mark.parametrize("cell", [name for name in CELLS if name.startswith(("all ", "every "))])
def test_what_a_cell_breaks_for_everybody(start: Callable[..., KernelProcess], cell: str, used: str) -> None:
    kernel = start()
    client = kernel.client()
    client.request("kernel_info_request")
    client.execute(f"{used}\n{PREPARE}")
    assert client.execute(CELLS[cell]).status == "ok"
    answers(kernel, client)
    kernel.log.write_text("")  # what was broken is said there
