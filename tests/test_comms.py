"""Comms both ways, with buffers, while a cell awaits, and through the comm package."""

from __future__ import annotations

import pytest
from client import Client, KernelProcess, Result

TARGET = """
import minikernel
from minikernel.kernel.request import current_request
manager = current_request().kernel.comms
heard = []
def opened(comm, msg):
    heard.append(('open', msg['content']['data'], [bytes(b) for b in msg['buffers']]))
    @comm.on_msg
    def echo(msg):
        print('heard', msg['content']['data'])
        comm.send({'echo': msg['content']['data']}, {'m': 1}, [bytes(b)[::-1] for b in msg['buffers']])
    comm.on_close(lambda msg: heard.append(('close', msg['content']['data'])))
manager.register_target('target', opened)
manager.register_target('bad', lambda comm, msg: 1 / 0)
"""


def send(
    client: Client,
    msg_type: str,
    content: dict[str, object],
    buffers: list[bytes] | None = None,
    metadata: dict[str, object] | None = None,
    **header: object,
) -> Result:
    msg = client.session.msg(msg_type, content=content, metadata=metadata)
    msg["header"].update(header)
    client.session.send(client.sockets["shell"], msg, buffers=buffers)
    return client.finish(msg["header"]["msg_id"], reply=False)


def test_a_comm_of_the_frontend(client: Client) -> None:
    client.execute(TARGET)
    assert (
        send(client, "comm_open", {"comm_id": "c", "target_name": "target", "data": {"a": 1}}, [b"xy"]).outputs
        == []
    )
    assert client.request("comm_info_request").reply["comms"] == {"c": {"target_name": "target"}}
    assert client.request("comm_info_request", {"target_name": "other"}).reply["comms"] == {}
    run = send(client, "comm_msg", {"comm_id": "c", "data": {"b": 2}}, [b"abc", b""])
    assert run.text() == "heard {'b': 2}\n"
    [message] = [m for m in run.outputs if m["msg_type"] == "comm_msg"]
    assert message["content"] == {"comm_id": "c", "data": {"echo": {"b": 2}}} and message["metadata"] == {"m": 1}
    assert [bytes(b) for b in message["buffers"]] == [b"cba", b""] and message["idents"] == [b"@1 comm-c"]
    send(client, "comm_close", {"comm_id": "c", "data": {"c": 3}})
    assert client.execute("heard").result == "[('open', {'a': 1}, [b'xy']), ('close', {'c': 3})]"
    assert client.request("comm_info_request").reply["comms"] == {}
    assert send(client, "comm_msg", {"comm_id": "c", "data": {}}).outputs == []


def test_an_unknown_target_is_closed_at_once(shared: Client) -> None:
    run = send(shared, "comm_open", {"comm_id": "u", "target_name": "nobody"})
    assert [m["msg_type"] for m in run.outputs] == ["comm_close"]
    assert run.outputs[0]["content"]["comm_id"] == "u"


def test_a_callback_that_fails_is_shown_and_harms_nobody(client: Client) -> None:
    client.execute(TARGET)
    run = send(client, "comm_open", {"comm_id": "b", "target_name": "bad"})
    assert "ZeroDivisionError" in run.text("stderr") and "comm_close" in run.types
    assert client.execute("1").result == "1"


def test_a_comm_of_the_kernel(client: Client) -> None:
    run = client.execute(
        "from minikernel.kernel.comm import Comm\nc = Comm('widget', data={'v': 1}, metadata={'version': '2'}, buffers=[b'1'])\n"
        "c.send({'w': 2}); c.close({'x': 3}); c.close()"
    )
    assert [m["msg_type"] for m in run.outputs] == ["comm_open", "comm_msg", "comm_close"]
    opened = run.outputs[0]
    assert opened["content"]["target_name"] == "widget" and opened["content"]["data"] == {"v": 1}
    assert opened["metadata"] == {"version": "2"} and bytes(opened["buffers"][0]) == b"1"
    assert client.execute("c.send({'o': object()})").ename == "TypeError"


def test_messages_arrive_while_a_cell_awaits(client: Client) -> None:
    client.execute(TARGET)
    send(client, "comm_open", {"comm_id": "c", "target_name": "target"})
    msg_id = client.start("""
import asyncio
event = asyncio.Event()
manager.get_comm('c').on_msg(lambda msg: (print('in callback'), event.set()))
print('go')
await asyncio.wait_for(event.wait(), 20)
print('woken')
""")
    client.output(msg_id, "go")
    run = send(client, "comm_msg", {"comm_id": "c", "data": {}})
    assert run.text() == "in callback\n"
    run = client.finish(msg_id)
    assert run.status == "ok"


