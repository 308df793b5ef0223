"""Cells that damage the process in which they run, by name.  After each of them a kernel still answers.

`test_damage` holds kernels against them, many at once; the soak command, one after another.
"""

from __future__ import annotations

#: Python's own names that everybody uses.
_BUILTINS = """
ArithmeticError AttributeError BaseException Exception ImportError KeyError KeyboardInterrupt OSError
RuntimeError StopIteration TypeError ValueError __build_class__ __import__ all any bool bytes callable chr
compile delattr dict dir enumerate eval exec filter float format getattr globals hasattr hash id int
isinstance issubclass iter len list map max memoryview min next object open ord print property range repr
reversed set setattr slice sorted staticmethod str sum super tuple type vars zip
"""
#: Modules that a kernel can't do without.  What is in sys and zmq has to stay: there is one of each in a process.
_MODULES = """
asyncio collections contextlib contextvars codecs fcntl functools hmac io itertools json linecache os queue re
selectors signal threading time traceback types warnings weakref
"""

_ALL_OF = """
import {module}, types
def broken(*args, **kwargs): raise RuntimeError('a cell has broken this')
values = {{name: value for name, value in vars({module}).items() if callable(value) and not name.startswith('__')}}
vars({module}).update(dict.fromkeys(values, {by}))
"""
_PARTS = "import sys, {module}; gone = [name for name in sys.modules if name.split('.')[0] == '{module}']\n"

BUILTINS, MODULES = _BUILTINS.split(), _MODULES.split()
CELLS: dict[str, str] = {}
for _name in BUILTINS:
    CELLS[f"builtins.{_name} is None"] = f"import builtins; builtins.{_name} = None"
    CELLS[f"{_name} is None"] = f"{_name} = None"
for _name in MODULES:
    CELLS[f"{_name} raises"] = _ALL_OF.format(module=_name, by="broken")
    CELLS[f"{_name} is empty"] = _ALL_OF.format(module=_name, by="None")
for _name in (*MODULES, "zmq"):
    CELLS[f"{_name} is gone"] = _PARTS.format(module=_name) + "for name in gone: del sys.modules[name]"
    CELLS[f"{_name} can't be imported"] = _PARTS.format(module=_name) + "for name in gone: sys.modules[name] = None"

#: Many at once.
CELLS["all builtins are None"] = f"import builtins; vars(builtins).update(dict.fromkeys({BUILTINS}))"
CELLS["all builtins raise"] = (
    "import builtins\ndef broken(*args, **kwargs): raise RuntimeError('a cell has broken this')\n"
    f"vars(builtins).update(dict.fromkeys({[name for name in BUILTINS if not name.endswith('Error')]}, broken))"
)
CELLS["all builtins are deleted"] = f"import builtins\nfor name in {BUILTINS}: builtins.__dict__.pop(name)"
for _how in ("raises", "is empty", "is gone", "can't be imported"):
    CELLS[f"every module {_how}"] = "\n".join(CELLS[f"{name} {_how}"] for name in MODULES)

