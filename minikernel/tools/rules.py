"""The rules of the protocol that a frontend can see, each a function that tries one of them on a kernel.

A rule's name is the function's, what it demands its docstring, and with it goes the section of "Messaging in
Jupyter" where it is written.  What a section demands ("shall", "must", "always", or a field of a message) is a
violation if a kernel does otherwise; what it recommends, or what is everybody's practice and stands nowhere, is
advice.  What a kernel does not have is skipped: all but execute and kernel_info is optional ("Compatibility").

They are tried in this order, on one kernel as long as it lives; those that may end it come last.  What holds for
all messages, fields and parents and busy and idle, is seen in ``check``, when all have been heard.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..protocol.wire import DELIMITER, Frame
from .client import Entry, Silence, answers, msg_id, msg_type, state
from .probe import GRACE, Answer, Deaf, Probe, Skip, version

#: What the code below prints and types: half of it is no ASCII, and the last is no single unit of UTF-16.
MARK = "mark é😀"
#: Code by what it does.  Kernels of other languages are told theirs by ``--code``.
PYTHON = {
    "print": f"print({MARK!r})",
    "value": "6 * 7",
    "error": "1 / 0",
    "pause": "import time; time.sleep(0.6)",
    "long pause": "import time; time.sleep(3)",
    "late error": "import time; time.sleep(0.3); 1 / 0",
    "wait": f"import time; print({MARK!r}, flush=True); time.sleep(60)",
    "ask": "print(input('name? '))",
    "complete": "x = '😀'; pri",
    "inspect": "print",
    "bad expression": "1 / 0",
    "unfinished": "for n in range(3):",
}
CONTROL = "Messages on the control ROUTER/DEALER channel"
COUNTER = "Execution counter (prompt number)"


class Rule(NamedTuple):
    """One rule: its name, the section where it is written, what it demands, and how that is tried."""

    name: str
    section: str
    about: str
    function: Callable[[Probe], None]


RULES: list[Rule] = []


def _rule(section: str) -> Callable[[Callable[[Probe], None]], Callable[[Probe], None]]:
    def add(function: Callable[[Probe], None]) -> Callable[[Probe], None]:
        RULES.append(Rule(function.__name__, section, function.__doc__ or "", function))
        return function

    return add


# -- who it is -----------------------------------------------------------------------------------------


@_rule("Kernel info")
def kernel_info(k: Probe) -> None:
    """kernel_info_reply says which protocol, kernel and language it is, in the fields that frontends read."""
    answer = k.ask("kernel_info_request")
    reply, language = answer.reply, _dict(answer.reply.get("language_info"))
    k.expect(answer.status == "ok", f"the status is {answer.status!r}", answer)
    said = reply.get("protocol_version")
    k.expect(bool(version(said)), f"protocol_version is no X.Y: {said!r}", answer)
    for name in ("name", "version", "mimetype", "file_extension"):
        k.expect(isinstance(language.get(name), str), f"language_info has no {name}", answer)
    for link in reply.get("help_links") or ():
        k.expect({"text", "url"} <= set(_dict(link)), f"a help link has not both text and url: {link!r}", answer)


@_rule("Kernel info")
def versions_agree(k: Probe) -> None:
    """The header, kernel_info_reply and the kernelspec name the same version of the protocol."""
    answer = k.ask("kernel_info_request")
    said = {"kernel_info_reply": answer.reply.get("protocol_version")}
    said["the header"] = next((entry["header"].get("version") for entry in answer.exchange[1:]), None)
    said["the kernelspec"] = k.kernel and k.kernel.spec.get("kernel_protocol_version")
    text = "; ".join(f"{who} says {number}" for who, number in said.items() if number)
    k.expect(len({version(number)[:2] for number in said.values() if number}) == 1, text, answer, advice=True)


@_rule(CONTROL)
def control(k: Probe) -> None:
    """The control channel answers as shell does."""
    answer = k.ask("kernel_info_request", channel="control")
    k.expect(answer.replied, "kernel_info_request on control has no reply", answer)


@_rule("Heartbeat for kernels")
def heartbeat(k: Probe) -> None:
    """The heartbeat echoes bytes."""
    k.expect(k.client.beats(k.patience), f"no echo within {k.patience:g} s")


@_rule("Welcome message")
def iopub_welcome(k: Probe) -> None:
    """Every frontend that subscribes to iopub hears iopub_welcome, not the first alone."""
    if k.protocol < (5, 4):
        raise Skip("iopub_welcome came with protocol 5.4")
    ours = [entry for entry in k.client.log if msg_type(entry) == "iopub_welcome"]
    if not k.expect(bool(ours) or k.kernel is None, "the first frontend got none"):
        return
    client = k.another()
    try:
        message = client.wait(lambda entry: msg_type(entry) == "iopub_welcome", GRACE)
    except Silence:
        k.expect(False, "the second frontend got none (libzmq reports it with XPUB_VERBOSE only)")
    else:
        right = not message["parent_header"] and _dict(message["content"]).get("subscription") == ""
        k.expect(right, "it has a parent, or names another subscription")
    finally:
        client.close()


@_rule("The Wire Protocol")
def routing(k: Probe) -> None:
    """A reply goes to who has asked, by all routing ids that the request came with; iopub goes to everybody."""
    answer = k.finish(k.client.send_frames([b"one", b"two", *k.client.pack("kernel_info_request", {})]))
    came = [entry["idents"] for entry in answer.exchange[1:] if entry["channel"] == "shell"]
    k.expect(came == [[b"one".hex(), b"two".hex()]], "the reply lacks the routing ids behind the first", answer)
    client = k.another()
    try:
        request = client.send("execute_request", {"code": "", "silent": True, "stop_on_error": False})
        k.odd.add(msg_id(request))
        client.wait(lambda entry: answers(request)(entry) and state(entry) == "idle", k.patience)
    except Silence:
        k.expect(False, "a second frontend's execute_request had no idle")
    finally:
        client.close()
    k.ask("kernel_info_request")
    channels = {entry["channel"] for entry in k.client.log if answers(request)(entry)}
    k.expect("iopub" in channels, "what was published for one frontend's request did not come to another")
    k.expect(channels <= {"iopub"}, "the reply to one frontend's request came to another")


# -- execution -----------------------------------------------------------------------------------------


@_rule("Execute")
def execute(k: Probe) -> None:
    """Code runs: execute_input, what it prints, an execute_reply with status ok."""
    answer = k.execute("print")
    codes = [content.get("code") for content in answer.of("execute_input")]
    streams = "Streams (stdout, stderr, etc)"
    if _is_ok(k, answer):
        k.expect(codes == [k.code["print"]], f"the code of execute_input is {codes}", answer, section="Code inputs")
        printed = answer.text()
        k.expect(printed.strip() == MARK, f"it printed {printed!r}, not {MARK!r}", answer, section=streams)
        said = [name for name in answer.types if name in ("stream", "execute_input")]
        k.expect(said[:1] != ["stream"], "output came before execute_input", answer, section="Code inputs")


@_rule("Execution results")
def execute_result(k: Probe) -> None:
    """The value of code is an execute_result with a text/plain."""
    answer = k.execute("value")
    results = answer.of("execute_result")
    if _is_ok(k, answer) and k.expect(len(results) == 1, f"{len(results)} messages of execute_result", answer):
        k.expect("42" in _plain(results[0]), "the text/plain of 6 * 7 is not 42", answer)


@_rule(COUNTER)
def execution_count(k: Probe) -> None:
    """The counter goes up by one with what is stored, is the same in all of its messages, and stays else."""
    first, second = k.execute("value"), k.execute("value")
    count = first.count
    if not k.expect(second.count == count + 1, f"after {count} came {second.count}", first, second):
        return
    for answer in first, second:
        for content in answer.of("execute_input") + answer.of("execute_result"):
            said = content.get("execution_count")
            k.expect(said == answer.count, f"the output says {said!r}, the reply {answer.count}", answer)
    unstored = k.execute("value", store_history=False)
    text = f"with store_history false the reply has {unstored.count}, the counter is {count + 1}"
    if k.expect(unstored.count == count + 1, text, unstored, section="Execution results"):
        same = all(content.get("execution_count") == count + 1 for content in unstored.of("execute_input"))
        text = "with store_history false, execute_input has another count than the reply"
        k.expect(same, text, unstored, advice=True)
    after = k.execute("value")
    k.expect(after.count == count + 2, "what was not stored moved the counter", unstored, after)


@_rule("Execute")
def silent(k: Probe) -> None:
    """Silent code has no execute_input, no execute_result, no output, and is not counted."""
    before = k.execute("value")
    hidden = k.execute("value", silent=True, store_history=True)
    after = k.execute("value")
    for name in ("execute_input", "execute_result"):
        k.expect(name not in hidden.types, f"silent code has an {name}", hidden)
    still = after.count == before.count + 1
    k.expect(still, "silent code moved the counter", before, hidden, after, section=COUNTER)
    k.expect(hidden.replied, "silent code has no reply", hidden)
    printed = k.execute("print", silent=True)  # every kernel shows it, or nobody would see a library's warning
    k.expect(not printed.text(), "what silent code prints is published", printed, advice=True)


@_rule("Execution errors")
def error(k: Probe) -> None:
    """An error is one `error` message and a reply with status error, both with ename, evalue and traceback."""
    answer = k.execute("error")
    errors, replies = answer.of("error"), "Request-Reply"
    k.expect(answer.status == "error", f"the status of the reply is {answer.status!r}", answer, section=replies)
    k.expect(len(errors) == 1, f"{len(errors)} messages of error", answer)
    for name, kind in ("ename", str), ("evalue", str), ("traceback", list):
        if k.expect(isinstance(answer.reply.get(name), kind), f"the reply has no {name}", answer, section=replies):
            same = not errors or errors[0].get(name) == answer.reply[name]
            k.expect(same, f"{name} differs between error and execute_reply", answer, advice=True)
    k.expect(answer.count >= 0, "the reply has no execution_count", answer, section="Execution results")
    after = k.execute("value")
    k.expect(after.status == "ok", "the next code, sent after the reply, is not run", answer, after)


@_rule("Execute")
def user_expressions(k: Probe) -> None:
    """user_expressions are evaluated after the code, each on its own: one that fails has its own error."""
    if "bad expression" not in k.code:
        raise Skip("no expression that fails is known in its language (see --code)")
    answer = k.execute("value", user_expressions={"good": k.code["value"], "bad": k.code["bad expression"]})
    got = _dict(answer.reply.get("user_expressions"))
    good, bad = _dict(got.get("good")), _dict(got.get("bad"))
    text = f"the status is {answer.status!r}: an expression that fails must not fail the request"
    if k.expect(answer.status == "ok", text, answer):
        k.expect(good.get("status") == "ok" and "42" in _plain(good), f"6 * 7 is {good}", answer)
        complete = bad.get("status") == "error" and {"ename", "evalue", "traceback"} <= set(bad)
        k.expect(complete, f"what fails has no error: {bad}", answer)
    k.expect("error" not in answer.types, "an expression that fails has an error on iopub", answer)


@_rule("Execute")
def abort(k: Probe) -> None:
    """After an error with stop_on_error, what is queued is answered and not run; what comes later is run."""
    requests = [k.start_code("late error"), k.start_code("print"), k.start_code("print", stop_on_error=False)]
    failing, *queued = [k.finish(request) for request in requests]
    for answer in queued:
        kept = answer.status in ("aborted", "abort", "error") and MARK not in answer.text()
        k.expect(answer.replied, "queued code has no reply", failing, answer)
        if not k.expect(kept, f"queued code was run: its status is {answer.status!r}", failing, answer):
            break
        shown = "execute_input" in answer.types
        k.expect(not shown, "code that was not run has an execute_input", failing, answer, advice=True)
    after = k.execute("print")
    k.expect(after.status == "ok", "code that was sent after the reply was not run", after)


@_rule("Execute")
def stop_on_error_false(k: Probe) -> None:
    """After an error with stop_on_error false, what was queued behind it runs."""
    requests = [k.start_code("late error", stop_on_error=False), k.start_code("print")]
    first, second = [k.finish(request) for request in requests]
    ran = second.status == "ok" and MARK in second.text()
    k.expect(ran, f"queued code was not run: its status is {second.status!r}", first, second)


@_rule("Heartbeat for kernels")
def busy(k: Probe) -> None:
    """While code runs, the heartbeat beats and control answers."""
    beats = _while_busy(k, lambda: k.client.beats(k.patience))
    k.expect(beats, "the heartbeat stops while code runs: frontends take the kernel for dead")

    def ask() -> bool:
        return _heard(k, k.client.send("kernel_info_request", channel="control"), "control")

    text = "control was answered only after the code had ended"
    k.expect(_while_busy(k, ask), text, section=CONTROL, advice=True)


# -- stdin ---------------------------------------------------------------------------------------------


@_rule("Messages on the stdin ROUTER/DEALER channel")
def stdin(k: Probe) -> None:
    """Code that asks has its question on stdin, and gets the answer; with allow_stdin false it does not ask."""
    for allowed in (False, True):
        request = k.start_code("ask", allow_stdin=allowed)
        if not _heard(k, request, "stdin", "shell"):
            raise Deaf("it waits for an answer to a question that has not come")
        asks = any(map(answers(request, "stdin"), k.client.log))
        if asks:
            k.client.send("input_reply", {"value": MARK}, "stdin")
        answer = k.finish(request)
        if not allowed:
            k.expect(not asks, "it asks in spite of allow_stdin false", answer)
            text = f"asking in vain has the status {answer.status!r}, not error"
            k.expect(asks or answer.status == "error", text, answer, advice=True)
        elif not asks:
            raise Skip("it does not ask")
        else:
            text = f"what was typed was {MARK!r}; what arrived was {answer.text()!r}"
            k.expect(MARK in answer.text(), text, answer)


# -- help ----------------------------------------------------------------------------------------------


@_rule("Completion")
def complete(k: Probe) -> None:
    """complete_reply says what may stand from cursor_start to cursor_end, counted in characters, not in bytes."""
    code = k.code.get("complete", "")
    answer = _optional(k, "complete_request", code=code, cursor_pos=len(code))
    start, end, matches = (answer.reply.get(name) for name in ("cursor_start", "cursor_end", "matches"))
    inside = isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= len(code)
    text = f"cursor_start {start!r} and cursor_end {end!r} are not in the code's {len(code)} characters"
    if k.expect(inside, text, answer) and code == PYTHON["complete"] and matches:
        text = f"{matches[:3]} should replace {code[start:end]!r}: positions count characters"
        k.expect(start in (code.index("pri"), len(code)), text, answer)
    empty = k.ask("complete_request", {"code": "", "cursor_pos": 0})
    k.expect(empty.replied, "there is no reply for empty code", empty)


@_rule("Introspection")
def inspect(k: Probe) -> None:
    """inspect_reply says whether something is known of the thing at the cursor, and what, by MIME type."""
    code = k.code.get("inspect", "")
    answer = _optional(k, "inspect_request", code=code, cursor_pos=len(code), detail_level=0)
    nothing = answer.reply.get("found") and not _dict(answer.reply.get("data"))
    k.expect(not nothing, "something is found, and data is empty", answer)
    unknown = k.ask("inspect_request", {"code": "no_such_name_ever", "cursor_pos": 3, "detail_level": 0})
    wrong = unknown.reply.get("found") and code == PYTHON["inspect"]
    k.expect(not wrong, "a name that nobody has is found", unknown)


@_rule("Code completeness")
def is_complete(k: Probe) -> None:
    """is_complete_reply is complete, incomplete (and then has an indent), invalid or unknown."""
    statuses = ("complete", "incomplete", "invalid", "unknown")
    code = k.code.get("unfinished", "")
    answer = _optional(k, "is_complete_request", *statuses, code=code)
    indent = answer.status != "incomplete" or isinstance(answer.reply.get("indent"), str)
    k.expect(indent, "what is incomplete has no indent", answer)
    if code:
        k.expect(answer.status in ("incomplete", "unknown"), f"{code!r} is called {answer.status}", answer)
    if "value" in k.code:
        whole = k.ask("is_complete_request", {"code": k.code["value"]})
        right = whole.status in ("complete", "unknown")
        k.expect(right, f"{k.code['value']!r} is called {whole.status}", whole)


@_rule("History")
def history(k: Probe) -> None:
    """history_reply has rows of session, line and input; what was not to be stored is not there."""
    k.execute("value")
    k.execute("print", store_history=False)
    asked = {"hist_access_type": "tail", "n": 1, "raw": True, "output": False, "session": 0, "start": 0, "stop": 1}
    answer = _optional(k, "history_request", **asked, pattern="", unique=False)
    rows = answer.reply.get("history")
    if not rows:
        raise Skip("its history is empty: it keeps none")
    well = all(isinstance(row, list) and len(row) == 3 for row in rows)
    if k.expect(well, f"a row is not (session, line, input): {rows[0]!r}", answer):
        last = rows[-1][2]
        text = "what was sent with store_history false is in the history"
        k.expect(last != k.code["print"], text, answer, section="Execute")
        text = f"the last input was {k.code['value']!r}, and the history says {last!r}"
        k.expect(last in (k.code["value"], k.code["print"]), text, answer, advice=True)  # it may be written later


# -- comms ---------------------------------------------------------------------------------------------


@_rule("Opening a Comm")
def comms(k: Probe) -> None:
    """comm_info says which comms are open; one for a target that nobody knows is closed at once."""
    answer = _optional(k, "comm_info_request")
    comms = answer.reply.get("comms")
    well = isinstance(comms, dict) and all("target_name" in _dict(comm) for comm in comms.values())
    k.expect(well, "comms is not {comm_id: {target_name: …}}", answer, section="Comm info")
    opened = k.ask("comm_open", {"comm_id": "minikernel-check", "target_name": "no such target", "data": {}})
    closed = any(content.get("comm_id") == "minikernel-check" for content in opened.of("comm_close"))
    text = "no comm_close for a target that nobody knows: the frontend's end stays open"
    k.expect(closed, text, opened, advice=True)
    k.expect(not opened.replied, "a comm_open is replied to", opened)
    k.ask("comm_msg", {"comm_id": "nobody's", "data": {}})


# -- what came later -----------------------------------------------------------------------------------


@_rule("Create subshell")
def subshells(k: Probe) -> None:
    """Subshells run code beside the main shell, are listed, and gone when deleted; unknown ones are refused."""
    if "kernel subshells" not in (k.kernel_info.get("supported_features") or ()):
        raise Skip("it does not announce 'kernel subshells'")
    created = k.ask("create_subshell_request", channel="control")
    subshell_id = created.reply.get("subshell_id")
    if not k.expect(isinstance(subshell_id, str), "create_subshell_reply has no subshell_id", created):
        return
    ran: list[Entry] = []

    def run() -> bool:
        ran[:] = [k.start_code("print", header={"subshell_id": subshell_id})]
        return _heard(k, ran[0], "shell")

    text = "code of the subshell waited for that of the main shell, or was not run"
    k.expect(_while_busy(k, run), text)
    answer = k.finish(ran[0])
    k.expect(MARK in answer.text(), "code of the subshell printed nothing", created, answer)
    listed = k.ask("list_subshell_request", channel="control")
    there = subshell_id in (listed.reply.get("subshell_id") or ())
    k.expect(there, "the subshell is not listed", created, listed, section="List subshells")
    deleted = k.ask("delete_subshell_request", {"subshell_id": subshell_id}, "control")
    k.expect(deleted.status == "ok", "the subshell is not deleted", deleted, section="Delete subshell")
    listed = k.ask("list_subshell_request", channel="control")
    there = subshell_id in (listed.reply.get("subshell_id") or ())
    k.expect(not there, "a subshell that was deleted is listed", deleted, listed, section="List subshells")
    unknown = _apart(k, k.start_code("print", header={"subshell_id": "nobody's"}))
    k.expect(MARK not in unknown.text(), "code for a subshell that is not there was run", unknown)
    k.expect(unknown.replied, "code for a subshell that is not there has no reply", unknown, advice=True)


@_rule("Debug request")
def debugger(k: Probe) -> None:
    """A kernel with a debugger tells its state when it is asked for debugInfo."""
    if not (k.kernel_info.get("debugger") or "debugger" in (k.kernel_info.get("supported_features") or ())):
        raise Skip("it announces no debugger")
    asked = {"seq": 1, "type": "request", "command": "debugInfo", "arguments": {}}
    request = k.client.send("debug_request", asked, "control")
    _heard(k, request, "control")
    answer = k.finish(request)
    if k.expect(bool(answer.reply.get("success")), "debugInfo has no reply, or one without success", answer):
        fields = {"isStarted", "hashMethod", "hashSeed", "tmpFilePrefix", "tmpFileSuffix", "breakpoints"}
        missing = fields - set(_dict(answer.reply.get("body")))
        k.expect(not missing, f"debugInfo lacks {', '.join(sorted(missing))}", answer, section="debugInfo")


# -- what makes no sense -------------------------------------------------------------------------------


@_rule("Compatibility")
def unexpected(k: Probe) -> None:
    """Unknown fields are ignored, unknown messages too, and a request that lacks fields is answered."""
    answer = k.ask("kernel_info_request", {"no such field": [1]})
    k.expect(answer.replied, "kernel_info_request with a field more has no reply", answer)
    unknown = k.client.send("no_such_request", {})
    k.odd.add(msg_id(unknown))
    k.finish(unknown, answerable=False)
    for name, section in ("execute_request", "Execute"), ("complete_request", "Request-Reply"):
        answer = _apart(k, k.client.send(name, {}))
        text = f"a frontend that sends {name} without code waits for ever"
        k.expect(answer.replied, text, answer, section=section, advice=True)


@_rule("The Wire Protocol")
def malformed(k: Probe) -> None:
    """Frames that are no message, or that nobody with the key has signed, are dropped, and the kernel lives on."""
    good = _signed_print(k)
    sign, header = k.client.session.sign, good[2]

    def signed(*four: Frame) -> list[Frame]:
        return [DELIMITER, sign(four), *four]

    bad: dict[str, list[Frame]] = {
        "a message with a wrong signature": [DELIMITER, b"0" * len(good[1]), *good[2:]],
        "a message without a signature": [DELIMITER, b"", *good[2:]],
        "a message whose content was changed": [*good[:5], bytes(good[5]).replace(b"false", b"true ")],
        "a frame that is no message": [b"junk"],
        "the delimiter alone": [DELIMITER],
        "a message that was cut off": good[:4],
        "a header that is no JSON": signed(b"{", b"{}", b"{}", b"{}"),
        "a content that is no UTF-8": signed(header, b"{}", b"{}", b'{"code": "\xff"}'),
        "a header that is no object": signed(b"[1]", b"{}", b"{}", b"{}"),
        "a header without a msg_type": signed(b'{"msg_id": "1"}', b"{}", b"{}", b"{}"),
        "a content that is no object": signed(header, b"{}", b"{}", b"[1]"),
        "JSON that is too deep": signed(header, b"{}", b"{}", b"[" * 100_000),
    }
    harm = 0
    for name, frames in bad.items():
        k.since = len(k.client.log)
        sent = k.client.send_frames(frames)
        k.odd.add(msg_id(sent))
        try:
            answer = k.finish(sent, answerable=False)
        except Deaf as deaf:
            k.expect(False, f"after {name}: {deaf}")
            harm += 1
            if k.kernel is None or harm == 3:  # enough is enough: each costs a kernel, and a while
                raise Deaf("the others are not tried") from None
            k.restart()
        else:
            if "signature" in name or "changed" in name:
                obeyed = answer.replied or answer.iopub
                k.expect(not obeyed, f"{name} is obeyed: who can reach the port can run code", answer)


@_rule("The Wire Protocol")
def replay(k: Probe) -> None:
    """A signed message that comes a second time is not obeyed again: who has overheard it can't repeat it."""
    frames = _signed_print(k)
    first = k.finish(k.client.send_frames(frames))
    k.odd.add(msg_id(first.request))
    both = k.finish(k.client.send_frames(frames), answerable=False)
    text = "a message that came twice was run twice (jupyter_client's Session refuses it)"
    k.expect(both.text().count(MARK) < 2, text, both, advice=True)  # no section says it


