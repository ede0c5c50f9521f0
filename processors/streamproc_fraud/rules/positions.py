"""Where in a rule set's text a rule's field stands: TOML readers do not say."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["place_in"]

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*rules[ \t]*\]\]", re.MULTILINE)
_TABLE: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)


def place_in(
    text: str, where: str, rule: int, key: str, value: str | None = None, offset: int = 0
) -> str:
    """Return ``where:line:column`` of a key of the rule with number `rule`, or within its value.

    The place is that of the rule, or of the whole text, where the key is not found: rules may also
    be written as inline tables. With escapes inside the value its beginning is named.
    """
    headers = list(_HEADER.finditer(text))
    if rule >= len(headers):
        return where
    start = headers[rule].end()
    following = _TABLE.search(text, start)
    end = following.start() if following else len(text)
    found = re.compile(rf"^[ \t]*({re.escape(key)})[ \t]*=[ \t]*", re.MULTILINE).search(
        text, start, end
    )
    if found is None:
        return _place(text, where, headers[rule].start())
    if value is None:
        return _place(text, where, found.start(1))
    quotes = re.compile("\"\"\"\r?\n?|'''\r?\n?|\"|'").match(text, found.end())
    at = quotes.end() if quotes else found.end()
    if text.startswith(value, at):
        at += offset
    return _place(text, where, at)


def _place(text: str, where: str, at: int) -> str:
    line_start = text.rfind("\n", 0, at) + 1
    return f"{where}:{text.count(chr(10), 0, at) + 1}:{at - line_start + 1}"
