"""The front door: connection files, and the connect API for code that runs inside a kernel or beside it.

A connection file is a JSON object that says where a kernel's five sockets are and which key signs its
messages ("Connection files" in jupyter_client's documentation).  Whoever can read it can run code as its
owner, so this file alone decides how one is written: in a file of its own with mode 0600, put in place by one
`os.replace`, so that no reader ever sees half of it or another's.

The functions answer calls in the style of this package and in the style of ``ipykernel.connect`` and
``jupyter_client.connect``.  All may be called from any thread.  A kernel announces itself with `announce`;
after that the answers come from memory, and do not depend on the file, the working directory or a fork.

Next: ``protocol.wire``.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, overload

from . import __builtins__ as __builtins__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from subprocess import Popen

__all__ = [
    "ConnectionFile",
    "connect_console",
    "connect_qtconsole",
    "find_connection_file",
    "get_connection_file",
    "get_connection_info",
    "write_connection_file",
]

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(PORTS, 0),
    "ip": "127.0.0.1",
    "key": "",
    "transport": "tcp",
    "signature_scheme": "hmac-sha256",
    "kernel_name": "",
}
#: Bytes that the path of a unix socket may have (sys/un.h).
UNIX_PATH = 103 if sys.platform == "darwin" else 107
#: How the names of directories begin that hold nothing but sockets, or connection files (``private``).
_PRIVATE = ("minikernel-ipc-", "minikernel-runtime-")

#: The connection file and fields of the kernel that this process is, if it is one.
_running: tuple[str, dict[str, Any]] | None = None
#: The directory of this process's connection files, for want of another.
_private = ""
#: Returns those of the kernel, of several in this process (``embedding``), that the calling code works for.
guest: Callable[[], tuple[str, dict[str, Any]] | None] | None = None


class ConnectionFile(str):
    """The path of a connection file; ``path, info = …`` unpacks it as jupyter_client's tuple would.

    Attributes
    ----------
    info : dict
        The fields that were written.
    """

    info: dict[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((str(self), self.info))


def write_connection_file(
    fname: str | os.PathLike[str] | None = None,
    shell_port: int | str = 0,
    iopub_port: int | str = 0,
    stdin_port: int | str = 0,
    control_port: int | str = 0,
    hb_port: int | str = 0,
    ip: str | None = "127.0.0.1",
    key: bytes | str | None = b"",
    transport: str = "tcp",
    signature_scheme: str = "hmac-sha256",
    kernel_name: str = "",
    *,
    curve_publickey: bytes | str | None = None,
    curve_secretkey: bytes | str | None = None,
    **extra: Any,
) -> ConnectionFile:
    """Write a connection file, readable by its owner only, and return its path.

    Parameters
    ----------
    fname : path, optional
        By default ``kernel-<uuid>.json`` in the Jupyter runtime directory, where ``--existing`` looks.
    shell_port, iopub_port, stdin_port, control_port, hb_port : int or str
        TCP ports, or the suffixes of ipc sockets; 0 and less choose a free one.  Mind the order, which is not
        jupyter_client's: better use keywords.
    ip : str
        The address to bind; ``"*"`` means ``0.0.0.0``, empty means ``127.0.0.1``.  With the ipc transport,
        the prefix of the sockets' paths, by default made from `fname`.
    key : bytes or str, optional
        Signs the messages.  Empty makes a fresh random key; None writes an empty one: *nothing is signed,
        and anybody who reaches the ports can run code*.  Bytes that are not UTF-8 are written as base64,
        and that text is the key then.
    transport : str
        ``"tcp"`` or ``"ipc"``.
    signature_scheme : str
        ``hmac-`` and the name of a hash.
    kernel_name : str
        The name of the kernelspec, for information.
    curve_publickey, curve_secretkey : bytes or str, optional
        40 characters of Z85 each; both or neither.
    **extra
        Further fields, written as they are.

    Raises
    ------
    ValueError
        Curve keys that are not a pair, a port that is none, or an ipc path that the system can't bind.
    OSError
        The file or a free port can't be had.
    """
    path = os.fspath(fname) if fname is not None else new_path()
    if bool(curve_publickey) != bool(curve_secretkey):
        raise ValueError("curve_publickey and curve_secretkey go together")
    ports = (shell_port, iopub_port, stdin_port, control_port, hb_port)
    info = normal(
        {
            **dict(zip(PORTS, ports, strict=True)),
            "ip": ip,
            "key": os.urandom(32).hex() if key in (b"", "") else _text(key or b""),
            "transport": transport,
            "signature_scheme": signature_scheme,
            "kernel_name": kernel_name,
        }
    )
    if curve_publickey and curve_secretkey:
        info |= {"curve_publickey": _text(curve_publickey), "curve_secretkey": _text(curve_secretkey)}
    info |= extra
    choose_ports(info, path)
    save(path, info)
    result = ConnectionFile(path)
    result.info = info
    return result


def get_connection_file(app: Any = None) -> str | None:
    """Return the absolute path of the connection file of the kernel that this code runs in.

    Parameters
    ----------
    app : object, optional
        An application with a ``connection_file``, as ipykernel's function takes it.

    Returns
    -------
    str or None
        None outside a kernel.  The file itself is not looked at.
    """
    if app is not None:
        return os.path.abspath(str(app.connection_file))
    running = _this()
    return None if running is None else running[0]


@overload
def get_connection_info(
    connection_file: str | os.PathLike[str] | None = ..., unpack: Literal[True] | None = ...
) -> dict[str, Any]: ...


@overload
def get_connection_info(connection_file: str | os.PathLike[str] | None, unpack: Literal[False]) -> str: ...


@overload
def get_connection_info(connection_file: None = None, *, unpack: Literal[False]) -> str: ...


def get_connection_info(
    connection_file: str | os.PathLike[str] | None = None, unpack: bool | None = None
) -> dict[str, Any] | str:
    """Return the connection info of the running kernel, or of a connection file.

    Parameters
    ----------
    connection_file : path, optional
        A path, a name or a part of one, as `find_connection_file` takes it.  Without it the running kernel
        answers, from memory.
    unpack : bool, optional
        As in ipykernel: True gives a dict whose key is bytes, False the JSON text.  When it is left out the
        answer is a dict whose key is a str.

    Raises
    ------
    RuntimeError
        No file was given and this process is not a kernel.
    OSError
        There is no such file.
    """
    if connection_file is not None:
        info = load(_find(os.fspath(connection_file), None))
    else:
        running = _this()
        if running is None:
            raise RuntimeError("not in a running kernel, and no connection_file was given")
        info = dict(running[1])
    if unpack is False:
        return json.dumps(info, indent=2)
    if unpack:
        info["key"] = info["key"].encode()
    return info


def find_connection_file(
    filename_or_glob: str | os.PathLike[str] = "kernel-*.json",
    profile: Any = None,
    *,
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    filename: str | os.PathLike[str] | None = None,
) -> str:
    """Return the absolute path of the connection file that fits best; of several, the latest used.

    .. deprecated:: 0.1
        Keep the path that `write_connection_file` or `get_connection_file` gave you instead.

    Parameters
    ----------
    filename_or_glob : str
        A path, a file's name, a kernel's id or any part of a name, or a pattern with ``*``.
    profile : str, optional
        Jupyter has no profiles: a directory that is given here is searched too, and anything is warned of.
        A list or tuple is taken as `path`, where jupyter_client has it.
    path : path or list of paths, optional
        Where to look; the working directory and the Jupyter runtime directory by default.
    filename : str, optional
        jupyter_client's name for the first parameter.

    Raises
    ------
    OSError
        Nothing fits.
    """
    from warnings import warn

    warn("find_connection_file is deprecated: keep the path instead", DeprecationWarning, stacklevel=2)
    if isinstance(profile, (list, tuple)):
        path, profile = profile, None
    if profile is not None:
        warn("Jupyter has no profiles; only a directory given as one is searched", UserWarning, stacklevel=2)
    if isinstance(path, (str, os.PathLike)):
        path = [path]
    directories = list(path) if path is not None else [".", runtime_dir()]
    if profile is not None and os.path.isdir(profile):
        directories += [profile, os.path.join(profile, "security")]
    return _find(os.fspath(filename if filename is not None else filename_or_glob), directories)


def connect_qtconsole(
    argv: Sequence[str] | str | os.PathLike[str] | None = None,
    connection_file: str | os.PathLike[str] | Sequence[str] | None = None,
    **kwargs: Any,
) -> Popen[bytes]:
    """Open a Qt console on the running kernel, or on the kernel of a connection file.

    Parameters
    ----------
    argv : list of str, optional
        Further arguments of ``jupyter qtconsole``.  A str here, and a list as the second argument, are
        ipykernel's order and are understood.
    connection_file : path, optional
        Another kernel's; the running kernel's by default.
    **kwargs
        Options: ``style="monokai"`` becomes ``--style=monokai``, True ``--name``; False and None nothing.

    Returns
    -------
    subprocess.Popen
        The console's process, in a session of its own; it ends with its window, or when it is killed.

    Raises
    ------
    RuntimeError
        No file was given and this process is not a kernel.
    ImportError
        qtconsole is not installed.
    OSError
        There is no such file.
    """
    from subprocess import DEVNULL, Popen

    command = [sys.executable, "-c", "from qtconsole import qtconsoleapp; qtconsoleapp.main()"]
    command += _existing("qtconsole", "pip install qtconsole PySide6", argv, connection_file, kwargs)
    # A pipe that nobody reads would stop the console after 64 KiB of Qt's warnings.
    return Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def connect_console(
    argv: Sequence[str] | str | os.PathLike[str] | None = None,
    connection_file: str | os.PathLike[str] | Sequence[str] | None = None,
    **kwargs: Any,
) -> Popen[bytes]:
    """Open ``jupyter console`` on the running kernel, or on another, in a new window of a terminal.

    The window is tmux's where this process runs in tmux; else $TERMINAL's or x-terminal-emulator's, where there
    is a display; else macOS's Terminal's.

    Parameters
    ----------
    argv, connection_file, **kwargs
        As in `connect_qtconsole`; the arguments are those of ``jupyter console``.

    Returns
    -------
    subprocess.Popen
        What has opened the window.  It may end before its window does.

    Raises
    ------
    RuntimeError
        No file was given and this process is not a kernel; or there is no terminal to open, and the message
        holds the command to type.
    ImportError
        jupyter_console is not installed.
    OSError
        There is no such file.
    """
    from .terminal import open_window

    options = _existing("jupyter_console", "pip install jupyter_console", argv, connection_file, kwargs)
    return open_window([sys.executable, "-m", "jupyter_console", *options])


def _existing(package: str, remedy: str, argv: Any, connection_file: Any, kwargs: dict[str, Any]) -> list[str]:
    """Return a console's arguments; see `connect_qtconsole`."""
    from importlib.util import find_spec

    file: str | os.PathLike[str] | None = None
    options: list[str] = []
    for argument in (argv, connection_file):
        if isinstance(argument, (str, os.PathLike)):
            file = argument
        elif argument is not None:
            options += argument
    if file is not None:
        target = _find(os.fspath(file), None)
    else:
        running = get_connection_file()
        if running is None:
            raise RuntimeError("not in a running kernel, and no connection_file was given")
        target = running
    if find_spec(package) is None:
        raise ImportError(f"{package} is not installed; {remedy}", name=package)
    arguments = ["--existing", target, *options]
    for name, value in kwargs.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            arguments.append(f"{option}={value}")
    return arguments