# -- interrupts and the end ----------------------------------------------------------------------------


@_rule("Kernel interrupt")
def interrupt(k: Probe) -> None:
    """An interrupt, by signal or message as the kernelspec says, ends what runs, and does not harm who is idle."""
    if k.kernel is None:
        raise Skip("only the one who has started a kernel knows how to interrupt it")
    _interrupt(k)
    k.ask("kernel_info_request")  # behind the signal
    after = k.execute("value")
    k.expect(after.status == "ok", "after an interrupt while it was idle, code is not run", after)
    request = k.start_code("wait")
    k.client.wait(lambda entry: answers(request)(entry) and msg_type(entry) == "stream", k.patience)
    _interrupt(k)
    if not _heard(k, request, "shell"):
        raise Deaf("code was interrupted, and there was no reply")
    answer, after = k.finish(request), k.execute("value")
    k.expect(answer.status == "error", f"the status of interrupted code is {answer.status!r}", answer)
    k.expect(after.status == "ok", "after an interrupt, the next code is not run", after)


@_rule("Kernel shutdown")
def shutdown(k: Probe) -> None:
    """shutdown_reply repeats `restart`; the process ends; another has its ports at once, and another session."""
    if k.kernel is None:
        raise Skip("this kernel is not ours to end")
    sessions = []
    for restart in (True, False):
        k.since = len(k.client.log)
        request = k.client.send("shutdown_request", {"restart": restart}, "control")
        replied = _heard(k, request, "control")
        if k.expect(replied, f"shutdown_request had no reply within {k.patience:g} s"):
            reply = k.client.wait(answers(request, "control"), 0)
            sessions.append(reply["header"].get("session"))
            said = _dict(reply["content"]).get("restart")
            k.expect(said is restart, f"restart was {restart}, and the reply says {said!r}")
        k.drain()
        ended = k.kernel.wait(k.patience)
        k.expect(ended, f"the process still runs {k.patience:g} s after shutdown_request")
        k.expect(not k.kernel.exit_code, f"the process ended with exit code {k.kernel.exit_code}", advice=True)
        if restart:
            k.start(again=True)
    if len(sessions) == 2:
        text = "two processes have the same session in their headers"
        k.expect(sessions[0] != sessions[1], text, section="Message header")


