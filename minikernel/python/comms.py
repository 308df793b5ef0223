"""The ``comm`` package's classes and hooks are this kernel's, once something imports that package.

ipywidgets and its kin make their comms by `comm.create_comm` and find the targets by `comm.get_comm_manager`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..kernel.comm import Comm, CommManager
from . import imports

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel


def install(kernel: Kernel) -> None:
    """Wait for the packages that need comms."""
    imports.when_imported("comm", lambda: take_over(kernel))
    # ipywidgets does this by itself only where there is an IPython shell
    imports.when_imported("ipywidgets", lambda: sys.modules["ipywidgets"].register_comm_target())


def take_over(kernel: Kernel) -> None:
    """The ``comm`` package has been imported: its functions answer with the kernel's comms from now on."""
    package: Any = sys.modules["comm"]
    base: Any = sys.modules["comm.base_comm"]
    manager = kernel.comms
    # Libraries ask with isinstance; ours come first, so nothing of the package's own code runs.
    manager.comm_class = type("Comm", (Comm, base.BaseComm), {"__module__": __name__})
    manager.__class__ = type("CommManager", (CommManager, base.CommManager), {"__module__": __name__})
    package.create_comm = manager.comm_class
    package.get_comm_manager = lambda: manager
