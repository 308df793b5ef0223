"""Print the README's dump of frames and its diagrams, from real runs here and now."""

from __future__ import annotations

import json
import re
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import zmq
from client import TIMEOUT, KernelProcess

from minikernel.protocol.wire import DELIMITER, Session

#: The request of the dump, to the byte, so that who reads it can compute its signature.
KEY = "the key"
HEADER = (
    b'{"msg_id":"1","msg_type":"execute_request","session":"me","username":"me",'
    b'"date":"2026-01-01T12:00:00Z","version":"5.6"}'
)
REQUEST = [HEADER, b"{}", b"{}", b'{"code":"print(\\"hi\\")"}']
NAMES = ("delimiter", "signature", "header", "parent_header", "metadata", "content", "buffers")
#: What is worth saying of a frame, the first time.
NOTES = {
    "routing id": "whose request it is: the ROUTER has put it in front",
    "delimiter": "from here on it is the message",
    "signature": "of the four frames below",
    "parent_header": "it answers nothing",
    "topic": "what it is; other kernels send `status` to all, minikernel's @1 means one subscriber",
}
#: What is another in each run.
VOLATILE = re.compile(r'("(?:msg_id|date|session|username|started)": ?)"[^"]*"')

#: What the ROUTER needs to find the one who has asked.
BACK = "  routing id     me"

Json = dict[str, Any]


def read(record: Path) -> list[Json]:
    """The messages that a kernel has recorded so far."""
    lines = record.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for(record: Path, count: int) -> list[Json]:
    """Wait until that many messages have been recorded."""
    deadline = time.monotonic() + TIMEOUT
    while len(read(record)) < count:
        assert time.monotonic() < deadline, read(record)
        time.sleep(0.01)  # nobody tells us
    return read(record)


# -- the frames of print("hi") ----------------------------------------------------------------------------


def dump() -> str:
    """Return every frame of one execution, those of the kernel in the order in which it has sent them."""
    with tempfile.TemporaryDirectory() as directory, zmq.Context() as context:
        record = Path(directory) / "record"
        kernel = KernelProcess(Path(directory), "--record", str(record), key=KEY)
        try:
            kernel.ready()
            info = json.loads(kernel.connection_file.read_text())
            sockets = {"shell": context.socket(zmq.DEALER), "iopub": context.socket(zmq.SUB)}
            sockets["shell"].identity = b"me"
            sockets["iopub"].subscribe(b"")
            for channel, socket in sockets.items():
                socket.linger, socket.rcvtimeo = 0, int(TIMEOUT * 1000)
                socket.connect(f"tcp://{info['ip']}:{info[channel + '_port']}")
            while b"iopub_welcome" not in sockets["iopub"].recv_multipart()[3]:
                pass
            session = Session(KEY.encode())
            asked = [DELIMITER, session.sign(REQUEST), *REQUEST]
            sockets["shell"].send_multipart(asked)
            heard = {}
            for channel, socket in sockets.items():
                last = False
                while not last:
                    frames = socket.recv_multipart()
                    message = session.unpack(frames)  # its signature is right
                    assert frames[frames.index(DELIMITER) + 3] == HEADER, (
                        "the parent is the request's header, to the byte"
                    )
                    heard[message.header["msg_id"]] = channel, frames
                    last = channel == "shell" or message.content.get("execution_state") == "idle"
            recorded = wait_for(record, 3 + len(heard))
        finally:
            kernel.close()
    [arrived] = [line for line in recorded if line["direction"] == "in"]
    blocks = [describe("shell", "frontend → kernel", [bytes.fromhex(arrived["idents"][0]), *asked], {})]
    before: dict[str, str] = {}
    for name, note in NOTES.items():
        blocks[0] = re.sub(rf"^(  {name} +.*)$", rf"\1   ← {note}", blocks[0], flags=re.M)
    for line in recorded:
        if line["header"]["msg_id"] in heard:
            channel, frames = heard[line["header"]["msg_id"]]
            if channel == "shell":
                frames = [bytes.fromhex(line["idents"][0]), *frames]  # as it left
            blocks.append(describe(channel, "kernel → frontend", frames, before))
    blocks[1] = re.sub("^(  topic .*)$", rf"\1   ← {NOTES['topic']}", blocks[1], flags=re.M)
    return "\n".join(blocks).replace(f"\n{BACK}\n", f"\n{BACK}   ← to whom: the ROUTER takes it off again\n")


def describe(channel: str, direction: str, frames: list[bytes], before: dict[str, str]) -> str:
    """Return the frames by name, those left out that look as they did in the message `before`."""
    at = frames.index(DELIMITER)
    first = "topic" if channel == "iopub" else "routing id"
    shown = dict(zip((first, *NAMES), [frames[0].decode(), *[f.decode() for f in frames[at:]]], strict=False))
    if direction.startswith("kernel"):
        if channel == "iopub":
            shown[first] = re.sub(r"^@\d+", "@1", shown[first])
        shown = {name: VOLATILE.sub(r'\1"…"', text) for name, text in shown.items()}
        shown |= {"signature": "…", "parent_header": "the header of the request, byte by byte"}
    lines = [f"{channel}, {direction}"]
    lines += [f"  {name:14} {text}" for name, text in shown.items() if before.get(name) != text]
    before.update(shown)
    return "\n".join(lines) + "\n"


# -- diagrams ---------------------------------------------------------------------------------------------


