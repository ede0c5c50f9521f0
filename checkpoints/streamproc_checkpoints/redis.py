"""Leases in one Redis hash: field = lease key, value = the lease as JSON.

Each compare-and-set is atomic, in a Lua script that takes many of them in one round trip. Works on
Redis >= 6.2 and Valkey. Keep the hash out of eviction's reach (`maxmemory-policy noeviction`).
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streamproc.config import RedisConfig, Seconds
from streamproc.entries import read_options
from streamproc.errors import LeaseStoreError
from streamproc.leases.lease import Lease, LeaseStore
from streamproc.redis_client import connect_redis, redis_address
from streamproc_checkpoints.rows import decode_row, encode_row

__all__ = ["RedisLeaseStore", "open_store"]

T = TypeVar("T")

# Whether a stored value is of a version: counter, owner or '', checkpoint owner or ''. cjson reads
# absent fields as nil; a value that is no lease differs from every version.
_MATCHES = """
local function matches(stored, counter, owner, checkpoint_owner)
  local ok, row = pcall(cjson.decode, stored)
  return ok and type(row) == 'table'
    and string.format('%.0f', tonumber(row['counter']) or 0) == counter
    and (row['owner'] or '') == owner
    and (row['checkpoint_owner'] or '') == checkpoint_owner
end
"""

# KEYS[1] = hash; ARGV = field, version and new value of each row. Answers 1 for each that is
# written, and each other's value as it is.
_REPLACE = (
    _MATCHES
    + """
local answers = {}
for at = 1, #ARGV, 5 do
  local stored = redis.call('HGET', KEYS[1], ARGV[at])
  if stored and matches(stored, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]) then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 4])
    stored = 1
  end
  answers[#answers + 1] = stored
end
return answers
"""
)

# KEYS[1] = hash; ARGV = field and version.
_DELETE = (
    _MATCHES
    + """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then return 1 end
local same = matches(stored, ARGV[2], ARGV[3], ARGV[4])
if same then redis.call('HDEL', KEYS[1], ARGV[1]) end
return same and 1 or 0
"""
)


_WRITTEN: Final = 1


class RedisOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[leases.options]` of the redis store.

    Attributes:
        url: redis://, rediss:// or unix:// address; the worker gives `redis.url` by default.
        timeout: seconds until a call is given up.
        cluster: whether the URL is of a Redis Cluster's node, as `redis.cluster`.
    """

    url: str = RedisConfig().url
    timeout: Seconds = RedisConfig().timeout
    cluster: Literal["auto", "on", "off"] = RedisConfig().cluster


class RedisLeaseStore:
    """The leases of one group, in the hash `sp:{<group>}:leases`.

    Args:
        client: a client that answers in bytes; closed with the store.
        group: the consumer group.
        address: where the client connects to, for messages; without credentials.
    """

    def __init__(self, client: Redis, group: str, address: str) -> None:
        self._client = client
        self._hash = f"sp:{{{group}}}:leases"
        self._address = address
        self._replace = client.register_script(_REPLACE)
        self._delete = client.register_script(_DELETE)
        self._known: dict[bytes, tuple[bytes, Lease]] = {}

    async def list(self) -> list[Lease]:
        """Return every lease; values that are none are logged and passed over."""
        fields = await self._answer(
            cast(Awaitable[dict[bytes, bytes]], self._client.hgetall(self._hash))
        )
        # Most rows are as they were, or as they were written here: of a thousand leases, all that a
        # worker reads every two seconds.
        before, self._known = self._known, {}
        for field, value in fields.items():
            known = before.get(field)
            if known is None or known[0] != value:
                row = self._decoded(field.decode(errors="replace"), value)
                if row is None:
                    continue
                known = (value, row)
            self._known[field] = known
        return [row for _, row in self._known.values()]

    async def create(self, lease: Lease) -> bool:
        """Add a lease; False when the key exists already."""
        added = self._client.hsetnx(self._hash, lease.key, cast(str, encode_row(lease)))
        return bool(await self._answer(added))

    async def replace(self, old: Lease, new: Lease) -> Lease | None:
        """Write `new` iff the row is still at `old`'s version; return the row as it is then."""
        return (await self.replace_all([(old, new)]))[0]

    async def replace_all(
        self, changes: Sequence[tuple[Lease, Lease]]
    ) -> builtins.list[Lease | None]:
        """Do for each pair what `replace` does, in one round trip."""
        if not changes:
            return []
        wanted = [encode_row(new) for _, new in changes]
        args = [
            part
            for (old, _), data in zip(changes, wanted, strict=True)
            for part in (*_version(old), data)
        ]
        stored = await self._answer(self._replace(keys=[self._hash], args=args))
        rows: builtins.list[Lease | None] = []
        for (old, new), data, row in zip(changes, wanted, stored, strict=True):
            if row == _WRITTEN:
                self._known[old.key.encode()] = (data, new)
                rows.append(new)
            else:
                rows.append(self._decoded(old.key, row))
        return rows

    async def delete(self, old: Lease) -> bool:
        """Remove the row iff it is still at `old`'s version; True when it is gone."""
        return bool(await self._answer(self._delete(keys=[self._hash], args=_version(old))))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ping(self) -> None:
        """Raise `LeaseStoreError` unless the server answers."""
        await self._answer(self._client.ping())

    def _decoded(self, key: str, value: bytes | None) -> Lease | None:
        return None if value is None else decode_row(value, f"field {key} of {self._hash}")

    async def _answer(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise LeaseStoreError(
                f"Redis at {self._address} does not serve the leases "
                f"({type(error).__name__}: {error}); check that it runs, that leases.options.url "
                "or redis.url names it, and that its credentials may run scripts on this key"
            ) from error


async def open_store(group: str, options: Mapping[str, Any]) -> LeaseStore:
    """Connect to Redis and return the group's leases.

    Raises:
        ConfigError: an option is wrong.
        LeaseStoreError: the server does not answer.
    """
    settings = read_options(RedisOptions, options, "leases.options", "the redis store")
    client = connect_redis(
        settings.url, settings.timeout, "leases.options.url", cluster=settings.cluster
    )
    store = RedisLeaseStore(client, group, redis_address(client))
    try:
        await store.ping()
    except LeaseStoreError:
        await store.aclose()
        raise
    return store


def _version(lease: Lease) -> list[str | int | bytes]:
    return [lease.key, lease.counter, lease.owner or "", lease.checkpoint_owner or ""]