# -- for the kernel's start and for tools ---------------------------------------------------------------


def announce(path: str, info: dict[str, Any]) -> None:
    """Say that this process is the kernel with the connection file `path` and these fields."""
    global _running
    _running = os.path.abspath(path), info


def _this() -> tuple[str, dict[str, Any]] | None:
    """Return the connection file and the fields of the kernel that the calling code is part of."""
    return (guest() if guest is not None else None) or _running


def load(path: str) -> dict[str, Any]:
    """Return the fields of a connection file, as `normal` makes them.

    Raises
    ------
    OSError
        The file can't be read.
    ValueError
        It holds no JSON object, or a field that `normal` refuses.
    """
    with open(path, encoding="utf-8") as file:
        info = json.load(file)
    if not isinstance(info, dict):
        raise ValueError("it holds no JSON object")
    return normal(info)


def normal(info: dict[str, Any]) -> dict[str, Any]:
    """Return `info` with every standard field there and of its proper type; the others stay as they are.

    Ports may be strings (JEP 106); one below 0 is 0, as launchers mean it.  A standard field that is null
    counts as missing.

    Raises
    ------
    ValueError
        A port that is none, or another field that is no text.
    """
    given = {name: value for name, value in info.items() if value is not None or name not in _DEFAULTS}
    result = _DEFAULTS | given
    for name, default in _DEFAULTS.items():
        if name in PORTS:
            try:
                result[name] = max(0, int(result[name]))
            except (TypeError, ValueError):
                raise ValueError(f"{name} is no number: {result[name]!r}") from None
            if result["transport"] == "tcp" and result[name] > 65535:
                raise ValueError(f"{name} is no port: {result[name]}")  # zmq would bind another one
        elif not isinstance(result[name], type(default)):
            raise ValueError(f"{name} is no text")
    result["ip"] = {"": "127.0.0.1", "*": "0.0.0.0"}.get(result["ip"], result["ip"])
    return result


