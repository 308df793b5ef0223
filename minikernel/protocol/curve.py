"""Encryption of the sockets by CurveZMQ: options and key pairs.  Imported where a connection file asks for it.

All five sockets are servers with the file's key pair, and a client is who knows the pair: both ends read it from
the connection file (jupyter_client 8.9, ``transport_encryption``).
"""

from __future__ import annotations

from typing import Any

import zmq

from .. import __builtins__ as __builtins__


def serve(socket: zmq.Socket[bytes], info: dict[str, Any]) -> None:
    """Make a socket, before it is bound, encrypt with the connection file's keys.

    Raises
    ------
    OSError
        This libzmq can't encrypt: a kernel that was asked to must not run in plain text instead.
    """
    if not zmq.has("curve"):
        raise OSError(0, "the connection file asks for encryption, and this libzmq has no curve")
    socket.curve_secretkey = info["curve_secretkey"].encode()
    socket.curve_publickey = info["curve_publickey"].encode()
    socket.curve_server = True


def join(socket: zmq.Socket[bytes], info: dict[str, Any]) -> None:
    """Make a client's socket, before it is connected, encrypt with the connection file's keys."""
    socket.curve_secretkey = info["curve_secretkey"].encode()
    socket.curve_publickey = socket.curve_serverkey = info["curve_publickey"].encode()


def key_pair() -> dict[str, str]:
    """Return the fields ``curve_publickey`` and ``curve_secretkey`` of a new pair, for a connection file."""
    public, secret = zmq.curve_keypair()
    return {"curve_publickey": public.decode(), "curve_secretkey": secret.decode()}
