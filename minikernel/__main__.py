"""The command line, and the wiring of the floors: ``python -m minikernel [-f FILE | install | …]``.

A start does first what others wait for: it binds the five sockets, puts the ports that were free into the
connection file, answers heartbeats, and only then imports what running Python needs.

The options are those that frontends pass to Python kernels.  Whatever else they append (``jupyter run``
passes its script on, ``jupyter console`` what it does not know) must not keep a kernel from starting: it is
named in one line on stderr, and ignored.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # a notebook's json.py or zmq.py must not be ours; user code gets it back
    try:
        here = os.getcwd()
    except OSError:
        here = ""  # deleted: there is nothing in it
    if sys.path[0] in ("", here):
        del sys.path[0]

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from . import __builtins__ as __builtins__

if TYPE_CHECKING:
    from .kernel.kernel import Language

#: The commands, and the tool that each is.
COMMANDS = {"install": "install", "uninstall": "install", "list": "install", "protocol": "protocol",
            "trace": "trace", "check": "check", "doctor": "doctor", "replay": "replay"}  # fmt: skip

_USAGE = """\
usage: minikernel [-f FILE] [options]      run a kernel
       minikernel COMMAND [options]        {commands}

  -f, --connection-file FILE     read it, or make it when it does not exist
  --ip IP                        address to bind (127.0.0.1)
  --transport tcp|ipc
  --shell, --iopub, --stdin, --control, --hb PORT
  --Session.key KEY              better left to the connection file
  --Session.signature_scheme hmac-HASH
  --trace[=web,json,frames]      show every message on stderr; or on a live page, or as JSON lines
  --record FILE                  write every message to the end of FILE, as JSON; or to a file in it, a directory
  --help, --version

Without -f a connection file is made, and the way to attach is printed.
"""

#: Options and the field of the connection file that they set.
_FIELDS = {
    "-f": "file",
    "--f": "file",
    "--connection-file": "file",
    "--connection_file": "file",
    "--ip": "ip",
    "--transport": "transport",
    "--shell": "shell_port",
    "--iopub": "iopub_port",
    "--stdin": "stdin_port",
    "--control": "control_port",
    "--hb": "hb_port",
    "--Session.key": "key",
    "--Session.signature_scheme": "signature_scheme",
    "--record": "record",
    "--HistoryManager.hist_file": "history",  # nbclient, to kernels named python3
}
#: Seconds that a thread may compute while others wait for the interpreter lock.  An answer beside a cell passes
#: through three threads, and by default (5 ms) a computing cell would have as many turns in between.
TURN = 0.001


def main(argv: list[str] | None = None, language: Language | None = None) -> None:
    """Run the command line `argv`, the process's own by default; the kernel speaks `language`, else Python."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        from importlib import import_module

        tool = import_module(f"minikernel.tools.{COMMANDS[arguments[0]]}")
        sys.exit(tool.main(arguments))
    if "--help" in arguments or "-h" in arguments:
        print(_USAGE.format(commands=", ".join(COMMANDS)), end="")
    elif "--version" in arguments:
        from . import __version__

        print(__version__)
    else:
        fields, ignored = parse(arguments)
        run(fields, ignored, language)


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the known options by the field they set, and what is not known.

    Takes ``-f FILE``, ``-f=FILE``, ``--option=value`` and ``--option value``, and values in quotes: VS Code
    passes ``--Session.key=b"…"`` and ``--transport="tcp"``, quotes included.
    """
    fields: dict[str, str] = {}
    ignored: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == "--trace":  # its value is optional
            fields["trace"] = value
            continue
        if name not in _FIELDS:
            ignored.append(name)
            continue
        if not equals:
            value = next(rest, "")
        for quote in ('"', "'"):
            if value.endswith(quote) and value.removeprefix("b").startswith(quote) and len(value) > 1:
                value = value.removeprefix("b")[1:-1]
        fields[_FIELDS[name]] = value
    return fields, ignored


def run(fields: dict[str, str], ignored: list[str], language: Language | None = None) -> None:
    """Run a kernel in this process until it is told to end.  Does not return."""
    import signal

    from . import process

    process.prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is user code that it could interrupt
    # -- what others wait for
    from . import connect
    from .protocol import log
    from .protocol.channels import Channels
    from .protocol.wire import Session

    history, given = fields.pop("history", None), fields.pop("file", None)
    trace = fields.pop("trace", None)
    record_path = fields.pop("record", None) or os.environ.get("MINIKERNEL_RECORD")
    try:
        path, info, in_file = connect.choose(given, fields)
        registration = {name: info.pop(name) for name in tuple(info) if name.startswith("registration_")}
        mask = os.umask(0o077)  # for sockets that are files
        channels = Channels(info, Session(info["key"].encode(), info["signature_scheme"]))
        os.umask(mask)
    except (OSError, ValueError) as error:
        _give_up(getattr(error, "strerror", None) or str(error))

    def give_back() -> None:
        connect.remove(path, info, keep_file=in_file is not None)

    def end(*_: object) -> NoReturn:
        channels.unlink()
        give_back()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)  # until there is somebody to say goodbye to
    if info != in_file:  # never rewrite what is right: its launcher may be reading it
        try:
            connect.save(path, info)
        except (OSError, RuntimeError) as error:
            _give_up(f"cannot write the connection file {path}: {error}")
    connect.announce(path, info)
    if registration.get("registration_port"):
        from .protocol import handshake

        try:
            handshake.register(registration, info, channels.session)
        except OSError as error:
            give_back()
            _give_up(f"cannot register with the launcher: {error.strerror}")
    # -- the rest
    from .kernel import interrupt
    from .kernel.kernel import Kernel
    from .kernel.life import Life

    if language is None:
        from .python.language import PYTHON

        language = PYTHON
    sys.setswitchinterval(TURN)
    kernel = Kernel(channels, info, language, history)
    kernel.clean_up.append(give_back)
    life = Life(kernel)
    interrupt.install(kernel.main, channels, kernel.quit)
    for danger in connect.dangers(path, info, given=in_file is not None):
        log.write(danger)
    if ignored:
        log.write(f"ignored: {' '.join(ignored)}")
    if record_path:
        from .protocol import record

        record.start(channels, info, path, record_path)
    if trace is not None:
        from .tools import trace as tracing

        tracing.inside(channels, info, path, trace)
    if given is None and "JPY_PARENT_PID" not in os.environ:
        with suppress(OSError):  # nobody reads it
            print(f"To attach a console:  jupyter console --existing {connect.short(path)}", flush=True)
    try:
        kernel.run()
    finally:  # whatever a cell has broken
        life.end()


def _give_up(reason: str) -> NoReturn:
    """Say in one line why there can't be a kernel, and exit with 1."""
    from .protocol import log

    log.write(" ".join(reason.split()))
    sys.exit(1)


if __name__ == "__main__":
    main()
