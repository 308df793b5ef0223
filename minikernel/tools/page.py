"""The trace as a live page: a small web server, of tornado, for this machine's browsers and their owner.

Messages show what was typed and printed, so this file alone decides who sees them and what they can do there:

* The server listens on 127.0.0.1.  Whoever comes must know the token, which is in the page's address and nowhere
  else, call the server by its own name (so that no other can be bound to it); a websocket must come from the page,
  which tornado sees to.
* Nothing that a message holds is ever HTML: it goes to the page as JSON, and the page makes text of it.  Its
  policy allows one script, by a number made for each answer, and nothing from elsewhere.
* It keeps the last messages, up to a number and to an amount of bytes, of each frame the beginning, and so does the
  page.  A browser that is slow misses some.

It has a thread and an event loop of its own.  Next: ``page.html``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from ..protocol.messages import MESSAGES
from ..protocol.wire import DELIMITER
from .ladder import frame_names
from .transcript import Entry
from .violations import WIRE, link

#: Messages that are kept, their bytes, the bytes of one frame, and the frames of one message.
KEEP, KEEP_BYTES, KEEP_FRAME, KEEP_FRAMES = 2000, 1 << 25, 1 << 16, 200
#: Messages in one frame of the websocket.
BATCH = 200
_HTML = Path(__file__).with_suffix(".html")
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Json = dict[str, Any]


class Page:
    """Serves what it is called with, as `View`s are.

    Parameters
    ----------
    info : dict
        The fields of the connection file; of its key the page learns whether there is one.
    port : int
        Where to listen; 0 chooses a port.
    title : str
        What the page is called.

    Attributes
    ----------
    url : str
        The page's address.  Who knows it sees all messages.

    Raises
    ------
    OSError
        The port can't be had.
    """

    def __init__(self, info: Json, port: int, title: str) -> None:
        self._sockets = bind_sockets(port, "127.0.0.1")
        self.port: int = self._sockets[0].getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{self.port}/?token={self.token}"
        self.hello = {"title": title, "signed": bool(info["key"]), "scheme": info["signature_scheme"], "keep": KEEP}
        self.clients: set[Messages] = set()
        #: Rows with the beginnings of their frames, in order; the loop's thread only.
        self.kept: deque[tuple[Json, list[bytes]]] = deque()
        self._bytes = 0
        started = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve(started)), name="minikernel-page", daemon=True)
        self._thread.start()
        started.wait()

    async def _serve(self, started: Event) -> None:
        self._loop = asyncio.get_running_loop()
        routes = [(r"/", Root, {"page": self}), (r"/messages", Messages, {"page": self})]
        application = Application(
            routes, log_function=lambda _: None, websocket_ping_interval=20, websocket_max_message_size=1024
        )
        HTTPServer(application).add_sockets(self._sockets)
        started.set()
        await asyncio.Event().wait()

    def __call__(self, entry: Entry | None) -> None:
        """Show an entry.  Any one thread."""
        if entry is None:
            return
        frames = [bytes(frame[:KEEP_FRAME]) for frame in entry.frames[:KEEP_FRAMES]]
        self._loop.call_soon_threadsafe(self._add, row(entry), frames)

    def _add(self, row: Json, frames: list[bytes]) -> None:
        self.kept.append((row, frames))
        self._bytes += sum(map(len, frames))
        while len(self.kept) > KEEP or self._bytes > KEEP_BYTES:
            self._bytes -= sum(map(len, self.kept.popleft()[1]))
        for client in self.clients:
            client.add(row)

    def frames(self, number: int) -> list[bytes] | None:
        """Return the beginnings of a message's frames, while it is kept.  The loop's thread."""
        return next((frames for row, frames in self.kept if row["number"] == number), None)


def row(entry: Entry) -> Json:
    """Return what a page shows of an entry before it is clicked on."""
    spec = MESSAGES.get(entry.msg_type) if entry.message else None
    section = spec.section if spec else WIRE if DELIMITER in entry.frames else None
    return {
        "number": entry.number, "time": entry.time, "direction": entry.direction, "channel": entry.channel,
        "type": entry.msg_type, "summary": entry.summary(), "latency": entry.latency,
        "request": entry.exchange.number if entry.exchange else None,
        "asked": entry.exchange.msg_type if entry.exchange else None,
        "signature": entry.signature, "about": spec.about if spec else None,
        "section": section, "link": link(section) if section else None,
        "violations": [{**each._asdict(), "link": link(each.section)} for each in entry.violations],
        "frames": [{"name": name, "size": size} for name, size in _sizes(entry)],
    }  # fmt: skip


def _sizes(entry: Entry) -> list[tuple[str, int]]:
    sizes = [(name, len(frame)) for name, frame in zip(frame_names(entry), entry.frames, strict=True)]
    more = sizes[KEEP_FRAMES:]
    return sizes[:KEEP_FRAMES] + ([(f"{len(more)} more frames", sum(size for _, size in more))] if more else [])


class Handler(RequestHandler):
    """Lets in who knows the token and came by the right name."""

    def initialize(self, page: Page) -> None:
        """Take the page."""
        self.page = page

    def prepare(self) -> None:
        """Refuse whoever may not see this."""
        names = (f"127.0.0.1:{self.page.port}", f"localhost:{self.page.port}")
        token = self.get_query_argument("token", "")
        if self.request.host not in names or not secrets.compare_digest(token.encode(), self.page.token.encode()):
            raise HTTPError(403)

    def set_default_headers(self) -> None:
        """Add what keeps the page to itself, to errors, too."""
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say no more than the number: what was asked for may be anything."""
        self.set_header("Content-Security-Policy", "default-src 'none'")
        self.finish(f"{status_code}: the page's whole address, with its token, was printed when the trace began")


class Root(Handler):
    """The page itself."""

    def get(self) -> None:
        """Answer with the page."""
        nonce = secrets.token_urlsafe(16)
        policy = _POLICY.format(nonce=nonce, host=self.request.host)
        self.set_header("Content-Security-Policy", policy)
        self.finish(_HTML.read_text(encoding="utf-8").replace("{nonce}", nonce))


class Messages(Handler, WebSocketHandler):
    """The page's websocket: rows as they come, and the frames of those that are asked for, by their number."""

    def open(self, *_: str, **__: str) -> None:
        """Send what there has been."""
        self._waiting: deque[Json] = deque((row for row, _ in self.page.kept), maxlen=KEEP)
        self._ready = asyncio.Event()
        self._ready.set()
        self.page.clients.add(self)
        self._task = asyncio.ensure_future(self._send())

    def add(self, row: Json) -> None:
        """Send a row when there is time to."""
        self._waiting.append(row)
        self._ready.set()

    async def _send(self) -> None:
        try:
            await self.write_message({"hello": self.page.hello})
            while True:
                await self._ready.wait()
                self._ready.clear()
                while self._waiting:
                    rows = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                    await self.write_message({"rows": rows})
        except WebSocketClosedError:
            pass

    async def on_message(self, message: str | bytes) -> None:
        """Send the frames of a message."""
        try:
            number = int(message)
        except ValueError:
            self.close(1003)
            return
        frames = self.page.frames(number)
        answer = {"number": number, "frames": None if frames is None else [each.hex() for each in frames]}
        try:
            await self.write_message(answer)
        except WebSocketClosedError:
            pass

    def on_close(self) -> None:
        """Forget the client."""
        self.page.clients.discard(self)
        self._task.cancel()