def save(path: str, info: dict[str, Any]) -> None:
    """Put `info` into the file `path` in one step, with mode 0600; a link of that name is replaced.

    Raises
    ------
    OSError
        The directory can't be written to.
    RuntimeError
        The file system doesn't keep the mode, and $JUPYTER_ALLOW_INSECURE_WRITES does not allow that.
    """
    directory, name = os.path.split(os.path.abspath(path))
    runtime = _make_runtime_dir(directory)
    beside = os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(beside, flags, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            if os.name == "nt":
                from jupyter_core.paths import win32_restrict_file_to_user

                win32_restrict_file_to_user(beside)
            elif os.fstat(fd).st_mode & 0o177 and not os.environ.get("JUPYTER_ALLOW_INSECURE_WRITES"):
                raise RuntimeError(f"{directory} does not keep files private; use another directory")
            json.dump(info, file, indent=2)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    if runtime and os.name != "nt":
        with suppress(PermissionError):  # nobody else may take the file away, even from a shared directory
            os.chmod(directory, os.stat(directory).st_mode | 0o1000)


def remove(path: str, info: dict[str, Any], *, keep_file: bool = False) -> None:
    """Take a connection file away, if it is not to be kept, and the private directories that nothing is in."""
    if not keep_file:
        with suppress(OSError):  # somebody else has done it
            os.unlink(path)
    for directory in _private_directories(path, info):
        from .private import let_go

        with suppress(OSError):  # there is something in it
            os.rmdir(directory)
            let_go(directory)


def _private_directories(path: str, info: dict[str, Any]) -> set[str]:
    """Return those of the directories of a connection file and of sockets that nobody has but kernels."""
    directories = {os.path.dirname(path), os.path.dirname(info["ip"]) if info["transport"] == "ipc" else ""}
    return {directory for directory in directories if os.path.basename(directory).startswith(_PRIVATE)}


def dangers(path: str, info: dict[str, Any], given: bool) -> Iterator[str]:
    """Give a line for each way in which others get at a kernel; it was `given` its connection file, or made it."""
    ip = info["ip"]
    if not info["key"]:
        yield "the connection file has no key: messages are not signed, and anybody may run code here"
    here = info["transport"] == "ipc" or ip in ("localhost", "::1") or ip.startswith("127.")
    if not here and not info.get("curve_secretkey"):
        yield f"bound to {ip} without curve keys: whoever is on the network's way reads all that is said"
    with suppress(OSError):  # gone since it was read
        status = os.stat(path)
        if given and os.name != "nt" and (status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o002):
            yield f"other users can write the connection file {path}, and so run code here"


def choose_ports(info: dict[str, Any], path: str) -> None:
    """Replace each port of `info` that is 0 by a free one; with ipc, put the sockets beside the file `path`.

    Where that is too long for a socket they are put into a private directory of their own.  A tcp port may be
    taken by another before it is bound; a kernel therefore binds first and writes after.

    Raises
    ------
    ValueError
        An ipc path is longer than the system allows.
    OSError
        The ip is not one of this machine.
    """
    missing = [port for port in PORTS if not info[port]]
    if info["transport"] == "ipc":
        if info["ip"] == _DEFAULTS["ip"]:
            info["ip"] = os.path.splitext(os.path.abspath(path))[0] + "-ipc"
            if len(os.fsencode(info["ip"])) > UNIX_PATH - len("-65535"):
                from .private import make, new_name

                info["ip"] = os.path.join(make(new_name("ipc")), "ipc")
            else:
                _make_runtime_dir(os.path.dirname(info["ip"]))
        taken = {info[port] for port in PORTS}
        number = 0
        for port in missing:
            number += 1
            while number in taken or os.path.exists(f"{info['ip']}-{number}"):
                number += 1
            info[port] = number
        longest = max((f"{info['ip']}-{info[port]}" for port in PORTS), key=len)
        if len(os.fsencode(longest)) > UNIX_PATH:
            raise ValueError(f"an ipc path may have {UNIX_PATH} bytes, this one is longer: {longest}")
    elif missing:
        import socket

        family = socket.AF_INET6 if ":" in info["ip"] else socket.AF_INET
        holders = [socket.socket(family) for _ in missing]
        try:
            for port, holder in zip(missing, holders, strict=True):
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)
                holder.bind((info["ip"], 0))
                info[port] = holder.getsockname()[1]
        finally:
            for holder in holders:
                holder.close()


