"""``minikernel doctor FILE``: why can't I connect?

From the file to the kernel, as a frontend goes: is there a file, who may read it, what does it say; does anybody
listen where it points, who, and is it ZeroMQ; encrypted or not; does the heart beat; is the key right; does it
answer.  Each step says a plain sentence, and what to do where something is wrong.  Later steps make no sense then,
and are left out.  Nothing is changed and no code is run: the kernel is asked for kernel_info alone.

The key is never shown, nor what was built from it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator
from glob import glob
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from .. import connect
from ..protocol import holder
from ..protocol.channels import CHANNELS
from ..protocol.wire import Session
from .client import Client, Entry, Silence, answers
from .transcript import printable

#: Seconds for each answer.
PATIENCE = 3.0
#: Seconds after which a request is repeated of which nothing was published.
NUDGE = 0.5
#: What a ZeroMQ peer begins with: a signature and version 3.  The other tells its mechanism then, and waits for
#: ours; who has told another one is not answered at all (ZMTP, "Greeting").
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03"

#: Whether it is well ("ok"), worth knowing ("note") or why you can't connect ("bad"), and the sentence.
Words = tuple[str, str]


class Hopeless(Exception):
    """It makes no sense to look further; `str()` of it is the last sentence."""


def main(arguments: list[str]) -> int:
    """Examine a connection file; return 0 when a frontend can connect, else 1."""
    names = arguments[1:]
    if len(names) != 1 or names[0].startswith("-"):
        print("usage: minikernel doctor FILE", file=sys.stderr)
        return 0 if names in (["-h"], ["--help"]) else 2
    healthy = True
    try:
        for level, text in examine(names[0]):
            healthy &= level != "bad"
            print(f"{level:4} {printable(text)}", flush=True)
    except Hopeless as end:
        healthy = False
        print(f"bad  {printable(str(end))}")
    if healthy:
        print(f"     You can connect:  jupyter console --existing {names[0]}")
    return int(not healthy)


def examine(name: str) -> Iterator[Words]:
    """Yield what can be said of a connection file and of the kernel that it leads to.

    Raises
    ------
    Hopeless
        At the first thing that lets no frontend connect.
    """
    path = connect.resolve(name)
    if not os.path.exists(path):
        path = next(filter(os.path.exists, [connect.resolve(f"kernel-{name}.json")]), path)
    yield from _file(path)
    raw = _read(path)
    yield from _fields(raw, path)
    info = connect.normal(raw)
    yield from _listeners(info, path)
    yield from _kernel(info, path)


# -- the file ------------------------------------------------------------------------------------------


def _file(path: str) -> Iterator[Words]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        others = sorted(glob(os.path.join(connect.runtime_dir(), "kernel-*.json")), key=os.path.getmtime)[-5:]
        there = f"The latest there: {', '.join(map(os.path.basename, others))}." if others else "None is there."
        raise Hopeless(
            f"There is no file {path}.  A kernel takes its file away when it ends.  Connection files are in"
            f" {connect.runtime_dir()}.  {there}"
        ) from None
    except OSError as error:
        raise Hopeless(f"{path} can't be looked at: {error.strerror}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise Hopeless(f"{path} is no file: give the kernel's JSON file.")
    if not os.access(path, os.R_OK):
        raise Hopeless(
            f"{path} belongs to user {_user(status.st_uid)}, and you may not read it: connect as that user."
        )
    yield "ok", f"{path} is there."
    if status.st_mode & 0o077:
        mode = f"{status.st_mode & 0o777:04o}"
        yield "note", f"Others may read it (mode {mode}), and run code as you with its key: chmod 600 {path}"
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        yield "note", f"It belongs to user {_user(status.st_uid)}, not to you."


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        raw = json.loads(text)
    except UnicodeDecodeError:
        raise Hopeless("It is no text: it is no connection file.") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise Hopeless(
                "It is empty: its kernel is about to write it, or ended before.  Start it anew."
            ) from None
        where = f"line {error.lineno}, column {error.colno}"
        raise Hopeless(
            f"It is no JSON ({error.msg}, {where}): it was cut off or edited.  Start the kernel anew."
        ) from None
    if not isinstance(raw, dict):
        raise Hopeless("It holds JSON, but no object: it is no connection file.")
    return raw


def _fields(raw: dict[str, Any], path: str) -> Iterator[Words]:
    if raw.get("registration_port"):
        raise Hopeless(
            "It is a registration file: a launcher listens there for kernels, not a kernel for frontends.  The"
            f" kernel's own file is kernel-{raw.get('kernel_id', '…')}.json in {connect.runtime_dir()}."
        )
    missing = [name for name in (*connect.PORTS, "ip", "transport", "key") if raw.get(name) is None]
    if missing:
        raise Hopeless(f"It lacks {', '.join(missing)}: it is no connection file, or was edited.")
    try:
        info = connect.normal(raw)
    except ValueError as error:
        raise Hopeless(f"A field is wrong: {error}.") from None
    if info["transport"] not in ("tcp", "ipc"):
        raise Hopeless(f"Its transport is {info['transport']!r}; there are tcp and ipc.")
    unbound = [name for name in connect.PORTS if not info[name]]
    if unbound:
        text = f"{', '.join(unbound)} is 0: the kernel has not said yet which port it has, or ended before it could"
        raise Hopeless(f"{text}.{_whose(path)}")
    if len({info[name] for name in connect.PORTS}) < len(connect.PORTS):
        raise Hopeless("Two channels have the same port: the file was edited.")
    try:
        Session(b"", info["signature_scheme"])
    except ValueError as error:
        raise Hopeless(f"{error}.") from None
    yield from _curve_fields(info)
    if not info["key"]:
        yield "note", "The key is empty: nothing is signed, and whoever reaches the ports can run code."
    yield "ok", f"It is well formed: {info['transport']}, {info['signature_scheme']}."


def _curve_fields(info: dict[str, Any]) -> Iterator[Words]:
    keys = [info.get("curve_publickey"), info.get("curve_secretkey")]
    if not any(keys):
        return
    if not all(isinstance(key, str) and len(key) == 40 for key in keys):
        raise Hopeless("Its curve_publickey and curve_secretkey are no pair of 40 characters each.")
    if not zmq.has("curve"):
        raise Hopeless("The kernel wants encryption, and this libzmq has no curve: install another pyzmq.")
    yield "ok", "It asks for encryption (curve)."


# -- who listens ---------------------------------------------------------------------------------------


def _listeners(info: dict[str, Any], path: str) -> Iterator[Words]:
    found: dict[str, str] = {}
    for channel in CHANNELS:  # who has kept one waiting will keep all
        found[channel] = _peek(info, channel, 0.2 if {"silent", "unreachable"} & set(found.values()) else PATIENCE)
    kinds = set(found.values())
    places = {channel: f"{channel} ({info[f'{channel}_port']})" for channel in CHANNELS}
    holders = _holders(info)
    if kinds == {"nobody"}:
        text = "Nobody listens on any of its ports: the file is stale, or its kernel not ready."
        raise Hopeless(f"{text}{holders or _whose(path)}")
    for problem, text in (
        ("nobody", "Nobody listens on {}: the ports are of a kernel that has ended, or it is ending"),
        ("unreachable", "{} can't be reached: another machine, a firewall, or a network that is down"),
        ("denied", "You may not connect to {}: it belongs to another user"),
        (
            "foreign",
            "What listens on {} does not speak ZeroMQ: the file is stale, and another program has the port now",
        ),
        ("silent", "What listens on {} says nothing, not even a greeting"),
    ):
        names = [places[channel] for channel, kind in found.items() if kind == problem]
        if names:
            raise Hopeless(f"{text.format(', '.join(names))}.{holders or _whose(path)}")
    yield "ok", f"All five ports are open.{holders}"
    encrypted = bool(info.get("curve_publickey"))
    if encrypted and "NULL" in kinds:
        raise Hopeless(
            "The file asks for encryption, and the kernel does not encrypt: the file is not this kernel's."
        )
    if not encrypted and "CURVE" in kinds:
        raise Hopeless(
            "The kernel encrypts (curve), and the file has no keys for it: the file is not this kernel's."
        )
    if encrypted and not _shakes_hands(info):
        raise Hopeless("The kernel encrypts with other keys than the file's: the file is not this kernel's.")


def _peek(info: dict[str, Any], channel: str, patience: float) -> str:
    """Return the mechanism of the ZeroMQ peer that listens for a channel, or what is there instead."""
    port = info[f"{channel}_port"]
    try:
        if info["transport"] == "ipc":
            place = f"{info['ip']}-{port}"
            if len(os.fsencode(place)) > connect.UNIX_PATH:
                text = f"An ipc path may have {connect.UNIX_PATH} bytes, and {place} has {len(os.fsencode(place))}"
                raise Hopeless(f"{text}: choose a shorter directory.")
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(patience)
            peer.connect(place)
        else:
            ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(info["ip"], info["ip"])
            peer = socket.create_connection((ip, port), patience)
    except (FileNotFoundError, ConnectionRefusedError):
        return "nobody"
    except PermissionError:
        return "denied"
    except OSError:
        return "unreachable"
    with peer:
        try:
            peer.sendall(_GREETING)
            said = b""
            while len(said) < 32 and (more := peer.recv(64)):
                said += more
                if said[:1] != b"\xff":
                    return "foreign"
        except TimeoutError:
            return "silent"
        except OSError:
            return "foreign"
    return (
        said[12:32].rstrip(b"\0").decode("ascii", "replace")
        if said[:1] == b"\xff" and len(said) >= 32
        else "foreign"
    )


def _shakes_hands(info: dict[str, Any]) -> bool:
    """Tell whether the peers agree on the keys of encryption."""
    client = Client(info)
    try:
        knock = client.socket("hb", zmq.REQ, monitor := "inproc://doctor")
        ears = client.monitor(monitor)
        knock.send(b"")
        while ears.poll(int(PATIENCE * 1000)):
            event = recv_monitor_message(ears)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
            if event == zmq.EVENT_DISCONNECTED or "HANDSHAKE_FAILED" in str(zmq.Event(event).name):
                return False
        return False
    finally:
        client.close()


def _is_local(ip: str) -> bool:
    """Tell whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as ours:
            ours.bind((ip, 0))
    except OSError:
        return False
    return True


