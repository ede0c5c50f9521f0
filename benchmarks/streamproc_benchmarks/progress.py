"""What a consumer has done so far, noted batch by batch at next to no cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from streamproc_benchmarks.measurement import Mark, Reading, reading

__all__ = ["Consumed", "DoneBatch", "Progress"]


class DoneBatch(msgspec.Struct, frozen=True, array_like=True):
    """Records of a shard that were done, that is committed, at one monotonic time in seconds."""

    shard: str
    at: float
    sequences: list[str]


class Consumed(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer's account of its run.

    Attributes:
        batches: what was done, in that order.
        counters: a worker's own statistics; empty for consumers that keep none.
    """

    started: Mark
    ended: Mark
    batches: list[DoneBatch]
    counters: dict[str, int]

    @property
    def reading(self) -> Reading:
        """The clocks between the first request for records and the last record done."""
        return reading(self.started, self.ended)

    @property
    def records(self) -> int:
        """How many records were done, repetitions included."""
        return sum(len(batch.sequences) for batch in self.batches)

    def by_shard(self) -> dict[str, list[str]]:
        """Return the sequence numbers of each shard in the order in which they were done."""
        shards: dict[str, list[str]] = {}
        for batch in self.batches:
            shards.setdefault(batch.shard, []).extend(batch.sequences)
        return shards

    def done_at(self) -> dict[tuple[str, str], float]:
        """Return when each record was done first, by shard and sequence number."""
        times: dict[tuple[str, str], float] = {}
        for batch in self.batches:
            for sequence in batch.sequences:
                times.setdefault((batch.shard, sequence), batch.at)
        return times


class Progress:
    """Notes the beginning, each batch and the end.

    Args:
        expected: records after which `finished` is set.
        shards: shards of the stream; `on_ready` is called once all of them are being read.
        on_ready: called once.
        read_clocks: returns all clocks.
    """

    def __init__(
        self,
        expected: int,
        shards: int,
        on_ready: Callable[[], None],
        read_clocks: Callable[[], Mark],
    ) -> None:
        self.finished = asyncio.Event()
        self._expected = expected
        self._shards = shards
        self._on_ready = on_ready
        self._read_clocks = read_clocks
        self._reading: set[str] = set()
        self._batches: list[DoneBatch] = []
        self._records = 0
        self._started: Mark | None = None
        self._ended: Mark | None = None

    def reading(self, shard: str) -> None:
        """Note that a shard is about to be read: where it begins is known."""
        if self._started is None:
            self._started = self._read_clocks()
        before = len(self._reading)
        self._reading.add(shard)
        if before < len(self._reading) == self._shards:
            self._on_ready()

    def done(self, shard: str, sequences: list[str]) -> None:
        """Note that records are done."""
        self._batches.append(DoneBatch(shard, time.monotonic(), sequences))
        self._records += len(sequences)
        if self._records >= self._expected and not self.finished.is_set():
            self._ended = self._read_clocks()
            self.finished.set()

    def consumed(self, counters: dict[str, int]) -> Consumed:
        """Return the account; a run that was cut off ends now."""
        ended = self._ended or self._read_clocks()
        return Consumed(
            started=self._started or ended,
            ended=ended,
            batches=self._batches,
            counters=counters,
        )
