"""What a worker takes and asks for. "KCL row n" is a row of KCL's own conformance tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.config import LeaseConfig
from streamproc.leases.assignment import (
    Observed,
    Plan,
    next_expiry,
    observe,
    plan,
    startable,
    withdrawn,
)
from streamproc.leases.lease import Lease, asked_to_hand_over, renewed, taken
from tests.leases.making import finished, lease

CONFIG = LeaseConfig(duration=10.0, handover_timeout=30.0)
NOW = 1_000.0


def planned(
    leases: Sequence[Lease],
    *,
    held: Sequence[str] = (),
    stale: float = 0.0,
    config: LeaseConfig = CONFIG,
    seed: int = 0,
) -> Plan:
    """Plan for "me" when no counter has moved for `stale` seconds, on my clock."""
    observed = observe(leases, {}, "me", NOW - stale)
    return plan(leases, observed, "me", frozenset(held), config, NOW, Random(seed))


def keys(leases: Sequence[Lease]) -> list[str]:
    return sorted(row.key for row in leases)


class TestTaking:
    def test_a_moving_lease_of_another_is_not_taken(self) -> None:
        """KCL row 13."""
        rows = [lease("a", "other", 5)]
        observed = observe(rows, {}, "me", NOW - 100)
        rows = [renewed(row) for row in rows]
        observed = observe(rows, observed, "me", NOW - 1)
        assert plan(rows, observed, "me", frozenset(), CONFIG, NOW, Random(0)) == Plan()

    @pytest.mark.parametrize(("stale", "taken_keys"), [(9.99, []), (10.0, ["a"])])
    def test_a_frozen_lease_is_taken_after_the_duration_on_my_clock(
        self, stale: float, taken_keys: list[str]
    ) -> None:
        """KCL row 14."""
        assert keys(planned([lease("a", "other", 5)], stale=stale).take) == taken_keys

    def test_a_lease_seen_for_the_first_time_is_not_expired(self) -> None:
        """However long nobody renewed it: by my clock its time begins now."""
        assert planned([lease("a", "other", 5)]).take == ()

    def test_my_own_expired_lease_is_taken_again(self) -> None:
        """KCL row 15."""
        assert keys(planned([lease("a", "me", 5)], stale=100).take) == ["a"]

    def test_leases_of_an_earlier_life_are_taken_at_once(self) -> None:
        """A restart under the same id; KCL row 24."""
        rows = [lease(key, "me", 5) for key in "abcd"] + [lease("e", "other", 1)]
        assert keys(planned(rows).take) == ["a", "b", "c", "d"]

    def test_free_leases_are_taken_up_to_the_even_share(self) -> None:
        """KCL row 16: three free leases and one of a live worker; two of four are mine to take."""
        rows = [lease(key) for key in "abc"] + [lease("d", "other", 3)]
        assert len(planned(rows).take) == 2

    def test_an_unowned_lease_is_free_at_once(self) -> None:
        assert keys(planned([lease("a")], stale=0).take) == ["a"]

    def test_leases_free_for_long_are_taken_beyond_the_even_share(self) -> None:
        """KCL row 17."""
        rows = [lease(key) for key in "abc"] + [lease("d", "other", 3)]
        observed = observe(rows, {}, "me", NOW - 30)
        rows[3] = renewed(rows[3])
        observed = observe(rows, observed, "me", NOW)
        wanted = plan(rows, observed, "me", frozenset(), CONFIG, NOW, Random(0))
        assert keys(wanted.take) == ["a", "b", "c"]

    def test_the_cap_holds_even_for_leases_free_for_long(self) -> None:
        """KCL row 17, its second half."""
        config = LeaseConfig(max_leases=2)
        assert len(planned([lease(key) for key in "abc"], stale=30, config=config).take) == 2

    def test_leases_held_count_against_the_cap(self) -> None:
        config = LeaseConfig(max_leases=2)
        rows = [lease("a", "me", 1), lease("b"), lease("c")]
        assert len(planned(rows, held=["a"], config=config).take) == 1

    def test_the_cap_holds_for_leases_of_an_earlier_life(self) -> None:
        config = LeaseConfig(max_leases=1)
        assert len(planned([lease("a", "me", 1), lease("b", "me", 1)], config=config).take) == 1

    def test_finished_leases_are_neither_taken_nor_counted(self) -> None:
        rows = [finished("a"), finished("b"), lease("c"), lease("d"), lease("e", "other", 1)]
        rows.append(lease("mine", "me", 1))
        assert len(planned(rows, held=["mine"]).take) == 1
        assert planned([finished("a")], stale=100) == Plan()

    def test_a_lease_waits_for_its_parents(self) -> None:
        rows = [lease("p", "other", 4), lease("c", parents=("p",))]
        assert planned(rows) == Plan()

    def test_workers_do_not_take_in_the_same_order(self) -> None:
        rows = [lease(f"{n}") for n in range(20)] + [lease("x", "other", 1)]
        assert planned(rows, seed=1).take != planned(rows, seed=2).take


class TestAsking:
    def test_loads_that_differ_by_one_are_left_alone(self) -> None:
        """KCL row 18."""
        rows = [lease("a", "me", 1), lease("b", "other", 1), lease("c", "other", 1)]
        assert planned(rows, held=["a"]) == Plan()

    def test_the_most_loaded_worker_is_asked_for_one(self) -> None:
        """KCL row 19."""
        rows = [lease(f"x{n}", "big", 1) for n in range(4)]
        rows += [lease(f"y{n}", "small", 1) for n in range(3)]
        wanted = planned(rows)
        assert [row.owner for row in wanted.request] == ["big"]
        assert wanted.take == ()

    def test_nothing_is_asked_for_while_something_is_free(self) -> None:
        """KCL row 20."""
        rows = [lease(f"x{n}", "big", 1) for n in range(6)] + [lease("old", "dead", 1)]
        observed = observe(rows, {}, "me", NOW - 10)
        rows = [renewed(row) if row.owner == "big" else row for row in rows]
        observed = observe(rows, observed, "me", NOW)
        wanted = plan(rows, observed, "me", frozenset(), CONFIG, NOW, Random(0))
        assert (keys(wanted.take), wanted.request) == (["old"], ())

    def test_a_requested_lease_counts_for_the_one_who_asked(self) -> None:
        rows = [lease(f"x{n}", "big", 1) for n in range(2)]
        rows.append(lease("mine", "me", 1, processor="big"))
        assert planned(rows).request == ()

    def test_a_lease_already_asked_for_is_not_asked_for_again(self) -> None:
        rows = [lease(f"x{n}", "other", 1, processor="big") for n in range(4)]
        assert planned(rows).request == ()

    def test_the_cap_forbids_asking(self) -> None:
        config = LeaseConfig(max_leases=1)
        rows = [lease("a", "me", 1)] + [lease(f"x{n}", "big", 1) for n in range(6)]
        assert planned(rows, held=["a"], config=config).request == ()

    def test_who_lacks_many_asks_for_several(self) -> None:
        rows = [lease(f"{n}", "big", 1) for n in range(200)]
        assert len(planned(rows).request) == 100 // 8

    def test_who_asks_for_several_asks_whoever_has_most_by_then(self) -> None:
        rows = [lease(f"x{n}", "big", 1) for n in range(50)]
        rows += [lease(f"y{n}", "next", 1) for n in range(49)]
        asked = Counter(row.owner for row in planned(rows).request)
        assert asked.total() == 33 // 8
        assert asked["next"] > 0


class TestHandOver:
    def test_a_requested_lease_is_awaited(self) -> None:
        assert planned([lease("a", "me", 1, processor="other")]) == Plan()

    def test_a_lease_handed_over_is_taken(self) -> None:
        assert keys(planned([lease("a", "me", 2)]).take) == ["a"]

    @pytest.mark.parametrize(("waited", "taken_keys"), [(29.9, []), (30.0, ["a"])])
    def test_a_request_that_times_out_is_taken_by_force(
        self, waited: float, taken_keys: list[str]
    ) -> None:
        row = lease("a", "me", 1, processor="other")
        observed = observe([row], {}, "me", NOW - waited)
        row = renewed(row)  # The processor lives and renews; only hand over it does not.
        observed = observe([row], observed, "me", NOW)
        wanted = plan([row], observed, "me", frozenset(), CONFIG, NOW, Random(0))
        assert keys(wanted.take) == taken_keys

    def test_a_request_to_a_worker_that_died_is_taken_when_it_expires(self) -> None:
        assert keys(planned([lease("a", "me", 1, processor="dead")], stale=10).take) == ["a"]

    def test_a_hand_over_begun_in_an_earlier_life_is_completed(self) -> None:
        wanted = planned([lease("a", "other", 1, processor="me")])
        assert (keys(wanted.let_go), wanted.take) == (["a"], ())

    def test_a_hand_over_that_i_drain_is_left_to_me(self) -> None:
        assert planned([lease("a", "other", 1, processor="me")], held=["a"]) == Plan()

    def test_withdrawing_undoes_asking(self) -> None:
        row = lease("a", "other", 4)
        assert withdrawn(asked_to_hand_over(row, "me")) == row


class TestObserving:
    def test_the_time_of_a_counter_is_when_it_was_first_seen(self) -> None:
        seen = observe([lease("a", "x", 3)], {"a": Observed(3, 5.0)}, "me", 9.0)
        assert seen == {"a": Observed(3, 5.0)}

    def test_a_moved_counter_starts_anew(self) -> None:
        seen = observe([lease("a", "x", 4)], {"a": Observed(3, 5.0)}, "me", 9.0)
        assert seen == {"a": Observed(4, 9.0)}

    def test_leases_that_are_gone_are_forgotten(self) -> None:
        assert observe([], {"a": Observed(3, 5.0)}, "me", 9.0) == {}

    def test_a_request_is_timed_from_its_first_sight_whatever_the_counter_does(self) -> None:
        row = lease("a", "me", 3, processor="x")
        seen = observe([renewed(row)], observe([row], {}, "me", 5.0), "me", 9.0)
        assert seen == {"a": Observed(4, 9.0, asked=5.0)}

    def test_the_next_expiry_is_that_of_the_lease_longest_unseen(self) -> None:
        rows = [lease("a", "x", 1), lease("b", "y", 1), lease("c", "me", 1), lease("d")]
        observed = {
            key: Observed(1, since) for key, since in zip("abcd", (7, 5, 1, 1), strict=True)
        }
        assert next_expiry(rows, observed, "me", CONFIG, 9.0) == 15.0

    def test_the_next_expiry_knows_hand_overs(self) -> None:
        rows = [lease("a", "me", 1, processor="x")]
        observed = {"a": Observed(1, 99.0, asked=71.0)}
        assert next_expiry(rows, observed, "me", CONFIG, 100.0) == 101.0

    def test_expiries_that_are_past_are_not_next(self) -> None:
        assert next_expiry([lease("a", "x", 1)], {"a": Observed(1, 0.0)}, "me", CONFIG, 9e9) is None


def test_a_shard_may_start_once_each_parent_lease_is_absent_or_finished() -> None:
    """KCL row 34."""
    child = lease("c", parents=("p", "q"))
    assert startable(child, {})
    assert startable(child, {"p": finished("p")})
    assert not startable(child, {"p": finished("p"), "q": lease("q")})


WORKERS = ["me", "w1", "w2", "w3"]

owners = st.lists(st.sampled_from([*WORKERS, None]), min_size=1, max_size=40)


@given(owners, st.integers(0, 2**32))
def test_a_plan_is_within_its_limits(who: list[str | None], seed: int) -> None:
    """Whatever the table: nothing twice, nothing alive by force, at most the even share."""
    rows = [lease(f"{n}", owner, 1) for n, owner in enumerate(who)]
    held = frozenset(row.key for row in rows if row.owner == "me")
    observed = observe(rows, {}, "me", NOW)
    wanted = plan(rows, observed, "me", held, CONFIG, NOW, Random(seed))
    chosen = [*wanted.take, *wanted.request]
    assert len({row.key for row in chosen}) == len(chosen)
    assert all(row.owner is None for row in wanted.take)
    assert all(row.owner not in (None, "me") for row in wanted.request)
    assert not (wanted.take and wanted.request)
    workers = {owner for owner in who if owner is not None} | {"me"}
    if wanted.take:
        assert len(held) + len(wanted.take) <= -(-len(rows) // len(workers))


@given(owners, st.integers(0, 2**32))
def test_plans_followed_in_turn_lead_to_an_even_spread_and_then_to_rest(
    who: list[str | None], seed: int
) -> None:
    """Instant hand-overs, every worker planning in turn: loads end within one of each other."""
    rows = {f"{n}": lease(f"{n}", owner, 1) for n, owner in enumerate(who)}
    rng = Random(seed)
    moved = True
    rounds = 0
    while moved:
        rounds += 1
        assert rounds <= len(rows) + len(WORKERS), "leases keep moving"
        moved = False
        for me in rng.sample(WORKERS, len(WORKERS)):
            table = list(rows.values())
            held = frozenset(row.key for row in table if row.owner == me)
            observed = observe(table, {}, me, NOW)
            wanted = plan(table, observed, me, held, CONFIG, NOW, rng)
            for row in (*wanted.take, *wanted.request):
                rows[row.key] = taken(row, me)
                moved = True
    loads = Counter(row.owner for row in rows.values())
    assert loads.total() == len(who)
    assert max(loads[me] for me in WORKERS) - min(loads[me] for me in WORKERS) <= 1
