"""``minikernel install``, ``uninstall`` and ``list``: where frontends find kernels.

A kernelspec is a directory with a ``kernel.json`` in a ``kernels`` directory on Jupyter's data path; the
directory's name is the kernel's.  This file alone decides where ours is put and what is changed in it on the
way.  A wheel has put one into its environment already, whose ``argv`` begins with ``"python"``: the Python of
whoever starts it.  One that is installed from here names the Python that installs it, so any Jupyter can
start it.

The rule: a frontend finds the old directory, or the new one, or none for the moment between two renames, and
never half of one.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_core import paths

_PACKAGE = Path(__file__).parent.parent
#: Our kernel.json and logos: inside an installed package, beside that of a source tree.
_SOURCES = (_PACKAGE / "kernelspec", _PACKAGE.parent / "kernelspec")


def main(arguments: list[str]) -> int:
    """Run ``install``, ``uninstall`` or ``list``.

    Parameters
    ----------
    arguments : list of str
        The command and its options.

    Returns
    -------
    int
        The exit code: 0, or 1 when the file system would not have it, which one line on stderr tells.

    Raises
    ------
    SystemExit
        With code 2 for a wrong option, with 0 after ``--help``.
    """
    options = _parser().parse_args(arguments)
    if options.command == "list":
        return _list()
    target = kernels_dir(options) / options.name
    if options.command == "install":
        return carry_out("install", target, lambda: install(target, _spec(options)))
    return carry_out("uninstall", target, lambda: uninstall(target))


def carry_out(command: str, target: Path, action: Callable[[], None]) -> int:
    """Do what a command does to a kernelspec's directory, tell how it went, and return the exit code."""
    try:
        action()
    except OSError as error:
        hint = "; try --user or --prefix" if isinstance(error, PermissionError) else ""
        print(f"cannot {command} {target}: {error.strerror or error}{hint}", file=sys.stderr)
        return 1
    print(f"{command}ed {target}")
    first = find().get(target.name)
    if first and not (target.exists() and first.samefile(target)):
        print(f"note: from here, Jupyter finds {first}")
    elif not first and command == "install":
        print(f"note: Jupyter looks there only with JUPYTER_PATH={target.parent.parent}")
    return 0


def install(target: Path, spec: dict[str, Any], logos: Path | None = None) -> None:
    """Put a kernelspec in place, with its logos.

    Parameters
    ----------
    target : Path
        The directory; one that exists is replaced as a whole.
    spec : dict
        What to write into ``kernel.json``.
    logos : Path, optional
        The directory whose logos it gets; ours by default.

    Raises
    ------
    OSError
        It can't be written.  What was there before is there still.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as workshop:
        new, old = Path(workshop, "new"), Path(workshop, "old")
        new.mkdir()
        for logo in (logos or _source()).glob("logo-*"):
            shutil.copyfile(logo, new / logo.name)
        (new / "kernel.json").write_text(json.dumps(spec, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if os.path.lexists(target):
            _move(target, old)
        try:
            new.rename(target)
        except OSError:
            if os.path.lexists(old):
                old.rename(target)
            raise


def uninstall(target: Path) -> None:
    """Remove a kernelspec of ours.

    Parameters
    ----------
    target : Path
        Its directory.

    Raises
    ------
    OSError
        It is not there, not ours, or can't be removed.
    """
    if not (target / "kernel.json").is_file():
        raise FileNotFoundError("there is no such kernel (minikernel list shows those there are)")
    if not is_ours(target):
        raise OSError("it is not minikernel's (jupyter kernelspec remove takes any)")
    with _beside(target) as workshop:
        _move(target, Path(workshop, "old"))


def find() -> dict[str, Path]:
    """Return the directory of every kernelspec on Jupyter's data path by name; the first wins."""
    found: dict[str, Path] = {}
    for directory in map(Path, paths.jupyter_path("kernels")):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue  # most of the path does not exist
        for name in names:
            if (directory / name / "kernel.json").is_file():
                found.setdefault(name.lower(), directory / name)
    return found


