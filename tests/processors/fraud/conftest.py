"""The reference world, and the published files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamproc_fraud.world.simulator import Transactions, World, simulate


@pytest.fixture(scope="session")
def world() -> Transactions:
    """Simulate the whole reference world once."""
    return simulate(World())


@pytest.fixture(scope="session")
def small_world() -> Transactions:
    """Simulate 60 days of a world with a thirtieth of the customers."""
    return simulate(World(customers=160, terminals=320, days=60, radius=28.0))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the directory of the published files; skip where there is none."""
    directory = os.environ.get("REFERENCE_DATA")
    if not directory:
        pytest.skip("REFERENCE_DATA names no directory with the published files")
    return Path(directory)
