"""The load generator's process: fills a stream, or offers records at a fixed rate."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from streamproc.cli.loop import run_loop
from streamproc.config import StreamConfig
from streamproc.errors import StreamprocError
from streamproc.kinesis.api import KinesisApi, PutEntry
from streamproc.kinesis.client import open_kinesis
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce
from streamproc_benchmarks.workloads import WorkloadName, make_entries, mean_bytes

__all__ = ["LoadDone", "LoadSpec", "Published", "offer", "tick_size"]

_PUT_LIMIT = 500
_TICK_S = 0.01
_LEAD_S = 0.1


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to put where.

    Attributes:
        rate: records a second to offer; None puts them as fast as possible.
        result: the file to write the `Published` to, as MessagePack.
    """

    core: int | None
    endpoint_url: str
    stream: str
    workload: WorkloadName
    count: int
    seed: int
    rate: float | None
    result: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What was put.

    Attributes:
        shards: sequence numbers by shard, in the order of the shard.
        order: all sequence numbers with their shards, in the order of sending.
        intended: monotonic time in seconds at which each was meant to be sent, by `order`; it is
            when it was sent only if the generator was in time.
        started: when the first was to be sent, in seconds.
        sent: when the last was acknowledged.
    """

    shards: dict[str, list[str]]
    order: list[tuple[str, str]]
    intended: list[float]
    started: float
    sent: float
    mean_bytes: float


class LoadDone(msgspec.Struct, frozen=True):
    """The line that tells the parent that the result is written."""

    count: int


async def offer(
    api: KinesisApi,
    entries: Sequence[PutEntry],
    rate: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Published:
    """Put `entries`, open loop: when each is to be sent is fixed beforehand.

    What cannot be sent in its time is sent as soon as possible and keeps its intended time, so that
    a slow server or a slow generator shows as latency instead of being left out.

    Raises:
        StreamprocError: a record was refused.
    """
    started = clock() + _LEAD_S
    tick = tick_size(rate)
    intended = [
        started if rate is None else started + (at // tick) * tick / rate
        for at in range(len(entries))
    ]
    shards: dict[str, list[str]] = {}
    order: list[tuple[str, str]] = []
    sent = 0
    while sent < len(entries):
        now = clock()
        if now < intended[sent]:
            await sleep(intended[sent] - now)
            continue
        due = sent
        while due < len(entries) and due - sent < _PUT_LIMIT and intended[due] <= now:
            due += 1
        for result in await api.put_records(entries[sent:due]):
            if result.sequence_number is None or result.shard_id is None:
                raise StreamprocError(f"a record was refused: {result.error_message}")
            shards.setdefault(result.shard_id, []).append(result.sequence_number)
            order.append((result.shard_id, result.sequence_number))
        sent = due
    return Published(
        shards=shards,
        order=order,
        intended=intended,
        started=started,
        sent=clock(),
        mean_bytes=mean_bytes(list(entries)),
    )


def tick_size(rate: float | None) -> int:
    """Return how many records are meant to be sent together: those of 10 ms, as producers batch."""
    return 1 if rate is None else max(1, round(rate * _TICK_S))


async def _load(spec: LoadSpec) -> None:
    entries = make_entries(spec.workload, spec.count, spec.seed)
    stream = StreamConfig(name=spec.stream, region="us-east-1", endpoint_url=spec.endpoint_url)
    async with open_kinesis(stream) as api:
        published = await offer(api, entries, spec.rate)
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(published))
    announce(LoadDone(len(published.order)))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=LoadSpec)
    pin(given.core)
    run_loop(_load(given))
