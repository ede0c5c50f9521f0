"""A worker from stream to commit, over real HTTP and a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamproc.errors import ConfigError, StateLost, StreamError, StreamRecreated
from streamproc.worker import Worker
from tests.worker.group import Group, entry
from tests.worker.ledger import HaltingLedger, Ledger

ACCOUNTS = [f"account-{n}" for n in range(7)]


async def everything_in_order_and_once(group: Group, count: int) -> None:
    """The end state that every scenario here must reach."""
    expected = list(range(count))
    for account in ACCOUNTS:
        assert await group.numbers(account) == expected
    booked = await group.booked_ids()
    assert sorted(booked) == sorted(f"{a}-{n}" for a in ACCOUNTS for n in expected)


async def test_every_event_takes_effect_once_and_in_order(group: Group) -> None:
    group.publish_entries(range(200), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 200))
    await everything_in_order_and_once(group, 200)


async def test_duplicates_under_new_sequence_numbers_change_nothing(group: Group) -> None:
    group.publish_entries(range(50), ACCOUNTS)
    group.publish_entries(range(50), ACCOUNTS)  # across batches
    group.publish((a, entry(50, a)) for a in ACCOUNTS for _ in range(3))  # inside one batch
    group.start(batch__records=64)
    await group.until(lambda: group.counted("records") == 103 * len(ACCOUNTS))
    await everything_in_order_and_once(group, 51)
    assert group.counted("duplicates") == 52 * len(ACCOUNTS)
    assert group.counted("processed") == 51 * len(ACCOUNTS)


async def test_ids_with_a_key_each_drop_duplicates_as_well(group: Group) -> None:
    group.publish_entries(range(30), ACCOUNTS)
    group.publish_entries(range(30), ACCOUNTS)
    group.start(dedupe__layout="keys")
    await group.until(lambda: group.counted("records") == 60 * len(ACCOUNTS))
    await everything_in_order_and_once(group, 30)
    assert group.counted("duplicates") == 30 * len(ACCOUNTS)
    worker = group.start(dedupe__layout="sets")
    with pytest.raises(ConfigError, match=r"dedupe\.layout = sets, but group .* made with keys"):
        await group.workers.pop(worker)


async def test_a_ttl_shorter_than_the_retention_is_told_or_refused(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    worker = group.start(dedupe__ttl=3_600)
    await group.until(lambda: "dedupe.ttl = 3600 s is shorter than the 24 h" in caplog.text)
    assert "set dedupe.ttl to 86400 or more" in caplog.text
    await group.stop(worker)
    refusing = group.start(dedupe__ttl=86_399, dedupe__on_short_ttl="refuse")
    with pytest.raises(ConfigError, match=r"set dedupe\.ttl to 86400 or more, or"):
        await group.workers.pop(refusing)
    caplog.clear()
    worker = group.start(dedupe__ttl=86_400, dedupe__on_short_ttl="refuse")
    await group.until(lambda: worker.status().state == "running")
    assert "dedupe.ttl" not in caplog.text


async def test_a_failing_event_becomes_a_dead_letter_and_the_rest_flows_on(group: Group) -> None:
    group.publish_entries(range(10), ACCOUNTS)
    group.publish([("account-0", entry(-1, "account-0")), ("account-1", entry(-2, "account-1"))])
    garbage = b"\xff\xfe not json"
    group.publish([("account-2", garbage)])
    group.publish_entries(range(10, 20), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    await everything_in_order_and_once(group, 20)
    letters = {letter["reason"]: letter for letter in await group.dead_letters()}
    assert set(letters) == {b"negative", b"handler-failed", b"bad-json"}
    assert letters[b"bad-json"]["data"] == garbage
    assert letters[b"negative"]["attempts"] == b"1"
    failed = letters[b"handler-failed"]
    assert failed["attempts"] == b"2"
    assert failed["data"] == entry(-2, "account-1")
    assert b"cannot be booked" in failed["traceback"]
    assert failed["stream"] == b"ledger"
    assert failed["shard"].startswith(b"shardId-")
    assert failed["sequence"].isdigit()
    assert float(failed["arrival"]) > 0


async def test_a_stopped_worker_leaves_its_leases_to_the_next_one(group: Group) -> None:
    group.publish_entries(range(30), ACCOUNTS)
    first = group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 30))
    await group.stop(first)
    assert first.status().state == "stopped"
    group.publish_entries(range(30, 60), ACCOUNTS)
    second = group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 60))
    await everything_in_order_and_once(group, 60)
    assert group.counted("duplicates") == 0, "the second worker began where the first one ended"
    assert all(shard.epoch > 1 for shard in second.status().shards)


async def test_a_worker_can_be_stopped_at_any_moment_of_its_start(group: Group) -> None:
    group.publish_entries(range(5), ACCOUNTS)
    for turns in range(0, 400, 25):
        worker = group.start()
        for _ in range(turns):
            await asyncio.sleep(0)  # a turn of the event loop, not a wait
        async with asyncio.timeout(5):
            await group.stop(worker)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await everything_in_order_and_once(group, 5)


async def test_two_workers_share_the_shards_evenly(group: Group) -> None:
    first = group.start()
    await group.until(lambda: len(first.status().shards) == 2)
    second = group.start()
    await group.until(lambda: len(first.status().shards) == 1 and len(second.status().shards) == 1)
    group.publish_entries(range(100), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 100))
    await everything_in_order_and_once(group, 100)
    assert group.counted("duplicates") == 0


async def test_a_crashed_workers_shards_are_taken_over(group: Group) -> None:
    crashing = group.start()
    group.publish_entries(range(40), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 40))
    await group.kill(crashing)
    group.publish_entries(range(40, 80), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 80))
    await everything_in_order_and_once(group, 80)


async def test_order_survives_a_split_and_a_merge_under_load(group: Group) -> None:
    group.start(read__max_records=40)
    group.start(read__max_records=40)
    group.publish_entries(range(60), ACCOUNTS)
    first, second = group.shard_ids()
    group.split(first)
    await group.until(lambda: len(group.shard_ids()) == 3)
    group.publish_entries(range(60, 120), ACCOUNTS)
    middle = group.shard_ids()[2]
    group.merge(middle, second)
    await group.until(lambda: len(group.shard_ids()) == 2)
    group.publish_entries(range(120, 180), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 180))
    await everything_in_order_and_once(group, 180)
    await group.until(lambda: group.counted("records") == 180 * len(ACCOUNTS))


async def test_events_of_undeclared_types_are_counted_and_skipped_or_put_aside(
    group: Group,
) -> None:
    stranger = b'{"type":"Stranger","id":"1","data":{}}'
    group.publish([("a", stranger)])
    skipping = group.start()
    await group.until(lambda: group.counted("unknown") == 1)
    assert await group.dead_letters() == []
    await group.stop(skipping)
    group.publish([("a", stranger)])
    group.start(worker__on_unknown="dead-letter")
    await group.until(lambda: group.counted("dead_letters") == 1)
    assert [letter["reason"] for letter in await group.dead_letters()] == [b"unknown-type"]


async def test_a_missing_stream_ends_the_worker_with_a_message(group: Group) -> None:
    worker = group.start(stream__name="no-such-stream")
    with pytest.raises(StreamError, match="no-such-stream"):
        await group.workers.pop(worker)


async def test_a_worker_without_a_group_is_refused(group: Group) -> None:
    with pytest.raises(ConfigError, match="group is not set"):
        group.start(group="")


async def test_a_worker_that_waits_for_redis_can_be_stopped(group: Group) -> None:
    worker = group.start(redis__url="redis://127.0.0.1:1/0")
    assert not worker.status().ready
    await group.stop(worker)
    assert worker.status().state == "stopped"


async def test_another_redis_than_the_checkpoints_speak_of_halts_the_worker(
    group: Group,
) -> None:
    group.publish_entries(range(5), ACCOUNTS)
    first = group.start(leases__store="memory")
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await group.stop(first)
    await group.redis.flushall()
    worker = group.start(leases__store="memory")
    with pytest.raises(StateLost, match="on_state_loss"):
        await group.workers.pop(worker)
    group.start(leases__store="memory", worker__on_state_loss="replay")
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await everything_in_order_and_once(group, 5)


async def test_a_recreated_lease_table_does_not_lock_the_group_out(group: Group) -> None:
    group.publish_entries(range(5), ACCOUNTS)
    first = group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 5))
    await group.stop(first)
    await group.redis.delete(f"sp:{{{group.name}}}:leases")
    # Redis has seen higher epochs than the new leases' counters.
    group.publish_entries(range(5, 10), ACCOUNTS)
    group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, 10))
    await everything_in_order_and_once(group, 10)


async def test_a_stream_created_again_under_its_name_is_refused(group: Group) -> None:
    group.publish_entries(range(5), ACCOUNTS)
    await group.stop(await _booked(group, 5))
    rows = await group.redis.hgetall(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
    await group.recreate_stream(shards=2)
    again = group.start()
    with pytest.raises(StreamRecreated, match="streamproc checkpoints reset --all --yes"):
        await group.workers.pop(again)
    after = await group.redis.hgetall(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
    assert after == rows, "no lease was taken"


async def _booked(group: Group, count: int) -> Worker:
    worker = group.start()
    await group.until_booked(dict.fromkeys(ACCOUNTS, count))
    return worker


async def test_a_group_that_begins_at_latest_sees_what_comes_after_it_began(group: Group) -> None:
    group.publish_entries(range(5), ACCOUNTS)
    worker = group.start(stream__initial_position="LATEST")
    await group.until(lambda: group.shards_adopted(2))
    await group.stop(worker)  # before it has seen any record
    group.publish_entries(range(5, 9), ACCOUNTS)
    group.start(stream__initial_position="LATEST")
    await group.until_booked(dict.fromkeys(ACCOUNTS, 4))
    for account in ACCOUNTS:
        assert await group.numbers(account) == [5, 6, 7, 8], "nothing before, nothing skipped after"


async def test_leases_can_live_in_a_file(group: Group, tmp_path: Path) -> None:
    settings = {
        "leases__store": "sqlite",
        "leases__options__path": str(tmp_path / "leases.db"),
    }
    first, second = group.start(**settings), group.start(**settings)
    await group.until(lambda: len(first.status().shards) == len(second.status().shards) == 1)
    group.publish_entries(range(20), ACCOUNTS)
    await group.until_booked(dict.fromkeys(ACCOUNTS, 20))
    await everything_in_order_and_once(group, 20)


async def test_a_halting_policy_stops_the_shard_there_and_goes_on_once_mended(
    group: Group,
) -> None:
    group.publish_entries(range(3), ACCOUNTS[:1])
    group.publish([(ACCOUNTS[0], entry(-2, ACCOUNTS[0])), (ACCOUNTS[0], entry(3, ACCOUNTS[0]))])
    halting = group.start(HaltingLedger())
    await group.until(lambda: "halted" in [s.phase for s in halting.status().shards])
    assert await group.numbers(ACCOUNTS[0]) == [0, 1, 2], "what came before it is committed"
    await group.stop(halting)
    assert await group.dead_letters() == []
    group.start(Ledger())
    await group.until_booked({ACCOUNTS[0]: 4})
    assert await group.numbers(ACCOUNTS[0]) == [0, 1, 2, 3]
    assert len(await group.dead_letters()) == 1
