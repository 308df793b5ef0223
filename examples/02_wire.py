"""02: the wire.

A message is four JSON objects, each a frame of its own, signed with the connection file's key::

    [routing ids ...] <IDS|MSG> signature header parent_header metadata content [buffers ...]

This kernel writes out by hand what that means: it shows the frames that come on shell, drops what is not signed
right, and answers all else with an error, "02 can do nothing".  An answer goes back to the routing ids that the
ROUTER socket put in front, and has the header of the request as its parent_header.

Run it: ``python examples/02_wire.py -f connection.json``, and in another terminal ``jupyter console --existing
connection.json``: the first thing that a frontend says is kernel_info_request.

Still wrong: a signed frame that is no JSON object ends it, a message that is sent twice is answered twice, and
nobody is told whether it is busy: ``client.py``, which waits for the idle, waits for ever.  From 03 on
``minikernel.protocol.wire`` does better what is done here by hand.
"""

import hmac
import json
import os
import sys
from datetime import datetime, timezone

import zmq

from minikernel import write_connection_file

path = sys.argv[-1] if len(sys.argv) > 1 else "connection.json"
if not os.path.exists(path):
    write_connection_file(path)
with open(path) as file:
    info = json.load(file)
SESSION = os.urandom(16).hex()
NAMES = ("signature", "header", "parent_header", "metadata", "content")


def sign(four: list[bytes]) -> bytes:
    """Return the signature of the four JSON frames, as they travel."""
    return hmac.new(info["key"].encode(), b"".join(four), "sha256").hexdigest().encode()


def pack(msg_type: str, content: dict, parent: bytes, idents: list[bytes]) -> list[bytes]:
    """Return the frames of a message."""
    header = {
        "msg_id": os.urandom(16).hex(),
        "msg_type": msg_type,
        "session": SESSION,  # this process, for its whole life
        "username": "kernel",
        "date": datetime.now(timezone.utc).isoformat(),
        "version": "5.6",
    }
    four = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    return [*idents, b"<IDS|MSG>", sign(four), *four]


def unpack(frames: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return the routing ids and the four JSON frames; raise ValueError for what is no message of ours."""
    at = frames.index(b"<IDS|MSG>")
    signature, *four = frames[at + 1 : at + 6]
    if not hmac.compare_digest(sign(four), signature):  # in the same time, however much of it is right
        raise ValueError("wrong signature")
    return frames[:at], four


sockets = {}
poller = zmq.Poller()
for channel in ("hb", "shell"):
    sockets[channel] = zmq.Context.instance().socket(zmq.ROUTER)
    sockets[channel].bind(f"tcp://{info['ip']}:{info[channel + '_port']}")
    poller.register(sockets[channel], zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        frames = socket.recv_multipart()
        if socket is sockets["hb"]:
            socket.send_multipart(frames)
            continue
        try:
            idents, four = unpack(frames)
        except ValueError as error:
            print(f"dropped: {error}", flush=True)
            continue
        for name, frame in zip(("routing id", "delimiter", *NAMES), frames, strict=False):
            print(f"{name:14} {frame.decode(errors='replace')}", flush=True)
        reply_type = json.loads(four[0])["msg_type"].replace("_request", "_reply")
        content = {"status": "error", "ename": "NotYet", "evalue": "02 can do nothing", "traceback": []}
        socket.send_multipart(pack(reply_type, content, four[0], idents))
