"""``%gui qt`` and ``%gui tk``: a toolkit's windows live while no cell runs, and while one awaits.

A task of the main thread's event loop lets the toolkit handle its events, many times a second.  That is all: other
toolkits block, or need a loop of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

#: Seconds between two looks at a toolkit's events.
PAUSE = 0.02

_task: asyncio.Task[None] | None = None


def enable(kernel: Kernel, name: str | None) -> None:
    """Let the toolkit `name` ("qt", "tk") handle its events from now on, or none with None.

    Raises
    ------
    ValueError
        The toolkit is not supported.
    """
    global _task
    if _task is not None:
        _task.cancel()
        _task = None
    if name in (None, "", "none", "inline", "asyncio", "widget", "ipympl", "nbagg", "notebook"):
        return
    if name == "tk":
        step = _tk()
    elif str(name).startswith("qt"):
        step = _qt()
    else:
        raise ValueError(f"%gui {name} is not supported: qt and tk are")

    async def pump() -> None:
        while True:
            try:
                interrupt.call(step)
            except BaseException as error:  # of the user's callbacks: the windows live on
                if isinstance(error, asyncio.CancelledError):
                    raise
                kernel.interpreter.show_error(error)
            await asyncio.sleep(PAUSE)

    assert kernel.main.loop is not None
    _task = kernel.main.loop.ready().create_task(pump())


def _tk() -> Callable[[], object]:
    import tkinter

    def step() -> None:
        root: Any = getattr(tkinter, "_default_root", None)
        if root is not None:
            root.update()

    return step


def _qt() -> Callable[[], object]:
    from IPython.external.qt_for_kernel import QtGui

    application: Any = getattr(QtGui, "QApplication", None)
    if application is None:  # Qt 5 and 6
        from importlib import import_module

        application = import_module(QtGui.__name__.replace("QtGui", "QtWidgets")).QApplication
    app = application.instance() or application([""])
    step: Callable[[], object] = app.processEvents
    return step