def test_messages_wait_for_a_plain_cell(client: Client) -> None:
    client.execute(TARGET)
    send(client, "comm_open", {"comm_id": "c", "target_name": "target"})
    subshell = client.create_subshell()
    client.execute("import threading; go = threading.Event()")
    msg_id = client.start("print('go'); go.wait(20); print(len(heard))")
    client.output(msg_id, "go")
    sent = client.send("comm_msg", {"comm_id": "c", "data": {}})
    client.execute("go.set()", subshell)  # came after it, through the same socket
    assert client.finish(msg_id).text() == "1\n"
    assert client.finish(sent, reply=False).text() == "heard {}\n"


def test_large_buffers(client: Client) -> None:
    client.execute(TARGET)
    send(client, "comm_open", {"comm_id": "c", "target_name": "target"})
    data = bytes(range(256)) * 40_000
    run = send(client, "comm_msg", {"comm_id": "c", "data": {}}, [data])
    [message] = [m for m in run.outputs if m["msg_type"] == "comm_msg"]
    assert bytes(message["buffers"][0]) == data[::-1]


def test_the_comm_package_is_taken_over(client: Client) -> None:
    pytest.importorskip("comm")
    client.execute(TARGET)
    run = client.execute(
        "import comm\nc = comm.create_comm(target_name='t', data={'z': 1})\nisinstance(c, comm.base_comm.BaseComm), comm.get_comm_manager() is manager"
    )
    assert run.result == "(True, True)" and run.types.count("comm_open") == 1
    client.execute(
        "comm.get_comm_manager().register_target('via', lambda c, m: c.send({'type': type(c).__mro__[2].__name__}))"
    )
    run = send(client, "comm_open", {"comm_id": "v", "target_name": "via"})
    assert run.outputs[0]["content"]["data"] == {"type": "BaseComm"}


def test_ipywidgets(client: Client) -> None:
    pytest.importorskip("ipywidgets")
    run = client.execute("import ipywidgets as w\ns = w.IntSlider(value=3)\ns")
    assert run.types.count("comm_open") == 3
    comm_id = next(
        m["content"]["comm_id"]
        for m in run.outputs
        if m["content"].get("data", {}).get("state", {}).get("value") == 3
    )
    [value] = [m for m in run.outputs if m["msg_type"] == "execute_result"]
    assert value["content"]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] == comm_id
    client.execute("s.observe(lambda change: print('now', change['new']), 'value')")
    run = send(
        client,
        "comm_msg",
        {"comm_id": comm_id, "data": {"method": "update", "state": {"value": 7}, "buffer_paths": []}},
    )
    assert "now 7\n" in run.text()
    assert client.execute("s.value").result == "7"
    # a page that is loaded again asks for the state of all widgets
    opened = {"comm_id": "control", "target_name": "jupyter.widget.control"}
    assert send(client, "comm_open", opened, metadata={"version": "1.0.0"}).outputs == []
    run = send(client, "comm_msg", {"comm_id": "control", "data": {"method": "request_states"}})
    [states] = [m for m in run.outputs if m["msg_type"] == "comm_msg"]
    assert comm_id in states["content"]["data"]["states"]
    assert comm_id in client.request("comm_info_request", {"target_name": "jupyter.widget"}).reply["comms"]


def test_comms_in_a_subshell(kernel: KernelProcess) -> None:
    client = kernel.client()
    client.execute(TARGET)
    send(client, "comm_open", {"comm_id": "c", "target_name": "target"})
    subshell = client.create_subshell()
    msg_id = client.start("import time; print('go'); time.sleep(3)")
    client.output(msg_id, "go")
    run = send(client, "comm_msg", {"comm_id": "c", "data": {"during": 1}}, subshell_id=subshell)
    assert run.text() == "heard {'during': 1}\n"
    kernel.interrupt()
    client.finish_rest(msg_id)


def test_an_answer_finds_the_cell_that_awaits_it(client: Client) -> None:
    """A frontend sends comm messages to a subshell; the cell on the main shell that has asked must get its own."""
    client.execute(TARGET)
    send(client, "comm_open", {"comm_id": "c", "target_name": "target"})
    subshell = client.create_subshell()
    msg_id = client.start("""
import asyncio, threading
answer = asyncio.get_running_loop().create_future()
comm = manager.get_comm('c')
comm.on_msg(lambda msg: answer.set_result(threading.current_thread() is threading.main_thread()))
comm.send({'question': 1}); print('go')
await asyncio.wait_for(answer, 20)
""")
    client.output(msg_id, "go")
    send(client, "comm_msg", {"comm_id": "c", "data": {}}, subshell_id=subshell)
    assert client.finish_rest(msg_id) is None
    assert client.execute("answer.result()").result == "True"
