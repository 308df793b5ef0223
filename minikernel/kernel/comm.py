"""Comms: objects of the kernel connected with objects of the frontend ("Messaging in Jupyter: Custom Messages").

Whoever opens a comm names a target; the other side looks it up among the targets it knows.  What a callback
prints or displays belongs to the message that called it.  A callback that fails is shown there and harms nobody.

The classes have the methods that the ``comm`` package and ipykernel gave theirs; ``python.comms`` makes them that
package's own when it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import __builtins__ as __builtins__
from ..protocol import log
from . import interrupt
from .request import current_request

if TYPE_CHECKING:
    from .request import Request
    from .worker import Worker

Callback = Callable[[dict[str, Any]], object]


class Comm:
    """One connection.  Making one as the primary opens it; any thread may send.

    Parameters
    ----------
    target_name : str
        What the frontend looks up.
    data, metadata, buffers
        Of the comm_open message.
    comm_id : str, optional
        A fresh one by default.
    primary : bool
        Whether this side opens the comm.
    target_module : str, optional
        For frontends that load the target.
    """

    def __init__(
        self,
        target_name: str = "comm",
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
        comm_id: str | None = None,
        primary: bool = True,
        target_module: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.target_name = target_name
        self.target_module = target_module
        self.comm_id = comm_id or os.urandom(16).hex()
        self.primary = primary
        #: The worker that has last sent on this comm.
        self.asker: Worker | None = None
        self._closed = True
        self._msg_callback: Callback | None = None
        self._close_callback: Callback | None = None
        if primary:
            self.open(data=data, metadata=metadata, buffers=buffers)
        else:
            self._closed = False

    @property
    def kernel(self) -> Any:
        """The kernel that the comm belongs to."""
        request = current_request()
        return request.kernel if request is not None else None

    def publish_msg(
        self,
        msg_type: str,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
        **content: Any,
    ) -> None:
        """Send a message of this comm to the frontends, as part of the current request."""
        request = current_request()
        if request is None:
            raise RuntimeError("a comm needs a running kernel")
        self.asker = request.worker
        content |= {"comm_id": self.comm_id, "data": {} if data is None else data}
        request.publish(msg_type, content, metadata, buffers or (), topic=f"comm-{self.comm_id}")

    def open(
        self,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
    ) -> None:
        """Open the frontend's side."""
        kernel = self.kernel
        if kernel is None:
            raise RuntimeError("a comm needs a running kernel")
        kernel.comms.register_comm(self)
        try:
            names = {"target_name": self.target_name, "target_module": self.target_module}
            self.publish_msg("comm_open", data, metadata, buffers, **names)
        except BaseException:
            kernel.comms.unregister_comm(self)
            raise
        self._closed = False

    def send(
        self,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
    ) -> None:
        """Send a message to the frontend's side."""
        self.publish_msg("comm_msg", data, metadata, buffers)

    def close(
        self,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
        deleting: bool = False,
    ) -> None:
        """Close both sides; a comm that is closed is left alone."""
        if self._closed:
            return
        self._closed = True
        kernel = self.kernel
        if kernel is not None:
            self.publish_msg("comm_close", data, metadata, buffers)
            if not deleting:
                kernel.comms.unregister_comm(self)

    def on_msg(self, callback: Callback | None) -> None:
        """Have `callback(msg)` called for each message of the frontend; None for nothing."""
        self._msg_callback = callback

    def on_close(self, callback: Callback | None) -> None:
        """Have `callback(msg)` called when the frontend closes the comm."""
        self._close_callback = callback

    def handle_msg(self, msg: dict[str, Any]) -> None:
        """Take a comm_msg."""
        if self._msg_callback is not None:
            interrupt.call(self._msg_callback, msg)

    def handle_close(self, msg: dict[str, Any]) -> None:
        """Take a comm_close."""
        self._closed = True
        if self._close_callback is not None:
            interrupt.call(self._close_callback, msg)


