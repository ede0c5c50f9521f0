"""A TCP proxy in front of Redis that loses answers after the server has executed the command."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class RedisProxy:
    """Forwards connections; for the next `lose_answers` answers, cuts the connection instead."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lose_answers = 0
        self.lost = 0

    @property
    def url(self) -> str:
        """The address for clients."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"redis://{host}:{port}/0"

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
            asking = asyncio.ensure_future(self._forward(reader, upstream_writer, answers=False))
            answering = asyncio.ensure_future(self._forward(upstream_reader, writer, answers=True))
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            for half in (asking, answering):
                half.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
            upstream_writer.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await source.read(65536):
            if answers and self.lose_answers and b"\r\n$2\r\nOK\r\n" in data:
                # A commit's {'OK'}: the server has applied it, the client will never know.
                self.lose_answers -= 1
                self.lost += 1
                return
            target.write(data)
            await target.drain()
