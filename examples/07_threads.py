"""07: threads, and why one of them owns the sockets.

A kernel has to hear while code runs: heartbeats, an interrupt, another frontend.  Code needs the main thread,
where Python delivers signals: a KeyboardInterrupt from elsewhere would not break a ``time.sleep``.  And no socket
of zmq may be used by two threads.  So, new:

* the channels thread does `run`, and owns shell, control, stdin and iopub; nobody else touches them;
* the main thread runs code.  What is for it comes through `inbox`, an answer to ``input()`` through `answers`, and
  all that it says leaves through `outbox`, one queue, so in the order in which it was said.  (A SimpleQueue: an
  interrupt may land in the middle of a `put`, and one of Queue's would keep its lock.)  A byte in a pipe wakes the
  channels thread, which polls that beside its sockets;
* the heartbeat's thread is in C, `zmq.proxy`, which sends what comes on one socket to another, here the same.  It
  needs no Python: it beats while code runs that keeps the GIL, the lock that whoever runs Python has to hold;
* control, for what must not wait behind a cell.  An interrupt_request becomes a SIGINT for the main thread.

Run it: ``python examples/07_threads.py -f connection.json``, and in other terminals ``jupyter console --existing
connection.json`` and ``python examples/client.py -f connection.json``, whose Ctrl-C is an interrupt_request: try
``import time; time.sleep(60)``, and it ends at once.  A Ctrl-C in the kernel's terminal ends the cell and no longer
the kernel; Ctrl-\\ does.

Still wrong: a Ctrl-C may land in the kernel's own code, in `Stream.write` say, and tear it; iopub drops what is
printed faster than a frontend reads; what a thread prints when its cell has ended goes to another; after an error
the cells that wait behind it run all the same; nothing shuts it down.  minikernel is the next stage: begin with
``minikernel/__init__.py``.
"""

import os
import signal
import threading
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import zmq

from minikernel.protocol.wire import Message

stage = import_module("06_stdin")
main = stage.main


class Kernel(stage.Kernel):
    kinds = stage.Kernel.kinds | {"control": zmq.ROUTER}

    def __init__(self, info: dict[str, Any]) -> None:
        super().__init__(info)
        self.inbox: SimpleQueue[Message | None] = SimpleQueue()
        self.answers: SimpleQueue[Message | None] = SimpleQueue()
        self.outbox: SimpleQueue[tuple[str, list[Any]]] = SimpleQueue()
        self.awake, self.wake = os.pipe()
        os.set_blocking(self.wake, False)  # the channels thread writes, too, and must not wait for itself
        self.running = False
        self.handlers["interrupt_request"] = self.interrupt_request
        del self.readers[self.sockets["hb"]]
        self.readers[self.sockets["shell"]] = lambda: self.inbox.put(self.receive("shell"))
        self.readers[self.sockets["stdin"]] = lambda: self.answers.put(self.receive("stdin"))
        self.readers[self.sockets["control"]] = self.answer_control
        self.readers[self.awake] = self.send_all

    # -- the main thread

    def run(self) -> None:
        signal.signal(signal.SIGINT, self.on_sigint)
        hb = self.sockets["hb"]
        threading.Thread(target=zmq.proxy, args=(hb, hb), daemon=True).start()
        threading.Thread(target=super().run, daemon=True).start()
        while True:
            request = self.inbox.get()
            if request is not None:
                self.dispatch("shell", request)

    def run_code(self, code: str) -> Any:
        self.running = True
        try:
            return super().run_code(code)
        finally:
            self.running = False

    def on_sigint(self, signum: int, frame: object) -> None:
        if self.running:
            raise KeyboardInterrupt

    def next_answer(self) -> Message | None:
        return self.answers.get()

    # -- any thread

    def transmit(self, channel: str, frames: list[Any]) -> None:
        self.outbox.put((channel, frames))
        try:
            os.write(self.wake, b"\0")
        except BlockingIOError:
            pass  # so many bytes are there that it is awake

    # -- the channels thread

    def send_all(self) -> None:
        os.read(self.awake, 1 << 16)
        while not self.outbox.empty():
            super().transmit(*self.outbox.get())

    def answer_control(self) -> None:
        request = self.receive("control")
        if request is not None:
            self.dispatch("control", request)

    def interrupt_request(self, request: Message) -> dict[str, Any]:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return {}


if __name__ == "__main__":
    main(Kernel)
