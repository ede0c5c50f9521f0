"""Which part of a run the clocks measure."""

from __future__ import annotations

import pytest

from streamproc_benchmarks.measurement import Mark
from streamproc_benchmarks.progress import Progress, Window, middle


class Run:
    """A consumer of two shards whose clocks show how often they have been read."""

    def __init__(self, window: Window) -> None:
        self.ready = 0
        self.turns: list[int] = []
        self._reads = 0
        self._done = 0
        self.progress = Progress(window, 2, self._on_ready, self._read, self._on_turn)

    def _on_ready(self) -> None:
        self.ready += 1

    def _read(self) -> Mark:
        self._reads += 1
        at = float(self._reads)
        return Mark(at=at, own=at, delayed=None, server=None, redis=None)

    def _on_turn(self) -> None:
        self.turns.append(self._done)

    def batch(self, *sequences: str) -> None:
        self._done += len(sequences)
        self.progress.done("s", list(sequences))


def test_without_margins_the_clocks_run_from_the_first_shard_to_the_last_record() -> None:
    run = Run(middle(3, 0.0))
    run.progress.reading("s")
    assert run.ready == 0
    run.progress.reading("t")
    run.progress.reading("t")
    assert run.ready == 1
    run.batch("1", "2")
    assert not run.progress.finished.is_set()
    run.batch("3")
    assert run.progress.finished.is_set()
    consumed = run.progress.consumed({})
    assert consumed.records == 3
    assert consumed.reading.wall == 1


def test_margins_are_consumed_and_not_measured() -> None:
    window = middle(10, 0.2)
    assert window == Window(warm_up=2, measured_until=8, expected=10, turn=10)
    run = Run(window)
    run.progress.reading("s")
    run.batch("0")
    run.batch("1", "2")  # the clocks start with the batch that completes the warm-up
    run.batch("3", "4", "5")
    run.batch("6", "7", "8")
    assert not run.progress.finished.is_set()
    run.batch("9")
    assert run.progress.finished.is_set()
    consumed = run.progress.consumed({})
    assert consumed.records == 6
    assert consumed.by_shard() == {"s": [str(number) for number in range(10)]}


def test_a_batch_that_holds_everything_leaves_nothing_to_measure() -> None:
    run = Run(middle(10, 0.2))
    run.progress.reading("s")
    run.batch(*map(str, range(10)))
    assert run.progress.consumed({}).records == 0


def test_what_is_cut_off_counts_until_then() -> None:
    run = Run(middle(10, 0.2))
    run.progress.reading("s")
    run.batch("0", "1")
    run.batch("2", "3", "4")
    consumed = run.progress.consumed({})
    assert consumed.records == 3
    assert consumed.reading.wall > 0


def test_a_turn_ends_with_the_batch_that_completes_it_once_all_shards_are_read() -> None:
    run = Run(middle(10, 0.2, turn=3))
    run.progress.reading("s")
    run.batch("0", "1", "2")
    assert not run.turns, "nobody would know yet that it is ready"
    run.progress.reading("t")
    run.batch("3")
    run.batch("4", "5")
    run.batch("6", "7")
    run.batch("8", "9")
    assert run.turns == [4, 8], "and none at the end"


def test_what_lies_between_turns_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def clocks() -> Mark:
        return Mark(at=now, own=now / 2, delayed=now / 4, server=None, redis=None)

    def others_take_a_minute() -> None:
        nonlocal now
        now += 60

    def batch(first: int) -> None:
        nonlocal now
        now += 1
        progress.done("s", [str(first), str(first + 1)])

    progress = Progress(middle(10, 0.2, turn=2), 1, lambda: None, clocks, others_take_a_minute)
    progress.reading("s")
    for first in range(0, 10, 2):
        batch(first)
    consumed = progress.consumed({})
    assert consumed.records == 6
    assert consumed.reading.wall == 3, "a second a batch"
    assert consumed.reading.own == 1.5
    assert consumed.reading.delayed == 0.75


@pytest.mark.parametrize("margin", [-0.1, 0.5, 1.0])
def test_margins_that_leave_nothing_are_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        middle(10, margin)
