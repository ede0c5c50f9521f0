"""A registered consumer of a stream, and the one subscription it has on each shard."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamproc.testing.localkinesis.subscriptions import Subscription


class ConsumerStatus(StrEnum):
    """States of a consumer ("Consumer" page)."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"


class Consumer:
    """Whoever has a stream's records pushed, with a bandwidth of its own.

    `active_ms` is when registration is through; `subscriptions` are the latest by shard.
    """

    def __init__(self, name: str, arn: str, created_ms: int, active_ms: int) -> None:
        self.name = name
        self.arn = arn
        self.created_ms = created_ms
        self.active_ms = active_ms
        self.subscriptions: dict[str, Subscription] = {}

    def status(self, now_ms: int) -> ConsumerStatus:
        """Return the state at that time."""
        return ConsumerStatus.ACTIVE if now_ms >= self.active_ms else ConsumerStatus.CREATING
