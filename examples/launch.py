"""Start a kernel and talk to it with nothing but zmq and minikernel's wire: the other side of connect_api.py.

Run it: ``python examples/launch.py``.  It writes a connection file, starts a kernel on it, asks who it is, runs
``1 + 1`` and shows every message that comes back.
"""

import os
import subprocess
import sys
import tempfile

import zmq

from minikernel import write_connection_file
from minikernel.protocol.wire import Session


def main() -> None:
    path, info = write_connection_file(os.path.join(tempfile.mkdtemp(), "kernel.json"))
    kernel = subprocess.Popen([sys.executable, "-m", "minikernel", "-f", path])
    session = Session(info["key"].encode(), info["signature_scheme"])
    context = zmq.Context()
    sockets = {}
    for channel, kind in (("shell", zmq.DEALER), ("iopub", zmq.SUB), ("control", zmq.DEALER)):
        sockets[channel] = context.socket(kind)
        sockets[channel].connect(f"tcp://{info['ip']}:{info[channel + '_port']}")

    sockets["iopub"].subscribe(b"")
    welcome = session.unpack(sockets["iopub"].recv_multipart())
    print(f"iopub   <- {welcome.msg_type}: from here on, nothing is missed")

    def ask(channel: str, msg_type: str, content: dict) -> None:  # type: ignore[type-arg]
        sockets[channel].send_multipart(session.pack(msg_type, content))
        print(f"{channel:7} -> {msg_type}")
        while True:
            message = session.unpack(sockets["iopub"].recv_multipart())
            print(f"iopub   <- {message.msg_type}: {message.content}")
            if message.content.get("execution_state") == "idle" and message.parent_header:
                break
        reply = session.unpack(sockets[channel].recv_multipart())
        print(f"{channel:7} <- {reply.msg_type}: {reply.content['status']}")

    ask("shell", "kernel_info_request", {})
    ask("shell", "execute_request", {"code": "print('hi'); 1 + 1"})
    ask("control", "shutdown_request", {"restart": False})
    print(f"the kernel has ended with {kernel.wait()}")
    context.destroy()
    os.unlink(path)
    os.rmdir(os.path.dirname(path))

    # What is still missing: stdin and the heartbeat, and a user at the other end.


if __name__ == "__main__":
    main()
