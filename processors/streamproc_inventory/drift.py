"""The drift of each stock's last count, as a metric."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["DriftCollector"]

_STOCKS_SHOWN: Final = 1_000


class DriftCollector(Collector):
    """Shows what the latest counts of this worker found, for the 1,000 stocks counted last.

    It is set as a count is handled, and set again to the same when a batch is run again.
    """

    def __init__(self) -> None:
        self._drift: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, sku: str, location_id: str, drift: int) -> None:
        """Show the drift of a stock, counted less expected."""
        self._drift.pop((sku, location_id), None)
        self._drift[sku, location_id] = drift
        if len(self._drift) > _STOCKS_SHOWN:
            self._drift.popitem(last=False)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        family = GaugeMetricFamily(
            "streamproc_inventory_count_drift_units",
            "Units counted less units expected, at the last count of a stock.",
            labels=("sku", "location"),
        )
        for stock, drift in self._drift.items():
            family.add_metric(stock, drift)
        yield family
