"""Help at the cursor: is_complete, completion, inspection, history."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

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
    ("match x:\n    case 1:\n        y", "incomplete", "        "),
    ("match x:\n    case 1:\n        y\n", "complete", None),
    ("x = 'abc", "invalid", None),
    ("f'''abc", "incomplete", ""),
    ("x = '\\d'", "complete", None),
    ("x = 1 \\\n", "incomplete", ""),
    ("%time f()", "complete", None),
    ("!ls", "complete", None),
    ("x = 1\nfiles = !ls", "complete", None),
    ("for x in y:\n    %timeit x", "incomplete", "    "),
    ("for x in y:\n    %timeit x\n", "complete", None),
    ("x = (10\n% 3)", "complete", None),
    ("?zip", "complete", None),
    ("%%time\nf()", "incomplete", ""),
    ("%%time\nf()\n", "complete", None),
    ("if x:  # why", "incomplete", "    "),
    ("if x:\n\n", "incomplete", "    "),
    ("x = {'a':", "incomplete", ""),
    ("d[1:", "incomplete", ""),
    ("x = 'a:", "invalid", None),
    ("x = '''a:", "incomplete", ""),
    ("if x:\n\ty", "incomplete", "\t"),
    ("if x:\r\n    y", "incomplete", "    "),
    ("if x:\n    y = f(1,", "incomplete", "    "),
    ("def f(:", "invalid", None),
    ("if x", "invalid", None),
    ("try:\n    x\nexcept", "invalid", None),
    ("if x:\n    y\nelif", "invalid", None),
    ("try:\n    x\nfoo", "invalid", None),
    ("@a\nx = 1", "invalid", None),
    ("x = lambda:", "invalid", None),
    ("-" * 100_000 + "1", "invalid", None),
    ("x = 1\n" * 50_000, "unknown", None),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A frontend of a kernel without IPython, which would have its own say where code is no Python."""
    process = KernelProcess(tmp_path_factory.mktemp("plain"), without=("IPython",))
    yield process.client()
    process.close()


@pytest.mark.parametrize(("code", "status", "indent"), IS_COMPLETE, ids=lambda value: repr(value)[:40])
def test_is_complete(plain: Client, code: str, status: str, indent: str | None) -> None:
    reply = plain.request("is_complete_request", {"code": code}).reply
    assert (reply["status"], reply.get("indent")) == (status, indent), code


#: Help has a time limit, which a loaded machine may miss: tests of what it finds give it more.
PATIENCE = "import minikernel.python.lookup; minikernel.python.lookup.BUDGET = 20"

