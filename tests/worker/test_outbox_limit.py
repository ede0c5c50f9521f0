"""A worker whose outbox is full waits, says so, and goes on when there is room."""

from __future__ import annotations

import base64
import json

from tests.worker.group import Group
from tests.worker.ledger import Ledger

ACCOUNTS = [f"account-{n}" for n in range(4)]
LIMIT, BATCH, SHARDS = 10, 5, 2


async def test_processing_waits_for_room_in_the_outbox_and_resumes(group: Group) -> None:
    worker = group.start(Ledger(), outbox__max_entries=LIMIT, batch__records=BATCH)
    outbox = f"sp:{{{group.name}:0}}:outbox"
    group.publish_entries(range(25), ACCOUNTS)
    await group.until(lambda: any(each.waits_for_outbox for each in worker.status().shards))
    taken: list[str] = []
    while len(taken) < 25 * len(ACCOUNTS):
        waiting = await group.redis.xrange(outbox)
        assert len(waiting) <= LIMIT + SHARDS * BATCH, "each shard may be one batch over"
        for entry_id, fields in waiting:
            taken.append(fields[b"cause"].decode())
            await group.redis.xdel(outbox, entry_id)
    assert sorted(taken) == sorted(f"{a}-{n}" for a in ACCOUNTS for n in range(25))
    await group.until_booked(dict.fromkeys(ACCOUNTS, 25))
    assert group.counted("outbox_waits") > 0
    await group.until(lambda: not any(s.waits_for_outbox for s in worker.status().shards))


async def test_with_a_relay_all_of_it_arrives_though_the_outbox_is_small(group: Group) -> None:
    group.kinesis.core.call("CreateStream", StreamName="out", ShardCount=1)
    group.start(
        Ledger(),
        outbox__max_entries=LIMIT,
        batch__records=BATCH,
        outbox__sink="kinesis",
        outbox__options={"stream": "out", "endpoint_url": group.kinesis.endpoint_url},
    )
    group.publish_entries(range(40), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 40), timeout=60)

    async def empty() -> bool:
        return int(await group.redis.xlen(f"sp:{{{group.name}:0}}:outbox")) == 0

    await group.until(empty)
    (shard,) = group.kinesis.core.call("ListShards", StreamName="out")["Shards"]
    iterator = group.kinesis.core.call(
        "GetShardIterator",
        StreamName="out",
        ShardId=shard["ShardId"],
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    records = group.kinesis.core.call("GetRecords", ShardIterator=iterator)["Records"]
    events = [json.loads(base64.b64decode(record["Data"])) for record in records]
    for account in ACCOUNTS:
        own = [e["data"]["entry_id"] for e in events if e["data"]["entry_id"].startswith(account)]
        assert own == [f"{account}-{n}" for n in range(40)]
