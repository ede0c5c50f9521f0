"""What a partition has put aside, for people to look at and deal with."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

import streamproc.state
from streamproc.deadletter import DeadLetter
from streamproc.errors import StateStoreError
from streamproc.redis_client import redis_address
from streamproc.state.keys import Keys

__all__ = ["Aside", "LetterFilter", "ParkedKey", "StoredLetter"]

T = TypeVar("T")

_PAGE: Final = 200
_DROP: Final = Path(streamproc.state.__path__[0]) / "drop.lua"


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; what is not given does not matter.

    Attributes:
        reason: of the letter, such as ``bad-json``.
        type: event type.
        shard: shard id, or the end of one.
        handler: processor and method, or the processor alone.
        since: put aside then or later, in seconds since the epoch.
        until: put aside then or earlier.
        ids: of letters, as `StoredLetter.id` gives them, or of events.
        limit: at most so many; for those who collect them.
    """

    reason: str | None = None
    type: str | None = None
    shard: str | None = None
    handler: str | None = None
    since: float | None = None
    until: float | None = None
    ids: frozenset[str] = frozenset()
    limit: int | None = None

    def takes(self, stored: StoredLetter) -> bool:
        """Whether a letter is meant; times are looked at elsewhere."""
        letter = stored.letter
        return (
            self.reason in (None, letter.reason)
            and self.type in (None, letter.event_type)
            and (self.shard is None or letter.shard.endswith(self.shard))
            and self.handler in (None, letter.handler, letter.handler.partition(".")[0])
            and (not self.ids or not self.ids.isdisjoint((stored.id, letter.event_id)))
        )


class StoredLetter(msgspec.Struct, frozen=True):
    """A dead letter where it lies: `entry` is its id in the partition's Redis stream."""

    partition: int
    entry: str
    letter: DeadLetter

    @property
    def id(self) -> str:
        """What people name it by."""
        return f"{self.partition}:{self.entry}"

    @property
    def put_aside(self) -> float:
        """When, in seconds since the epoch."""
        return int(self.entry.partition("-")[0]) / 1000


class ParkedKey(msgspec.Struct, frozen=True):
    """A parked partition key: how many records wait, and the oldest, which failed."""

    partition: int
    key: str
    records: int
    wanted: bool
    head: DeadLetter


class Aside:
    """The dead letters and parked keys of one partition.

    Every method raises `StateStoreError` when Redis does not answer.

    Args:
        client: not closed here.
        keys: the partition's.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._drop: Any = client.register_script(_DROP.read_text())

    async def letters(self, wanted: LetterFilter) -> AsyncIterator[StoredLetter]:
        """Yield the dead letters that are wanted, oldest first."""
        start = "-" if wanted.since is None else f"{int(wanted.since * 1000)}"
        end = "+" if wanted.until is None else f"{int(wanted.until * 1000)}"
        while True:
            page: list[tuple[bytes, dict[bytes, bytes]]] = await self._ask(
                self._client.xrange(self._keys.dead_letters, start, end, _PAGE)
            )
            for entry, fields in page:
                named = {name.decode(): value for name, value in fields.items()}
                letter = DeadLetter.from_fields(named)
                stored = StoredLetter(self._keys.partition, entry.decode(), letter)
                if wanted.takes(stored):
                    yield stored
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    async def remove(self, letters: Sequence[StoredLetter]) -> None:
        """Remove dead letters of this partition."""
        if letters:
            entries = [letter.entry for letter in letters]
            await self._ask(self._client.xdel(self._keys.dead_letters, *entries))

    async def parked_keys(self) -> AsyncIterator[ParkedKey]:
        """Yield the keys that are parked, in any order."""
        cursor = 0
        while True:
            cursor, page = await self._ask(
                self._client.hscan(self._keys.parked, cursor, count=_PAGE)
            )
            for key in page:
                found = await self.parked_key(key.decode())
                if found is not None:
                    yield found
            if not cursor:
                return

    async def parked_key(self, key: str) -> ParkedKey | None:
        """Return a parked key; None when nothing is parked there."""
        head = await self.parked_records(key, 1)
        if not head:
            return None
        records = await self._ask(self._client.llen(self._keys.parked_list(key)))
        return ParkedKey(self._keys.partition, key, records, await self.is_wanted(key), head[0])

    async def parked_records(self, key: str, most: int) -> list[DeadLetter]:
        """Return what is parked under a key, oldest first, at most so many."""
        found = await self._ask(self._client.lrange(self._keys.parked_list(key), 0, most - 1))
        return [DeadLetter.from_json(record) for record in found]

    async def want(self, key: str) -> None:
        """Ask the owner of the key's shard to redrive it."""
        await self._ask(self._client.sadd(self._keys.redrive, key))

    async def is_wanted(self, key: str) -> bool:
        """Whether a redrive was asked for and is not over yet."""
        return bool(await self._ask(self._client.sismember(self._keys.redrive, key)))

    async def drop(self, key: str, *, head_only: bool = False) -> int:
        """Drop all that is parked under a key, or the oldest record; return how many."""
        keys = self._keys
        names = [keys.parked_list(key), keys.redrive, keys.parked, keys.parking]
        arguments = [key, "head" if head_only else "all", uuid.uuid4().hex]
        return int(await self._ask(self._drop(keys=names, args=arguments)))

    async def _ask(self, call: Awaitable[Any] | Any) -> Any:
        try:
            return await cast("Awaitable[Any]", call)
        except (RedisError, OSError) as error:
            raise StateStoreError(
                f"Redis at {redis_address(self._client)}: {str(error) or type(error).__name__}"
            ) from error
