"""The process that fills a stream, as fast as the endpoint takes it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
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

__all__ = ["LoadDone", "LoadSpec", "Published", "fill"]

_PUT_LIMIT = 500


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to put where.

    Attributes:
        result: the file to write the `Published` to, as MessagePack.
    """

    core: int | None
    endpoint_url: str
    stream: str
    workload: WorkloadName
    count: int
    seed: int
    result: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What was put: sequence numbers by shard, in the order of the shard."""

    shards: dict[str, list[str]]
    mean_bytes: float

    @property
    def count(self) -> int:
        """How many records there are."""
        return sum(len(sequences) for sequences in self.shards.values())


class LoadDone(msgspec.Struct, frozen=True):
    """The line that tells the parent that the result is written."""

    count: int


async def fill(api: KinesisApi, entries: Sequence[PutEntry]) -> Published:
    """Put `entries` in calls as large as Kinesis allows.

    Raises:
        StreamprocError: a record was refused.
    """
    shards: dict[str, list[str]] = {}
    for first in range(0, len(entries), _PUT_LIMIT):
        for result in await api.put_records(entries[first : first + _PUT_LIMIT]):
            if result.sequence_number is None or result.shard_id is None:
                raise StreamprocError(f"a record was refused: {result.error_message}")
            shards.setdefault(result.shard_id, []).append(result.sequence_number)
    return Published(shards=shards, mean_bytes=mean_bytes(list(entries)))


async def _load(spec: LoadSpec) -> None:
    entries = make_entries(spec.workload, spec.count, spec.seed)
    stream = StreamConfig(name=spec.stream, region="us-east-1", endpoint_url=spec.endpoint_url)
    async with open_kinesis(stream) as api:
        published = await fill(api, entries)
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(published))
    announce(LoadDone(published.count))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=LoadSpec)
    pin(given.core)
    run_loop(_load(given))
