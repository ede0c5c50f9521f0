"""What remembering event ids costs in Redis: memory and round trips, for both layouts."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any, Final, get_args

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from streamproc.position import TRIM_HORIZON, Position
from streamproc.redis_client import connect_redis
from streamproc.state.dedupe import Layout
from streamproc.state.store import Commit, RedisStateStore
from streamproc.testing import EmbeddedRedis
from streamproc_benchmarks.statistics import percentile

__all__ = ["DedupeCost", "measure_dedupe", "print_dedupe"]

LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)

_SHARD: Final = "bench/shardId-000000000000"
_TTL_S: Final = 172_800.0
_CALL_TIMEOUT_S: Final = 60.0


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


async def measure_dedupe(ids: int, batch: int) -> tuple[str, list[DedupeCost]]:
    """Mark `ids` in batches, in a fresh server for each layout; return its name and the costs."""
    costs, name = [], ""
    for layout in LAYOUTS:
        async with EmbeddedRedis() as server:
            client = connect_redis(server.url, _CALL_TIMEOUT_S)
            store = RedisStateStore(client, "bench", _TTL_S, layout=layout)
            try:
                info: dict[str, Any] = await client.info("server")
                kind = info.get("server_name", "redis")
                name = f"{kind} {info.get(f'{kind}_version', info['redis_version'])}"
                costs.append(await _measure(client, store, layout, ids, batch))
            finally:
                await store.aclose()
    return name, costs


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


def print_dedupe(server: str, costs: list[DedupeCost], console: Console) -> None:
    """Print one row a layout."""
    ids, batch = costs[0].ids, costs[0].batch
    table = Table(
        *("layout", "MB a million ids", "check, ms", "commit, ms", "check of known ids, ms"),
        "server CPU, us an id",
        title=f"{ids:,} ids in batches of {batch:,}, {server}; times are p50 / p99 of a batch",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for cost in costs:
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
