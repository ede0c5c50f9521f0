"""How often rules hit, and whether that changes: counted a thousand decisions at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

__all__ = ["BLOCK", "Tallies", "Tally"]

BLOCK: Final = 1_000
"""Decisions after which a rule's rate is compared with what it was."""

_MEMORY: Final = 0.02
"""Weight of a block in the long-run rate: half of it is of the last 34,000 decisions."""


class Tally:
    """The counts of one rule.

    Attributes:
        hits: decisions for which its condition held, shadow or not.
        decided: those that it brought about.
        drift: how many standard deviations the last block's hits lie above the long-run rate;
            0 until there are two blocks.
    """

    __slots__ = ("_block_hits", "_rate", "decided", "drift", "hits")

    def __init__(self) -> None:
        self.hits = 0
        self.decided = 0
        self.drift = 0.0
        self._block_hits = 0
        self._rate: float | None = None

    def end_block(self) -> None:
        """Compare the block's hits with the long-run rate, then take them into it."""
        hits = self.hits - self._block_hits
        self._block_hits = self.hits
        if self._rate is None:
            self._rate = hits / BLOCK
            return
        # A rule that never hit is given half a hit a block: else its first one were infinitely odd.
        rate = min(max(self._rate, 0.5 / BLOCK), 1 - 0.5 / BLOCK)
        self.drift = (hits - BLOCK * rate) / sqrt(BLOCK * rate * (1 - rate))
        self._rate += _MEMORY * (hits / BLOCK - self._rate)


class Tallies:
    """The counts of all rules of one version."""

    def __init__(self, rules: Sequence[str]) -> None:
        self.decisions = 0
        self.by_rule = {rule: Tally() for rule in rules}
        self._ordered = list(self.by_rule.values())

    def decision(self, hits: Sequence[int], decided: int | None) -> None:
        """Count a decision: the places of the rules that hit, and of the one that decided."""
        for at in hits:
            self._ordered[at].hits += 1
        if decided is not None:
            self._ordered[decided].decided += 1
        self.decisions += 1
        if not self.decisions % BLOCK:
            for tally in self._ordered:
                tally.end_block()
