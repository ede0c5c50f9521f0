"""Connections to a Redis server: bounded in time, quick to cancel, quick to pack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis.asyncio
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from streamproc.errors import ConfigError

__all__ = ["Script", "TimedRedis", "redis_pool"]


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

    def register_script(self, script: str | bytes) -> Script:  # type: ignore[override]
        """Return a script that is called with `keys` and `args`."""
        return Script(self, script)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its answer.

        Raises:
            TimeoutError: there was none in time; the command may have been executed.
        """
        async with asyncio.timeout(self.call_timeout):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class Script:
    """A Lua script, sent by its digest; in full to a server that has forgotten it.

    redis-py loads the script and calls it again by its digest, which a server may have forgotten
    in between, and which in a cluster means every node.

    Attributes:
        digest: the script's SHA-1, in hex, by which servers know it.
    """

    def __init__(self, client: TimedRedis, text: str | bytes) -> None:
        self._client = client
        self._text = text.encode() if isinstance(text, str) else text
        self.digest = sha1(self._text, usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        """Run the script and return its answer."""
        rest = (len(keys), *keys, *args)
        try:
            return await self._client.execute_command("EVALSHA", self.digest, *rest)
        except NoScriptError:
            return await self._client.execute_command("EVAL", self._text, *rest)


def redis_pool(url: str, key: str = "redis.url") -> redis.asyncio.ConnectionPool:
    """Return a pool of connections without time limits of their own.

    Raises:
        ConfigError: the URL cannot be used; `key` is the setting that it comes from.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    return redis.asyncio.ConnectionPool(
        **options
        | {
            "connection_class": _CONNECTIONS[urlsplit(url).scheme],
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": None,
        }
    )
