"""The streams of the one account that an endpoint serves, and the settings all operations share."""

from __future__ import annotations

import re
from collections.abc import Callable

from streamproc.testing.localkinesis import errors
from streamproc.testing.localkinesis.requests import StreamRequest
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream, StreamStatus
from streamproc.testing.localkinesis.throttle import ShardThrottle, ThrottleLimits

# "CreateStream" page: pattern and length of StreamName.
_STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")

READABLE = frozenset({StreamStatus.ACTIVE, StreamStatus.UPDATING})


class Account:
    """Streams by name, the clock, and the limits.

    `clock` returns seconds since the epoch, as `time.time` does. `throttling` may be switched at
    any time; `transition_delay_s` is how long a stream stays CREATING, UPDATING or DELETING.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        account_id: str,
        region: str,
        transition_delay_s: float,
        shard_limit: int,
        throttling: bool,
        throttle_limits: ThrottleLimits,
    ) -> None:
        self.id = account_id
        self.region = region
        self.shard_limit = shard_limit
        self.throttling = throttling
        self.throttle_limits = throttle_limits
        self.transition_delay_s = transition_delay_s
        self.streams: dict[str, Stream] = {}
        self._clock = clock
        self._epoch = 0
        self._incarnation = 0

    def now_ms(self) -> int:
        """Return the time in ms since the epoch."""
        return int(self._clock() * 1000)

    def next_epoch(self, now_ms: int) -> int:
        """Return the creation second for a shard, pushed on so that every later one is greater."""
        self._epoch = max(now_ms // 1000, self._epoch + 1)
        return self._epoch

    def next_incarnation(self) -> int:
        """Return a number that no other stream of this account had."""
        self._incarnation += 1
        return self._incarnation

    def transition(
        self, stream: Stream, status: StreamStatus, now_ms: int, apply: Callable[[int], None]
    ) -> None:
        """Put `stream` into `status` for the transition delay, then `apply`."""
        stream.begin(status, now_ms + int(self.transition_delay_s * 1000), apply)
        stream.settle(now_ms)

    def settle_all(self, now_ms: int) -> None:
        """Finish the due transitions of all streams."""
        for stream in list(self.streams.values()):
            stream.settle(now_ms)

    def stream_arn(self, name: str) -> str:
        """Return the ARN of a stream."""
        return f"arn:aws:kinesis:{self.region}:{self.id}:stream/{name}"

    def stream_name(self, request: StreamRequest) -> str:
        """Return the name in a request, given by StreamName or StreamARN."""
        name = request.stream_name
        if request.stream_arn is not None:
            prefix = self.stream_arn("")
            if not request.stream_arn.startswith(prefix):
                raise errors.validation(
                    "streamARN",
                    request.stream_arn,
                    f"Member must be an ARN of this account: {prefix}<name>",
                )
            arn_name = request.stream_arn.removeprefix(prefix)
            if name is not None and name != arn_name:
                raise errors.invalid_argument(
                    f"StreamName {name} and StreamARN {request.stream_arn} do not match."
                )
            name = arn_name
        if name is None:
            raise errors.invalid_argument("Either StreamName or StreamARN must be provided.")
        if not _STREAM_NAME.fullmatch(name):
            raise errors.validation(
                "streamName",
                name,
                "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+ "
                "and have a length of 1 to 128",
            )
        return name

    def stream(self, request: StreamRequest, now_ms: int) -> Stream:
        """Return the stream that a request is about, in whatever state it is."""
        return self.stream_named(self.stream_name(request), now_ms)

    def stream_named(self, name: str, now_ms: int) -> Stream:
        """Return a stream by name, in whatever state it is."""
        stream = self.streams.get(name)
        if stream is not None:
            stream.settle(now_ms)
            # Settling may have finished a deletion.
            stream = self.streams.get(name)
        if stream is None:
            raise errors.stream_not_found(name, self.id)
        return stream

    def active_stream(self, request: StreamRequest, now_ms: int) -> Stream:
        """Return a stream that must be ACTIVE."""
        stream = self.stream(request, now_ms)
        if stream.status is not StreamStatus.ACTIVE:
            raise errors.stream_not_active(stream.name, self.id, stream.status)
        return stream

    def readable_stream(self, request: StreamRequest, now_ms: int) -> Stream:
        """Return a stream that records can be put into and read from."""
        stream = self.stream(request, now_ms)
        if stream.status not in READABLE:
            raise errors.stream_not_found(stream.name, self.id)
        return stream

    def shard(self, stream: Stream, shard_id: str) -> Shard:
        """Return a shard of `stream`."""
        shard = stream.shards.get(shard_id)
        if shard is None:
            raise errors.shard_not_found(shard_id, stream.name, self.id)
        return shard

    def throttle(self, shard: Shard) -> ShardThrottle | None:
        """Return the rate limits of `shard`; None while throttling is off."""
        if not self.throttling:
            return None
        if shard.throttle is None:
            shard.throttle = ShardThrottle(self.throttle_limits)
        return shard.throttle

    def open_shard_count(self) -> int:
        """Count the open shards of all streams."""
        return sum(stream.open_count for stream in self.streams.values())

    def forget(self, stream: Stream) -> None:
        """Remove a deleted stream with all it held."""
        del self.streams[stream.name]

    def check_shard_limit(self, additional: int) -> None:
        """Refuse what would take the account over its shard limit."""
        current = self.open_shard_count()
        if current + additional > self.shard_limit:
            raise errors.limit_exceeded(
                f"This request would exceed the shard limit for the account {self.id} in "
                f"{self.region}. Current shard count for the account: {current}. Limit: "
                f"{self.shard_limit}. Number of additional shards that would have resulted from "
                f"this request: {additional}."
            )
