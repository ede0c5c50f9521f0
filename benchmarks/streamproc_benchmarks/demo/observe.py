"""What came out, read from Redis by the documented keys alone."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import redis.asyncio

from streamproc.position import Position
from streamproc_benchmarks.demo.oracle import Level

__all__ = ["GroupReader", "Observed", "OutboxEntry"]

_PAGE: Final = 1_000


class OutboxEntry(msgspec.Struct, frozen=True):
    """An emitted event; `cause` is the id of the event that it was emitted for."""

    id: str
    type: str
    cause: str
    data: dict[str, Any]


class Observed(msgspec.Struct, kw_only=True):
    """The group's data at the end of a run.

    Attributes:
        marks: event ids remembered as committed.
        levels: stock by ``sku|location``.
        spend: payments and their sum in minor units, by card and currency.
        outbox: all emitted events.
        dead_letters: payloads put aside, and how often each was.
    """

    marks: int
    levels: dict[str, Level]
    spend: dict[str, dict[str, tuple[int, int]]]
    outbox: list[OutboxEntry]
    dead_letters: Counter[bytes]


class GroupReader:
    """Reads one consumer group's keys and nothing else; its states lie in ``sp:{group:0}:...``.

    Args:
        client: answers in bytes; not closed here.
        group: the consumer group.
        stream: whose positions `positions` returns.
    """

    def __init__(self, client: redis.asyncio.Redis, group: str, stream: str) -> None:
        self.prefix = f"sp:{{{group}:0}}:"
        self.pattern = f"sp:{{{group}[:}}]*"
        # Its types leave open whether answers are text or bytes; by default they are bytes.
        self._client: Any = client
        self._stream = stream

    async def positions(self) -> dict[str, tuple[int, Position]]:
        """Return the epoch and the committed position of each shard."""
        found = {}
        for field, value in (await self._client.hgetall(f"{self.prefix}pos")).items():
            stream, _, shard = field.decode().partition("/")
            epoch, _, position = value.decode().partition("|")
            if stream == self._stream and position:  # none yet: it is being adopted
                found[shard] = (int(epoch), Position.decode(position))
        return found

    async def keys(self) -> list[bytes]:
        """Return all keys of the group."""
        return [key async for key in self._scan(self.pattern)]

    async def delete_all(self) -> None:
        """Delete every key of the group."""
        keys = await self.keys()
        for first in range(0, len(keys), _PAGE):
            await self._client.delete(*keys[first : first + _PAGE])

    async def outbox(self, after: str = "-") -> list[tuple[str, OutboxEntry]]:
        """Return the outbox after an entry, each with its stream id."""
        entries = []
        start = after if after == "-" else f"({after}"
        while page := await self._client.xrange(f"{self.prefix}outbox", start, "+", _PAGE):
            entries += [(at.decode(), _outbox_entry(fields)) for at, fields in page]
            start = f"({entries[-1][0]}"
        return entries

    async def observe(self) -> Observed:
        """Read everything that is to be verified."""
        letters: Counter[bytes] = Counter()
        start = "-"
        while page := await self._client.xrange(f"{self.prefix}dlq", start, "+", _PAGE):
            letters.update(fields[b"data"] for _, fields in page)
            start = f"({page[-1][0].decode()}"
        marks = [await self._client.scard(key) async for key in self._scan(f"{self.prefix}seen:*")]
        stocks = await self._states("inventory")
        cards = await self._states("fraud")
        return Observed(
            marks=sum(marks),
            levels={
                stock: Level(**{name: state[name] for name in Level.__struct_fields__})
                for stock, state in stocks.items()
            },
            spend={card: _spend(state["payments"]) for card, state in cards.items()},
            outbox=[entry for _, entry in await self.outbox()],
            dead_letters=letters,
        )

    async def _states(self, processor: str) -> dict[str, dict[str, Any]]:
        """Return a processor's states by key: field `d` of ``sp:{group:0}:s:<processor>:<key>``."""
        prefix = f"{self.prefix}s:{processor}:"
        keys = [key async for key in self._scan(f"{prefix}*")]
        states = {}
        for first in range(0, len(keys), _PAGE):
            page = keys[first : first + _PAGE]
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in page:
                    pipeline.hget(key, "d")
                for key, value in zip(page, await pipeline.execute(), strict=True):
                    states[key.decode().removeprefix(prefix)] = json.loads(value)
        return states

    async def _scan(self, pattern: str) -> AsyncIterator[bytes]:
        seen = set()  # SCAN may return a key twice
        async for key in self._client.scan_iter(match=pattern, count=_PAGE):
            if key not in seen:
                seen.add(key)
                yield key


def _spend(payments: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return payments and their sum by currency, out of a card's packed columns."""
    amounts = memoryview(b64decode(payments["amounts"])).cast("q")
    spend = dict.fromkeys(payments["codes"], (0, 0))
    for place, amount in zip(b64decode(payments["currencies"]), amounts, strict=True):
        currency = payments["codes"][place]
        count, total = spend[currency]
        spend[currency] = (count + 1, total + amount)
    return spend


def _outbox_entry(fields: dict[bytes, bytes]) -> OutboxEntry:
    return OutboxEntry(
        id=fields[b"id"].decode(),
        type=fields[b"type"].decode(),
        cause=fields[b"cause"].decode(),
        data=json.loads(fields[b"data"])["data"],
    )
