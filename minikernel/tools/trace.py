"""``minikernel trace``: watch what any frontend and any kernel say to each other.

::

    minikernel trace --kernel NAME -- jupyter console      a kernel, and a frontend that talks to it
    minikernel trace --kernel NAME                         a kernel, for frontends that you start
    minikernel trace install NAME                          a kernelspec NAME-trace, for frontends that start kernels
    minikernel -f FILE --trace                             this kernel itself, seen from inside

All but the last put a relay between the two (``relay``) which binds the ports that frontends know, and starts the
kernel with a connection file of its own.  To who has started it, the relay is the kernel, and this file alone
decides what that takes: it ends as the kernel ends, with the same exit code or by the same signal; signals that it
gets, the kernel gets, once; it ends with its launcher, and the kernel with it.  Since both connection files have
the same key, nothing has to be signed again.

What it shows is written to stderr, where ``-o`` names no file: stdout and both streams of the kernel are what they
would be without it.  Next: ``relay`` → ``transcript`` → ``violations``, ``ladder``, ``page``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import connect, private
from ..protocol import handshake, log
from ..protocol.channels import Channels, Tracer
from ..protocol.record import Recorder
from ..protocol.wire import Session
from . import launch
from .install import carry_out, install, kernels_dir, places
from .ladder import JsonLines, Ladder, colourful, width_of
from .relay import Relay
from .transcript import Seen, Show, Tap, Transcript, View

#: Seconds that a kernel has to end in when it is told to; frontends wait about as long.
PATIENCE = 2.5
#: What a frontend's command line has where the connection file's path goes; without it, --existing is added.
PLACE = "{connection_file}"
_PASSED_ON = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: list[str]) -> int:
    """Run ``minikernel trace`` with its arguments; return the exit code."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    command = arguments[end + 1 :]
    if arguments[1:2] == ["install"]:
        options = _install_parser().parse_args(arguments[2:end])
        return _install(options)
    options, unknown = _parser().parse_known_args(arguments[1:end])
    if unknown and not options.connection_file:
        _parser().error(
            f"unknown: {' '.join(unknown)}"
        )  # else a frontend has added them, and they are the kernel's
    sys.setswitchinterval(0.0005)  # what looks at messages must not keep those who wait for them
    try:
        relayed = Relayed(options, unknown, command)
    except (OSError, ValueError) as error:
        log.write(" ".join(str(getattr(error, "strerror", None) or error).split()))
        return 1
    return relayed.run()


