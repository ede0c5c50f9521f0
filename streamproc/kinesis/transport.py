"""HTTP/1.1 for polling: kept-alive connections that cost a call next to nothing.

A general client makes objects for URL, headers, request, response, stream and timers of every
call. Thousands of shards that are polled every second or two, mostly in vain, are where that is the
whole of the work (docs/performance.md). Parsing is httptools' (llhttp, in C).
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import ssl
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final
from urllib.parse import urlsplit

from streamproc.kinesis.connection import Answer, ClosedUnansweredError, Connection, open_socket

__all__ = ["LOOK_S", "HttpPool"]

LOOK_S: Final = 0.01
"""Seconds between two looks for answers that nobody awaits: by so much one may come late."""

Done = Callable[[Answer | OSError], None]

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
        self._free: list[Connection] = []
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        # All connections are registered here, and it with the loop while a call is awaited.
        self._selector = selectors.DefaultSelector()
        self._watching = False
        self._awaited = 0
        # Calls sent at once: to be sent, and under way.
        self._outbox: list[tuple[Connection, bytes, Done]] = []
        self._unanswered: dict[Connection, Done] = {}
        self._looker: asyncio.TimerHandle | None = None

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
                with contextlib.suppress(ClosedUnansweredError):
                    return await self._exchange(connection, request)
            connection = await self._connect()
            return await self._exchange(connection, request)
        finally:
            if connection is not None:
                self._put_back(connection)
            self._give_turn()

    def post_at_once(self, requests: Sequence[bytes], dones: Sequence[Done]) -> int:
        """Send requests as `post` does, and have each one's `done` called with what came of it.

        What is asked at one turn of the loop is sent together, and answers are looked for together,
        every `LOOK_S`. A connection that the other side has closed is not replaced here. `done`
        must not raise.

        Args:
            requests: whole requests.
            dones: for each of them, whom to call with its answer or failure.

        Returns:
            How many are sent, from the first on; for the others no kept connection is free, or
            calls wait for a turn.
        """
        if self._closed or self._calls >= self._limit:
            return 0
        if self._looker is None and not self._outbox:
            self._look()  # Some may have been closed since the last one.
        if not self._outbox:
            self._loop.call_soon(self._send_all)
        taken = 0
        for request, done in zip(requests, dones, strict=True):
            connection = self._kept() if self._calls < self._limit else None
            if connection is None:
                break
            self._calls += 1
            taken += 1
            self._outbox.append((connection, request, done))
        return taken

    def _send_all(self) -> None:
        outbox, self._outbox = self._outbox, []
        now, ended, unanswered = self._loop.time(), self._end, self._unanswered
        for connection, request, done in outbox:
            unanswered[connection] = done
            try:
                connection.send(request, ended, now)
            except ClosedUnansweredError as error:
                self._end(connection, error)
        if not self._awaited:
            self._watch(False)
        if self._unanswered and self._looker is None:
            self._looker = self._loop.call_later(LOOK_S, self._look_on)

    def _end(self, connection: Connection, outcome: Answer | OSError) -> None:
        done = self._unanswered.pop(connection)
        if connection.is_open:
            self._free.append(connection)
        if self._waiting:
            self._give_turn()
        else:
            self._calls -= 1
        done(outcome)

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        self._closed = True
        for timer in (self._sweeper, self._looker):
            if timer is not None:
                timer.cancel()
        self._watch(False)
        for connection in self._connections:
            connection.abort(ConnectionAbortedError("the client was closed"))
        self._connections.clear()
        self._free.clear()
        self._selector.close()

    async def _exchange(self, connection: Connection, request: bytes) -> Answer:
        answer: asyncio.Future[Answer | OSError] = self._loop.create_future()

        def settle(_: Connection, outcome: Answer | OSError) -> None:
            if not answer.done():
                answer.set_result(outcome)

        connection.send(request, settle, self._loop.time())
        self._watch(True)
        self._awaited += 1
        try:
            outcome = await answer
        finally:
            self._awaited -= 1
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def _watch(self, wanted: bool) -> None:
        """Be woken by an answer as soon as it comes, or not."""
        if wanted is not self._watching:
            self._watching = wanted
            if wanted:
                self._loop.add_reader(self._selector.fileno(), self._look)
            else:
                self._loop.remove_reader(self._selector.fileno())

    def _look(self) -> None:
        """Take in what has come on whatever connection."""
        self._take_in([key.data for key, _ in self._selector.select(0)])

    def _look_on(self) -> None:
        """Take in the answers that nobody awaits, until none is missing.

        Their sockets are tried without asking which of them have something: most do.
        """
        self._take_in(list(self._unanswered))
        again = bool(self._unanswered)
        self._looker = self._loop.call_later(LOOK_S, self._look_on) if again else None

    def _take_in(self, connections: Collection[Connection]) -> None:
        # Each thing is done for all before the next is: what the kernel and what Python runs for
        # one connection is then still in the caches for the others.
        for connection in connections:
            connection.receive()
        now = self._loop.time()
        for connection in connections:
            connection.parse(now)
            if connection.is_answering:
                connection.read_on(now)
                self._watch(True)  # The rest of a long answer is not to wait for looks.

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

    def _kept(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return None

    def _put_back(self, connection: Connection) -> None:
        if connection.is_busy:
            # Given up: what is left of the answer must not meet the next call.
            connection.abort(ConnectionAbortedError("the call was given up"))
        elif connection.is_open:
            self._free.append(connection)

    async def _connect(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._period, self._sweep)
        async with asyncio.timeout(self._timeout):
            opened = await open_socket(self._host, self._port, self._tls)
        if self._closed:
            opened.close()
            raise ConnectionAbortedError("the client was closed")
        connection = Connection(opened, self._selector, self._loop.time())
        self._connections.add(connection)
        return connection

    @property
    def _period(self) -> float:
        return min(self._timeout, self._idle) / 4

    def _sweep(self) -> None:
        """Give up what says nothing, and close what nobody uses: one timer for all connections."""
        now = self._loop.time()
        for connection in self._connections:
            silent = now - connection.last_active
            if connection.is_busy and silent > self._timeout:
                connection.abort(TimeoutError(f"no answer in {self._timeout:g} s"))
            elif not connection.is_busy and silent > self._idle:
                connection.abort(ConnectionAbortedError("unused"))
        self._connections = {each for each in self._connections if each.is_open}
        self._free = [each for each in self._free if each.is_open]
        self._sweeper = self._loop.call_later(self._period, self._sweep)
