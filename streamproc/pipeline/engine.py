"""What the shards of a worker share, and how a shard's work can end early."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import msgspec

from streamproc.errors import StreamprocError
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.position import Position
from streamproc.state.cache import CellCache
from streamproc.state.store import StateStore

__all__ = ["Engine", "Moved", "ShardHalted"]


class Engine(msgspec.Struct, frozen=True):
    """What all shards of a worker share.

    Attributes:
        group: consumer group.
        stream: stream name.
        routes: processors and their handlers.
        stores: the state store of each partition.
        cache: cells between batches.
        gate: keeps batches on one key apart.
        concurrency: keys that async handlers of a batch work on side by side.
        outbox_limit: events in an outbox at which commits that emit wait; None sets no limit.
        dead_letter_unknown: whether events of undeclared types are put aside, not skipped.
        sleep: waits; virtual in tests.
        rng: jitter; seeded in tests.
        wall_clock: seconds since the epoch.
        clock: monotonic seconds.
    """

    group: str
    stream: str
    routes: Routes
    stores: tuple[StateStore, ...]
    cache: CellCache
    gate: KeyGate
    concurrency: int = 32
    outbox_limit: int | None = None
    dead_letter_unknown: bool = False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = msgspec.field(default_factory=random.Random)
    wall_clock: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if len(self.stores) != self.routes.partitions:
            raise ValueError(f"{len(self.stores)} stores, {self.routes.partitions} partitions")


class Moved(StreamprocError):
    """The shard's committed position is not the one that this batch starts from."""

    def __init__(self, shard: str, expected: Position, found: Position | None) -> None:
        super().__init__(f"{shard}: batch starts from {expected}, Redis has {found}")
        self.found = found


class ShardHalted(StreamprocError):
    """A handler failed for good and its policy is to stop the shard there."""
