"""The floor: what a kernel in Python costs that is a kernel and nothing else.

It says all that a kernel has to say, with the same JSON, the same signatures and the same sends: busy,
execute_input, the result, the reply and idle of each execute_request.  It has one thread and blocking sockets, no
event loop and no queue; it runs a cell by one `eval`, and believes what it is sent.  Two more threads answer
control and, in C, the heartbeat: without them both would wait for the end of a cell.

Nothing here is tuned.  A kernel that comes close to it wastes nothing; one that falls below it in some row knows a
trick worth reading.  ``python floor.py CONNECTION_FILE`` runs it.
"""

from __future__ import annotations

import builtins
import hmac
import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count
from threading import Lock, Thread
from time import monotonic
from types import SimpleNamespace
from typing import Any

import zmq

TOP_LEVEL_AWAIT, COROUTINE = 0x2000, 0x80  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, inspect.CO_COROUTINE
#: Seconds between two messages of a stream, and the characters after which one leaves all the same.
PAUSE, FULL = 0.01, 1 << 20
encode = json.JSONEncoder(ensure_ascii=False).encode
Content = dict[str, Any]


class Floor:
    """The sockets, the namespace and the request that is being answered."""

    def __init__(self, info: Content) -> None:
        self.mac = hmac.new(info["key"].encode(), digestmod="sha256")
        self.session, self.ids, self.count = os.urandom(16).hex(), count(), 0
        self.parent, self.publishing = b"{}", Lock()
        self.comms: dict[str, Callable[[Content], object]] = {}
        self.namespace: Content = {"display": self.display, "create_comm": self.create_comm}
        self.sockets: dict[str, zmq.Socket[bytes]] = {}
        context = zmq.Context()
        for name in ("shell", "control", "iopub", "hb"):
            socket = self.sockets[name] = context.socket(zmq.PUB if name == "iopub" else zmq.ROUTER)
            socket.set_hwm(0)
            socket.bind(f"tcp://{info['ip']}:{info[f'{name}_port']}")

    def run(self) -> None:
        """Answer requests for ever."""
        beat = self.sockets["hb"]
        Thread(target=zmq.proxy, args=(beat, beat), daemon=True).start()
        Thread(target=self.serve, args=("control",), daemon=True).start()
        sys.stdout = Out(self)
        while True:
            try:
                self.serve("shell")
            except KeyboardInterrupt:
                continue  # it came between two cells

    def serve(self, channel: str) -> None:
        """Answer the requests of one channel."""
        socket = self.sockets[channel]
        while True:
            frames: list[Any] = [socket.recv()]
            while socket.rcvmore:
                frames.append(socket.recv(copy=len(frames) < 7))  # what follows are buffers
            ident, _, signature, *four = frames[:7]
            if not hmac.compare_digest(self.sign(four), signature):
                continue
            header, msg_type = four[0], json.loads(four[0])["msg_type"]
            if channel == "shell":
                self.parent = header
            self.publish("status", {"execution_state": "busy"}, header)
            reply = getattr(self, msg_type)(json.loads(four[3]), frames[7:])
            if reply is not None:
                answer = self.pack(msg_type.replace("_request", "_reply"), {"status": "ok"} | reply, header)
                socket.send_multipart([ident, *answer])
            self.publish("status", {"execution_state": "idle"}, header)
            if msg_type == "shutdown_request":
                for name in ("iopub", "control"):
                    self.sockets[name].close(linger=1000)
                os._exit(0)

    # -- messages --------------------------------------------------------------------------------------

    def sign(self, frames: list[bytes]) -> bytes:
        mac = self.mac.copy()
        for frame in frames:
            mac.update(frame)
        return mac.hexdigest().encode()

    def pack(self, msg_type: str, content: Content, parent: bytes) -> list[Any]:
        header = {"msg_id": f"{self.session}_{next(self.ids)}", "msg_type": msg_type, "session": self.session,
                  "username": "floor", "version": "5.3", "date": datetime.now(timezone.utc).isoformat()}  # fmt: skip
        frames = [encode(header).encode(), parent, b"{}", encode(content).encode()]
        return [b"<IDS|MSG>", self.sign(frames), *frames]

    def publish(self, msg_type: str, content: Content, parent: bytes = b"", buffers: Any = ()) -> None:
        frames = [msg_type.encode(), *self.pack(msg_type, content, parent or self.parent), *buffers]
        with self.publishing:
            self.sockets["iopub"].send_multipart(frames, copy=len(frames[6]) < 1 << 16 and not buffers)

    # -- requests --------------------------------------------------------------------------------------

    def kernel_info_request(self, content: Content, buffers: list[Any]) -> Content:
        return {"protocol_version": "5.3", "implementation": "floor", "implementation_version": zmq.__version__,
                "language_info": {"version": sys.version.split()[0]}, "banner": "", "help_links": []}  # fmt: skip

    def shutdown_request(self, content: Content, buffers: list[Any]) -> Content:
        return {"restart": False}

    def execute_request(self, content: Content, buffers: list[Any]) -> Content:
        self.count += 1
        counted = {"execution_count": self.count}
        self.publish("execute_input", {"code": content["code"]} | counted)
        reply = {"user_expressions": {}, "payload": []} | counted
        try:
            value = self.evaluate(content["code"])
            sys.stdout.flush()
            if value is not None:
                self.publish("execute_result", {"data": {"text/plain": repr(value)}, "metadata": {}} | counted)
        except BaseException as error:
            sys.stdout.flush()
            raised = {"ename": type(error).__name__, "evalue": str(error), "traceback": [traceback.format_exc()]}
            self.publish("error", raised)
            reply |= {"status": "error"} | raised
        return reply

    def evaluate(self, code: str) -> Any:
        """Run a cell; return its value, if it is one expression and nothing else."""
        try:
            compiled = compile(code, "<cell>", "eval")
        except SyntaxError:
            compiled = compile(code, "<cell>", "exec", TOP_LEVEL_AWAIT)
        value = eval(compiled, self.namespace)
        if not compiled.co_flags & COROUTINE:
            return value
        import asyncio

        return asyncio.run(value)

    def complete_request(self, content: Content, buffers: list[Any]) -> Content:
        end = content["cursor_pos"]
        before, dot, prefix = content["code"][:end].rpartition(".")
        names = dir(self.namespace[before]) if dot else [*self.namespace, *vars(builtins)]
        matches = sorted(name for name in names if name.startswith(prefix))
        return {"matches": matches, "cursor_start": end - len(prefix), "cursor_end": end, "metadata": {}}

    def inspect_request(self, content: Content, buffers: list[Any]) -> Content:
        import inspect

        thing = self.namespace[content["code"]]
        text = f"{content['code']}{inspect.signature(thing)}\n{inspect.getdoc(thing)}"
        return {"found": True, "data": {"text/plain": text}, "metadata": {}}

    def comm_msg(self, content: Content, buffers: list[Any]) -> None:
        self.comms[content["comm_id"]]({"content": content, "buffers": [frame.buffer for frame in buffers]})

    # -- what cells call -------------------------------------------------------------------------------

    def display(self, data: Content, raw: bool = True) -> None:
        self.publish("display_data", {"data": data, "metadata": {}, "transient": {}})

    def create_comm(self, target_name: str) -> SimpleNamespace:
        comm_id = os.urandom(16).hex()

        def send(data: Any, buffers: list[Any]) -> None:
            self.publish("comm_msg", {"comm_id": comm_id, "data": data}, buffers=buffers)

        self.publish("comm_open", {"comm_id": comm_id, "target_name": target_name, "data": {}})
        return SimpleNamespace(send=send, on_msg=lambda callback: self.comms.update({comm_id: callback}))


class Out:
    """`sys.stdout`: a line leaves at once when none has left for a while, the rest with the cell."""

    def __init__(self, floor: Floor) -> None:
        self.floor, self.pieces, self.size, self.last = floor, list[str](), 0, 0.0

    def write(self, text: str) -> int:
        self.pieces.append(text)
        self.size += len(text)
        if (text.endswith("\n") and monotonic() - self.last > PAUSE) or self.size > FULL:
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self.pieces:
            self.floor.publish("stream", {"name": "stdout", "text": "".join(self.pieces)})
            self.pieces, self.size, self.last = [], 0, monotonic()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        Floor(json.load(file)).run()
