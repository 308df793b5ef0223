"""What is measured.  One function a metric; its docstring says from when to when the clock runs.

A metric gets a kernel that is ready (with ``starts=True`` the kernelspec, to start kernels of its own) and
`size`, which says how much to do: ``size(2_000)`` is 2,000, and a tenth of that with ``--quick``.  It returns
a figure for each of its rows, in seconds or bytes.  The runner goes from kernel to kernel, round by round.

Three rules make it fair.  What is the frontend's work is done before the clock starts.  What has come is checked
when it has stopped: fast and wrong is no result.  And each metric has processes of its own, so that none pays
for what another has left behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from time import perf_counter
from typing import NamedTuple

from frontend import AnswerError, Frames, Request, printed, read
from subject import Kernel, Spec, environment, memory

Figures = dict[str, float]
Size = Callable[..., int]


class Row(NamedTuple):
    """A line of the table and its goals: × the reference, × the floor, and in its unit, "s", "B", "×" or ""."""

    title: str
    unit: str = "s"
    reference: float | None = None
    floor: float | None = None
    most: float | None = None


METRICS: dict[str, Metric] = {}


class Metric:
    """Makes a function the metric of its name.

    `floor` says whether the floor kernel is measured with the others, or what stands in for it.
    """

    def __init__(
        self, *, starts: bool = False, floor: Callable[[], Figures] | bool = True, rounds: int = 99, **rows: Row
    ) -> None:
        self.starts, self.floor, self.rounds, self.rows = starts, floor, rounds, rows

    def __call__(self, measure: Callable[..., Figures]) -> Callable[..., Figures]:
        self.measure = measure
        METRICS[measure.__name__] = self
        return measure


def require(answer: object, problem: str) -> None:
    if not answer:
        raise AnswerError(problem)


# -- starting and ending -----------------------------------------------------------------------------------


def bare_import() -> Figures:
    """From before ``python -c "import zmq"`` is started until it has ended; its CPU."""
    began = perf_counter()
    process = subprocess.Popen([sys.executable, "-c", "import zmq"])
    _, process.returncode, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - began
    return {"info": seconds, "result": seconds, "cpu": usage.ru_utime + usage.ru_stime}


def _first_answers(kernel: Kernel) -> Figures:
    frontend = kernel.frontend
    hello, cell = frontend.pack("kernel_info_request", {}), frontend.cell("1 + 1")
    frontend.send(hello)
    frontend.reply(hello)
    info = perf_counter() - kernel.began
    frontend.send(cell)
    reply = frontend.reply(cell)
    figures = {"info": info, "result": perf_counter() - kernel.began, "cpu": kernel.cpu()}
    require(read(reply).content["status"] == "ok", "1 + 1 failed")
    return figures


@Metric(
    starts=True,
    floor=bare_import,
    info=Row("spawn → kernel_info_reply", "s", 0.30, 2.0),
    result=Row("spawn → first result", "s", 0.32, 2.2),
    cpu=Row("CPU of a start", "s", 0.30, 2.0),
)
def start(spec: Spec, size: Size) -> Figures:
    """From before the process is made to the reply to a kernel_info_request that waits for it; and, of a cell
    ``1 + 1`` sent then, to its execute_reply, which follows the result.  CPU: of the process, until that reply.
    """
    with Kernel(spec) as kernel:
        return _first_answers(kernel)


@Metric(
    starts=True,
    floor=bare_import,
    info=Row("the same through the fork server: kernel_info_reply", "s", 0.08, 0.5),
    result=Row("… first result", "s", 0.08, 0.5),
    cpu=Row("… CPU of a start", "s", 0.08, 0.5),
)
def fork_start(spec: Spec, size: Size) -> Figures:
    """As `start`; through minikernel's fork server, which has forked before.  Others have none: they start."""
    zygote = None
    if "minikernel" in spec.argv:
        from minikernel.tools.provisioner import Zygote

        zygote = Zygote.of(spec.argv[: spec.argv.index("-m")], [], environment(spec))
        with Kernel(spec, zygote=zygote) as first:
            first.ready()
    with Kernel(spec, zygote=zygote) as kernel:
        return _first_answers(kernel)


