"""What libraries show where IPython is not installed.  The table in the README says the same."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from client import TIMEOUT, Client, KernelProcess, Result

#: IPython, and what is never there without it.
IPYTHON = ("IPython", "anywidget", "ipykernel", "ipywidgets", "matplotlib_inline")


class Library(NamedTuple):
    """A library, a cell, and what that shows: mime types, else streams; or the error that it raises."""

    name: str
    package: str
    code: str
    shows: str
    #: The same where IPython is installed, if that is something else.
    with_ipython: str = ""


WIDGET = "application/vnd.jupyter.widget-view+json text/plain"

LIBRARIES = [
    Library(
        "matplotlib", "matplotlib", "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()", "image/png text/plain"
    ),
    Library("pandas", "pandas", "import pandas\npandas.DataFrame({'a': [1]})", "text/html text/plain"),
    Library("polars", "polars", "import polars\npolars.DataFrame({'a': [1]})", "text/html text/plain"),
    Library(
        "Pillow", "PIL", "from PIL import Image\nImage.new('RGB', (2, 2))", "image/jpeg image/png text/plain"
    ),
    Library(
        "plotly", "plotly", "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1]))", "application/vnd.plotly.v1+json"
    ),
    Library(
        "altair", "altair", "import altair\naltair.Chart(altair.Data(values=[{'x': 1}])).mark_bar().encode(x='x:Q')",
        "text/html text/plain",
    ),
    Library(
        "bokeh", "bokeh",
        "from bokeh.io import output_notebook, show\nfrom bokeh.plotting import figure\n"
        "output_notebook(); p = figure(); p.line([1], [1]); show(p)",
        "application/javascript application/vnd.bokehjs_exec.v0+json application/vnd.bokehjs_load.v0+json text/html",
    ),
    Library("sympy", "sympy", "import sympy\nsympy.sqrt(sympy.Symbol('x'))", "text/latex text/plain"),
    Library("rich", "rich", "from rich.table import Table\nTable('a', 'b')", "text/html text/plain"),
    Library("rich.print", "rich", "import rich\nrich.print('[bold]hello')", "stdout", "text/html text/plain"),
    Library("tqdm", "tqdm", "from tqdm.auto import tqdm\nfor i in tqdm(range(3)): pass", "stderr", WIDGET),
    Library("ipywidgets", "ipywidgets", "import ipywidgets\nipywidgets.IntSlider()", "ModuleNotFoundError", WIDGET),
    Library(
        "anywidget", "anywidget",
        "import anywidget\nclass Widget(anywidget.AnyWidget):\n    _esm = 'export default {}'\nWidget()",
        "ModuleNotFoundError", WIDGET,
    ),
]  # fmt: skip


def shown(run: Result) -> str:
    """Return what a cell has shown, as `Library.shows` has it."""
    if run.ename:
        return run.ename
    mimes = {mime for m in run.outputs for mime in m["content"].get("data", ()) if "/" in mime}
    streams = {m["content"]["name"] for m in run.outputs if m["msg_type"] == "stream"}
    return " ".join(sorted(mimes or streams))


def row(library: Library, without: str, with_ipython: str) -> str:
    """Return the library's row in the README."""
    return (
        f"| {library.name} | {_cell(without)} | {'the same' if without == with_ipython else _cell(with_ipython)} |"
    )