SETUP = r"""
import functools, importlib.util, os, sys, unittest.mock, weakref
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
    @classmethod
    def made(cls, how): ...

def function(first, second: int = 2, *, only=(1, 2), **rest):
    'What it does.'
    return first  # source

my_thing = Thing(1)
naïve = नाम = 1
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
    @functools.cached_property
    def later(self): print("cached property")
    def method(self): pass
class LoudCall(Loud):
    def __call__(self, argument): print("call")
class LoudMeta(type):
    def __getattribute__(cls, name): print("meta", name); return type.__getattribute__(cls, name)
    def __getattr__(cls, name): print("meta getattr", name); raise AttributeError(name)
    def __eq__(cls, other): print("meta eq"); return cls is other
    def __hash__(cls): print("meta hash"); return 1
    def __repr__(cls): print("meta repr"); return "loud"
    def __call__(cls, *args): print("meta call"); return type.__call__(cls, *args)
    def __instancecheck__(cls, obj): print("meta instancecheck"); return False
class LoudClass(metaclass=LoudMeta):
    "Has a loud metaclass."
    def __init__(self, volume): pass
loud, louds, loud_call, of_loud_class = Loud(), [Loud()], LoudCall(), LoudClass(1)
class LoudList(list):
    def __iter__(self): print("iter"); return iter(())
    def __len__(self): print("len"); return 0
    def __getitem__(self, key): print("getitem")
class LoudDict(dict):
    def __iter__(self): print("iter"); return iter(())
    def __missing__(self, key): print("missing")
    def keys(self): print("keys"); return []
class LoudKey(str):
    def __eq__(self, other): print("eq"); return True
    def __repr__(self): print("repr"); return "''"
    __hash__ = str.__hash__
class Descriptor:
    def __get__(self, obj, cls): print("get"); return 1
class Described: slot = Descriptor()
loud_list, loud_dict, described = LoudList([1]), LoudDict({LoudKey("a"): loud}), Described()
mock, alive, dead = unittest.mock.MagicMock(), weakref.proxy(described), weakref.proxy(Described())
getting = type(sys)("getting"); getting.__getattr__ = lambda name: print("module getattr", name)
spec = importlib.util.find_spec("this"); spec.loader = importlib.util.LazyLoader(spec.loader)
unread = importlib.util.module_from_spec(spec); spec.loader.exec_module(unread)
def with_loud(argument=loud, other=[loud], more: loud = 1, last: LoudClass = LoudClass): pass

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
    assert shared.execute(PATIENCE).status == "ok" and shared.execute(SETUP).status == "ok"
    return shared


def complete(client: Client, code: str, cursor: int | None = None) -> list[str]:
    """Return what the matches make of the code before the cursor; look at the reply's other fields as well."""
    run = client.request("complete_request", {"code": code, "cursor_pos": cursor})
    reply = run.reply
    assert run.outputs == [] and reply["status"] == "ok"
    assert reply["cursor_end"] == (len(code) if cursor is None else cursor)
    types = reply["metadata"].get("_jupyter_types_experimental", [])
    assert [each["text"] for each in types] == (reply["matches"] if len(reply["matches"]) <= 2000 else [])
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
    ("x = 1  # my_th", []),
    ("'my_th", []),
    ("ना", ["नाम"]),
    ("ﬁxe", ["fixed"]),
    ("@functio", ["@function"]),
    ("lambda x: my_th", ["lambda x: my_thing"]),
    ("f'{my_th", ["f'{my_thing"]),
    ("f'{my_thing} {my_thing.me", ["f'{my_thing} {my_thing.method"]),
    ("rf'''{\nmy_thing.me", ["rf'''{\nmy_thing.method"]),
    ("f'{{my_th", []),
    ("a != my_th", ["a != my_thing"]),
    # attributes
    ("my_thing.me", ["my_thing.method"]),
    ("'😀😀'; naïve.rea", ["'😀😀'; naïve.real"]),
    ("@my_thing.me", ["@my_thing.method"]),
    ("if 1:\n\tmy_thing.me", ["if 1:\n\tmy_thing.method"]),
    ("x = 1\r\nmy_thing.me", ["x = 1\r\nmy_thing.method"]),
    ("my_thing \\\r\n  .me", ["my_thing \\\r\n  .method"]),
    ("def f(:\n  my_thing.me", ["def f(:\n  my_thing.method"]),
    ("x = (\n\nif if my_thing.me", ["x = (\n\nif if my_thing.method"]),
    ("'it\nmy_thing.me", ["'it\nmy_thing.method"]),
    ("(lambda: (my_thing)).x or my_thing.me", ["(lambda: (my_thing)).x or my_thing.method"]),
    ("a_list[1:][0].me", []),
    ("a_list[1:].app", ["a_list[1:].append"]),
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
    ("odd.", ["odd.listed"]),
    ("broken.", ["broken.visible"]),
    ("lazy.", ["lazy.loaded_later"]),
    ("function(1).x", []),
    ("a_dict['\\d'].x", []),
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
    ("function(function(1), sec", ["function(function(1), second="]),
    (
        "function(my_thing(first=1), fir",
        ["function(my_thing(first=1), first=", "function(my_thing(first=1), first"],
    ),
    ("def function(fir", []),
    # magics, and the shell
    ("%timeit my_thing.me", ["%timeit my_thing.method"]),
    ("%timeit -n 10 function(1, sec", ["%timeit -n 10 function(1, second="]),
    ("%%timeit x = 1\nmy_thing.me", ["%%timeit x = 1\nmy_thing.method"]),
    ("!cat ./some", ["!cat ./some dir/", "!cat ./some file.txt"]),
    ("files = !ls 'some d", ["files = !ls 'some dir/"]),
    ("%cd some", ["%cd some dir/", "%cd some file.txt"]),
    ("!echo my_th", ["!echo my_thing"]),
    ("?my_th", ["?my_thing"]),
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
    ("from os.path import (join,  # this\n    splite", ["from os.path import (join,  # this\n    splitext"]),
    ("from os import path, \\\n    sep", ["from os import path, \\\n    sep"]),
    ("from asyncio import create_t", ["from asyncio import create_task"]),
    ("from os im", ["from os import"]),
    ("import os.nothing", []),
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
    ("a_dict[\n    'x", ["a_dict[\n    'x y"]),
    ("a_dict['k' + 'x", []),
    ("os.environ['HOM", ["os.environ['HOME"]),
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
    assert complete(helped, "my_thing.method(1)", 11) == ["my_thing.method"]
    assert complete(helped, "'😀😀'; my_thing.me  # 1", 17) == ["'😀😀'; my_thing.method"]
    assert complete(helped, "my_thing", 0)[:1] == ["ArithmeticError"]
    assert complete(helped, "x = '''\nmy_th\n'''\nmy_thing.me") == ["x = '''\nmy_th\n'''\nmy_thing.method"]


