"""A tiny Jupyter kernel whose code reads like a textbook of the protocol.

This file names what is public, and imports none of it before it is asked for: ``import minikernel`` costs
nothing, and a kernel that starts pays for no part that starting does not need.

Who has not seen the protocol yet begins with "The protocol in an hour" in the README, and with the seven kernels
in ``examples/``, from a heartbeat to threads.  Then read the code in this order; each module's docstring says what
that file alone decides, and which is next:

1. ``protocol.wire``      what a message is, and the bytes it travels as
2. ``protocol.channels``  the five sockets, and the one thread that owns them
3. ``kernel.request``     one request, and who is asking
4. ``kernel.worker``      a thread with an inbox
5. ``kernel.kernel``      from a message type to its handler, and back to a reply
6. ``python.interpreter`` running the user's code

Connection files and the connect API, the front door, are in ``connect``.
"""

from __future__ import annotations

import builtins

__version__ = "0.1.0"

#: What ``len`` and ``print`` mean to the modules of this package, whatever a cell does to everybody else's.  Python
#: looks names up in the `__builtins__` of the module that defines a function; each module imports these.
__builtins__ = vars(builtins).copy()  # type: ignore[assignment]

TYPE_CHECKING = False  # as typing has it: nothing is imported while a notebook's directory is on sys.path
if TYPE_CHECKING:
    from typing import Any

    from .connect import (
        connect_console,
        connect_qtconsole,
        find_connection_file,
        get_connection_file,
        get_connection_info,
        write_connection_file,
    )
    from .embedding import embed, start
    from .kernel.kernel import Kernel
    from .kernel.output_to import output_to
    from .python.display import clear_output, display, update_display
    from .python.interpreter import Interpreter
    from .python.libraries import set_matplotlib_formats

__all__ = [
    "Interpreter",
    "Kernel",
    "__version__",
    "clear_output",
    "connect_console",
    "connect_qtconsole",
    "display",
    "embed",
    "find_connection_file",
    "get_connection_file",
    "get_connection_info",
    "output_to",
    "set_matplotlib_formats",
    "start",
    "update_display",
    "write_connection_file",
]

_HOME = {
    "Interpreter": "python.interpreter",
    "Kernel": "kernel.kernel",
    "clear_output": "python.display",
    "connect_console": "connect",
    "connect_qtconsole": "connect",
    "display": "python.display",
    "embed": "embedding",
    "find_connection_file": "connect",
    "get_connection_file": "connect",
    "get_connection_info": "connect",
    "output_to": "kernel.output_to",
    "set_matplotlib_formats": "python.libraries",
    "start": "embedding",
    "update_display": "python.display",
    "write_connection_file": "connect",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