def ladder(shown: list[tuple[str, str, str, str]]) -> str:
    """Return a sequence diagram of (channel, direction, what, what of it)."""
    lines = ["frontend" + " " * 34 + "kernel"]
    for channel, direction, name, about in shown:
        text = f"{channel} ── {name} " if channel else f"{name} "
        arrow = f"── {text:─<36}▶" if direction == "in" else f"◀─ {text:─<36}─"
        lines.append(f"   │{arrow}│  {about}".rstrip())
    return "\n".join(lines) + "\n"


def rows(lines: list[Json]) -> list[tuple[str, str, str, str]]:
    """Return the rows of recorded messages; of several requests, with the number of the one that they belong to."""
    asked = [
        line["header"]["msg_id"]
        for line in lines
        if line["direction"] == "in" and line["header"]["msg_type"].endswith("_request")
    ]
    result = []
    for line in lines:
        channel, direction, name, about = row(line)
        if len(asked) > 1:
            msg_id = line["parent_header"].get("msg_id", line["header"]["msg_id"])
            about = f"[{asked.index(msg_id) + 1}] {about}".rstrip()
        result.append((channel, direction, name, about))
    return result


def row(line: Json) -> tuple[str, str, str, str]:
    """Return the row of a recorded message."""
    msg_type, content = line["header"]["msg_type"], line["content"]
    about = {
        "execute_request": lambda: content["code"],
        "status": lambda: content["execution_state"],
        "execute_input": lambda: f"In [{content['execution_count']}]",
        "stream": lambda: f"{content['name']} {json.dumps(content['text'])}",
        "execute_result": lambda: f"Out[{content['execution_count']}]: {content['data']['text/plain']}",
        "execute_reply": lambda: content["status"],
        "error": lambda: content["ename"],
        "input_request": lambda: json.dumps(content["prompt"]),
        "input_reply": lambda: json.dumps(content["value"]),
        "interrupt_request": lambda: "",
        "interrupt_reply": lambda: content["status"],
    }[msg_type]()
    return line["channel"], line["direction"], msg_type, about


def cell_that_asks() -> str:
    """Return the diagram of a cell that prints, asks and has a value."""
    return ladder(rows(asking()))


def question() -> str:
    """Return what the two messages of a question name as their routing ids and parents."""
    lines = asking()
    [request] = [line for line in lines if line["header"]["msg_type"] == "execute_request"]
    names = {line["header"]["msg_id"]: line["header"]["msg_type"] for line in lines}
    blocks = []
    for line in lines:
        if line["channel"] == "stdin":
            assert line["idents"] == request["idents"], "on stdin it has the routing id that it has on shell"
            direction = "frontend → kernel" if line["direction"] == "in" else "kernel → frontend"
            blocks.append(
                f"stdin, {direction}\n"
                f"{BACK}\n"
                f'  header         {{…"msg_type":"{line["header"]["msg_type"]}"…}}\n'
                f"  parent_header  the header of the {names[line['parent_header']['msg_id']]}\n"
                f"  content        {json.dumps(line['content'], separators=(',', ':'))}\n"
            )
    return "\n".join(blocks)


@cache
def asking() -> list[Json]:
    """Return the messages of a cell that prints, asks and has a value."""
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "record"
        kernel = KernelProcess(Path(directory), "--record", str(record))
        try:
            client = kernel.client()
            start = len(wait_for(record, 2))
            msg_id = client.start('print("hi"); name = input("who? "); name', allow_stdin=True)
            asked = client.wait_for("stdin", lambda m: m["msg_type"] == "input_request")
            client.send("input_reply", {"value": "me"}, "stdin", parent=asked["header"])
            client.finish(msg_id)
            return wait_for(record, start + 9)[start:]
        finally:
            kernel.close()


def ctrl_c() -> str:
    """Return the diagram of a cell that is interrupted while another waits behind it."""
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "record"
        kernel = KernelProcess(Path(directory), "--record", str(record))
        try:
            client = kernel.client()
            start = len(wait_for(record, 2))
            first = client.start('import time; print("go"); time.sleep(60)')
            client.output(first, "go\n")
            second = client.start('print("never")')
            before = wait_for(record, start + 5)
            kernel.interrupt()
            client.finish(second)
            shown = rows(wait_for(record, start + 11)[start:])
            shown.insert(len(before) - start, ("", "in", "SIGINT", "Ctrl-C: no message, but a signal"))
            return ladder(shown)
        finally:
            kernel.close()


def interrupt_request() -> str:
    """Return the diagram of a cell that awaits and is interrupted by a message.

    Two threads answer, so on a loaded machine what belongs to the one may come between: the usual order is shown.
    """
    for _ in range(10):
        with tempfile.TemporaryDirectory() as directory:
            record = Path(directory) / "record"
            kernel = KernelProcess(Path(directory), "--record", str(record))
            try:
                client = kernel.client()
                start = len(wait_for(record, 2))
                cell = client.start("import asyncio; await asyncio.sleep(60)")
                wait_for(record, start + 3)
                client.request("interrupt_request", channel="control")
                client.finish_rest(cell)
                client.request("kernel_info_request")  # when it is read, all before it has been recorded
                lines = read(record)[start:]
                types = [line["header"]["msg_type"] for line in lines]
                shown = rows(lines[: types.index("kernel_info_request")])
            finally:
                kernel.close()
        if [about[:3] for *_, about in shown] == ["[1]"] * 3 + ["[2]"] * 4 + ["[1]"] * 4:
            break
    return ladder(shown)


BLOCKS = (dump, cell_that_asks, question, ctrl_c, interrupt_request)

if __name__ == "__main__":
    for block in BLOCKS:
        print(f"```text\n{block()}```\n")
