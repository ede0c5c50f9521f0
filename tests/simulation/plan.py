"""What a seed stands for: the size of a fleet, its settings, and what will befall it."""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec

__all__ = ["HARMLESS", "Plan", "Trouble", "plan_of"]


class Trouble(StrEnum):
    """What the nemesis may do."""

    JOIN = "a worker joins or leaves"
    DEPLOY = "all workers are replaced, one after the other"
    RESHARD = "shards are split and merged"
    CRASH = "workers crash"
    PAUSE = "workers stand still beyond their leases"
    LEASES = "the lease store is slow, away, silent, or loses answers"
    STATE = "the state store is slow, away, or loses answers"
    KINESIS = "Kinesis is slow or away"
    SKEW = "clocks run at other rates"


HARMLESS = frozenset({Trouble.JOIN, Trouble.DEPLOY, Trouble.RESHARD, Trouble.KINESIS})
"""Troubles among which nothing may be delivered twice."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A seed, read.

    Attributes:
        seed: the seed.
        workers: workers to begin with, 2 to 20.
        shards: shards to begin with, 4 to 64.
        troubles: what the nemesis does.
        period: seconds between what it does, on average.
        chaos: seconds that it does it for.
        slow: seconds that every fifth event of an account takes to handle.
        batch_records: most records in a batch.
        partitions: partitions of the group's state.
        latest: whether the group begins at LATEST.
        roster: whether a worker renews all its leases at once.
    """

    seed: int
    workers: int
    shards: int
    troubles: frozenset[Trouble]
    period: float
    chaos: float
    slow: float
    batch_records: int
    partitions: int
    latest: bool
    roster: bool

    def __str__(self) -> str:
        names = ", ".join(trouble.name.lower() for trouble in Trouble if trouble in self.troubles)
        return f"{self.workers} workers, {self.shards} shards: {names or 'nothing'}"


def plan_of(seed: int) -> Plan:
    """Read a seed. Small fleets are the rule, so that a thousand seeds take minutes, not hours."""
    rng = Random(f"plan {seed}")
    troubles = {trouble for trouble in Trouble if rng.random() < 0.35}
    return Plan(
        seed=seed,
        workers=round(2 * 10 ** (rng.random() ** 4)),
        shards=round(4 * 16 ** (rng.random() ** 5)),
        troubles=frozenset(troubles),
        period=rng.choice([2.0, 5.0, 10.0]),
        chaos=rng.choice([15.0, 30.0, 50.0]),
        slow=rng.choice([0.0, 0.05, 0.5, 2.0]),
        batch_records=rng.choice([1, 5, 100]),
        partitions=rng.choice([1, 1, 1, 1, 3]),
        latest=rng.random() < 0.3,
        roster=rng.random() < 0.5,
    )
