"""Offering records at a fixed rate, whatever becomes of them: when each is due is fixed beforehand.

It runs in the servers' process and appends to the stream itself, since PutRecords over HTTP would
take from the servers' core what the consumer's rate needs. A producer's way to the stream is
therefore not in what is measured; everything from the stream on is.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from streamproc.testing.localkinesis.prepared import PreparedRecord, PreparedStream
from streamproc.testing.localkinesis.sequence import COUNTER_STEP

__all__ = ["Offered", "OpenLoop", "Schedule", "ShardLoad"]

_TICK_S = 0.01
_LEAD_S = 0.1


class Schedule(msgspec.Struct, frozen=True):
    """When records are due: in groups of those of 10 ms, as producers batch, from `started` on."""

    rate: float
    started: float

    @property
    def group(self) -> int:
        """How many records are due together."""
        return max(1, round(self.rate * _TICK_S))

    def due(self, group: int) -> float:
        """Return the monotonic time in seconds at which a group, counted from 0, is due."""
        return self.started + group * self.group / self.rate


class ShardLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What one shard was given.

    Attributes:
        first: sequence number of its first record; later ones follow it without a gap.
        groups: (monotonic time in s at which they were due, number of records), in order.
    """

    first: str
    groups: list[tuple[float, int]]

    @property
    def count(self) -> int:
        """How many records it was given."""
        return sum(count for _, count in self.groups)

    def sequences(self) -> list[str]:
        """Return the sequence numbers in order."""
        first = int(self.first)
        return [str(first + at * COUNTER_STEP) for at in range(self.count)]


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """What was offered, and whether it was sent in time.

    Attributes:
        rate: records a second that were to be sent.
        count: records that were sent.
        started: when the first was due, on the monotonic clock in seconds.
        sent: when the last was in the stream.
        late: seconds by which the latest group was late; it counts as latency.
    """

    rate: float
    count: int
    started: float
    sent: float
    late: float
    shards: dict[str, ShardLoad]

    @property
    def sent_rate(self) -> float:
        """Records a second that were sent, at most the rate that was asked for."""
        # The last group is sent at the start of its 10 ms.
        return min(self.rate, self.count / max(self.sent - self.started, 1e-9))


class OpenLoop:
    """Sends records to a stream at a rate; what cannot be sent in its time is sent at once.

    Args:
        stream: where to.
        rate: records a second.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        stream: PreparedStream,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._sleep = sleep
        self._schedule = Schedule(rate, clock() + _LEAD_S)
        self._begun = stream.tips()
        self._groups: dict[str, list[tuple[float, int]]] = {}
        self._count = 0
        self._late = 0.0
        self._sent = self._schedule.started

    async def run(self, records: Iterable[PreparedRecord]) -> None:
        """Send them until there are no more, or until cancelled."""
        left, size = iter(records), self._schedule.group
        for number in itertools.count():
            due = self._schedule.due(number)
            # Also when late: the servers share this loop.
            await self._sleep(max(0.0, due - self._clock()))
            # Taken only now, so that a run that is cancelled leaves no record taken and not sent.
            group = list(itertools.islice(left, size))
            if not group:
                return
            self._send(group, due)

    def offered(self) -> Offered:
        """Return the account so far."""
        return Offered(
            rate=self._schedule.rate,
            count=self._count,
            started=self._schedule.started,
            sent=self._sent,
            late=self._late,
            shards={
                shard: ShardLoad(
                    first=str(self._stream.number(shard, self._begun.get(shard, 0))), groups=groups
                )
                for shard, groups in self._groups.items()
            },
        )

    def _send(self, group: list[PreparedRecord], due: float) -> None:
        before = self._stream.tips()
        self._stream.append(group)
        for shard, tip in self._stream.tips().items():
            if taken := tip - before.get(shard, 0):
                self._groups.setdefault(shard, []).append((due, taken))
        self._count += len(group)
        self._sent = self._clock()
        self._late = max(self._late, self._sent - due)
