"""Kernels behind a web server: jupyter_server, the kernel gateway, voila."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from client import TIMEOUT, alive
from nbformat.v4 import new_code_cell, new_notebook

pytest.importorskip("jupyter_server")
from servers import Channels, Server

pytestmark = pytest.mark.timeout(120)

JUPYTER_SERVER = (
    "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}",
    "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
)  # fmt: skip


@pytest.fixture(scope="module")
def serve(kernelspec: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers that the module's tests share."""
    servers: list[Server] = []

    def serve(*command: str, **options: Any) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("served"), *command, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server]) -> Server:
    return serve(*JUPYTER_SERVER)


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Channels]]:
    """Open pages' websockets: to new kernels, or to one that is named."""
    pages: list[Channels] = []
    kernels: list[str] = []

    def connect(kernel: str | None = None, session: str = "page") -> Channels:
        if kernel is None:
            kernels.append(kernel := server.kernel())
        pages.append(Channels(server, kernel, session))
        return pages[-1]

    yield connect
    for page in pages:
        page.close()
    for kernel in kernels:
        server.ask("DELETE", f"/api/kernels/{kernel}")


# -- jupyter_server ---------------------------------------------------------------------------------------


def test_the_kernelspec(server: Server) -> None:
    spec = server.ask("GET", "/api/kernelspecs")["kernelspecs"]["minikernel"]
    assert spec["spec"]["display_name"] == "Python 3 (minikernel)" and spec["spec"]["language"] == "python"
    assert set(spec["resources"]) == {"logo-32x32", "logo-64x64", "logo-svg"}
    assert server.ask("GET", spec["resources"]["logo-svg"]).lstrip().startswith("<svg")


def test_ten_kernels_at_once(server: Server) -> None:
    """Started, used, interrupted, restarted and ended, all at the same time."""

    def live(number: int) -> list[str]:
        kernel = server.kernel()
        try:
            page = Channels(server, kernel, f"page{number}")
            request = page.start("x = 1\nprint('go', flush=True)\nwhile True: pass")
            page.wait_for("stream", request)
            server.ask("POST", f"/api/kernels/{kernel}/interrupt")
            ename = page.wait_for("execute_reply", request)["content"]["ename"]
            before = page.value("x, __import__('os').getpid()")
            server.ask("POST", f"/api/kernels/{kernel}/restart")
            page.close()
            page = Channels(server, kernel, f"page{number}")
            after = page.value("'x' in globals(), __import__('os').getpid()")
            page.close()
            return [ename, before, after]
        finally:
            server.ask("DELETE", f"/api/kernels/{kernel}")

    with ThreadPoolExecutor(10) as pool:
        lives = list(pool.map(live, range(10)))
    assert [ename for ename, _, _ in lives] == ["KeyboardInterrupt"] * 10
    assert all(before.startswith("(1, ") and after.startswith("(False, ") for _, before, after in lives)
    pids = [int(re.findall(r"\d+", text)[-1]) for _, *texts in lives for text in texts]
    assert len(set(pids)) == 20 and not any(map(alive, pids))


def test_a_page_that_comes_back_gets_what_it_missed(
    server: Server, connect: Callable[..., Channels], tmp_path: Path
) -> None:
    kernel = server.kernel()
    page = connect(kernel)
    here = tmp_path / "here"
    wait = f"import os, time\nwhile not os.path.exists({str(here)!r}): time.sleep(0.01)"
    request = page.start(f"print('one', flush=True)\n{wait}\nprint('two')")
    page.wait_for("stream", request, text="one\n")
    page.close()

    def until(**state: Any) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not (model := server.ask("GET", f"/api/kernels/{kernel}")).items() >= state.items():
            assert time.monotonic() < deadline, model
            time.sleep(0.02)

    until(connections=0, execution_state="busy")
    here.touch()
    until(execution_state="idle")
    page = connect(kernel)
    page.wait_for("stream", request, text="two\n")
    assert page.wait_for("execute_reply", request)["content"]["status"] == "ok"
    server.ask("DELETE", f"/api/kernels/{kernel}")


@pytest.mark.parametrize("with_parent", [True, False], ids=["JupyterLab's", "jupyter_client's"])
def test_answers(connect: Callable[..., Channels], with_parent: bool) -> None:
    page = connect()
    request = page.start("print('x' + input('who? '))")
    asked = page.wait_for("input_request", request)
    assert asked["content"] == {"prompt": "who? ", "password": False}
    page.send("input_reply", {"value": "me"}, "stdin", asked["header"] if with_parent else None)
    assert page.wait_for("stream", request)["content"]["text"] == "xme\n"
    assert page.wait_for("execute_reply", request)["content"]["status"] == "ok"


# -- kernel gateway ---------------------------------------------------------------------------------------


def test_kernel_gateway(serve: Callable[..., Server]) -> None:
    pytest.importorskip("kernel_gateway")
    options = (
        "--KernelGatewayApp.ip=127.0.0.1",
        "--KernelGatewayApp.port={port}",
    )
    gateway = serve("kernel_gateway", *options)
    page = Channels(gateway, gateway.kernel())
    request = page.start("print('out')\n6 * 7")
    assert page.wait_for("stream", request)["content"]["text"] == "out\n"
    assert page.wait_for("execute_result", request)["content"]["data"] == {"text/plain": "42"}
    pid = int(page.value("__import__('os').getpid()"))
    os.kill(gateway.process.pid, signal.SIGKILL)
    page.close()
    deadline = time.monotonic() + TIMEOUT
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- voila ------------------------------------------------------------------------------------------------


def test_voila(serve: Callable[..., Server], tmp_path: Path) -> None:
    """voila runs a notebook for a page, which then talks to its widgets."""
    pytest.importorskip("voila")
    cells = [
        "import ipywidgets\nslider, label = ipywidgets.IntSlider(value=7), ipywidgets.Label()",
        "slider.observe(lambda change: setattr(label, 'value', f'now {change.new}'), 'value')",
        "ipywidgets.VBox([slider, label])",
    ]
    kernelspec = {"name": "minikernel", "display_name": "minikernel", "language": "python"}
    book = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernelspec})
    nbformat.write(book, tmp_path / "book.ipynb")
    voila = serve(
        "voila", "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}", "--token=",
        str(tmp_path / "book.ipynb"),
    )  # fmt: skip
    kernel = re.search(r'"kernelId": "([^"]+)"', voila.ask("GET", "/"))
    assert kernel is not None
    page = Channels(voila, kernel[1])
    page.send("comm_open", {"comm_id": "page", "target_name": "jupyter.widget.control", "data": {}},
              metadata={"version": "1.0.0"})  # fmt: skip
    page.send("comm_msg", {"comm_id": "page", "data": {"method": "request_states"}})
    states = page.wait_for("comm_msg", comm_id="page")["content"]["data"]["states"]
    ids = {state["model_name"]: comm for comm, state in states.items()}
    assert states[ids["IntSliderModel"]]["state"]["value"] == 7
    page.send("comm_msg", {"comm_id": ids["IntSliderModel"], "data": {"method": "update", "state": {"value": 42}}})
    update = page.wait_for("comm_msg", comm_id=ids["LabelModel"])["content"]["data"]
    assert update["state"] == {"value": "now 42"}
    page.close()
