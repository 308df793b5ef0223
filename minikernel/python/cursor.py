"""Where the cursor is: in a string, in a call, behind a dot.

Code at a cursor is unfinished, which ``tokenize`` and ``ast`` don't forgive, so a regular expression cuts it.  A
statement that ends is forgotten, and a bracket that is closed becomes one token with all that is in it: the tokens
that remain are those that matter at the cursor.

Next: ``lookup``, ``completion``, ``inspection``.
"""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

from .. import __builtins__ as __builtins__

_LIMIT = 20_000
_BODIES = "|".join(
    rf"{mark * 3}(?:[^\\{mark}]+|\\.|{mark}(?!{mark * 2}))*(?P<{name}3>{mark * 3})?"
    rf"|{mark}(?:[^\\\n{mark}]+|\\.)*(?P<{name}1>{mark})?"
    for mark, name in (("'", "single"), ('"', "double"))
)
# \w lacks what the names of Indian scripts are made of; Python's own rule is long
_TOKEN = re.compile(
    rf"""(?P<comment>\#[^\n]*)
    | (?P<string>(?P<prefix>\b[rRbBuUfFtT]{{1,2}})?(?:{_BODIES}))
    | (?P<name>[^\W\d](?:\w|[^\x00-\x7f\s])*)
    | (?P<number>\d\w*(?:\.\w*)?)
    | (?P<open>[(\[{{])
    | (?P<close>[)\]}}])
    | (?P<end>[\n;])
    | (?P<joint>\\\r?\n)
    | (?P<operator>[=!<>:]=|\S)""",
    re.X | re.S,
)
_WRONG_ESCAPE = re.compile(r"(\\[\s\\'\"abfnrtv0-7xNuU])|\\.")


class Token(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


class Cursor:
    """A cursor at the end of some code.

    Attributes
    ----------
    code : str
        What is before the cursor.  Of it no more than the last 20,000 characters are read.
    end : int
        Its length.
    tokens : list of Token
        Of the statement, or the expression of an f-string, that the cursor is in and that begins at `statement`;
        without comments and the last `word`.
    brackets : list of int
        The brackets that are open at the cursor, innermost last, as indices of `tokens`.
    word : str
        What ends at the cursor: a name, a number, or the characters of the string that it is in.
    prefix, quote : str
        How that string begins; "" if it is none.
    in_comment : bool
    """

    tokens: list[Token]
    brackets: list[int]

    def __init__(self, code: str) -> None:
        self.code, self.end, recent = code, len(code), max(0, len(code) - _LIMIT)
        self._read((recent and code.find("\n", recent) + 1) or recent)

    def _read(self, start: int) -> None:
        self.statement, self.in_comment = start, False
        self.word = self.prefix = self.quote = ""
        self.tokens, self.brackets = tokens, brackets = list[Token](), list[int]()
        last = _TOKEN.match("\n")
        for last in _TOKEN.finditer(self.code, start):
            kind, (start, end) = last.lastgroup or "", last.span()
            if kind == "end" and not brackets:
                tokens.clear()
                self.statement = end
            elif kind == "open":
                brackets.append(len(tokens))
            elif kind == "close" and brackets:
                opening = brackets.pop()
                kind, start = "group", tokens[opening].start
                del tokens[opening:]
            elif kind == "name" and keyword.iskeyword(last[0]):
                kind = "keyword"
            if kind not in ("end", "comment", "joint"):
                tokens.append(Token(kind, start, end, self.code[start:end]))
        if last is None or last.end() != self.end:
            return
        self.in_comment = last["comment"] is not None
        if last["name"] or last["number"]:
            self.word = tokens.pop().text
        elif last["string"] and not (last["single1"] or last["single3"] or last["double1"] or last["double3"]):
            text = tokens.pop().text[len(last["prefix"] or "") :]
            self.prefix, self.quote = (last["prefix"] or "").lower(), text[: 3 if text[:3] in ("'''", '"""') else 1]
            self.word = text[len(self.quote) :]
            brace = self.word.replace("{{", "  ").rfind("{") if "f" in self.prefix else -1
            if brace > self.word.rfind("}"):
                self._read(self.end - len(self.word) + brace + 1)

    @property
    def before(self) -> str:
        """The token before the word."""
        return self.tokens[-1].text if self.tokens else ""

    @property
    def owner(self) -> str | None:
        """What the word is, or will be, an attribute of."""
        return self.primary(len(self.tokens) - 2) if self.before == "." else None

    def primary(self, last: int) -> str | None:
        """Return the names, attributes, calls and subscripts that end with a token, ``a.b(1)["c"]``."""
        tokens, index = self.tokens, last
        while index >= 0 and tokens[index].kind in ("name", "number", "string", "group"):
            before = tokens[index - 1] if index else None
            if before and before.text == ".":
                index -= 2
            elif before and tokens[index].kind == "group" and before.kind in ("name", "string", "group"):
                index -= 1
            else:
                return self.code[tokens[index].start : tokens[last].end]
        return None

    def call(self, bracket: int) -> str | None:
        """Return what is called by the bracket, or the closed pair, that is token `bracket`, if it is a call's."""
        tokens = self.tokens
        if tokens[bracket].text[0] != "(" or (bracket > 1 and tokens[bracket - 2].text in ("def", "class")):
            return None
        return self.primary(bracket - 1)


def without_wrong_escapes(code: str) -> str:
    """Replace the escape sequences of which Python warns when it parses them, by something as long."""
    return _WRONG_ESCAPE.sub(lambda match: match[1] or "__", code) if "\\" in code else code
