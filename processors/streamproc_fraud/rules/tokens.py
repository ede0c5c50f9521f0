"""From a rule's text to tokens, each with its place."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from streamproc import ConfigError

__all__ = ["MAX_LENGTH", "MAX_TOKENS", "ExpressionError", "Token", "tokens_of"]

MAX_LENGTH: Final = 4_000
"""Characters of one expression."""

MAX_TOKENS: Final = 500

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)
    | (?P<text>"[^"\n]*"|'[^'\n]*')
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign><=|>=|==|!=|<|>|\+|-|\*|/|%|\(|\)|,)
    """,
    re.VERBOSE | re.ASCII,
)
_HINTS: Final = {
    "=": "compare with ==",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not', or != to compare",
    ".": "there are no attributes; features are plain names",
    "[": "there is no indexing; a list of values is written (1, 2, 3)",
}


class ExpressionError(ConfigError):
    """An expression is refused.

    Attributes:
        problem: what is wrong, without the place.
        offset: index in the expression's text of what is wrong.
    """

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"at character {offset + 1}: {problem}")
        self.problem = problem
        self.offset = offset


class Token(NamedTuple):
    """One word or sign; `kind` is ``end`` once, after the last."""

    kind: Literal["number", "text", "name", "sign", "end"]
    text: str
    offset: int


def tokens_of(text: str) -> list[Token]:
    """Split an expression.

    Raises:
        ExpressionError: it is too long, or holds a character that is no part of the language.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters; split the rule", MAX_LENGTH)
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(_unreadable(text[at]), at)
        if match.lastgroup != "space":
            kind: Literal["number", "text", "name", "sign"] = match.lastgroup  # type: ignore[assignment]  # the pattern's groups
            tokens.append(Token(kind, match[0], at))
            if len(tokens) > MAX_TOKENS:
                raise ExpressionError(f"more than {MAX_TOKENS} words and signs; split the rule", at)
        at = match.end()
    tokens.append(Token("end", "", len(text)))
    return tokens


def _unreadable(character: str) -> str:
    if character in "\"'":
        return f"this {character} is never closed on its line"
    hint = _HINTS.get(character)
    return f"{character!r} is no part of the language" + (f"; {hint}" if hint else "")
