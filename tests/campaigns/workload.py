"""What a run publishes, made from its seed alone: numbered entries and repeats of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from tests.worker.group import entry

__all__ = ["DUPLICATES", "Workload", "make_workload"]

DUPLICATES = 0.2
"""Share of the deliveries that repeat an earlier one under a new sequence number."""


class Workload(msgspec.Struct, frozen=True):
    """Deliveries in their order, and what must have come of them.

    Attributes:
        deliveries: (partition key, data) of each record.
        booked: how many numbers, from 0 on and in order, each account must end with.
    """

    deliveries: Sequence[tuple[str, bytes]]
    booked: dict[str, int]

    @property
    def distinct(self) -> int:
        """How many different ids there are."""
        return sum(self.booked.values())

    def entry_ids(self) -> list[str]:
        """Return every id once."""
        return [f"{account}-{n}" for account, count in self.booked.items() for n in range(count)]


def make_workload(rng: random.Random, deliveries: int) -> Workload:
    """Return a workload of `deliveries` records; an account has some 40 distinct ones."""
    repeats = round(deliveries * DUPLICATES)
    is_repeat = [True] * repeats + [False] * (deliveries - repeats - 1)
    rng.shuffle(is_repeat)
    accounts = [f"account-{n}" for n in range(max(1, deliveries // 50))]
    booked = dict.fromkeys(accounts, 0)
    made: list[tuple[str, bytes]] = []
    for repeat in [False, *is_repeat]:
        if repeat:
            # Mostly a producer that tries again soon, sometimes one that does much later.
            reach = 20 if rng.random() < 0.7 else len(made)
            made.append(made[-rng.randint(1, min(reach, len(made)))])
        else:
            account = rng.choice(accounts)
            made.append((account, entry(booked[account], account)))
            booked[account] += 1
    return Workload(made, booked)
