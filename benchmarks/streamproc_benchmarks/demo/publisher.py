"""Puts records into the stream at an offered rate, each key's in order."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol

import msgspec

from streamproc.kinesis.api import PutEntry, PutResult
from streamproc.kinesis.errors import ThrottledError
from streamproc_benchmarks.demo.workload import Record

__all__ = ["Publisher", "ShardLog"]

_TICK_S: Final = 0.05
_MOST_ENTRIES: Final = 500  # "PutRecords" (API reference)
_THROTTLE_PAUSE_S: Final = 0.1


class ShardLog(msgspec.Struct):
    """What one shard took, in its order: sequence numbers, and the kinds of the records."""

    sequences: list[int] = []
    kinds: list[str] = []

    def between(self, after: int, until: int) -> Counter[str]:
        """Count by kind the records after one sequence number, up to and including another."""
        first = bisect_right(self.sequences, after)
        return Counter(self.kinds[first : bisect_right(self.sequences, until)])


class Putter(Protocol):
    """What is needed of a Kinesis client."""

    async def put_records(self, entries: list[PutEntry]) -> list[PutResult]:
        """Put entries; single ones may fail, which their results tell."""
        ...


class Publisher:
    """An open-loop producer: what is due is put, however far the consumers are.

    PutRecords promises no order inside a call, and where single entries fail the later ones of
    the same key may be in already. So a call carries at most one record of a key, and the next
    record of a key waits until the one before it was taken.

    Attributes:
        published: records that the stream has taken.
        history: those records, in the order of the calls.
        shards: what each shard took.
        retried: entries that were refused and put again.
    """

    def __init__(self, kinesis: Putter) -> None:
        self.history: list[Record] = []
        self.shards: dict[str, ShardLog] = defaultdict(ShardLog)
        self.retried = 0
        self._kinesis = kinesis
        self._waiting: deque[Record] = deque()

    @property
    def published(self) -> int:
        """Records that the stream has taken."""
        return len(self.history)

    async def publish(self, records: Iterable[Record], rate: float) -> None:
        """Put all of `records`, `rate` a second; return when the stream has taken the last."""
        source = iter(records)
        clock = asyncio.get_running_loop().time
        started = clock()
        asked = 0
        while True:
            # One more than is due: the first at once, and the end is found with the last.
            due = int((clock() - started) * rate) + 1
            batch = list(islice(source, due - asked))
            self._waiting.extend(batch)
            await self.flush()
            if len(batch) < due - asked:
                return
            asked = due
            await asyncio.sleep(_TICK_S)

    async def flush(self) -> None:
        """Put everything that waits."""
        while self._waiting:
            await self._put(self._take())

    def _take(self) -> list[Record]:
        """Take the next call's records off the queue: the first of each key."""
        chosen: list[Record] = []
        passed_over: list[Record] = []
        keys: set[str] = set()
        while self._waiting and len(chosen) < _MOST_ENTRIES:
            record = self._waiting.popleft()
            if record.partition_key in keys:
                passed_over.append(record)
            else:
                keys.add(record.partition_key)
                chosen.append(record)
        self._waiting.extendleft(reversed(passed_over))
        return chosen

    async def _put(self, records: list[Record]) -> None:
        entries = [PutEntry(data=r.data, partition_key=r.partition_key) for r in records]
        try:
            results = await self._kinesis.put_records(entries)
        except ThrottledError:
            results = [PutResult(error_code="ThrottlingException")] * len(records)
        refused = []
        for record, result in zip(records, results, strict=True):
            if result.sequence_number is None or result.shard_id is None:
                refused.append(record)
                continue
            log = self.shards[result.shard_id]
            log.sequences.append(int(result.sequence_number))
            log.kinds.append(record.kind)
            self.history.append(record)
        if refused:
            # In front of the others of their keys, so that these wait for them.
            self._waiting.extendleft(reversed(refused))
            self.retried += len(refused)
            await asyncio.sleep(_THROTTLE_PAUSE_S)
