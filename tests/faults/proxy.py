"""A proxy before Redis that knows requests from answers and breaks the round trips it is told to.

    async with FaultProxy(redis_url) as proxy:
        proxy.on("commit", CutAfter(), times=3)      # the next three commits' answers are lost

The scripts are known by the names that `RedisStateStore` has for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import msgspec

from streamproc.redis_client import Script, connect_redis
from streamproc.state.redis_store import RedisStateStore
from tests.faults.resp import read_message, request_name

__all__ = ["CutAfter", "CutBefore", "Delay", "Fault", "FaultProxy", "Late", "Request"]


class CutBefore(msgspec.Struct, frozen=True):
    """The connection ends before the server has got the request."""


class CutAfter(msgspec.Struct, frozen=True):
    """The server executes the request; the connection ends before the answer."""


class Delay(msgspec.Struct, frozen=True):
    """The request reaches the server that many seconds later."""

    seconds: float


class Late(msgspec.Struct, eq=False):
    """The client's connection ends at once; the request reaches the server when it is released.

    `executed` is set by the proxy once the server has answered it, with `answer`.
    """

    released: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    executed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    answer: bytes = b""


Fault: TypeAlias = CutBefore | CutAfter | Delay | Late


class Request(msgspec.Struct, frozen=True):
    """A request on its way: its command or script, and how many of that name came before it."""

    name: str
    earlier: int


class FaultProxy:
    """Forwards each request, wholly, once `decide` has said what becomes of it.

    Attributes:
        decide: asked about each request; None lets it pass.
        seen: how many requests of each name came.
        broken: how many of each name met a fault.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._scripts = script_names(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._planned: dict[str, deque[Fault]] = {}
        self.decide: Callable[[Request], Fault | None] = self._next_planned
        self.seen: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The address for clients."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"redis://{host}:{port}/0"

    def on(self, name: str, fault: Fault, times: int = 1) -> None:
        """Break the next `times` requests of that name."""
        self._planned.setdefault(name, deque()).extend([fault] * times)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next_planned(self, request: Request) -> Fault | None:
        planned = self._planned.get(request.name)
        return planned.popleft() if planned else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream = await asyncio.open_connection(*self._upstream)
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    await self._round_trips(reader, writer, *upstream)
            finally:
                upstream[1].close()
        except (ConnectionRefusedError, asyncio.CancelledError):
            pass  # the server is gone, or the proxy is: so is the client's connection
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _round_trips(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Serve one connection; a client that sends several requests at once gets its answers."""
        while True:
            message = await read_message(reader)
            fault = self._fault_for(message)
            if isinstance(fault, CutBefore):
                return
            if isinstance(fault, Delay):
                await asyncio.sleep(fault.seconds)
            if isinstance(fault, Late):
                writer.close()
                await fault.released.wait()
            up_writer.write(message)
            answer = await read_message(up_reader)
            if isinstance(fault, Late):
                fault.answer = answer
                fault.executed.set()
            if isinstance(fault, (CutAfter, Late)):
                return
            writer.write(answer)
            await writer.drain()

    def _fault_for(self, message: bytes) -> Fault | None:
        name = request_name(message, self._scripts)
        fault = self.decide(Request(name, self.seen[name]))
        self.seen[name] += 1
        if fault is not None:
            self.broken[name] += 1
        return fault


def script_names(url: str) -> Mapping[str, str]:
    """Return what the state store calls its scripts, by their digests."""
    parts: dict[str, Any] = vars(RedisStateStore(connect_redis(url, 5.0), "any", 60.0))
    scripts = {name.strip("_"): part for name, part in parts.items()}
    return {part.digest: name for name, part in scripts.items() if isinstance(part, Script)}
