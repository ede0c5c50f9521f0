"""SubscribeToShard without its connection: when which event is due, and when it is over.

Like the rest of the core it has no IO and no task: whoever carries a subscription asks for the next
event whenever there is room for it.
"""

from __future__ import annotations

import msgspec

from streamproc.testing.localkinesis import errors, limits, requests, sequence
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.consumer import ConsumerStatus
from streamproc.testing.localkinesis.consumer_operations import consumer_of_arn
from streamproc.testing.localkinesis.read_operations import (
    check_starting_point,
    child_shards,
    start_position,
)
from streamproc.testing.localkinesis.shard import Shard
from streamproc.testing.localkinesis.stream import Stream

_decode = msgspec.json.Decoder(requests.SubscribeToShard).decode


class Subscription:
    """One consumer's stream of events from one shard.

    Over when `is_over`: at the shard's end, after five minutes, or with `error`, which the other
    side is told as the last event.
    """

    def __init__(
        self, account: Account, stream: Stream, shard: Shard, position: int, now_ms: int
    ) -> None:
        self.is_over = False
        self.error: errors.KinesisError | None = None
        self.opened_ms = now_ms
        self.shard_id = shard.id
        self._account = account
        self._stream = stream
        self._shard = shard
        self._position = position
        self._last_event_ms = now_ms

    def end_with(self, error: errors.KinesisError) -> None:
        """Have it end with an error."""
        self.error = error

    def next_event(self) -> bytes | None:
        """Return the JSON of the event that is due now, if any; the last one sets `is_over`."""
        now_ms = self._account.now_ms()
        if self.error is not None or now_ms - self.opened_ms >= limits.SUBSCRIPTION_LIFETIME_MS:
            self.is_over = True
            return None
        shard = self._shard
        shard.trim(self._stream.horizon_ms(now_ms))
        position = max(self._position, shard.first)
        fragments = shard.read(
            position, limits.GET_RECORDS_MAX_COUNT, limits.SUBSCRIPTION_EVENT_BYTES
        )
        following = position + len(fragments)
        at_end = not shard.is_open and following >= shard.tip
        is_due = now_ms - self._last_event_ms >= limits.SUBSCRIPTION_HEARTBEAT_MS
        if not (fragments or at_end or is_due):
            return None
        self._position, self._last_event_ms = following, now_ms
        behind_ms = 0 if following >= shard.tip else max(1, now_ms - shard.arrival_at(following))
        tail = f'],"MillisBehindLatest":{behind_ms}'
        if at_end:
            self.is_over = True
            children = child_shards(self._stream, shard)
            tail += f',"ContinuationSequenceNumber":null,"ChildShards":{children}}}'
        else:
            reached = sequence.encode(shard.epoch, following, shard.index)
            tail += f',"ContinuationSequenceNumber":"{reached}"}}'
        return b'{"Records":[' + b",".join(fragments) + tail.encode()


def subscribe(account: Account, body: bytes) -> Subscription:
    """Open a subscription ("SubscribeToShard" page).

    Raises:
        KinesisError: It is refused; a second call within five seconds of a successful one is.

    """
    try:
        request = _decode(body)
    except msgspec.MsgspecError as error:
        raise errors.KinesisError("SerializationException", f"SubscribeToShard: {error}") from None
    now_ms = account.now_ms()
    stream, consumer = consumer_of_arn(account, request.consumer_arn, now_ms)
    if request.shard_id is None:
        raise errors.missing("shardId")
    start = request.starting_position
    if start is None or start.type is None:
        raise errors.missing("startingPosition")
    shard = account.shard(stream, request.shard_id)
    if consumer.status(now_ms) is not ConsumerStatus.ACTIVE:
        raise _in_use(f"Consumer {consumer.name} is not ACTIVE.")
    before = consumer.subscriptions.get(shard.id)
    if before is not None and not before.is_over:
        if now_ms - before.opened_ms < limits.SUBSCRIPTION_TAKE_OVER_MS:
            raise _in_use(
                f"Another active subscription exists for consumer {consumer.name} and shard "
                f"{shard.id}."
            )
        before.end_with(_in_use("The subscription was taken over by a newer one."))
    iterator = requests.GetShardIterator(
        shard_id=shard.id,
        shard_iterator_type=start.type,
        starting_sequence_number=start.sequence_number,
        timestamp=start.timestamp,
    )
    check_starting_point(iterator)
    shard.trim(stream.horizon_ms(now_ms))
    position = start_position(account, stream, shard, iterator, now_ms)
    subscription = Subscription(account, stream, shard, position, now_ms)
    consumer.subscriptions[shard.id] = subscription
    return subscription


def _in_use(message: str) -> errors.KinesisError:
    return errors.KinesisError("ResourceInUseException", message)
