"""Help at the cursor: is_complete, completion, inspection, history."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from client import Client, KernelProcess

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
    ("x = [\n    1]", "complete", None),
    ("x = [\n    1", "incomplete", "    "),
    ("x = (1 2", "incomplete", ""),
    ("for x in y:\nfoo", "invalid", None),
    ("@a\n@b", "incomplete", ""),
    ("class A:", "incomplete", "    "),
    ("while x:\n    y\nelse:", "incomplete", "    "),
    ("match x:\n    case 1:", "incomplete", "        "),
    ("x = 'abc", "invalid", None),
    ("f'''abc", "incomplete", ""),
    ("x = '\\d'", "complete", None),
    ("x = 1 \\\n", "incomplete", ""),
    ("%time f()", "complete", None),
    ("-" * 100_000 + "1", "invalid", None),
    ("x = [\n" + "1,\n" * 100_000, "incomplete", ""),
    ("x = [\n" + "1,\n" * 100_000 + "]", "complete", None),
    ("x = 1\n" * 50_000 + "'''\n", "incomplete", ""),
    ("x = 1\n" * 50_000 + "if x:\n    y", "incomplete", "    "),
]


@pytest.mark.parametrize(("code", "status", "indent"), IS_COMPLETE, ids=lambda value: repr(value)[:40])
def test_is_complete(shared: Client, code: str, status: str, indent: str | None) -> None:
    reply = shared.request("is_complete_request", {"code": code}).reply
    assert (reply["status"], reply.get("indent")) == (status, indent), code


SETUP = r"""
import os, sys, functools, pathlib, threading, time
os.makedirs("some dir/inner"); open("some file.txt", "w").close(); open(".hidden", "w").close()

class Thing:
    'A thing.'
    __slots__ = ("size", "_private", "later", "__dict__")
    def __init__(self, size, color="red"):
        'Make it.'
        self.size, self._private = size, 1
    def method(self, alpha, beta=2):
        'Does.'
    @property
    def prop(self):
        'Told.'
        print("property")
    def path(self) -> pathlib.Path: ...
    def itself(self) -> "Thing": ...
    @classmethod
    def made(cls, how): ...

def function(first, second: int = 2, *, only=(1, 2), **rest):
    'What it does.'
    return first  # source

my_thing = Thing(1)
naïve = 1
a_list = [my_thing, "s", [1.5]]
a_dict = {"k": my_thing, "key": 2, "x y": 3, "it's": 4, 5: 6, 55: 7, b"raw": 8, "tab\t": 9}
fixed = functools.partial(function, 1)
@functools.lru_cache
def cached(argument):
    'Remembers.'

class Loud:
    "Says whatever is done to it."
    def __getattribute__(self, name): print("getattribute", name); return object.__getattribute__(self, name)
    def __getattr__(self, name): print("getattr", name); raise AttributeError(name)
    def __repr__(self): print("repr"); return "loud"
    def __eq__(self, other): print("eq"); return False
    def __hash__(self): return 1
    def __len__(self): print("len"); return 1
    def __bool__(self): print("bool"); return True
    def __getitem__(self, key): print("getitem")
    @property
    def __class__(self): print("class"); return int
    @property
    def prop(self): print("property")
    def method(self): pass
class LoudCall(Loud):
    def __call__(self, argument): print("call")
class LoudMeta(type):
    def __getattribute__(cls, name): print("meta", name); return type.__getattribute__(cls, name)
class LoudClass(metaclass=LoudMeta):
    "Has a loud metaclass."
    def __init__(self, volume): pass
loud, louds, loud_call, of_loud_class = Loud(), [Loud()], LoudCall(), LoudClass(1)
def with_loud(argument=loud, other=[loud], more: loud = 1, last: LoudClass = LoudClass): pass

class Slow:
    def __dir__(self): time.sleep(60)
    def _ipython_key_completions_(self): time.sleep(60)
    def __repr__(self): time.sleep(60)
    def __getattr__(self, name): time.sleep(60)
    def visible(self): pass
slow, slow_keys = Slow(), type("SlowKeys", (Slow,), {})()
sluggish = type(sys)("sluggish"); sluggish.__dir__ = lambda: time.sleep(60); sluggish.here = 1
lazy = type(sys)("lazy"); lazy.__dir__ = lambda: ["loaded_later"]

class Table:
    def _ipython_key_completions_(self): return ["column one", "column two", 7, None]
    def __getitem__(self, key): print("getitem")
class Odd:
    def __dir__(self): return ["listed", 5, None]
class Broken:
    def __dir__(self): raise SystemExit
    def _ipython_key_completions_(self): raise KeyboardInterrupt
    def visible(self): pass