def _holders(info: dict[str, Any]) -> str:
    """Say which processes hold the ports, where the system tells."""
    if info["transport"] != "tcp":
        return ""
    if not _is_local(info["ip"]):
        return f"  {info['ip']} is another machine: whether its kernel runs, and lets others in, is told there."
    pids = {pid for channel in CHANNELS if (pid := holder.listener(info[f"{channel}_port"])) is not None}
    text = "".join(f"  They are held by process {pid}{_command(pid)}{_state(pid)}." for pid in sorted(pids))
    return text + ("  These are different processes: the file is stale." if len(pids) > 1 else "")


def _whose(path: str) -> str:
    """Say what has become of the process that the file belongs to, where that can be told."""
    name = os.path.basename(path)
    pids = map(int, filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()))
    commands = {pid: holder.command(pid) for pid in pids}
    # neither who asks the doctor nor who is attached is the kernel
    others = {"doctor", "--existing"}
    running = [pid for pid, said in commands.items() if name in said and not others & set(said.split())]
    if running:
        return "".join(f"  Process {pid}{_command(pid)} was started with it{_state(pid)}." for pid in running)
    named = re.fullmatch(r"kernel-(\d{1,7})\.json", name)
    if named and not _alive(int(named[1])):
        return f"  Its kernel was process {named[1]}, which has ended: remove the file."
    return (
        "  No process was started with it: its kernel has ended.  Remove the file."
        if os.path.isdir("/proc")
        else ""
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    if state in "Tt":
        return f", and is stopped: kill -CONT {pid} lets it go on"
    return ", and has ended without being waited for" if state == "Z" else ""


def _command(pid: int) -> str:
    """Return a process's command line for people; launchers pass keys there."""
    command = re.sub(r"(key=)\S+", r"\1…", holder.command(pid), flags=re.IGNORECASE)
    return f" ({command[:100]})" if command else ""


def _user(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


# -- the kernel ----------------------------------------------------------------------------------------


def _kernel(info: dict[str, Any], path: str) -> Iterator[Words]:
    client = Client(info)
    try:
        beats = client.beats(PATIENCE)
        asked = {channel: client.send("kernel_info_request", channel=channel) for channel in ("control", "shell")}
        heard: dict[str, Entry] = {}
        refused = False
        deadline = time.monotonic() + PATIENCE
        while len(heard) < len(asked) and not refused and time.monotonic() < deadline:
            entry = client.receive(deadline - time.monotonic())
            if entry is not None:
                refused = "refused" in entry
                heard |= {channel: entry for channel, request in asked.items() if answers(request, channel)(entry)}
        if refused:
            raise Hopeless(
                "The kernel signs with another key than the file's: the file is not this kernel's, or was edited."
                "  Use the file that the kernel was started with."
            )
        if not beats:
            whose = _holders(info) or _whose(path)
            raise Hopeless(f"Its heart does not beat: the process hangs, or is no kernel.  Restart it.{whose}")
        yield "ok", "Its heart beats."
        if not heard:
            raise Hopeless(
                "It does not answer what is signed with the file's key.  Either the key is wrong, and the file"
                " another kernel's, or it is busy with code that lets nothing else run: interrupt it."
            )
        content = next(iter(heard.values()))["content"]
        names = (
            [content.get("implementation"), content.get("implementation_version")]
            if isinstance(content, dict)
            else []
        )
        yield "ok", f"The key is right; it answers: {' '.join(map(str, names))}."
        if "shell" not in heard:
            yield "note", "It runs code at present: what you send waits for its end (control answers meanwhile)."
        if "control" not in heard:
            yield "note", "It does not answer on control: interrupts by message, and debuggers, won't work."
        deadline, requests = time.monotonic() + PATIENCE, list(asked.values())
        while not _is_audible(client, requests):
            if time.monotonic() > deadline:
                raise Hopeless("Nothing of what it publishes arrives (iopub): you would see no output.")
            # it may have spoken before the subscription had reached it: once more, where it answers
            requests.append(client.send("kernel_info_request", channel=next(iter(heard))))
        yield "ok", "Its output arrives."
    finally:
        client.close()


def _is_audible(client: Client, requests: list[Entry]) -> bool:
    """Tell whether something about one of these requests comes on iopub."""
    wanted = [answers(request, "iopub") for request in requests]
    try:
        client.wait(lambda entry: any(each(entry) for each in wanted), NUDGE)
    except Silence:
        return False
    return True