def test_private_names_come_last(helped: Client) -> None:
    assert complete(helped, "my_thing.") == [
        f"my_thing.{name}" for name in ("later", "made", "method", "prop", "size")
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
        "later": "instance", "made": "function", "method": "function", "prop": "property", "size": "instance",
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
    "loud.later.", "loud_list[0].", "loud_list", "loud_dict['", "loud_dict['b'].", "loud_dict", "described.slot.", "described.slot",
    "mock.child.", "mock.child", "mock(", "alive.", "alive.slot.", "dead.", "dead", "getting.nothing.", "getting", "unread", "unread.", "unread.s.",
    "louds", "LoudClass", "LoudClass.", "LoudClass(", "of_loud_class", "of_loud_class.", "with_loud", "with_loud(", "Loud", "Loud.", "Loud.prop", "LoudClass().",
])  # fmt: skip
def test_help_runs_no_code_of_the_user(helped: Client, code: str) -> None:
    at_end = {"code": code, "cursor_pos": len(code)}
    runs = [helped.request("complete_request", at_end)]
    runs += [helped.request("inspect_request", {**at_end, "detail_level": level}) for level in (0, 1)]
    for run in runs:
        assert run.status == "ok" and run.outputs == [], run.text()
    untouched = "object.__getattribute__(unread, '__class__').__name__, mock.mock_calls, mock._mock_children"
    assert helped.execute(untouched).result == "('_LazyModule', [], {})"


SLOW = """
import threading
going = threading.Event()
class Slow:
    def __dir__(self): going.wait(); return ["listed"]
    def _ipython_key_completions_(self): going.wait(); return ["key"]
    def __repr__(self): going.wait()
    def __getattr__(self, name): going.wait()
    @property
    def prop(self): going.wait()
    def visible(self): pass
slow, slow_keys = Slow(), type("SlowKeys", (Slow,), {})()
sluggish = type(threading)("sluggish"); sluggish.__dir__ = lambda: going.wait(); sluggish.here = 1
"""


def test_help_does_not_wait_for_the_user_s_code(client: Client) -> None:
    """Each would wait for ever.  None is asked again before it has answered; then it is."""
    assert client.execute("import minikernel.python.lookup; minikernel.python.lookup.BUDGET").result == "0.15"
    client.execute(SLOW)
    client.request("complete_request", {"code": "slow.", "cursor_pos": 5})
    client.execute("minikernel.python.lookup.BUDGET = 2")
    assert complete(client, "slow.") == ["slow.prop", "slow.visible"]
    assert complete(client, "slow.vis") == ["slow.visible"]
    assert complete(client, "slow_keys['") == []
    assert complete(client, "sluggish.") == ["sluggish.here"]
    assert complete(client, "slow.anything.x") == complete(client, "slow.prop.x") == []
    assert inspect(client, "slow").startswith("Type: Slow")
    waiting = "str(sys._current_frames()).count('code wait')"
    assert client.execute(f"import sys, time; {waiting}").result == "3"
    client.execute(f"going.set()\nwhile {waiting}: time.sleep(0.01)")
    assert complete(client, "slow.") == ["slow.listed"] and complete(client, "slow_keys['") == ["slow_keys['key"]


