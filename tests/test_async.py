"""asyncio in cells: top-level await, tasks that live on, and asyncio.run in a plain cell."""

from __future__ import annotations

from client import Client, KernelProcess


def test_await_at_the_top_level(shared: Client) -> None:
    assert shared.execute("import asyncio\nawait asyncio.sleep(0.01, 'done')").result == "'done'"
    assert shared.execute("async def g():\n    yield 1\n[x async for x in g()]").result == "[1]"
    assert shared.execute("async with asyncio.Lock() as lock: print('in')").text() == "in\n"
    assert shared.execute("await asyncio.sleep(0); 1/0").ename == "ZeroDivisionError"


def test_await_without_importing_asyncio(client: Client) -> None:
    assert client.execute("async def f(): return 3").status == "ok"
    assert client.execute("await f()").result == "3"


def test_asyncio_run_in_a_plain_cell(client: Client) -> None:
    code = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0.01)\n    return x\nasyncio.run(f(5))"
    assert client.execute(code).result == "5"
    assert client.execute("asyncio.run(f(6))").result == "6"
    assert client.execute("asyncio.get_event_loop().run_until_complete(f(7))").result == "7"
    assert (
        client.execute("loop = asyncio.new_event_loop(); r = loop.run_until_complete(f(8)); loop.close(); r").result
        == "8"
    )
    code = "import sys\nif sys.version_info >= (3, 11):\n    with asyncio.Runner() as r: x = r.run(f(9))\nelse: x = 9\nx"
    assert client.execute(code).result == "9"
    assert client.execute("await f(10)").result == "10"


def test_create_task_in_a_plain_cell(client: Client) -> None:
    client.execute(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.05)\n    return 4\nt = asyncio.create_task(f())"
    )
    assert client.execute("await t").result == "4"
    assert client.execute("asyncio.get_running_loop() is asyncio.get_event_loop()").result == "True"
    assert client.execute("asyncio.run(f()); t2 = asyncio.create_task(f()); t2.done()").result == "False"
    assert client.execute("await t2").result == "4"


def test_import_and_create_task_in_one_cell(client: Client) -> None:
    run = client.execute(
        "import asyncio; f = asyncio.ensure_future(asyncio.sleep(0, 1)); asyncio.get_running_loop() is f.get_loop()"
    )
    assert run.result == "True"
    assert client.execute("await f").result == "1"


def test_tasks_live_on_while_the_kernel_is_idle(client: Client) -> None:
    msg_id = client.start(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.2)\n    print('later')\nt = asyncio.create_task(f())"
    )
    client.finish(msg_id)
    assert client.output(msg_id, "later\n") == "later\n"


def test_a_task_prints_into_its_own_cell(client: Client) -> None:
    msg_id = client.start(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.1)\n    print('mine')\nt = asyncio.create_task(f())"
    )
    client.finish(msg_id)
    other = client.execute("await asyncio.sleep(0.3); print('other')")
    assert other.text() == "other\n"
    assert client.output(msg_id, "mine\n") == "mine\n"


def test_context_variables_persist(client: Client) -> None:
    client.execute("import contextvars; v = contextvars.ContextVar('v'); v.set(1)")
    assert client.execute("v.get()").result == "1"
    client.execute("import asyncio; v.set(2); await asyncio.sleep(0)")
    assert client.execute("v.get()").result == "2"
    assert client.execute("await asyncio.sleep(0); v.get()").result == "2"


def test_the_loop_survives_what_cells_do_to_it(client: Client) -> None:
    client.execute("import asyncio")
    client.execute("asyncio.get_running_loop().stop()")
    assert client.execute("await asyncio.sleep(0, 1)").result == "1"
    client.execute(
        "async def f():\n    asyncio.get_running_loop().stop()\n    await asyncio.sleep(0.01)\n    return 2"
    )
    assert client.execute("await f()").result == "2"
    client.execute("asyncio.get_event_loop().close()")
    assert client.execute("await asyncio.sleep(0, 3)").result == "3"
    client.execute(
        "t = asyncio.create_task(asyncio.sleep(10)); [x.cancel() for x in asyncio.all_tasks(asyncio.get_event_loop())]"
    )
    assert client.execute("await asyncio.sleep(0, 4)").result == "4"
    client.execute("async def bad(): raise SystemExit(1)\nt = asyncio.create_task(bad())")
    assert client.execute("await asyncio.sleep(0.01, 5)").status == "ok"
    assert client.execute("await asyncio.sleep(0, 6)").result == "6"


def test_tornado_finds_the_same_loop(client: Client) -> None:
    run = client.execute(
        "import asyncio\nfrom tornado.ioloop import IOLoop\nIOLoop.current().asyncio_loop is asyncio.get_event_loop()"
    )
    assert run.result == "True"


def test_what_an_awaiting_cell_raises_has_its_traceback(kernel: KernelProcess) -> None:
    client = kernel.client()
    code = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    {}\nawait f(1)"
    for what in ("1 / 0", "raise asyncio.CancelledError", "raise SystemExit"):
        text = "\n".join(client.execute(code.format(what)).reply["traceback"])
        assert "line 5" in text and "line 4, in f" in text and what in text, text
        assert "minikernel" not in text
    msg_id = client.start("print('go')\nawait asyncio.sleep(60)")
    client.output(msg_id, "go")
    kernel.interrupt()
    run = client.finish(msg_id)
    assert run.ename == "KeyboardInterrupt" and "line 2" in "\n".join(run.reply["traceback"])
