"""What the kernel says of its language before any of the language's machinery is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .. import __builtins__ as __builtins__
from .. import __version__
from ..kernel.kernel import Kernel, Language
from .imports import installed

if TYPE_CHECKING:
    from .interpreter import Interpreter

_VERSION = ".".join(map(str, sys.version_info[:3]))


def _interpreter(kernel: Kernel) -> Interpreter:
    from .interpreter import Interpreter

    return Interpreter(kernel)


#: Magics are IPython's.
_MAGICS = installed("IPython")

PYTHON = Language(
    info={
        "name": "python",
        "version": _VERSION,
        "mimetype": "text/x-python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3" if _MAGICS else "python3",
        "codemirror_mode": {"name": "ipython" if _MAGICS else "python", "version": 3},
        "nbconvert_exporter": "python",
    },
    banner=f"Python {sys.version}\nminikernel {__version__}",
    help_links=[
        {
            "text": "Python Reference",
            "url": f"https://docs.python.org/{sys.version_info[0]}.{sys.version_info[1]}",
        },
        {"text": "Jupyter Protocol", "url": "https://jupyter-client.readthedocs.io/en/stable/messaging.html"},
    ],
    interpreter=_interpreter,
    has_debugger=lambda: installed("debugpy"),
)
