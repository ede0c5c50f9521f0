"""The reference world on a stream: records, at a rate, some of them twice."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec

from streamproc import StreamprocError
from streamproc_fraud.events import PaymentAuthorized
from streamproc_fraud.world.events import WorldEvent, world_events
from streamproc_fraud.world.simulator import SIMULATION_START, Transactions

__all__ = ["PublishError", "PublishedRecord", "kinesis_client", "publish", "records_of"]

_CHUNK: Final = 500  # most records of one PutRecords call
_LONGEST_DELAY: Final = 5_000
_TRIES: Final = 20
_FIRST_WAIT_S: Final = 0.05


class PublishError(StreamprocError):
    """Kinesis does not take the records."""


class PublishedRecord(msgspec.Struct, frozen=True):
    """One record to put; `is_duplicate` if the same event was put before."""

    data: bytes
    partition_key: str
    is_duplicate: bool = False


def records_of(
    transactions: Transactions,
    *,
    first_number: int = 0,
    labels: bool = True,
    duplicates: float = 0.0,
    seed: int = 1,
) -> Iterator[PublishedRecord]:
    """Yield payments and labels as CloudEvents, keyed by card, in the order of time.

    Args:
        transactions: what happened.
        first_number: the transaction id of the first row.
        labels: whether frauds are told of, seven days after their payments.
        duplicates: share of events that come again, up to 5,000 records later, as from a producer
            that did not hear its answer: with the same business id in a new envelope.
        seed: chooses the duplicates.
    """
    rng = random.Random(seed)
    repeats: list[tuple[int, int, PublishedRecord]] = []
    made = 0
    for t, _, event in world_events(transactions, first_number):
        if not labels and not isinstance(event, PaymentAuthorized):
            continue
        while repeats and repeats[0][0] <= made:
            yield heapq.heappop(repeats)[2]
            made += 1
        yield PublishedRecord(_envelope(t, event, f"world-{made}"), event.card_id)
        made += 1
        if duplicates and rng.random() < duplicates:
            again = _envelope(t, event, _retry_id(event, made))
            due = made + rng.randrange(_LONGEST_DELAY)
            heapq.heappush(repeats, (due, made, PublishedRecord(again, event.card_id, True)))
    yield from (record for _, _, record in sorted(repeats, key=lambda each: each[:2]))


async def publish(
    client: Any,
    stream: str,
    records: Iterable[PublishedRecord],
    *,
    rate: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Put records in their order, while none is refused; return how many.

    Args:
        client: of Kinesis, by aiobotocore.
        stream: its name.
        records: what to put.
        rate: records a second; as fast as they are taken if None.
        progress: told the number put so far after each call.

    Raises:
        PublishError: records are refused again and again.
    """
    started, put = time.monotonic(), 0
    chunk: list[PublishedRecord] = []
    size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 20)))
    for record in records:
        chunk.append(record)
        if len(chunk) == size:
            await _put(client, stream, chunk)
            put += len(chunk)
            chunk = []
            if progress is not None:
                progress(put)
            if rate is not None:
                await asyncio.sleep(max(0.0, started + put / rate - time.monotonic()))
    if chunk:
        await _put(client, stream, chunk)
        put += len(chunk)
    return put


@asynccontextmanager
async def kinesis_client(endpoint_url: str | None, region: str | None) -> AsyncIterator[Any]:
    """Open a client of Kinesis; credentials come from where the AWS SDKs look for them."""
    from aiobotocore.session import AioSession

    session = AioSession()
    async with session.create_client(
        "kinesis", endpoint_url=endpoint_url, region_name=region
    ) as client:
        yield client


async def _put(client: Any, stream: str, chunk: Sequence[PublishedRecord]) -> None:
    """Put records until all are taken.

    A record that is refused comes after what was taken in the same call, as with any producer.
    """
    waiting = list(chunk)
    delay = _FIRST_WAIT_S
    for _ in range(_TRIES):
        entries = [{"Data": r.data, "PartitionKey": r.partition_key} for r in waiting]
        answer = await client.put_records(StreamName=stream, Records=entries)
        if not answer["FailedRecordCount"]:
            return
        results = answer["Records"]
        reason = next(each["ErrorCode"] for each in results if "ErrorCode" in each)
        waiting = [
            record for record, each in zip(waiting, results, strict=True) if "ErrorCode" in each
        ]
        await asyncio.sleep(delay)
        delay = min(1.0, delay * 2)
    raise PublishError(f"{stream}: {len(waiting)} records refused {_TRIES} times: {reason}")


def _retry_id(event: WorldEvent, made: int) -> str:
    """Return the envelope id of a repeated event: labels have no other id that would tell."""
    return f"world-again-{made}" if isinstance(event, PaymentAuthorized) else f"world-{made - 1}"


def _envelope(t: int, event: WorldEvent, id: str) -> bytes:
    name = type(event)
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": id,
            "source": "streamproc/fraud/simulate",
            "type": f"{name.__event_type__}.v{name.__event_version__}",
            "time": SIMULATION_START + timedelta(seconds=t),
            "datacontenttype": "application/json",
            "data": event,
        }
    )
