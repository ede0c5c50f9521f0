"""The way between a worker and the servers: it takes time, breaks, and loses answers.

A call is carried out at the server when it arrives there, whatever has become of the caller: a
worker may die, be paused or give up waiting, and its write is applied all the same.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from streamproc.errors import LeaseStoreError, StateStoreError, StreamError, StreamprocError
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult, StreamSummary
from streamproc.kinesis.codec import GetRecordsResult, decode_get_records
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from streamproc.kinesis.lineage import ShardInfo
from streamproc.leases.lease import Lease
from streamproc.position import Position
from streamproc.state.cell import StateCell
from streamproc.state.counters import CounterCell
from streamproc.state.store import Adopted, Checked, Commit, CommitResult
from streamproc.state.timers import Clock, Timer, TimerState
from streamproc.testing.localkinesis.core import LocalKinesisCore
from streamproc.testing.memory_state import MemoryStateStore
from streamproc_checkpoints.memory import MemoryLeaseStore
from tests.simulation.kernel import Kernel, SimLoop
from tests.simulation.oracle import Chain, Oracle

__all__ = ["Link", "RemoteKinesis", "RemoteLeases", "RemoteState"]

T = TypeVar("T")


class Link:
    """A worker's way to one server.

    Attributes:
        delay: seconds of the usual way there or back; each way takes up to twice that.
        failing: share of calls refused before they are carried out.
        losing: share of calls carried out whose answer is an error.
        silent: share of calls that are lost on the way: never carried out, never answered.
        refusing: share of calls refused for good, as for want of a permission.
    """

    def __init__(self, kernel: Kernel, error: type[StreamprocError]) -> None:
        self._kernel = kernel
        self._error = error
        self.heal()

    def heal(self) -> None:
        """Be a good link again."""
        self.delay = 0.003
        self.failing = 0.0
        self.losing = 0.0
        self.silent = 0.0
        self.refusing = 0.0

    async def call(self, action: Callable[[], T]) -> T:
        """Carry out an action at the other end and return what it returns, or raise."""
        kernel, rng = self._kernel, self._kernel.rng
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        answer: asyncio.Future[T] = loop.create_future()
        if self.silent and rng.random() < self.silent:
            return await answer
        kernel.after(rng.random() * 2 * self.delay, lambda: self._arrive(action, answer, loop))
        return await answer

    def _arrive(self, action: Callable[[], T], answer: asyncio.Future[T], loop: SimLoop) -> None:
        rng = self._kernel.rng
        result: Any = None
        error: BaseException | None = None
        if self.refusing and rng.random() < self.refusing:
            error = StreamError("the simulated server refuses")
        elif self.failing and rng.random() < self.failing:
            error = self._error("the simulated server is away")
        else:
            try:
                result = action()
            except StreamprocError as raised:
                error = raised
            if self.losing and rng.random() < self.losing:
                error = self._error("the simulated answer was lost")

        def deliver() -> None:
            if not answer.done():
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)

        self._kernel.after(rng.random() * 2 * self.delay, lambda: loop.call_soon(deliver) and None)


def _now(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a store in memory does not wait")


class RemoteLeases:
    """A lease store at the end of a link."""

    def __init__(self, link: Link, table: MemoryLeaseStore) -> None:
        self._link = link
        self._table = table

    async def list(self) -> list[Lease]:
        return await self._link.call(lambda: _now(self._table.list()))

    async def create(self, lease: Lease) -> bool:
        return await self._link.call(lambda: _now(self._table.create(lease)))

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        return await self._link.call(lambda: _now(self._table.replace(old, new)))

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        return await self._link.call(lambda: _now(self._table.replace_all(changes)))

    async def delete(self, old: Lease) -> bool:
        return await self._link.call(lambda: _now(self._table.delete(old)))

    async def aclose(self) -> None:
        pass


class RemoteState:
    """A state store at the end of a link; what it applies, the oracle judges.

    The store works on copies of the caller's cells, and the caller's own change with the answer: a
    lost answer must leave them as they were.
    """

    def __init__(
        self, link: Link, store: MemoryStateStore, oracle: Oracle, worker: str, partition: int
    ) -> None:
        self._link = link
        self._partition = partition
        self._store = store
        self._oracle = oracle
        self._worker = worker
        self.keys = store.keys

    async def adopt(self, shard: str, epoch: int, start: Position | None) -> Adopted:
        def at_server() -> Adopted:
            adopted = _now(self._store.adopt(shard, epoch, start))
            self._oracle.adopted(self._chain(shard), epoch, adopted.position, self._worker)
            return adopted

        return await self._link.call(at_server)

    async def check(
        self,
        digests: Sequence[bytes],
        cells: Sequence[StateCell],
        counters: Sequence[CounterCell] = (),
    ) -> Checked:
        assert not counters, "the simulated processors have none"
        copies = [_copy(cell) for cell in cells]
        answer = await self._link.call(lambda: _now(self._store.check(digests, copies)))
        for cell, copy in zip(cells, copies, strict=True):
            cell.is_held = True
            if cell.version != copy.version:
                cell.load(copy.version, copy.raw, copy.schema)
        return answer

    async def commit(self, commit: Commit) -> CommitResult:
        copies = [(_copy(cell), value) for cell, value in commit.cells]
        remote = msgspec.structs.replace(commit, cells=copies)

        def at_server() -> CommitResult:
            result = _now(self._store.commit(remote))
            if result.outcome == "OK":
                self._oracle.committed(self._chain(commit.shard), remote, self._worker)
            return result

        result = await self._link.call(at_server)
        if result.outcome == "OK":
            for (cell, value), (copy, _) in zip(commit.cells, copies, strict=True):
                if value is not None:
                    cell.committed(value, copy.version)
        return result

    async def due_timers(
        self, shard: str, clock: Clock, until: int, limit: int
    ) -> tuple[list[Timer], TimerState]:
        return await self._link.call(
            lambda: _now(self._store.due_timers(shard, clock, until, limit))
        )

    async def inherit_timers(self, parent: str, child: str, low: str, high: str) -> int:
        return await self._link.call(
            lambda: _now(self._store.inherit_timers(parent, child, low, high))
        )

    def bucket(self) -> int:
        return self._store.bucket()

    def now_ms(self) -> int:
        return self._store.now_ms()

    async def positioned_shards(self, stream: str) -> set[str]:
        return await self._link.call(lambda: _now(self._store.positioned_shards(stream)))

    async def forget_shards(self, stream: str, shards: Collection[str]) -> None:
        await self._link.call(lambda: _now(self._store.forget_shards(stream, shards)))

    async def aclose(self) -> None:
        pass

    def _chain(self, field: str) -> Chain:
        return Chain(field.rpartition("/")[2], self._partition)


def _copy(cell: StateCell) -> StateCell:
    copy = StateCell(cell.key, cell.codec)
    copy.load(cell.version, cell.raw, cell.schema)
    return copy


class RemoteKinesis(KinesisApi):
    """One stream of a `LocalKinesisCore` at the end of a link."""

    def __init__(self, link: Link, core: LocalKinesisCore, stream: str) -> None:
        self._link = link
        self._core = core
        self._stream = stream

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        body = msgspec.json.encode({"ShardIterator": iterator, "Limit": limit})
        return await self._link.call(lambda: decode_get_records(self._send("GetRecords", body)))

    async def shard_iterator(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> str:
        request: dict[str, Any] = {"StreamName": self._stream, "ShardId": shard_id}
        if position.timestamp is not None:
            request |= {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": position.timestamp}
        elif position.is_start:
            request["ShardIteratorType"] = position.sequence
        else:
            request |= {
                "ShardIteratorType": f"{'AT' if inclusive else 'AFTER'}_SEQUENCE_NUMBER",
                "StartingSequenceNumber": position.sequence,
            }
        answer = await self._ask("GetShardIterator", request)
        return str(answer["ShardIterator"])

    async def list_shards(self, at: Position | None = None) -> list[ShardInfo]:
        request: dict[str, Any] = {"StreamName": self._stream, "MaxResults": 1_000}
        if at is not None and at.timestamp is not None:
            request["ShardFilter"] = {"Type": "AT_TIMESTAMP", "Timestamp": at.timestamp}
        elif at is not None:
            request["ShardFilter"] = {"Type": f"AT_{at.sequence}"}
        answer = await self._ask("ListShards", request)
        return [_shard(described) for described in answer["Shards"]]

    async def describe_stream(self) -> StreamSummary:
        answer = await self._ask("DescribeStreamSummary", {"StreamName": self._stream})
        summary = answer["StreamDescriptionSummary"]
        return StreamSummary(
            name=self._stream,
            status=summary["StreamStatus"],
            arn=summary["StreamARN"],
            retention_hours=summary["RetentionPeriodHours"],
            creation_timestamp=summary["StreamCreationTimestamp"],
            open_shard_count=summary["OpenShardCount"],
            encryption="NONE",
        )

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        raise NotImplementedError

    async def _ask(self, operation: str, request: dict[str, Any]) -> Any:
        body = msgspec.json.encode(request)
        return msgspec.json.decode(await self._link.call(lambda: self._send(operation, body)))

    def _send(self, operation: str, body: bytes) -> bytes:
        reply = self._core.handle(operation, body)
        if reply.error_code is None:
            return reply.body
        kinds: dict[str, type[StreamprocError]] = {
            "ExpiredIteratorException": ExpiredIteratorError,
            "ProvisionedThroughputExceededException": ThrottledError,
            "ResourceNotFoundException": NotFoundError,
        }
        raise kinds.get(reply.error_code, TransientError)(f"{operation}: {reply.body.decode()}")


def _shard(described: dict[str, Any]) -> ShardInfo:
    parents = (described.get("ParentShardId"), described.get("AdjacentParentShardId"))
    hashes, numbers = described["HashKeyRange"], described["SequenceNumberRange"]
    return ShardInfo(
        shard_id=described["ShardId"],
        parents=tuple(parent for parent in parents if parent),
        starting_hash_key=hashes["StartingHashKey"],
        ending_hash_key=hashes["EndingHashKey"],
        starting_sequence_number=numbers["StartingSequenceNumber"],
        ending_sequence_number=numbers.get("EndingSequenceNumber"),
    )


LEASES, STATE, KINESIS = LeaseStoreError, StateStoreError, TransientError