#: One thing each.
CELLS.update(
    {
        "no stdout": "import sys; sys.stdout = None",
        "no stderr": "import sys; del sys.stderr",
        "stdout closed": "import sys; sys.stdout.close(); sys.__stdout__.close()",
        "stdout detached": "import sys; sys.stdout.detach()",
        "stdout broken": "import sys; sys.stdout = sys.stderr = object()",
        "stdout full": "import sys; sys.stdout = open('/dev/full', 'w')",
        "no stdin": "import sys; sys.stdin.close(); sys.stdin = None",
        "descriptors closed": "import os; os.close(0); os.close(1); os.close(2)",
        "descriptors replaced": "import os; [os.dup2(os.open('/dev/null', os.O_RDWR), fd) for fd in range(3)]",
        "no directory": "import os, tempfile; os.chdir(d := tempfile.mkdtemp()); os.rmdir(d)",
        "no environment": "import os; os.environ.clear()",
        "a bad environment": "import os; os.environ.update(HOME='/nowhere', TMPDIR='/nowhere', LANG='xx', PATH='')",
        "no namespace": "(lambda kept: (globals().clear(), globals().update(say=kept)))(globals().get('say'))",
        "no builtins": "del __builtins__",
        "other builtins": "__builtins__ = None",
        "builtins of no use": "__builtins__ = {'len': 3}",
        "no __main__": "import sys; del sys.modules['__main__'], sys.modules['minikernel']",
        "no modules": "import sys; sys.modules.clear()",
        "no path": "import sys; sys.path.clear(); sys.path_hooks.clear(); sys.path_importer_cache.clear()",
        "path None": "import sys; sys.path = None",
        "no finders": "import sys; sys.meta_path.clear()",
        "meta_path None": "import sys; sys.meta_path = None",
        "no argv": "import sys; del sys.argv",
        "displayhook None": "import sys; sys.displayhook = None",
        "hooks raise": "import sys, threading; sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *a: 1 / 0",
        "trace raises": "import sys, threading; sys.settrace(lambda *a: 1 / 0); threading.settrace(lambda *a: 1 / 0)",
        "profile raises": "import sys, threading; sys.setprofile(lambda *a: 1 / 0); threading.setprofile(lambda *a: 1 / 0)",
        "audit hook": "import sys; sys.addaudithook(lambda *a: None)",
        "low recursion limit": "import sys; sys.setrecursionlimit(60)",
        "warnings are errors": "import warnings; warnings.simplefilter('error')",
        "no logging": "import logging; logging.disable(); logging.shutdown()",
        "no gc": "import gc; gc.disable(); gc.freeze(); gc.set_threshold(1)",
        "gc hook raises": "import gc; gc.callbacks.append(lambda *a: 1 / 0)",
        "loop stopped": "import asyncio; asyncio.get_event_loop().stop()",
        "loop stopped while awaiting": "import asyncio; asyncio.get_running_loop().stop(); await asyncio.sleep(0.01)",
        "loop closed": "import asyncio; asyncio.get_event_loop().close()",
        "loop gone": "import asyncio; asyncio.set_event_loop(None)",
        "loop of another": "import asyncio; asyncio.set_event_loop(asyncio.new_event_loop())",
        "tasks cancelled": "import asyncio\nasync def f(): [t.cancel() for t in asyncio.all_tasks()]\nt = asyncio.create_task(f()); await asyncio.sleep(1)",
        "callback raises": "import asyncio; loop = asyncio.get_running_loop()\nfor n in range(9): loop.call_soon(lambda: 1 / 0)",
        "callback exits": "import asyncio; loop = asyncio.get_running_loop(); loop.call_soon(exit, 3); loop.call_soon(lambda: [].a)",
        "callback raises SystemExit": "import asyncio, sys; asyncio.get_running_loop().call_soon(sys.exit, 3)",
        "callback raises KeyboardInterrupt": "import asyncio\ndef f(): raise KeyboardInterrupt\nasyncio.get_running_loop().call_soon(f)",
        "exception handler raises": "import asyncio; loop = asyncio.get_running_loop(); loop.set_exception_handler(lambda *a: 1 / 0); loop.call_soon(lambda: [].a)",
        "thread exits": "import threading, sys; t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()",
        "no threads": "import _thread, threading\ndef no(*a, **k): raise RuntimeError(\"can't start new thread\")\n_thread.start_new_thread = threading._start_new_thread = threading._start_joinable_thread = no",
        "signals blocked": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})",
        "signals ignored": "import signal\nfor s in (signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)",
        "signal handler raises": "import signal\ndef h(*a): raise ValueError\nfor s in (signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGHUP): signal.signal(s, h)",
        "no wakeup": "import signal; signal.set_wakeup_fd(-1)",
        "no files": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))",
        "no processes": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))",
        "no memory": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))\ntry: x = bytearray(1 << 29)\nexcept MemoryError: pass\nfinally: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
        "little memory": "import resource; size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\nresource.setrlimit(resource.RLIMIT_AS, (size + (128 << 20),) * 2)\nx = []\ntry:\n    while True: x.append(bytearray(1 << 20))\nfinally: x.clear()",
        "time stands still": "import time; now = time.time(); time.time = time.monotonic = time.perf_counter = lambda: now",
        "modules reloaded": "import sys, importlib\nfor name in ('json', 'threading', 'os', 'signal', 'io', 're', 'contextvars', 'queue', 'traceback'):\n    if name in sys.modules: importlib.reload(sys.modules[name])",
        "minikernel imported again": "import sys\nfor name in list(sys.modules):\n    if name.startswith('minikernel'): del sys.modules[name]\nimport minikernel; minikernel.display(3)",
        "forked": "import os, threading; child = os.fork()\nif child: os.waitpid(child, 0)",
        "a thread forks": "import os, threading; t = threading.Thread(target=os.fork); t.start(); t.join()",
        "streams patched": "import sys; type(sys.stderr).write = lambda *a: 1 / 0; type(sys.stdout).flush = None",
        "no more descriptors": "import os, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\ntry:\n    while True: os.dup(0)\nexcept OSError: pass",
        "exit in a finaliser": "class A:\n    def __del__(self): raise SystemExit\na = A(); del a",
        "SystemExit": "raise SystemExit(3)",
        "an exit handler ends": "import atexit, os; atexit.register(os._exit, 0)",
        "an exit handler raises": "import atexit; atexit.register(lambda: 1 / 0)",
        "locale": "import locale\ntry: locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\nexcept locale.Error: pass",
        "decimal": "import decimal; decimal.getcontext().prec = 1; decimal.getcontext().traps[decimal.Inexact] = True",
        "numbers short": "import sys; sys.set_int_max_str_digits(640)\nimport random; random.seed(0)",
        "another session": "import os; os.setsid() if os.getpgrp() != os.getpid() else None",
        "another umask": "import os; os.umask(0o777)",
        "a namesake": "import sys, types; sys.modules['asyncio'] = types.ModuleType('asyncio')",
        "modules that bite": "import sys\nclass Bite:\n    def __getattr__(self, name): raise RuntimeError(name)\nsys.modules['bite'] = Bite(); sys.modules['none'] = None; sys.modules[3] = 3",
        "names that bite": "class Bite:\n    def __eq__(self, other): 1 / 0\n    __hash__ = None\n_ = __ = In = Out = _oh = _ih = _i = display = exit = Bite(); _.x = 3",
        "zmq terminated": "import zmq; zmq.Context.instance().term()",
        "linecache": "import linecache; linecache.cache = None; linecache.clearcache = None",
        "pipe": "import signal, os; signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    }
)  # fmt: skip