table, odd, broken = Table(), Odd(), Broken()
"""


@pytest.fixture(scope="module")
def helped(shared: Client) -> Client:
    """A frontend of a kernel whose user has defined what the tests ask about."""
    assert shared.execute(SETUP).status == "ok"
    return shared


def complete(client: Client, code: str, cursor: int | None = None) -> list[str]:
    """Return what the matches make of the code before the cursor; look at the reply's other fields as well.

    Help has a time limit, which a loaded machine may miss: what is empty is asked for again.
    """
    for _ in range(5):
        run = client.request("complete_request", {"code": code, "cursor_pos": cursor})
        reply = run.reply
        if reply["matches"]:
            break
    assert run.outputs == [] and reply["status"] == "ok"
    assert reply["cursor_end"] == (len(code) if cursor is None else cursor)
    types = reply["metadata"]["_jupyter_types_experimental"]
    assert [each["text"] for each in types] == reply["matches"]
    assert {(each["start"], each["end"]) for each in types} <= {(reply["cursor_start"], reply["cursor_end"])}
    return [code[: reply["cursor_start"]] + match for match in reply["matches"]]


def types_of(client: Client, code: str) -> dict[str, str]:
    reply = client.request("complete_request", {"code": code, "cursor_pos": len(code)}).reply
    return {each["text"]: each["type"] for each in reply["metadata"]["_jupyter_types_experimental"]}


#: Code with the cursor at its end, and all that it goes on to.
COMPLETED = [
    # names
    ("my_th", ["my_thing"]),
    ("print(my_th", ["print(my_thing"]),
    ("naï", ["naïve"]),
    ("'😀' + my_th", ["'😀' + my_thing"]),
    ("whi", ["while"]),
    ("prin", ["print"]),
    ("def f(argument):\n    return argum", ["def f(argument):\n    return argument"]),
    ("f'{{}} {my_th", ["f'{{}} {my_thing"]),
    ("# my_th", []),
    ("1.my_th", []),
    # attributes
    ("my_thing.me", ["my_thing.method"]),
    ("my_thing.lat", ["my_thing.later"]),
    ("Thing.ma", ["Thing.made"]),
    ("os.path.joi", ["os.path.join"]),
    ("(my_thing\n .me", ["(my_thing\n .method"]),
    ("x = my_thing.size.bit_l", ["x = my_thing.size.bit_length"]),
    ("a_list[0].me", ["a_list[0].method"]),
    ("a_list[-2].isal", ["a_list[-2].isalnum", "a_list[-2].isalpha"]),
    ("a_list[2][0].hex", ["a_list[2][0].hex"]),
    ("a_dict['k'].me", ["a_dict['k'].method"]),
    ("a_dict[5].bit_l", ["a_dict[5].bit_length"]),
    ("'abc'.upp", ["'abc'.upper"]),
    ("[].app", ["[].append"]),
    ("{'a': 1}.ite", ["{'a': 1}.items"]),
    ("(1).bit_l", ["(1).bit_length"]),
    ("Thing(1).me", ["Thing(1).method"]),
    ("my_thing.path().suffixe", ["my_thing.path().suffixes"]),
    ("my_thing.itself().itself().me", ["my_thing.itself().itself().method"]),
    ("odd.", ["odd.listed"]),
    ("broken.", ["broken.visible"]),
    ("lazy.", ["lazy.loaded_later"]),
    ("function(1).x", []),
    ("nothing_at_all.x", []),
    (".x", []),
    # private names, only when asked for
    ("my_thing._p", ["my_thing._private"]),
    ("my_thing.__ini", ["my_thing.__init__", "my_thing.__init_subclass__"]),
    # keyword arguments
    ("function(fir", ["function(first="]),
    ("function(1, sec", ["function(1, second="]),
    ("function(first=1, fir", ["function(first=1, first"]),
    ("function(\n    1,\n    onl", ["function(\n    1,\n    only="]),
    ("my_thing.method(1, bet", ["my_thing.method(1, beta="]),
    ("Thing(1, colo", ["Thing(1, color="]),
    ("fixed(sec", ["fixed(second="]),
    ("cached(argu", ["cached(argument="]),
    ("def function(fir", []),
    ("function(x, my_thing.me", ["function(x, my_thing.method"]),
    # modules, none of which gets imported
    ("import collections.ab", ["import collections.abc"]),
    ("import os, collections.ab", ["import os, collections.abc"]),
    ("import os.pat", ["import os.path"]),
    ("import xml.dom.minid", ["import xml.dom.minidom"]),
    ("from xml.etree import ElementT", ["from xml.etree import ElementTree"]),
    ("from wsgiref.simple_server import WSGIS", ["from wsgiref.simple_server import WSGIServer"]),
    ("from collections import Ordered", ["from collections import OrderedDict"]),
    ("from collections import (abc,\n    Ordered", ["from collections import (abc,\n    OrderedDict"]),
    ("from os im", ["from os import"]),
    ("import collections; collections.OrderedD", ["import collections; collections.OrderedDict"]),
    ("import collections as c\nc.OrderedD", ["import collections as c\nc.OrderedDict"]),
    ("from os import path as p\np.splite", ["from os import path as p\np.splitext"]),
    ("import wsgiref.simple_server as w\nw.WSGIS", ["import wsgiref.simple_server as w\nw.WSGIServer"]),
    ("from . import ", []),
    # keys
    ('a_dict["k', ['a_dict["k', 'a_dict["key']),
    ("print(a_dict['x", ["print(a_dict['x y"]),
    ("a_dict['it", ["a_dict['it\\'s"]),
    ('a_dict["it', ["a_dict[\"it's"]),
    ("a_dict['ta", ["a_dict['tab\\t"]),
    ("a_dict[b'", ["a_dict[b'raw"]),
    ("a_dict[5", ["a_dict[5", "a_dict[55"]),
    ("f\"{a_dict['ke", ["f\"{a_dict['key"]),
    ("table['col", ["table['column one", "table['column two"]),
    ("table[", ["table['column one'", "table['column two'", "table[7"]),
    ("broken['", []),
    # paths
    ("open('some f", ["open('some file.txt"]),
    ("'some dir/", ["'some dir/inner/"]),
    ("'./some dir/in", ["'./some dir/inner/"]),
    ("'.hid", ["'.hidden"]),
    ("'/no such directory/", []),
    # symbols
    ("x\\alpha", ["xα"]),
    ("\\Omega", ["Ω"]),
    ("\\infty", ["∞"]),
    ("\\foral", ["\\forall"]),
    ("\\N{DEGREE SI", ["\\N{DEGREE SIGN}"]),
    ("\\N{DEGREE SIGN}", ["°"]),
    ("'\\n", []),
    # what is hardly code
    ("(" * 3000 + "nothing_at_all.x", []),
    (")]}.x", []),
    ("from os import " + "a,    " * 2000 + "@nothing_at_all", []),
    ("import " + "a,    " * 2000 + "@nothing_at_all", []),
    ("\x00.x", []),
]


@pytest.mark.parametrize(("code", "expected"), COMPLETED, ids=lambda value: repr(value)[:40])
def test_completion(helped: Client, code: str, expected: list[str]) -> None:
    assert complete(helped, code) == expected


def test_completion_before_the_cursor_only(helped: Client) -> None:
    assert complete(helped, "my_th\nother", 5) == ["my_thing"]
    assert complete(helped, "my_thing", 0)[:1] == ["ArithmeticError"]
    assert complete(helped, "x = '''\nmy_th\n'''\nmy_thing.me") == ["x = '''\nmy_th\n'''\nmy_thing.method"]


def test_private_names_come_last(helped: Client) -> None:
    assert complete(helped, "my_thing.") == [
        f"my_thing.{name}" for name in ("itself", "later", "made", "method", "path", "prop", "size")
    ]
    private = complete(helped, "my_thing._")
    assert private[0] == "my_thing._private" and "my_thing.__class__" in private


def test_completion_imports_nothing(helped: Client) -> None:
    helped.execute("before = set(sys.modules)")
    complete(helped, "import xmlrpc.server; xmlrpc.server.Sim")
    assert complete(helped, "from xmlrpc.server import SimpleXMLRPCS") == [
        "from xmlrpc.server import SimpleXMLRPCServer"
    ]
    assert helped.execute("[name for name in set(sys.modules) - before if 'xml' in name]").result == "[]"


def test_types_of_matches(helped: Client) -> None:
    assert types_of(helped, "my_thing.") == {
        "itself": "function", "later": "instance", "made": "function", "method": "function", "path": "function",
        "prop": "property", "size": "instance",
    }  # fmt: skip
    everything = types_of(helped, "cell_name = 1\nfunction(")
    expected = {
        "first=": "param", "function": "function", "Thing": "class", "os": "module", "my_thing": "instance",
        "while": "keyword", "print": "function", "cell_name": "statement",
    }  # fmt: skip
    assert expected.items() <= everything.items()
    assert types_of(helped, "a_dict['x") == {"x y": "dict key"}
    assert types_of(helped, "'some f") == {"some file.txt": "path"}
    reply = helped.request("complete_request", {"code": "functio", "cursor_pos": 7}).reply
    assert [each.get("signature") for each in reply["metadata"]["_jupyter_types_experimental"]] == [
        "(first, second: int = 2, *, only=(1, 2), **rest)"
    ]


@pytest.mark.parametrize("code", [
    "loud", "loud.", "loud.prop.", "loud.method.", "loud.method(", "loud(", "loud_call(", "loud['", "loud[", "louds[0].", "louds[0].prop.",
    "louds", "LoudClass", "LoudClass.", "LoudClass(", "of_loud_class", "of_loud_class.", "with_loud", "with_loud(", "Loud", "Loud.", "Loud.prop", "LoudClass().",
])  # fmt: skip
def test_help_runs_no_code_of_the_user(helped: Client, code: str) -> None:
    at_end = {"code": code, "cursor_pos": len(code)}
    runs = [helped.request("complete_request", at_end)]
    runs += [helped.request("inspect_request", {**at_end, "detail_level": level}) for level in (0, 1)]
    for run in runs:
        assert run.status == "ok" and run.outputs == [], run.text()


def test_help_does_not_wait_for_the_user_s_code(helped: Client) -> None:
    """Each would sleep for a minute; none is asked twice."""
    assert complete(helped, "slow.") == ["slow.visible"]
    assert complete(helped, "slow.vis") == ["slow.visible"]
    assert complete(helped, "slow_keys['") == []
    assert complete(helped, "sluggish.") == ["sluggish.here"]
    assert complete(helped, "slow.anything.x") == []
    assert "Slow" in inspect(helped, "slow")
    waiting = "sum(thread.name == 'minikernel-help' for thread in threading.enumerate())"
    assert int(helped.execute(waiting).result or 9) <= 3


def test_help_while_the_namespace_changes(client: Client) -> None:
    client.execute("""
