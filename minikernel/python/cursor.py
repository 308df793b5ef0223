"""Where the cursor is: in a string, in a call, behind a dot.

Code at a cursor is unfinished, which ``tokenize`` and ``ast`` don't forgive, so regular expressions cut it: one
leaps from bracket to string to line's end and finds where the statement at the cursor starts, the other cuts that
statement into tokens.  Only what is before the cursor is read, and of it no more than the last 50,000 characters.

Next: ``completion``, ``inspection``.
"""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

_LIMIT = 50_000
_BODIES = "|".join(
    rf"{mark * 3}(?:[^\\{mark}]+|\\.|{mark}(?!{mark * 2}))*(?P<{name}3>{mark * 3})?"
    rf"|{mark}(?:[^\\\n{mark}]+|\\.)*(?P<{name}1>{mark})?"
    for mark, name in (("'", "single"), ('"', "double"))
)
_TOKEN = re.compile(
    rf"""(?P<comment>\#[^\n]*)
    | (?P<string>(?:\b[rRbBuUfFtT]{{1,2}})?(?:{_BODIES}))
    | (?P<name>[^\W\d]\w*)
    | (?P<number>\d\w*(?:\.\d*)?)
    | (?P<open>[(\[{{])
    | (?P<close>[)\]}}])
    | (?P<line>\n)
    | (?P<operator>\\\n|[=!<>:]=|\S)""",
    re.X | re.S,
)
_LEAP = re.compile(rf"#[^\n]*|(?:{_BODIES})|\\\n|[()\[\]{{}}\n;]", re.S)
_START = re.compile(r"""([rRbBuUfFtT]{0,2})('''|\"""|'|")""")


class Token(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


class String(NamedTuple):
    """The string that the cursor is in: where its characters start, and what they are so far."""

    start: int
    text: str
    prefix: str
    quote: str


class Cursor:
    """The code before a cursor.

    Attributes
    ----------
    tokens : list of Token
        Without comments, and without the lines' ends between brackets.
    brackets : list of int
        The brackets that are open at the cursor, innermost last, as indices of `tokens`.
    statement : int
        Where the statement at the cursor starts, as a position in the code.
    string : String or None
        The string that the cursor is in.
    in_comment : bool
    """

    def __init__(self, code: str, position: int, start: int = 0) -> None:
        self.code = code
        self.tokens: list[Token] = []
        self.brackets: list[int] = []
        if position - start > _LIMIT:
            start = code.find("\n", position - _LIMIT, position) + 1 or position - _LIMIT
        self.statement = start = outline(code, start, position)[0]
        self.string: String | None = None
        self.in_comment = False
        self._openers: dict[int, int] = {}
        last = None
        for match in _TOKEN.finditer(code, start, position):
            last = match
            self._add(Token(match.lastgroup or "string", *match.span(), match[0]))
        if last is None or last.end() != position:
            return
        self.in_comment = last["comment"] is not None
        if last["string"] is not None and not any(
            last[end] for end in ("single1", "single3", "double1", "double3")
        ):
            opening = _START.match(last[0])
            assert opening is not None
            body = last.start() + opening.end()
            self.string = String(body, code[body:position], opening[1].lower(), opening[2])

    def _add(self, token: Token) -> None:
        index = len(self.tokens)
        if token.kind == "comment" or (token.kind == "line" and self.brackets):
            return
        if token.kind == "open":
            self.brackets.append(index)
        elif token.kind == "close" and self.brackets:
            self._openers[index] = self.brackets.pop()
        self.tokens.append(token)

    def primary(self, last: int) -> str | None:
        """Return the names, attributes, calls and subscripts that end with a token, ``a.b(1)["c"]``."""
        tokens, index = self.tokens, last
        while index >= 0:
            token = tokens[index]
            before = tokens[index - 1] if index else None
            if token.kind == "close":
                if index not in self._openers:
                    return None
                index = self._openers[index]
                before = tokens[index - 1] if index else None
                if before is not None and (before.kind in ("close", "string") or is_name(before)):
                    index -= 1
                    continue
            elif not (is_name(token) or token.kind in ("number", "string")):
                return None
            elif before is not None and before.text == ".":
                index -= 2
                continue
            return self.code[tokens[index].start : tokens[last].end]
        return None

    def call(self, bracket: int) -> str | None:
        """Return what is called by the opening bracket that is token `bracket`, if it is a call's."""
        tokens = self.tokens
        if tokens[bracket].text != "(" or bracket == 0 or tokens[bracket - 1].kind not in ("name", "close"):
            return None
        if bracket > 1 and tokens[bracket - 2].text in ("def", "class"):
            return None
        return self.primary(bracket - 1)

    def callee(self, closing: int) -> str | None:
        """Return what is called by the closing bracket that is token `closing`, if it is a call's."""
        return self.call(self._openers[closing]) if closing in self._openers else None


def outline(code: str, start: int, position: int) -> tuple[int, int, bool]:
    """Return where the last statement starts, how many brackets are open, and whether a long string is."""
    depth, in_string = 0, False
    for match in _LEAP.finditer(code, start, position):
        mark = match[0]
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth = max(depth - 1, 0)
        elif mark in "\n;":
            start = start if depth else match.end()
        else:
            in_string = mark[:3] in ('"""', "'''") and not (match["single3"] or match["double3"])
    return start, depth, in_string


def is_name(token: Token) -> bool:
    """Tell whether a token is a name that can stand for something."""
    return token.kind == "name" and not keyword.iskeyword(token.text)
