"""A processor of sales, and what it leaves in Redis for others to read."""

from __future__ import annotations

import msgspec

from streamproc import (
    Context,
    Event,
    Processor,
    on,
)
from streamproc.pipeline.chain import ChainStart
from streamproc.pipeline.engine import Engine
from streamproc.pipeline.gate import KeyGate
from streamproc.pipeline.routes import Routes
from streamproc.pipeline.transaction import Transactor
from streamproc.position import TRIM_HORIZON
from streamproc.redis_client import connect_redis
from streamproc.state.cache import CellCache
from streamproc.state.partitions import claim_partitions
from streamproc.state.redis_store import RedisStateStore
from streamproc.testing import Harness

GROUP = "shop"


class Sold(Event, id="sale_id"):
    sale_id: str
    sku: str
    place: str
    amount: int = 1


class Shelf(msgspec.Struct):
    sold: int = 0


class Shelves(Processor[Shelf]):
    @on(Sold, key=lambda e: (e.sku, e.place), counters=lambda e: [(e.sku, "all")])
    def sold(self, event: Sold, ctx: Context[Shelf]) -> None:
        ctx.state.sold += event.amount
        counter = ctx.counters[event.sku, "all"]
        counter.add("sold", event.amount)
        counter.add("by-day", event.amount, bucket=7)
        counter.distinct("places", event.place)


async def sell(url: str, *sales: Sold, partitions: int = 1) -> None:
    """Process sales as a worker would, in Redis."""
    client = connect_redis(url, 5.0)
    stores = tuple(RedisStateStore(client, GROUP, 3_600.0, at) for at in range(partitions))
    await claim_partitions(client, GROUP, partitions)
    engine = Engine(
        group=GROUP,
        stream="sales",
        routes=Routes([Shelves()], [store.keys for store in stores]),
        stores=stores,
        cache=CellCache(1_000_000),
        gate=KeyGate(),
    )
    shard = "shardId-000000000000"
    adopted = [await store.adopt(f"sales/{shard}", 1, TRIM_HORIZON) for store in stores]
    starts = [ChainStart(each.position or TRIM_HORIZON, each.timers) for each in adopted]
    records = [Harness(Shelves()).record(sale) for sale in sales]
    numbered = [
        msgspec.structs.replace(record, sequence_number=str(number))
        for number, record in enumerate(records, start=1)
    ]
    await Transactor(engine, shard, 1, starts).process(numbered)
    await client.aclose()
