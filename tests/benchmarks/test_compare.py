"""What is worse, what is chance, and what cannot be compared."""

from __future__ import annotations

import io
from statistics import median
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from streamproc.errors import ConfigError
from streamproc_benchmarks.compare import (
    Change,
    Comparison,
    compare_figures,
    compare_reports,
    print_comparison,
    read_bound,
)
from streamproc_benchmarks.figures import Better, Figure
from tests.benchmarks.making import QUIET, a_figure, a_report

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=5)
BOUNDS = st.floats(0, 2)
BETTER: st.SearchStrategy[Better] = st.sampled_from(["more", "less"])
OPPOSITE = {"better": "worse", "worse": "better", "within the spread": "within the spread"}


def compared(
    a: list[float], b: list[float], better: Better = "more", bound: float | None = 0.05
) -> Change:
    return compare_figures(a_figure(*a, better=better), a_figure(*b, better=better), bound)


@pytest.mark.parametrize(
    ("a", "b", "better", "direction", "fails"),
    [
        ([100, 101, 102], [90, 91, 92], "more", "worse", True),
        ([100, 101, 102], [90, 91, 92], "less", "better", False),
        ([100, 101, 102], [97, 98, 99], "more", "worse", False),  # by 3 % only
        ([100, 101, 102], [80, 81, 100], "more", "within the spread", False),  # by 20 %, once not
        ([100], [94], "more", "worse", True),
        ([100], [105], "less", "worse", False),  # 5 % is not more than 5 %
        ([100], [106], "less", "worse", True),
        ([0], [0], "less", "within the spread", False),
        ([0], [1], "less", "worse", True),
        ([0], [1], "more", "better", False),
        ([1], [0], "less", "better", False),
    ],
)
def test_a_figure_fails_when_it_is_worse_by_more_than_the_bound_in_every_round(
    a: list[float], b: list[float], better: Better, direction: str, fails: bool
) -> None:
    change = compared(a, b, better)
    assert (change.direction, change.fails) == (direction, fails)


def test_without_a_bound_nothing_fails() -> None:
    change = compared([100], [1], bound=None)
    assert (change.direction, change.fails) == ("worse", False)
    assert change.share == pytest.approx(-0.99)


@given(VALUES, BETTER, BOUNDS)
def test_what_is_the_same_never_fails(values: list[float], better: Better, bound: float) -> None:
    change = compared(values, values, better, bound)
    assert (change.direction, change.fails, change.share) == ("within the spread", False, 0.0)


@given(VALUES, VALUES, BETTER, BOUNDS)
def test_the_other_way_round_better_is_worse(
    a: list[float], b: list[float], better: Better, bound: float
) -> None:
    there, back = compared(a, b, better, bound), compared(b, a, better, bound)
    assert there.direction == OPPOSITE[back.direction]
    assert not (there.fails and back.fails)


@given(VALUES, VALUES, BETTER, BOUNDS)
def test_what_fails_is_worse_in_every_round_and_by_more_than_the_bound(
    a: list[float], b: list[float], better: Better, bound: float
) -> None:
    change = compared(a, b, better, bound)
    apart = max(b) < min(a) if better == "more" else min(b) > max(a)
    loss = median(a) - median(b) if better == "more" else median(b) - median(a)
    assume(abs(loss - bound * median(a)) > 1e-9 * median(a))  # rounding may fall on either side
    assert change.fails == (apart and loss > bound * median(a))


@given(VALUES, VALUES, BETTER, BOUNDS, BOUNDS)
def test_a_wider_bound_lets_no_more_fail(
    a: list[float], b: list[float], better: Better, bound: float, more: float
) -> None:
    assert compared(a, b, better, bound).fails or not compared(a, b, better, bound + more).fails


@given(VALUES, VALUES, BETTER, st.sampled_from([2.0**-10, 2.0, 1024.0]))
def test_the_unit_does_not_matter(
    a: list[float], b: list[float], better: Better, factor: float
) -> None:
    scaled = compared([one * factor for one in a], [one * factor for one in b], better)
    plain = compared(a, b, better)
    assert (scaled.direction, scaled.fails) == (plain.direction, plain.fails)