import threading
going = True
def churn():
    number = 0
    while going:
        number += 1
        globals()[f"name{number}"] = vars(thing)[f"name{number}"] = a_dict[f"name{number}"] = number
        if number % 500 == 0:
            for old in range(number - 499, number + 1):
                del globals()[f"name{old}"], vars(thing)[f"name{old}"], a_dict[f"name{old}"]
class Thing: stays = 1
thing, a_dict = Thing(), {"stays": 1}
thread = threading.Thread(target=churn); thread.start()
""")
    for _ in range(20):
        assert "thread" in complete(client, "thr")
        assert complete(client, "thing.sta") == ["thing.stays"]
        assert "a_dict['stays" in complete(client, "a_dict['")
        assert "Length" in inspect(client, "a_dict")
    client.execute("going = False; thread.join()")


def test_many_names_and_keys(client: Client) -> None:
    client.execute("""
class Thing: pass
thing = Thing()
vars(thing).update((f"name{number}", number) for number in range(10_000))
a_dict = {f"key{number}": number for number in range(1_000_000)}
""")
    assert len(complete(client, "thing.")) == 10_000
    assert complete(client, "thing.name9999") == ["thing.name9999"]
    assert 0 < len(complete(client, "a_dict['")) <= 2000
    assert "1000000" in inspect(client, "a_dict")


def test_jedi_only_when_asked_for(start: Callable[..., KernelProcess]) -> None:
    pytest.importorskip("jedi")
    code = "def f():\n    return 'text'\nf().uppe"
    client = start().client()
    assert complete(client, code) == [] and client.execute("import sys; 'jedi' in sys.modules").result == "False"
    client = start(env={"MINIKERNEL_JEDI": "1"}).client()
    while not complete(client, code):
        pass  # it is not waited for, at first, and goes on to load what it needs
    assert complete(client, code) == [code + "r"]


def inspect(client: Client, code: str, cursor: int | None = None, level: int = 0) -> str:
    """Return the text that is shown, without colours; "" when nothing was found."""
    content = {"code": code, "cursor_pos": len(code) if cursor is None else cursor, "detail_level": level}
    reply = client.request("inspect_request", content).reply
    assert reply["status"] == "ok" and reply["found"] == bool(reply["data"])
    return re.sub(r"\x1b\[[\d;]*m", "", reply["data"].get("text/plain", ""))


#: Code, the cursor (| in the code), and what is shown first.
INSPECTED = [
    ("fun|ction", "Signature: function(first, second: int = 2, *, only=(1, 2), **rest)\nDocstring: What it does.\n"),
    ("function|", "Signature: function("),
    ("|function", "Signature: function("),
    ("function |", "Signature: function("),
    ("function(|", "Signature: function("),
    ("function()|", "Signature: function("),
    ("function(1, |", "Signature: function("),
    ("function(1,\n    2|", "Signature: function("),
    ("function(fir|st=1)", "Signature: function("),
    ("function('tex|t')", "Signature: function("),
    ("function(unknown|", "Signature: function("),
    ("print(function(1, |", "Signature: function("),
    ("unknown(function(|", "Signature: function("),
    ("len(function(1), |", "Signature: len("),
    ("my_thing.method|", "Signature: my_thing.method(alpha, beta=2)\nDocstring: Does.\nType: method\n"),
    ("Thing.method|", "Signature: Thing.method(self, alpha, beta=2)"),
    ("a_list[0].method(|", "Signature: method(alpha, beta=2)"),
    ("Thing|", "Init signature: Thing(size, color='red')\nDocstring: A thing.\nInit docstring: Make it.\nType: type\n"),
    ("my_thing|", "Type: Thing\n"),
    ("my_thing.prop|", "Type: property\n"),
    ("fixed(|", "Signature: fixed(second: int = 2, *, only=(1, 2), **rest)"),
    ("cached|", "Signature: cached(argument)"),
    ("len|", "Signature: len(obj, /)\nDocstring: Return the number of items in a container."),
    ("naïve|", "Type: int\nValue: 1\n"),
    ("'😀'; naïve|", "Type: int\nValue: 1\n"),
    ("a_list|", "Type: list\nValue: [<Thing>, 's', [1.5]]\nLength: 3\n"),
    ("a_dict|", "Type: dict\nValue: {'k': <Thing>, 'key': 2,"),
    ("louds|", "Type: list\nValue: [<Loud>]\nLength: 1\n"),
    ("loud|", "Type: Loud\n"),
    ("with_loud|", "Signature: with_loud(argument=<Loud>, other=[<Loud>], more: <Loud> = 1, last: LoudClass = <LoudMeta>)"),
    ("LoudClass|", "Init signature: LoudClass(volume)\nDocstring: Has a loud metaclass.\n"),
    ("o|s.path", "Type: module\n"),
    ("import os; os.path.joi|n", "Signature: os.path.join("),
    ("fo|r x in y", ""),
    ("a +| b", ""),
    ("1|", ""),
    ("'abc|'", ""),
    ("# function|", ""),
    ("no_such|", ""),
    ("my_thing.no_such|", ""),
    ("None|", ""),
    ("|", ""),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "expected"), INSPECTED)
def test_inspection(helped: Client, marked: str, expected: str) -> None:
    shown = inspect(helped, marked.replace("|", ""), marked.index("|"))
    assert shown.startswith(expected) and bool(shown) == bool(expected), shown


def test_inspection_of_the_source(helped: Client) -> None:
    shown = inspect(helped, "function", level=1)
    assert "return first  # source" in shown and "Docstring" not in shown
    assert "def method(self, alpha" in inspect(helped, "Thing", level=1)
    assert "class Thing:" in inspect(helped, "my_thing", level=1)
    assert "def prop(self)" in inspect(helped, "my_thing.prop", level=1)
    assert "Remembers" in inspect(helped, "cached", level=1)
    assert "Return the number" in inspect(helped, "len", level=1)


def test_inspection_as_html_and_without_colours(start: Callable[..., KernelProcess]) -> None:
    client = start(env={"NO_COLOR": "1"}).client()
    client.execute("def f(a='<b>&'):\n    'Has <i>tags</i>.'")
    data = client.request("inspect_request", {"code": "f", "cursor_pos": 1}).reply["data"]
    assert data["text/plain"].startswith("Signature: f(a='<b>&')\nDocstring: Has <i>tags</i>.\n")
    assert data["text/html"].startswith("<pre><b>Signature:</b> f(a=&#x27;&lt;b&gt;&amp;&#x27;)\n")


def test_nothing_found(helped: Client) -> None:
    reply = helped.request("inspect_request", {"code": "no_such", "cursor_pos": 2}).reply
    assert reply == {"status": "ok", "found": False, "data": {}, "metadata": {}}


def test_questions_are_pages(helped: Client) -> None:
    run = helped.execute("zip?")
    [page] = run.reply["payload"]
    assert page["source"] == "page" and page["start"] == 0 and run.status == "ok" and run.outputs == []
    assert "\x1b[0;31mType:\x1b[0m type" in page["data"]["text/plain"]
    [page] = helped.execute("function??").reply["payload"]
    assert "# source" in page["data"]["text/plain"]
    assert "not found" in helped.execute("no_such_thing??").text()


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
