"""Latencies as an HDR histogram: three digits over seven decades, mergeable, small in a report."""

from __future__ import annotations

from typing import Any, Final

from streamproc.errors import ConfigError

__all__ = ["LatencyHistogram"]

_LEAST_US: Final = 1
_MOST_US: Final = 3_600_000_000
_DIGITS: Final = 3
# Where a curve is drawn: finer and finer towards the end that hurts.
_CURVE: Final = (
    *(float(percent) for percent in range(0, 90, 2)),
    *(90.0, 92.5, 95.0, 96.0, 97.0, 98.0, 98.5, 99.0, 99.25, 99.5, 99.7, 99.8, 99.9),
    *(99.95, 99.99, 100.0),
)


class LatencyHistogram:
    """Counts latencies from 1 us to one hour, each kept to three significant digits.

    Raises:
        ConfigError: the package hdrhistogram is not installed.
    """

    def __init__(self) -> None:
        self._counts: Any = _library()(_LEAST_US, _MOST_US, _DIGITS)

    def record(self, ms: float, count: int = 1) -> None:
        """Count a latency in milliseconds, `count` times.

        Raises:
            ValueError: it is negative, or longer than an hour.
        """
        us = round(ms * 1000)
        if not 0 <= us <= _MOST_US:
            raise ValueError(f"a latency of {ms:g} ms: must be from 0 to one hour")
        self._counts.record_value(max(us, _LEAST_US), count)

    def add(self, other: LatencyHistogram) -> None:
        """Count all that `other` has counted."""
        self._counts.add(other._counts)

    @property
    def count(self) -> int:
        """How many latencies there are."""
        counted: int = self._counts.get_total_count()
        return counted

    def percentile(self, percent: float) -> float:
        """Return the latency in ms that `percent` % (0 to 100) of all do not exceed.

        Raises:
            ValueError: nothing was counted.
        """
        if not self.count:
            raise ValueError("a percentile of nothing")
        us: int = self._counts.get_value_at_percentile(percent)
        return us / 1000

    @property
    def most(self) -> float:
        """The longest latency in ms."""
        return self.percentile(100)

    def curve(self) -> list[tuple[float, float]]:
        """Return (percentile, ms) from 0 to 100, closer together towards 100."""
        # One pass over the counts; a call for each percentile would be a pass each.
        found: dict[float, int] = self._counts.get_percentile_to_value_dict(list(_CURVE))
        return [(percent, found[percent] / 1000) for percent in _CURVE]

    def encode(self) -> str:
        """Return it in the form that HdrHistogram's tools read: V2, compressed, base64, in us."""
        text: bytes = self._counts.encode()
        return text.decode()

    @classmethod
    def decode(cls, text: str) -> LatencyHistogram:
        """Return what `encode` was called on."""
        found = cls()
        found._counts = _library().decode(text)
        return found


def _library() -> Any:
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError as error:
        raise ConfigError(
            "latencies are kept in an HDR histogram: pip install 'streamproc[bench]'"
        ) from error
    return HdrHistogram