ENDLESS = """
import os, sys
def spin(*_):
    while 'stop' not in globals(): pass
class Spins:
    __dir__ = __getattr__ = __getattribute__ = __repr__ = _ipython_key_completions_ = spin
    prop = property(spin)
class Recurses:
    def __dir__(self): return dir(self)
    def __getattr__(self, name): return getattr(self, name + "_")
class Odd(str): startswith = __lt__ = spin
class Keys(dict): keys = __iter__ = spin
spins, recurses, keys = Spins(), Recurses(), Keys({Odd("one"): 1})
"""


def test_help_never_keeps_a_cell_waiting(client: Client) -> None:
    """Code that spins instead of sleeping; and files that jedi takes longer for than it is given."""
    client.execute(ENDLESS)
    codes = [
        "spins.",
        "spins.prop.x",
        "spins['",
        "recurses.",
        "recurses.some.x",
        "keys['",
        "(" * 10_000,
        "a+" * 100_000,
    ]
    if importlib.util.find_spec("jedi"):
        client.execute("os.environ.update(MINIKERNEL_JEDI='1', XDG_CACHE_HOME=os.getcwd()); sys.path.insert(0, '')")
        client.execute(
            "with open('huge.py', 'w') as file:\n"
            "    for n in range(10_000): print(f'def f{n}(a, b): return f{n + 1}(a, b) + b', file=file)"
        )
        codes += ["import huge\nhuge.f1(1, 2).", "x = " + "(" * 500 + "1" + ")" * 500 + "\nx.none."]
    for code in codes:
        for request, more in (("complete_request", {}), ("inspect_request", {"detail_level": 1})):
            asked = client.send(request, {"code": code, "cursor_pos": len(code), **more})
            cell = client.start("6 * 7")
            assert client.finish(asked).status == "ok"
            assert client.finish(cell).result == "42"
    client.execute("stop = True")


def test_help_while_the_namespace_changes(client: Client) -> None:
    client.execute(PATIENCE)
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
    client.execute(PATIENCE)
    client.execute("""
class Thing: pass
thing = Thing()
vars(thing).update((f"name{number}", number) for number in range(10_000))
a_dict = {f"key{number}": number for number in range(1_000_000)}
""")
    assert len(complete(client, "thing.")) == 10_000
    assert complete(client, "thing.name9999") == ["thing.name9999"]
    assert len(complete(client, "a_dict['")) == 2000
    assert complete(client, "a_dict['key999999") == ["a_dict['key999999"]
    assert "1000000" in inspect(client, "a_dict")


def test_jedi_only_when_asked_for(client: Client) -> None:
    """It is asked where nothing is known without it, and sees no object that it could run code of."""
    pytest.importorskip("jedi")
    assert client.execute(PATIENCE).status == "ok" and client.execute(SETUP).status == "ok"
    code = "def f():\n    return 'text'\nf().uppe"
    assert complete(client, code) == [] and client.execute("'jedi' in sys.modules").result == "False"
    client.execute("os.environ['MINIKERNEL_JEDI'] = '1'")
    assert complete(client, code) == [code + "r"]
    assert complete(client, "my_thing.meth") == ["my_thing.method"]
    for quiet in (
        "loud.prop.",
        "loud.method().",
        "louds[0].prop.",
        "of_loud_class.none.",
        "mock.child.",
        "dead.none.",
        "unread.none.",
    ):
        complete(client, quiet)
    untouched = "object.__getattribute__(unread, '__class__').__name__, mock.mock_calls"
    assert client.execute(untouched).result == "('_LazyModule', [])"


@pytest.mark.parametrize("kept", [0, 1000])
def test_jedi_with_a_torn_cache(start: Callable[..., KernelProcess], tmp_path: Path, kept: int) -> None:
    """A process that ends while it writes a file of jedi's leaves a part of it, for all that come later."""
    pytest.importorskip("jedi")
    env = {"MINIKERNEL_JEDI": "1", "XDG_CACHE_HOME": str(tmp_path)}
    code = "def f():\n    return 'text'\nf().uppe"
    for _ in range(2):
        client = start(env=env).client()
        client.execute(PATIENCE)
        assert complete(client, code) == [code + "r"]
        files = [path for path in tmp_path.glob("jedi/*/*") if path.stat().st_size > kept]
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[:kept])