# -- small words ---------------------------------------------------------------------------------------


def _heard(k: Probe, request: Entry, *channels: str) -> bool:
    """Tell whether something comes of a request, on one of the channels, within the kernel's patience."""
    try:
        k.client.wait(answers(request, *channels), k.patience, k.since)
    except Silence:
        return False
    return True


def _while_busy(k: Probe, act: Callable[[], bool]) -> bool:
    """Tell whether `act` can be done while code runs.  A slow machine has a second chance, with more time."""
    for name in ("pause", "long pause"):
        request = k.start_code(name)
        _heard(k, request)
        done = act()
        for _ in range(1000):
            if k.client.receive(0) is None:
                break
        ended = any(map(answers(request, "shell"), k.client.log))
        k.finish(request)
        if done and not ended:
            return True
    return False


def _interrupt(k: Probe) -> None:
    if k.kernel is not None and k.kernel.spec.get("interrupt_mode") == "message":
        k.expect(k.ask("interrupt_request", channel="control").replied, "interrupt_request has no reply")
    elif k.kernel is not None:
        k.kernel.interrupt()
        time.sleep(0.05)  # a signal has no answer; what comes behind it shall not overtake it


def _is_ok(k: Probe, answer: Answer) -> bool:
    k.expect(answer.replied, "execute_request has no reply", answer, section="Execute")
    text = f"the status of the reply is {answer.status!r}"
    return k.expect(answer.status == "ok" or not answer.replied, text, answer, section="Execute") and answer.replied


def _optional(k: Probe, name: str, *statuses: str, **content: Any) -> Answer:
    """Ask what a kernel need not answer."""
    request = k.client.send(name, content)
    answer = k.finish(request)
    if not answer.replied:
        k.odd.add(msg_id(request))
        raise Skip(f"it does not answer {name}")
    k.expect(answer.status in (statuses or ("ok",)), f"the status of the reply is {answer.status!r}", answer)
    return answer


def _apart(k: Probe, request: Entry) -> Answer:
    """Finish a request that is not held against the rules for all requests, for it makes no sense."""
    k.odd.add(msg_id(request))
    header = request["header"]
    return k.finish({**request, "header": {name: header[name] for name in header if name != "subshell_id"}})


def _signed_print(k: Probe) -> list[Frame]:
    if not k.info.get("key"):
        raise Skip("it has no key")
    return k.client.pack("execute_request", {"code": k.code.get("print", ""), "silent": False})


def _plain(content: dict[str, Any]) -> str:
    return str(_dict(content.get("data")).get("text/plain"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
