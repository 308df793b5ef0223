"""05: what code prints.

New: sys.stdout and sys.stderr become stream messages.  ``print("hi")`` writes twice, "hi" and the end of the line;
so a text waits for the end of its line, and leaves before anything else that its cell says.  And since a frontend
that subscribes late has missed what was said before: XPUB, a PUB that hears of subscriptions, and iopub_welcome,
which says "from here on you miss nothing".

Run it: ``python examples/05_streams.py -f connection.json``, and in another terminal ``jupyter console --existing
connection.json``; try ``print("hi")``, and ``input()``.

Still wrong: ``input()`` asks in the kernel's terminal.  What C code and child processes print goes there, too, and
what is written to stdout and stderr in half lines may come in another order.
"""

import io
import sys
from importlib import import_module
from typing import Any

import zmq

from minikernel.protocol.wire import Message

stage = import_module("04_execute")
main = stage.main


class Stream(io.TextIOBase):
    def __init__(self, kernel: "Kernel", name: str) -> None:
        self.kernel, self.name, self.text = kernel, name, ""

    def write(self, text: str) -> int:
        self.text += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self.text = self.text, ""
        if text:
            self.kernel.publish("stream", {"name": self.name, "text": text}, self.kernel.request)


class Kernel(stage.Kernel):
    kinds = stage.Kernel.kinds | {"iopub": zmq.XPUB}

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(info)
        iopub = self.sockets["iopub"]
        iopub.setsockopt(zmq.XPUB_VERBOSE, 1)  # or it tells of a topic's first subscriber only
        self.readers[iopub] = self.welcome
        self.request: Message | None = None  # the cell that runs, or was the last to run
        sys.stdout, sys.stderr = Stream(self, "stdout"), Stream(self, "stderr")

    def welcome(self) -> None:
        event = self.sockets["iopub"].recv()
        if event[:1] == b"\x01":  # and 0 says that a subscription ends
            topic = event[1:]
            self.send("iopub", "iopub_welcome", {"subscription": topic.decode(errors="replace")}, None, [topic])

    def execute_request(self, request: Message) -> dict[str, Any]:
        self.request = request
        return super().execute_request(request)

    def publish(self, msg_type: str, content: dict[str, Any], request: Message) -> None:
        if request is self.request and msg_type != "stream":  # what was printed before comes before
            sys.stdout.flush()
            sys.stderr.flush()
        super().publish(msg_type, content, request)


if __name__ == "__main__":
    main(Kernel)
