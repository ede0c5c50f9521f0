"""Where a rule set comes from: the package, a file, S3 or Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from streamproc import ConfigError, StreamprocError

__all__ = ["PackagedRules", "Published", "RulesSource", "SourceError", "open_source"]

_TIMEOUT_S: Final = 1.5
"""A source that does not answer within it is asked again: a reload takes at most 2 s."""

_FIRST_TIMEOUT_S: Final = 15.0
"""The first time nobody waits for the rules but the start, and connections are made."""


class SourceError(StreamprocError):
    """A rule set cannot be fetched now; the one in force stays."""


class Published(NamedTuple):
    """What a source held; equal tags mean equal content."""

    content: bytes
    tag: object


class RulesSource(Protocol):
    """Gives the rule set as it is published now.

    Attributes:
        where: what messages call it; never holds a password.
        changes: whether another set may be published while the worker runs.
        at_once: reads it without waiting, where that is possible.
    """

    where: str
    changes: bool
    at_once: Callable[[], Published] | None

    async def fetch(self, known: object) -> Published | None:
        """Return what is published, None while it is what the tag `known` stands for.

        Raises:
            SourceError: it cannot be had now.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


def open_source(address: str) -> RulesSource:
    """Return the source of a path, ``s3://bucket/key`` or ``redis://host:port/db#key``.

    Raises:
        ConfigError: the address is none of these.
    """
    parts = urlsplit(address)
    if parts.scheme == "s3":
        if not parts.netloc or not parts.path.strip("/"):
            raise ConfigError(f"rules = {address!r}: write s3://bucket/key")
        return _S3Source(parts.netloc, parts.path.lstrip("/"))
    if parts.scheme in ("redis", "rediss", "unix"):
        if not parts.fragment:
            raise ConfigError(
                f"rules: name the key after '#', as in {parts.scheme}://host:6379/0#rules"
            )
        return _RedisSource(address.partition("#")[0], parts.fragment)
    if parts.scheme and "://" in address:
        raise ConfigError(f"rules = {parts.scheme}://...: a path, s3:// or redis:// is known")
    return FileSource(Path(address))


class PackagedRules:
    """The rule set in the package."""

    where = "default.toml of streamproc_fraud"
    changes = False

    def __init__(self) -> None:
        self.at_once: Callable[[], Published] | None = self._read

    def _read(self) -> Published:
        content = files("streamproc_fraud.rules").joinpath("default.toml").read_bytes()
        return Published(content, "packaged")

    async def fetch(self, known: object) -> Published | None:
        """See `RulesSource.fetch`."""
        found = self._read()
        return None if found.tag == known else found

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class FileSource:
    """A file; publish by renaming a finished one over it, so that none is read half-written."""

    changes = True

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.at_once: Callable[[], Published] | None = self._read
        self._path = path

    def _read(self) -> Published:
        """Return what the file holds.

        Raises:
            SourceError: it cannot be read.
        """
        try:
            stat = self._path.stat()
            content = self._path.read_bytes()
        except OSError as error:
            raise SourceError(f"{self.where} cannot be read: {error.strerror or error}") from None
        return Published(content, (stat.st_mtime_ns, stat.st_ino, stat.st_size))

    async def fetch(self, known: object) -> Published | None:
        """See `RulesSource.fetch`."""
        found = await asyncio.to_thread(self._read)
        return None if found.tag == known else found

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class _RedisSource:
    changes = True
    at_once: Callable[[], Published] | None = None

    def __init__(self, url: str, key: str) -> None:
        import redis.asyncio

        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.hostname or parts.path}#{key}"
        self._key = key
        try:
            self._client: Any = redis.asyncio.Redis.from_url(
                url, socket_timeout=None, socket_connect_timeout=_FIRST_TIMEOUT_S
            )
        except ValueError as error:
            raise ConfigError(f"rules at {self.where}: {error}") from None

    async def fetch(self, known: object) -> Published | None:
        """See `RulesSource.fetch`."""
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(_FIRST_TIMEOUT_S if known is None else _TIMEOUT_S):
                content = await self._client.get(self._key)
        except (RedisError, OSError, TimeoutError) as error:
            raise SourceError(f"{self.where}: {type(error).__name__}: {error}") from None
        if content is None:
            raise SourceError(f"{self.where}: there is no such key")
        return None if content == known else Published(content, content)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class _S3Source:
    changes = True
    at_once: Callable[[], Published] | None = None

    def __init__(self, bucket: str, key: str) -> None:
        self.where = f"s3://{bucket}/{key}"
        self._object = {"Bucket": bucket, "Key": key}
        self._client: Any = None
        self._stack = contextlib.AsyncExitStack()

    async def fetch(self, known: object) -> Published | None:
        """See `RulesSource.fetch`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            async with asyncio.timeout(_FIRST_TIMEOUT_S if known is None else _TIMEOUT_S):
                client = await self._connect()
                given = {} if known is None else {"IfNoneMatch": known}
                answer = await client.get_object(**self._object, **given)
                async with answer["Body"] as body:
                    return Published(await body.read(), answer["ETag"])
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 304:
                return None
            raise SourceError(f"{self.where}: {error}") from None
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise SourceError(f"{self.where}: {type(error).__name__}: {error}") from None

    async def aclose(self) -> None:
        """Close the client."""
        await self._stack.aclose()
        self._client = None

    async def _connect(self) -> Any:
        if self._client is None:
            from aiobotocore.session import AioSession

            client = AioSession().create_client("s3")
            self._client = await self._stack.enter_async_context(client)
        return self._client
