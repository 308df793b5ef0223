"""One kernel under examination: asks it, waits no longer than it must, and notes what it did wrong.

How long is long enough for an answer that does not come?  A clock would have to be patient, and a loaded machine
would make a liar of it.  So behind every request goes another that every kernel answers, kernel_info, on the same
channel: a *fence*.  What has not come when the fence's answer has, is missing; only a kernel that answers nothing
at all is waited for, and is `Deaf` then.  A kernel that answers out of order is given `GRACE` seconds more.

Next: ``rules``.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from .client import Client, Entry, Silence, answers, msg_id, msg_type, parent_id, state
from .launch import Kernel

#: Seconds for what has not come before the answer to what was asked later.
GRACE = 0.5
#: Seconds for a kernel to start, and to run code for the first time: some compile themselves then.
START = 60.0


class Skip(Exception):
    """The kernel does not have what a rule is about; `str()` of it says what."""


class Deaf(Exception):
    """The kernel answers no more; `str()` of it says since when."""


class Finding(NamedTuple):
    """Something that a kernel does wrong ("violation"), or that a wiser one would do better ("advice")."""

    level: str
    section: str
    text: str
    exchange: list[Entry]


class Answer:
    """All that a request has caused."""

    def __init__(self, request: Entry, heard: list[Entry]) -> None:
        self.request = request
        replies = [entry for entry in heard if entry["channel"] in ("shell", "control")]
        #: The content of the reply; empty when there is none.
        self.reply: dict[str, Any] = _object(replies[0]["content"]) if replies else {}
        self.replied = bool(replies)
        self.iopub = [entry for entry in heard if entry["channel"] == "iopub"]
        self.types = [msg_type(entry) for entry in self.iopub]
        self.exchange = [request, *heard]

    @property
    def status(self) -> str:
        return str(self.reply.get("status"))

    @property
    def count(self) -> int:
        """The reply's execution_count; -1 when it has none."""
        count = self.reply.get("execution_count")
        return count if isinstance(count, int) else -1

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the contents of its messages of one type on iopub."""
        return [_object(entry["content"]) for entry in self.iopub if msg_type(entry) == name]

    def text(self, stream: str = "stdout") -> str:
        """Return what was printed."""
        return "".join(str(content.get("text")) for content in self.of("stream") if content.get("name") == stream)


class Probe:
    """A conversation with a kernel.

    Parameters
    ----------
    kernel : launch.Kernel, optional
        Started, and started again when it has gone; without it, somebody else's kernel is examined.
    info : dict, optional
        The connection file's fields of somebody else's kernel.
    patience : float
        Seconds after which a kernel that says nothing is deaf.
    code : dict
        Code in the kernel's language by what it does (see ``rules``); of Python the rules know it.
    """

    client: Client

    def __init__(
        self, kernel: Kernel | None, info: dict[str, Any] | None, patience: float, code: dict[str, str]
    ) -> None:
        self.kernel = kernel
        self.info = info or {}
        self.patience = patience
        self.code = code
        self.kernel_info: dict[str, Any] = {}
        self.findings: list[Finding] = []
        #: The section of the rule that is being examined, and where in the log it began.
        self.section = ""
        self.since = 0
        #: The logs of the kernels before this one, and of this.
        self.lives: list[list[Entry]] = []
        #: The requests that are not held against the rules for all requests: they are not, or are unheard of.
        self.odd: set[str] = set()
        #: The sessions of our other frontends.
        self.others: set[str] = set()
        self._fences: set[str] = set()
        self._warm = False

    def start(self, again: bool = False) -> None:
        """Start the kernel and wait until it answers; with `again` it has the connection file of the last.

        Raises
        ------
        Deaf
            It does not.
        OSError, ValueError
            It can't be started.
        """
        self.close()
        if self.kernel is not None:
            self.kernel.start(again)
            self.info = self.kernel.info
        self.client = Client(self.info)
        self._greet(self.client)
        self.odd |= self.client.greetings
        self.since = len(self.client.log)
        self.lives.append(self.client.log)

    def restart(self) -> None:
        """Leave a kernel that has gone or is stuck, and start another; what it has left undone is no more."""
        self.lives[-1].append({"direction": "end"})
        self.start()

    def _greet(self, client: Client) -> None:
        kernel = self.kernel
        try:
            reply = client.greet(START if kernel else self.patience, kernel.alive if kernel else lambda: True)
        except Silence as silence:
            raise Deaf(self._fate(str(silence))) from None
        self.kernel_info = _object(reply["content"])

    def another(self) -> Client:
        """Return a second frontend, connected; who asks for it closes it."""
        client = Client(self.info)
        self.others.add(client.session.id)
        try:
            self._greet(client)
        except BaseException:
            client.close()
            raise
        return client

    def drain(self) -> None:
        """Hear what is on its way still: the idle of the last fence, which nobody has waited for."""
        heard = [msg_id(entry) for entry in self.client.log if msg_id(entry) in self._fences]
        try:
            self.client.wait(lambda entry: state(entry) == "idle" and parent_id(entry) == heard[-1], GRACE)
        except (Silence, IndexError):
            pass

    def close(self) -> None:
        """End the conversation, and the kernel if it is ours."""
        if self.kernel is not None:
            self.kernel.kill()
        if hasattr(self, "client"):
            self.client.close()

    # -- asking ----------------------------------------------------------------------------------------

    def ask(self, name: str, content: Any = None, channel: str = "shell", **header: Any) -> Answer:
        """Send a request and return what it has caused."""
        request = self.client.send(name, content, channel, **header)
        return self.finish(request, answerable=name.endswith("_request"))

    def start_code(
        self, name: str, channel: str = "shell", header: dict[str, Any] | None = None, **options: Any
    ) -> Entry:
        """Send an execute_request for the code that does `name`; return its entry.

        Raises
        ------
        Skip
            No such code is known in the kernel's language.
        """
        if name not in self.code:
            language = self.kernel_info.get("language_info", {}).get("name")
            raise Skip(f"no code for {name!r} is known in {language} (see --code)")
        content = {
            "code": self.code[name], "silent": False, "store_history": True, "user_expressions": {},
            "allow_stdin": False, "stop_on_error": True, **options,
        }  # fmt: skip
        return self.client.send("execute_request", content, channel, **(header or {}))

    def execute(self, name: str, **options: Any) -> Answer:
        """Run the code that does `name` to its end."""
        return self.finish(self.start_code(name, **options))

    def finish(self, request: Entry, answerable: bool = True) -> Answer:
        """Return what a request has caused, when all of it has come; some are not `answerable`.

        Raises
        ------
        Deaf
            Neither the request nor the fence behind it is answered.
        """
        channel, header = request["channel"], request.get("header", {})
        extra = {"subshell_id": header["subshell_id"]} if "subshell_id" in header else {}

        def knock() -> str:
            fence = msg_id(self.client.send("kernel_info_request", channel=channel, **extra))
            self._fences.add(fence)
            return fence

        patience = self.patience if self._warm or msg_type(request) != "execute_request" else START
        fence, deadline = knock(), time.monotonic() + patience
        log, at, ours = self.client.log, self.since, answers(request)
        beyond: set[str] = set()
        begun = answered = ended = late = woken = False
        while True:
            for entry in log[at:]:
                if parent_id(entry) == fence:
                    beyond.add(entry["channel"])
                elif ours(entry):
                    begun = begun or state(entry) == "busy"
                    ended = ended or state(entry) == "idle"
                    answered = answered or entry["channel"] in ("shell", "control")
            at = len(log)
            fenced, done = beyond >= {channel, "iopub"}, answered and ended
            working = answerable and begun and not answered and not ended
            if fenced and done:
                break
            if fenced and not working and not late:
                late, deadline = True, time.monotonic() + GRACE * answerable
            elif done and channel in beyond and not late:  # a fence that has been aborted may have no status
                late, deadline = True, time.monotonic() + patience / 2
            if self.kernel is not None and not self.kernel.alive() and not woken:
                woken, deadline = True, time.monotonic() + 0.1  # for what it has said before
            heard = self.client.receive(min(0.2, deadline - time.monotonic()))
            overdue = time.monotonic() - deadline
            if overdue >= 0 and (heard is None or overdue > GRACE):  # who floods is not heard to the end
                if late:
                    break
                if woken:
                    said = "the request has begun, and does not end" if begun else f"nothing for {patience:g} s"
                    raise Deaf(self._fate(said))
                knock()  # some sleep until somebody does
                woken, deadline = True, time.monotonic() + GRACE
        self.expect(not woken, f"nothing for {patience:g} s; it answered when another message came")
        self._warm = self._warm or msg_type(request) == "execute_request"
        return Answer(request, [entry for entry in log[self.since :] if ours(entry)])

    def _fate(self, otherwise: str) -> str:
        code = None if self.kernel is None else self.kernel.exit_code
        if code is None or self.kernel is None:
            return otherwise
        said = self.kernel.said().splitlines()
        return f"it has died, with exit code {code}" + (f", and last wrote {said[-1]!r}" if said else "")

    # -- noting ----------------------------------------------------------------------------------------

    def expect(self, good: bool, text: str, *answers: Answer, section: str = "", advice: bool = False) -> bool:
        """Note what is wrong unless all is `good`, and the answers that show it; by default all that was said.

        With `advice`, it is what the protocol recommends only.  Returns whether it was good.
        """
        if not good:
            exchange = [entry for answer in answers for entry in answer.exchange] or self.client.log[self.since :]
            shown = [entry for entry in exchange if not {msg_id(entry), parent_id(entry)} & self._fences]
            shown.sort(key=lambda entry: float(entry["time"]))
            level = "advice" if advice else "violation"
            self.findings.append(Finding(level, section or self.section, text, shown))
        return good

    @property
    def protocol(self) -> tuple[int, ...]:
        """The protocol's version that the kernel announces, in its replies or in its kernelspec."""
        said = [self.kernel_info.get("protocol_version")]
        if self.kernel is not None:
            said.append(self.kernel.spec.get("kernel_protocol_version"))
        return max((version(text) for text in said), default=(0,))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def version(text: Any) -> tuple[int, ...]:
    """Return "5.3" as (5, 3), and what is no version as ()."""
    parts = str(text).split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()
