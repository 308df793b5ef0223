"""Encrypted sockets: a key pair in the connection file, and a client that has it, and one that has not.

A signature says who has sent a message, and hides nothing.  With ``curve_publickey`` and ``curve_secretkey`` in
the connection file all five sockets are CurveZMQ servers: what goes over the network can't be read, and who does
not know the pair is not let in at all, not even to the heartbeat.

Run it: ``python examples/curve.py``.  The same from the shell: write such a file, and start the kernel and
``jupyter console --existing`` (jupyter_client 8.9 and newer) on it.

Still missing: a way to bring the file to the other machine.  It is the key to everything; use ssh.
"""

import os
import subprocess
import sys
import tempfile
from typing import Any

import zmq

from minikernel import write_connection_file
from minikernel.protocol.curve import key_pair
from minikernel.protocol.wire import Session


def beats(info: dict[str, Any], keys: dict[str, str] | None, seconds: float) -> bool:
    """Tell whether the heartbeat answers to a client with, or without, the key pair."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        encrypt(socket, keys)
        socket.connect(f"tcp://{info['ip']}:{info['hb_port']}")
        socket.send(b"ping")
        return bool(socket.poll(seconds * 1000)) and socket.recv() == b"ping"


def encrypt(socket: zmq.Socket[bytes], keys: dict[str, str] | None) -> None:
    if keys is not None:
        socket.curve_serverkey = socket.curve_publickey = keys["curve_publickey"].encode()
        socket.curve_secretkey = keys["curve_secretkey"].encode()


def main() -> None:
    keys = key_pair()
    path, info = write_connection_file(os.path.join(tempfile.mkdtemp(), "kernel.json"), **keys)
    kernel = subprocess.Popen([sys.executable, "-m", "minikernel", "-f", path])
    print("heartbeat with the keys:   ", beats(info, keys, 30))
    print("heartbeat without:         ", beats(info, None, 0.5))
    print("heartbeat with other keys: ", beats(info, key_pair(), 0.5))
    session = Session(info["key"].encode(), info["signature_scheme"])
    with zmq.Context() as context, context.socket(zmq.DEALER) as control:
        encrypt(control, keys)
        control.connect(f"tcp://{info['ip']}:{info['control_port']}")
        control.send_multipart(session.pack("shutdown_request", {"restart": False}))
        print("shutdown over an encrypted socket:", session.unpack(control.recv_multipart()).content["status"])
    print(f"the kernel has ended with {kernel.wait()}")
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    main()
