"""The windows against the published features of the Fraud Detection Handbook, where they are."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from pathlib import Path

import pytest

from streamproc.windows import History

DAY = 86_400
LENGTHS = (DAY, 7 * DAY, 30 * DAY)
DELAY = 7 * DAY
NAMES = [
    f"{whose}_{what}_{days}DAY_WINDOW"
    for whose, pair in (
        ("CUSTOMER_ID", ("NB_TX", "AVG_AMOUNT")),
        ("TERMINAL_ID", ("NB_TX", "RISK")),
    )
    for days in (1, 7, 30)
    for what in pair
]


class Month(History):
    keep = 30 * DAY


class MonthAndWeek(History):
    keep = 37 * DAY


@pytest.mark.skipif("REFERENCE_DATA" not in os.environ, reason="no published features")
def test_twelve_features_of_67080_payments_are_the_published_ones() -> None:
    """Labels become known after a week; counts are equal, averages and risks within 1e-6."""
    parquet = pytest.importorskip("pyarrow.parquet")
    data = Path(os.environ["REFERENCE_DATA"])
    golden = parquet.read_table(data / "golden_features_2018-08-08_14.parquet").to_pylist()
    published = {row["TRANSACTION_ID"]: [row[name] for name in NAMES] for row in golden}
    columns = parquet.read_table(data / "tx_2018-04_to_08.parquet").to_pydict()
    payments = zip(
        *[columns[name] for name in ("tx_id", "t", "customer", "terminal", "amount_cents")],
        columns["fraud"],
        strict=True,
    )
    cards: defaultdict[int, Month] = defaultdict(Month)
    uses: defaultdict[int, MonthAndWeek] = defaultdict(MonthAndWeek)
    frauds: defaultdict[int, MonthAndWeek] = defaultdict(MonthAndWeek)
    labels: deque[tuple[int, int]] = deque()
    last, checked = max(published), 0
    for number, time, card, terminal, cents, is_fraud in payments:
        if number > last:
            break
        while labels and labels[0][0] <= time - DELAY:
            known_time, known = labels.popleft()
            frauds[known].add(known_time)
        cards[card].add(time, cents)
        uses[terminal].add(time)
        if is_fraud:
            labels.append((time, terminal))
        if number in published:
            found: list[float] = []
            for window in cards[card].windows(LENGTHS):
                found += (window.count, (window.mean or 0) / 100)
            counts = uses[terminal].counts(LENGTHS, at=time, delay=DELAY)
            bad = frauds[terminal].counts(LENGTHS, at=time, delay=DELAY)
            for count, cheated in zip(counts, bad, strict=True):
                found += (count, cheated / count if count else 0.0)
            assert found[::2] == published[number][::2]
            assert found[1::2] == pytest.approx(published[number][1::2], abs=1e-6)
            checked += 1
    assert checked == len(published) > 60_000
