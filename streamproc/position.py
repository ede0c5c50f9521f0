"""Where in a shard: the total order that positions, checkpoints and the commit chain share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from streamproc.errors import ConfigError

__all__ = ["LATEST", "SHARD_END", "TRIM_HORIZON", "Position", "initial_position", "least_position"]

_SENTINELS: Final = {"AT_TIMESTAMP": -3, "TRIM_HORIZON": -2, "LATEST": -1}


class Position(msgspec.Struct, frozen=True, order=False):
    """A point in a shard: after the record `sequence`, or a sentinel.

    `sequence` is a decimal sequence number or one of the names that KCL stores literally:
    ``TRIM_HORIZON``, ``LATEST``, ``AT_TIMESTAMP``, ``SHARD_END``. `sub` is the index inside a KPL
    aggregate, 0 otherwise. `timestamp` is in seconds since the epoch and set for ``AT_TIMESTAMP``
    only. The order is KCL's (ExtendedSequenceNumber): AT_TIMESTAMP < TRIM_HORIZON < LATEST < any
    number < SHARD_END; numbers compare as integers, then by `sub`.
    """

    sequence: str
    sub: int = 0
    timestamp: float | None = None

    @property
    def is_start(self) -> bool:
        """Whether this is a place to begin at rather than a record that was reached."""
        return self.sequence in _SENTINELS

    @property
    def is_end(self) -> bool:
        """Whether the shard is finished: closed and every record of it passed."""
        return self.sequence == "SHARD_END"

    def order_key(self) -> tuple[int, int, int]:
        """Return the key that sorts positions of one shard."""
        if self.is_end:
            return (1, 0, 0)
        sentinel = _SENTINELS.get(self.sequence)
        return (0, int(self.sequence), self.sub) if sentinel is None else (-1, sentinel, 0)

    def __lt__(self, other: Position) -> bool:
        return self.order_key() < other.order_key()

    def __le__(self, other: Position) -> bool:
        return self.order_key() <= other.order_key()

    def encode(self) -> str:
        """Return the text form, such as ``4959…:0``, ``TRIM_HORIZON`` or ``AT_TIMESTAMP:1.5``."""
        if self.timestamp is not None:
            return f"{self.sequence}:{self.timestamp!r}"
        if self.is_start or self.is_end:
            return self.sequence
        return f"{self.sequence}:{self.sub}"

    @classmethod
    def decode(cls, text: str) -> Position:
        """Read the form that `encode` writes.

        Raises:
            ValueError: the text is no position.
        """
        sequence, _, rest = text.partition(":")
        if sequence == "AT_TIMESTAMP":
            return cls(sequence, timestamp=float(rest))
        if sequence in _SENTINELS or sequence == "SHARD_END":
            return cls(sequence)
        if not sequence.isdecimal():
            raise ValueError(f"not a stream position: {text!r}")
        return cls(sequence, int(rest or 0))

    def __str__(self) -> str:
        return self.encode()


TRIM_HORIZON: Final = Position("TRIM_HORIZON")
LATEST: Final = Position("LATEST")
SHARD_END: Final = Position("SHARD_END")


def least_position(positions: Iterable[Position]) -> Position:
    """Return the position from which a reader meets every record after each of `positions`.

    That is the least, except that TRIM_HORIZON comes before any AT_TIMESTAMP.
    """
    found = list(positions)
    return TRIM_HORIZON if TRIM_HORIZON in found else min(found, key=Position.order_key)


def initial_position(text: str) -> Position:
    """Return the position that `stream.initial_position` names.

    Raises:
        ConfigError: the text is neither a sentinel nor an ISO 8601 time.
    """
    if text == "TRIM_HORIZON":
        return TRIM_HORIZON
    if text == "LATEST":
        return LATEST
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"stream.initial_position: {text!r} is not TRIM_HORIZON, LATEST or an ISO 8601 time"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Position("AT_TIMESTAMP", timestamp=moment.timestamp())
