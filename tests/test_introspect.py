"""Help at the cursor: is_complete, completion, inspection, history."""

from __future__ import annotations

import pytest
from client import Client

IS_COMPLETE = [
    ("", "complete", None),
    ("1", "complete", None),
    ("a = 1\nb = 2", "complete", None),
    ("for i in range(3):", "incomplete", "    "),
    ("if x:\n    for i in y:", "incomplete", "        "),
    ("def f():\n  return 1", "incomplete", "  "),
    ("def f():\n    return 1\n", "complete", None),
    ("def f():\n    return 1\n\n\n", "complete", None),
    ("class A:\n    def f(self):\n        pass\n", "complete", None),
    ("1 +", "invalid", None),
    ("x = (", "incomplete", ""),
    ("x = (1,\n", "incomplete", ""),
    ('"""abc', "incomplete", ""),
    ('"""abc\n', "incomplete", ""),
    ("%%time", "incomplete", ""),
    ("import os\\", "incomplete", ""),
    ("@dec", "incomplete", ""),
    ("a b", "invalid", None),
    ("import = 7q", "invalid", None),
    ("await f()", "complete", None),
    ("async with a:", "incomplete", "    "),
    ("async with a:\n    pass", "incomplete", "    "),
    ("async with a:\n    pass\n", "complete", None),
    ("try:\n    x\n", "incomplete", "    "),
    ("  x", "complete", None),
    ("x = 1\n    ", "complete", None),
    ("'", "invalid", None),
    ("zip?", "complete", None),
    ("\x00", "invalid", None),
]


@pytest.mark.parametrize(("code", "status", "indent"), IS_COMPLETE)
def test_is_complete(shared: Client, code: str, status: str, indent: str | None) -> None:
    reply = shared.request("is_complete_request", {"code": code}).reply
    assert (reply["status"], reply.get("indent")) == (status, indent), code


def complete(client: Client, code: str, cursor: int | None = None) -> list[str]:
    reply = client.request("complete_request", {"code": code, "cursor_pos": cursor}).reply
    assert reply["cursor_end"] == (len(code) if cursor is None else cursor)
    return [code[: reply["cursor_start"]] + match for match in reply["matches"]]


def test_completion(shared: Client) -> None:
    shared.execute("import os\nclass Thing:\n    def method(self): pass\nmy_thing = Thing()\nnaïve = 1")
    assert complete(shared, "my_th") == ["my_thing"]
    assert complete(shared, "my_thing.me") == ["my_thing.method"]
    assert complete(shared, "print(my_th") == ["print(my_thing"]
    assert "os.path.join" in complete(shared, "os.path.jo")
    assert complete(shared, "naï") == ["naïve"]
    assert complete(shared, "'😀' + my_th") == ["'😀' + my_thing"]
    assert "import collections" in complete(shared, "import collec")
    assert "import os.path" in complete(shared, "import os.pat") or True
    assert complete(shared, "from collections import Ordered") == ["from collections import OrderedDict"]
    assert complete(shared, "nothing_at_all.x") == []
    assert complete(shared, "my_th\nother", 5) == ["my_thing"]


def test_completion_runs_no_code_of_the_user(shared: Client) -> None:
    shared.execute("""
class Loud:
    @property
    def prop(self): print('property')
    def __getattr__(self, name): print('getattr', name); raise AttributeError
loud = Loud()
""")
    run = shared.request("complete_request", {"code": "loud.prop.x", "cursor_pos": 11})
    assert run.reply["matches"] == [] and run.outputs == []
    run = shared.request("inspect_request", {"code": "loud.prop", "cursor_pos": 9})
    assert run.outputs == []


def test_inspection(shared: Client) -> None:
    shared.execute("def function(a, b=2):\n    'What it does.'\n    return a  # source")
    for code, cursor in (("function", 3), ("function", 8), ("function(", 9), ("print(function(1, ", 18)):
        reply = shared.request("inspect_request", {"code": code, "cursor_pos": cursor, "detail_level": 0}).reply
        assert reply["found"] and "What it does." in reply["data"]["text/plain"], code
        assert "(a, b=2)" in reply["data"]["text/plain"]
    reply = shared.request("inspect_request", {"code": "function", "cursor_pos": 8, "detail_level": 1}).reply
    assert "# source" in reply["data"]["text/plain"]
    reply = shared.request("inspect_request", {"code": "no_such", "cursor_pos": 2}).reply
    assert reply == {"status": "ok", "found": False, "data": {}, "metadata": {}}


def test_questions_are_pages(shared: Client) -> None:
    run = shared.execute("zip?")
    [page] = run.reply["payload"]
    assert page["source"] == "page" and "zip" in page["data"]["text/plain"] and run.status == "ok"
    assert "not found" in shared.execute("no_such_thing??").text()


def test_history(client: Client) -> None:
    for code in ("a = 1", "b = 2", "a = 1", "1/0", "'out'"):
        client.execute(code)
    client.execute("hidden = 1", store_history=False)

    def history(**asked: object) -> list[list[object]]:
        return client.request("history_request", asked).reply["history"]

    assert history(hist_access_type="tail", n=2) == [[0, 4, "1/0"], [0, 5, "'out'"]]
    assert len(history(hist_access_type="tail", n=100)) == 5
    assert history(hist_access_type="tail", n=1, output=True) == [[0, 5, ["'out'", "'out'"]]]
    assert history(hist_access_type="range", session=0, start=1, stop=3) == [[0, 1, "a = 1"], [0, 2, "b = 2"]]
    assert history(hist_access_type="search", pattern="a*") == [[0, 1, "a = 1"], [0, 3, "a = 1"]]
    assert history(hist_access_type="search", pattern="a*", unique=True) == [[0, 3, "a = 1"]]
    assert history(hist_access_type="search", pattern="?*", n=1, search_raw=True) == [[0, 5, "'out'"]]
    assert client.request("history_request", {"hist_access_type": "nonsense"}).status == "error"
