"""HTTP/1.1 for polling: kept-alive connections that cost a call next to nothing.

A general client makes objects for URL, headers, request, response, stream and timers of every
call. Thousands of shards that are polled every second or two, mostly in vain, are where that is the
whole of the work (docs/performance.md). Parsing is httptools' (llhttp, in C).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
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
        self._limit = limit
        self._calls = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._free: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(self, request: bytes) -> Answer:
        """Send a whole request and return its answer.

        A kept connection that turns out to be closed by the other side, before it said anything,
        is replaced once: use this for requests that may be sent twice.

        Raises:
            OSError: no connection, or it broke; TimeoutError among them.
        """
        await self._take_turn()
        connection = self._kept()
        try:
            if connection is not None:
                with contextlib.suppress(_ClosedUnansweredError):
                    return await connection.send(request)
            connection = await self._connect()
            return await connection.send(request)
        finally:
            if connection is not None:
                self._put_back(connection)
            self._give_turn()

    def post_at_once(self, request: bytes, done: Callable[[asyncio.Future[Answer]], None]) -> bool:
        """Send a request as `post` does, and have `done` called with its answer or failure.

        A connection that the other side has closed is not replaced here.

        Returns:
            False, and nothing is sent, when no kept connection is free or calls wait for a turn.
        """
        if self._calls >= self._limit:
            return False
        connection = self._kept()
        if connection is None:
            return False
        self._calls += 1

        def end(answer: asyncio.Future[Answer]) -> None:
            self._put_back(connection)
            self._give_turn()
            done(answer)

        connection.send(request).add_done_callback(end)
        return True

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._connections:
            connection.abort(ConnectionAbortedError("the client was closed"))
        self._connections.clear()
        self._free.clear()

    async def _take_turn(self) -> None:
        if self._calls < self._limit:
            self._calls += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_turn()
            raise

    def _give_turn(self) -> None:
        """Pass a turn on to the first who waits for one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._calls -= 1

    def _kept(self) -> _Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return None

    def _put_back(self, connection: _Connection) -> None:
        if connection.is_busy:
            # Given up: what is left of the answer must not meet the next call.
            connection.abort(ConnectionAbortedError("the call was given up"))
        elif connection.is_open:
            self._free.append(connection)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._period, self._sweep, loop)
        async with asyncio.timeout(self._timeout):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop), self._host, self._port, ssl=self._tls
            )
        self._connections.add(connection)
        return connection

    @property
    def _period(self) -> float:
        return min(self._timeout, self._idle) / 4

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what says nothing, and close what nobody uses: one timer for all connections."""
        now = loop.time()
        for connection in self._connections:
            silent = now - connection.last_active
            if connection.is_busy and silent > self._timeout:
                connection.abort(TimeoutError(f"no answer in {self._timeout:g} s"))
            elif not connection.is_busy and silent > self._idle:
                connection.abort(ConnectionAbortedError("unused"))
        self._connections = {each for each in self._connections if each.is_open}
        self._free = [each for each in self._free if each.is_open]
        self._sweeper = loop.call_later(self._period, self._sweep, loop)


class _ClosedUnansweredError(ConnectionError):
    """The other side closed the connection without a byte of an answer."""


class _Connection(asyncio.Protocol):
    """One connection; also the receiver of httptools' callbacks.

    Its parser goes from one answer to the next, as llhttp does on a connection that is kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_open = False
        self.last_active = loop.time()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answering = False
        self._body: list[bytes] = []

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still to come, be it awaited or not."""
        return self._waiting is not None

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request and return its answer to come."""
        assert self._transport is not None, "a pool hands out connected ones only"
        waiting = self._waiting = self._loop.create_future()
        self._answering = False
        self.last_active = self._loop.time()
        self._transport.write(request)
        return waiting

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
        if not self._answering:
            self._fail(_ClosedUnansweredError("the connection was closed before an answer"))
        else:
            self._fail(ConnectionResetError("the connection was closed within an answer"))

    def data_received(self, data: bytes) -> None:
        self.last_active = self._loop.time()
        self._answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(ConnectionAbortedError(f"not HTTP/1.1: {error}"))

    # httptools.

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        status, waiting = self._parser.get_status_code(), self._waiting
        if status < 200:
            return  # "100 Continue" and its like: the answer is still to come.
        if waiting is None or waiting.done():
            # Nobody asked for this.
            self.abort(ConnectionAbortedError("an answer without a question"))
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
            if self._transport is not None:
                self._transport.close()
        body, self._body = self._body, []
        self._waiting = None
        waiting.set_result((status, b"".join(body)))

    def _fail(self, why: OSError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(why)
