"""An outbox to fill, and a destination that does as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio

from streamproc.sinks.sink import OutgoingEvent, Sink
from streamproc.state.keys import Keys

KEYS = Keys("payments")


async def emit(client: redis.asyncio.Redis, *events: tuple[str, str]) -> None:
    """Put (id, key) into the outbox, in order."""
    for event_id, key in events:
        fields: dict[Any, Any] = {
            "id": event_id,
            "type": "Flagged",
            "key": key,
            "cause": f"cause-{event_id}",
            "data": f'{{"id":"{event_id}"}}',
        }
        await client.xadd(KEYS.outbox, fields)


def event(event_id: str, key: str, size: int = 10) -> OutgoingEvent:
    """Return an event with `size` bytes of data."""
    return OutgoingEvent(id=event_id, type="T", key=key, cause="c", data=b"x" * size)


class FakeSink(Sink):
    """Remembers what it took.

    Attributes:
        taken: the events acknowledged, in order.
        calls: the ids of each call, also of those that failed.
        refuse: says which events are not taken; no later one of their keys is, either.
        failure: raised instead of an answer, while set.
        gate: each call waits for it.
    """

    def __init__(self) -> None:
        self.taken: list[OutgoingEvent] = []
        self.calls: list[list[str]] = []
        self.refuse: Callable[[OutgoingEvent], bool] = lambda _event: False
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.closed = False

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        self.calls.append([event.id for event in events])
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        done: set[int] = set()
        blocked: set[str] = set()
        for at, event in enumerate(events):
            if event.key in blocked or self.refuse(event):
                blocked.add(event.key)
            else:
                done.add(at)
                self.taken.append(event)
        return done

    async def aclose(self) -> None:
        self.closed = True

    @property
    def ids(self) -> list[str]:
        """The ids of what was acknowledged, in order."""
        return [event.id for event in self.taken]