def _cell(shows: str) -> str:
    if shows == "ModuleNotFoundError":
        return "needs IPython"
    return ", ".join(f"`{each}`" for each in shows.split())


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A frontend of a kernel that has no IPython, for tests that leave nothing behind."""
    process = KernelProcess(tmp_path_factory.mktemp("without"), without=IPYTHON)
    yield process.client()
    process.close()


def ok(client: Client, code: str, **options: Any) -> Result:
    run = client.execute(code, timeout=TIMEOUT + 30, **options)  # the first import takes its time
    assert run.status == "ok", run.reply
    return run


def kinds(run: Result) -> list[str]:
    """Return the types of the outputs; text that comes in several messages counts once."""
    types: list[str] = []
    for message in run.outputs:
        if message["msg_type"] != "stream" or types[-1:] != ["stream"]:
            types.append(message["msg_type"])
    return types


def bundles(run: Result) -> list[dict[str, Any]]:
    return [m["content"]["data"] for m in run.outputs if "data" in m["content"]]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_without_ipython(without: Client, library: Library) -> None:
    if find_spec(library.package) is None:
        pytest.skip(f"needs {library.package}")
    assert shown(without.execute(library.code, timeout=TIMEOUT + 30)) == library.shows


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_with_ipython(shared: Client, library: Library) -> None:
    if find_spec(library.package) is None or find_spec("IPython") is None:
        pytest.skip(f"needs {library.package} and IPython")
    assert shown(shared.execute(library.code, timeout=TIMEOUT + 30)) == (library.with_ipython or library.shows)


def test_the_readmes_table() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for library in LIBRARIES:
        assert row(library, library.shows, library.with_ipython or library.shows) in readme


# -- what else they do -----------------------------------------------------------------------------------


def test_a_wide_table_of_pandas(without: Client) -> None:
    pytest.importorskip("pandas")
    run = ok(without, "import pandas\npandas.DataFrame([range(100)])")
    [data] = bundles(run)
    assert data["text/html"].count("<th>") < 30 and "1 rows × 100 columns" in data["text/html"]


def test_show_of_pillow(without: Client) -> None:
    pytest.importorskip("PIL")
    [data] = bundles(ok(without, "from PIL import Image\nImage.new('L', (2, 2)).show()"))
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_show_of_plotly(without: Client) -> None:
    pytest.importorskip("plotly")
    run = ok(without, "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1])).show(); print('after')")
    assert kinds(run) == ["display_data", "stream"]
    [data] = bundles(run)
    assert data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"


def test_a_renderer_of_plotly_that_the_user_has_chosen(start: Any) -> None:
    pytest.importorskip("plotly")
    client = start(without=IPYTHON, env={"PLOTLY_RENDERER": "json"}).client()
    assert ok(client, "import plotly.io\nplotly.io.renderers.default").result == "'json'"


def test_init_printing_of_sympy(start: Any) -> None:
    pytest.importorskip("sympy")
    client = start(without=IPYTHON).client()
    ok(client, "import sympy\nsympy.init_printing()")
    [data] = bundles(ok(client, "sympy.sqrt(sympy.Symbol('x'))"))
    assert data == {"text/plain": "√x", "text/latex": r"$\displaystyle \sqrt{x}$"}
    assert ok(client, "'other things'").result == "'other things'"


# -- matplotlib ------------------------------------------------------------------------------------------


@pytest.fixture
def mpl(without: Client) -> Client:
    """A frontend of a kernel that has imported pyplot, and has no figure open."""
    pytest.importorskip("matplotlib")
    ok(without, "import matplotlib, minikernel\nimport matplotlib.pyplot as plt; plt.ion(); plt.close('all')")
    return without


def size(png: str) -> tuple[int, int]:
    data = base64.b64decode(png)
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_figures_are_shown_and_closed_when_their_cell_ends(mpl: Client) -> None:
    run = ok(mpl, "plt.figure(2, (3, 1)).add_subplot()\nplt.figure(1, (1, 3)).add_subplot()\nprint('before');")
    assert kinds(run) == ["stream", "display_data", "display_data"]
    tall, wide = [size(data["image/png"]) for data in bundles(run)]
    assert tall[0] < tall[1] and wide[0] > wide[1]  # in the order of their numbers
    assert bundles(run)[0]["text/plain"] == "<Figure size 100x300 with 1 Axes>"
    assert ok(mpl, "plt.get_fignums()").result == "[]"
    assert [m["content"]["metadata"] for m in run.outputs if m["msg_type"] == "display_data"] == [{}, {}]


def test_show_shows_at_once(mpl: Client) -> None:
    run = ok(mpl, "plt.plot([1]); plt.show(); print('after'); fig, _ = plt.subplots(); fig.show(); print('last')")
    assert kinds(run) == ["display_data", "stream", "display_data", "stream"]


def test_figures_of_a_cell_that_fails_or_is_silent(mpl: Client) -> None:
    run = mpl.execute("plt.plot([1]); 1/0")
    assert kinds(run) == ["error", "display_data"] and run.status == "error"
    assert kinds(ok(mpl, "plt.plot([1]);", silent=True)) == ["display_data"]


@pytest.mark.parametrize(
    ("code", "shows"),
    [
        ("fig, ax = plt.subplots(); fig", ["execute_result"]),
        ("fig, ax = plt.subplots(); display(fig)", ["display_data"]),
        ("fig, ax = plt.subplots(); display(fig); ax.plot([1]);", ["display_data", "display_data"]),
        ("plt.figure();", ["display_data"]),
        ("plt.plot([1]); plt.close();", []),
        ("plt.ioff(); plt.plot([1]);", []),
        ("plt.ioff(); plt.plot([1]); plt.show()", ["display_data"]),
        ("fig = matplotlib.figure.Figure(); fig.subplots(); fig", ["execute_result"]),
        ("plt.plot([1]); plt.show(close=False); plt.get_fignums()", ["display_data", "execute_result"]),
        (
            "fig, ax = plt.subplots()\nfor n in range(2):\n    ax.plot([n]); minikernel.clear_output(wait=True); display(fig)",
            ["clear_output", "display_data", "clear_output", "display_data"],
        ),
        (
            "fig, ax = plt.subplots(); display(fig); minikernel.clear_output()",
            ["display_data", "clear_output", "display_data"],
        ),
        (
            "import threading\nt = threading.Thread(target=lambda: plt.plot([1])); t.start(); t.join()",
            ["display_data"],
        ),
    ],
)
def test_a_figure_is_shown_once(mpl: Client, code: str, shows: list[str]) -> None:
    run = ok(mpl, code)
    assert kinds(run) == shows


def test_an_empty_figure_is_text(mpl: Client) -> None:
    assert bundles(ok(mpl, "plt.figure();")) == [{"text/plain": "<Figure size 640x480 with 0 Axes>"}]


def test_formats_of_figures(mpl: Client) -> None:
    [png] = bundles(ok(mpl, "plt.plot([1]);"))
    width, height = size(png["image/png"])
    run = ok(mpl, "minikernel.set_matplotlib_formats('retina', 'svg'); plt.plot([1]);")
    [data] = bundles(run)
    assert data["image/svg+xml"].startswith("<?xml") and set(data) == {
        "image/png", "image/svg+xml", "text/plain"
    }  # fmt: skip
    assert all(abs(2 * one - two) < 4 for one, two in zip((width, height), size(data["image/png"]), strict=True))
    [shown_size] = [m["content"]["metadata"]["image/png"] for m in run.outputs]
    assert (shown_size["width"], shown_size["height"]) == tuple(n // 2 for n in size(data["image/png"]))
    [data] = bundles(ok(mpl, "minikernel.set_matplotlib_formats('jpeg', 'pdf'); plt.plot([1]);"))
    assert base64.b64decode(data["image/jpeg"]).startswith(b"\xff\xd8")
    assert base64.b64decode(data["application/pdf"]).startswith(b"%PDF")
    [data] = bundles(ok(mpl, "minikernel.set_matplotlib_formats('png', bbox_inches=None); plt.plot([1]);"))
    assert size(data["image/png"]) == (640, 480)
    ok(mpl, "minikernel.set_matplotlib_formats('png')")
    assert mpl.execute("minikernel.set_matplotlib_formats('gif')").ename == "ValueError"


def test_a_transparent_figure_says_which_background_it_needs(mpl: Client) -> None:
    for color, background in (("white", "dark"), ("black", "light")):
        code = f"fig, ax = plt.subplots(facecolor='none'); ax.tick_params(labelcolor='{color}')"
        [message] = ok(mpl, code).outputs
        assert message["content"]["metadata"] == {"needs_background": background}


def test_a_figure_that_cannot_be_drawn(mpl: Client) -> None:
    run = ok(mpl, r"plt.title(r'$\nonsense$'); 1")
    assert "ValueError" in run.text("stderr") and run.result == "1"
    assert bundles(run)[-1] == {"text/plain": "<Figure size 640x480 with 1 Axes>"}
    assert bundles(ok(mpl, "plt.plot([1]);"))[0]["image/png"]


def test_a_drawing_is_interrupted(start: Any) -> None:
    pytest.importorskip("matplotlib")
    kernel = start(without=IPYTHON)
    client = kernel.client()
    ok(client, "import time, matplotlib.pyplot as plt\nfrom matplotlib.text import Text\n"
               "class Slow(Text):\n    def draw(self, renderer): print('drawing'); time.sleep(60)")  # fmt: skip
    msg_id = client.start("plt.gca().add_artist(Slow());")
    client.output(msg_id, "drawing")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.status == "ok" and "KeyboardInterrupt" in run.text("stderr")
    assert ok(client, "plt.get_fignums()").result == "[]"


def test_figures_of_a_comms_callback(mpl: Client) -> None:
    ok(mpl, "from minikernel.kernel.request import current_request\n"
            "current_request().kernel.comms.register_target('plot', lambda comm, msg: plt.plot([1]))")  # fmt: skip
    run = mpl.finish(mpl.send("comm_open", {"comm_id": "p", "target_name": "plot"}), reply=False)
    assert kinds(run) == ["display_data"]


def test_a_figure_waits_for_the_end_of_its_own_cell(mpl: Client) -> None:
    subshell = mpl.create_subshell()
    msg_id = mpl.start("plt.plot([1]); input(); plt.title('done');", allow_stdin=True)
    question = mpl.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
    assert question["parent_header"]["msg_id"] == msg_id
    assert len(bundles(mpl.execute("plt.figure();", subshell))) == 1
    mpl.send("input_reply", {"value": ""}, "stdin")
    assert [list(data) for data in bundles(mpl.finish(msg_id))] == [["image/png", "text/plain"]]
    mpl.request("delete_subshell_request", {"subshell_id": subshell}, channel="control")


def test_a_figure_waits_for_a_cell_that_awaits(mpl: Client) -> None:
    ok(mpl, "from minikernel.kernel.request import current_request\n"
            "current_request().kernel.comms.register_target('go', lambda comm, msg: go.set())")  # fmt: skip
    code = "import asyncio; go = asyncio.Event()\nplt.plot([1]); print('waits'); await go.wait(); print('goes on');"
    msg_id = mpl.start(code)
    mpl.output(msg_id, "waits")
    run = mpl.finish(mpl.send("comm_open", {"comm_id": "g", "target_name": "go"}), reply=False)
    assert run.outputs == []
    run = mpl.finish(msg_id)
    assert kinds(run) == ["stream", "display_data"] and "goes on" in run.text()


def test_a_figure_of_code_whose_outputs_go_elsewhere(mpl: Client) -> None:
    ok(mpl, "from minikernel.kernel.request import current_request\n"
            "parent = current_request().kernel.get_parent()")  # fmt: skip
    run = ok(mpl, "with minikernel.output_to(parent): plt.plot([1])")
    assert kinds(run) == ["display_data"]


@pytest.mark.parametrize(
    ("env", "code", "backend"),
    [
        ({}, "", "module://minikernel.python.matplotlib"),
        ({"MPLBACKEND": "svg"}, "", "svg"),
        ({}, "matplotlib.use('pdf')", "pdf"),
        ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, "", "module://minikernel.python.matplotlib"),
    ],
)
def test_whose_choice_the_backend_is(start: Any, env: dict[str, str], code: str, backend: str) -> None:
    pytest.importorskip("matplotlib")
    client = start(without=IPYTHON, env={"MPLBACKEND": "", **env}).client()
    ok(client, f"import matplotlib, os\n{code}")
    assert ok(client, "import matplotlib.pyplot as plt; plt.get_backend()").result == repr(backend)
    assert ok(client, "os.environ['MPLBACKEND']").result == repr(env.get("MPLBACKEND", ""))


def test_figures_with_ipython(client: Client) -> None:
    for package in ("matplotlib", "matplotlib_inline"):
        pytest.importorskip(package)
    run = ok(client, "import matplotlib.pyplot as plt\nplt.plot([1]); print(plt.get_backend())")
    assert run.text() == "module://matplotlib_inline.backend_inline\n"
    assert [list(data) for data in bundles(run)][-1] == ["text/plain", "image/png"]
    [data] = bundles(ok(client, "import minikernel; minikernel.set_matplotlib_formats('svg'); plt.plot([1]);"))
    assert set(data) == {"image/svg+xml", "text/plain"}


def test_what_is_called_after_a_cell_may_fail(client: Client) -> None:
    ok(client, "from minikernel.kernel.request import current_request\n"
               "after = current_request().kernel.interpreter.after_cell\n"
               "after += [lambda: 1 / 0, lambda: print('after')]")  # fmt: skip
    run = ok(client, "5")
    assert run.result == "5" and "ZeroDivisionError" in run.text("stderr") and run.text() == "after\n"