@given(VALUES, VALUES)
def test_the_order_of_rounds_does_not_matter(a: list[float], b: list[float]) -> None:
    assert compared(a, b) == compared(sorted(a), b[::-1])


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("0%", 0.0), ("150 %", 1.5), (" 2.5% ", 0.025)],
)
def test_a_bound_is_a_share_or_percent(text: str, share: float) -> None:
    assert read_bound(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text", ["", "%", "five", "-5%", "-0.1", "5", "1", "5%%", "5% of it", "nan", "nan%", "inf%"]
)
def test_any_other_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write a share such as 5% or 0\.05"):
        read_bound(text)


def speed(scenario: str, *values: float, **changes: Any) -> dict[str, Any]:
    figure = a_figure(*values, name=f"{scenario}.speed")
    return {scenario: a_report(figure, scenario=scenario, **changes)}


def show(found: Comparison, bound: float | None = 0.05) -> str:
    out = io.StringIO()
    print_comparison(found, bound, Console(file=out, width=160))
    return out.getvalue()


def test_scenarios_and_figures_of_one_side_are_named() -> None:
    both, ours = a_figure(1, 2, 3, name="latency.speed"), a_figure(1, name="latency.ours")
    a = speed("idle", 1) | {"latency": a_report(ours, both, scenario="latency")}
    b = speed("latency", 1, 2, 3) | speed("soak", 1)
    found = compare_reports(a, b, None)
    assert [change.name for change in found.changes] == ["latency.speed"]
    assert (found.only_a, found.only_b) == (["idle", "latency.ours"], ["soak"])
    text = show(found)
    assert "only in A: idle, latency.ours" in text
    assert "only in B: soak" in text
    assert "1-3" in text


def test_reports_without_a_common_figure_are_refused() -> None:
    with pytest.raises(ConfigError, match="A is of idle, B of soak"):
        compare_reports(speed("idle", 1), speed("soak", 1), None)


def test_different_units_are_refused() -> None:
    ours, theirs = a_figure(1.0), Figure(name="speed", unit="ms", better="less", values=[1.0])
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare_figures(ours, theirs, None)


def test_the_same_circumstances_need_no_warning() -> None:
    other_place = ["streamproc", "bench", "idle", "--json", "other.json"]
    found = compare_reports(speed("idle", 1), speed("idle", 1, command=other_place), None)
    assert found.warnings == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 2}, "idle: the seed differs: A 1, B 2"),
        ({"settings": {"batch.records": 5}}, "idle: settings differs: A {}, B {'batch.records'"),
        (
            {"command": ["streamproc", "bench", "idle", "--shards", "2"]},
            "idle: the command differs",
        ),
        ({"python": "PyPy 7"}, "idle: Python differs: A CPython"),
        ({"cpu": "Z80"}, "idle: the CPU differs"),
        ({"usable_cores": 99}, "idle: the number of cores differs"),
        ({"redis_server": "redis 8"}, "idle: the Redis server differs: A valkey 9.1.2, B redis 8"),
        ({"pinning": "not pinned"}, "idle: pinning differs: A pinned, B not pinned"),
        ({"kernel": "Minix"}, "idle: the kernel differs"),
        ({"load_average": 1.7}, "idle: the load average was 1.70 before B"),
        ({"libraries": {**QUIET.libraries, "orjson": "0"}}, "idle: orjson differs"),
    ],
)
def test_different_circumstances_are_warned_of(changes: dict[str, Any], said: str) -> None:
    of_report = {key: changes.pop(key) for key in ("seed", "settings", "command") if key in changes}
    environment = msgspec.structs.replace(QUIET, **changes)
    b = speed("idle", 1, environment=environment, **of_report)
    (warning,) = compare_reports(speed("idle", 1), b, None).warnings
    assert warning.startswith(said)
    assert said in show(compare_reports(speed("idle", 1), b, None))


def test_what_fails_and_what_its_figures_are_not_stand_below_the_table() -> None:
    slow = a_figure(50.0, name="idle.speed", caveat="the wall rate is the server's")
    found = compare_reports(speed("idle", 100), {"idle": a_report(slow, scenario="idle")}, 0.05)
    text = show(found)
    assert "-50.0%" in text
    assert "worse, too much" in text
    assert "idle.speed: B: the wall rate is the server's" in text
    assert "worse by more than 0.05 of A: idle.speed" in text