@Metric(
    starts=True,
    time=Row("shutdown_request → process gone", "s", 0.25, 2.0),
    later=Row("… 2 seconds after the last cell", "s", 0.25, 2.0),
)
def shutdown(spec: Spec, size: Size) -> Figures:
    """From before a shutdown_request on control, to a kernel that has just run cells, until the process is reaped;
    and to one that has had time to save its history."""
    figures = {}
    for row, seconds in (("time", 0), ("later", 2)):
        with Kernel(spec) as kernel:
            request = kernel.ready().frontend.pack("shutdown_request", {"restart": False})
            time.sleep(seconds)
            began = perf_counter()
            kernel.frontend.send(request, "control")
            kernel.process.wait()
            figures[row] = perf_counter() - began
    return figures


@Metric(
    starts=True,
    time=Row("50 kernels at once: all first results", "s", 0.35, 2.2),
    pss=Row("… PSS of all", "B", 0.5, 1.9),
)
def fifty(spec: Spec, size: Size) -> Figures:
    """From before the first of 50 processes (--quick: 5) is made until each has sent the execute_reply of
    ``1 + 1``; and the sum of their PSS then."""
    with ExitStack() as stack:
        began = perf_counter()
        # a frontend knocks at its kernel's port every 20 ms, not every one: 50 of them would be a load
        kernels = [stack.enter_context(Kernel(spec, retry=20)) for _ in range(size(50))]
        cells = [(kernel.frontend, kernel.frontend.cell("1 + 1")) for kernel in kernels]
        for frontend, cell in cells:
            frontend.send(cell)
        for frontend, cell in cells:
            frontend.reply(cell)
        return {"time": perf_counter() - began, "pss": sum(kernel.memory("Pss") for kernel in kernels)}


# -- being there -------------------------------------------------------------------------------------------


def dependencies() -> Figures:
    """A process that has imported what minikernel depends on, and does nothing."""
    code = "import zmq, tornado.ioloop, jupyter_core.paths; print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        figures = {"rss": memory(process.pid, "VmRSS"), "pss": memory(process.pid, "Pss")}
        process.kill()
    return figures


@Metric(
    starts=True,
    floor=dependencies,
    rss=Row("RSS after the first result", "B", 0.63, 1.25),
    pss=Row("… PSS", "B", 0.52, 1.3),
    threads=Row("… threads", "", most=6),
    fds=Row("… file descriptors, without those of connections", "", most=26),
)
def footprint(spec: Spec, size: Size) -> Figures:
    """What Linux says of a kernel that has run two cells, and has one frontend with four sockets.  Nothing is timed."""
    with Kernel(spec) as kernel:
        kernel.ready()
        return {"rss": kernel.memory("VmRSS"), "pss": kernel.memory("Pss"), "threads": kernel.listed("task"),
                "fds": kernel.listed("fd") - len(kernel.frontend.sockets)}  # fmt: skip


@Metric(cpu=Row("idle: CPU per second", "s", most=0.0002), wakes=Row("… wake-ups per second", "", most=2))
def idle(kernel: Kernel, size: Size) -> Figures:
    """CPU and voluntary context switches of all threads, in 5 seconds without a request; 2 s after the last."""
    kernel.frontend.execute("1 + 1")
    time.sleep(2)
    cpu, wakes, began = kernel.cpu(), kernel.wake_ups(), perf_counter()
    time.sleep(size(5, 2))
    seconds = perf_counter() - began
    return {"cpu": (kernel.cpu() - cpu) / seconds, "wakes": (kernel.wake_ups() - wakes) / seconds}