def _views(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to show."""
    parser.add_argument("--json", action="store_true", help="write JSON lines instead of a ladder")
    parser.add_argument("--frames", action="store_true", help="write the bytes of every frame, and heartbeats, too")
    parser.add_argument("--web", nargs="?", type=int, const=0, metavar="PORT", help="serve a live page")
    parser.add_argument("--record", metavar="FILE", help="record for replay, as the kernel's own --record does")
    parser.add_argument("-o", dest="output", metavar="FILE", help="where to write the ladder or the JSON lines")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minikernel trace", usage="%(prog)s [options] [--kernel NAME] [-f FILE] [-- COMMAND …]\n"
        "       %(prog)s install NAME [options]",
        description="Watch the messages between frontends and a kernel.",
        epilog=f"The COMMAND is a frontend's; {PLACE} in it becomes the connection file's path, or else "
        "--existing and the path are added.  The ladder is not printed where only --web or --record is asked for.",
    )  # fmt: skip
    parser.add_argument("--kernel", default="minikernel", metavar="NAME", help="its name or directory (minikernel)")
    parser.add_argument("-f", dest="connection_file", metavar="FILE", help="the frontends' connection file")
    _views(parser)
    return parser


def _install_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minikernel trace install", parents=[places()],
        description="Install a kernel NAME-trace, which is the kernel NAME with a relay before it.",
    )  # fmt: skip
    parser.add_argument("kernel", metavar="NAME", help="the kernel's name, or the directory of its kernelspec")
    _views(parser)
    return parser


def _install(options: argparse.Namespace) -> int:
    try:
        directory, spec = launch.kernelspec(options.kernel)
    except (OSError, ValueError) as error:
        print(getattr(error, "strerror", None) or error, file=sys.stderr)
        return 1
    argv = [sys.executable, "-m", "minikernel", "trace", "--kernel", str(directory), "-f", PLACE]
    argv += [f"--{name}" for name in ("json", "frames") if getattr(options, name)]
    argv += [f"--web={options.web}"] if options.web is not None else []
    argv += [f"--record={os.path.abspath(options.record)}"] if options.record else []
    argv += ["-o", os.path.abspath(options.output)] if options.output else []
    metadata = {key: value for key, value in (spec.get("metadata") or {}).items() if key != "kernel_provisioner"}
    display_name = f"{spec.get('display_name') or directory.name}, traced"
    spec |= {"argv": argv, "display_name": display_name, "metadata": metadata}
    spec.pop("env", None)  # the relay gives it to the kernel
    target = kernels_dir(options) / f"{directory.name.lower()}-trace"
    return carry_out("install", target, lambda: install(target, spec, logos=directory))


class Relayed:
    """A kernel behind a relay, and perhaps a frontend before it.

    Raises
    ------
    OSError, ValueError
        It can't be: no such kernel, a port in use, a connection file or an option that makes no sense.
    """

    def __init__(self, options: argparse.Namespace, arguments: list[str], command: list[str]) -> None:
        signal.signal(signal.SIGINT, lambda *_: None)  # there is no kernel yet that it could interrupt
        _, spec = launch.kernelspec(options.kernel)
        self._by_message = spec.get("interrupt_mode") == "message"
        self._path, front, in_file = connect.choose(options.connection_file, {})
        registration = {name: front.pop(name) for name in tuple(front) if name.startswith("registration_")}
        self._front = front
        self._ours = in_file is None
        self._directory = private.make(private.new_name("trace"))
        try:
            own = os.path.join(self._directory, os.path.basename(self._path))
            self._relay = Relay(front)
            back = {**front, **dict.fromkeys(connect.PORTS, 0), "ip": _own_address()}
            connect.choose_ports(back, own)
            connect.save(own, back)
            self._relay.connect(back)
            self._relay.tracers += tracers(options, front, self._path, relayed=True)
            if front != in_file:
                connect.save(self._path, front)
            for danger in connect.dangers(self._path, front, given=in_file is not None):
                log.write(danger)
            if registration.get("registration_port"):  # the launcher has left the ports to the kernel
                handshake.register(registration, front, Session(front["key"].encode(), front["signature_scheme"]))
            self._frontend: subprocess.Popen[bytes] | None = None
            self._kernel = launch.start(options.kernel, own, arguments=arguments)
            try:
                if command:
                    self._frontend = subprocess.Popen(_with_file(command, self._path))
                elif not options.connection_file:
                    log.write(f"To attach a console:  jupyter console --existing {self._path}")
                self._watch()
            except BaseException:
                self._kernel.kill()
                raise
        except BaseException:
            self._clean_up()
            raise

    def run(self) -> int:
        """Forward messages until the kernel has ended; return its exit code, or end by its signal."""
        self._relay.run()
        self._relay.close()
        self._clean_up()
        status = self._kernel.wait()
        if self._frontend is not None:
            if self._frontend.poll() is None:
                log.write(f"the kernel has ended: {_how(status)}")
            status = self._frontend.wait()
        if status < 0:
            if -status != signal.SIGKILL:
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        return status

    def _watch(self) -> None:
        """Have the relay's poll see signals, the ends of children and the end of who has started this."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.write(write, b"\0")  # a child may have ended already
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._end())
        self._relay.watch(read, lambda: self._look_after(read))
        launcher = os.environ.get("JPY_PARENT_PID", "")
        # without pidfd_open, on macOS, a launcher that is killed has to be outlived
        if launcher.isdigit() and int(launcher) not in (1, os.getpid()) and hasattr(os, "pidfd_open"):
            try:
                fd = os.pidfd_open(int(launcher))
            except OSError:
                return  # a stale value says nothing about our launcher
            self._relay.watch(fd, self._orphaned(fd))

    def _orphaned(self, fd: int) -> Callable[[], None]:
        def orphaned() -> None:
            self._relay.forget(fd)
            self._end()

        return orphaned

    def _pass_on(self, number: int, _: object) -> None:
        """Give the kernel a signal that we have got.  A terminal's Ctrl-C is for it, too, if it bears signals."""
        if self._kernel.poll() is None and not (number == signal.SIGINT and self._by_message):
            os.killpg(self._kernel.pid, number)

    def _look_after(self, read: int) -> None:
        """See whether a child has ended."""
        os.read(read, 4096)
        if self._kernel.poll() is not None:
            self._relay.stop()
        elif self._frontend is not None and self._frontend.poll() is not None:
            self._end()

    def _end(self) -> None:
        """Let the kernel end, and make it when it does not; the frontend has no kernel then."""
        if self._frontend is not None and self._frontend.poll() is None:
            self._frontend.terminate()
        if self._kernel.poll() is None:
            self._kernel.terminate()
            signal.signal(signal.SIGALRM, lambda *_: self._kernel.kill())
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _clean_up(self) -> None:
        private.remove(self._directory)
        if self._ours:
            connect.remove(self._path, self._front)


