"""A Jupyter web server for the tests, and a page's two ways to talk to it: HTTP and the kernel's websocket."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import websocket
from client import TIMEOUT


class Server:
    """A web server in a process of its own: ``python -m`` and the command, in which {port} is one that is free.

    Parameters
    ----------
    directory : path
        Where it runs, and where its log is.
    """

    def __init__(self, directory: Path, *command: str, **env: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.log = directory / f"{command[0]}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(port=port) for part in command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=directory, env={**os.environ, **env}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 3 * TIMEOUT
        try:
            while not self._answers():
                assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        # another process may have taken the port meanwhile: the server tries others, and says which it has
        said = re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())
        self.url = said[0] if said else ""
        try:
            return bool(said) and self.ask("GET", "/api") is not None
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Make a request; return the answer, read from JSON if it is some."""
        data = None if content is None and method != "POST" else json.dumps(content or {}).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=3 * TIMEOUT) as answer:
            text = answer.read().decode()
            return json.loads(text) if text and "json" in answer.headers.get("Content-Type", "") else text

    def kernel(self, name: str = "minikernel") -> str:
        """Start a kernel and return its id."""
        return str(self.ask("POST", "/api/kernels", {"name": name})["id"])

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(TIMEOUT)


class Channels:
    """A page's websocket to a kernel, without buffers."""

    def __init__(self, server: Server, kernel: str, session: str = "page") -> None:
        url = server.url.replace("http", "ws") + f"/api/kernels/{kernel}/channels?session_id={session}"
        self.socket = websocket.create_connection(url, timeout=3 * TIMEOUT)
        self.session = session
        self.count = 0
        self.kept: list[dict[str, Any]] = []

    def send(
        self, msg_type: str, content: Any = None, channel: str = "shell", parent: Any = None, metadata: Any = None
    ) -> str:
        self.count += 1
        header = {
            "msg_id": f"{self.session}-{self.count}", "msg_type": msg_type, "session": self.session,
            "username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        message = {
            "header": header, "parent_header": parent or {}, "metadata": metadata or {},
            "content": content or {}, "channel": channel, "buffers": [],
        }  # fmt: skip
        self.socket.send(json.dumps(message))
        return str(header["msg_id"])

    def wait_for(self, msg_type: str, parent: str | None = None, **content: Any) -> dict[str, Any]:
        """Return the next message of a type, of a request, with such content; the others are kept."""

        def wanted(message: dict[str, Any]) -> bool:
            return (
                message["msg_type"] == msg_type
                and parent in (None, message["parent_header"].get("msg_id"))
                and message["content"].items() >= content.items()
            )

        for index, message in enumerate(self.kept):
            if wanted(message):
                return self.kept.pop(index)
        deadline = time.monotonic() + 3 * TIMEOUT
        while True:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                message = json.loads(self.socket.recv())
            except websocket.WebSocketTimeoutException:
                raise TimeoutError(f"no {msg_type} in {self.kept}") from None
            if wanted(message):
                return message
            self.kept.append(message)

    def start(self, code: str, **options: Any) -> str:
        content = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        return self.send("execute_request", {"code": code, **content, "stop_on_error": True, **options})

    def execute(self, code: str) -> dict[str, Any]:
        """Run code; return its reply's content."""
        request = self.start(code)
        self.wait_for("status", request, execution_state="idle")
        return self.wait_for("execute_reply", request)["content"]

    def value(self, expression: str) -> str:
        """Return the repr of an expression's value."""
        request = self.start("", silent=True, user_expressions={"it": expression})
        return self.wait_for("execute_reply", request)["content"]["user_expressions"]["it"]["data"]["text/plain"]

    def close(self) -> None:
        self.socket.close()
