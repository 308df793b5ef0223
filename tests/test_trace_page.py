"""The live page of ``minikernel trace`` in a real browser, while JupyterLab works through the relay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect
from servers import Server
from test_browser import KERNELSPEC, LAB, Notebook, browser, page, pytestmark, server
from test_trace import Start, faulty, page_of, relay

from minikernel.tools import trace

__all__ = ["browser", "faulty", "page", "pytestmark", "relay", "server"]


class TracedNotebook(Notebook):
    """A notebook whose kernel is behind a relay."""

    kernelspec = KERNELSPEC | {"name": "minikernel-trace"}


@pytest.fixture(scope="module")
def traced(kernelspec: Path) -> Iterator[Path]:
    """Install the traced kernel; what it records is in the path."""
    path = kernelspec / "record"
    assert trace.main(["trace", "install", "minikernel", "--user", "--web", "--record", str(path)]) == 0
    yield path


def open_trace(tab: Page, url: str) -> Page:
    """Open a trace's page in a window, whose errors are kept."""
    tab.errors = []  # type: ignore[attr-defined]
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))  # type: ignore[attr-defined]
    tab.on("console", lambda message: tab.errors.append(message.text) if message.type == "error" else None)  # type: ignore[attr-defined]
    tab.goto(url)
    expect(tab.locator("#state")).to_have_text("live")
    return tab


def rows(tab: Page, **attributes: str):  # type: ignore[no-untyped-def]
    return tab.locator(".row" + "".join(f'[data-{name}="{value}"]' for name, value in attributes.items()))


def test_a_session_of_jupyterlab(page: Page, server: Server, traced: Path, tmp_path: Path) -> None:
    book = TracedNotebook(
        page, server, LAB,
        "print('hello')\n6 * 7",
        "'x' + input('who? ')",
        "import time\nprint('go')\ntime.sleep(600)",
        "from minikernel import display\n'the end'",
    )  # fmt: skip
    url = re.findall(r"the trace of \S+ is at (http\S+)", server.log.read_text())[-1]  # what the relay has printed
    tab = open_trace(page.context.new_page(), url)
    expect(rows(tab, type="kernel_info_reply").first).to_be_attached()
    page.bring_to_front()
    expect(book.run(0)).to_have_text(["hello\n", "42"])
    expect(rows(tab, type="stream")).to_have_count(1)  # live
    output = book.run(1)
    box = page.locator(".jp-Stdin input").last
    box.fill("me")
    box.press("Enter")
    expect(output.last).to_have_text("'xme'")
    output = book.run(2)
    expect(output).to_have_text(["go\n"])
    book.press("notebook:interrupt-kernel")
    expect(output).to_contain_text(["go", "KeyboardInterrupt"])
    expect(book.run(3)).to_have_text(["'the end'"])
    # -- what the page shows of it
    tab.bring_to_front()
    expect(rows(tab, type="input_reply")).to_contain_text('value="me"')
    expect(rows(tab, type="execute_result")).to_have_count(3)
    expect(tab.locator("#count")).to_have_text("0")  # no rule was broken
    stream = rows(tab, type="stream").first
    stream.click()
    detail = tab.locator("#detail")
    expect(detail.locator("h2")).to_have_text("stream")
    expect(detail).to_contain_text("good: this is what the frame holds")
    assert detail.locator("details[data-frame]").evaluate_all("all => all.map(each => each.dataset.frame)") == [
        "topic", "delimiter", "signature", "header", "parent_header", "metadata", "content"
    ]  # fmt: skip
    content = detail.locator('[data-frame="content"]')
    expect(content.locator("pre.json")).to_contain_text('"text": "hello\\n"')
    byte = content.locator("pre.dump [data-at='1']").first
    assert byte.get_attribute("title") == 'byte 1 = 0x22 = 34 = "\\"": the name of a field'
    byte.hover()
    expect(content.locator("pre.dump .mark")).to_have_count(2)  # the byte, and its letter
    link = detail.locator("a").first
    assert str(link.get_attribute("href")).endswith("messaging.html#streams-stdout-stderr-etc")
    assert link.get_attribute("rel") == "noopener noreferrer"
    number = stream.locator(".of").inner_text()
    assert detail.locator(".kinlist li").count() == tab.locator(".row.kin").count() >= 6
    tab.screenshot(path=tmp_path / "trace.png")
    # -- the filters
    tab.locator("#alone").click()
    expect(tab.locator(".row:visible")).to_have_count(tab.locator(".row.kin").count())
    assert set(tab.locator(".row:visible .of").all_inner_texts()) == {number}
    tab.locator("#alone").click()
    rows(tab, type="status").first.wait_for()
    tab.locator('#types [data-type="status"]').click()
    expect(tab.locator('.row[data-type="status"]:visible')).to_have_count(0)
    tab.locator('#types [data-type="execute_input"]').click(modifiers=["Shift"])
    expect(tab.locator(".row:visible")).to_have_count(4)
    tab.locator('#types [data-type="execute_input"]').click(modifiers=["Shift"])
    tab.locator("#filter").fill("keyboardinterrupt")
    expect(tab.locator(".row:visible")).to_have_count(2)  # error and execute_reply
    tab.locator("#filter").fill("")
    tab.locator('[data-channel="shell"]').click()
    expect(tab.locator('.row[data-type="execute_reply"]:visible')).to_have_count(0)
    key = json.loads(next((traced.parent / "runtime").glob("kernel-*.json")).read_text())["key"]
    assert key not in tab.content() and key not in traced.read_text() and key not in server.log.read_text()
    assert tab.errors == []  # type: ignore[attr-defined]


def test_a_hostile_message_is_text(browser: Browser, relay: Start, faulty: str) -> None:
    """Whatever a message holds, wherever it holds it: the page's script is the only one that runs."""
    kernel = relay("--web", kernel=faulty, output=())
    client = kernel.client()
    hostile = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>\"'</style></script>${{}}__proto__"
    evil = json.dumps(hostile)
    client.start(f"say('iopub', {evil}, {{{evil}: {evil}}})")
    client.start(f"say('iopub', 'stream', {{'name': {evil}, 'text': {evil}}})")
    client.start(
        f"say('iopub', 'error', {{'ename': {evil}, 'evalue': 1, 'traceback': 1}}, parent=b'{{\"msg_id\": 1}}')"
    )
    client.start(f"sockets['iopub'].send_multipart([{evil}.encode(), b'no delimiter', b'<script>'])")
    client.start("say('shell', 'toString', {}); say('shell', '__proto__', {}); say('shell', 'the end', {})")
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    try:
        tab = open_trace(context.new_page(), page_of(kernel))
        expect(rows(tab, type="the end")).to_have_count(1)
        for row in rows(tab).all():
            row.click()
            expect(tab.locator("#detail details[data-frame]").first).to_be_attached()
        assert rows(tab).filter(has_text="onerror").count() >= 6
        assert tab.evaluate("[window.pwned, document.images.length, document.scripts.length]") == [None, 0, 1]
        assert tab.errors == []  # type: ignore[attr-defined]
    finally:
        context.close()
