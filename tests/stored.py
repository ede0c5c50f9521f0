"""What Redis holds of the one group in it, read as an outsider would: by the documented layout."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec
import orjson
import redis.asyncio

from streamproc.position import Position

__all__ = ["Counts", "StoredGroup"]

# One step of the server: nothing can come between the two counts.
_COUNTS = """
local marks, effects = 0, 0
for _, key in ipairs(redis.call('KEYS', '*:seen:*')) do
  marks = marks + redis.call('SCARD', key)
end
for _, key in ipairs(redis.call('KEYS', '*:outbox')) do
  effects = effects + redis.call('XLEN', key)
end
return {marks, effects}
"""


class Counts(msgspec.Struct, frozen=True):
    """Dedupe marks and emitted events at one instant; each entry that is booked emits one."""

    marks: int
    effects: int


class StoredGroup:
    """Reads a group's data; nothing else may be in that database."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._counts = client.register_script(_COUNTS)

    async def counts(self) -> Counts:
        """Return the marks and effects of one instant."""
        return Counts(*await self._counts())

    async def accounts(self) -> dict[str, list[int]]:
        """Return what each account has booked, in its order."""
        return {
            key.decode().partition(":s:ledger:")[2]: orjson.loads(
                await self._client.hget(key, "d")  # type: ignore[misc]
            )["numbers"]
            async for key in self._keys("*:s:ledger:*")
        }

    async def emitted(self) -> list[tuple[str, str]]:
        """Return (emission id, entry id) of each event in the outbox."""
        events = [
            orjson.loads(fields[b"data"])
            async for key in self._keys("*:outbox")
            for _, fields in await self._client.xrange(key)
        ]
        return [(event["id"], event["data"]["entry_id"]) for event in events]

    async def dead_letters(self) -> list[str]:
        """Return the entry ids of the dead letters."""
        return [
            orjson.loads(fields[b"data"])["data"]["entry_id"]
            async for key in self._keys("*:dlq")
            for _, fields in await self._client.xrange(key)
        ]

    async def positions(self) -> dict[str, dict[int, Position]]:
        """Return the committed position of each shard in each partition that has one."""
        found: dict[str, dict[int, Position]] = {}
        async for key in self._keys("*:pos"):
            partition = int(re.search(rb":(\d+)}", key)[1])  # type: ignore[index]
            for shard, value in (await self._client.hgetall(key)).items():  # type: ignore[misc]
                text = value.decode().rpartition("|")[2]
                if text:
                    found.setdefault(shard.decode(), {})[partition] = Position.decode(text)
        return found

    async def lease_owners(self) -> set[str]:
        """Return the workers that hold a lease; those who are dead included."""
        rows = [
            orjson.loads(row)
            async for key in self._keys("*:leases")
            for row in await self._client.hvals(key)  # type: ignore[misc]
        ]
        return {row["owner"] for row in rows if row.get("owner") is not None}

    async def _keys(self, pattern: str) -> AsyncIterator[bytes]:
        async for key in self._client.scan_iter(match=pattern, count=1000):
            yield key
