"""``--record`` and $MINIKERNEL_RECORD: every message on a line, whatever happens, and nothing that should stay secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client import Client, KernelProcess
from observer import Record

from minikernel.protocol.wire import DELIMITER, Session
from minikernel.tools.replay import load

Start = Callable[..., KernelProcess]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a record, held against the rules."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    record = Record()
    for line in lines:
        record.take(line)
    return lines


def end(client: Client, kernel: KernelProcess) -> None:
    client.send("shutdown_request", {"restart": False}, "control")
    assert kernel.wait() == 0


def test_every_message_is_a_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "record"
    kernel = start("--record", str(path))
    client = kernel.client()
    heard = [client.execute("print('out'); 1 + 1"), client.request("kernel_info_request", channel="control")]
    end(client, kernel)
    lines = read(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [lines[0]["content"], lines[-1]["direction"]] == [{"execution_state": "starting"}, "end"]
    assert all(set(line) == {"time", "direction"} for line in lines if line["direction"] == "end")
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    ids = {line["header"]["msg_id"]: line for line in lines if line["direction"] == "out"}
    for result in heard:
        for message in [result.message, *result.messages]:
            line = ids[message["header"]["msg_id"]]
            assert line["content"] == message["content"] and line["metadata"] == message["metadata"]
            [ident] = line["idents"]  # on iopub an address goes before the topic
            assert line["channel"] != "iopub" or message["idents"] == [b"@1 " + bytes.fromhex(ident)]
    asked = [line for line in lines if line["direction"] == "in"]
    assert [(line["channel"], line["header"]["msg_type"]) for line in asked] == [
        ("shell", "execute_request"), ("control", "kernel_info_request"), ("control", "shutdown_request")
    ]  # fmt: skip
    assert asked[0]["content"]["code"] == "print('out'); 1 + 1"
    assert asked[0]["idents"] == [client.session.bsession.hex()]


def test_no_key_and_no_signature(start: Start, tmp_path: Path) -> None:
    kernel = start("--record", str(tmp_path / "record"))
    client = kernel.client()
    four = [json.dumps(client.session.msg_header("kernel_info_request"), default=str).encode(), b"{}", b"{}", b"{}"]
    signature = Session(client.info["key"].encode()).sign(four)
    client.sockets["shell"].send_multipart([DELIMITER, signature, *four])
    client.finish(json.loads(four[0])["msg_id"])
    text = (tmp_path / "record").read_text()
    assert json.loads(four[0])["msg_id"] in text
    assert client.info["key"] not in text and signature.decode() not in text


def test_what_is_refused(start: Start, tmp_path: Path) -> None:
    client = start("--record", str(tmp_path / "record")).client()
    four = [json.dumps(client.session.msg_header("kernel_info_request"), default=str).encode(), b"{}", b"{}", b"{}"]
    frames = [DELIMITER, Session(client.info["key"].encode()).sign(four), *four]
    for bad in ([b"junk"], [DELIMITER, b"0" * 64, *four], frames, frames):
        client.sockets["shell"].send_multipart(bad)
    client.finish(json.loads(four[0])["msg_id"])
    client.request("kernel_info_request")
    lines = [line for line in read(tmp_path / "record") if "refused" in line]
    assert [line["refused"] for line in lines] == ["no <IDS|MSG> delimiter", "wrong signature", "replayed"]
    assert all(set(line) == {"time", "direction", "channel", "refused"} for line in lines)
    assert {line["channel"] for line in lines} == {"shell"}


def test_a_message_on_many_lines_is_on_one(start: Start, tmp_path: Path) -> None:
    client = start("--record", str(tmp_path / "record")).client()
    header = json.dumps(client.session.msg_header("execute_request"), default=str, indent=2).encode()
    four = [header, b"{\r\n}", b"\n{}", json.dumps({"code": "'a\\n\u2028b'"}, indent=1).encode() + b"\n"]
    client.sockets["shell"].send_multipart([DELIMITER, Session(client.info["key"].encode()).sign(four), *four])
    assert client.finish(json.loads(header)["msg_id"]).result == repr("a\n\u2028b")
    assert sum(line["direction"] == "in" for line in map(json.loads, open(tmp_path / "record", "rb"))) == 1
    read(tmp_path / "record")


def test_of_buffers_the_sizes(start: Start, tmp_path: Path) -> None:
    client = start("--record", str(tmp_path / "record")).client()
    client.execute("import minikernel.kernel.comm as c\ncomm = c.Comm('t', buffers=[b'', bytes(100_000)])")
    message = client.session.msg("comm_msg", content={"comm_id": "x", "data": {}})
    client.session.send(client.sockets["shell"], message, buffers=[b"12345"])
    client.finish(message["header"]["msg_id"], reply=False)
    sizes = {line["header"]["msg_type"]: line["buffers"] for line in read(tmp_path / "record")}
    assert sizes["comm_open"] == [0, 100_000] and sizes["comm_msg"] == [5] and sizes["execute_reply"] == []


def test_the_environment_names_a_file_or_a_directory(start: Start, tmp_path: Path) -> None:
    directory, path = tmp_path / "records", tmp_path / "record"
    directory.mkdir()
    path.write_text("")
    path.chmod(0o644)
    kernels = [start(env={"MINIKERNEL_RECORD": str(where)}) for where in (directory, directory, path)]
    kernels.append(start("--record=", env={"MINIKERNEL_RECORD": ""}))
    assert [kernel.client().execute("1").result for kernel in kernels] == ["1"] * 4
    names = set()
    for file in [*directory.iterdir(), path]:
        first = read(file)[0]
        assert first["content"] == {"execution_state": "starting"}
        names.add(file.name.replace(first["header"]["session"][:8], "session"))
        assert file.stat().st_mode & 0o777 == 0o600
    assert names == {
        "record",
        *(f"{kernel.connection_file.stem}-session-{kernel.pid}.jsonl" for kernel in kernels[:2]),
    }


def test_a_guests_messages(tmp_path: Path) -> None:
    """A kernel in an application is recorded as well, as often as it is started, and leaves no descriptor behind."""
    code = """if True:
        import os, minikernel
        for _ in range(2):
            with minikernel.start({}, connection_file="guest.json"):
                pass
        if os.path.isdir("/proc/self/fd"):
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd != "3"]
            assert not any("records" in link for link in links), links
    """
    (tmp_path / "records").mkdir()
    environment = {**os.environ, "MINIKERNEL_RECORD": "records"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)
    records = [read(file) for file in (tmp_path / "records").iterdir()]
    assert [[line["direction"] for line in lines] for lines in records] == [["out", "end"]] * 2


def test_kernels_may_share_a_file(start: Start, tmp_path: Path) -> None:
    kernels = [start("--record", str(tmp_path / "record")) for _ in range(2)]
    clients = [kernel.client() for kernel in kernels]
    runs = [client.start("for n in range(300): display(n)") for client in clients]
    for client, run in zip(clients, runs, strict=True):
        client.finish(run)
    lines = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert sum(line["header"]["msg_type"] == "display_data" for line in lines) == 600


def test_a_forked_child_writes_nothing(start: Start, tmp_path: Path) -> None:
    client = start("--record", str(tmp_path / "record")).client()
    client.execute("""
