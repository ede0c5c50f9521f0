"""How often the lease table is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.config import LeaseConfig
from streamproc.leases.pace import FLEET_ROWS_PER_SECOND, scan_interval

CONFIG = LeaseConfig(duration=10.0, scan_interval=2.0)


@pytest.mark.parametrize(
    ("rows", "workers", "interval"),
    [(0, 0, 2.0), (1_000, 50, 2.0), (10_000, 50, 2.0), (10_000, 100, 4.0), (10_000, 200, 8.0)],
)
def test_a_free_table_is_read_every_interval_until_the_fleet_reads_too_much(
    rows: int, workers: int, interval: float
) -> None:
    assert scan_interval(CONFIG, rows, workers, metered=False) == interval


def test_a_billed_table_is_read_by_its_size() -> None:
    assert scan_interval(CONFIG, 200, 1, metered=True) == 2.0
    assert scan_interval(CONFIG, 500, 100, metered=True) == 5.0
    assert scan_interval(CONFIG, 5_000, 1, metered=True) == CONFIG.duration


@given(rows=st.integers(0, 10**6), workers=st.integers(0, 10**4), metered=st.booleans())
def test_a_look_is_never_later_than_a_lease_lasts(rows: int, workers: int, metered: bool) -> None:
    interval = scan_interval(CONFIG, rows, workers, metered=metered)
    assert CONFIG.scan_interval <= interval <= CONFIG.duration
    if not metered and interval < CONFIG.duration:
        assert rows * workers / interval <= FLEET_ROWS_PER_SECOND * (1 + 1e-9)
