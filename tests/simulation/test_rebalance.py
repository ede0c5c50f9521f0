"""Workers that come, go and are replaced: every event is delivered to a handler exactly once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.plan import Plan, Trouble
from tests.simulation.world import World


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("streamproc").setLevel(logging.ERROR)
    yield
    logging.getLogger("streamproc").setLevel(logging.NOTSET)


@pytest.mark.parametrize("roster", [False, True], ids=["lease", "worker"])
@pytest.mark.parametrize("slow", [0.05, 2.0])
def test_rebalancing_delivers_nothing_twice(slow: float, roster: bool) -> None:
    """Handlers that are busy when their shard is asked for finish first, and commit."""
    plan = Plan(
        seed=7,
        workers=5,
        shards=12,
        troubles=frozenset({Trouble.JOIN, Trouble.DEPLOY, Trouble.RESHARD}),
        period=2.0,
        chaos=40.0,
        slow=slow,
        batch_records=5,
        partitions=1,
        latest=False,
        roster=roster,
    )
    world = World(plan)
    outcome = world.run()
    handed_over = sum(worker.handed_over() for worker in world.workers)
    print(f"{outcome.events} events, {handed_over} hand-overs, {outcome.redelivered} twice")
    assert handed_over >= 5
    assert outcome.redelivered == 0
    assert set(world.oracle.deliveries.values()) == {1}