def choose(name: str | None, options: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """Return a connection file's path, the fields to use, and what is in the file; None when there is none.

    The `options` win over the file, which is to be written again then.  A registration file stays as it is: what is
    in it is used, and the kernel has a connection file of its own.

    Raises
    ------
    ValueError
        The file can't be read, or a field is none.
    """
    path = resolve(name) if name else new_path()
    try:
        in_file = load(path)
    except FileNotFoundError:
        in_file = None
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the connection file {path}: {error}") from error
    info = normal((in_file or {"key": os.urandom(32).hex()}) | options)
    if info.get("registration_port"):
        path, in_file = new_path(info.get("kernel_id")), None
    if info["transport"] == "ipc":
        choose_ports(info, path)
    for directory in _private_directories(path, info):
        from .private import make

        try:
            make(directory)  # or it is kept as long as this process, who may not have made it, has it
        except OSError as error:
            raise ValueError(f"cannot use {directory}: {error.strerror}") from None
    return path, info, in_file


def resolve(name: str) -> str:
    """Return where the connection file `name` is or should be; a bare one may be in the runtime directory."""
    if os.path.basename(name) == name and not os.path.exists(name):
        return os.path.join(runtime_dir(), name)
    return os.path.abspath(name)


def new_path(kernel_id: Any = None) -> str:
    """Return a path in the runtime directory for the kernel that is called so, or one that no kernel has."""
    if kernel_id is None:
        from uuid import uuid4

        kernel_id = uuid4()
    return os.path.join(_place(), f"kernel-{str(kernel_id).replace(os.sep, '-')}.json")


def _text(key: bytes | str) -> str:
    if isinstance(key, str):
        return key
    try:
        return key.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return b64encode(key).decode()


def runtime_dir() -> str:
    """Return where frontends look for connection files.

    Raises
    ------
    OSError
        This user has no home.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        return os.path.abspath(jupyter_runtime_dir())
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no runtime directory: {error}") from None


def short(path: str) -> str:
    """Return what a frontend is told to find a connection file: its name will do in the runtime directory."""
    directory, name = os.path.split(path)
    with suppress(OSError):
        return name if directory == runtime_dir() else path
    return path


def _place() -> str:
    """Return the runtime directory; a private one where that can't be written to."""
    global _private
    with suppress(OSError):
        directory = there = runtime_dir()
        while not os.path.exists(there):
            there = os.path.dirname(there)
        if os.access(there, os.W_OK):
            return directory
    from .private import make, new_name

    _private = make(_private or new_name("runtime"))  # it goes with the last file in it
    return _private


def _make_runtime_dir(directory: str) -> bool:
    """Make `directory` if it is the Jupyter runtime directory or below it; tell whether it is."""
    try:
        runtime = runtime_dir()
    except OSError:
        return False
    if os.path.commonpath([runtime, directory]) != runtime:
        return False
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return True


def _find(text: str, directories: Sequence[str | os.PathLike[str]] | None) -> str:
    """Find a file by path, name, id or pattern (jupyter_client's rules, files only)."""
    from glob import escape, glob
    from stat import S_ISREG

    text = os.path.expandvars(os.path.expanduser(text.strip("'\"")))
    if directories is None:
        directories = [".", runtime_dir()]
    is_pattern = "*" in text
    for name in [] if is_pattern else [text, f"kernel-{text}.json"]:
        for directory in directories:
            candidate = os.path.join(directory, name)
            if os.path.isfile(candidate):
                return os.path.abspath(candidate)
    pattern = text if is_pattern else f"*{text}*"
    any_suffix = is_pattern and "." in os.path.basename(text)
    found: list[tuple[float, int, str]] = []
    for place, directory in enumerate(directories):
        for path in glob(os.path.join(escape(os.fspath(directory)), pattern)):
            try:
                status = os.stat(path)
            except OSError:
                continue  # gone since
            if S_ISREG(status.st_mode) and (any_suffix or path.endswith(".json")):
                # atime alone says nothing where it isn't kept; on a tie the runtime directory wins
                found.append((max(status.st_atime, status.st_mtime), place, os.path.abspath(path)))
    if not found:
        raise OSError(f"could not find a connection file for {text!r} in {', '.join(map(str, directories))}")
    return max(found)[2]
