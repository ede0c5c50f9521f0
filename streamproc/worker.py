"""One worker: takes leases, runs a consumer for each shard it holds, and stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from streamproc.config import Config
from streamproc.errors import (
    ConfigError,
    Fenced,
    LeaseStoreError,
    StateLost,
    StateStoreError,
    StreamError,
)
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.client import open_kinesis
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.reader import ShardReader
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.leases.shard_sync import child_leases, leases_to_create
from streamproc.leases.stores import open_store
from streamproc.leases.thread import CoordinatorThread
from streamproc.observability.looplag import LoopLag
from streamproc.observability.status import LeaseStatus, ShardStatus, WorkerStatus
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.shard import Ended, ShardConsumer, ShardPhase
from streamproc.pipeline.statistics import ShardStatistics
from streamproc.pipeline.transaction import Engine, ShardHalted
from streamproc.position import LATEST, TRIM_HORIZON, Position
from streamproc.processor import Processor
from streamproc.sinks.relay import OutboxRelay, open_relay
from streamproc.state.cache import CellCache
from streamproc.state.store import RedisStateStore, connect_redis

__all__ = ["Worker", "initial_position"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_SHARD_RETRY_S = (1.0, 30.0)
_START_RETRY_S = (0.2, 5.0)


class Worker:
    """A process's share of a consumer group.

    `run` returns after `stop` once everything held is committed, checkpointed and released. It
    implements the lease coordinator's `Listener` and the observability `StatusSource`.

    Args:
        config: the settings; `group` and `stream.name` must be set.
        processors: the plugins, one instance each for the whole worker.

    Raises:
        ConfigError: a required setting is missing.
        ProcessorError: the processors do not fit together.
    """

    def __init__(self, config: Config, processors: Sequence[Processor[Any]]) -> None:
        for key, value in (("group", config.group), ("stream.name", config.stream.name)):
            if not value:
                raise ConfigError(f"{key} is not set; it has no default")
        self.worker_id = config.worker.id or _worker_id()
        self._config = config
        self._processors = processors
        client = connect_redis(config.redis.url, config.redis.timeout)
        self._redis = client
        self._store = RedisStateStore(client, config.group, config.dedupe.ttl)
        self._engine = Engine(
            group=config.group,
            stream=config.stream.name,
            routes=Routes(processors, self._store.keys),
            store=self._store,
            cache=CellCache(config.redis.cache_bytes),
            gate=KeyGate(),
            concurrency=config.batch.concurrency,
            dead_letter_unknown=config.worker.on_unknown == "dead-letter",
        )
        self._budget = ByteBudget(config.read.prefetch_bytes)
        self._coordinator = CoordinatorThread(
            self._open_lease_store, self.worker_id, config.leases, self
        )
        self._kinesis: KinesisApi | None = None
        self._relay: OutboxRelay | None = None
        self._shards: dict[str, ShardConsumer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._departed = ShardStatistics()
        self._stopping = asyncio.Event()
        self._fatal: BaseException | None = None
        self._state: Literal["starting", "running", "draining", "stopped"] = "starting"
        self._started = time.monotonic()
        self._lag = LoopLag()

    # The life of a worker.

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            StreamError: Kinesis refuses for good at the start: no such stream, bad credentials.
            StateLost: Redis has lost the group's state, and the setting is to halt.
            LeaseStoreError: the lease coordinator died.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._store.aclose)
            kinesis = await stack.enter_async_context(
                open_kinesis(self._config.stream, self._config.read)
            )
            self._kinesis = kinesis
            stack.enter_context(self._lag)
            if not await self._wait_for_servers(kinesis):
                return
            await stack.enter_async_context(self._started_processors())
            self._relay = await stack.enter_async_context(
                open_relay(self._config, self._redis, self._store.keys, self.worker_id)
            )
            await self._coordinator.start()
            background = [
                asyncio.create_task(self._coordinator.watch(), name="lease watch"),
                asyncio.create_task(self._sync_shards(kinesis), name="shard sync"),
            ]
            for task in background:
                task.add_done_callback(self._background_ended)
            self._state = "running"
            log.info("%s: group %s, stream %s", self.worker_id, self._config.group, self._stream)
            try:
                await self._stopping.wait()
            finally:
                await self._drain(background)
        self._state = "stopped"
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Take no more, drain, release, and have `run` return; safe to call twice."""
        self._stopping.set()

    # Listener: the lease coordinator's word, on this loop.

    def lease_acquired(self, lease: Lease) -> None:
        """Start a consumer, after the one of an earlier ownership is gone."""
        if self._stopping.is_set():
            return
        before = self._tasks.get(lease.key)
        if before is not None:
            before.cancel()
        task = asyncio.create_task(self._work(lease, before), name=f"shard {lease.key}")
        self._tasks[lease.key] = task
        task.add_done_callback(lambda done: self._shard_done(lease.key, done))

    def lease_lost(self, key: str) -> None:
        """Stop a shard at once; whatever it has in hand cannot be committed any more."""
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()

    def handover_requested(self, key: str) -> None:
        """Drain a shard; its lease is given up once the batch in hand is committed."""
        consumer = self._shards.get(key)
        if consumer is not None:
            consumer.stop()

    # StatusSource.

    def status(self) -> WorkerStatus:
        """Return the worker's state now."""
        started = self._state != "starting"
        leases = self._coordinator.snapshot() if started else ()
        changes = self._coordinator.statistics() if started else None
        budget = self._budget.statistics()
        relay = self._relay.statistics() if self._relay is not None else None
        return WorkerStatus(
            worker_id=self.worker_id,
            group=self._config.group,
            stream=self._config.stream.name,
            state=self._state,
            ready=self._state == "running" and changes is not None and changes.scans > 0,
            version=version("streamproc"),
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            shards=[_shard_status(key, shard) for key, shard in sorted(self._shards.items())],
            departed=self._departed,
            leases=[_lease_status(lease) for lease in leases],
            lease_changes={}
            if changes is None
            else {
                name: int(getattr(changes, name))
                for name in changes.__struct_fields__
                if name not in ("held", "store_healthy")
            },
            prefetched_bytes=budget.held,
            prefetch_limit=self._config.read.prefetch_bytes,
            loop_lag_seconds=self._lag.seconds,
            outbox_delivered=0 if relay is None else relay.delivered,
            outbox_failures=0 if relay is None else relay.failures,
        )

    def is_live(self) -> bool:
        """Whether the process is worth keeping: nothing it cannot recover from has happened."""
        return self._fatal is None

    # Inside.

    @property
    def _stream(self) -> str:
        return self._config.stream.name

    async def _open_lease_store(self) -> LeaseStore:
        config = self._config
        options = dict(config.leases.options)
        if config.leases.store == "redis":
            options.setdefault("url", config.redis.url)
        return await open_store(config.leases.store, config.group, options)

    async def _wait_for_servers(self, kinesis: KinesisApi) -> bool:
        """Wait until Redis and Kinesis have answered; False when told to stop before.

        Raises:
            StreamError: Kinesis refuses for good.
        """
        for ask in (self._store.ping, kinesis.describe_stream):
            waiting = asyncio.ensure_future(_until_available(ask))
            stopped = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not waiting.done():
                waiting.cancel()
                return False
            waiting.result()
        return True

    @contextlib.asynccontextmanager
    async def _started_processors(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for processor in self._processors:
                await processor.start()
                stack.push_async_callback(processor.stop)
            yield

    async def _sync_shards(self, kinesis: KinesisApi) -> None:
        """Create the leases that the stream's shards call for, again and again."""
        stream = self._config.stream
        initial = initial_position(stream.initial_position)
        while True:
            try:
                shards = await kinesis.list_shards()
                leases = await self._coordinator.leases()
                missing = leases_to_create(shards, leases, initial, time.time())
                if missing:
                    created = await self._coordinator.create(missing)
                    log.info("%s: %d new shards", self._stream, created)
            except (KinesisError, StreamError, LeaseStoreError) as error:
                log.warning("%s: could not look for new shards: %s", self._stream, error)
            await asyncio.sleep(stream.shard_sync_interval * random.uniform(0.8, 1.2))

    async def _work(self, lease: Lease, before: asyncio.Task[None] | None) -> None:
        """Process a shard for as long as its lease is ours, whatever goes wrong with it."""
        if before is not None:
            await asyncio.wait([before])
        least, most = _SHARD_RETRY_S
        delay = least
        while True:
            consumer = self._shards[lease.key] = self._consumer(lease)
            try:
                ended = await consumer.run()
            except Fenced as fenced:
                if not self._coordinator.is_valid(lease.key):
                    log.warning("%s; stopping the shard", fenced)
                    return
                # By the lease store the shard is ours: adopt it again and let the store judge.
                log.warning("%s, but the lease is held; adopting again", fenced)
            except ShardHalted as halted:
                log.error("%s", halted)
                consumer.phase = ShardPhase.HALTED
                return
            except StateLost as lost:
                self._fail(lost)
                return
            except StreamError as refused:
                log.error("%s: %s; trying again in %.0f s", lease.key, refused, delay)
            except Exception:
                log.exception("%s: failed; trying again in %.0f s", lease.key, delay)
            else:
                await self._give_up(lease, consumer, ended)
                return
            self._leave(lease.key)
            lease = consumer.lease
            await asyncio.sleep(delay)
            delay = min(most, delay * 2)

    def _consumer(self, lease: Lease) -> ShardConsumer:
        assert self._kinesis is not None, "leases are taken only once run() has opened Kinesis"
        kinesis = self._kinesis

        def open_reader(position: Position) -> ShardReader:
            return ShardReader(kinesis, lease.key, position, self._budget, self._config.read)

        return ShardConsumer(
            self._engine,
            self._coordinator,
            lease,
            open_reader,
            batch_records=self._config.batch.records,
            on_state_loss=self._config.worker.on_state_loss,
        )

    async def _give_up(self, lease: Lease, consumer: ShardConsumer, ended: Ended) -> None:
        """Tell the lease store how far the shard got, and let it go."""
        try:
            if ended.at_shard_end:
                await self._coordinator.finish(lease.key, child_leases(ended.children))
                log.info("%s: read to its end; children %s", lease.key, len(ended.children))
            else:
                await self._coordinator.release(
                    lease.key, ended.position, consumer.incarnation, consumer.lease.counter
                )
        except LeaseStoreError as error:
            log.warning("%s: could not be released and will expire: %s", lease.key, error)

    def _shard_done(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is not task:
            return
        consumer = self._shards.get(key)
        if consumer is not None and consumer.phase is ShardPhase.HALTED and not task.cancelled():
            return  # It stays visible, and its lease stays held, until somebody looks.
        del self._tasks[key]
        self._leave(key)
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _leave(self, key: str) -> None:
        consumer = self._shards.pop(key, None)
        if consumer is not None:
            self._departed.add(consumer.statistics)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _fail(self, error: BaseException | None) -> None:
        """Stop the worker, and have `run` raise `error`."""
        self._fatal = self._fatal or error
        self._stopping.set()

    async def _drain(self, background: Sequence[asyncio.Task[None]]) -> None:
        self._state = "draining"
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        self._coordinator.stop_taking()
        for consumer in self._shards.values():
            consumer.stop()
        running = {task for task in self._tasks.values() if not task.done()}
        if running:
            log.info("%s: draining %d shards", self.worker_id, len(running))
            _, late = await asyncio.wait(running, timeout=self._config.worker.drain_timeout)
            for task in late:
                log.warning("%s did not drain in time; its last batch is replayed", task.get_name())
                task.cancel()
            if late:
                await asyncio.wait(late)
        with contextlib.suppress(LeaseStoreError):
            # If the coordinator died, `watch` has reported it already.
            await self._coordinator.stop()


async def _until_available(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer; say what is being waited for, once and then every minute."""
    delay, longest = _START_RETRY_S
    complained = 0.0
    while True:
        try:
            return await ask()
        except (StateStoreError, KinesisError) as error:
            if isinstance(error, StreamError):
                raise
            if time.monotonic() - complained > 60 or not complained:
                complained = time.monotonic()
                log.warning("waiting: %s", error)
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(longest, delay * 2)


def initial_position(text: str) -> Position:
    """Return the position that `stream.initial_position` names.

    Raises:
        ConfigError: the text is neither a sentinel nor an ISO 8601 time.
    """
    if text == "TRIM_HORIZON":
        return TRIM_HORIZON
    if text == "LATEST":
        return LATEST
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"stream.initial_position: {text!r} is not TRIM_HORIZON, LATEST or an ISO 8601 time"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Position("AT_TIMESTAMP", timestamp=moment.timestamp())


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def _shard_status(key: str, shard: ShardConsumer) -> ShardStatus:
    reader = shard.reader_statistics
    return ShardStatus(
        shard_id=key,
        phase=shard.phase.value,
        epoch=shard.lease.counter,
        position=str(shard.position),
        millis_behind_latest=None if reader is None else reader.millis_behind_latest,
        statistics=shard.statistics,
        reader=reader,
    )


def _lease_status(lease: Lease) -> LeaseStatus:
    return LeaseStatus(
        shard_id=lease.key,
        owner=lease.owner,
        checkpoint=str(lease.checkpoint),
        counter=lease.counter,
        handing_over_from=lease.checkpoint_owner,
    )
