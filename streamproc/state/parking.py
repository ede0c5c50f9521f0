"""What is parked: partition keys whose records wait, in order, until somebody redrives them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from streamproc.state.commit import Commit

__all__ = ["Parked", "Queue", "Redriven", "Wanted"]


class Parked(msgspec.Struct, frozen=True):
    """The partition keys that are parked, as of a version.

    Versions are random, not counted: one of a Redis that went back in time is never met again.
    """

    version: str = ""
    keys: frozenset[str] = frozenset()

    def after(self, commit: Commit) -> Parked:
        """Return what is parked once `commit`, which relied on this, is applied.

        Its version is another one each time that this is called and something has changed.
        """
        keys = self.keys.union(commit.park)
        redriven = commit.redriven
        if redriven is not None and redriven.empties:
            keys -= {redriven.key}
        elif keys == self.keys:
            return self
        return Parked(uuid.uuid4().hex, keys)


class Redriven(msgspec.Struct, frozen=True):
    """What becomes of the records of a parked key.

    Attributes:
        key: the partition key.
        done: number of its oldest records that are done with.
        length: number of its records; another one means that somebody else was there.
        head: what the next record has become, as JSON, if it failed again; else empty.
    """

    key: str
    done: int
    length: int
    head: str = ""

    @property
    def empties(self) -> bool:
        """Whether nothing is left, so that the key is not parked any more."""
        return self.done == self.length


class Queue(msgspec.Struct, frozen=True):
    """The oldest records of a parked key, as JSON, and how many there are in all."""

    length: int
    records: list[bytes]


class Wanted(msgspec.Struct, frozen=True):
    """Parked keys that are to be redriven, and how many keys are parked."""

    keys: list[str]
    parked: int
