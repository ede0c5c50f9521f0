"""What a window takes: numbers that JSON can carry and sums of squares can bear."""

from __future__ import annotations

from typing import Final

__all__ = ["LARGEST", "Number", "require_number"]

Number = int | float

LARGEST: Final = 1e150
"""Numbers stay below it in absolute value, so that no sum of their squares becomes infinite."""


def require_number(what: str, value: object) -> None:
    """Refuse what cannot be stored, ordered and summed.

    Raises:
        TypeError: it is no int or float; a bool and a numpy scalar are none either.
        ValueError: it is not finite, or beyond `LARGEST`.
    """
    if value.__class__ is not int and value.__class__ is not float:
        raise TypeError(f"a {what} is an int or a float, not {value!r}")
    if not -LARGEST < value < LARGEST:  # also false for NaN
        raise ValueError(f"a {what} must be finite and below {LARGEST:g}, not {value}")
