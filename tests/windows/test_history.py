"""An exact window says what counting all events over again would say."""

from __future__ import annotations

from math import fsum, inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.windows import History

KEEP = 50


class Kept(History):
    keep = KEEP


class Small(History):
    keep = KEEP
    limit = 8


class Strict(History):
    keep = KEEP
    lateness = 5


Event = tuple[int, int]
events = st.lists(st.tuples(st.integers(0, 200), st.integers(-5, 5)), max_size=80)
lengths = st.integers(1, KEEP)


def copied(history: Any) -> Any:
    """Return the history as another worker would decode it."""
    return msgspec.json.decode(msgspec.json.encode(history), type=type(history))


def naive(taken: list[Event], length: int, at: int, delay: int = 0) -> list[int]:
    end = at - delay
    return [v for t, v in sorted(taken, key=lambda e: e[0]) if end - length < t <= end]


@given(events, lengths, st.integers(0, 20))
@settings(max_examples=300)
def test_windows_equal_counting_over_again(events: list[Event], length: int, delay: int) -> None:
    history, taken = Kept(), []
    for time, value in events:
        if history.add(time, value):
            taken.append((time, value))
        else:
            assert time < max(t for t, _ in taken) - KEEP
        newest = max(t for t, _ in taken)
        end = newest if delay + length <= KEEP else newest + delay
        window = history.window(length, at=end, delay=delay)
        expected = naive(taken, length, end, delay)
        assert window.is_complete
        assert window.values == expected
        assert window.count == len(expected) == history.counts([length], at=end, delay=delay)[0]
        assert window.sum == sum(expected)
        assert window.mean == (sum(expected) / len(expected) if expected else None)
        assert window.min == min(expected, default=None)
        assert window.max == max(expected, default=None)
        assert window.distinct == len(set(expected))
        assert window.times == sorted(window.times)
    assert history.dropped == len(events) - len(taken)


@given(events, st.integers(0, 79))
def test_results_do_not_depend_on_when_the_state_was_stored(events: list[Event], at: int) -> None:
    """Bit for bit, also for floats: a replay elsewhere must give the same score."""
    whole, parts = Kept(), Kept()
    for number, (time, value) in enumerate(events):
        for history in (whole, parts):
            history.add(time, value / 7)
        if number >= at:
            parts = copied(parts)
        assert whole.window(20).sum == parts.window(20).sum
        assert whole == parts


@given(events)
def test_an_event_sees_its_own_window_when_it_comes_out_of_order(events: list[Event]) -> None:
    history, taken = History(), []
    for time, value in events:
        history.add(time, value)
        taken.append((time, value))
        assert history.window(30, at=time).values == naive(taken, 30, time)


def test_windows_are_open_at_the_old_end_and_closed_at_the_new() -> None:
    history = Kept()
    for time in (0, 10, 20):
        history.add(time, time)
    assert history.window(10).values == [20]
    assert history.window(11).values == [10, 20]
    assert history.window(10, delay=10).values == [10]
    assert [w.count for w in history.windows((1, 11, 21))] == [1, 2, 3]
    assert history.window(5, at=100).count == 0


def test_equal_times_stay_in_the_order_in_which_they_came() -> None:
    history = Kept()
    for value, time in enumerate([5, 3, 5, 3]):
        history.add(time, value)
    assert history.window(10).values == [1, 3, 0, 2]


def test_what_is_later_than_the_lateness_is_dropped_and_counted() -> None:
    history = Strict()
    assert history.add(100)
    assert history.add(95)
    assert not history.add(94)
    assert (history.window(50).count, history.dropped) == (2, 1)


@given(st.lists(st.integers(0, 300), max_size=200))
def test_a_history_never_holds_more_than_its_limit_and_says_what_is_missing(
    times: list[int],
) -> None:
    history, taken = Small(), []
    for time in times:
        if history.add(time, time):
            taken.append((time, time))
        assert len(history.times) <= Small.limit
        for length in (1, 10, KEEP):
            window, expected = history.window(length), naive(taken, length, history.newest)  # type: ignore[arg-type]
            assert window.count <= len(expected)
            if window.is_complete:
                assert window.values == expected


def test_the_oldest_quarter_goes_when_there_are_too_many() -> None:
    history = Small()
    for time in range(9):
        history.add(time)
    assert history.times == [3, 4, 5, 6, 7, 8]
    assert history.since == 2
    assert history.window(6).is_complete
    assert not history.window(7).is_complete
    assert not history.add(1), "before what is remembered: it can have no place any more"


def test_old_events_leave_the_stored_state() -> None:
    history = Kept()
    for time in range(0, 10_000, 5):
        history.add(time)
    assert len(history.times) <= 2 * KEEP / 5


def test_an_event_can_be_taken_back() -> None:
    history = Kept()
    for time, value in ((1, 0.1), (2, 0.2), (2, 0.7), (3, 0.3)):
        history.add(time, value)
    before = history.window(10).sum
    history.add(2, 0.4)
    assert history.remove(2, 0.4)
    assert history.window(10).sum == before
    assert not history.remove(2, 0.4)
    assert history.remove(2, 0.7)
    assert history.window(10).values == [0.1, 0.2, 0.3]
    assert history.window(10).sum == copied(history).window(10).sum


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300))
def test_float_sums_are_as_near_as_promised(values: list[float]) -> None:
    history = Kept()
    for time, value in enumerate(values):
        history.add(time, value)
        window = history.window(KEEP)
        bound = len(history.values) * 2.3e-16 * fsum(map(abs, history.values))  # type: ignore[arg-type]
        assert abs(window.sum - fsum(window.values)) <= bound  # type: ignore[arg-type]


def test_names_are_counted_by_what_differs() -> None:
    history = Kept()
    for time, name in enumerate(["shop", "bar", "shop"]):
        history.add(time, name)
    assert (history.window(10).distinct, history.window(1).distinct) == (2, 1)
    with pytest.raises(TypeError):
        _ = history.window(10).sum


@pytest.mark.parametrize(
    ("time", "value", "error"),
    [
        (nan, 1, ValueError),
        (inf, 1, ValueError),
        (True, 1, TypeError),
        ("1", 1, TypeError),
        (1, nan, ValueError),
        (1, inf, ValueError),
        (1, True, TypeError),
        (1, None, TypeError),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_no_trace(
    time: Any, value: Any, error: type[Exception]
) -> None:
    history = Kept()
    with pytest.raises(error):
        history.add(time, value)
    assert history == Kept()


def test_a_history_without_events_has_empty_windows() -> None:
    window = History().window(10)
    assert (window.count, window.sum, window.mean, window.min) == (0, 0, None, None)
    assert History().newest is None
    assert window.is_complete


def test_the_stored_form_is_documented_and_small() -> None:
    history = Small()
    assert msgspec.json.encode(history) == b"{}"
    for time in range(1, 10):
        history.add(time, 100)
    assert msgspec.json.encode(history) == (
        b'{"times":[4,5,6,7,8,9],"values":[100,100,100,100,100,100],"since":3}'
    )


def test_senseless_settings_are_refused_where_they_are_written() -> None:
    with pytest.raises(TypeError, match="keep > 0"):

        class Wrong(History):
            keep = 0
