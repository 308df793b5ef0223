"""A line between a frontend and the ports of a kernel."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class Line:
    """Forwards connections; `ports` are its own.

    Parameters
    ----------
    info : dict
        The connection file's fields.
    delays : dict
        Seconds for which the connections to a channel wait before anything goes through.
    """

    def __init__(self, info: dict[str, Any], delays: Mapping[str, float] = {}) -> None:
        #: All that has gone through.
        self.heard: list[bytes] = []
        self._open: list[socket.socket] = []
        self.ports = {
            name: self._forward(port, delays.get(name.removesuffix("_port"), 0))
            for name, port in info.items()
            if name.endswith("_port")
        }

    def _forward(self, port: int, delay: float) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._open.append(listener)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
                    self._open += [near, far]
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=carry, args=(one, other), daemon=True).start()

        def carry(one: socket.socket, other: socket.socket) -> None:
            time.sleep(delay)
            with suppress(OSError):
                while data := one.recv(1 << 16):
                    self.heard.append(data)
                    other.sendall(data)

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    def close(self) -> None:
        """Cut it."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
