"""Brings stocks that an older release has stored into the present form."""

from __future__ import annotations

from typing import Any

from streamproc_inventory.book import Line
from streamproc_inventory.moves import listed
from streamproc_inventory.register import enter

__all__ = ["from_version_1"]


def from_version_1(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a stock whose book held objects where it has texts now.

    Open lines as arrays of numbers are still understood.
    """
    book = stored.get("book", {})
    settled = ended = ""
    for key, units in book.get("settled", {}).items():
        settled = enter(settled, key, Line(*units).settled)
    for key, end in book.get("ended", {}).items():
        ended = enter(ended, key, end)
    moves = book.get("moves", [])
    texts = {
        "settled": settled,
        "settled_kept": len(book.get("settled", {})),
        "ended": ended,
        "ended_kept": len(book.get("ended", {})),
        "moves": listed(moves),
        "moves_kept": len(moves),
    }
    return {**stored, "book": {**book, **texts}}
