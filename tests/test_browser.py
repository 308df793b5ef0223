"""JupyterLab and Notebook 7 in a real browser, used as a person uses them."""

from __future__ import annotations

import base64
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

for module in ("debugpy", "jupyterlab", "notebook", "playwright"):
    pytest.importorskip(module)
from client import TIMEOUT  # noqa: E402
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402
from servers import Server  # noqa: E402

CHROMIUM = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
# as root there is no sandbox; the others keep it from asking the internet for things
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
expect.set_options(timeout=2000 * TIMEOUT)

KERNELSPEC = {"name": "minikernel", "display_name": "Python 3 (minikernel)", "language": "python"}
LAB, NOTEBOOK = "/lab/tree/", "/notebooks/"
both = pytest.mark.parametrize("app", [LAB, NOTEBOOK], ids=["lab", "notebook"])


@pytest.fixture(scope="module")
def server(kernelspec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = kernelspec / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    server = Server(
        tmp_path_factory.mktemp("served"),
        "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}",
        "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
    )  # fmt: skip
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """An empty window; a picture of each is in the test's directory if the test fails."""
    failed = request.session.testsfailed
    context = browser.new_context(viewport={"width": 1500, "height": 900}, base_url=server.url)
    context.set_default_timeout(2000 * TIMEOUT)
    yield context.new_page()
    if request.session.testsfailed > failed:
        for number, page in enumerate(context.pages):
            page.screenshot(path=tmp_path / f"page{number}.png")
            print("a picture of the page:", tmp_path / f"page{number}.png")
    context.close()
    for session in server.ask("GET", "/api/sessions"):
        server.ask("DELETE", f"/api/sessions/{session['id']}")


def ready(page: Page) -> None:
    """Wait until a notebook's page has heard from its kernel; it says "idle" before, too."""
    page.locator('.jp-DebuggerBugButton[aria-disabled="false"]').wait_for()
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")


class Notebook:
    """A notebook's page, in either application."""

    numbers = itertools.count()
    kernelspec = KERNELSPEC

    def __init__(self, page: Page, server: Server, app: str, *cells: str) -> None:
        self.page = page
        self.name = f"book{next(self.numbers)}.ipynb"
        content = {
            "cells": [
                {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
                for cell in cells
            ],
            "metadata": {"kernelspec": self.kernelspec}, "nbformat": 4, "nbformat_minor": 4,
        }  # fmt: skip
        server.ask("PUT", f"/api/contents/{self.name}", {"type": "notebook", "content": content})
        page.goto(app + self.name + "?reset")
        ready(page)

    def status(self, status: str) -> None:
        """Wait until the page says that the kernel is idle, or busy."""
        expect(self.page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", status)

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea-output")

    def edit(self, number: int) -> None:
        """Put the cursor to the end of a cell."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Control+End")

    def run(self, number: int) -> Locator:
        """Run a cell; return its outputs, which may still come."""
        self.edit(number)
        self.page.keyboard.press("Control+Enter")
        return self.output(number)

    def counted(self, number: int, count: int | str) -> None:
        """Wait until a cell has this number."""
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(f"[{count}]:")

    def press(self, command: str) -> None:
        """Press a button of the toolbar."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').click()


# -- where a notebook begins -------------------------------------------------------------------------------


def test_the_launcher(page: Page) -> None:
    page.goto("/lab?reset")
    card = page.locator('.jp-LauncherCard[title="Python 3 (minikernel)"][data-category="Notebook"]')
    expect(card).to_be_visible()
    assert "logo-svg.svg" in str(card.locator("img").get_attribute("src"))
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0", arg=card.locator("img").element_handle()
    )
    card.click()
    ready(page)
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.type("6*7")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".jp-OutputArea-output")).to_have_text("42")


def test_the_new_menu(page: Page) -> None:
    page.goto("/tree")
    page.get_by_text("New", exact=True).click()
    with page.expect_popup() as popup:
        page.get_by_role("menuitem", name="Python 3 (minikernel)").click()
    new = popup.value
    ready(new)
    logo = new.locator(".jp-NotebookKernelLogo img")
    new.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=logo.element_handle())


