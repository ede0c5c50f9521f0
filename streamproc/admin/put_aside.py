"""What operators do with records that were put aside: find them, put them back, drop them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

import msgspec

from streamproc.admin.group import same_partitions
from streamproc.aside import Aside, LetterFilter, ParkedKey, StoredLetter
from streamproc.config import Config, require
from streamproc.errors import ConfigError
from streamproc.kinesis.api import KinesisApi
from streamproc.redis_client import connect_redis
from streamproc.sinks.kinesis import KinesisSink
from streamproc.sinks.sink import OutgoingEvent
from streamproc.state.keys import Keys

__all__ = ["PutAside", "Waited", "open_put_aside"]

_CHUNK: Final = 500
# Kinesis itself is to say what is too large for the stream.
_ANY_SIZE: Final = 1 << 30
_LOOK_S: Final = 0.2


class Waited(msgspec.Struct, frozen=True):
    """How the redrive of parked keys went, as far as it was waited for."""

    done: list[str]
    failed: list[str]
    pending: list[str]


class PutAside:
    """The dead letters and parked keys of a group.

    Every method raises `StateStoreError` when Redis does not answer.

    Args:
        asides: of each partition.
        stream: the stream that the group reads.
    """

    def __init__(self, asides: Sequence[Aside], stream: str) -> None:
        self._asides = asides
        self._stream = stream

    async def letters(self, wanted: LetterFilter) -> list[StoredLetter]:
        """Return the dead letters that are meant, oldest first, at most `wanted.limit`."""
        found: list[StoredLetter] = []
        for aside in self._asides:
            own: list[StoredLetter] = []
            async for letter in aside.letters(wanted):
                own.append(letter)
                if len(own) == wanted.limit:
                    break
            found += own
        return list(islice(sorted(found, key=lambda each: each.put_aside), wanted.limit))

    async def put_back(self, letters: Sequence[StoredLetter], kinesis: KinesisApi) -> int:
        """Put payloads back into the stream as they were, then remove the letters.

        One that was put back and not removed, since somebody pulled the plug, is put back again by
        the next call; the second record is a duplicate to the workers.

        Returns:
            How many went; the others stay.

        Raises:
            ConfigError: a letter is of another stream; nothing was put back.
            StreamError: Kinesis refuses for good.
        """
        for letter in letters:
            if letter.letter.stream != self._stream:
                raise ConfigError(
                    f"dead letter {letter.id} is of stream {letter.letter.stream}, and stream.name "
                    f"is {self._stream}; redrive it with that stream's configuration"
                )
        sink = KinesisSink(kinesis, _ANY_SIZE)
        count = 0
        for first in range(0, len(letters), _CHUNK):
            chunk = letters[first : first + _CHUNK]
            taken = await sink.send([_outgoing(letter) for letter in chunk])
            await self.remove([chunk[at] for at in sorted(taken)])
            count += len(taken)
        return count

    async def remove(self, letters: Sequence[StoredLetter]) -> None:
        """Remove dead letters."""
        for partition, aside in enumerate(self._asides):
            await aside.remove([each for each in letters if each.partition == partition])

    async def parked(self, keys: Sequence[str] | None = None) -> list[ParkedKey]:
        """Return parked keys, all of them or the named ones, the longest waiting first."""
        found: list[ParkedKey] = []
        for aside in self._asides:
            if keys is None:
                found += [parked async for parked in aside.parked_keys()]
            else:
                looked = [await aside.parked_key(key) for key in keys]
                found += [parked for parked in looked if parked is not None]
        return sorted(found, key=lambda parked: parked.head.arrival)

    async def records(self, parked: ParkedKey, most: int) -> list[StoredLetter]:
        """Return what is parked under a key, oldest first."""
        records = await self._asides[parked.partition].parked_records(parked.key, most)
        return [
            StoredLetter(parked.partition, f"{parked.key}/{at}", record)
            for at, record in enumerate(records)
        ]

    async def want(self, parked: Sequence[ParkedKey]) -> None:
        """Have the owners of the keys' shards redrive them; running workers look each second."""
        for each in parked:
            await self._asides[each.partition].want(each.key)

    async def wait(
        self,
        parked: Sequence[ParkedKey],
        seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Waited:
        """Wait until nothing is parked under the keys, or an event of them failed again."""
        done: list[str] = []
        failed: list[str] = []
        pending = list(parked)
        left = seconds
        while pending:
            still: list[ParkedKey] = []
            for each in pending:
                now = await self._asides[each.partition].parked_key(each.key)
                if now is None:
                    done.append(each.key)
                elif not now.wanted:
                    failed.append(each.key)
                else:
                    still.append(each)
            pending = still
            if left <= 0:
                break
            if pending:
                await sleep(_LOOK_S)
                left -= _LOOK_S
        return Waited(done, failed, [each.key for each in pending])

    async def drop(self, parked: ParkedKey, *, head_only: bool = False) -> int:
        """Drop what is parked under a key, or its oldest record; return how many records."""
        return await self._asides[parked.partition].drop(parked.key, head_only=head_only)


@contextlib.asynccontextmanager
async def open_put_aside(config: Config) -> AsyncIterator[PutAside]:
    """Open a group's Redis, and close it in the end.

    Raises:
        ConfigError: a setting is wrong, or the group has another number of partitions.
    """
    require(config)
    settings = config.redis
    client = connect_redis(settings.url, settings.timeout, cluster=settings.cluster)
    try:
        await same_partitions(client, config)
        keys = [Keys(config.group, partition) for partition in range(settings.partitions)]
        yield PutAside([Aside(client, each) for each in keys], config.stream.name)
    finally:
        await client.aclose()


def _outgoing(stored: StoredLetter) -> OutgoingEvent:
    letter = stored.letter
    return OutgoingEvent(
        id=stored.id, type=letter.event_type, key=letter.partition_key, cause="", data=letter.data
    )
