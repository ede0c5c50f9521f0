"""An owner of a shard: a worker's consumer, stepped from round trip to round trip."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import msgspec

from streamproc.errors import Fenced, StateStoreError
from streamproc.kinesis.reader import ShardReader
from streamproc.leases.lease import Lease
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.shard import ShardConsumer
from streamproc.position import Position
from streamproc.state.cache import CellCache
from streamproc.state.keys import Keys
from streamproc.state.store import StateStore
from tests.model.shard_log import LogReader, ShardLog
from tests.model.stepped_store import PendingCall, SteppedStore
from tests.worker.ledger import Ledger

__all__ = ["STREAM", "LeaseTable", "Owner"]

STREAM: Final = "model"
# Turns of the event loop that any step takes at most: owners wait for nothing but round trips, for
# records, and for each other's turns.
_TURNS: Final = 150


class LeaseTable:
    """The truth about who owns which shard, and what was checkpointed."""

    def __init__(self, shard_ids: list[str]) -> None:
        self.leases = {
            key: Lease(key=key, checkpoint=Position("TRIM_HORIZON")) for key in shard_ids
        }

    def take(self, key: str) -> Lease:
        """Give a shard to a new owner."""
        return self.raise_counter(key, self.leases[key].counter + 1)

    def raise_counter(self, key: str, counter: int) -> Lease:
        """Write a lease with a higher counter."""
        self.leases[key] = msgspec.structs.replace(self.leases[key], counter=counter)
        return self.leases[key]


class _Keeper:
    """What an owner asks the lease coordinator; one that has lost its lease never notices."""

    def __init__(self, table: LeaseTable, epoch: int) -> None:
        self._table = table
        self._epoch = epoch

    def is_valid(self, key: str) -> bool:
        return True

    def note_position(self, key: str, position: Position, incarnation: str | None) -> None:
        lease = self._table.leases[key]
        if lease.counter == self._epoch:
            self._table.leases[key] = msgspec.structs.replace(
                lease, checkpoint=position, incarnation=incarnation
            )

    async def outrun(self, key: str, epoch: int) -> Lease | None:
        if self._table.leases[key].counter != self._epoch:
            return None
        raised = self._table.raise_counter(key, epoch + 1)
        self._epoch = raised.counter
        return raised


class Owner:
    """Consumes a shard until it is fenced off or crashes; between round trips it stands still.

    Args:
        stores: of each partition.
        keys: of each partition.
        table: where it takes its lease.
        log: the shard.
        batch: most records in a batch; twice as many are read at once.
        clock: monotonic seconds; where it stands still, a check is trusted for ever.
    """

    def __init__(
        self,
        stores: Sequence[StateStore],
        keys: Sequence[Keys],
        table: LeaseTable,
        log: ShardLog,
        batch: int,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.shard_id = log.shard_id
        self._stores = tuple(SteppedStore(store) for store in stores)
        lease = table.take(log.shard_id)
        engine = Engine(
            group="g",
            stream=STREAM,
            routes=Routes([Ledger()], keys),
            stores=cast(tuple[StateStore, ...], self._stores),
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            sleep=lambda seconds: asyncio.sleep(0),
            clock=clock,
        )
        self.consumer = ShardConsumer(
            engine,
            _Keeper(table, lease.counter),
            lease,
            lambda start: cast(ShardReader, LogReader(log, start, batch * 2)),
            batch_records=batch,
            advance_interval=0.0,
            on_state_loss="replay",
        )
        self.task = asyncio.create_task(self.consumer.run())

    @property
    def pending(self) -> list[PendingCall]:
        """The round trips that it waits for; none when it waits for records or is gone."""
        return [store.pending for store in self._stores if store.pending is not None]

    @property
    def is_alive(self) -> bool:
        """Whether it has neither crashed nor been fenced off."""
        return not self.task.done()

    async def settle(self) -> None:
        """Let it go on until it can do nothing by itself; raises what it failed with."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self.task.done():
            with contextlib.suppress(Fenced):
                self.task.result()

    async def step(
        self, call: PendingCall, carry_out: Callable[[PendingCall], Awaitable[Any]]
    ) -> None:
        """End a pending round trip as `carry_out` says, and wait for what comes of it."""
        try:
            answer = await carry_out(call)
        except (Fenced, StateStoreError) as error:
            call.answered.set_exception(error)
        else:
            call.answered.set_result(answer)
        await self.settle()

    async def crash(self) -> None:
        """Die in the middle of whatever it does."""
        self.task.cancel()
        await asyncio.wait([self.task])
