"""A processor of alarms, which are set by events and ring by timers."""

from __future__ import annotations

import json
import time

from streamproc import Context, Event, Processor, on
from streamproc.context import Clock


class Armed(Event, id="alarm_id"):
    alarm_id: str
    owner: str
    at: float
    clock: Clock = "wall"


class Ring(Event):
    alarm_id: str
    owner: str
    at: float


class Rang(Event, id="alarm_id"):
    alarm_id: str
    late: float
    shard: str


class Alarms(Processor[list[str]]):
    """Notes what was armed and what rang, and how late."""

    name = "alarms"

    @on(Armed, key="owner")
    def arm(self, event: Armed, ctx: Context[list[str]]) -> None:
        ctx.state.append(f"+{event.alarm_id}")
        ring = Ring(event.alarm_id, event.owner, event.at)
        ctx.schedule(event.at, ring, id=event.alarm_id, clock=event.clock)

    @on(Ring, key="owner")
    def ring(self, event: Ring, ctx: Context[list[str]]) -> None:
        ctx.state.append(f"-{event.alarm_id}")
        ctx.emit(Rang(event.alarm_id, time.time() - event.at, ctx.shard_id))


def armed(alarm_id: str, owner: str, at: float, clock: Clock = "wall", time: str = "") -> bytes:
    """Return the record data of an alarm that is to ring at a time."""
    envelope = {
        "specversion": "1.0",
        "type": "Armed",
        "id": alarm_id,
        "source": "test",
        "data": {"alarm_id": alarm_id, "owner": owner, "at": at, "clock": clock},
    }
    return json.dumps(envelope | ({"time": time} if time else {})).encode()
