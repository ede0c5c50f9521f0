"""A process's memory over time: what it takes now, and whether it grows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median, quantiles

import msgspec

from streamproc.errors import StreamprocError
from streamproc_benchmarks.statistics import thinned

__all__ = ["Growth", "Memory", "TooShort", "growth", "resident_mb"]

# Pairs of 200 points are 20,000: the median of their slopes is exact enough, and quick.
_POINTS = 200
_LEAST_SAMPLES = 10
# What a memory allocator keeps or gives back at once, whatever the program does.
_LEAST_SCATTER_MB = 1.0


class TooShort(StreamprocError):
    """A run that says nothing about its memory."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's memory beside what it did, as parallel columns.

    Attributes:
        at: seconds from the start of the load.
        rss_mb: resident memory in MB (10^6 bytes).
        published, committed: records so far.
    """

    at: list[float]
    rss_mb: list[float]
    published: list[int]
    committed: list[int]

    @property
    def peak_mb(self) -> float:
        """The most that was seen."""
        return max(self.rss_mb)

    def growth_from(self, start: float) -> Growth:
        """Return how memory grew from `start` seconds on.

        Raises:
            TooShort: there are too few samples to tell.
        """
        pairs = zip(self.at, self.rss_mb, strict=True)
        return growth([(at, mb) for at, mb in pairs if at >= start])


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a series rises, by a line through it that outliers do not move.

    Attributes:
        grown_mb: by how much the line rises from the first to the last sample.
        scatter_mb: how far the samples lie around the line: the distance between their quartiles,
            but at least 1 MB.
    """

    grown_mb: float
    scatter_mb: float

    @property
    def is_flat(self) -> bool:
        """Whether it rises by no more than the samples scatter around the line anyway."""
        return self.grown_mb <= self.scatter_mb


def growth(samples: Sequence[tuple[float, float]]) -> Growth:
    """Fit a line of the median slope between any two samples (Theil and Sen).

    Args:
        samples: (seconds, MB), in order of time.

    Raises:
        TooShort: there are fewer than ten samples, or no time between them.
    """
    if len(samples) < _LEAST_SAMPLES or samples[-1][0] <= samples[0][0]:
        raise TooShort(
            f"{len(samples)} samples do not tell whether memory grows: it needs "
            f"{_LEAST_SAMPLES} after the first third; let it run for longer"
        )
    points = thinned(samples, _POINTS)
    slope = median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in combinations(points, 2)
        if later[0] > earlier[0]
    )
    low, _, high = quantiles([mb - slope * at for at, mb in samples], n=4)
    return Growth(
        grown_mb=slope * (samples[-1][0] - samples[0][0]),
        scatter_mb=max(_LEAST_SCATTER_MB, high - low),
    )


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of a process in MB; None where /proc does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return None  # no Linux, or the process is gone
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    # proc(5): in kB, which are 1,024 bytes; a process that is about to end has none.
    return int(sizes[0]) * 1024 / 1e6 if sizes else None
