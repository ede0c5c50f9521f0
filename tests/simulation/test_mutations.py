"""Bugs put in on purpose are found, so that a thousand clean seeds mean something.

The rarer ones take hundreds of seeds: `make simulate-mutations`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.mutations import MUTATIONS, injected
from tests.simulation.oracle import Violation
from tests.simulation.world import simulate

RARE = {
    "no-fencing-in-redis",
    "handover-without-drain",
    "merge-child-too-early",
    "stale-view",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("streamproc").setLevel(logging.ERROR)
    yield
    logging.getLogger("streamproc").setLevel(logging.NOTSET)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(MUTATIONS.keys() - RARE))
def test_an_injected_bug_is_found(name: str) -> None:
    with injected(name):
        for seed in range(60):
            try:
                simulate(seed)
            except Violation as violation:
                print(f"{name}: seed {seed}: {violation}")
                return
    pytest.fail(f"{name} ({MUTATIONS[name][0]}) is not found within 60 seeds")
