"""What quiet shards may cost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamproc_benchmarks.idle import IdleCost

GOOD = IdleCost(
    shards=1_000, interval=1.0, seconds=30.0, core_shares=[0.04, 0.05, 0.08], peak_rss_mb=150.0,
    polls_per_second=1_000.0, gap_p50=1.0, gap_max=1.1, unpolled=0,
)  # fmt: skip


def missed(**changes: Any) -> list[str]:
    bars = msgspec.structs.replace(GOOD, **changes).bars()
    assert len(bars) == 4
    return [bar.what.partition(": ")[2] for bar in bars if bar.verdict == "NOT met"]


def test_what_is_on_the_bar_has_met_it() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"core_shares": [0.04, 0.051, 0.08]}, "CPU"),
        ({"peak_rss_mb": 151.0}, "peak memory"),
        ({"gap_max": 1.2}, "greatest gap / interval"),
        ({"interval": 0.5}, "greatest gap / interval"),
        ({"unpolled": 1}, "shards not polled"),
    ],
)
def test_each_bar_can_be_missed_alone(changes: dict[str, Any], what: str) -> None:
    assert missed(**changes) == [what]


def test_fewer_shards_are_judged_by_nothing_and_that_is_said() -> None:
    few = msgspec.structs.replace(GOOD, shards=20, core_shares=[0.9])
    assert few.bars() == []
    assert few.caveats() == ["The bars are set for 1,000 quiet shards; here are 20."]
