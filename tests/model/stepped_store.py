"""A state store whose every round trip waits to be told how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from streamproc.state.store import StateStore

__all__ = ["PendingCall", "SteppedStore"]


class PendingCall(msgspec.Struct, eq=False):
    """A call that its owner waits for.

    Attributes:
        name: the store's method.
        make: carries the call out.
        answered: what the owner waits for.
    """

    name: str
    make: Callable[[], Awaitable[Any]]
    answered: asyncio.Future[Any]


class SteppedStore:
    """Passes a store's methods on to `inner` when the driver wants.

    Attributes:
        pending: the call in hand; None while there is none.
    """

    def __init__(self, inner: StateStore) -> None:
        self._inner = inner
        self.pending: PendingCall | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            answered = asyncio.get_running_loop().create_future()
            self.pending = PendingCall(name, lambda: method(*arguments, **named), answered)
            try:
                return await answered
            finally:
                self.pending = None

        return call
