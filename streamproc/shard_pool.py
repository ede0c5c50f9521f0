"""The shards that a worker holds: a task for each, started and stopped as leases come and go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from streamproc.errors import Fenced, LeaseStoreError, StateLost, StateStoreError, StreamError
from streamproc.kinesis.errors import FanOutUnavailableError
from streamproc.kinesis.reading import Reader
from streamproc.leases.lease import Lease
from streamproc.leases.shard_sync import child_leases
from streamproc.leases.thread import CoordinatorThread
from streamproc.observability.status import ShardStatus
from streamproc.pipeline.engine import Engine, ShardHalted
from streamproc.pipeline.resume import OnStateLoss
from streamproc.pipeline.shard import Ended, ShardConsumer
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.position import Position

__all__ = ["ShardPool"]

log = logging.getLogger(__name__)

_LEAST_RETRY_S: Final = 1.0
_MOST_RETRY_S: Final = 30.0
_PARKED_LOOK_S: Final = 1.0
_MOST_WANTED: Final = 100


class ShardPool:
    """Runs a consumer for each lease; the lease coordinator's `Listener`, on the engine's loop.

    A shard that fails is tried again with backoff for as long as its lease is held; the others go
    on. One that halts keeps its lease until another worker asks for it or this one stops.

    Args:
        engine: what all shards share.
        open_reader: makes the reader of a lease's shard, to begin at a position.
        batch_records: most records in a batch.
        advance_interval: seconds until a shard's partitions without events follow the others.
        on_state_loss: what to do when Redis has lost a shard.
        on_fatal: told of an error that no shard can go on after.
    """

    def __init__(
        self,
        engine: Engine,
        open_reader: Callable[[Lease, Position], Reader],
        *,
        batch_records: int,
        advance_interval: float,
        on_state_loss: OnStateLoss,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._open_reader = open_reader
        self._batch_records = batch_records
        self._advance_interval = advance_interval
        self._on_state_loss = on_state_loss
        self._on_fatal = on_fatal
        self._coordinator: CoordinatorThread | None = None
        self._consumers: dict[str, ShardConsumer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._let_go: dict[str, asyncio.Event] = {}
        self._departed = ShardStatistics()
        self._parked: list[int | None] = [None] * len(engine.stores)
        self._draining = False
        self._incarnation: str | None = None

    def attach(self, coordinator: CoordinatorThread) -> None:
        """Set the coordinator, which in turn needs this pool as its listener."""
        self._coordinator = coordinator

    def expect(self, incarnation: str) -> None:
        """Tell which Redis the group's state is in; a shard found in another one is lost."""
        self._incarnation = incarnation

    # Listener: the lease coordinator's word.

    def lease_acquired(self, lease: Lease) -> None:
        """Start a consumer, after the one of an earlier ownership is gone."""
        if self._draining:
            return  # The coordinator gives up what nobody started when it stops.
        before = self._tasks.get(lease.key)
        if before is not None:
            before.cancel()
        let_go = self._let_go[lease.key] = asyncio.Event()
        task = asyncio.create_task(self._run(lease, let_go, before), name=f"shard {lease.key}")
        self._tasks[lease.key] = task
        task.add_done_callback(lambda done: self._done(lease.key, done))

    def lease_lost(self, key: str) -> None:
        """Stop a shard at once; whatever it has in hand cannot be committed any more."""
        if key in self._tasks:
            self._tasks[key].cancel()

    def handover_requested(self, key: str) -> None:
        """Drain a shard; its lease is given up once the batch in hand is committed."""
        if key in self._let_go:
            self._let_go[key].set()
        if key in self._consumers:
            self._consumers[key].stop()

    # What the worker needs.

    async def drain(self, timeout: float) -> None:
        """Let every shard commit the batch in hand and release its lease, for `timeout` seconds."""
        self._draining = True
        for let_go in self._let_go.values():
            let_go.set()
        for consumer in self._consumers.values():
            consumer.stop()
        running = set(self._tasks.values())
        if not running:
            return
        log.info("draining %d shards", len(running))
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            log.warning("%s did not drain in %g s; its batch is replayed", task.get_name(), timeout)
            task.cancel()
        if late:
            await asyncio.wait(late)

    def status(self) -> list[ShardStatus]:
        """Return every shard's state, in the order of their ids."""
        return [_status(key, consumer) for key, consumer in sorted(self._consumers.items())]

    @property
    def departed(self) -> ShardStatistics:
        """The counters of consumers that are gone, so that totals never fall."""
        return self._departed

    @property
    def parked_keys(self) -> int | None:
        """The group's parked keys as of the last look; None before the first one."""
        known = [count for count in self._parked if count is not None]
        return sum(known) if known else None

    async def watch_parked(self) -> None:
        """Look once a second for parked keys that somebody wants redriven, until cancelled.

        One look for each partition, whatever the number of shards; the key's hash says whose it is.
        """
        while True:
            await self._engine.sleep(_PARKED_LOOK_S * (0.75 + self._engine.rng.random() / 2))
            for partition, store in enumerate(self._engine.stores):
                try:
                    wanted = await store.wanted(_MOST_WANTED)
                except StateStoreError as error:
                    # The shards complain, and are counted, where this matters.
                    log.debug("could not look for parked keys: %s", error)
                    continue
                self._parked[partition] = wanted.parked
                for key in wanted.keys:
                    for consumer in self._consumers.values():
                        if consumer.covers(key):
                            consumer.redrive(partition, key)

    # Inside.

    @property
    def _leases(self) -> CoordinatorThread:
        assert self._coordinator is not None, "attach() comes before the first lease"
        return self._coordinator

    async def _run(
        self, lease: Lease, let_go: asyncio.Event, before: asyncio.Task[None] | None
    ) -> None:
        """Process a shard for as long as its lease is ours, whatever goes wrong with it.

        `let_go` is set once the lease is to be given up, which holds between two tries, too.
        """
        if before is not None:
            await asyncio.wait([before])
            self._leave(lease.key)
        delay = _LEAST_RETRY_S
        while not let_go.is_set():
            consumer = self._consumers[lease.key] = self._consumer(lease)
            try:
                ended = await consumer.run()
            except Fenced as fenced:
                if not self._leases.is_valid(lease.key):
                    log.warning("%s; stopping the shard", fenced)
                    return
                # By the lease store the shard is ours: adopt it again and let the store judge.
                log.warning("%s, but the lease is held; adopting again", fenced)
            except ShardHalted as halted:
                log.error("%s", halted)
                await self._give_up(consumer, await consumer.stay_halted())
                return
            except StateLost as lost:
                self._on_fatal(lost)
                return
            except (StreamError, FanOutUnavailableError) as refused:
                log.error("%s: %s; trying again in %.0f s", lease.key, refused, delay)
            except Exception:
                log.exception("%s: failed; trying again in %.0f s", lease.key, delay)
            else:
                await self._give_up(consumer, ended)
                return
            lease = consumer.lease
            self._leave(lease.key)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await let_go.wait()
            delay = min(_MOST_RETRY_S, delay * 2)
        try:
            await self._leases.release(lease.key, epoch=lease.counter)
        except LeaseStoreError as error:
            log.warning("%s: not released, its lease will expire: %s", lease.key, error)

    def _consumer(self, lease: Lease) -> ShardConsumer:
        return ShardConsumer(
            self._engine,
            self._leases,
            lease,
            lambda position: self._open_reader(lease, position),
            batch_records=self._batch_records,
            advance_interval=self._advance_interval,
            on_state_loss=self._on_state_loss,
            incarnation=self._met(),
        )

    def _met(self) -> str | None:
        """Return which Redis the state was in last; leases that say so may be lost with it."""
        for consumer in self._consumers.values():
            self._incarnation = consumer.incarnation or self._incarnation
        return self._incarnation

    async def _give_up(self, consumer: ShardConsumer, ended: Ended) -> None:
        """Tell the lease store how far the shard got, and let it go."""
        key, epoch = consumer.lease.key, consumer.lease.counter
        try:
            if ended.at_shard_end:
                children = child_leases(ended.children, consumer.lease.stream_created)
                await self._leases.finish(key, children, epoch)
                names = ", ".join(child.shard_id for child in ended.children)
                log.info("%s: read to its end; it goes on in %s", key, names or "no known shard")
            else:
                await self._leases.release(key, ended.position, consumer.incarnation, epoch)
        except LeaseStoreError as error:
            log.warning("%s: not released, its lease will expire: %s", key, error)

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is not task:
            return
        del self._tasks[key], self._let_go[key]
        self._leave(key)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_fatal(error)

    def _leave(self, key: str) -> None:
        consumer = self._consumers.pop(key, None)
        if consumer is not None:
            self._departed.add(consumer.statistics)
            self._incarnation = consumer.incarnation or self._incarnation


def _status(key: str, consumer: ShardConsumer) -> ShardStatus:
    reader = consumer.reader_statistics
    return ShardStatus(
        shard_id=key,
        phase=consumer.phase.value,
        epoch=consumer.lease.counter,
        position=str(consumer.position),
        millis_behind_latest=None if reader is None else reader.millis_behind_latest,
        statistics=consumer.statistics,
        reader=reader,
        timers_pending=consumer.timers_pending,
        waits_for_outbox=consumer.waits_for_room,
    )
