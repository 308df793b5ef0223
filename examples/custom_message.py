"""A message of one's own: two rows in the table of messages, a handler, and a client that sends it.

A handler takes a `Request` and returns what the reply holds; its name is the message's.  The rest is done by the
kernel: the row of the request fills in what is missing and refuses what does not fit, busy and idle stand around
it, and whatever goes wrong in it, there is a reply.

Run it: ``python examples/custom_message.py`` starts the kernel and sends it the message, well and badly.  With ``-f
connection.json`` it is the kernel alone, for any client.

Still missing: a name that is yours alone (``acme.greet_request``), for the next version of the protocol may have a
greet_request, too.  For what needs no reply, comms are the protocol's own way to say things of your own.
"""

import os
import subprocess
import sys
import tempfile
from typing import Any

import zmq

from minikernel import write_connection_file
from minikernel.__main__ import main as run_kernel
from minikernel.kernel.handlers import SHELL
from minikernel.kernel.request import Request
from minikernel.protocol.messages import MESSAGES, STR, Spec, optional
from minikernel.protocol.wire import Session

MESSAGES["greet_request"] = Spec(
    "shell", "frontend", "greet_reply", {"name": STR, "times": optional(int, 1)}, "(ours)", "Say hello."
)
MESSAGES["greet_reply"] = Spec("shell", "kernel", None, {"greeting": STR}, "(ours)", "What was said.")


def greet_request(request: Request) -> dict[str, Any]:
    greeting = " ".join(["hello"] * request.content["times"] + [request.content["name"]])
    request.publish("stream", {"name": "stdout", "text": f"{greeting}\n"})  # all frontends may know
    return {"greeting": greeting}


SHELL["greet_request"] = greet_request  # before the kernel is made; later it is `kernel.shell`


def main() -> None:
    path, info = write_connection_file(os.path.join(tempfile.mkdtemp(), "kernel.json"))
    kernel = subprocess.Popen([sys.executable, __file__, "-f", path])
    session = Session(info["key"].encode(), info["signature_scheme"])
    context = zmq.Context()
    shell, control = (context.socket(zmq.DEALER) for _ in "12")
    shell.connect(f"tcp://{info['ip']}:{info['shell_port']}")
    control.connect(f"tcp://{info['ip']}:{info['control_port']}")
    for content in ({"name": "you"}, {"name": "you", "times": 3}, {"times": 3}, {"name": "you", "times": "3"}):
        shell.send_multipart(session.pack("greet_request", content))
        reply = session.unpack(shell.recv_multipart())
        print(content, "->", reply.msg_type, reply.content.get("greeting") or reply.content["evalue"])
    control.send_multipart(session.pack("shutdown_request", {"restart": False}))
    print(f"the kernel has ended with {kernel.wait()}")
    context.destroy(linger=0)
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_kernel()
    else:
        main()