def is_ours(directory: Path) -> bool:
    """Tell whether the kernelspec in `directory` starts a minikernel; one that can't be read does not."""
    try:
        argv = json.loads((directory / "kernel.json").read_bytes())["argv"]
        return ("-m", "minikernel") in pairwise(argv)
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minikernel", description="Manage the kernels that Jupyter finds.")
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False, parents=[places()])
    common.add_argument("--name", type=_name, default="minikernel", help="the kernel's name (minikernel)")
    adding = commands.add_parser("install", parents=[common], help="install this kernel for Jupyter to find")
    adding.add_argument("--display-name", metavar="TEXT", help='what frontends show: "Python 3 (NAME)"')
    adding.add_argument(
        "--env", action=_Variable, nargs="+", default={}, metavar=("K=V", "V"),
        help="K=V or K V: an environment variable for the kernel; may be repeated; ${OTHER} is expanded",
    )  # fmt: skip
    adding.add_argument(
        "--fork", metavar="MODULE", nargs="*",
        help="start kernels by forking a process that has imported the kernel, and these modules",
    )  # fmt: skip
    commands.add_parser("uninstall", parents=[common], help="remove an installed kernel")
    commands.add_parser("list", help="list the kernels that Jupyter finds; * marks ours")
    return parser


def places() -> argparse.ArgumentParser:
    """Return a parser of the options that say for whom a kernel is; `kernels_dir` obeys them."""
    parser = argparse.ArgumentParser(add_help=False)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--sys-prefix", action="store_true",
        help="for this environment: the default in a virtual or conda environment of yours",
    )  # fmt: skip
    where.add_argument("--user", action="store_true", help="for you, in any environment: the default elsewhere")
    where.add_argument("--prefix", metavar="P", help="in P/share/jupyter/kernels")
    where.add_argument("--system", action="store_true", help="for all users")
    return parser


def _name(text: str) -> str:
    """Return a kernel's name as Jupyter wants it, and never one that is a path to elsewhere."""
    name = text.lower()
    if not re.fullmatch(r"[a-z0-9._-]+", name) or not name.strip("."):
        raise argparse.ArgumentTypeError(f"{text!r} has more than letters, digits, '-', '_' and '.', or only dots")
    return name


class _Variable(argparse.Action):
    """``--env K=V`` and ``--env K V``, collected in a dict."""

    def __call__(self, parser: argparse.ArgumentParser, options: Any, values: Any, _: object = None) -> None:
        name, equals, value = values[0].partition("=")
        if not name or len(values) != (1 if equals else 2):
            raise argparse.ArgumentError(self, f"expected K=V or K V, got {' '.join(values)!r}")
        setattr(options, self.dest, {**getattr(options, self.dest), name: value if equals else values[1]})


def kernels_dir(options: argparse.Namespace) -> Path:
    """Return the ``kernels`` directory that the options choose."""
    if options.prefix is not None:
        data = os.path.join(os.path.abspath(os.path.expanduser(options.prefix)), "share", "jupyter")
    elif options.system:
        data = paths.SYSTEM_JUPYTER_PATH[0]
    elif options.sys_prefix or (not options.user and paths.prefer_environment_over_user()):
        data = paths.ENV_JUPYTER_PATH[0]
    else:
        data = paths.jupyter_data_dir()
    return Path(data, "kernels")


def _spec(options: argparse.Namespace) -> dict[str, Any]:
    """Return the kernelspec of our source with what the options change in it."""
    spec: dict[str, Any] = json.loads((_source() / "kernel.json").read_bytes())
    spec["argv"][0] = sys.executable
    spec["display_name"] = options.display_name or f"Python 3 ({options.name})"
    if options.env:
        spec["env"] = options.env
    if options.fork is not None:
        config = {"preload": " ".join(options.fork)}
        spec["metadata"]["kernel_provisioner"] = {"provisioner_name": "minikernel-fork", "config": config}
    return spec


def _source() -> Path:
    """Return the directory of our kernel.json and logos."""
    for directory in _SOURCES:
        if (directory / "kernel.json").is_file():
            return directory
    raise FileNotFoundError(f"this installation lacks {_SOURCES[0]}")


def _beside(target: Path) -> TemporaryDirectory[str]:
    """Make a directory next to `target` for what comes and goes; without a kernel.json, it is no kernel's."""
    return TemporaryDirectory(prefix=f"{target.name}~", dir=target.parent, ignore_cleanup_errors=True)


def _move(source: Path, target: Path) -> None:
    """Rename a directory; copy it where overlayfs can't, which holds a container image's in a lower layer."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, target)


def _list() -> int:
    """Print every kernel that Jupyter finds, ours with a ``*``."""
    found = find()
    width = max(map(len, found), default=0)
    for name, directory in sorted(found.items()):
        print(f"{'*' if is_ours(directory) else ' '} {name:{width}}  {directory}")
    if not found:
        print("Jupyter finds no kernels; minikernel install adds one", file=sys.stderr)
    return 0
