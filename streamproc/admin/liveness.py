"""Whether somebody works on a shard now: whoever holds its lease keeps moving a counter.

It is the lease's own, or that of the worker's row in the roster (`leases.renewal`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from streamproc.errors import StreamprocError
from streamproc.leases.lease import Lease, LeaseStore

__all__ = ["LeasesHeld", "live_leases", "refuse_live"]

_LOOKS = 20


class LeasesHeld(StreamprocError):
    """Live workers hold leases that a command was to change."""


async def live_leases(
    store: LeaseStore,
    keys: Collection[str],
    duration: float,
    *,
    roster: LeaseStore | None = None,
    any_is_enough: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, Lease]:
    """Watch owned leases for one lease duration; return those that their owners keep alive.

    A lease whose counter stands still for its whole duration has expired: whoever owned it must not
    act for it any more, by its own clock. Leases without an owner need no watching.

    Args:
        store: where the leases are.
        keys: which to watch.
        duration: the workers' `leases.duration` in seconds.
        roster: where the workers' heartbeats are, if they renew all their leases at once.
        any_is_enough: return at the first live one.
        clock: monotonic seconds.
        sleep: waits for seconds.

    Raises:
        LeaseStoreError: the store failed.
    """
    first, live = await _owned(store, keys), dict[str, Lease]()
    beats = await _heartbeats(roster)
    began = clock()
    while len(live) < len(first) and clock() - began < duration:
        await sleep(duration / _LOOKS)
        now, heard = await _owned(store, keys), await _heartbeats(roster)
        moving = {worker for worker, beat in heard.items() if beats.get(worker) != beat}
        for key, row in now.items():
            if key not in first or row.counter != first[key].counter or row.processor in moving:
                live[key] = row
        if live and any_is_enough:
            break
        first = {key: row for key, row in first.items() if key in now}
    return live


def refuse_live(live: Mapping[str, Lease], what: str) -> None:
    """Make sure that nobody is at work.

    Raises:
        LeasesHeld: names the workers and says what to do.
    """
    if live:
        workers = sorted({str(row.processor) for row in live.values()})
        names = ", ".join(workers[:3]) + (f" and {len(workers) - 3} more" if workers[3:] else "")
        raise LeasesHeld(
            f"leases are held by live workers ({names}), who would overwrite it; stop them before "
            f"you {what}"
        )


async def _owned(store: LeaseStore, keys: Collection[str]) -> dict[str, Lease]:
    wanted = frozenset(keys)
    return {
        row.key: row
        for row in await store.list()
        if row.key in wanted and row.processor is not None and not row.is_finished
    }


async def _heartbeats(roster: LeaseStore | None) -> dict[str, tuple[str | None, int]]:
    rows = [] if roster is None else await roster.list()
    return {row.key: (row.owner, row.counter) for row in rows}
