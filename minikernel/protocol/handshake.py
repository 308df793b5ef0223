"""The start-up handshake: a kernel tells its launcher which ports it has bound.  Imported where one is asked for.

A port that a launcher chooses may be taken when the kernel comes to bind it.  So a launcher may give the kernel a
*registration file* instead of a connection file, which says where the launcher listens (a ROUTER, which serves
any number of kernels)::

    {"kernel_id": "…", "transport": "tcp", "registration_ip": "127.0.0.1", "registration_port": 51587,
     "signature_scheme": "hmac-sha256", "key": "…"}

The kernel binds, connects a DEALER to that place, and the two say::

    kernel      <IDS|MSG>  signature  {"kernel_id": "…", "shell_port": "50160", "iopub_port": …}
    launcher    <IDS|MSG>  signature  an acknowledgement

These are no messages with headers: what is signed is the one frame ("Messaging in Jupyter: Kernel startup
handshake", 5.6; JEP 66).  What an acknowledgement holds is the launcher's affair (xeus sends ``ACK``, which is no
JSON), so the signature alone is looked at.  A kernel whose launcher does not answer, or answers what another key
has signed, is nobody's, and ends.

What the documents leave open is decided here: the fields that a connection file may have are obeyed, ``ip`` among
them; with ipc the place is named as the channels' are; and the kernel's own connection file, for other frontends,
is ``kernel-<kernel_id>.json`` in the runtime directory, there before the launcher hears of it, gone at the end.
"""

from __future__ import annotations

import errno
from typing import Any

import zmq

from .. import __builtins__ as __builtins__
from .channels import CHANNELS, endpoint
from .encoding import dumps
from .wire import DELIMITER, Session, WireError

#: Seconds for which the launcher may keep the kernel waiting.
PATIENCE = 10.0


def register(registration: dict[str, Any], info: dict[str, Any], session: Session) -> None:
    """Tell the launcher where this kernel is, and wait until it has understood.

    Parameters
    ----------
    registration : dict
        The fields ``registration_ip``, for which the kernel's ``ip`` stands, and ``registration_port``.
    info : dict
        The fields of the kernel's connection file; the sockets are bound.
    session : Session
        Signs, and verifies the answer.

    Raises
    ------
    OSError
        The launcher can't be reached, does not answer, or its answer is no acknowledgement.
    """
    ip = registration.get("registration_ip") or info["ip"]
    address = endpoint(info["transport"], ip, registration["registration_port"])
    ports = {f"{channel}_port": str(info[f"{channel}_port"]) for channel in CHANNELS}
    content = dumps({"kernel_id": info["kernel_id"], **ports} if "kernel_id" in info else ports)
    context = zmq.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.ipv6 = ":" in ip
        socket.connect(address)
        socket.send_multipart([DELIMITER, session.sign([content]), content])
        if not socket.poll(int(PATIENCE * 1000)):
            raise OSError(errno.ETIMEDOUT, f"no answer from {address} in {PATIENCE:g} s")
        frames = socket.recv_multipart()
        if frames[-3:-2] != [DELIMITER]:
            raise WireError("no <IDS|MSG> delimiter with two frames behind it")
        session.verify(frames[-2], frames[-1:])
    except zmq.ZMQError as error:
        raise OSError(error.errno, f"cannot connect to {address}: {zmq.strerror(error.errno or 0)}") from None
    except WireError as error:
        raise OSError(errno.EBADMSG, f"the answer from {address} is no acknowledgement: {error}") from None
    finally:
        context.destroy(linger=0)
