"""Figures by which two versions are compared keep their names."""

from __future__ import annotations

from streamproc_benchmarks import codec, windows
from streamproc_benchmarks.dedupe import Dedupe, DedupeCost
from streamproc_benchmarks.steps import Steps


def test_a_steps_figure_has_a_plain_name() -> None:
    steps = Steps(scenario="codec", each="record", costs={"event, orjson to dict (1/7)": [1.0]})
    (figure,) = steps.figures()
    assert (figure.name, figure.unit, figure.better) == (
        "codec.event_orjson_to_dict_1_7",
        "us/record",
        "less",
    )


def test_no_two_steps_have_the_same_name() -> None:
    for names in (codec.STEPS, windows.STEPS):
        figures = Steps(scenario="x", each="y", costs={name: [1.0] for name in names}).figures()
        assert len({figure.name for figure in figures}) == len(names)


def test_a_layouts_figures_are_of_its_batches() -> None:
    cost = DedupeCost(
        layout="sets",
        ids=100,
        batch=10,
        mb_per_million=42.0,
        check_ms=[1.0, 2.0, 3.0],
        commit_ms=[4.0, 5.0, 60.0],
        duplicates_ms=[1.0],
        server_us_per_id=1.5,
    )
    figures = {one.name: one.values for one in Dedupe(costs=[cost]).figures()}
    assert figures == {
        "dedupe.sets.mb_per_million": [42.0],
        "dedupe.sets.check_p50_ms": [2.0],
        "dedupe.sets.check_p99_ms": [3.0],
        "dedupe.sets.commit_p50_ms": [5.0],
        "dedupe.sets.commit_p99_ms": [60.0],
        "dedupe.sets.server_us_per_id": [1.5],
    }
