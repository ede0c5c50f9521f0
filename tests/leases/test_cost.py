"""Renewals cost no more than KCL's, and a fraction of them in a table of our own."""

from __future__ import annotations

import pytest

from tests.leases.cost import ITEMS, item_bytes, kcl2, kcl3, lease_rows, measure


@pytest.mark.parametrize("moving", [False, True], ids=["idle", "moving"])
@pytest.mark.parametrize(("leases", "workers"), [(1, 1), (1, 10), (30, 3)])
def test_renewals_and_checkpoints_write_less_than_kcls_renewals_alone(
    leases: int, workers: int, moving: bool
) -> None:
    """In a table shared with KCL; KCL's own checkpoints would come on top of its figure."""
    ours = measure(leases, workers, "lease", moving=moving, seconds=120)
    assert ours.writes <= 0.85 * kcl2(leases, workers).writes
    assert ours.writes <= 0.85 * kcl3(leases, workers).writes


@pytest.mark.parametrize("workers", [1, 3])
def test_for_a_worker_with_many_leases_a_table_of_our_own_costs_a_fraction(workers: int) -> None:
    leases = 40 * workers
    idle = measure(leases, workers, "worker", moving=False, seconds=120)
    moving = measure(leases, workers, "worker", moving=True, seconds=120)
    least = min(kcl2(leases, workers).price, kcl3(leases, workers).price)
    assert idle.writes <= 0.025 * kcl2(leases, workers).writes
    assert idle.price <= 0.05 * least
    assert moving.price <= 0.11 * least


def test_a_worker_without_leases_writes_nothing() -> None:
    one, ten = (measure(1, workers, "worker", moving=False, seconds=120) for workers in (1, 10))
    assert ten.writes == pytest.approx(one.writes, rel=0.05)


def test_a_row_is_far_from_the_kilobyte_that_a_write_unit_covers() -> None:
    [row] = lease_rows(1, 1)
    assert 400 < item_bytes(ITEMS.encode(row)) < 700
