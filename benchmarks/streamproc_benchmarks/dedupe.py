"""What remembering event ids costs in Redis: memory and round trips, for both layouts."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any, Final, get_args

import msgspec
from rich.console import Console

from streamproc.position import TRIM_HORIZON, Position
from streamproc.redis_client import connect_redis
from streamproc.state.dedupe import Layout
from streamproc.state.redis_store import RedisStateStore
from streamproc.state.store import Commit
from streamproc.testing import EmbeddedRedis
from streamproc_benchmarks.charts import Chart, PercentileChart
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.server import redis_version
from streamproc_benchmarks.statistics import percentile
from streamproc_benchmarks.tables import new_table

__all__ = ["Dedupe", "DedupeCost", "measure_dedupe", "print_dedupe"]

LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

_SHARD: Final = "bench/shardId-000000000000"
_TTL_S: Final = 172_800.0
_CALL_TIMEOUT_S: Final = 60.0
_SHARES: Final = (0.0001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


class DedupeCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one layout cost.

    Attributes:
        mb_per_million: growth of the server's `used_memory` in MB (10^6 bytes) for a million ids.
        check_ms: of each batch, the round trip that looks for its ids.
        commit_ms: of each batch, the round trip that marks them and moves the position.
        duplicates_ms: of a few batches, the look for ids that are all marked already.
        server_us_per_id: the server's CPU time for check and commit, as it says itself.
    """

    layout: Layout
    ids: int
    batch: int
    mb_per_million: float
    check_ms: list[float]
    commit_ms: list[float]
    duplicates_ms: list[float]
    server_us_per_id: float


class Dedupe(msgspec.Struct, frozen=True, kw_only=True):
    """What all layouts cost, each in a fresh server."""

    costs: list[DedupeCost]

    def figures(self) -> list[Figure]:
        """Memory, round trips and the server's CPU time, layout by layout."""
        return [
            Figure(name=f"dedupe.{cost.layout}.{name}", unit=unit, better="less", values=[value])
            for cost in self.costs
            for name, unit, value in (
                ("mb_per_million", "MB", cost.mb_per_million),
                ("check_p50_ms", "ms", percentile(cost.check_ms, 0.5)),
                ("check_p99_ms", "ms", percentile(cost.check_ms, 0.99)),
                ("commit_p50_ms", "ms", percentile(cost.commit_ms, 0.5)),
                ("commit_p99_ms", "ms", percentile(cost.commit_ms, 0.99)),
                ("server_us_per_id", "us", cost.server_us_per_id),
            )
        ]

    def bars(self) -> list[Bar]:
        """Return none: no bar was set for a layout."""
        return []

    def charts(self) -> list[Chart]:
        """Draw the percentiles of the round trips of all batches."""
        return [
            PercentileChart(
                title=f"Round trips of a batch of {self.costs[0].batch:,} ids",
                unit="ms",
                curves={
                    f"{cost.layout}: {step}": [(at, percentile(values, at)) for at in _SHARES]
                    for cost in self.costs
                    for step, values in (("check", cost.check_ms), ("commit", cost.commit_ms))
                },
            )
        ]

    def caveats(self) -> list[str]:
        """Return none: each id and its mark is checked while it is measured."""
        return []


async def measure_dedupe(ids: int, batch: int) -> tuple[Environment, Dedupe]:
    """Mark `ids` in batches, in a fresh server for each layout."""
    costs, version = [], ""
    before = read_environment(pinning="not pinned: client and server share what is free")
    for layout in LAYOUTS:
        async with EmbeddedRedis() as server:
            version = await redis_version(server.url)
            client = connect_redis(server.url, _CALL_TIMEOUT_S)
            store = RedisStateStore(client, "bench", _TTL_S, layout=layout)
            try:
                costs.append(await _measure(client, store, layout, ids, batch))
            finally:
                await store.aclose()
    return msgspec.structs.replace(before, redis_server=version), Dedupe(costs=costs)


async def _measure(
    client: Any, store: RedisStateStore, layout: Layout, ids: int, batch: int
) -> DedupeCost:
    await store.adopt(_SHARD, 1, TRIM_HORIZON)
    position = TRIM_HORIZON
    memory, cpu = await _used(client)
    check_ms, commit_ms = [], []
    for first in range(0, ids, batch):
        digests = _digests(first, min(batch, ids - first))
        started = time.perf_counter()
        found = await store.check(digests, [])
        checked = time.perf_counter()
        end = Position(str(first + 1))
        commit = Commit(
            shard=_SHARD, epoch=1, start=position, end=end, bucket=found.bucket, digests=digests
        )
        result = await store.commit(commit)
        check_ms.append((checked - started) * 1e3)
        commit_ms.append((time.perf_counter() - checked) * 1e3)
        assert (result.outcome, found.committed) == ("OK", set()), "every id is new"
        position = end
    used, spent = await _used(client)
    duplicates_ms = []
    for first in range(0, min(ids, 50 * batch), batch):
        digests = _digests(first, min(batch, ids - first))
        started = time.perf_counter()
        seen = (await store.check(digests, [])).committed
        duplicates_ms.append((time.perf_counter() - started) * 1e3)
        assert len(seen) == len(digests), "every id is known"
    return DedupeCost(
        layout=layout,
        ids=ids,
        batch=batch,
        mb_per_million=(used - memory) / ids,
        check_ms=check_ms,
        commit_ms=commit_ms,
        duplicates_ms=duplicates_ms,
        server_us_per_id=(spent - cpu) / ids * 1e6,
    )


def print_dedupe(found: Dedupe, console: Console) -> None:
    """Print one row a layout."""
    ids, batch = found.costs[0].ids, found.costs[0].batch
    table = new_table(
        f"{ids:,} ids in batches of {batch:,}; times are p50 / p99 of a batch",
        (
            *("MB a million ids", "check, ms", "commit, ms", "check of known ids, ms"),
            "server CPU, us an id",
        ),
        "layout",
    )
    for cost in found.costs:
        table.add_row(
            cost.layout,
            f"{cost.mb_per_million:.1f}",
            *[
                f"{percentile(values, 0.5):.2f} / {percentile(values, 0.99):.2f}"
                for values in (cost.check_ms, cost.commit_ms, cost.duplicates_ms)
            ],
            f"{cost.server_us_per_id:.2f}",
        )
    console.print(table)


def _digests(first: int, count: int) -> list[bytes]:
    return [
        blake2b(b"BenchmarkEvent\0%d" % number, digest_size=16).digest()
        for number in range(first, first + count)
    ]


async def _used(client: Any) -> tuple[int, float]:
    info: dict[str, Any] = await client.info("all")
    return info["used_memory"], info["used_cpu_user"] + info["used_cpu_sys"]