import os
pid = os.fork()
if not pid:
    print("from the child", flush=True)
    display("nothing")
    os._exit(0)
os.waitpid(pid, 0)
print("from the parent")
""")
    lines = read(tmp_path / "record")
    ids = [line["header"]["msg_id"] for line in lines]
    assert len(ids) == len(set(ids))
    assert not any(line["header"]["msg_type"] == "display_data" for line in lines)
    assert {line["header"]["session"] for line in lines if line["direction"] == "out"} == {
        lines[0]["header"]["session"]
    }


@pytest.mark.parametrize("torn", ["", '{"time": 1764000000.000000, "direction": "ou'])
def test_a_kernel_that_is_killed_leaves_one_torn_line_at_most_and_no_end(
    start: Start, tmp_path: Path, torn: str
) -> None:
    path = tmp_path / "record"
    kernel = start("--record", str(path))
    run = kernel.client().start("while True: print('x' * 100)")
    kernel.clients[0].output(run, "x")
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    lines = path.read_text().splitlines(keepends=True)
    if not lines[-1].endswith("\n"):  # a signal may break a write off
        torn = lines.pop()
    path.write_text("".join(lines) + torn)
    successor = start("--record", str(path), connection_file=kernel.connection_file)
    assert successor.client().execute("6 * 7").result == "42"
    end(successor.clients[0], successor)
    after = path.read_text().splitlines()[len(lines) :]
    assert torn == "" or after.pop(0) == torn
    (tmp_path / "first").write_text("".join(lines))
    (tmp_path / "second").write_text("\n".join(after))
    assert all(line["direction"] != "end" for line in read(tmp_path / "first"))
    assert [line["direction"] == "end" for line in read(tmp_path / "second")] == [False] * (len(after) - 1) + [True]
    assert [len(life) > 1 for life in load(str(path))] == [True, True]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_a_full_disk_costs_a_line(start: Start) -> None:
    kernel = start("--record", "/dev/full")
    client = kernel.client()
    assert [client.execute(f"{n} + 1").result for n in range(3)] == ["1", "2", "3"]
    end(client, kernel)
    assert kernel.stderr() == "[minikernel] the record in /dev/full ends here: No space left on device\n"


def test_a_file_that_cannot_be_made_costs_a_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "record"
    kernel = start("--record", str(path))
    assert kernel.client().execute("1").result == "1"
    assert kernel.stderr() == f"[minikernel] cannot record to {path}: No such file or directory\n"


def test_a_pipe_that_nobody_reads_stops_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        kernel = start("--record", str(path))
        client = kernel.client()
        assert client.execute("for n in range(1000): display('x' * 1000)").status == "ok"
        assert client.execute("1").result == "1"
        assert kernel.stderr().startswith(f"[minikernel] the record in {path} ends here: ")
        assert len(kernel.stderr().splitlines()) == 1
    finally:
        os.close(reader)
