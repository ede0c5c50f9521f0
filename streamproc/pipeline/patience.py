"""Waiting for a state store that does not answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from streamproc.errors import StateStoreError

__all__ = ["until_answered"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_LEAST_DELAY: Final = 0.05
_MOST_DELAY: Final = 2.0


async def until_answered(
    call: Callable[[], Awaitable[T]],
    shard: str,
    sleep: Callable[[float], Awaitable[None]],
    rng: random.Random,
    on_error: Callable[[StateStoreError], None] = lambda error: None,
) -> T:
    """Repeat a store call, with jittered backoff of at most 2 s, until it is answered.

    There is nothing else to do meanwhile: no effect and no checkpoint without the store. The
    caller is cancelled when the lease goes or the worker's time to drain is over.
    """
    delay = _LEAST_DELAY
    failures = 0
    while True:
        try:
            answer = await call()
        except StateStoreError as error:
            failures += 1
            on_error(error)
            if failures == 1:
                log.warning("%s: waiting for the state store: %s", shard, error)
            await sleep(delay * (0.5 + rng.random() / 2))
            delay = min(_MOST_DELAY, delay * 2)
        else:
            if failures:
                log.info("%s: the state store is back after %d failed calls", shard, failures)
            return answer
