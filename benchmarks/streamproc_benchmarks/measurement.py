"""Clocks, and what they say about who was the bottleneck."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

__all__ = [
    "NO_STANDSTILL",
    "Bottleneck",
    "Mark",
    "Reading",
    "Standstill",
    "cpu_seconds",
    "delayed_seconds",
    "mark",
    "reading",
    "ready_seconds",
]

_BUSY = 0.9


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The clocks at one moment, in seconds.

    Attributes:
        at: the monotonic clock, which all processes of a host share.
        own: this process's CPU time, all threads.
        delayed: how long its threads were ready to run and had to wait for a core.
        server, redis: those processes' CPU time.
        server_ready, redis_ready: how long their main threads ran or were ready to run.

    None stands for a clock that this platform does not offer.
    """

    at: float
    own: float
    delayed: float | None
    server: float | None
    redis: float | None
    server_ready: float | None = None
    redis_ready: float | None = None


class Standstill(msgspec.Struct, frozen=True, kw_only=True):
    """What the clocks of a consumer went on by, in seconds, while it stood still.

    Reading them takes CPU time, and a thread that goes on, as that of the leases, takes some and is
    delayed by those whose turn it is.
    """

    wall: float = 0.0
    own: float = 0.0
    delayed: float = 0.0

    def and_between(self, start: Mark, end: Mark) -> Standstill:
        """Return it with another pause added."""
        return Standstill(
            wall=self.wall + end.at - start.at,
            own=self.own + end.own - start.own,
            delayed=self.delayed + (end.delayed or 0.0) - (start.delayed or 0.0),
        )


NO_STANDSTILL: Final = Standstill()

Bottleneck = Literal["consumer", "server", "nobody", "unknown"]
"""Who kept a run from being faster."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took, in seconds: the differences between two marks."""

    wall: float
    own: float
    delayed: float | None
    server: float | None
    redis: float | None
    server_ready: float | None = None
    redis_ready: float | None = None

    @property
    def own_share(self) -> float:
        """How much of the time the consumer ran, 0 to 1."""
        return self.own / self.wall

    @property
    def delayed_share(self) -> float | None:
        """How much of the time it could have run but others had its core; None if unknown."""
        return None if self.delayed is None else self.delayed / self.wall

    @property
    def load_share(self) -> float | None:
        """How busy the other core was by LocalKinesis and Redis; None if unknown."""
        if self.server is None or self.redis is None:
            return None
        return (self.server + self.redis) / self.wall

    @property
    def busiest_share(self) -> float | None:
        """How much of the time the busier of the two had work, 0 to 1; None if unknown.

        It counts also while others have the core, which makes a server as slow as work does.
        """
        told = [ready for ready in (self.server_ready, self.redis_ready) if ready is not None]
        return max(told) / self.wall if told else None

    @property
    def bottleneck(self) -> Bottleneck:
        """Who was busy, or ready to be, at least 90 % of the time.

        With ``server`` the consumer had to wait, so its wall rate is the server's; ``nobody``
        means that both waited, for a poll interval say. CPU per record holds in either case.
        """
        if self.own_share + (self.delayed_share or 0.0) >= _BUSY:
            return "consumer"
        if self.load_share is None:
            return "unknown"
        busy = max(self.load_share, self.busiest_share or 0.0)
        return "server" if busy >= _BUSY else "nobody"


def mark(server_pid: int | None, redis_pid: int | None) -> Mark:
    """Read all clocks."""
    return Mark(
        at=time.monotonic(),
        own=time.process_time(),
        delayed=delayed_seconds(),
        server=None if server_pid is None else cpu_seconds(server_pid),
        redis=None if redis_pid is None else cpu_seconds(redis_pid),
        server_ready=None if server_pid is None else ready_seconds(server_pid),
        redis_ready=None if redis_pid is None else ready_seconds(redis_pid),
    )


def reading(start: Mark, end: Mark, paused: Standstill = NO_STANDSTILL) -> Reading:
    """Return what lies between two marks, without what lies in pauses between them.

    Raises:
        ValueError: no time lies between them.
    """
    wall = end.at - start.at - paused.wall
    delayed = _difference(start.delayed, end.delayed)
    if wall <= 0:
        raise ValueError("no time between the marks")
    return Reading(
        wall=wall,
        own=end.own - start.own - paused.own,
        delayed=None if delayed is None else delayed - paused.delayed,
        server=_difference(start.server, end.server),
        redis=_difference(start.redis, end.redis),
        server_ready=_difference(start.server_ready, end.server_ready),
        redis_ready=_difference(start.redis_ready, end.redis_ready),
    )


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process in seconds, to 10 ms; None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None  # no Linux, or the process is gone: the report says "unknown"
    # The command's name, in parentheses, may hold anything; fields are counted after it.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ready_seconds(pid: int) -> float | None:
    """Return how long a process's main thread ran or waited for a core; None if not known."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:
        return None
    return (int(ran) + int(waited)) / 1e9


def delayed_seconds() -> float | None:
    """Return how long this process's threads have waited for a core; None if not known."""
    try:
        texts = [path.read_text() for path in Path("/proc/self/task").glob("*/schedstat")]
    except FileNotFoundError:
        return None  # a thread ended meanwhile; what it had waited cannot be told any more
    # proc(5): ns on the CPU, ns waiting for it, time slices.
    return sum(int(text.split()[1]) for text in texts) / 1e9 if texts else None


def _difference(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