def _own_address() -> str:
    """Return an address of this machine that nobody else has, where it has so many: a port stays free there."""
    if sys.platform != "linux":
        return "127.0.0.1"
    return "127.{}.{}.{}".format(*(byte % 254 + 1 for byte in os.urandom(3)))


def _with_file(command: list[str], path: str) -> list[str]:
    """Return a frontend's command line with the connection file in it."""
    filled = [part.replace(PLACE, path) for part in command]
    return filled if filled != command else [*command, "--existing", path]


def _how(status: int) -> str:
    return f"exit code {status}" if status >= 0 else str(signal.strsignal(-status))


def tracers(options: argparse.Namespace, info: dict[str, Any], path: str, relayed: bool) -> list[Tracer]:
    """Return what sees the messages of a kernel, as the options want it.

    Parameters
    ----------
    options : Namespace
        What `_views` has added.
    info : dict
        The fields of the connection file `path`.
    relayed : bool
        Whether a relay sees them, or the kernel.

    Raises
    ------
    OSError
        A file can't be written, or a port can't be had.
    """
    found: list[Tracer] = []
    if options.record:
        session = Session(info["key"].encode(), info["signature_scheme"])
        recorder = Recorder(options.record, session, foreign=True)

        def record(batch: list[Seen]) -> None:
            for when, direction, channel, frames in batch:
                if channel != "hb" and (direction, channel) != ("in", "iopub"):  # those are no messages
                    recorder(direction, channel, frames, when)
            if not batch:
                recorder("end", "", [])

        found.append(Tap(record, lossless=True))
    transcript = Transcript(info, relayed)
    views: list[View] = []
    if options.web is not None:
        from .page import Page

        name = Path(path).stem
        page = Page(info, options.web, name)
        log.write(f"the trace of {name} is at {page.url}")
        views.append(page)
    if options.output or options.json or (options.web is None and not options.record):
        file = private.open_file(options.output, os.O_WRONLY | os.O_APPEND) if options.output else None

        def fd() -> int:
            return log.fd if file is None else file  # which is another one when a kernel's output is captured

        def write(text: str) -> None:
            rest = memoryview(text.encode(errors="backslashreplace"))
            while rest:
                rest = rest[os.write(fd(), rest) :]

        if options.json:
            views.append(JsonLines(write))
        else:
            views.append(Ladder(write, colourful(fd()), width_of(fd()), options.frames, transcript.open))
    if views:
        found.append(Tap(Show(transcript, views)))
    return found


def inside(channels: Channels, info: dict[str, Any], path: str, how: str) -> None:
    """Trace this kernel from inside: its four channels, without heartbeats, on the stderr of its launcher.

    Parameters
    ----------
    how : str
        Options of ``minikernel trace`` without their dashes, separated by commas: ``web``, ``json``, ``frames``.
    """
    parser = argparse.ArgumentParser(prog="minikernel --trace", add_help=False)
    _views(parser)
    try:
        options = parser.parse_args([f"--{word}" for word in how.split(",") if word])
        channels.tracers += tracers(options, info, path, relayed=False)
    except OSError as error:
        log.write(f"cannot trace: {error.strerror}")
