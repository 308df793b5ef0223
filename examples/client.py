"""A frontend: a console in less than a hundred lines, on the kernel's own ``protocol/wire.py``.

It shows what the protocol asks of the other side.  A request is over when its reply *and* its idle have come, on
two sockets that know nothing of each other.  What belongs to it has its msg_id in the parent_header; the rest is
other frontends'.  Questions come on stdin, where the socket has the identity that the kernel knows from shell.
Ctrl-C is an interrupt_request on control.

Run it: ``python examples/client.py -f connection.json``, on any kernel from 03 on;
an end of input (Ctrl-D) leaves it.

Still missing: is_complete_request, to know when Enter runs a cell; completion; history.  It waits for ever for a
kernel that is dead, because it does not listen to the heartbeat.  And between two sockets there is no order: the
question of ``input()`` may be here before the text that was printed before it.
"""

import sys
from typing import Any

import zmq

from minikernel import get_connection_info
from minikernel.protocol.wire import Message, Session, dumps

#: iopub first: what was printed before a question is shown before it, if both are here.
KINDS = {"iopub": zmq.SUB, "shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER}


class Frontend:
    def __init__(self, path: str) -> None:
        info = get_connection_info(path)
        self.session = Session(info["key"].encode(), info["signature_scheme"])
        self.poller = zmq.Poller()
        self.sockets: dict[str, Any] = {}
        for channel, kind in KINDS.items():
            socket = self.sockets[channel] = zmq.Context.instance().socket(kind)
            if kind == zmq.DEALER:
                socket.identity = self.session.id.encode()
            socket.connect(f"tcp://{info['ip']}:{info[channel + '_port']}")
            self.poller.register(socket, zmq.POLLIN)
        self.sockets["iopub"].subscribe(b"")
        self.sockets["iopub"].poll(1000)  # iopub_welcome, which kernels before 5.4 do not send

    def send(self, channel: str, msg_type: str, content: dict[str, Any], parent: bytes = b"{}") -> str:
        """Send a message; return its id."""
        msg_id = self.session.new_id()
        self.sockets[channel].send_multipart(self.session.pack(msg_type, content, parent, msg_id=msg_id))
        return msg_id

    def ask(self, msg_type: str, content: dict[str, Any]) -> dict[str, Any]:
        """Send a request on shell, show what it causes, and return the content of its reply."""
        msg_id = self.send("shell", msg_type, content)
        reply, idle = None, False
        while reply is None or not idle:
            try:
                ready = dict(self.poller.poll())
                for channel in [name for name, socket in self.sockets.items() if socket in ready]:
                    message = self.session.unpack(self.sockets[channel].recv_multipart())
                    if message.parent_header.get("msg_id") != msg_id:
                        continue
                    if channel == "shell":
                        reply = message.content
                    elif channel == "stdin":
                        self.answer(message)
                    elif channel == "iopub":
                        self.show(message)
                        idle = message.content.get("execution_state") == "idle"
            except KeyboardInterrupt:
                self.send("control", "interrupt_request", {})
        return reply

    def answer(self, question: Message) -> None:
        value = input(question.content["prompt"])
        self.send("stdin", "input_reply", {"value": value}, question.header_frame)

    def show(self, message: Message) -> None:
        content = message.content
        if message.msg_type == "stream":
            print(content["text"], end="", flush=True)
        elif message.msg_type == "execute_result":
            print(f"Out[{content['execution_count']}]: {content['data']['text/plain']}", flush=True)
        elif message.msg_type == "display_data":
            print(content["data"].get("text/plain", dumps(list(content["data"])).decode()), flush=True)
        elif message.msg_type == "error":
            print("\n".join(content["traceback"]), flush=True)


def main() -> None:
    frontend = Frontend(sys.argv[-1] if len(sys.argv) > 1 else "connection.json")
    print(frontend.ask("kernel_info_request", {})["banner"], flush=True)
    count = 1
    while True:
        try:
            code = input(f"In [{count}]: ")
        except (EOFError, KeyboardInterrupt):
            break
        count = frontend.ask("execute_request", {"code": code, "allow_stdin": True})["execution_count"] + 1


if __name__ == "__main__":
    main()
