"""What a consumer has done so far, noted batch by batch at next to no cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from streamproc_benchmarks.measurement import NO_STANDSTILL, Mark, Reading, Standstill, reading

__all__ = ["Consumed", "DoneBatch", "Progress", "Window", "middle"]


class DoneBatch(msgspec.Struct, frozen=True, array_like=True):
    """Records of a shard that were done, that is committed, at one monotonic time in seconds."""

    shard: str
    at: float
    sequences: list[str]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a run the clocks measure, in records done.

    What comes before it lets a consumer load code, fill its caches and compile (the JVM does so
    for many thousands of records). What comes after it is there so that as much has been read ahead
    at the end of the measured part as at its beginning: otherwise a consumer would be given for
    nothing the fetching of what it had in hand when the clocks started.

    Attributes:
        warm_up: the clocks start when so many are done; with 0, at the first request for records.
        measured_until: they stop when so many are done.
        expected: the run is over when so many are done.
        turn: it stands still whenever so many more are done, until others have had their turn.
    """

    warm_up: int
    measured_until: int
    expected: int
    turn: int


def middle(expected: int, margin: float, turn: int | None = None) -> Window:
    """Return the window that leaves out a share of the records at either end, 0 for nothing.

    Without a `turn`, all of it is one.

    Raises:
        ValueError: the shares leave nothing.
    """
    if not 0 <= margin < 0.5:
        raise ValueError(f"margin {margin}: must be at least 0 and below 0.5")
    left_out = round(expected * margin)
    return Window(
        warm_up=left_out,
        measured_until=expected - left_out,
        expected=expected,
        turn=turn or expected,
    )


class Consumed(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer's account of its run.

    Attributes:
        started, ended: when the clocks did.
        paused: what the clocks went on by between them while others had their turn.
        records: how many records were done between, repetitions included.
        batches: what was done, in that order, before and after the clocks ran, too.
        counters: a worker's own statistics; empty for consumers that keep none.
    """

    started: Mark
    ended: Mark
    paused: Standstill = NO_STANDSTILL
    records: int
    batches: list[DoneBatch]
    counters: dict[str, int]

    @property
    def reading(self) -> Reading:
        """What the clocks showed.

        Raises:
            ValueError: no time lies between their start and their end.
        """
        return reading(self.started, self.ended, self.paused)

    def by_shard(self) -> dict[str, list[str]]:
        """Return the sequence numbers of each shard in the order in which they were done."""
        shards: dict[str, list[str]] = {}
        for batch in self.batches:
            shards.setdefault(batch.shard, []).extend(batch.sequences)
        return shards


class Progress:
    """Notes the beginning, each batch and the end.

    Args:
        window: what the clocks measure, and when `finished` is set.
        shards: shards of the stream; `on_ready` is called once all of them are being read.
        on_ready: called once.
        read_clocks: returns all clocks.
        on_turn: called at the end of each turn but the last; it returns when the next one begins.
            The first turn goes on until all shards are being read.
    """

    def __init__(
        self,
        window: Window,
        shards: int,
        on_ready: Callable[[], None],
        read_clocks: Callable[[], Mark],
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self.finished = asyncio.Event()
        self._window = window
        self._shards = shards
        self._on_ready = on_ready
        self._read_clocks = read_clocks
        self._reading: set[str] = set()
        self._batches: list[DoneBatch] = []
        self._records = 0
        self._turn_ends = window.turn
        self._on_turn = on_turn
        self._paused = NO_STANDSTILL
        self._started: tuple[Mark, int] | None = None
        self._ended: tuple[Mark, int] | None = None

    def reading(self, shard: str) -> None:
        """Note that a shard is about to be read: where it begins is known."""
        if self._started is None and not self._window.warm_up:
            self._started = self._read_clocks(), 0
        before = len(self._reading)
        self._reading.add(shard)
        if before < len(self._reading) == self._shards:
            self._on_ready()

    def done(self, shard: str, sequences: list[str]) -> None:
        """Note that records are done."""
        self._batches.append(DoneBatch(shard, time.monotonic(), sequences))
        self._records += len(sequences)
        if self._started is None:
            if self._records >= self._window.warm_up:
                self._started = self._read_clocks(), self._records
        elif self._ended is None and self._records >= self._window.measured_until:
            self._ended = self._read_clocks(), self._records
        if self._records >= self._window.expected:
            self.finished.set()
        elif self._records >= self._turn_ends and len(self._reading) == self._shards:
            self._turn_ends = self._records + self._window.turn
            self._pause()

    def _pause(self) -> None:
        before = self._read_clocks()
        self._on_turn()
        if self._started is not None and self._ended is None:
            self._paused = self._paused.and_between(before, self._read_clocks())

    def consumed(self, counters: dict[str, int]) -> Consumed:
        """Return the account; a run that was cut off ends now."""
        ended, until = self._ended or (self._read_clocks(), self._records)
        started, since = self._started or (ended, until)
        return Consumed(
            started=started,
            ended=ended,
            paused=self._paused,
            records=until - since,
            batches=self._batches,
            counters=counters,
        )
