"""HTTP/1.1 for polling: kept-alive connections that cost a call next to nothing.

A general client makes objects for URL, headers, request, response, stream and timers of every
call. Thousands of shards that are polled every second or two, mostly in vain, are where that is the
whole of the work (docs/performance.md). Parsing is httptools' (llhttp, in C).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

__all__ = ["Answer", "HttpPool"]

Answer = tuple[int, bytes]
"""Status and body."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class HttpPool:
    """Connections to one endpoint, each with one call at a time.

    Args:
        url: scheme, host and port.
        tls: how to verify the other side; for https.
        timeout: seconds for connecting, and for each wait for bytes of an answer.
        limit: most calls at a time; more wait.
        idle: seconds after which an unused connection is closed.
    """

    def __init__(
        self, url: str, tls: ssl.SSLContext | None, timeout: float, limit: int, idle: float
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._tls = tls if parts.scheme == "https" else None
        self._timeout = timeout
        self._idle = idle
        self._turns = asyncio.Semaphore(limit)
        self._free: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(self, request: bytes) -> Answer:
        """Send a whole request and return its answer.

        A kept connection that turns out to be closed by the other side, before it said anything,
        is replaced once: use this for requests that may be sent twice.

        Raises:
            OSError: no connection, or it broke; TimeoutError among them.
        """
        async with self._turns:
            while self._free:
                connection = self._free.pop()
                if connection.is_open:
                    try:
                        return await self._exchange(connection, request)
                    except _ClosedUnansweredError:
                        break
            return await self._exchange(await self._connect(), request)

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in (*self._free, *self._busy):
            connection.abort(ConnectionAbortedError("the client was closed"))
        self._free.clear()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._period, self._sweep, loop)
        async with asyncio.timeout(self._timeout):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop.time), self._host, self._port, ssl=self._tls
            )
        return connection

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        self._busy.add(connection)
        try:
            answer = await connection.exchange(request)
        except BaseException:
            # Cancelled or broken: what is left of the answer must not meet the next call.
            connection.abort(ConnectionAbortedError("the call was given up"))
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_open:
            self._free.append(connection)
        return answer

    @property
    def _period(self) -> float:
        return min(self._timeout, self._idle) / 4

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what says nothing, and close what nobody uses: one timer for all connections."""
        now = loop.time()
        for connection in list(self._busy):
            if now - connection.last_active > self._timeout:
                connection.abort(TimeoutError(f"no answer in {self._timeout:g} s"))
        for connection in self._free:
            if now - connection.last_active > self._idle:
                connection.abort(ConnectionAbortedError("unused"))
        self._free = [connection for connection in self._free if connection.is_open]
        self._sweeper = loop.call_later(self._period, self._sweep, loop)


class _ClosedUnansweredError(ConnectionError):
    """The other side closed the connection without a byte of an answer."""


class _Connection(asyncio.Protocol):
    """One connection; also the receiver of httptools' callbacks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_open = False
        self.last_active = clock()
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._body: list[bytes] = []

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        assert self._transport is not None, "a pool hands out connected ones only"
        self._waiting = asyncio.get_running_loop().create_future()
        self._parser = None
        self.last_active = self._clock()
        self._transport.write(request)
        return await self._waiting

    def abort(self, why: OSError) -> None:
        """Close at once; a call under way fails with `why`."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
        self._fail(why)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        # A connection that a NAT or a dead peer dropped shows before a call finds out.
        opened = transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._parser is None:
            self._fail(_ClosedUnansweredError("the connection was closed before an answer"))
        else:
            self._fail(ConnectionResetError("the connection was closed within an answer"))

    def data_received(self, data: bytes) -> None:
        self.last_active = self._clock()
        if self._parser is None:
            self._parser, self._body = httptools.HttpResponseParser(self), []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(ConnectionAbortedError(f"not HTTP/1.1: {error}"))

    # httptools.

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        parser, waiting = self._parser, self._waiting
        assert parser is not None
        if parser.get_status_code() < 200:
            return  # "100 Continue" and its like: the answer is still to come.
        if waiting is None or waiting.done():
            # Nobody asked for this.
            self.abort(ConnectionAbortedError("an answer without a question"))
            return
        if not parser.should_keep_alive():
            self.is_open = False
            if self._transport is not None:
                self._transport.close()
        waiting.set_result((parser.get_status_code(), b"".join(self._body)))

    def _fail(self, why: OSError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(why)
