from __future__ import annotations

import pytest

from streamproc_benchmarks.verification import CountsWrong, Verdict, verify

PUBLISHED = {"shard-0": ["10", "11", "12", "13"], "shard-1": ["20", "21"]}


def counts(verdict: Verdict) -> tuple[int, int, int, int]:
    return (verdict.lost, verdict.duplicated, verdict.reordered, verdict.unknown)


def test_all_once_and_in_order_is_clean() -> None:
    verdict = verify(PUBLISHED, {"shard-1": ["20", "21"], "shard-0": ["10", "11", "12", "13"]})
    assert counts(verdict) == (0, 0, 0, 0)
    assert (verdict.published, verdict.consumed) == (6, 6)
    verdict.require_clean("a consumer")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (["10", "11", "13"], (1, 0, 0, 0)),
        (["10", "11", "12"], (1, 0, 0, 0)),
        ([], (4, 0, 0, 0)),
        (["10", "11", "11", "12", "13"], (0, 1, 0, 0)),
        (["10", "11", "12", "13", "10", "11"], (0, 2, 0, 0)),
        (["10", "12", "11", "13"], (0, 0, 1, 0)),
        (["13", "10", "11", "12"], (0, 0, 3, 0)),
        (["10", "11", "12", "13", "99"], (0, 0, 0, 1)),
        # The number is right: one lost and another done twice must not make up for each other.
        (["10", "11", "11", "13"], (1, 1, 0, 0)),
    ],
    ids=["gap", "tail", "all", "twice", "replayed", "swapped", "early", "unknown", "compensated"],
)
def test_what_is_wrong_is_counted_and_shows_no_figure(
    first: list[str], expected: tuple[int, int, int, int]
) -> None:
    verdict = verify(PUBLISHED, {"shard-0": first, "shard-1": ["20", "21"]})
    assert counts(verdict) == expected
    with pytest.raises(CountsWrong, match=r"noop.*no figure is shown"):
        verdict.require_clean("noop")


def test_a_record_done_in_another_shard_is_lost_there_and_unknown_here() -> None:
    verdict = verify(PUBLISHED, {"shard-0": ["10", "11", "12", "13", "21"], "shard-1": ["20"]})
    assert counts(verdict) == (1, 0, 0, 1)


def test_a_shard_that_nobody_read_is_lost() -> None:
    verdict = verify(PUBLISHED, {"shard-0": PUBLISHED["shard-0"]})
    assert verdict.lost == 2
    assert verdict.examples == ("shard-1/20", "shard-1/21")


def test_the_message_names_places() -> None:
    verdict = verify(PUBLISHED, {**PUBLISHED, "shard-0": ["10", "12", "13"]})
    with pytest.raises(CountsWrong, match=r"1 lost.*shard-0/11"):
        verdict.require_clean("noop")
