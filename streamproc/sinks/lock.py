"""A lock in Redis that one relay of a group holds at a time."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

__all__ = ["RelayLock"]

# KEYS[1] = lock; ARGV[1] = token, ARGV[2] = TTL in ms.
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class RelayLock:
    """Held by one owner until it releases it or does not renew it for `ttl` seconds.

    It keeps relays from delivering at the same time; it is no fence. An owner that was suspended
    may act once more after its time, so what it guards must bear to be done twice.

    Args:
        client: Redis.
        key: the lock's key.
        owner: who holds it, for people who look; a random part makes it unique.
        ttl: seconds until a lock that is not renewed is free.
        clock: monotonic seconds.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        key: str,
        owner: str,
        ttl: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.token = f"{owner}/{uuid.uuid4().hex}"
        self._client = client
        self._key = key
        self._ttl = ttl
        self._ttl_ms = int(ttl * 1000)
        self._clock = clock
        self._sleep = sleep
        self._renew: Any = client.register_script(_RENEW)
        self._release: Any = client.register_script(_RELEASE)
        self._valid_until = 0.0

    async def acquire(self) -> bool:
        """Take the lock if it is free; False when another holds it.

        Raises:
            RedisError: Redis does not answer; the lock may have been taken.
        """
        asked = self._clock()
        taken = await self._client.set(self._key, self.token, nx=True, px=self._ttl_ms)
        if not taken:
            # The answer to an earlier try of ours may have been lost: then it is ours.
            taken = await self._renew(keys=[self._key], args=[self.token, self._ttl_ms])
        if taken:
            self._valid_until = asked + self._ttl
        return bool(taken)

    async def keep(self) -> None:
        """Renew until the lock is lost: taken by another, or not renewed for its whole time."""
        while (left := self._valid_until - self._clock()) > 0:
            await self._sleep(min(left, self._ttl / 3))
            asked = self._clock()
            try:
                async with asyncio.timeout(max(0.0, self._valid_until - asked)):
                    renewed = await self._renew(keys=[self._key], args=[self.token, self._ttl_ms])
            except (RedisError, OSError):
                continue  # TimeoutError is one; the loop ends when the time does
            if not renewed:
                return
            self._valid_until = asked + self._ttl

    async def release(self) -> None:
        """Free the lock if it is still ours.

        Raises:
            RedisError: Redis does not answer; the lock frees itself in time.
        """
        self._valid_until = 0.0
        await self._release(keys=[self._key], args=[self.token])
