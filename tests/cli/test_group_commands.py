"""Looking at a group and moving its place, over real HTTP and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamproc.admin.group import open_group
from streamproc.admin.moves import apply_move
from streamproc.admin.plans import plan_all
from streamproc.cli.main import app
from streamproc.errors import StreamprocError
from streamproc.leases.lease import taken
from streamproc.position import LATEST, TRIM_HORIZON
from streamproc.settings import load_config
from streamproc.testing import LocalKinesis
from streamproc_checkpoints.redis import open_store
from tests.worker.group import Group

ACCOUNTS = [f"account-{n}" for n in range(7)]


@pytest.fixture
async def group(local_kinesis: LocalKinesis, redis_url: str) -> AsyncIterator[Group]:
    async with Group(local_kinesis, redis_url, shards=2) as made:
        yield made


async def command(group: Group, *arguments: str, **settings: Any) -> str:
    """Run a command as the group's operator; return what it printed, raise what it raised."""
    flags = []
    for key, value in group.settings(**settings).items():
        flags += ["--set", f"{key}={json.dumps(value)}"]

    def invoke() -> str:
        result = CliRunner().invoke(app, [*arguments, *flags], env={"COLUMNS": "200"})
        if result.exception is not None:
            raise result.exception
        return result.output

    return await asyncio.to_thread(invoke)


async def refused(group: Group, *arguments: str) -> str:
    with pytest.raises(StreamprocError) as error:
        await command(group, *arguments)
    return str(error.value)


async def haunted(group: Group) -> str:
    """Give the group leases whose owner died; return its name."""
    await command(group, "checkpoints", "set", "TRIM_HORIZON", "--all", "--yes")
    store = await open_store(group.name, {"url": group.redis_url})
    for row in await store.list():
        await store.replace(row, taken(row, "ghost"))
    await store.aclose()
    return "ghost"


async def checkpointed(group: Group) -> bool:
    """Tell whether the leases' checkpoints are where the shards are in Redis."""
    views = json.loads(await command(group, "checkpoints", "show", "--json"))
    return all(view["positions"] == [view["checkpoint"]] for view in views)


async def booked(group: Group, count: int, **settings: Any) -> None:
    """Let a worker book that many entries of each account, and stop it."""
    worker = group.start(**settings)
    await group.until_booked(dict.fromkeys(ACCOUNTS, count))
    await group.stop(worker)


class TestShards:
    async def test_the_tree_shows_lineage_state_owner_and_share(self, group: Group) -> None:
        first, second = group.shard_ids()
        group.split(first)
        _, low, high = group.shard_ids()
        group.merge(high, second)
        worker = group.start()
        await group.until(lambda: group.shards_adopted(2))
        shown = await command(group, "shards", "--tree")
        lines = shown.splitlines()
        merged = group.shard_ids()[1]
        assert lines[0] == f"{first}  finished  50.00%  closed"
        assert lines[1] == f"├── {low}  held  25.00%  open  {worker.worker_id}"
        assert lines[2] == f"└── {high}  finished  25.00%  closed"
        assert lines[3].startswith(
            f"    └── {merged}  held  75.00%  open  {worker.worker_id}  merged"
        )
        assert lines[4] == f"{second}  finished  50.00%  closed"
        assert lines[5].split() == ["└──", merged, "drawn", "at", high]

    async def test_the_table_leaves_finished_shards_out_unless_asked(self, group: Group) -> None:
        first, _ = group.shard_ids()
        group.split(first)
        group.start()
        await group.until(lambda: group.shards_adopted(3))
        assert first not in await command(group, "shards")
        assert first in await command(group, "shards", "--all")
        views = json.loads(await command(group, "shards", "--json"))
        assert [view["state"] for view in views] == ["finished", "held", "held", "held"]
        assert sum(view["share"] for view in views if view["is_open"]) == 1

    async def test_a_group_that_never_ran_has_no_leases(self, group: Group) -> None:
        assert (await command(group, "shards")).count("no lease") == 2
        assert not await group.redis.keys("*")


