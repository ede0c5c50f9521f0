"""Bugs to inject, each as somebody might well have written it: does the simulation find them?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import msgspec

from streamproc.kinesis.prefetch import Fetched
from streamproc.kinesis.reader import ShardReader
from streamproc.leases import assignment, coordinator, shard_sync
from streamproc.leases.coordinator import LeaseCoordinator
from streamproc.leases.lease import Lease
from streamproc.pipeline.shard import ShardConsumer
from streamproc.position import LATEST
from streamproc.shard_pool import ShardPool
from streamproc.shard_watch import ShardWatch
from streamproc.state.store import Commit, CommitResult
from streamproc.testing.memory_state import MemoryStateStore

__all__ = ["MUTATIONS", "injected"]

Patch = Callable[[contextlib.ExitStack], None]

MUTATIONS: dict[str, tuple[str, Patch]] = {}
"""By name: what the bug is, and what puts it in."""


@contextlib.contextmanager
def injected(name: str | None) -> Iterator[None]:
    """Put a bug in for a while."""
    with contextlib.ExitStack() as stack:
        if name is not None:
            MUTATIONS[name][1](stack)
        yield


def _mutation(name: str, bug: str) -> Callable[[Patch], Patch]:
    def register(patch: Patch) -> Patch:
        MUTATIONS[name] = (bug, patch)
        return patch

    return register


def _replace(stack: contextlib.ExitStack, where: Any, name: str, new: Any) -> None:
    stack.enter_context(mock.patch.object(where, name, new))


@_mutation("no-fencing-in-redis", "a commit of an old epoch is accepted")
def _no_fencing(stack: contextlib.ExitStack) -> None:
    real = MemoryStateStore.commit

    async def commit(self: MemoryStateStore, commit: Commit) -> CommitResult:
        owned = self._owned.get(commit.shard)
        if owned is not None:
            commit = msgspec.structs.replace(commit, epoch=max(commit.epoch, owned.epoch))
        return await real(self, commit)

    _replace(stack, MemoryStateStore, "commit", commit)


@_mutation("no-chain-in-redis", "a commit may start anywhere")
def _no_chain(stack: contextlib.ExitStack) -> None:
    real = MemoryStateStore.commit

    async def commit(self: MemoryStateStore, commit: Commit) -> CommitResult:
        owned = self._owned.get(commit.shard)
        if owned is not None and owned.position is not None:
            self._owned[commit.shard] = msgspec.structs.replace(owned, position=commit.start)
        return await real(self, commit)

    _replace(stack, MemoryStateStore, "commit", commit)


@_mutation("epoch-not-raised", "taking a lease leaves its counter, so epochs repeat")
def _epoch_not_raised(stack: contextlib.ExitStack) -> None:
    def taken(row: Lease, by: str) -> Lease:
        return msgspec.structs.replace(row, owner=by, checkpoint_owner=None)

    _replace(stack, coordinator, "taken", taken)


@_mutation("child-beside-parent", "a child starts before its parents are finished")
def _child_beside_parent(stack: contextlib.ExitStack) -> None:
    _replace(stack, assignment, "startable", lambda row, rows: True)


@_mutation("one-parent-is-enough", "a merge child starts after one of its parents")
def _one_parent(stack: contextlib.ExitStack) -> None:
    def startable(row: Lease, rows: Any) -> bool:
        ended = [(p := rows.get(key)) is None or p.is_finished for key in row.parents]
        return not ended or any(ended)

    _replace(stack, assignment, "startable", startable)


@_mutation("children-at-latest", "children begin at LATEST instead of their horizon")
def _children_at_latest(stack: contextlib.ExitStack) -> None:
    _replace(stack, shard_sync, "TRIM_HORIZON", LATEST)


@_mutation("merge-child-too-early", "a merge child gets its lease beside an unknown parent")
def _merge_child(stack: contextlib.ExitStack) -> None:
    _replace(stack, coordinator, "children_to_create", lambda children, parent, rows: children)


@_mutation("record-dropped", "the last record of a full answer is lost")
def _record_dropped(stack: contextlib.ExitStack) -> None:
    real = ShardReader._accept

    def accept(self: ShardReader, result: Any) -> Fetched | None:
        fetched = real(self, result)
        if fetched is not None and len(fetched.records) > 3:
            return msgspec.structs.replace(fetched, records=fetched.records[:-1])
        return fetched

    _replace(stack, ShardReader, "_accept", accept)


@_mutation("handover-without-drain", "an owner that is asked lets go of what it has in hand")
def _handover_without_drain(stack: contextlib.ExitStack) -> None:
    releases: list[asyncio.Future[bool]] = []

    def handover_requested(self: ShardPool, key: str) -> None:
        if key in self._consumers:
            epoch = self._consumers[key].lease.counter
            self._tasks[key].cancel()
            task = asyncio.ensure_future(self._leases.release(key, epoch=epoch))
            releases.append(task)

    _replace(stack, ShardPool, "handover_requested", handover_requested)


@_mutation("greedy", "a worker asks for a lease of whoever has one more")
def _greedy(stack: contextlib.ExitStack) -> None:
    real = assignment._requests

    def requests(live: list[Lease], loads: Any, me: str, room: int, rng: Any) -> list[Lease]:
        fewer = loads.copy()
        fewer[me] -= 1
        return real(live, fewer, me, room, rng)

    _replace(stack, assignment, "_requests", requests)


@_mutation("late-expiry", "a lease expires after three durations")
def _late_expiry(stack: contextlib.ExitStack) -> None:
    real = assignment._age
    _replace(stack, assignment, "_age", lambda *given: real(*given) / 3)


@_mutation("request-missed", "a request for hand-over is not noticed")
def _request_missed(stack: contextlib.ExitStack) -> None:
    _replace(stack, ShardPool, "handover_requested", lambda self, key: None)


@_mutation("kept-at-stop", "a worker stops without releasing its leases")
def _kept_at_stop(stack: contextlib.ExitStack) -> None:
    async def release(self: LeaseCoordinator, *given: Any, **named: Any) -> bool:
        return True

    async def stop(self: LeaseCoordinator) -> None:
        self._stopping.set()
        await self._idle.wait()

    _replace(stack, LeaseCoordinator, "release", release)
    _replace(stack, LeaseCoordinator, "stop", stop)


@_mutation("stale-view", "a worker that stood still acts on what it saw before (seed 153)")
def _stale_view(stack: contextlib.ExitStack) -> None:
    real = ShardWatch.__init__

    def init(self: ShardWatch, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        self._fresh = 1e9
        self._keep_finished = 0.0

    _replace(stack, ShardWatch, "__init__", init)


@_mutation("marks-forgotten", "dedupe marks are not written")
def _marks_forgotten(stack: contextlib.ExitStack) -> None:
    real = MemoryStateStore._apply

    def apply(self: MemoryStateStore, commit: Commit) -> None:
        real(self, msgspec.structs.replace(commit, digests=()))

    _replace(stack, MemoryStateStore, "_apply", apply)


@_mutation("ended-too-early", "a shard counts as finished when its last answer is fetched")
def _ended_too_early(stack: contextlib.ExitStack) -> None:
    real = ShardConsumer._process

    async def process(self: ShardConsumer, fetched: Fetched, transactor: Any) -> bool:
        if fetched.is_end:
            return True
        return await real(self, fetched, transactor)

    _replace(stack, ShardConsumer, "_process", process)
