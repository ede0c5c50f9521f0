"""A plain TCP link that can be cut, held up, or led elsewhere: a network between two machines."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

__all__ = ["Link"]


class Link:
    """Forwards bytes to `upstream`, a port on 127.0.0.1, whatever they mean.

    Attributes:
        upstream: where new connections go; set it to move the address to another server.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False

    @property
    def port(self) -> int:
        """The port to connect to."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The address for Redis clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self) -> None:
        """Let nothing through; connections stay open and silent, as in a network partition."""
        self._open.clear()

    async def cut(self) -> None:
        """End all connections and refuse new ones, as a machine that is gone."""
        self._refusing = True
        await self._end_all()

    async def move(self, upstream: int) -> None:
        """Lead to another server from now on: connections end, and new ones go there."""
        self.upstream = upstream
        await self._end_all()

    def heal(self) -> None:
        """Be a network that works again."""
        self._refusing = False
        self._open.set()

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
        await self._end_all()

    async def _end_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._refusing:
                await self._connect(reader, writer)
        except asyncio.CancelledError:
            pass  # by `_end_all`; asyncio's servers take a cancelled handler for a failed one
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            return  # nobody listens there: the client's connection ends too
        halves = [
            asyncio.create_task(self._forward(reader, up_writer)),
            asyncio.create_task(self._forward(up_reader, writer)),
        ]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up_writer.close()
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # a reset ends a connection as a close does
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
