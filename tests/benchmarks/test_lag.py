"""Recovery read from samples of lag."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc_benchmarks.lag import Recovered, Sample, first_commit, recovery

EVENT = 10.0
STEP = 0.05


def sample(at: float, lag: int, **shards: tuple[int, int]) -> Sample:
    committed = sum(count for _, count in shards.values())
    return Sample(at=at, published=committed + lag, shards=shards)


def series(lags: list[int], *, adopted: float, commits: float, until: float = 30.0) -> list[Sample]:
    """Samples every 50 ms; `lags` from the event on, 100 before it and after they are through.

    Shard s belongs to epoch 3, from `adopted` seconds after the event on to epoch 4, which commits
    from `commits` on.
    """
    found = []
    for number in range(int(until / STEP)):
        at = number * STEP
        since = at - EVENT
        epoch = 3 if since < adopted else 4
        count = min(number, int(EVENT / STEP)) + (number if since >= commits else 0)
        place = int(since / STEP)
        lag = lags[place] if 0 < place < len(lags) else 100
        found.append(sample(at, lag, s=(epoch, count), other=(1, 7 * number)))
    return found


def test_a_takeover_is_timed_from_the_event_to_the_new_owners_commit() -> None:
    samples = series([100, *[5_000] * 59], adopted=1.0, commits=1.5)
    found = recovery(samples, EVENT, ["s"], new_owner=True)
    assert found is not None
    assert found.first_commit_s == pytest.approx(1.5, abs=STEP)
    assert found.back_s == pytest.approx(3.0, abs=STEP)
    assert (found.level, found.peak) == (100, 5_000)


def test_the_old_owners_last_commit_is_not_the_new_ones_first() -> None:
    samples = [
        sample(9.9, 100, s=(3, 10)),
        sample(10.1, 100, s=(3, 20)),  # what it was about to commit when it was killed
        sample(12.0, 900, s=(4, 20)),
        sample(12.1, 900, s=(4, 30)),
    ]
    assert first_commit(samples, "s", EVENT, new_owner=True) == 12.1
    assert first_commit(samples, "s", EVENT, new_owner=False) == 10.1


def test_a_shard_that_is_new_has_its_first_commit_like_any_other() -> None:
    samples = [sample(9.9, 1), sample(10.1, 1), sample(10.2, 1, child=(1, 4))]
    assert first_commit(samples, "child", EVENT, new_owner=True) == 10.2


def test_before_every_shard_has_a_commit_it_is_too_early_to_tell() -> None:
    samples = series([100] * 10, adopted=1.0, commits=99.0)
    assert recovery(samples, EVENT, ["s"], new_owner=True) is None
    assert recovery(samples, EVENT, ["other"], new_owner=False) is not None


def test_lag_that_dips_and_rises_again_is_not_back() -> None:
    lags = [100, *[5_000] * 19, *[50] * 10, *[3_000] * 10]
    found = recovery(series(lags, adopted=0.2, commits=0.4), EVENT, ["s"], new_owner=True)
    assert found is not None
    assert found.back_s == pytest.approx(2.0, abs=STEP)


def test_lag_that_is_still_above_or_was_only_just_back_is_too_early_to_tell() -> None:
    above = series([100, *[5_000] * 100], adopted=0.2, commits=0.4, until=12.0)
    assert recovery(above, EVENT, ["s"], new_owner=True) is None
    just_back = series([100, *[5_000] * 20], adopted=0.2, commits=0.4, until=11.9)
    assert recovery(just_back, EVENT, ["s"], new_owner=True) is None


def test_lag_that_never_rose_was_back_at_once() -> None:
    found = recovery(series([], adopted=0.2, commits=0.4), EVENT, ["s"], new_owner=True)
    assert found is not None
    assert found.back_s == 0


@pytest.mark.parametrize(("shift_before", "shift_after"), [(0, 2), (2, 0)])
def test_how_polls_of_different_shards_fall_does_not_matter(
    shift_before: int, shift_after: int
) -> None:
    # Two shards' saw teeth of five samples, polled in step (with peaks of 800) or in turn (600).
    def lag(number: int) -> int:
        shift = shift_before if number * STEP <= EVENT else shift_after
        return 100 * (number % 5) + 100 * ((number + shift) % 5)

    samples = [sample(number * STEP, lag(number), s=(1, number)) for number in range(400)]
    found = recovery(samples, EVENT, ["s"], new_owner=False)
    assert found is not None
    assert found.back_s == 0
    assert found.level == pytest.approx(400, rel=0.01)


def test_commits_while_redis_was_going_down_do_not_count() -> None:
    samples = series([], adopted=99.0, commits=0.0)
    found = recovery(samples, EVENT, ["other"], new_owner=False, resumed_at=EVENT + 2)
    assert found is not None
    assert found.first_commit_s == pytest.approx(2.0, abs=2 * STEP)


def test_without_a_sample_from_before_there_is_no_level() -> None:
    with pytest.raises(ValueError, match="level"):
        recovery([sample(11.0, 1)], EVENT, ["s"], new_owner=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(min_value=0, max_value=10_000), max_size=80),
    st.floats(min_value=0.1, max_value=5.0),
)
def test_once_told_recovery_is_not_told_otherwise_by_later_calm(
    lags: list[int], commits: float
) -> None:
    samples = series(lags, adopted=STEP, commits=commits)
    told: set[Recovered] = set()
    for end in range(int(EVENT / STEP) + len(lags) + 130, len(samples) + 1, 40):
        found = recovery(samples[:end], EVENT, ["s"], new_owner=True)
        if found is not None:
            told.add(found)
    assert len(told) == 1
    (found,) = told
    assert found.first_commit_s >= commits - STEP
    highest = max([100, *lags[1:]])
    assert found.peak == highest
    assert found.level == 100
    if highest <= 150:
        assert found.back_s == 0
    assert found.back_s <= len(lags) * STEP + 1e-9
