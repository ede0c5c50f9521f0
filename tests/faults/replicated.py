"""A primary and its replica, real servers, with a link between them that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Self

import redis.asyncio

from streamproc.testing import EmbeddedRedis
from tests.faults.link import Link

__all__ = ["ReplicatedRedis"]

_PROMPT = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class ReplicatedRedis:
    """Clients connect to `front`, which leads to the primary, and to the replica after a failover.

    Attributes:
        primary: the server that is written to.
        replica: the one that follows it.
        between: the replica's connection to the primary.
        front: the address for clients.
    """

    def __init__(self) -> None:
        self.primary = EmbeddedRedis(config=_PROMPT)
        self.replica = EmbeddedRedis(config=_PROMPT)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        await enter(self.primary)
        await enter(self.replica)
        self.between = await enter(Link(self.primary.port))
        self.front = await enter(Link(self.primary.port))
        await self._ask(self.replica, "REPLICAOF", "127.0.0.1", self.between.port)
        await self.until_in_step()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def until_in_step(self) -> None:
        """Wait until the replica has what the primary has."""
        async with asyncio.timeout(20):
            while True:
                info = await self._ask(self.replica, "INFO", "replication")
                ours = await self._ask(self.primary, "INFO", "replication")
                if info["master_link_status"] == "up" and (
                    info["slave_repl_offset"] == ours["master_repl_offset"]
                ):
                    return
                await asyncio.sleep(0.02)

    async def fail_over(self) -> None:
        """Kill the primary, make the replica one, and lead clients there."""
        await self.primary.kill()
        await self._ask(self.replica, "REPLICAOF", "NO", "ONE")
        await self.front.move(self.replica.port)

    async def _ask(self, server: EmbeddedRedis, *command: Any) -> Any:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            return await client.execute_command(*command)
