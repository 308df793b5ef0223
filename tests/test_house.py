"""The rules of the house: what imports what, what a start may import, and how much there is to read."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "minikernel"
FLOORS = {"protocol": 1, "kernel": 2, "python": 3}


def imports(path: Path, *, at_run_time: bool = True) -> set[str]:
    """Return the absolute names of what a module of the package imports, wherever in the file."""
    here = ("minikernel", *path.relative_to(PACKAGE).with_suffix("").parts[:-1])
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(ast.walk(node))
    found = set()
    for node in ast.walk(tree):
        if node in skipped and at_run_time:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join((*here[: len(here) - node.level + 1], node.module or "")).strip(".")
                if node.level
                else node.module
            )
            found |= {f"{base}.{alias.name}" for alias in node.names} | {str(base)}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def floor(path: Path) -> int:
    return FLOORS.get(path.relative_to(PACKAGE).parts[0], 0)


def test_imports_point_down() -> None:
    for path in modules():
        if not floor(path):
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "minikernel" and len(parts) > 1:
                assert FLOORS.get(parts[1], 0) <= floor(path), f"{path} imports {name}"
                assert parts[1] != "tools", f"{path} imports {name}"


def test_no_circles() -> None:
    known = {str(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", "."): path for path in modules()}
    graph = {name: {n for n in imports(path) if n in known and n != name} for name, path in known.items()}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        for other in graph.pop(name, ()):
            visit(other, (*trail, name))

    for name in list(graph):
        visit(name, ())


def test_who_may_import_what() -> None:
    for path in modules():
        names = {name.split(".")[0] for name in imports(path)}
        where = path.relative_to(PACKAGE).parts[0]
        if "zmq" in names:
            assert where in ("protocol", "tools"), path
        if "hmac" in names:
            assert path.name == "wire.py", path
        if where in ("protocol", "kernel"):
            calls = {
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            }
            assert not calls & {"exec", "eval", "compile"} or path.name == "messages.py", path


def test_names_are_out_of_reach_of_cells(start) -> None:  # type: ignore[no-untyped-def]
    """What a cell does to Python's builtins is not done to the kernel's functions: each module has imported its own."""
    for path in modules():
        if path.name != "__init__.py" and path.relative_to(PACKAGE).parts[0] != "tools":
            assert "minikernel.__builtins__" in imports(path), path
    code = """
import builtins, minikernel, sys, types
functions = [f for name, module in list(sys.modules.items()) if name.startswith("minikernel") for f in vars(module).values()
             if type(f) is types.FunctionType and f.__module__ == name]
print(len(functions) > 100, minikernel.__builtins__ is vars(builtins), {f for f in functions if f.__builtins__ is not minikernel.__builtins__})
"""
    assert start().client().execute(code).text() == "True False set()\n"


def test_what_is_imported_before_the_sockets_are_bound() -> None:
    """Nothing but what binding needs: zmq with what it imports, json, hmac, threading, and our small files."""
    code = """
import sys, zmq, json
before = set(sys.modules)
import minikernel.__main__
from minikernel import connect
from minikernel.protocol import log, channels, wire
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    names = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    ours = {name for name in names if name.startswith("minikernel")}
    assert ours == {
        "minikernel", "minikernel.__main__", "minikernel.connect", "minikernel.protocol", "minikernel.protocol.log",
        "minikernel.protocol.channels", "minikernel.protocol.encoding", "minikernel.protocol.iopub", "minikernel.protocol.multipart",
        "minikernel.protocol.outbox", "minikernel.protocol.wire",
    }  # fmt: skip
    allowed = {"hmac", "_hashlib", "_blake2", "hashlib", "_hmac", "queue", "_queue", "heapq", "_heapq", "signal", "binascii",
               "secrets", "_opcode", "_sha3", "_sha2", "_md5", "_sha1"}  # fmt: skip
    assert set(names) - ours <= allowed


def test_a_start_imports_little(start) -> None:  # type: ignore[no-untyped-def]
    client = start(ports=True).client()
    names = client.execute("import sys; print(*sys.modules)").text().split()
    heavy = {"asyncio", "tornado", "IPython", "traitlets", "jupyter_core", "inspect", "ast", "traceback", "ctypes", "logging",
             "argparse", "dataclasses", "subprocess", "socket", "uuid", "tempfile", "linecache", "tokenize", "sqlite3"}  # fmt: skip
    code = "import sys, zmq; print(*sys.modules)"
    zmqs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(names) - set(zmqs)
    assert len(names) < 330


def test_plain_things_import_nothing_more(start) -> None:  # type: ignore[no-untyped-def]
    client = start().client()
    client.execute("import sys; before = set(sys.modules)")
    client.execute("x = 1; print(x); display(x)\nx")
    client.request("is_complete_request", {"code": "1"})
    assert (
        client.execute(
            "sorted(m for m in set(sys.modules) - before if m in ('IPython', 'asyncio', 'tornado'))"
        ).result
        == "[]"
    )


def test_the_essential_path_reads_in_one_sitting() -> None:
    path = ["connect.py", "protocol/wire.py", "protocol/channels.py", "kernel/request.py", "kernel/worker.py",
            "kernel/kernel.py", "python/interpreter.py"]  # fmt: skip
    lines = {name: len((PACKAGE / name).read_text().splitlines()) for name in path}
    assert sum(lines.values()) - lines["connect.py"] < 1700, lines


def test_no_paths_of_one_machine() -> None:
    root = PACKAGE.parent
    for path in [*modules(), *root.glob("*.md"), *root.glob("*.toml"), *(root / "tests").glob("*.py")]:
        text = path.read_text()
        for word in ("/" + "work/", "/" + "root/"):
            assert word not in text, path
