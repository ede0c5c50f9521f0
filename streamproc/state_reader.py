"""Reading a group's states and counters from outside its workers: services, plugins, the CLI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, cast

import msgspec
from redis.exceptions import RedisError

from streamproc.errors import StateStoreError
from streamproc.processor import Key, Processor, codec_of, key_parts, key_text
from streamproc.redis_client import TimedRedis, connect_redis, redis_address
from streamproc.redis_cluster import ClusterRedis
from streamproc.sinks.sink import OutgoingEvent
from streamproc.state.counts import CounterValues, Counts
from streamproc.state.keys import Keys, group_key, partition_of_key

__all__ = ["StateReader", "StoredCounters", "StoredState"]

T = TypeVar("T")

_SCANNED_AT_ONCE: Final = 500

# Reads hashes of one partition in one round trip; writes nothing.
_READ_HASHES: Final = """\
local found = {}
for i = 1, #KEYS do
  found[i] = redis.call('HGETALL', KEYS[i])
end
return found
"""


class StoredState(msgspec.Struct, frozen=True):
    """A state as it is stored.

    Attributes:
        processor: whose it is.
        key: the parts of its key; one for a key that is a plain text.
        version: of this very write; another write, another version.
        schema: the version of the state type that wrote it.
        data: the state as JSON.
    """

    processor: str
    key: tuple[str, ...]
    version: int
    schema: int
    data: bytes

    @property
    def value(self) -> Any:
        """The state as JSON values: dicts, lists, texts, numbers."""
        return msgspec.json.decode(self.data)

    def as_state_of(self, processor: Processor[Any] | type[Processor[Any]]) -> Any:
        """Return the state as the processor's handlers see it, upgraded if it is an old one.

        Raises:
            StreamprocError: it does not fit the processor's state type, or a newer release has
                written it.
        """
        codec = codec_of(processor)
        if codec is None:
            raise TypeError(f"{processor.name} keeps no state")
        return codec.decode(self.data, "|".join(self.key), self.schema)


class StoredCounters(msgspec.Struct, frozen=True):
    """The counters of one key as they are stored; `version` is of the last change."""

    processor: str
    key: tuple[str, ...]
    version: int
    values: CounterValues


class StateReader:
    """Reads what a group has committed; it takes no part in the group and changes nothing.

        async with StateReader("redis://127.0.0.1:6379/0", "payments") as reader:
            stored = await reader.get("inventory", ("sku-1", "berlin"))
            if stored is not None:
                print(stored.value["available"])
            async for stored in reader.scan("inventory", match="sku-*"):
                ...

    One `get` is what one commit left. A `scan` is no snapshot: each key is as of the moment that it
    was read, and keys that come or go meanwhile may be in it or not.

    Args:
        url: redis://, rediss:// or unix://; of a cluster, the address of any node.
        group: consumer group.
        timeout: seconds that a call may take.
        cluster: whether it is a Redis Cluster; ``auto`` asks it.

    Raises:
        ConfigError: the URL or the group's name cannot be used.
    """

    def __init__(
        self,
        url: str,
        group: str,
        *,
        timeout: float = 5.0,
        cluster: Literal["auto", "on", "off"] = "auto",
    ) -> None:
        self.group = group
        self._noted = group_key(group, "partitions")
        self._client = connect_redis(url, timeout, cluster=cluster)
        self._partitions: list[Keys] | None = None

    async def __aenter__(self) -> Self:
        """Return the reader itself; it connects at its first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, processor: str, key: Key) -> StoredState | None:
        """Return the state of a key; None if there is none.

        Raises:
            StateStoreError: Redis does not answer.
        """
        text = key_text(key)
        full = (await self._keys_of(text)).state_prefix(processor) + text
        return _state(processor, text, await self._fields(full))

    async def get_counters(self, processor: str, key: Key) -> StoredCounters | None:
        """Return the counters of a key; None if there are none.

        Raises:
            StateStoreError: Redis does not answer, or the key holds no counters.
        """
        text = key_text(key)
        full = (await self._keys_of(text)).counter_prefix(processor) + text
        return _counters(processor, text, full, await self._fields(full))

    async def scan(self, processor: str, match: str = "*") -> AsyncIterator[StoredState]:
        """Yield the states of a processor, each key once, in no order.

        Takes some 60 bytes of memory a key, to know what it has yielded.

        Args:
            processor: its name.
            match: a glob as Redis has them, on keys as they are stored: parts joined by ``|``.

        Raises:
            StateStoreError: Redis does not answer.
        """
        for keys in await self._all_keys():
            prefix = keys.state_prefix(processor)
            async for full, fields in self._scan(keys, prefix, match):
                state = _state(processor, full.removeprefix(prefix), fields)
                if state is not None:
                    yield state

    async def scan_counters(
        self, processor: str, match: str = "*"
    ) -> AsyncIterator[StoredCounters]:
        """Yield the counters of a processor by key; see `scan`."""
        for keys in await self._all_keys():
            prefix = keys.counter_prefix(processor)
            async for full, fields in self._scan(keys, prefix, match):
                counters = _counters(processor, full.removeprefix(prefix), full, fields)
                if counters is not None:
                    yield counters

    async def outbox(self) -> AsyncIterator[OutgoingEvent]:
        """Yield the emitted events that no sink has taken yet; of each partition the oldest first.

        Raises:
            StateStoreError: Redis does not answer.
        """
        for keys in await self._all_keys():
            start = "-"
            while page := await self._outbox_page(keys.outbox, start):
                for _, fields in page:
                    yield OutgoingEvent(
                        id=fields[b"id"].decode(),
                        type=fields[b"type"].decode(),
                        key=fields[b"key"].decode(),
                        cause=fields[b"cause"].decode(),
                        data=fields[b"data"],
                    )
                start = f"({page[-1][0].decode()}"

    async def _outbox_page(self, name: str, start: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        page: Any = await self._answered(
            lambda: self._client.xrange(name, start, "+", _SCANNED_AT_ONCE)
        )
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", page)

    async def _fields(self, full: str) -> dict[bytes, bytes]:
        answer: Any = await self._answered(
            lambda: cast("Awaitable[Any]", self._client.hgetall(full))
        )
        return cast("dict[bytes, bytes]", answer)

    async def _scan(
        self, keys: Keys, prefix: str, match: str
    ) -> AsyncIterator[tuple[str, dict[bytes, bytes]]]:
        node = await self._answered(lambda: self._node_of(keys))
        read = node.register_script(_READ_HASHES)
        pattern = _glob(prefix) + match
        yielded: set[int] = set()
        cursor = 0
        while True:
            at = cursor
            answer: Any = await self._answered(
                lambda: node.scan(at, match=pattern, count=_SCANNED_AT_ONCE)  # noqa: B023
            )
            cursor, found = answer
            # Redis may return a key twice while it resizes its table.
            new = {hash(key): key for key in found if hash(key) not in yielded}
            yielded.update(new)
            if new:
                names = list(new.values())
                hashes: Sequence[Sequence[bytes]] = await self._answered(
                    lambda: read(keys=names)  # noqa: B023
                )
                for name, flat in zip(names, hashes, strict=True):
                    yield name.decode(), dict(zip(flat[::2], flat[1::2], strict=True))
            if cursor == 0:
                return

    async def _node_of(self, keys: Keys) -> TimedRedis:
        client = self._client
        return await client.client_of(keys.prefix) if isinstance(client, ClusterRedis) else client

    async def _all_keys(self) -> list[Keys]:
        if self._partitions is None:
            noted: Any = await self._answered(lambda: self._client.get(self._noted))
            # A group that no worker has run for yet has nothing to read, in any partition.
            self._partitions = [Keys(self.group, at) for at in range(int(noted or 1))]
            if noted is None:
                found, self._partitions = self._partitions, None
                return found
        return self._partitions

    async def _keys_of(self, text: str) -> Keys:
        partitions = await self._all_keys()
        return partitions[partition_of_key(text, len(partitions))]

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await ask()
        except (RedisError, OSError) as error:
            raise StateStoreError(
                f"Redis at {redis_address(self._client)}: {str(error) or type(error).__name__}; "
                "check redis.url"
            ) from error


def _state(processor: str, text: str, fields: dict[bytes, bytes]) -> StoredState | None:
    if b"d" not in fields:
        return None
    version, schema = int(fields.get(b"v", 0)), int(fields.get(b"s", 1))
    return StoredState(processor, key_parts(text), version, schema, fields[b"d"])


def _counters(
    processor: str, text: str, full: str, fields: dict[bytes, bytes]
) -> StoredCounters | None:
    if not fields:
        return None
    counts = Counts(full)
    counts.load(fields)
    return StoredCounters(processor, key_parts(text), counts.version, counts.values())


def _glob(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in text)
