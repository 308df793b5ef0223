"""matplotlib's backend where IPython is not installed: figures are images in the output of a cell.

`pyplot`'s figures are shown by ``plt.show()``, or when the cell that has made them ends, in the order of their
numbers, and are closed then.  One that the cell has shown itself, by ``display(fig)`` or as its value, is not shown
again, unless it has changed since or was cleared away.  What has been made while ``plt.ioff()`` was in force waits
to be shown by name.  A figure belongs to the cell that has made it: when another one ends meanwhile, in a subshell
or in a widget's callback, it stays.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from matplotlib import colors, is_interactive
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import Request, current_request
from . import display

_MIMES = {
    "png": "image/png",
    "retina": "image/png",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
}
_formats: tuple[str, ...] = ("png",)
_options: dict[str, Any] = {}


def set_formats(formats: tuple[str, ...], options: dict[str, Any]) -> None:
    """Do what `libraries.set_matplotlib_formats` says."""
    global _formats, _options
    if not formats or set(formats) - set(_MIMES):
        raise ValueError(f"the formats of figures are {', '.join(_MIMES)}, not {formats!r}")
    _formats, _options = formats, options


class FigureManager(FigureManagerBase):
    """A figure of pyplot's, while it is open."""

    def __init__(self, canvas: Any, num: int) -> None:
        super().__init__(canvas, num)
        self.request = current_request()
        #: Whether the end of its cell shows it.
        self.waits_for_end = is_interactive()
        #: How often the output had been cleared when it was last shown.
        self.shown = -1

    def show(self) -> None:
        """Show this figure now (``fig.show()``)."""
        display.display(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, close: bool | None = None, block: bool | None = None) -> None:
        """Show the open figures, and close them unless `close` is False (``plt.show()``)."""
        _show(_open(), close is not False)


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager


def show_new() -> None:
    """Show and close what the cell that ends has drawn; what it has shown itself is only closed."""
    managers = [manager for manager in _open() if manager.waits_for_end]
    _show(managers, True, lambda manager: manager.shown != display.cleared or manager.canvas.figure.stale)


def _open() -> list[Any]:
    """Return the open figures, but those of cells that still run beside this one."""
    managers = [manager for _, manager in sorted(Gcf.figs.items()) if isinstance(manager, FigureManager)]
    return [manager for manager in managers if not _runs_beside(manager.request)]


def _runs_beside(request: Request | None) -> bool:
    if request is None or request is current_request() or request.idle:
        return False
    return request.worker.running is request or request.worker.awaits


def _show(managers: list[Any], close: bool, wanted: Callable[[Any], bool] = lambda manager: True) -> None:
    try:
        for manager in managers:
            if wanted(manager):
                manager.show()
    finally:
        for manager in managers if close else ():
            Gcf.destroy(manager)


def bundle(figure: Figure) -> tuple[display.Bundle, display.Bundle]:
    """Return the images of a figure; none of an empty one."""
    data: display.Bundle = {}
    metadata = _background(figure)
    for name in _formats if len(figure.get_children()) > 1 else ():  # the first child is the background
        file = io.BytesIO()
        retina = name == "retina"
        options = {
            "format": "png" if retina else name,
            "dpi": figure.dpi * (2 if retina else 1),
            "facecolor": figure.get_facecolor(),
            "edgecolor": figure.get_edgecolor(),
            "bbox_inches": "tight",
        }
        interrupt.call(figure.canvas.print_figure, file, **(options | _options))
        image = file.getvalue()
        if retina:  # two pixels of the image are one of the page; where PNG has its size, see its IHDR
            width, height = (int.from_bytes(image[at : at + 4], "big") // 2 for at in (16, 20))
            metadata["image/png"] = {"width": width, "height": height}
        data[_MIMES[name]] = image.decode() if name == "svg" else image
    manager = figure.canvas.manager
    if isinstance(manager, FigureManager):
        manager.shown, figure.stale = display.cleared, False
    return data, metadata


def _background(figure: Figure) -> display.Bundle:
    """Tell a frontend which background the labels of a transparent figure need."""
    if colors.to_rgba(figure.get_facecolor())[3] >= 0.5:
        return {}
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    light = {_is_light(label.get_color()) for axis in axes for label in axis.get_ticklabels()}
    return {"needs_background": "dark" if light.pop() else "light"} if len(light) == 1 else {}


def _is_light(color: Any) -> bool:
    red, green, blue, _ = colors.to_rgba(color)
    return bool(0.299 * red + 0.587 * green + 0.114 * blue > 0.5)  # luma of ITU-R BT.601
