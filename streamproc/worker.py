"""One worker: takes leases, runs a consumer for each shard it holds, and stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from typing import Any, Literal

from prometheus_client.registry import Collector

from streamproc.config import Config, require
from streamproc.doctor.at_start import begin_without_leases
from streamproc.errors import LeaseStoreError, StreamError
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.client import KinesisClient, open_kinesis
from streamproc.kinesis.errors import KinesisError
from streamproc.kinesis.reading import Reader
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.leases.pace import checkpoint_interval
from streamproc.leases.statistics import LeaseStatistics
from streamproc.leases.stores import open_store, roster_options, store_options
from streamproc.leases.thread import CoordinatorThread
from streamproc.observability.looplag import LoopLag
from streamproc.observability.status import LeaseStatus, WorkerStatus
from streamproc.page import Page
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.position import Position, initial_position
from streamproc.processor import Processor
from streamproc.readers import Readers
from streamproc.redis_client import connect_redis
from streamproc.servers import Servers, meet_servers
from streamproc.shard_pool import ShardPool
from streamproc.shard_watch import ShardWatch, refuse_foreign_leases
from streamproc.sinks.relay import Relays, open_letter_relays, open_relays
from streamproc.state.cache import CellCache
from streamproc.state.redis_store import RedisStateStore
from streamproc.state.replication import ReplicaWait
from streamproc.state_reader import StateReader

__all__ = ["Worker"]

log = logging.getLogger(__name__)


class Worker:
    """A process's share of a consumer group.

    `run` returns after `stop` once everything held is committed, checkpointed and released. It is
    the `StatusSource` of metrics and HTTP.

    Args:
        config: the settings; `group` and `stream.name` must be set.
        processors: the plugins, one instance each for the whole worker.

    Raises:
        ConfigError: a required setting is missing.
        ProcessorError: the processors do not fit together.
    """

    def __init__(self, config: Config, processors: Sequence[Processor[Any]]) -> None:
        require(config)
        self.worker_id = config.worker.id or _worker_id()
        self._config = config
        self._processors = processors
        client = connect_redis(config.redis.url, config.redis.timeout, cluster=config.redis.cluster)
        self._redis = client
        self._reader = StateReader(
            config.redis.url,
            config.group,
            timeout=config.redis.timeout,
            cluster=config.redis.cluster,
        )
        wait = ReplicaWait(config.redis.wait_replicas, config.redis.wait_timeout)
        self._stores = tuple(
            RedisStateStore(
                client,
                config.group,
                config.dedupe.ttl,
                partition,
                config.dedupe.layout,
                wait if wait.replicas else None,
            )
            for partition in range(config.redis.partitions)
        )
        self._keys = [store.keys for store in self._stores]
        self._engine = Engine(
            group=config.group,
            stream=config.stream.name,
            routes=Routes(processors, self._keys),
            stores=self._stores,
            cache=CellCache(config.redis.cache_bytes),
            gate=KeyGate(),
            concurrency=config.batch.concurrency,
            outbox_limit=config.outbox.max_entries,
            dead_letter_unknown=config.worker.on_unknown == "dead-letter",
        )
        self._budget = ByteBudget(config.read.prefetch_bytes)
        self._pool = ShardPool(
            self._engine,
            self._open_reader,
            batch_records=config.batch.records,
            advance_interval=checkpoint_interval(config.leases, metered=False),
            on_state_loss=config.worker.on_state_loss,
            on_fatal=self._fail,
        )
        self._coordinator = CoordinatorThread(
            self._open_lease_store,
            self.worker_id,
            config.leases,
            self._pool,
            open_roster=self._open_roster if config.leases.renewal == "worker" else None,
        )
        self._pool.attach(self._coordinator)
        self._servers: Servers | None = None
        self._readers: Readers | None = None
        self._relays: Relays | None = None
        self._letter_relays: Relays | None = None
        self._stopping = asyncio.Event()
        self._fatal: BaseException | None = None
        self._state: Literal["starting", "running", "draining", "stopped"] = "starting"
        self._coordinated = False
        self._started = time.monotonic()
        self._lag = LoopLag()

    # The life of a worker.

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            ConfigError: the group was made with another number of partitions.
            StreamError: Kinesis refuses for good at the start: no such stream, bad credentials.
            StateLost: Redis has lost the group's state, and the setting is to halt.
            LeaseStoreError: the lease coordinator died.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._redis.aclose)
            stack.push_async_callback(self._reader.aclose)
            kinesis = await stack.enter_async_context(
                open_kinesis(self._config.stream, self._config.read)
            )
            stack.enter_context(self._lag)
            self._servers = await meet_servers(
                self._config, self._redis, self._stores, kinesis, self._stopping
            )
            if self._servers is None:
                self._state = "stopped"
                return
            if self._servers.incarnation is not None:
                self._pool.expect(self._servers.incarnation)
            self._readers = await self._open_readers(kinesis)
            await stack.enter_async_context(self._started_processors())
            self._relays = await stack.enter_async_context(
                open_relays(self._config, self._redis, self._keys, self.worker_id)
            )
            self._letter_relays = await stack.enter_async_context(
                open_letter_relays(self._config, self._redis, self._keys, self.worker_id)
            )
            await self._coordinator.start()
            background = [
                asyncio.create_task(self._coordinator.watch(), name="lease watch"),
                asyncio.create_task(self._shard_watch(kinesis).run(), name="shard watch"),
                asyncio.create_task(self._pool.watch_parked(), name="parked keys"),
            ]
            for task in background:
                task.add_done_callback(self._background_ended)
            self._state, self._coordinated = "running", True
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

    def pages(self) -> list[Page]:
        """Return the HTTP pages that the processors add."""
        return [page for processor in self._processors for page in processor.pages(self._reader)]

    def collectors(self) -> list[Collector]:
        """Return the collectors of metrics that the processors add."""
        return [each for processor in self._processors for each in processor.collectors()]

    # StatusSource.

    def status(self) -> WorkerStatus:
        """Return the worker's state now."""
        leases = self._coordinator.snapshot() if self._coordinated else ()
        changes = self._coordinator.statistics() if self._coordinated else LeaseStatistics()
        budget = self._budget.statistics()
        relay = self._relays.statistics() if self._relays is not None else None
        letters = self._letter_relays.statistics() if self._letter_relays is not None else None
        return WorkerStatus(
            worker_id=self.worker_id,
            group=self._config.group,
            stream=self._config.stream.name,
            state=self._state,
            ready=self._state == "running" and changes.scans > 0,
            version=version("streamproc"),
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            shards=self._pool.status(),
            departed=self._pool.departed,
            leases=[_lease_status(lease) for lease in leases],
            lease_changes={
                name: getattr(changes, name)
                for name in changes.__struct_fields__
                if name not in ("held", "store_healthy")
            },
            prefetched_bytes=budget.kept,
            prefetch_limit=self._config.read.prefetch_bytes,
            loop_lag_seconds=self._lag.seconds,
            outbox_delivered=0 if relay is None else relay.delivered,
            outbox_failures=0 if relay is None else relay.failures,
            outbox_size=None if relay is None else relay.size,
            outbox_lag_seconds=None if relay is None else relay.lag_seconds,
            parked_keys=self._pool.parked_keys,
            dead_letters_delivered=0 if letters is None else letters.delivered,
            dead_letter_failures=0 if letters is None else letters.failures,
        )

    def is_live(self) -> bool:
        """Whether the process is worth keeping: nothing it cannot recover from has happened."""
        return self._fatal is None

    # Inside.

    @property
    def _stream(self) -> str:
        return self._config.stream.name

    async def _open_lease_store(self) -> LeaseStore:
        config, servers = self._config, self._servers
        assert servers is not None, "leases are taken only once run() has met the servers"
        begin = initial_position(config.stream.initial_position)
        options = store_options(config, self.worker_id, begin)
        store = await open_store(config.leases.store, config.group, options)
        try:
            leases = await store.list()
            # Before the coordinator takes the first lease: another stream's positions must not be
            # read from.
            refuse_foreign_leases(self._stream, leases, servers.shards, servers.created)
            if not leases:
                begin_without_leases(config, servers.has_state)
        except BaseException:
            await store.aclose()
            raise
        return store

    async def _open_roster(self) -> LeaseStore:
        config = self._config
        return await open_store(config.leases.store, *roster_options(config))

    async def _open_readers(self, kinesis: KinesisClient) -> Readers:
        read = self._config.read
        fan_out = None
        if read.mode == "fan-out":
            try:
                fan_out = await kinesis.fan_out(read.consumer or self._config.group, read)
            except (KinesisError, StreamError) as error:
                log.warning("polling, since fan-out is not to be had: %s", error)
        return Readers(kinesis, fan_out, self._budget, read, quiet=kinesis.quiet)

    @contextlib.asynccontextmanager
    async def _started_processors(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for processor in self._processors:
                await processor.start()
                stack.push_async_callback(processor.stop)
            yield

    def _shard_watch(self, kinesis: KinesisApi) -> ShardWatch:
        stream = self._config.stream
        initial = initial_position(stream.initial_position)
        return ShardWatch(stream, initial, kinesis, self._coordinator, self._stores)

    def _open_reader(self, lease: Lease, position: Position) -> Reader:
        assert self._readers is not None, "leases are taken only once run() has opened Kinesis"
        return self._readers.open(lease, position)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Stop the worker, and have `run` raise `error`."""
        self._fatal = self._fatal or error
        self._stopping.set()

    async def _drain(self, background: Sequence[asyncio.Task[None]]) -> None:
        self._state = "draining"
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        self._coordinator.stop_taking()
        await self._pool.drain(self._config.worker.drain_timeout)
        with contextlib.suppress(LeaseStoreError):
            # If the coordinator died, `watch` has reported it already.
            await self._coordinator.stop()


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def _lease_status(lease: Lease) -> LeaseStatus:
    return LeaseStatus(
        shard_id=lease.key,
        owner=lease.owner,
        checkpoint=str(lease.checkpoint),
        counter=lease.counter,
        handing_over_from=lease.checkpoint_owner,
    )
