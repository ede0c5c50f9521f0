"""Which way a shard is read: by enhanced fan-out where that works, else by polling."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from streamproc.config import ReadConfig
from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.budget import ByteBudget
from streamproc.kinesis.fanout import FanOutApi
from streamproc.kinesis.fanout_reader import FanOutReader
from streamproc.kinesis.quiet import QuietApi, QuietShards
from streamproc.kinesis.reader import ShardReader
from streamproc.kinesis.reading import Reader
from streamproc.leases.lease import Lease
from streamproc.position import Position

__all__ = ["Readers"]

log = logging.getLogger(__name__)

_POLL_FOR_S: Final = 300.0


class Readers:
    """Opens the readers of a worker's shards.

    When subscriptions keep failing, shards that are opened within the next five minutes are polled,
    each until its lease goes or it is started anew.

    Args:
        api: the stream.
        fan_out: the registered consumer; None polls all shards.
        budget: shared by all readers.
        config: how to read.
        clock: monotonic seconds.
        quiet: the stream, for shards that are idle; None if they are read as any other.
    """

    def __init__(
        self,
        api: KinesisApi,
        fan_out: FanOutApi | None,
        budget: ByteBudget,
        config: ReadConfig,
        clock: Callable[[], float] = time.monotonic,
        quiet: QuietApi | None = None,
    ) -> None:
        self._api = api
        self._fan_out = fan_out
        self._budget = budget
        self._config = config
        self._clock = clock
        self._poll_until = clock()
        self._quiet = None if quiet is None else QuietShards(quiet)

    def open(self, lease: Lease, position: Position) -> Reader:
        """Return a reader of the lease's shard, to begin at `position`."""
        if self._fan_out is not None and self._clock() >= self._poll_until:
            return FanOutReader(
                self._fan_out,
                self._api,
                lease.key,
                position,
                self._budget,
                self._config,
                on_unavailable=self._fall_back,
                hash_range=lease.hash_range,
            )
        return ShardReader(
            self._api,
            lease.key,
            position,
            self._budget,
            self._config,
            hash_range=lease.hash_range,
            quiet=self._quiet,
        )

    def _fall_back(self) -> None:
        self._poll_until = self._clock() + _POLL_FOR_S
