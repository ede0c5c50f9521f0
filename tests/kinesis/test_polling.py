from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from streamproc.config import ReadConfig
from streamproc.kinesis.polling import (
    Mode,
    Pace,
    after_answer,
    after_failure,
    backoff_delay,
    first_delay,
    next_delay,
)

CONFIG = ReadConfig(
    min_interval=0.2, poll_interval=0.5, idle_poll_interval=2.0, idle_after=30.0, max_records=100
)
answers = st.tuples(
    st.floats(0.0, 100.0),  # seconds since the previous one
    st.integers(0, CONFIG.max_records),
    st.sampled_from([0, 1, 60_000]),
)


def wait(pace: Pace, *, took: float = 0.0) -> float:
    return next_delay(pace, CONFIG, 0.0, took, random.Random(1))


def test_a_shard_that_is_behind_is_read_as_fast_as_allowed() -> None:
    behind = after_answer(Pace(), CONFIG, 0.0, 5, 1)
    assert behind.mode is Mode.CATCH_UP
    assert wait(behind) == 0.2


def test_a_full_answer_means_that_more_is_there_whatever_the_lag_says() -> None:
    assert after_answer(Pace(), CONFIG, 0.0, CONFIG.max_records, 0).mode is Mode.CATCH_UP


def test_an_empty_answer_behind_the_tip_does_not_slow_the_reading() -> None:
    pace = Pace()
    for second in range(100):
        pace = after_answer(pace, CONFIG, float(second), 0, 1)
        assert pace.mode is Mode.CATCH_UP


def test_a_shard_at_its_tip_is_read_at_the_poll_interval() -> None:
    for count in (0, 5):
        tip = after_answer(Pace(), CONFIG, 0.0, count, 0)
        assert tip.mode is Mode.TIP
        assert wait(tip) == 0.5


def test_a_shard_turns_idle_only_after_staying_empty_and_wakes_with_a_record() -> None:
    pace = after_answer(Pace(), CONFIG, 100.0, 0, 0)
    pace = after_answer(pace, CONFIG, 129.9, 0, 0)
    assert pace.mode is Mode.TIP
    pace = after_answer(pace, CONFIG, 130.0, 0, 0)
    assert pace.mode is Mode.IDLE
    assert wait(pace) == 2.0
    pace = after_answer(pace, CONFIG, 132.0, 1, 0)
    assert pace.mode is Mode.TIP
    assert after_answer(pace, CONFIG, 161.9, 0, 0).mode is Mode.TIP


def test_a_failure_does_not_make_an_idle_shard_busy() -> None:
    pace = Pace(Mode.IDLE, 0, quiet_since=0.0)
    assert after_answer(after_failure(pace), CONFIG, 40.0, 0, 0).mode is Mode.IDLE


def test_the_interval_counts_from_the_start_of_the_call() -> None:
    tip = Pace(Mode.TIP)
    assert abs(wait(tip, took=0.2) - 0.3) < 1e-9
    assert wait(tip, took=7.0) == 0.0


@given(st.lists(answers, max_size=30), st.floats(0.0, 20.0), st.integers(0, 2**32))
def test_calls_that_succeed_keep_their_distance_and_never_wait_longer_than_the_interval(
    given_answers: list[tuple[float, int, int]], took: float, seed: int
) -> None:
    pace, now = Pace(), 0.0
    for passed, count, behind in given_answers:
        now += passed
        pace = after_answer(pace, CONFIG, now, count, behind)
    delay = next_delay(pace, CONFIG, 50.0, 50.0 + took, random.Random(seed))
    assert delay >= 0.0
    assert took + delay >= CONFIG.min_interval - 1e-9
    assert delay <= CONFIG.idle_poll_interval


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_backoff_grows_to_its_cap_and_is_never_nothing(failures: int, seed: int) -> None:
    delay = backoff_delay(failures, random.Random(seed))
    ceiling = min(5.0, 0.2 * 2.0 ** min(failures - 1, 20))
    assert ceiling / 2 <= delay <= ceiling


@given(st.integers(0, 2**32))
def test_a_failed_call_waits_the_interval_at_least(seed: int) -> None:
    failed = after_failure(Pace())
    assert failed.mode is Mode.BACKOFF
    delay = next_delay(failed, CONFIG, 0.0, 0.0, random.Random(seed))
    assert delay >= CONFIG.min_interval


def test_success_ends_the_backoff() -> None:
    failed = after_failure(after_failure(Pace()))
    assert failed.failures == 2
    assert after_answer(failed, CONFIG, 0.0, 0, 0).failures == 0


def test_shards_that_were_throttled_together_come_back_apart() -> None:
    rng = random.Random(7)
    delays = sorted(backoff_delay(3, rng) for _ in range(1_000))
    assert delays[-1] - delays[0] > 0.35
    assert max(b - a for a, b in itertools.pairwise(delays)) < 0.02


def test_a_thousand_shards_do_not_poll_in_step() -> None:
    rng = random.Random(7)
    firsts = [first_delay(CONFIG, rng) for _ in range(1_000)]
    in_tenths = [sum(i / 20 <= first < (i + 1) / 20 for first in firsts) for i in range(10)]
    assert sum(in_tenths) == 1_000
    assert min(in_tenths) > 60


def test_throttles_stretch_the_intervals_and_answers_bring_them_back() -> None:
    pace = Pace()
    for _ in range(3):
        pace = after_failure(pace, throttled=True)
    pace = after_answer(pace, CONFIG, 0.0, 10, 1_000)
    stretched = next_delay(pace, CONFIG, 0.0, 0.0, random.Random(1))
    assert stretched > 1.2 * CONFIG.min_interval
    for _ in range(200):
        pace = after_answer(pace, CONFIG, 0.0, 10, 1_000)
    assert next_delay(pace, CONFIG, 0.0, 0.0, random.Random(1)) == CONFIG.min_interval


@given(throttles=st.integers(0, 1_000))
def test_intervals_are_stretched_within_bounds(throttles: int) -> None:
    pace = Pace()
    for _ in range(throttles):
        pace = after_failure(pace, throttled=True)
    pace = after_answer(pace, CONFIG, 0.0, 10, 1_000)
    assert next_delay(pace, CONFIG, 0.0, 0.0, random.Random(1)) <= 5.5 * CONFIG.min_interval


def test_other_failures_do_not_stretch_them() -> None:
    pace = after_answer(after_failure(Pace()), CONFIG, 0.0, 10, 1_000)
    assert next_delay(pace, CONFIG, 0.0, 0.0, random.Random(1)) == CONFIG.min_interval