class TestLeases:
    @pytest.mark.parametrize("renewal", ["lease", "worker"])
    async def test_live_and_silent_owners_are_told_apart(self, group: Group, renewal: str) -> None:
        group.defaults["leases.renewal"] = renewal
        worker = group.start()
        await group.until(lambda: group.shards_adopted(2))
        shown = await command(group, "leases", "show", "--live")
        assert shown.count(f"{worker.worker_id} (alive)") == 2
        await group.stop(worker)
        ghost = await haunted(group)
        shown = await command(group, "leases", "show", "--live")
        assert shown.count(f"{ghost} (silent)") == 2

    async def test_a_live_workers_lease_is_not_released(self, group: Group) -> None:
        worker = group.start()
        await group.until(lambda: group.shards_adopted(2))
        message = await refused(group, "leases", "release", "--worker", worker.worker_id, "--yes")
        assert f"held by live workers ({worker.worker_id})" in message
        views = json.loads(await command(group, "leases", "show", "--json"))
        assert {view["owner"] for view in views} == {worker.worker_id}

    async def test_by_force_it_is(self, group: Group) -> None:
        worker = group.start()
        await group.until(lambda: group.shards_adopted(2))
        shard = group.shard_ids()[0]
        done = await command(group, "leases", "release", shard, "--force", "--yes")
        assert "released 1 leases" in done
        await group.until(lambda: worker.status().lease_changes["lost"] == 1)
        await group.until(lambda: group.shards_adopted(2))

    async def test_a_dead_workers_leases_are_released_after_a_plan(self, group: Group) -> None:
        flags = ("leases", "release", "--worker", await haunted(group))
        assert "nothing was changed" in await command(group, *flags)
        assert "released 2 leases" in await command(group, *flags, "--yes")
        views = json.loads(await command(group, "leases", "show", "--json"))
        assert {view["state"] for view in views} == {"free"}
        assert "no lease is owned" in await refused(group, *flags)

    async def test_an_unknown_shard_is_told(self, group: Group) -> None:
        assert "there is no lease of nope" in await refused(group, "leases", "release", "nope")


