"""What a check came to."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "Level"]

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's.

    Attributes:
        check: what was looked at, such as ``redis eviction``.
        level: `fail` is what a worker cannot do its work with, or would lose data by; `warn` what
            an operator should know.
        message: what was found, and where it is not `ok`, what to do.
    """

    check: str
    level: Level
    message: str
