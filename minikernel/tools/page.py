"""The live page.  (To come.)"""

from __future__ import annotations

from typing import Any

from .transcript import Entry


class Page:
    """To come."""

    def __init__(self, info: dict[str, Any], port: int) -> None:
        self.url = ""

    def __call__(self, entry: Entry | None) -> None:
        """Take an entry."""
