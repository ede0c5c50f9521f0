"""Keeps batches of one worker that touch the same state apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

__all__ = ["KeyGate"]


class KeyGate:
    """Lets batches with disjoint keys run side by side, and others one after the other.

    Without it, two shards of one worker that touch one key would conflict at commit and run again
    (workers in different processes still may). A batch enters the queues of all its keys in one
    step, and waits only for batches that entered before it: no deadlock.
    """

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def hold(self, keys: Collection[str]) -> AsyncIterator[None]:
        """Wait until no earlier batch holds any of `keys`, then hold them."""
        left = asyncio.get_running_loop().create_future()
        left.add_done_callback(lambda _: self._forget(keys, left))
        ahead = {self._last[key] for key in keys if key in self._last}
        self._last.update(dict.fromkeys(keys, left))
        try:
            for other in ahead:
                # Shielded: our cancellation must not look as if the other batch had left.
                await asyncio.shield(other)
            yield
        finally:
            # Cancelled while waiting, we never held the keys: whoever waits for us must still
            # wait for those ahead.
            _complete_after(ahead, left)

    def _forget(self, keys: Collection[str], left: asyncio.Future[None]) -> None:
        for key in keys:
            if self._last.get(key) is left:
                del self._last[key]


def _complete_after(ahead: Collection[asyncio.Future[None]], left: asyncio.Future[None]) -> None:
    waiting = {other for other in ahead if not other.done()}
    if not waiting:
        left.set_result(None)

    def one_left(other: asyncio.Future[None]) -> None:
        waiting.discard(other)
        if not waiting:
            left.set_result(None)

    for other in list(waiting):
        other.add_done_callback(one_left)
