"""Timers: events that a handler has delivered to its own processor later."""

from __future__ import annotations

from hashlib import blake2b, md5
from typing import Literal

import msgspec

__all__ = ["Clock", "Timer", "TimerChange", "TimerState", "hash_key", "timer_name"]

Clock = Literal["event", "wall"]
"""What a timer goes by: the times of its shard's events, or Redis's clock."""


class Timer(msgspec.Struct, frozen=True, kw_only=True):
    """A timer as it is stored: as JSON, under its name.

    Attributes:
        processor: who scheduled it and is to handle it.
        id: unique within the processor.
        clock: what it goes by.
        at: milliseconds since the epoch.
        type: wire type of the event, with its version.
        data: the event's payload.
        key: partition key of the record that led to it.
        hash: that key's hash key in Kinesis, 32 hex digits: a reshard carries the timer by it.
        nonce: hex digits that tell it from other timers of its name; the same on every replay.
    """

    processor: str
    id: str
    clock: Clock
    at: int
    type: str
    data: msgspec.Raw
    key: str
    hash: str
    nonce: str

    @property
    def name(self) -> str:
        """What it is stored under."""
        return timer_name(self.processor, self.id)

    @property
    def digest(self) -> bytes:
        """16 bytes that are marked when it has fired, as an event's are."""
        return blake2b(f"timer\0{self.name}\0{self.nonce}".encode(), digest_size=16).digest()


class TimerChange(msgspec.Struct, frozen=True):
    """A timer that is set, in place of any of its name; with None, that one is removed."""

    name: str
    timer: Timer | None


class TimerState(msgspec.Struct, frozen=True):
    """What is known of a shard's timers in one partition; times in ms since the epoch.

    Attributes:
        next_event: when the next timer by event time is due; None without one.
        next_wall: the same by the wall clock.
        event_clock: the shard's event time so far; None before its first timer by event time.
        pending: how many timers there are.
    """

    next_event: int | None = None
    next_wall: int | None = None
    event_clock: int | None = None
    pending: int = 0


def timer_name(processor: str, id: str) -> str:
    """Return the name of a processor's timer; a processor's own name has no colon."""
    return f"{processor}:{id}"


def hash_key(partition_key: str) -> str:
    """Return the hash key that Kinesis routes a partition key by, as 32 hex digits."""
    return md5(partition_key.encode(), usedforsecurity=False).hexdigest()
