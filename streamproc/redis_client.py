"""The Redis client that everything here uses: bounded in time, quick to cancel, quick to pack."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
import redis.asyncio
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamproc.errors import ConfigError

__all__ = ["TimedRedis", "connect_redis", "redis_address"]


class _HiredisPacking:
    """Packs commands in C: of a commit's 1,000 ids, packing in Python costs as much as the rest."""

    def pack_command(self, *arguments: Any) -> list[bytes]:
        """Return the command on the wire; its name may be two words, such as SCRIPT LOAD."""
        name, *rest = arguments
        return [hiredis.pack_command((*name.split(), *rest))]


class _TcpConnection(_HiredisPacking, Connection):
    pass


class _TlsConnection(_HiredisPacking, SSLConnection):
    pass


class _UnixConnection(_HiredisPacking, UnixDomainSocketConnection):
    pass


_CONNECTIONS = {"redis": _TcpConnection, "rediss": _TlsConnection, "unix": _UnixConnection}


class TimedRedis(redis.asyncio.Redis):
    """A client whose calls end within `call_timeout` seconds, with TimeoutError.

    The client's own socket timeout is not used: it sends through `asyncio.wait_for`, which on
    Python 3.11 loses a cancellation that comes together with the answer, and a task that lost its
    lease would go on. Use plain calls and scripts; pipelines are not bounded.
    """

    call_timeout: float = 5.0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its answer.

        Raises:
            TimeoutError: there was none in time; the command may have been executed.
        """
        async with asyncio.timeout(self.call_timeout):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


def connect_redis(url: str, timeout: float, key: str = "redis.url") -> TimedRedis:
    """Return a client whose calls end within `timeout` seconds and are never repeated silently.

    A repeated commit is not harmful, but its answer would be about the second try; the pipeline
    repeats with open eyes.

    Args:
        url: redis://, rediss:// or unix://.
        timeout: seconds, connecting included.
        key: the setting that the URL comes from, for messages.

    Raises:
        ConfigError: the URL cannot be used.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    pool = redis.asyncio.ConnectionPool(
        **options
        | {
            "connection_class": _CONNECTIONS[urlsplit(url).scheme],
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": None,
        }
    )
    client = cast(TimedRedis, TimedRedis.from_pool(pool))
    client.call_timeout = timeout
    return client


def redis_address(client: redis.asyncio.Redis) -> str:
    """Return where a client connects to, without credentials, for messages."""
    where = client.connection_pool.connection_kwargs
    return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")
