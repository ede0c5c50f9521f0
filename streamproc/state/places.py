"""Positions and dedupe marks of one partition as an operator's tools see and change them."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from streamproc.errors import Fenced, StateStoreError
from streamproc.position import Position
from streamproc.redis_client import redis_address
from streamproc.state.keys import Keys

__all__ = ["Place", "Places"]

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True):
    """Where a shard's chain is, and under which epoch it was adopted last."""

    epoch: int
    position: Position | None


class Places:
    """One partition's positions in Redis.

    All methods raise `StateStoreError` when Redis does not answer.

    Args:
        client: the connection; closed by whoever opened it.
        keys: the partition's keys.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._place = client.register_script(
            (Path(__file__).parent / "place.lua").read_text(encoding="utf-8")
        )

    async def read(self, stream: str) -> dict[str, Place]:
        """Return the places of a stream's shards."""
        stored = await self.answer(
            cast("Awaitable[dict[bytes, bytes]]", self._client.hgetall(self._keys.positions))
        )
        prefix = f"{stream}/"
        return {
            name.removeprefix(prefix): _decode(value.decode())
            for name, value in ((field.decode(), value) for field, value in stored.items())
            if name.startswith(prefix)
        }

    async def incarnation(self) -> str | None:
        """Return the store's id; None before its first shard."""
        stored = await self.answer(cast("Awaitable[Any]", self._client.get(self._keys.incarnation)))
        return None if stored is None else stored.decode()

    async def place(self, stream: str, shard: str, epoch: int, position: Position) -> None:
        """Move a shard's position, and fence off whoever holds a lower epoch.

        Raises:
            Fenced: a newer owner has adopted the shard.
        """
        field = f"{stream}/{shard}"
        call = self._place(keys=[self._keys.positions], args=[field, epoch, position.encode()])
        reply = await self.answer(cast("Awaitable[list[Any]]", call))
        if reply[0] == b"FENCED":
            raise Fenced(f"{field}: epoch {epoch} is fenced off by epoch {reply[1]}", reply[1])

    async def forget(self, stream: str, shards: Collection[str]) -> None:
        """Drop the positions of shards."""
        if shards:
            fields = [f"{stream}/{shard}" for shard in shards]
            await self.answer(self._client.hdel(self._keys.positions, *fields))

    async def forget_marks(self) -> int:
        """Drop every dedupe mark of the partition, whatever shard it came from; return how many."""
        pattern = f"{self._keys.prefix.translate(_GLOB)}seen:*"
        count, cursor = 0, 0
        while True:
            cursor, names = await self.answer(
                cast("Awaitable[Any]", self._client.scan(cursor, pattern, 1_000))
            )
            for name in names:
                count += await self.answer(self._client.scard(name))
                await self.answer(self._client.unlink(name))
            if not cursor:
                return count

    async def answer(self, answer: Awaitable[T]) -> T:
        """Await an answer of Redis; a failure is a `StateStoreError`."""
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise StateStoreError(
                f"Redis at {redis_address(self._client)}: {str(error) or type(error).__name__}; "
                "check redis.url and that the server accepts writes"
            ) from error


_GLOB = str.maketrans({character: f"\\{character}" for character in "*?[]\\"})


def _decode(value: str) -> Place:
    epoch, _, position = value.partition("|")
    return Place(int(epoch), Position.decode(position) if position else None)