def test_completion_without_jedi(start: Callable[..., KernelProcess]) -> None:
    client = start(env={"MINIKERNEL_JEDI": "1"}, without=("jedi",)).client()
    client.execute(PATIENCE)
    assert complete(client, "[].appe") == ["[].append"] and complete(client, "nothing().x") == []


TABLES = """
import numpy as np, pandas as pd
df = pd.DataFrame({"alpha": [1, 2], "two words": ["x", "y"], "when": pd.to_datetime(["2020", "2021"])})
records = np.zeros(3, dtype=[("height", int), ("weight", float)])
"""


def test_tables(client: Client) -> None:
    pytest.importorskip("pandas")
    assert client.execute(PATIENCE).status == "ok" and client.execute(TABLES).status == "ok"
    for code, expected in [
        ("df['", ["alpha", "two words", "when"]), ("df[\"two", ["two words"]), ("df.alp", ["alpha"]), ("df.alpha.medi", ["median"]),
        ("df['alpha'].medi", ["median"]), ("df['when'].dt.ye", ["year"]), ("df['two words'].str.uppe", ["upper"]),
        ("df.index.to_l", ["to_list"]), ("df[1:].merg", ["merge"]), ("pd.DataFrame(1).merg", ["merge"]), ("df.none.x", []),
        ("df.merge(df, left_o", ["left_on="]), ("df['alpha']['", []), ("records['", ["height", "weight"]),
        ("records['height'].mea", ["mean"]), ("records.dtype.name", ["name", "names"]), ("records[0:2].mea", ["mean"]), ("np.linalg.nor", ["norm"]),
    ]:  # fmt: skip
        reply = client.request("complete_request", {"code": code, "cursor_pos": len(code)}).reply
        assert reply["matches"] == expected, code
    assert inspect(client, "df.merge(").startswith("Signature: df.merge(right: ")
    assert inspect(client, "df.alpha").startswith("Type: Series\n")
    assert "class DataFrame(" in inspect(client, "df", level=1)


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
    ("with_loud|", "Signature: with_loud(argument=<Loud>, other=[<Loud>], more: <Loud> = 1, last: LoudClass = LoudClass)"),
    ("LoudClass|", "Init signature: LoudClass(volume)\nDocstring: Has a loud metaclass.\n"),
    ("o|s.path", "Type: module\n"),
    ("function?|", "Signature: function("),
    ("my_thing.method ??|", "Signature: my_thing.method("),
    ("x = ना|म", "Type: int\n"),
    ("%timeit func|tion(1)", "Signature: function("),
    ("@func|tion", "Signature: function("),
    ("f'{func|tion}'", "Signature: function("),
    ("function(\r\n    a_dict['k'], |", "Signature: function("),
    ("Thing(1).method(|", "Signature: method(alpha, beta=2)"),
    ("Thing(1)(|", ""),
    ("my_thing.|", ""),
    (".method|", ""),
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
    assert inspect(helped, "functools.partial", level=1)
    helped.execute("class Twice:\n    def f(self): 'first'\nfirst = Twice()")
    helped.execute("'''\nclass Twice'''\nclass Twice:\n    def f(self): 'second'\nclass Bare: x = 1")
    assert "'first'" in inspect(helped, "first", level=1) and "'second'" in inspect(helped, "Twice", level=1)
    assert "x = 1" not in inspect(helped, "Bare", level=1)  # nobody knows in which cell it is
    helped.execute("import textwrap")
    assert "class TextWrapper:" in inspect(helped, "textwrap.TextWrapper", level=1)
    assert "class TextWrapper:" in inspect(helped, "textwrap", level=1)


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


def test_help_has_more_time_on_a_slow_machine(client: Client) -> None:
    """Of the user's code, none of which is at work, nobody need be afraid."""
    client.execute("import minikernel.python.completion as completion, time\nbefore = completion.places[0]")
    client.execute("completion.places[0] = lambda *args: time.sleep(0.4) or before(*args)")
    assert complete(client, "before") == ["before"]
