"""An owner of a shard: a worker's consumer, stepped from round trip to round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from streamproc.errors import Fenced, StateStoreError
from streamproc.kinesis.reader import ShardReader
from streamproc.leases.lease import Lease
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.shard import ShardConsumer
from streamproc.pipeline.transaction import Engine
from streamproc.position import Position
from streamproc.state.cache import CellCache
from streamproc.state.keys import Keys
from streamproc.state.store import StateStore
from tests.model.shard_log import LogReader, ShardLog
from tests.model.stepped_store import PendingCall, SteppedStore
from tests.worker.ledger import Ledger

__all__ = ["STREAM", "LeaseTable", "Owner"]

STREAM = "model"


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
    """Consumes a shard until it is fenced off or crashes; between round trips it stands still."""

    def __init__(
        self, store: StateStore, keys: Keys, table: LeaseTable, log: ShardLog, batch: int
    ) -> None:
        self.shard_id = log.shard_id
        self._quiet = asyncio.Event()
        self._store = SteppedStore(store, self._quiet)
        lease = table.take(log.shard_id)
        engine = Engine(
            group="g",
            stream=STREAM,
            routes=Routes([Ledger()], keys),
            store=cast(StateStore, self._store),
            cache=CellCache(1 << 20),
            gate=KeyGate(),
            sleep=lambda seconds: asyncio.sleep(0),
        )
        self.consumer = ShardConsumer(
            engine,
            _Keeper(table, lease.counter),
            lease,
            lambda start: cast(ShardReader, LogReader(log, start, batch * 2, self._quiet)),
            batch_records=batch,
            on_state_loss="replay",
        )
        self.task = asyncio.create_task(self.consumer.run())

    @property
    def pending(self) -> PendingCall | None:
        """The round trip that it waits for; None when it waits for records or is gone."""
        return self._store.pending

    @property
    def is_alive(self) -> bool:
        """Whether it has neither crashed nor been fenced off."""
        return not self.task.done()

    @property
    def was_fenced(self) -> bool:
        """Whether its end was to learn of a newer owner."""
        return self.task.done() and isinstance(self.task.exception(), Fenced)

    async def settle(self) -> None:
        """Wait until it can do nothing by itself; raises what it failed with."""
        quiet = asyncio.ensure_future(self._quiet.wait())
        await asyncio.wait((self.task, quiet), return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()
        if self.task.done() and not self.was_fenced:
            self.task.result()

    def stir(self) -> None:
        """Expect it to do something: what it waits for has come."""
        self._quiet.clear()

    async def step(self, carry_out: Callable[[PendingCall], Any]) -> None:
        """End the pending round trip as `carry_out` says, and wait for what comes of it."""
        call = self.pending
        assert call is not None
        try:
            answer = await carry_out(call)
        except (Fenced, StateStoreError) as error:
            self.stir()
            call.answered.set_exception(error)
        else:
            self.stir()
            call.answered.set_result(answer)
        await self.settle()

    async def crash(self) -> None:
        """Die in the middle of whatever it does."""
        self.task.cancel()
        await asyncio.wait([self.task])