@Metric(
    rounds=1,
    floor=False,
    plain=Row("growth per 1,000 of `x = 1`", "B", most=400_000),
    plain_then=Row("… after 10,000", "B", most=100_000),
    results=Row("growth per 1,000 of `1`", "B", most=400_000),
    results_then=Row("… after 10,000", "B", most=100_000),
    errors=Row("growth per 1,000 of errors", "B", most=800_000),
    errors_then=Row("… after 10,000", "B", most=100_000),
)
def growth(kernel: Kernel, size: Size) -> Figures:
    """Anonymous memory before and after 10,000 cells of a kind (--quick: 200), and before and after as many
    more; the difference, per 1,000.  Nothing is timed; few are queued, for a queue needs memory, too.  A tenth as
    many run before, and 2 seconds pass, for what they and the saving of their history load."""
    figures, count = {}, size(10_000, 200)
    for kind, code in {"plain": "x = 1", "results": "1", "errors": "1 / 0"}.items():
        _queue(kernel, code, count // 10, 20)
        time.sleep(2)
        for row in (kind, f"{kind}_then"):
            before = kernel.memory("RssAnon")
            _queue(kernel, code, count, 20)
            figures[row] = (kernel.memory("RssAnon") - before) / count * 1000
    return figures


# -- running cells -----------------------------------------------------------------------------------------


def _trips(kernel: Kernel, requests: list[Request]) -> list[float]:
    """Return the times from request to reply and idle, sorted, of all but the first tenth: it warms up."""
    times = [kernel.frontend.run(request)[0] for request in requests]
    return sorted(times[len(times) // 10 or 1 :])


def _queue(kernel: Kernel, code: str, count: int, queued: int = 2_000) -> float:
    """Run a cell `count` times, `queued` of them at a time; return the seconds."""
    frontend, seconds = kernel.frontend, 0.0
    for done in range(0, count, queued):
        cells = [frontend.cell(code) for _ in range(min(queued, count - done))]
        began = perf_counter()
        for cell in cells:
            frontend.send(cell)
        frontend.until_idle(cells[-1])
        seconds += perf_counter() - began
        frontend.reply(cells[-1])
    return seconds


@Metric(p50=Row("round trip of `pass`, p50", "s", 0.23, 2.0), p95=Row("… p95"), p99=Row("… p99", "s", 0.35, 3.0))
def round_trip(kernel: Kernel, size: Size) -> Figures:
    """From before an execute_request is sent until its reply and its idle have come; 1,000, one by one."""
    times = _trips(kernel, [kernel.frontend.cell("pass") for _ in range(size(1_000))])
    return {"p50": median(times), **{f"p{at}": times[len(times) * at // 100] for at in (95, 99)}}


@Metric(p50=Row("round trip of `1 + 1`, p50", "s", 0.18, 2.2), cpu=Row("… CPU per execution", "s", 0.15, 2.1))
def result_trip(kernel: Kernel, size: Size) -> Figures:
    """As `round_trip`.  CPU: what the kernel has used for all of them, by their number."""
    cells = [kernel.frontend.cell("1 + 1") for _ in range(size(1_000))]
    cpu = kernel.cpu()
    times = _trips(kernel, cells)
    return {"p50": median(times), "cpu": (kernel.cpu() - cpu) / len(cells)}


@Metric(time=Row("2,000 queued executes, each", "s", 0.09, 1.9))
def queued(kernel: Kernel, size: Size) -> Figures:
    """From before the first of 2,000 execute_requests, sent without waiting, to the last idle; by 2,000."""
    return {"time": _queue(kernel, "pass", size(2_000)) / size(2_000)}


@Metric(time=Row("first line of a cell that goes on", "s", 0.025, 5.0, 0.010))
def first_line(kernel: Kernel, size: Size) -> Figures:
    """From before the request to the stream message with the line; behind its print the cell sleeps 0.3 s."""
    kernel.frontend.execute("import time")
    cell = kernel.frontend.cell("print('now'); time.sleep(0.3)")
    began = perf_counter()
    kernel.frontend.send(cell)
    kernel.frontend.until_stream(b"now")
    seconds = perf_counter() - began
    kernel.frontend.until_idle(cell)
    return {"time": seconds}


# -- output ------------------------------------------------------------------------------------------------


def _flood(kernel: Kernel, code: str, expected: str) -> Figures:
    cpu, cell = kernel.cpu(), kernel.frontend.cell(code)
    seconds, heard, _ = kernel.frontend.run(cell, copy=False)
    cpu = kernel.cpu() - cpu
    text, messages = printed(heard)
    require(text == expected, f"{len(text)} of {len(expected)} characters came, or not in order")
    return {"time": seconds, "messages": messages, "cpu": cpu}


@Metric(time=Row("100,000 prints", "s", 0.15, 3.0), messages=Row("… messages", "", most=100), cpu=Row("… CPU"))
def prints(kernel: Kernel, size: Size) -> Figures:
    """From before the request of a loop of prints until its reply and idle have come; complete and in order."""
    count = size(100_000)
    return _flood(kernel, f"for i in range({count}): print(i)", "".join(f"{i}\n" for i in range(count)))


@Metric(time=Row("1,000,000 writes", "s", 0.15), messages=Row("… messages", "", most=200), cpu=Row("… CPU"))
def writes(kernel: Kernel, size: Size) -> Figures:
    """The same for a loop of ``sys.stdout.write`` of a number and a space; complete and in order."""
    count = size(1_000_000)
    code = f"import sys\nfor i in range({count}): sys.stdout.write(f'{{i}} ')"
    return _flood(kernel, code, "".join(f"{i} " for i in range(count)))


@Metric(time=Row("one write of 50 MB", "s", 1.1, 1.5), messages=Row("… messages", ""), cpu=Row("… CPU"))
def one_write(kernel: Kernel, size: Size) -> Figures:
    """The same for one ``sys.stdout.write`` of text that an earlier cell has made."""
    count = size(5_000_000)
    kernel.frontend.execute(f"import sys; text = ''.join(map('{{:09}}\\n'.format, range({count})))")
    return _flood(kernel, "n = sys.stdout.write(text)", "".join(map("{:09}\n".format, range(count))))


@Metric(time=Row("2,000 displays of 10 kB", "s", 0.5, 1.5))
def displays(kernel: Kernel, size: Size) -> Figures:
    """From before the request of a loop of ``display(…, raw=True)`` until reply and idle; all, and whole."""
    count = size(2_000)
    kernel.frontend.execute("text = 'x' * 10_000")
    code = f"for i in range({count}): display({{'text/plain': text}}, raw=True)"
    seconds, heard, _ = kernel.frontend.run(kernel.frontend.cell(code))
    shown = [message.content for message in map(read, heard) if message.msg_type == "display_data"]
    require([len(content["data"]["text/plain"]) for content in shown] == [10_000] * count, "incomplete")
    return {"time": seconds}


@Metric(time=Row("5,000 prints to 20 frontends", "s", 0.30, 4.0))
def clients(kernel: Kernel, size: Size) -> Figures:
    """From before the request of a loop of prints until each of 20 frontends has its idle; complete for each."""
    frontends = kernel.frontends(20)
    cell = kernel.frontend.cell("for i in range(5_000): print(i)")
    began = perf_counter()
    kernel.frontend.send(cell)
    heard = [frontend.until_idle(cell) for frontend in frontends]
    seconds = perf_counter() - began
    expected = "".join(f"{i}\n" for i in range(5_000))
    require(all(printed(messages)[0] == expected for messages in heard), "incomplete")
    return {"time": seconds}


# -- much at once ------------------------------------------------------------------------------------------

_COMM = """
try:
    create_comm
except NameError:
    from comm import create_comm
c, got = create_comm(target_name="benchmark"), []
c.on_msg(lambda msg: got.append(len(msg["buffers"][0])))
"""


@Metric(
    out=Row("100 MB comm buffer out", "s", 1.0, 1.3),
    out_peak=Row("… growth of peak RSS, × its size", "×", most=1.2),
    into=Row("100 MB comm buffer in", "s", 1.0, 1.3),
    into_peak=Row("… growth of peak RSS, × its size", "×", most=1.2),
)
def comm_buffer(kernel: Kernel, size: Size) -> Figures:
    """Out: from before the request of a cell that sends it on a comm to its idle.  In: from before a comm_msg
    that brings it to a callback to its idle.  Peaks: over what the kernel had just before."""
    count, frontend = size(100_000_000), kernel.frontend
    opened = [message for message in frontend.execute(_COMM) if message.msg_type == "comm_open"]
    frontend.execute(f"big = b'x' * {count}")

    def timed(request: Request) -> tuple[float, float, list[Frames]]:
        kernel.forget_peak()
        before, began = kernel.memory("VmRSS"), perf_counter()
        frontend.send(request)
        heard = frontend.until_idle(request, copy=False)
        seconds = perf_counter() - began
        return seconds, (kernel.memory("VmHWM") - before) / count, heard

    out, out_peak, heard = timed(frontend.cell("c.send({}, buffers=[big])"))
    sent = [message for message in map(read, heard) if message.msg_type == "comm_msg"]
    require(len(sent[0].buffers[0]) == count, "incomplete")
    frontend.execute("del big")
    content = {"comm_id": opened[0].content["comm_id"], "data": {}}
    into, into_peak, _ = timed(frontend.pack("comm_msg", content, b"x" * count))
    frontend.execute(f"assert got == [{count}], got")
    return {"out": out, "out_peak": out_peak, "into": into, "into_peak": into_peak}


@Metric(
    string=Row("cell with a string of 5 MB", "s", 0.10, 1.4),
    list=Row("cell with a list of 5 MB", "s", 0.17, 2.2),
    result=Row("result of 20 MB", "s", 0.75, 1.6),
)
def large_cells(kernel: Kernel, size: Size) -> Figures:
    """From before the request until reply and idle have come, of a cell that assigns a string literal of 5 MB,
    one that assigns a list of 556,000 numbers, and one whose value is a string of 20 MB."""
    cells = {
        "string": f"text = '{'x' * size(5_000_000)}'",
        "list": f"numbers = [{', '.join(map(str, range(1_000_000, 1_000_000 + size(556_000))))}]",
        "result": f"'x' * {size(20_000_000)}",
    }
    figures = {}
    for row, code in cells.items():
        figures[row], _, reply = kernel.frontend.run(kernel.frontend.cell(code), copy=False)
        require(read(reply).content["status"] == "ok", "the cell failed")
    return figures


# -- while it is busy --------------------------------------------------------------------------------------

_LOADS = {
    "loop": "while time.monotonic() < end: pass",
    "sleep": "time.sleep(end - time.monotonic())",
    "gil": "ctypes.PyDLL(None).usleep(int((end - time.monotonic()) * 1e6))",  # PyDLL: with the GIL held
}


def _median_under(kernel: Kernel, load: str, seconds: float, ping: Callable[[], object]) -> float:
    """Return the median time of `ping`, as often as it fits into a cell that is busy for `seconds`."""
    # it sleeps first: a kernel must be able to say that it begins
    code = f"import ctypes, time; end = time.monotonic() + {seconds}; print('go'); time.sleep(0.25)\n{_LOADS[load]}"
    cell, times = kernel.frontend.cell(code), []
    began = perf_counter()
    kernel.frontend.send(cell)
    kernel.frontend.until_stream(b"go")
    time.sleep(max(0.0, began + 0.3 - perf_counter()))
    while perf_counter() < began + seconds - 0.1 and len(times) < 1_000:
        sent = perf_counter()
        ping()
        times.append(perf_counter() - sent)
    kernel.frontend.until_idle(cell)
    return median(times)


@Metric(
    loop=Row("heartbeat while a Python loop runs, p50", "s", None, 2.0),
    sleep=Row("… a sleep", "s", None, 2.0),
    gil=Row("… code that holds the GIL", "s", None, 2.0),
)
def heartbeat(kernel: Kernel, size: Size) -> Figures:
    """From before a ping on hb until it is back; as many as fit into a load of 1.5 s, up to 1,000."""
    socket = kernel.frontend.sockets["hb"]

    def ping() -> None:
        socket.send(b"ping")
        kernel.frontend.receive("hb")

    return {load: _median_under(kernel, load, size(15, 7) / 10, ping) for load in _LOADS}


@Metric(loop=Row("control while a Python loop runs, p50", "s", 1.0, 2.0), sleep=Row("… a sleep", "s", 0.5, 2.0))
def control(kernel: Kernel, size: Size) -> Figures:
    """From before a kernel_info_request on control until its reply; as many as fit into a load of 1.5 s."""
    frontend = kernel.frontend
    requests = iter([frontend.pack("kernel_info_request", {}) for _ in range(2_000)])

    def ask() -> None:
        request = next(requests)
        frontend.send(request, "control")
        frontend.reply(request, "control")

    return {load: _median_under(kernel, load, size(15, 7) / 10, ask) for load in ("loop", "sleep")}


@Metric(
    sleep=Row("interrupt of a sleep", "s", 0.25, 5.0, 0.015),
    loop=Row("… of a loop", "s", 0.25, 5.0, 0.015),
    wait=Row("… of an await", "s", 0.25, 5.0, 0.015),
)
def interrupt(kernel: Kernel, size: Size) -> Figures:
    """From before the interrupt that the kernelspec asks for to the execute_reply; the median of 5."""
    kernel.frontend.execute("import asyncio, time")
    end = "end = time.monotonic() + 5\n"  # for a kernel that can't be interrupted
    busy = {"sleep": "time.sleep(5)", "loop": end + _LOADS["loop"], "wait": "await asyncio.sleep(5)"}
    return {kind: median(_interrupted(kernel, code) for _ in range(size(5, 1))) for kind, code in busy.items()}


def _interrupted(kernel: Kernel, code: str) -> float:
    cell = kernel.frontend.cell(f"print('go', flush=True)\n{code}")
    kernel.frontend.send(cell)
    kernel.frontend.until_stream(b"go")
    time.sleep(0.03)
    began = perf_counter()
    kernel.interrupt()
    reply = kernel.frontend.reply(cell)
    seconds = perf_counter() - began
    kernel.frontend.until_idle(cell)
    require(read(reply).content["status"] == "error", "it was not interrupted")
    return seconds


# -- help --------------------------------------------------------------------------------------------------


@Metric(
    all=Row("completion of 10,000 names, p50", "s", 0.05, 6.0),
    ten=Row("… of 10 of 10,000", "s", 0.03, 6.0),
    os=Row("… of `os.`", "s", 0.05, 8.0),
)
def completion(kernel: Kernel, size: Size) -> Figures:
    """From before a complete_request until its reply and idle have come; 10,000 names are in the namespace."""
    kernel.frontend.execute("import os\nfor i in range(10_000): globals()[f'name_{i:05}'] = i")
    figures = {}
    for row, code, least in (("all", "name_", 10_000), ("ten", "name_0123", 10), ("os", "os.", 200)):
        content = {"code": code, "cursor_pos": len(code)}
        requests = [kernel.frontend.pack("complete_request", content) for _ in range(size(10, 3))]
        figures[row] = median(_trips(kernel, requests))
        matches = len(kernel.frontend.ask("complete_request", content)["matches"])
        require(matches >= least, f"{matches} of {least} names for {code}")
    return figures


@Metric(p50=Row("inspection of a function, p50", "s", 0.6, 4.0))
def inspection(kernel: Kernel, size: Size) -> Figures:
    """From before an inspect_request for a function of an earlier cell until its reply and idle have come."""
    kernel.frontend.execute('def area(width, height=1.0):\n    "The area."\n    return width * height')
    content = {"code": "area", "cursor_pos": 4, "detail_level": 0}
    times = _trips(kernel, [kernel.frontend.pack("inspect_request", content) for _ in range(size(100))])
    require(kernel.frontend.ask("inspect_request", content)["found"], "nothing found")
    return {"p50": median(times)}