class CommManager:
    """The targets and the open comms of a kernel.

    Attributes
    ----------
    targets : dict
        What to call, with the comm and its comm_open message, when a frontend opens a comm, by target name.
    comms : dict
        The open comms by id.
    """

    def __init__(self) -> None:
        self.comms: dict[str, Any] = {}
        self.targets: dict[str, Callable[[Any, dict[str, Any]], object]] = {}
        #: Makes this side of a comm that a frontend opens.
        self.comm_class: Callable[..., Any] = Comm

    def register_target(self, target_name: str, f: Callable[[Any, dict[str, Any]], object] | str) -> None:
        """Have ``f(comm, open_msg)`` called when a frontend opens the target; `f` may be ``"module.function"``."""
        if isinstance(f, str):
            from importlib import import_module

            module, _, name = f.rpartition(".")
            f = getattr(import_module(module), name)
        assert callable(f)
        self.targets[target_name] = f

    def unregister_target(self, target_name: str, f: Any = None) -> Any:
        """Forget a target and return it; KeyError when there is none."""
        return self.targets.pop(target_name)

    def register_comm(self, comm: Any) -> str:
        """Keep an open comm; return its id."""
        self.comms[comm.comm_id] = comm
        return str(comm.comm_id)

    def unregister_comm(self, comm: Any) -> None:
        """Forget a comm."""
        self.comms.pop(comm.comm_id, None)

    def get_comm(self, comm_id: str) -> Any:
        """Return the open comm of that id, or None."""
        return self.comms.get(comm_id)

    def awaiting(self, content: Any) -> Worker | None:
        """Return the worker whose cell has sent on a comm, and awaits: the comm's answers are for it."""
        comm = self.comms.get(str(content.get("comm_id"))) if isinstance(content, dict) else None
        asker = getattr(comm, "asker", None)
        return asker if asker is not None and asker.awaits else None

    def info(self, target_name: str | None) -> dict[str, dict[str, str]]:
        """Return the open comms, of one target or of all, as a comm_info_reply has them."""
        return {
            comm_id: {"target_name": comm.target_name}
            for comm_id, comm in list(self.comms.items())
            if target_name is None or comm.target_name == target_name
        }

    # -- messages of a frontend ------------------------------------------------------------------------

    def comm_open(self, request: Request) -> None:
        """Make this side of a comm; close it at once when its target is unknown or fails."""
        content = request.content
        comm = self.comm_class(comm_id=content["comm_id"], primary=False, target_name=content["target_name"])
        self.register_comm(comm)
        target = self.targets.get(content["target_name"])
        if target is None:
            log.complain("a frontend opened a comm of an unknown target", repr(content["target_name"]))
        elif self._call(request, target, comm, as_dict(request)):
            return
        comm.close()

    def comm_msg(self, request: Request) -> None:
        """Hand a message to its comm."""
        comm = self.comms.get(request.content["comm_id"])
        if comm is None:
            log.complain("a message for a comm that is not open")
        else:
            self._call(request, comm.handle_msg, as_dict(request))

    def comm_close(self, request: Request) -> None:
        """Close this side of a comm."""
        comm = self.comms.pop(request.content["comm_id"], None)
        if comm is not None:
            self._call(request, comm.handle_close, as_dict(request))

    @staticmethod
    def _call(request: Request, function: Callable[..., object], *args: Any) -> bool:
        """Call user code; show what it raises, and tell whether it went well."""
        interpreter = request.kernel.interpreter
        try:
            interrupt.call(function, *args)
        except BaseException as error:  # the user's
            interpreter.show_error(error)
            return False
        finally:
            interpreter.cell_ended()
        return True


def as_dict(request: Request) -> dict[str, Any]:
    """Return a message as callbacks get it: jupyter_client's dict."""
    return {
        "header": request.header,
        "msg_id": request.header["msg_id"],
        "msg_type": request.msg_type,
        "parent_header": request.message.parent_header,
        "metadata": request.metadata,
        "content": request.content,
        "buffers": request.message.buffers,
    }
