"""What libraries are told that would ask IPython.

Where IPython is not installed, some libraries take the kernel for a terminal, or for a machine with a browser, and
show something else than a notebook wants.  Each is told better here by its own settings, the moment that it is
imported.  Where IPython is installed, they ask it, and nothing here is done.

Next: ``matplotlib``, the backend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..protocol import log
from . import display
from .imports import installed, when_imported

if TYPE_CHECKING:
    from .interpreter import Interpreter

#: The name of matplotlib's own backend for notebooks, which needs IPython, and that of ours.
INLINE = "module://matplotlib_inline.backend_inline"
OURS = f"module://{__package__}.matplotlib"


def install(interpreter: Interpreter) -> None:
    """Wait for the libraries."""
    when_imported("matplotlib", lambda: choose_backend(interpreter))
    for name in _WITHOUT_IPYTHON:
        when_imported(name, partial(_tell, name))


def _tell(name: str) -> None:
    if installed("IPython"):
        return
    try:
        _WITHOUT_IPYTHON[name](sys.modules[name])
    except Exception as error:  # another version than we know: it can still be imported
        log.complain(f"{name} can't be told that this is a notebook", repr(error))


def choose_backend(interpreter: Interpreter) -> None:
    """Let matplotlib draw into cells, unless the user has chosen a backend.

    Not by MPLBACKEND, which child processes would inherit.  The one that a kernel has set for its children is not
    the user's choice.
    """
    matplotlib = sys.modules["matplotlib"]
    display.formatters["matplotlib.figure.Figure"] = _figure
    chosen = dict.__getitem__(matplotlib.rcParams, "backend")  # asked in the usual way, it would choose one
    if isinstance(chosen, str) and chosen not in (INLINE, OURS):
        return
    if installed("IPython") and installed("matplotlib_inline"):
        import IPython

        if IPython.get_ipython() is not None:
            matplotlib.use(INLINE)
            return
    matplotlib.use(OURS)
    matplotlib.interactive(True)  # figures are shown without being asked for
    interpreter.after_cell.append(_show_figures)


def set_matplotlib_formats(*formats: str, **options: Any) -> None:
    """Choose how matplotlib's figures are shown from now on.

    Parameters
    ----------
    *formats : {"png", "retina", "jpeg", "svg", "pdf"}
        One or several, of which a frontend takes the one it likes best.  "png" at first.
    **options
        As `Figure.savefig` takes them: ``bbox_inches=None``, ``pil_kwargs={"quality": 90}``.

    Raises
    ------
    ValueError
        A format is not one of these.
    """
    from matplotlib import get_backend

    if get_backend() == INLINE:
        import_module(INLINE.removeprefix("module://")).set_matplotlib_formats(*formats, **options)
    else:
        from .matplotlib import set_formats

        set_formats(formats, options)


def _figure(figure: Any) -> Any:
    if display.formatter is not None:
        return None  # IPython's business
    from .matplotlib import bundle

    return bundle(figure)


def _show_figures() -> None:
    backend = sys.modules.get(f"{__package__}.matplotlib")
    if backend is not None:
        backend.show_new()


def _bokeh(notebook: Any) -> None:
    def publish(data: display.Bundle, metadata: Any = None, *, transient: Any = None, **kwargs: Any) -> None:
        display.display(data, metadata=metadata, transient=transient, raw=True)

    notebook.publish_display_data = publish


def _pandas(pandas: Any) -> None:
    pandas.set_option("display.max_columns", 20)  # what it is in notebooks; in a terminal the width decides


def _pillow(show: Any) -> None:
    def view(image: Any, **options: Any) -> bool:
        display.display(image)
        return True

    show.register(SimpleNamespace(show=view), 0)


def _plotly(renderers: Any) -> None:
    if not os.environ.get("PLOTLY_RENDERER"):
        renderers.renderers.default = "plotly_mimetype"
    renderers.ipython_display = display
    if renderers.nbformat is None:  # nothing but its version is asked for
        renderers.nbformat = SimpleNamespace(__version__="5")


def _sympy(printing: Any) -> None:
    def init_printing(stringify: Callable[..., str], **settings: Any) -> None:
        from sympy.printing.defaults import Printable

        display.formatters[Printable] = lambda obj: {"text/plain": stringify(obj, **settings)}

    printing._init_python_printing = init_printing  # its own replaces sys.displayhook, for all that is shown


#: What is called with a module that has been imported.
_WITHOUT_IPYTHON: dict[str, Callable[[Any], None]] = {
    "PIL.ImageShow": _pillow,
    "bokeh.io.notebook": _bokeh,
    "pandas": _pandas,
    "plotly.io._renderers": _plotly,
    "sympy.interactive.printing": _sympy,
}
