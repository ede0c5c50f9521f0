"""Which leases to take and which to ask for: a pure function of the table and what was seen of it.

No leader: every worker computes its own plan from the same rows and the compare-and-set of the
store settles the races. The rules are those of KCL's 2.x taker (DynamoDBLeaseTaker), except that
a lease of a live worker is asked for instead of stolen (KCL 3.x's graceful hand-over).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType

import msgspec

from streamproc.config import LeaseConfig
from streamproc.leases.lease import Lease

__all__ = ["Observed", "Plan", "next_expiry", "observe", "plan", "startable", "withdrawn"]

LONG_EXPIRED = 3
"""Lease durations after which a lease nobody renews may be taken beyond the even share."""

REQUESTS_IN_DEFICIT = 8
"""A worker asks for one lease a scan, or for this fraction of what it lacks when that is more."""


class Observed(msgspec.Struct, frozen=True):
    """What this worker saw of one lease; times are its own monotonic seconds.

    Attributes:
        counter: the lease counter at the last scan.
        since: when that counter was first seen; a lease expires `duration` after it.
        asked: when my request for a hand-over was first seen in the row; None if there is none.
    """

    counter: int
    since: float
    asked: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """What to do after a scan, in this order.

    Attributes:
        let_go: rows that name me as the one who still processes, though I no longer do: a hand-over
            begun before a restart or a self-fencing. To be completed at once.
        take: rows to take now: mine from an earlier life, handed over to me, free, expired, or
            requested longer than the hand-over timeout ago.
        request: rows of a live worker to ask for.
    """

    let_go: tuple[Lease, ...] = ()
    take: tuple[Lease, ...] = ()
    request: tuple[Lease, ...] = ()


def observe(
    leases: Sequence[Lease],
    previous: Mapping[str, Observed],
    me: str,
    now: float,
    heard: Mapping[str, float] = MappingProxyType({}),
    free_since: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Observed]:
    """Return what is known after a scan at `now`: whose counter moved, and since when it stands.

    Args:
        leases: every row of the table.
        previous: the answer after the scan before.
        me: my worker id.
        now: my monotonic time in seconds.
        heard: when a worker's heartbeat was last seen to move, where workers renew all their
            leases at once; a lease then stands no longer than its processor is silent.
        free_since: since when the leases of a worker whose session has ended count as standing.
    """
    return {
        lease.key: _observed(lease, previous.get(lease.key), me, now, heard, free_since)
        for lease in leases
    }


def _observed(
    lease: Lease,
    before: Observed | None,
    me: str,
    now: float,
    heard: Mapping[str, float],
    free_since: Mapping[str, float],
) -> Observed:
    asked = None
    if lease.owner == me and lease.checkpoint_owner not in (None, me):
        asked = now if before is None or before.asked is None else before.asked
    since = now if before is None or before.counter != lease.counter else before.since
    processor = lease.processor or ""
    if processor in heard:
        since = max(since, heard[processor])
    elif processor in free_since:
        since = min(since, free_since[processor])
    return Observed(lease.counter, since, asked)


def startable(lease: Lease, leases: Mapping[str, Lease]) -> bool:
    """Whether a lease may be processed: every parent's lease is absent or at SHARD_END.

    KCL's rule (BlockOnParentShardTask). It keeps records of one key in order across a reshard.
    """
    return all((parent := leases.get(key)) is None or parent.is_finished for key in lease.parents)


def plan(
    leases: Sequence[Lease],
    observed: Mapping[str, Observed],
    me: str,
    held: frozenset[str],
    config: LeaseConfig,
    now: float,
    rng: Random,
) -> Plan:
    """Decide what this worker does after a scan.

    Only leases that can be processed are counted and taken: not finished, and every parent done.

    Args:
        leases: every row of the table.
        observed: `observe`'s answer for exactly these rows.
        me: my worker id.
        held: keys of the leases I hold now.
        config: the lease duration, the hand-over timeout and the most leases to hold.
        now: my monotonic time in seconds.
        rng: decides among equals, so that workers do not race for the same lease.
    """
    returning, let_go, free, live = [], [], [], []
    for row in _active(leases, leases):
        if row.key in held:
            live.append(row)
        elif row.owner == me:
            live.append(row)
            if _may_resume(row, observed[row.key], me, config, now):
                returning.append(row)
        elif row.checkpoint_owner == me:
            live.append(row)
            let_go.append(row)
        elif row.owner is None or _age(row, observed, now) >= config.duration:
            free.append(row)
        else:
            live.append(row)
    loads = Counter(row.owner for row in live if row.owner is not None)
    loads[me] += 0  # A worker without leases counts, if it is this one.
    limit = len(leases) if config.max_leases is None else config.max_leases
    room = max(0, limit - loads[me])
    need = math.ceil((len(live) + len(free)) / len(loads)) - loads[me]
    taken = _choose(free, observed, min(need, room), room, config.duration, now, rng)
    asked = [] if free else _requests(live, loads, me, room, rng)
    returning = returning[: max(0, limit - len(held))]
    return Plan(tuple(let_go), (*returning, *taken), tuple(asked))


def next_expiry(
    leases: Sequence[Lease],
    observed: Mapping[str, Observed],
    me: str,
    config: LeaseConfig,
    now: float,
) -> float | None:
    """Return when the next lease of somebody else expires or a hand-over to me times out.

    A scan at that very time takes a crashed worker's leases over within one lease duration and one
    scan interval of its last renewal.
    """
    times = []
    others = [row for row in leases if row.processor not in (None, me)]
    for row in _active(others, leases):
        seen = observed[row.key]
        times.append(seen.since + config.duration)
        if seen.asked is not None:
            times.append(seen.asked + config.handover_timeout)
    return min((time for time in times if time > now), default=None)


def withdrawn(lease: Lease) -> Lease:
    """Return a lease that I asked for as it was before I asked: its processor owns it again."""
    return msgspec.structs.replace(lease, owner=lease.checkpoint_owner, checkpoint_owner=None)


def _active(some: Sequence[Lease], leases: Sequence[Lease]) -> list[Lease]:
    """Return those of some rows that can be processed, which all rows tell."""
    unfinished = [row for row in some if not row.checkpoint.is_end]
    if not any(row.parents for row in unfinished):
        return unfinished
    rows = {lease.key: lease for lease in leases}
    return [row for row in unfinished if not row.parents or startable(row, rows)]


def _age(row: Lease, observed: Mapping[str, Observed], now: float) -> float:
    return now - observed[row.key].since


def _may_resume(row: Lease, seen: Observed, me: str, config: LeaseConfig, now: float) -> bool:
    """Whether a row that names me as owner is free of its processor, or that one is silent."""
    if row.checkpoint_owner in (None, me):
        return True
    timed_out = seen.asked is not None and now - seen.asked >= config.handover_timeout
    return timed_out or now - seen.since >= config.duration


def _choose(
    free: list[Lease],
    observed: Mapping[str, Observed],
    need: int,
    room: int,
    duration: float,
    now: float,
    rng: Random,
) -> list[Lease]:
    """Pick up to `need` of the free leases, and all that nobody took for long, up to `room`."""
    old = [row for row in free if _age(row, observed, now) >= LONG_EXPIRED * duration]
    young = [row for row in free if _age(row, observed, now) < LONG_EXPIRED * duration]
    rng.shuffle(old)
    rng.shuffle(young)
    return [*old, *young][: max(need, min(len(old), room), 0)]


def _requests(
    live: list[Lease], loads: Counter[str], me: str, room: int, rng: Random
) -> list[Lease]:
    """Pick leases of whoever has most at each pick, while that is at least two more than I have."""
    donors: dict[str, list[Lease]] = {}
    for row in live:
        if row.owner not in (None, me) and row.checkpoint_owner is None:
            donors.setdefault(str(row.owner), []).append(row)
    lacking = sum(loads.values()) // len(loads) - loads[me]
    loads = loads.copy()
    chosen: list[Lease] = []
    for _ in range(min(room, max(1, lacking // REQUESTS_IN_DEFICIT))):
        most = max((loads[owner] for owner in donors if donors[owner]), default=0)
        if most - loads[me] < 2:
            break
        donor = rng.choice([owner for owner in donors if donors[owner] and loads[owner] == most])
        chosen.append(donors[donor].pop(rng.randrange(len(donors[donor]))))
        loads[donor] -= 1
    return chosen