class TestMoving:
    @pytest.mark.parametrize("renewal", ["lease", "worker"])
    async def test_a_live_worker_is_not_moved(self, group: Group, renewal: str) -> None:
        group.defaults["leases.renewal"] = renewal
        group.publish_entries(range(5), ACCOUNTS)
        worker = group.start()
        await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
        await group.until(lambda: checkpointed(group))
        places = await command(group, "checkpoints", "export")
        for what in (
            ("set", "TRIM_HORIZON", "--all", "--yes"),
            ("set", "TRIM_HORIZON", group.shard_ids()[0], "--yes"),
            ("reset", "--all", "--yes"),
        ):
            message = await refused(group, "checkpoints", *what)
            assert f"live workers ({worker.worker_id})" in message
            assert "stop them" in message
        assert await command(group, "checkpoints", "export") == places

    async def test_without_yes_the_plan_is_all_there_is(self, group: Group) -> None:
        group.publish_entries(range(30), ACCOUNTS)
        await booked(group, 30)
        before = await command(group, "checkpoints", "export")
        shown = await command(group, "checkpoints", "set", "TRIM_HORIZON", "--all")
        repeated = [int(line.split("repeats ")[1].split()[0]) for line in shown.splitlines()[1:3]]
        assert sum(repeated) == 30 * len(ACCOUNTS)
        assert "dropped as duplicates" in shown
        assert "nothing was changed" in shown
        assert await command(group, "checkpoints", "export") == before

    async def test_what_is_read_again_has_no_effect_while_its_marks_last(
        self, group: Group
    ) -> None:
        group.publish_entries(range(10), ACCOUNTS)
        await booked(group, 10)
        assert "moved 2 shards" in await command(
            group, "checkpoints", "set", "TRIM_HORIZON", "--all", "--yes"
        )
        worker = group.start()
        await group.until(lambda: group.counted("duplicates") == 10 * len(ACCOUNTS))
        await group.stop(worker)
        assert [await group.numbers(account) for account in ACCOUNTS] == [list(range(10))] * 7

    @pytest.mark.parametrize("partitions", [1, 3])
    async def test_without_marks_everything_happens_again_in_order_through_reshards(
        self, group: Group, partitions: int
    ) -> None:
        group.defaults["redis.partitions"] = partitions
        group.publish_entries(range(5), ACCOUNTS)
        first, second = group.shard_ids()
        group.split(first)
        group.publish_entries(range(5, 10), ACCOUNTS)
        group.merge(group.shard_ids()[2], second)
        group.publish_entries(range(10, 15), ACCOUNTS)
        worker = group.start()
        await group.until(lambda: group.counted("processed") == 15 * len(ACCOUNTS))
        await group.stop(worker)
        done = await command(
            group, "checkpoints", "set", "TRIM_HORIZON", "--all", "--forget-marks", "--yes"
        )
        assert f"dropped {15 * len(ACCOUNTS)} dedupe marks" in done
        again = group.start()
        await group.until(lambda: group.counted("processed") == 15 * len(ACCOUNTS))
        await group.stop(again)
        for account in ACCOUNTS:
            key = f"{group.name}:{_partition(account, partitions)}"
            raw = await group.redis.hget(f"sp:{{{key}}}:s:ledger:{account}", "d")  # type: ignore[misc]
            assert json.loads(raw)["numbers"] == [*range(15), *range(15)]

    async def test_records_can_be_passed_over(self, group: Group) -> None:
        group.publish_entries(range(5), ACCOUNTS)
        await booked(group, 5)
        group.publish_entries(range(5, 9), ACCOUNTS)
        published = time.time()
        # Kinesis tells arrival times to the millisecond.
        await group.until(lambda: time.time() >= published + 0.001)
        done = await command(group, "checkpoints", "set", "LATEST", "--all", "--yes")
        assert "passes over" in done
        assert "never processed by this group" in done
        group.publish_entries(range(9, 12), ACCOUNTS)
        group.start()
        await group.until_booked(dict.fromkeys(ACCOUNTS, 8))
        for account in ACCOUNTS:
            assert await group.numbers(account) == [*range(5), *range(9, 12)]

    async def test_one_shard_goes_back_to_a_sequence_number(self, group: Group) -> None:
        group.publish_entries(range(6), ACCOUNTS)
        await booked(group, 6)
        shard = group.shard_ids()[0]
        iterator = group.kinesis.core.call(
            "GetShardIterator",
            StreamName=group.stream,
            ShardId=shard,
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        records = group.kinesis.core.call("GetRecords", ShardIterator=iterator)["Records"]
        number = records[3]["SequenceNumber"]
        done = await command(group, "checkpoints", "set", number, shard, "--yes")
        assert f"repeats {len(records) - 4} records" in done
        shown = json.loads(await command(group, "checkpoints", "show", "--json"))
        assert shown[0]["positions"] == [f"{number}:0"]
        assert shown[0]["checkpoint"] == f"{number}:0"
        group.start()
        await group.until(lambda: group.counted("duplicates") == len(records) - 4)

    async def test_whoever_held_the_shard_before_can_commit_nothing_more(
        self, group: Group
    ) -> None:
        group.publish_entries(range(3), ACCOUNTS)
        await booked(group, 3)
        key = f"sp:{{{group.name}:0}}:pos"
        before = await group.redis.hgetall(key)  # type: ignore[misc]
        await command(group, "checkpoints", "set", "TRIM_HORIZON", "--all", "--yes")
        after = await group.redis.hgetall(key)  # type: ignore[misc]
        for field, value in before.items():
            assert int(after[field].split(b"|")[0]) > int(value.split(b"|")[0])

    async def test_a_worker_that_takes_the_lease_meanwhile_wins(self, group: Group) -> None:
        await haunted(group)
        async with open_group(load_config(None, {}, group.settings())) as admin:
            first, second = await plan_all(admin, LATEST)
            await admin.leases.replace(first.lease, taken(first.lease, "somebody"))
            assert not await apply_move(admin, first)
            assert await apply_move(admin, second)
            places = await admin.places[0].read(group.stream)
            assert places[first.shard].position == TRIM_HORIZON
            assert places[second.shard].position == LATEST
            rows = await admin.rows()
        assert rows[first.shard].owner == "somebody"
        assert rows[second.shard].owner is None

    async def test_a_finished_shard_is_not_moved_alone(self, group: Group) -> None:
        first = group.shard_ids()[0]
        group.split(first)
        worker = group.start()
        await group.until(lambda: group.shards_adopted(3))
        await group.stop(worker)
        message = await refused(group, "checkpoints", "set", "TRIM_HORIZON", first)
        assert "--all" in message

    async def test_reset_begins_anew_where_the_configuration_says(self, group: Group) -> None:
        group.publish_entries(range(4), ACCOUNTS)
        await booked(group, 4)
        done = await command(group, "checkpoints", "reset", "--all", "--yes", "--forget-marks")
        assert "begins anew" in done
        assert not await group.redis.hgetall(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
        assert not await group.redis.hgetall(f"sp:{{{group.name}:0}}:pos")  # type: ignore[misc]
        group.start()
        await group.until_booked(dict.fromkeys(ACCOUNTS, 8))
        assert await group.numbers(ACCOUNTS[0]) == [0, 1, 2, 3, 0, 1, 2, 3]

    async def test_reset_lets_a_recreated_stream_begin(self, group: Group) -> None:
        group.publish_entries(range(4), ACCOUNTS)
        await booked(group, 4)
        await group.recreate_stream(shards=2)
        await command(group, "checkpoints", "reset", "--all", "--yes")
        group.publish_entries(range(4, 8), ACCOUNTS)
        await booked(group, 8)
        assert await group.numbers(ACCOUNTS[0]) == list(range(8))

    async def test_places_go_to_a_file_and_come_back(self, group: Group, tmp_path: Path) -> None:
        group.publish_entries(range(4), ACCOUNTS)
        await booked(group, 4)
        path = tmp_path / "places.json"
        assert "2 shards" in await command(group, "checkpoints", "export", "-o", str(path))
        group.publish_entries(range(4, 7), ACCOUNTS)
        await booked(group, 7)
        done = await command(group, "checkpoints", "import", str(path), "--yes")
        assert "repeats" in done
        assert json.loads(await command(group, "checkpoints", "export")) == json.loads(
            path.read_bytes()
        )
        group.start()
        await group.until(lambda: group.counted("duplicates") == 3 * len(ACCOUNTS))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"stream": "other"}, "its stream is other, here it is ledger"),
            ({"partitions": 2}, "its number of partitions is 2, here it is 1"),
            ({"stream_created": 1}, "its creation time of the stream is 1"),
            ({"shards": [{"shard": "x", "checkpoint": "LATEST", "positions": []}]}, "no lease"),
            (
                {"shards": [{"shard": "shardId-000000000000", "checkpoint": "?", "positions": []}]},
                "not a stream position: '?'",
            ),
            ({"shard": []}, "is not what `checkpoints export` writes"),
        ],
    )
    async def test_a_file_that_does_not_fit_is_refused(
        self, group: Group, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        await command(group, "checkpoints", "set", "TRIM_HORIZON", "--all", "--yes")
        path = tmp_path / "places.json"
        await command(group, "checkpoints", "export", "-o", str(path))
        path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
        assert message in await refused(group, "checkpoints", "import", str(path))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("set", "yesterday", "--all"), "'yesterday' is no position"),
            (("set", "LATEST"), "name the shards to move, or --all"),
            (("set", "LATEST", "x", "--all"), "not both"),
            (("set", "12345", "--all"), "of one shard"),
            (("set", "LATEST", "nope"), "there is no lease of nope"),
            (("import", os.devnull), "is not what `checkpoints export` writes"),
            (("import", "/nowhere"), "cannot be read"),
        ],
    )
    async def test_mistakes_are_told(
        self, group: Group, arguments: tuple[str, ...], message: str
    ) -> None:
        assert message in await refused(group, "checkpoints", *arguments)

    async def test_how_far_behind_is_shown(self, group: Group) -> None:
        group.publish_entries(range(4), ACCOUNTS)
        await booked(group, 4)
        shown = json.loads(await command(group, "checkpoints", "show", "--behind", "--json"))
        assert [view["behind_seconds"] for view in shown] == [0.0, 0.0]
        group.publish_entries(range(4, 5), ACCOUNTS)
        shown = json.loads(await command(group, "checkpoints", "show", "--behind", "--json"))
        assert all(0 < view["behind_seconds"] < 30 for view in shown)

    async def test_the_memory_store_cannot_be_looked_into(self, group: Group) -> None:
        with pytest.raises(StreamprocError, match="its own process only"):
            await command(group, "leases", "show", leases__store="memory")


def _partition(account: str, partitions: int) -> int:
    from streamproc.state.keys import partition_of_key

    return partition_of_key(account, partitions)
