"""Lag over time, and what it says about a disturbance: who went on when, and when all was well."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from statistics import mean

import msgspec

__all__ = ["Recovered", "Sample", "first_commit", "recovery"]

# The sum of the shards' saw teeth has a mean that does not hang on how their polls fall, while its
# peaks do. A second holds a few polls of each shard; what half as much lag again means is a
# difference of milliseconds beside what a disturbance does.
_WINDOW_S = 1.0
_TOLERANCE = 1.5


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Stream and commits at one moment.

    Attributes:
        at: monotonic time in seconds.
        published: records put into the stream so far.
        shards: of each shard that was ever adopted, its owner's epoch and the records committed.
    """

    at: float
    published: int
    shards: dict[str, tuple[int, int]]

    @property
    def committed(self) -> int:
        """Records committed so far."""
        return sum(count for _, count in self.shards.values())

    @property
    def lag(self) -> int:
        """Records published and not committed."""
        return self.published - self.committed


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """How it went on after an event.

    Attributes:
        first_commit_s: seconds from the event until every shard that it concerned had a commit.
        back_s: seconds from the event until lag was back at its level from before, and stayed.
        level: the mean lag before.
        peak: the most lag after.
    """

    first_commit_s: float
    back_s: float
    level: float
    peak: int


def first_commit(
    samples: Sequence[Sample], shard: str, event_at: float, *, new_owner: bool
) -> float | None:
    """Return the time of the first sample after an event that shows a commit of a shard.

    Args:
        samples: in order of time.
        shard: the shard; one that is not in a sample has committed nothing yet.
        event_at: monotonic time in seconds.
        new_owner: whether a commit counts only under a higher epoch than at the event, since the
            owner of that time may have been about to commit once more.
    """
    unknown = (0, 0)
    before = [sample.shards.get(shard, unknown) for sample in samples if sample.at <= event_at]
    epoch = before[-1][0] if before else 0
    for earlier, later in pairwise(samples):
        if later.at <= event_at:
            continue
        (_, had), (holder, has) = (
            earlier.shards.get(shard, unknown),
            later.shards.get(shard, unknown),
        )
        if has > had and (holder > epoch or not new_owner):
            return later.at
    return None


def recovery(
    samples: Sequence[Sample],
    event_at: float,
    shards: Collection[str],
    *,
    new_owner: bool,
    resumed_at: float | None = None,
) -> Recovered | None:
    """Return how it went on after an event; None while it is too early to tell.

    Lag is back at the first moment from which on its mean over any second is at most one and a half
    times the mean from before the event.

    Args:
        samples: in order of time; those before the event say what the level is.
        event_at: monotonic time in seconds.
        shards: the shards that the event concerned.
        new_owner: see `first_commit`.
        resumed_at: when a commit became possible again, if the event made them all impossible.

    Raises:
        ValueError: there is no sample from before the event.
    """
    before = [sample.lag for sample in samples if sample.at <= event_at]
    if not before:
        raise ValueError("no sample from before the event: its level is not known")
    since = event_at if resumed_at is None else resumed_at
    commits = [first_commit(samples, shard, since, new_owner=new_owner) for shard in shards]
    known = [at for at in commits if at is not None]
    if len(known) < len(commits) or not known:
        return None
    level = mean(before)
    after = [sample for sample in samples if sample.at > event_at]
    means = _means(after)
    if not means or after[-1].at < max(known) + _WINDOW_S:
        return None
    above = [at for at, over in enumerate(means) if over > level * _TOLERANCE]
    if above and above[-1] + 1 == len(means):
        return None
    return Recovered(
        first_commit_s=max(known) - event_at,
        back_s=after[above[-1] + 1].at - event_at if above else 0.0,
        level=level,
        peak=max(sample.lag for sample in after),
    )


def _means(samples: Sequence[Sample]) -> list[float]:
    """Return the mean lag over the second that begins with each sample, while it lasts."""
    sums = [0, *accumulate(sample.lag for sample in samples)]
    means, end = [], 0
    for begin, sample in enumerate(samples):
        if samples[-1].at < sample.at + _WINDOW_S:
            break
        while end < len(samples) and samples[end].at <= sample.at + _WINDOW_S:
            end += 1
        means.append((sums[end] - sums[begin]) / (end - begin))
    return means
