"""06: input().

New: the stdin channel, on which the kernel asks and the frontend answers.  The question goes to the routing ids of
the request whose code asks: a frontend gives its sockets for shell and stdin the same identity.  It goes only
where ``allow_stdin`` says that there is somebody to ask, and on another socket than what was printed: so that is
sent first.

Run it: ``python examples/06_stdin.py -f connection.json``, and in another terminal ``jupyter console --existing
connection.json``; try ``input("who? ")``.  Then try ``import time; time.sleep(60)`` in ``python examples/client.py
-f connection.json``: its Ctrl-C does nothing before the cell's end, and another console does not start before it.

Still wrong: while a cell runs or asks, the kernel hears nothing.  No heartbeat comes back, no frontend can
connect, nothing can be interrupted.  A Ctrl-C in the kernel's terminal ends the cell or the kernel, wherever it
lands.
"""

import builtins
import sys
from importlib import import_module
from typing import Any

import zmq

from minikernel.protocol.wire import Message

stage = import_module("05_streams")
main = stage.main


class Kernel(stage.Kernel):
    kinds = stage.Kernel.kinds | {"stdin": zmq.ROUTER}

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(info)
        builtins.input = self.input

    def input(self, prompt: object = "") -> str:
        request = self.request
        if not request.content.get("allow_stdin"):
            raise RuntimeError("this frontend does not want to be asked")
        sys.stdout.flush()
        self.send("stdin", "input_request", {"prompt": str(prompt), "password": False}, request, request.idents)
        while True:
            message = self.next_answer()
            if message is not None and message.msg_type == "input_reply" and message.idents == request.idents:
                return message.content["value"]

    def next_answer(self) -> Message | None:
        return self.receive("stdin")


if __name__ == "__main__":
    main(Kernel)
