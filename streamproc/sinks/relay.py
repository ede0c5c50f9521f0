"""Empties the outboxes and the dead letters of a worker's partitions into sinks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio

from streamproc.config import Config
from streamproc.deadletter import DeadLetter
from streamproc.sinks.letters import LetterSink, open_letter_sink
from streamproc.sinks.sink import OutgoingEvent, Sink, open_sink
from streamproc.sinks.stream_relay import Entry, RelayStatistics, StreamRelay
from streamproc.state.keys import Keys

__all__ = ["DeadLetterRelay", "OutboxRelay", "Relays", "open_letter_relays", "open_relays"]

_STOP_S: Final = 5.0


class OutboxRelay(StreamRelay[OutgoingEvent]):
    """Delivers a partition's outbox: each event again under the same id, each key in order.

    Args:
        client: Redis; not closed here.
        keys: the partition's keys.
        sink: the destination; not closed here.
        worker_id: shown as the owner of the lock.
        options: further arguments of `StreamRelay`.
    """

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, sink: Sink, worker_id: str, **options: Any
    ) -> None:
        super().__init__(
            client, keys.outbox, keys.relay, _outgoing, sink.send, worker_id, **options
        )


class DeadLetterRelay(StreamRelay[DeadLetter]):
    """Delivers a partition's dead letters, in any order.

    Args:
        client: Redis; not closed here.
        keys: the partition's keys.
        sink: the destination; not closed here.
        worker_id: shown as the owner of the lock.
        options: further arguments of `StreamRelay`.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        sink: LetterSink,
        worker_id: str,
        **options: Any,
    ) -> None:
        lock = keys.dead_letter_relay
        super().__init__(client, keys.dead_letters, lock, _letter, sink.send, worker_id, **options)


class Relays:
    """A worker's relays of one kind, one for each partition, which share the sink."""

    def __init__(self, relays: Sequence[StreamRelay[Any]]) -> None:
        self._relays = tuple(relays)

    async def run(self) -> None:
        """Run all until they are stopped."""
        await asyncio.gather(*[relay.run() for relay in self._relays])

    def stop(self) -> None:
        """Have `run` return once the deliveries in hand are done."""
        for relay in self._relays:
            relay.stop()

    def statistics(self) -> RelayStatistics:
        """Return sums; size and lag over the partitions that this worker relays now."""
        each = [relay.statistics() for relay in self._relays]
        sizes = [one.size for one in each if one.size is not None]
        lags = [one.lag_seconds for one in each if one.lag_seconds is not None]
        return RelayStatistics(
            delivered=sum(one.delivered for one in each),
            failures=sum(one.failures for one in each),
            active=any(one.active for one in each),
            size=sum(sizes) if sizes else None,
            lag_seconds=max(lags, default=None),
        )


@asynccontextmanager
async def open_relays(
    config: Config,
    client: redis.asyncio.Redis,
    keys: Sequence[Keys],
    worker_id: str,
    **options: Any,
) -> AsyncIterator[Relays | None]:
    """Relay the outboxes to the configured sink while the context is open; None without a sink.

    At the end the deliveries in hand get 5 s; what is left, another worker's relays deliver.

    Args:
        config: `outbox` names the sink.
        client: Redis; must outlive the context.
        keys: those of each partition.
        worker_id: shown as the owner of the locks.
        options: further arguments of each `StreamRelay`.

    Raises:
        ConfigError: no such sink is installed, or an option of it is wrong.
    """
    if config.outbox.sink is None:
        yield None
        return
    sink = await open_sink(config.outbox.sink, config.outbox.options)
    options = _pace(len(keys)) | options
    relays = Relays([OutboxRelay(client, each, sink, worker_id, **options) for each in keys])
    async with _running(relays, sink, "outbox relays"):
        yield relays


@asynccontextmanager
async def open_letter_relays(
    config: Config,
    client: redis.asyncio.Redis,
    keys: Sequence[Keys],
    worker_id: str,
    **options: Any,
) -> AsyncIterator[Relays | None]:
    """Relay dead letters to the configured sink, as `open_relays` does with the outboxes.

    Raises:
        ConfigError: no such sink is installed, or an option of it is wrong.
    """
    if config.dead_letters.sink is None:
        yield None
        return
    sink = await open_letter_sink(config.dead_letters.sink, config.dead_letters.options)
    options = _pace(len(keys)) | options
    relays = Relays([DeadLetterRelay(client, each, sink, worker_id, **options) for each in keys])
    async with _running(relays, sink, "dead-letter relays"):
        yield relays


def _pace(partitions: int) -> dict[str, float]:
    """Return intervals by which all relays of a worker look a hundred times a second at most."""
    return {
        "poll_interval": max(0.1, partitions / 100),
        "standby_interval": max(2.0, partitions / 50),
    }


@asynccontextmanager
async def _running(relays: Relays, sink: Sink | LetterSink, name: str) -> AsyncIterator[None]:
    try:
        task = asyncio.create_task(relays.run(), name=name)
        try:
            yield
        finally:
            relays.stop()
            await asyncio.wait((task,), timeout=_STOP_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    finally:
        await sink.aclose()


def _outgoing(entry: Entry) -> tuple[str, OutgoingEvent]:
    entry_id, fields = entry
    text = {name: fields.get(name, b"").decode() for name in (b"id", b"type", b"key", b"cause")}
    event = OutgoingEvent(
        id=text[b"id"] or entry_id.decode(),
        type=text[b"type"],
        key=text[b"key"],
        cause=text[b"cause"],
        data=fields.get(b"data", b""),
    )
    return event.key, event


def _letter(entry: Entry) -> tuple[str, DeadLetter]:
    # No order to keep: a letter that cannot go holds up no other.
    entry_id, fields = entry
    letter = DeadLetter.from_fields({name.decode(): value for name, value in fields.items()})
    return entry_id.decode(), letter
