"""03: who are you?  jupyter console connects.

New: iopub, where everything goes that all frontends should see, and what stands around each request there: a
``busy`` before all that it causes and an ``idle`` behind, with the request's header as their parent.  That is why a
frontend shows busy, and how it knows that nothing more will come.  A handler returns what the reply holds;
`dispatch` sends all that is around it.

Run it: ``python examples/03_kernel_info.py -f connection.json``, and in another terminal ``jupyter console
--existing connection.json``.  (In vain it waits a second for the history and, when you press Enter, one for an
is_complete_reply; of that it warns.)

Still wrong: what you type is not run, and there is no reply; the console waits for ever.
"""

import os
import sys
from typing import Any

import zmq

from minikernel import get_connection_info, write_connection_file
from minikernel.protocol.wire import EMPTY, PROTOCOL_VERSION, Message, Session, WireError


class Kernel:
    #: A ROUTER answers who has asked, a PUB tells everybody.
    kinds = {"hb": zmq.ROUTER, "shell": zmq.ROUTER, "iopub": zmq.PUB}

    def __init__(self, info: dict[str, Any]) -> None:
        self.session = Session(info["key"].encode(), info["signature_scheme"])
        self.sockets = {}
        context = zmq.Context()
        for channel, kind in self.kinds.items():
            self.sockets[channel] = context.socket(kind)
            self.sockets[channel].bind(f"tcp://{info['ip']}:{info[channel + '_port']}")
        #: What to do when something has come.
        self.readers: dict[Any, Any] = {self.sockets["hb"]: self.beat, self.sockets["shell"]: self.answer}
        self.handlers: dict[str, Any] = {"kernel_info_request": self.kernel_info_request}

    def run(self) -> None:
        poller = zmq.Poller()
        for socket in self.readers:
            poller.register(socket, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll():
                self.readers[socket]()

    def beat(self) -> None:
        self.sockets["hb"].send_multipart(self.sockets["hb"].recv_multipart())

    def answer(self) -> None:
        request = self.receive("shell")
        if request is not None:
            self.dispatch("shell", request)

    def receive(self, channel: str) -> Message | None:
        """Return the next message of a channel; None where it is none of ours."""
        try:
            return self.session.unpack(self.sockets[channel].recv_multipart())
        except WireError as error:
            print(f"dropped: {error}", file=sys.__stderr__, flush=True)
            return None

    def dispatch(self, channel: str, request: Message) -> None:
        self.publish("status", {"execution_state": "busy"}, request)
        handler = self.handlers.get(request.msg_type)
        if handler is not None:
            content = {"status": "ok", **handler(request)}
            self.send(channel, request.msg_type.replace("_request", "_reply"), content, request, request.idents)
        self.publish("status", {"execution_state": "idle"}, request)

    def publish(self, msg_type: str, content: dict[str, Any], request: Message) -> None:
        self.send("iopub", msg_type, content, request, [msg_type.encode()])  # subscribers may choose by that frame

    def send(
        self, channel: str, msg_type: str, content: dict[str, Any], request: Message | None, idents: list[bytes]
    ) -> None:
        parent = request.header_frame if request is not None else EMPTY
        self.transmit(channel, self.session.pack(msg_type, content, parent, idents=idents))

    def transmit(self, channel: str, frames: list[Any]) -> None:
        self.sockets[channel].send_multipart(frames)

    def kernel_info_request(self, request: Message) -> dict[str, Any]:
        return {
            "protocol_version": PROTOCOL_VERSION,
            "implementation": "stages",
            "implementation_version": "0",
            "language_info": {
                "name": "python", "version": "3", "mimetype": "text/x-python", "file_extension": ".py",
            },
            "banner": f"This is {os.path.basename(sys.argv[0])}.",
        }  # fmt: skip


def main(kernel_class: type[Kernel]) -> None:
    path = sys.argv[-1] if len(sys.argv) > 1 else "connection.json"
    if not os.path.exists(path):
        write_connection_file(path)
    kernel_class(get_connection_info(path)).run()


if __name__ == "__main__":
    main(Kernel)
