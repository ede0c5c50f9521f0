"""When a shard is read next: pure decisions over a small frozen state.

AWS allows five GetRecords a second and shard, shared by everybody who polls it, and 2 MB/s ("Quotas
and limits"). A shard that is behind is read at that rate; at its tip less often; and one that
stays empty seldom, since a call costs the same whether it brings records or not.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

import msgspec

from streamproc.config import ReadConfig

__all__ = [
    "Mode",
    "Pace",
    "Sleep",
    "after_answer",
    "after_failure",
    "backoff_delay",
    "first_delay",
    "least_interval",
    "next_delay",
]

Sleep = Callable[[float], Awaitable[None]]
"""`asyncio.sleep` or a virtual one; the argument is in seconds."""

# Groups whose calls meet in one second would meet again in the next, were they as regular as that.
_SHARED_JITTER: Final = 0.1
_STRETCH: Final = 1.1
_RELAX: Final = 0.05
_MOST_STRETCHED: Final = 5.0
_BACKOFF_BASE_S: Final = 0.2
_BACKOFF_CAP_S: Final = 5.0


class Mode(StrEnum):
    """How a shard is being read."""

    CATCH_UP = "catch-up"
    TIP = "tip"
    PUSH = "push"
    IDLE = "idle"
    BACKOFF = "backoff"
    ENDED = "ended"


class Pace(msgspec.Struct, frozen=True):
    """What the last calls of a shard said.

    Attributes:
        mode: how the shard is being read.
        failures: calls that failed in a row.
        quiet_since: monotonic time in seconds of the first answer of the present run of empty
            ones; None after one with records.
        stretch: by how much intervals are longer than they need be; grows with each throttle and
            shrinks with each answer, so that groups that share a shard find out what it bears.
    """

    mode: Mode = Mode.CATCH_UP
    failures: int = 0
    quiet_since: float | None = None
    stretch: float = 1.0


def after_answer(
    pace: Pace, config: ReadConfig, now: float, records: int, millis_behind_latest: int
) -> Pace:
    """Return the pace after an answer with that many records.

    Args:
        pace: the pace so far.
        config: intervals and the limit that makes an answer a full one.
        now: monotonic time in seconds.
        records: how many came.
        millis_behind_latest: as answered; 0 at the tip.
    """
    quiet_since = None if records else (now if pace.quiet_since is None else pace.quiet_since)
    if millis_behind_latest > 0 or records >= config.max_records:
        mode = Mode.CATCH_UP
    elif quiet_since is not None and now - quiet_since >= config.idle_after:
        mode = Mode.IDLE
    else:
        mode = Mode.TIP
    return Pace(mode, 0, quiet_since, max(1.0, pace.stretch - _RELAX))


def after_failure(pace: Pace, *, throttled: bool = False) -> Pace:
    """Return the pace after a call that was throttled or failed otherwise."""
    stretch = min(_MOST_STRETCHED, pace.stretch * _STRETCH) if throttled else pace.stretch
    return Pace(Mode.BACKOFF, pace.failures + 1, pace.quiet_since, stretch)


def next_delay(
    pace: Pace, config: ReadConfig, started: float, now: float, rng: random.Random
) -> float:
    """Return how many seconds to wait from `now` until the next call.

    Args:
        pace: the pace after the last call.
        config: the intervals, which count from the start of the last call.
        started: monotonic time in seconds at which the last call was made.
        now: monotonic time in seconds.
        rng: source of the backoff's jitter.
    """
    interval = least_interval(config) * pace.stretch
    if config.share < 1 or pace.stretch > 1:
        interval *= 1 + rng.uniform(0, _SHARED_JITTER)
    if pace.mode is Mode.TIP:
        interval = max(interval, config.poll_interval)
    elif pace.mode is Mode.IDLE:
        interval = max(interval, config.idle_poll_interval)
    wait = max(0.0, started + interval - now)
    return max(wait, backoff_delay(pace.failures, rng)) if pace.failures else wait


def least_interval(config: ReadConfig) -> float:
    """Return the seconds between calls of a shard that the group's share of them allows."""
    return config.min_interval / config.share


def backoff_delay(failures: int, rng: random.Random) -> float:
    """Return the seconds to wait after that many failures in a row.

    It doubles from 0.2 s to 5 s and is drawn from the upper half, so that shards throttled together
    part, and none comes back at once.
    """
    ceiling = min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2.0 ** min(failures - 1, 16))
    return ceiling * rng.uniform(0.5, 1.0)


def first_delay(config: ReadConfig, rng: random.Random) -> float:
    """Return the seconds before a shard's first call: a thousand shards do not poll in step."""
    return rng.uniform(0.0, config.poll_interval)
