"""The seam to enhanced fan-out: records that Kinesis pushes to a registered consumer."""

from __future__ import annotations

from typing import Protocol

import msgspec

from streamproc.kinesis.records import ChildShard, Record
from streamproc.position import Position

__all__ = ["FanOutApi", "PushSubscription", "PushedEvent"]


class PushedEvent(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One event of a subscription (API: SubscribeToShardEvent).

    Attributes:
        records: in the order of the shard; an idle shard sends events without any.
        continuation: the number after which to go on in another subscription, also when there are
            no records; None once a closed shard is pushed to its end.
        millis_behind_latest: ms from the event's end to the shard's tip.
        child_shards: the successors, named with the last event.
        wire_bytes: size of the payload.
    """

    records: list[Record]
    continuation: str | None
    millis_behind_latest: int
    child_shards: list[ChildShard] = msgspec.field(default_factory=list)
    wire_bytes: int = 0


class PushSubscription(Protocol):
    """A subscription to one shard; Kinesis ends it after five minutes."""

    async def next(self) -> PushedEvent | None:
        """Return the next event; None when the subscription has ended in good order.

        Raises:
            KinesisError: it broke, or a newer one for the shard took its place.
            StreamError: Kinesis refuses for good.
        """
        ...

    def close(self) -> None:
        """End it; `next` then returns None."""
        ...


class FanOutApi(Protocol):
    """One registered consumer of one stream."""

    async def subscribe(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> PushSubscription:
        """Subscribe to what follows `position`; with `inclusive`, its own record comes first.

        Raises:
            KinesisError: not now; `ResourceInUse` within five seconds of the last subscription.
            StreamError: Kinesis refuses for good; `NotFoundError` when there is no such shard.
        """
        ...
