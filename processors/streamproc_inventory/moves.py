"""A stock's latest moves of goods as one text: `` 1767225600000:5 1767225660000:-2``, by time.

One text and not two hundred numbers, for the reason that `register` has.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["add_move", "listed", "moves_of", "units_after", "without_oldest"]


def add_move(moves: str, time_ms: int, units: int) -> str:
    """Return moves with one more, in its place by time."""
    end = len(moves)
    while end:
        start = moves.rindex(" ", 0, end)
        if int(moves[start + 1 : moves.index(":", start)]) <= time_ms:
            break
        end = start
    added = f"{moves[:end]} {time_ms}:{units}"
    return added + moves[end:] if end < len(moves) else added


def without_oldest(moves: str) -> tuple[int, int, str]:
    """Return the time of the oldest of some moves, how many are of that time, and the later ones.

    All of one moment go together: a count is before or after the whole of it.
    """
    oldest, number = moves[: moves.index(":") + 1], 0
    while moves.startswith(oldest):
        end = moves.find(" ", 1)
        moves = "" if end < 0 else moves[end:]
        number += 1
    return int(oldest[1:-1]), number, moves


def moves_of(moves: str) -> list[tuple[int, int]]:
    """Return the time in ms and the units of each move."""
    return [(int(at), int(units)) for at, _, units in (m.partition(":") for m in moves.split())]


def listed(moves: Iterable[tuple[int, int]]) -> str:
    """Return moves, which come in the order of time, as a text."""
    return "".join([f" {at}:{units}" for at, units in moves])


def units_after(moves: str, moment_ms: int) -> tuple[int, str]:
    """Return the units that moved after a moment, and those moves."""
    later = [move for move in moves_of(moves) if move[0] > moment_ms]
    return sum([units for _, units in later]), listed(later)