# -- cells -------------------------------------------------------------------------------------------------

RICH = """
class Rich:
    def __init__(self, **bundle): self.bundle = bundle
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {mime.replace('__', '/').replace('_', '-'): data for mime, data in self.bundle.items()}
for rich in (
    Rich(text__html='<b id="bold">bold</b>'),
    Rich(text__markdown='# A title'),
    Rich(text__latex='$x^2$'),
    Rich(image__png=PNG),
    Rich(application__json={'some': 'json'}),
):
    display(rich)
class Circle:
    def _repr_svg_(self):
        return '<svg xmlns="http://www.w3.org/2000/svg" width="30" height="30"><circle r="15" cx="15" cy="15"/></svg>'
Circle()
"""


def png(width: int, height: int) -> str:
    """A blue rectangle."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x30\x60\xff" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


@both
def test_outputs(page: Page, server: Server, app: str) -> None:
    book = Notebook(
        page, server, app,
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7",
        "def f(n):\n    return 1 / n\nf(0)",
        f"PNG = {png(60, 20)!r}{RICH}",
        "import minikernel\nhandle = display('one', display_id=True)",
        "handle.update('two')\nprint('gone')\nminikernel.clear_output(wait=True)\nprint('there')",
    )  # fmt: skip
    expect(book.run(0)).to_have_text(["out\n", "err\n", "42"])
    assert book.output(0).nth(1).get_attribute("data-mime-type") == "application/vnd.jupyter.stderr"
    book.counted(0, 1)
    error = book.run(1)
    expect(error).to_contain_text(["Cell In[2], line 3"])
    expect(error).to_contain_text(["ZeroDivisionError: division by zero"])
    rich = book.run(2)
    expect(rich).to_have_count(6)
    expect(rich.locator("b#bold")).to_have_text("bold")
    expect(rich.locator("h1")).to_contain_text("A title")
    expect(rich.locator("mjx-container")).to_be_visible()
    picture = rich.locator('img[src^="data:image/png"]')
    page.wait_for_function("image => image.naturalWidth == 60", arg=picture.element_handle())
    expect(rich.nth(5).locator("img, svg")).to_be_visible()
    expect(book.run(3)).to_have_text(["'one'"])
    expect(book.run(4)).to_have_text(["there\n"])
    expect(book.output(3)).to_have_text(["'two'"])
    book.counted(4, 5)


@both
def test_questions(page: Page, server: Server, app: str) -> None:
    book = Notebook(page, server, app, "import getpass\n'x' + input('who? ') + getpass.getpass('and? ')")
    output = book.run(0)
    question = page.locator(".jp-Stdin").last
    box = question.locator("input")
    expect(question).to_contain_text("who?")
    box.fill("me")
    box.press("Enter")
    expect(question).to_contain_text("and?")
    expect(box).to_have_attribute("type", "password")
    box.fill("too")
    box.press("Enter")
    expect(output.last).to_have_text("'xmetoo'")


@both
def test_completion_and_tooltip(page: Page, server: Server, app: str) -> None:
    book = Notebook(page, server, app, "import zipfile", "zipfile.is_zi")
    book.run(0)
    book.counted(0, 1)
    book.edit(1)
    page.keyboard.press("Tab")
    items = page.locator(".jp-Completer:visible .jp-Completer-item")
    expect(items).to_have_text(["fis_zipfilefunction"])  # its icon, its name and its type
    page.keyboard.press("Enter")
    expect(book.cell(1).locator(".cm-content")).to_have_text("zipfile.is_zipfile")
    page.keyboard.type("(")
    page.keyboard.press("Shift+Tab")
    tooltip = page.locator(".jp-Tooltip")
    expect(tooltip).to_contain_text("Quickly see if a file is a ZIP file")


# -- the kernel's state ------------------------------------------------------------------------------------


@both
def test_busy_interrupt_and_restart(page: Page, server: Server, app: str) -> None:
    book = Notebook(page, server, app, "x = 1\nimport time\nprint('go')\ntime.sleep(600)", "x")
    output = book.run(0)
    expect(output).to_have_text(["go\n"])
    book.counted(0, "*")
    book.status("busy")
    book.press("notebook:interrupt-kernel")
    expect(output).to_contain_text(["go", "KeyboardInterrupt"])
    book.status("idle")
    expect(book.run(1)).to_have_text(["1"])
    book.press("notebook:restart-kernel")
    with page.expect_response(re.compile("/restart")):
        page.locator(".jp-Dialog .jp-mod-accept").click()
    book.status("idle")
    expect(book.run(1)).to_contain_text(["NameError"])
    book.counted(1, 1)


def test_a_page_that_is_loaded_anew_sees_a_busy_kernel(page: Page, server: Server) -> None:
    book = Notebook(page, server, LAB, "import time\nprint('go')\ntime.sleep(600)", "'still ' + 'here'")
    expect(book.run(0)).to_have_text(["go\n"])
    page.keyboard.press("Control+s")
    page.reload()
    book.status("busy")
    book.press("notebook:interrupt-kernel")
    book.status("idle")
    expect(book.run(1)).to_have_text(["'still here'"])
    book.counted(1, 2)


def test_a_kernel_that_dies_is_started_anew(page: Page, server: Server) -> None:
    book = Notebook(
        page, server, LAB, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "'here ' + 'again'"
    )
    book.run(0)
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(book.run(1)).to_have_text([re.compile("died in cell 1: killed"), "'here again'"])


# -- widgets -----------------------------------------------------------------------------------------------


@both
def test_widgets(page: Page, server: Server, app: str) -> None:
    pytest.importorskip("ipywidgets")
    book = Notebook(
        page, server, app,
        "import ipywidgets, time\n"
        "slider, label = ipywidgets.IntSlider(value=7), ipywidgets.Label('at 7')\n"
        "slider.observe(lambda change: setattr(label, 'value', f'at {change.new}'), 'value')\n"
        "ipywidgets.VBox([slider, label])",
        "slider.value",
        "while slider.value > 50: time.sleep(0.01)\n'the slider is heard'",
    )  # fmt: skip
    widget = book.run(0)
    expect(widget.get_by_text("at 7")).to_be_visible()
    track, readout = widget.locator(".noUi-base"), widget.locator(".widget-readout")

    def slide(share: float) -> None:
        """Click on the slider; the kernel hears of it, and sets the label."""
        # a click is lost while the last one is still shown to move the slider
        expect(widget.locator(".noUi-target")).not_to_have_class(re.compile("noUi-state-tap"))
        before, box = readout.inner_text(), track.bounding_box()
        assert box is not None
        track.click(position={"x": box["width"] * share, "y": box["height"] / 2})
        expect(readout).not_to_have_text(before)
        expect(widget.get_by_text(f"at {readout.inner_text()}")).to_be_visible()

    slide(0.8)
    expect(book.run(1)).to_have_text([readout.inner_text()])
    output = book.run(2)
    book.counted(2, "*")
    slide(0.7)  # heard while the cell runs: JupyterLab sends what is for widgets to a subshell
    slide(0.2)
    expect(output).to_have_text(["'the slider is heard'"])


# -- the debugger ------------------------------------------------------------------------------------------


def test_debugger(page: Page, server: Server) -> None:
    book = Notebook(
        page, server, LAB,
        "def double(n):\n    m = n * 2\n    return m\n\ndouble(21)",
    )  # fmt: skip
    page.locator(".jp-DebuggerBugButton").click()
    lines = page.locator(".cm-gutter.cm-breakpoint-gutter .cm-gutterElement")  # the first is no line
    lines.nth(2).click()
    expect(lines.nth(2).locator("svg")).to_be_visible()
    output = book.run(0)
    variables = page.locator(".jp-DebuggerVariables .jp-TreeItem")
    expect(variables).to_have_text(["n21"])
    frames = page.locator(".jp-DebuggerCallstackFrame-name")
    expect(frames).to_have_text(["double", "<module>"])
    book.status("busy")
    page.locator('[data-command="debugger:next"]').click()
    expect(variables).to_have_text(["m42", "n21"])
    page.locator('[data-command="debugger:continue"]').click()
    expect(output).to_have_text(["42"])
    book.status("idle")
    expect(frames).to_have_count(0)
