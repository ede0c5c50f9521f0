"""Fleets of workers in virtual time. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from streamproc.config import LeaseConfig
from streamproc.leases.lease import Lease, asked_to_hand_over, taken
from streamproc.position import SHARD_END, TRIM_HORIZON, Position
from tests import virtual_time
from tests.leases.fleet import CONFIG, Fleet, in_fleet

FleetTest = Callable[[Fleet], Awaitable[None]]
CRASH_TAKEOVER = CONFIG.duration + CONFIG.scan_interval
LITTLE = 0.1
"""Seconds for the calls of a store and for looking."""


def fleet_test(test: FleetTest) -> Callable[..., None]:
    """Make a test, be it in a class or not, that runs in virtual time."""

    def run(_self: object = None) -> None:
        in_fleet(test)

    run.__doc__ = test.__doc__
    return run


class TestTakeOver:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_crashed_workers_leases_are_taken_within_a_duration_and_a_scan(
        self, seed: int
    ) -> None:
        async def test(fleet: Fleet) -> None:
            await fleet.shards(6)
            dead, _, _ = fleet.start("a"), fleet.start("b"), fleet.start("c")
            await fleet.until(lambda: fleet.loads() == [2, 2, 2], 60)
            await asyncio.sleep(fleet.rng.uniform(0, 5))
            await dead.crash()
            took = await fleet.until(lambda: fleet.holders().total() == 6, 60)
            assert CONFIG.duration * 0.6 < took <= CRASH_TAKEOVER + LITTLE

        in_fleet(test, seed)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_clean_stop_is_taken_over_within_one_scan(self, seed: int) -> None:
        async def test(fleet: Fleet) -> None:
            await fleet.shards(6)
            leaver, _ = fleet.start("a"), fleet.start("b")
            await fleet.until(lambda: fleet.loads() == [3, 3], 60)
            await leaver.stop()
            took = await fleet.until(lambda: fleet.loads() == [6], 60)
            assert took <= CONFIG.scan_interval

        in_fleet(test, seed)

    @fleet_test
    async def test_a_restart_under_the_same_id_resumes_at_once_with_higher_epochs(
        fleet: Fleet,
    ) -> None:
        await fleet.shards(4)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [4], 5)
        await worker.crash()
        fleet.start("a")  # `Fleet.acquired` checks the epochs.
        assert await fleet.until(lambda: fleet.loads() == [4], 5) < LITTLE

    @fleet_test
    async def test_a_hand_over_that_a_restart_interrupted_is_completed_at_once(
        fleet: Fleet,
    ) -> None:
        row = Lease(key="s", owner="b", checkpoint_owner="a", counter=3, checkpoint=TRIM_HORIZON)
        await fleet.table.create(row)
        fleet.start("a")
        await asyncio.sleep(LITTLE)
        assert (await fleet.rows())["s"].checkpoint_owner is None
        heir = fleet.start("b")
        await fleet.until(lambda: "s" in heir.epochs, LITTLE)


class TestSpread:
    @pytest.mark.parametrize("workers", [1, 2, 3, 5])
    @pytest.mark.parametrize("shards", [4, 17, 64])
    def test_leases_spread_evenly_and_then_rest(self, workers: int, shards: int) -> None:
        async def test(fleet: Fleet) -> None:
            await fleet.shards(shards)
            for n in range(workers):
                fleet.start(f"w{n}")
            await self._settled(fleet, shards)

        in_fleet(test, seed=workers * shards)

    @pytest.mark.parametrize("shards", [5, 64])
    def test_workers_that_come_and_go_are_balanced_for(self, shards: int) -> None:
        async def test(fleet: Fleet) -> None:
            await fleet.shards(shards)
            for n in range(5):
                fleet.start(f"w{n}")
                await self._settled(fleet, shards)
            for _ in range(2):
                await fleet.workers[0].stop()
                await self._settled(fleet, shards)

        in_fleet(test, seed=shards)

    @staticmethod
    async def _settled(fleet: Fleet, shards: int) -> None:
        def even() -> bool:
            loads = fleet.loads()
            return sum(loads) == shards and loads[-1] - loads[0] <= 1

        def acquired() -> int:
            return sum(worker.leases.statistics().acquired for worker in fleet.workers)

        await fleet.until(even, 200)
        before = acquired()
        for _ in range(30):  # Nothing moves for a minute.
            await asyncio.sleep(2)
            assert even()
        assert acquired() == before
        assert max(fleet.holders().values()) == 1

    @fleet_test
    async def test_the_cap_is_kept_and_the_rest_left_for_others(fleet: Fleet) -> None:
        await fleet.shards(7)
        config = msgspec.structs.replace(CONFIG, max_leases=2)
        for name in "abc":
            fleet.start(name, config)
        await asyncio.sleep(100)
        assert fleet.loads() == [2, 2, 2]


class TestHandOver:
    @fleet_test
    async def test_the_owner_drains_and_checkpoints_before_the_asker_starts(fleet: Fleet) -> None:
        await fleet.shards(2)
        old = fleet.start("old")
        await fleet.until(lambda: fleet.loads() == [2], 5)
        for key in old.epochs:
            old.leases.note_position(key, Position("42"), "inc")
        old.drain = 3.0
        new = fleet.start("new")
        await fleet.until(lambda: bool(old.asked), 5)
        [key] = old.asked
        assert old.leases.is_valid(key)
        drained = await fleet.until(lambda: key in new.epochs, 20)
        assert 3.0 <= drained <= 3.0 + CONFIG.scan_interval + LITTLE
        assert key not in old.epochs
        row = (await fleet.rows())[key]
        assert (row.checkpoint, row.incarnation) == (Position("42"), "inc")
        assert (old.lost, old.leases.statistics().handed_over) == ([], 1)

    @fleet_test
    async def test_an_owner_that_drains_long_keeps_its_lease_meanwhile(fleet: Fleet) -> None:
        """KCL row 10."""
        await fleet.shards(2)
        old = fleet.start("old")
        await fleet.until(lambda: fleet.loads() == [2], 5)
        old.drain = CONFIG.duration * 2
        fleet.start("new")
        await fleet.until(lambda: bool(old.asked), 5)
        for _ in range(int(CONFIG.duration * 2) - 1):
            await asyncio.sleep(1)
            assert old.leases.is_valid(old.asked[0])
        await fleet.until(lambda: fleet.loads() == [1, 1], 5)
        assert old.lost == []

    @fleet_test
    async def test_an_owner_that_never_hands_over_is_forced_after_the_timeout(
        fleet: Fleet,
    ) -> None:
        await fleet.shards(2)
        old = fleet.start("old")
        await fleet.until(lambda: fleet.loads() == [2], 5)
        old.drain = None
        new = fleet.start("new")
        await fleet.until(lambda: bool(old.asked), 5)
        took = await fleet.until(lambda: bool(new.epochs), 60)
        assert 29 <= took <= CONFIG.handover_timeout + CONFIG.scan_interval
        await fleet.until(lambda: old.lost == old.asked, CONFIG.duration / 3)
        assert new.leases.statistics().forced == 1

    @fleet_test
    async def test_a_stopping_asker_withdraws_and_the_owner_goes_on(fleet: Fleet) -> None:
        await fleet.shards(2)
        old = fleet.start("old")
        await fleet.until(lambda: fleet.loads() == [2], 5)
        old.drain = None
        new = fleet.start("new")
        await fleet.until(lambda: bool(old.asked), 5)
        await new.stop()
        assert {(row.owner, row.checkpoint_owner) for row in (await fleet.rows()).values()} == {
            ("old", None)
        }
        await asyncio.sleep(60)
        assert old.lost == []


class TestFencing:
    @fleet_test
    async def test_a_worker_that_was_paused_fences_itself_and_starts_anew(fleet: Fleet) -> None:
        """KCL row 21. `Fleet.acquired` checks that the epoch is a new one."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        assert worker.leases.is_valid("shard-0")
        worker.pause = CONFIG.duration
        assert not worker.leases.is_valid("shard-0")
        await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.duration / 20 + LITTLE)
        await fleet.until(lambda: bool(worker.epochs), CONFIG.scan_interval)
        assert worker.leases.statistics().fenced == 1

    @fleet_test
    async def test_a_fenced_lease_is_never_written_again_under_the_old_epoch(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        worker.leases.stop_taking()
        worker.pause = CONFIG.duration
        before = await fleet.rows()
        assert not await worker.leases.release("shard-0", Position("9"))
        assert await worker.leases.outrun("shard-0", 99) is None
        assert not await worker.leases.finish("shard-0", [])
        assert await fleet.rows() == before

    @fleet_test
    async def test_validity_is_counted_from_when_a_write_was_sent(fleet: Fleet) -> None:
        """However late the answer comes: the store may have applied it at once."""
        await fleet.shards(1)
        worker = fleet.start("a")
        worker.wire.latency = 2.0
        await fleet.until(lambda: bool(worker.epochs), 10)
        for _ in range(3):
            until = worker.leases.valid_until("shard-0")
            assert until <= virtual_time.now() - 2.0 + CONFIG.duration
            await fleet.until(lambda: worker.leases.valid_until("shard-0") != until, 10)  # noqa: B023

    @fleet_test
    async def test_a_lease_is_fenced_in_time_though_every_write_hangs(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        worker.wire.hangs = True
        until = worker.leases.valid_until("shard-0")
        await fleet.until(lambda: bool(worker.lost), CONFIG.duration * 2)
        assert 0 <= virtual_time.now() - until <= CONFIG.duration / 20 + LITTLE

    @fleet_test
    async def test_a_lease_not_held_is_not_valid(fleet: Fleet) -> None:
        worker = fleet.start("a")
        assert not worker.leases.is_valid("shard-0")
        assert worker.leases.valid_until("shard-0") == 0.0

    @fleet_test
    async def test_a_lease_taken_by_another_is_lost_at_the_next_look(fleet: Fleet) -> None:
        """KCL row 2."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        row = (await fleet.rows())["shard-0"]
        await fleet.table.replace(row, taken(row, "thief"))
        await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.scan_interval)

    @fleet_test
    async def test_a_deleted_lease_is_lost_and_not_recreated(fleet: Fleet) -> None:
        """KCL rows 8 and 9."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        await fleet.table.delete((await fleet.rows())["shard-0"])
        await fleet.until(lambda: worker.lost == ["shard-0"], CONFIG.duration / 2)
        await asyncio.sleep(20)
        assert await fleet.rows() == {}


class TestStoreFailures:
    @fleet_test
    async def test_a_short_outage_loses_nothing(
        fleet: Fleet,
    ) -> None:
        await fleet.shards(4)
        workers = [fleet.start("a"), fleet.start("b")]
        await fleet.until(lambda: fleet.loads() == [2, 2], 60)
        for worker in workers:
            worker.wire.down = True
        await asyncio.sleep(CONFIG.duration / 2)
        for worker in workers:
            worker.wire.down = False
        await asyncio.sleep(60)
        assert [worker.lost for worker in workers] == [[], []]
        assert all(worker.leases.statistics().store_errors for worker in workers)

    @fleet_test
    async def test_after_a_long_outage_everybody_resumes_its_own(fleet: Fleet) -> None:
        """Nobody could renew, so nobody may conclude that the others are dead."""
        await fleet.shards(6)
        workers = [fleet.start("a"), fleet.start("b"), fleet.start("c")]
        await fleet.until(lambda: fleet.loads() == [2, 2, 2], 60)
        before = [set(worker.epochs) for worker in workers]
        for worker in workers:
            worker.wire.down = True
        await asyncio.sleep(CONFIG.duration * 4)
        assert fleet.loads() == [0, 0, 0]
        for worker in workers:
            worker.wire.down = False
        await fleet.until(lambda: fleet.loads() == [2, 2, 2], CONFIG.scan_interval)
        assert [set(worker.epochs) for worker in workers] == before
        await asyncio.sleep(60)
        assert [set(worker.epochs) for worker in workers] == before

    def test_an_outage_is_logged_once_and_its_end_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def test(fleet: Fleet) -> None:
            worker = fleet.start("a")
            await asyncio.sleep(5)
            worker.wire.down = True
            await asyncio.sleep(100)
            worker.wire.down = False
            await asyncio.sleep(5)

        caplog.set_level(logging.INFO)
        in_fleet(test)
        said = [message for message in caplog.messages if "store" in message]
        assert len(said) == 2
        assert "told to be down" in said[0]
        assert "works again" in said[1]

    @fleet_test
    async def test_a_write_whose_answer_is_lost_costs_no_lease(fleet: Fleet) -> None:
        """KCL 1.3: a spurious failure is recognised by the row."""
        await fleet.shards(3)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [3], 5)
        for n in range(40):
            worker.wire.lose_answers = 1 + n % 3
            for key in worker.epochs:
                worker.leases.note_position(key, Position(f"{n + 1}"), None)
            await asyncio.sleep(1.7)
        await asyncio.sleep(3)
        assert worker.lost == []
        assert {row.checkpoint for row in (await fleet.rows()).values()} == {Position("40")}
        assert worker.leases.statistics().renew_failures > 20

    @fleet_test
    async def test_a_take_whose_answer_is_lost_is_found_at_the_next_scan(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        worker.wire.lose_answers = 1
        await fleet.until(lambda: bool(worker.epochs), CONFIG.scan_interval + LITTLE)

    @fleet_test
    async def test_a_release_whose_answer_is_lost_is_done(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.leases.stop_taking()
        worker.wire.lose_answers = 2
        assert await worker.leases.release("shard-0", Position("7"))
        row = (await fleet.rows())["shard-0"]
        assert (row.owner, row.checkpoint) == (None, Position("7"))
        assert worker.lost == []

    @fleet_test
    async def test_a_finish_whose_answers_are_lost_is_done(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.wire.lose_answers = 4
        children = [Lease(key=key, checkpoint=TRIM_HORIZON, parents=("shard-0",)) for key in "xy"]
        assert await worker.leases.finish("shard-0", children)
        row = (await fleet.rows())["shard-0"]
        assert (row.checkpoint, row.children) == (SHARD_END, ("x", "y"))

    @fleet_test
    async def test_one_who_gives_up_a_lease_does_not_hold_up_the_others(fleet: Fleet) -> None:
        """The store fails for one lease only; the others' renewals go on."""
        await fleet.shards(3)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [3], 5)
        passed = worker.wire.replace

        async def replace(old: Lease, new: Lease) -> Lease | None:
            worker.wire.down = old.key == "shard-1"
            try:
                return await passed(old, new)
            finally:
                worker.wire.down = False

        worker.wire.replace = replace  # type: ignore[method-assign]
        release = asyncio.create_task(worker.leases.release("shard-1"))
        await asyncio.sleep(CONFIG.duration * 0.6)
        for key in ("shard-0", "shard-2"):
            assert worker.leases.valid_until(key) - virtual_time.now() > CONFIG.duration / 2
        assert not await release
        assert worker.lost == ["shard-1"]
        assert set(worker.epochs) == {"shard-0", "shard-2"}

    @fleet_test
    async def test_a_store_that_swallows_cancellations_does_not_keep_a_worker_from_stopping(
        fleet: Fleet,
    ) -> None:
        """As redis-py does on Python 3.11 when an answer and the cancellation come together."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.wire.swallow = 1
        worker.wire.hangs = True
        await asyncio.sleep(CONFIG.scan_interval)  # The scan waits for an answer now.
        worker.wire.hangs = False
        async with asyncio.timeout(1):
            await worker.stop()


class TestOperations:
    @fleet_test
    async def test_checkpoints_follow_the_noted_positions(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        for n in range(1, 50):
            worker.leases.note_position("shard-0", Position(f"{n}"), "inc")
            await asyncio.sleep(0.1)
        writes = worker.leases.statistics().checkpoints
        assert 4 <= writes <= 5
        await asyncio.sleep(1.1)
        row = (await fleet.rows())["shard-0"]
        assert (row.checkpoint, row.incarnation) == (Position("49"), "inc")

    @fleet_test
    async def test_a_checkpoint_counts_as_a_renewal(fleet: Fleet) -> None:
        """And a shard that does not move is written a third as often as a lease lasts."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        before = worker.wire.writes
        for n in range(30):
            worker.leases.note_position("shard-0", Position(f"{n}"), None)
            await asyncio.sleep(1)
        assert 28 <= worker.wire.writes - before <= 31
        before = worker.wire.writes
        await asyncio.sleep(30)
        assert 7 <= worker.wire.writes - before <= 10

    @fleet_test
    async def test_a_new_incarnation_is_written_even_at_the_same_position(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.leases.note_position("shard-0", TRIM_HORIZON, "inc")
        await asyncio.sleep(2)
        assert (await fleet.rows())["shard-0"].incarnation == "inc"

    @fleet_test
    async def test_notes_and_releases_of_an_earlier_ownership_are_refused(fleet: Fleet) -> None:
        """KCL row 22."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        old = worker.epochs["shard-0"]
        worker.pause = CONFIG.duration
        await fleet.until(lambda: worker.epochs.get("shard-0", 0) > old, 5)
        worker.leases.note_position("shard-0", Position("1"), None, old)
        assert not await worker.leases.release("shard-0", Position("1"), None, old)
        assert not await worker.leases.finish("shard-0", [], old)
        await asyncio.sleep(3)
        assert (await fleet.rows())["shard-0"].checkpoint == TRIM_HORIZON
        worker.leases.note_position("shard-0", Position("2"), None, worker.epochs["shard-0"])
        await asyncio.sleep(3)
        assert (await fleet.rows())["shard-0"].checkpoint == Position("2")

    @fleet_test
    async def test_a_failed_checkpoint_changes_nothing_in_memory(fleet: Fleet) -> None:
        """KCL row 23: the next attempt starts from the row as it is."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.wire.down = True
        worker.leases.note_position("shard-0", Position("5"), None)
        await asyncio.sleep(4)
        worker.wire.down = False
        await asyncio.sleep(2)
        assert (await fleet.rows())["shard-0"].checkpoint == Position("5")
        assert worker.lost == []

    @fleet_test
    async def test_release_takes_one_write(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        before = worker.wire.writes
        assert await worker.leases.release("shard-0", Position("8", 3), "inc")
        assert worker.wire.writes - before == 1
        row = (await fleet.rows())["shard-0"]
        assert (row.owner, row.checkpoint, row.incarnation) == (None, Position("8", 3), "inc")
        assert not await worker.leases.release("shard-0")

    @fleet_test
    async def test_children_exist_before_their_parent_is_finished(fleet: Fleet) -> None:
        """KCL row 36; and they are taken at once, not at the next scan."""
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        seen: list[tuple[str, list[str]]] = []
        passed = worker.wire.replace

        async def replace(old: Lease, new: Lease) -> Lease | None:
            if new.is_finished:
                seen.append((new.key, sorted(await fleet.rows())))
            return await passed(old, new)

        worker.wire.replace = replace  # type: ignore[method-assign]
        children = [Lease(key=key, checkpoint=TRIM_HORIZON, parents=("shard-0",)) for key in "xy"]
        assert await worker.leases.finish("shard-0", children)
        assert seen == [("shard-0", ["shard-0", "x", "y"])]
        await fleet.until(lambda: {"x", "y"} <= set(worker.epochs), LITTLE)
        assert not worker.leases.is_valid("shard-0")

    @fleet_test
    async def test_a_merge_child_starts_after_both_parents(fleet: Fleet) -> None:
        """KCL rows 34 and 37."""
        await fleet.shards(2)
        one, other = fleet.start("a"), fleet.start("b")
        await fleet.until(lambda: fleet.loads() == [1, 1], 60)
        [first], [second] = one.epochs, other.epochs
        child = Lease(key="child", checkpoint=TRIM_HORIZON, parents=(first, second))
        assert await one.leases.finish(first, [child])
        await asyncio.sleep(10)
        assert fleet.holders()["child"] == 0
        assert await other.leases.finish(second, [child])
        await fleet.until(lambda: fleet.holders()["child"] == 1, LITTLE)

    @fleet_test
    async def test_a_merge_child_is_left_to_the_parent_that_is_still_unknown(
        fleet: Fleet,
    ) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        child = Lease(key="child", checkpoint=TRIM_HORIZON, parents=("shard-0", "later"))
        assert await worker.leases.finish("shard-0", [child])
        assert set(await fleet.rows()) == {"shard-0"}
        assert (await fleet.rows())["shard-0"].children == ("child",)

    @fleet_test
    async def test_outrun_raises_the_epoch_past_another(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        lease = await worker.leases.outrun("shard-0", 1_000)
        assert lease is not None
        assert lease.counter > 1_000
        worker.leases.note_position("shard-0", Position("3"), None, lease.counter)
        await asyncio.sleep(2)
        assert (await fleet.rows())["shard-0"].checkpoint == Position("3")
        assert (await worker.leases.outrun("other", 1)) is None

    @fleet_test
    async def test_created_leases_are_taken_at_once(fleet: Fleet) -> None:
        worker = fleet.start("a")
        await asyncio.sleep(LITTLE)
        rows = [Lease(key=key, checkpoint=TRIM_HORIZON) for key in "abc"]
        assert await worker.leases.create(rows) == 3
        assert await worker.leases.create(rows) == 0
        await fleet.until(lambda: len(worker.epochs) == 3, LITTLE)
        assert await worker.leases.delete([rows[0]]) == 0
        assert {lease.key for lease in await worker.leases.leases()} == {"a", "b", "c"}

    @fleet_test
    async def test_the_snapshot_is_the_last_scans(fleet: Fleet) -> None:
        await fleet.shards(3)
        worker = fleet.start("a")
        assert worker.leases.snapshot() == ()
        await asyncio.sleep(CONFIG.scan_interval * 2)
        assert {lease.owner for lease in worker.leases.snapshot()} == {"a"}
        assert worker.leases.statistics().held == 3

    @fleet_test
    async def test_who_takes_no_more_keeps_what_it_has(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: bool(worker.epochs), 5)
        worker.leases.stop_taking()
        await fleet.table.create(Lease(key="new", checkpoint=TRIM_HORIZON))
        await asyncio.sleep(CONFIG.duration * 5)
        assert set(worker.epochs) == {"shard-0"}
        assert worker.leases.is_valid("shard-0")

    @fleet_test
    async def test_stop_gives_up_what_the_engine_left(fleet: Fleet) -> None:
        await fleet.shards(3)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [3], 5)
        for key in worker.epochs:
            worker.leases.note_position(key, Position("6"), None)
        await worker.leases.stop()
        rows = (await fleet.rows()).values()
        assert {(row.owner, row.checkpoint) for row in rows} == {(None, Position("6"))}

    @fleet_test
    async def test_stop_ends_even_without_a_store(fleet: Fleet) -> None:
        await fleet.shards(1)
        worker = fleet.start("a")
        await fleet.until(lambda: fleet.loads() == [1], 5)
        worker.wire.hangs = True
        began = virtual_time.now()
        await worker.leases.stop()
        assert virtual_time.now() - began <= CONFIG.duration * 1.5


@fleet_test
async def test_requests_are_seen_when_they_are_made_by_others(fleet: Fleet) -> None:
    """A KCL 3.x leader, say, that moves the lease to a worker which does not exist here."""
    await fleet.shards(1)
    worker = fleet.start("a")
    await fleet.until(lambda: fleet.loads() == [1], 5)
    row = (await fleet.rows())["shard-0"]
    assert await fleet.table.replace(row, asked_to_hand_over(row, "kcl"))
    await fleet.until(lambda: worker.asked == ["shard-0"], CONFIG.scan_interval)
    await fleet.until(lambda: fleet.loads() == [0], 2)
    row = (await fleet.rows())["shard-0"]
    assert (row.owner, row.checkpoint_owner) == ("kcl", None)
    await fleet.until(lambda: fleet.loads() == [1], CRASH_TAKEOVER + LITTLE)


def test_short_settings_work_too() -> None:
    async def test(fleet: Fleet) -> None:
        config = LeaseConfig(duration=0.5, scan_interval=0.1, checkpoint_interval=5.0)
        await fleet.shards(4)
        fleet.start("a", config)
        fleet.start("b", config)
        await fleet.until(lambda: fleet.loads() == [2, 2], 10)
        await asyncio.sleep(10)
        assert [worker.lost for worker in fleet.workers] == [[], []]

    in_fleet(test)
