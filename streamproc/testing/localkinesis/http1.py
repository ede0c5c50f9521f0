"""A small HTTP/1.1 server protocol: whole requests in, whole answers out, in order.

It serves AWS clients only, so it knows what they use: keep-alive, Content-Length, Expect. It exists
because a small request costs it less than half of what it costs a general web server and the
largest bodies go out with a single copy (measured: `docs/localkinesis.md`), and because planned
faults break answers in ways that a web server is built to prevent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 64 * 1024 * 1024
_JOIN_BELOW_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"


class Request(NamedTuple):
    """A complete request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """An answer, to be sent `delay_s` seconds from now.

    `send_bytes` is how much of the body goes out: with less than all of it the connection is closed
    after that, and with None it is closed before anything is sent.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    delay_s: float
    send_bytes: int | None


class _Head(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    length: int
    keep_alive: bool


class BadRequestError(ValueError):
    """A request that this server does not take; `status` says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpConnection(asyncio.Protocol):
    """One client's connection. Requests are answered one at a time, in the order they came."""

    def __init__(
        self, respond: Callable[[Request], Response], connections: set[HttpConnection]
    ) -> None:
        self._respond = respond
        self._connections = connections
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body_start = 0
        self._writable = True
        self._delayed: asyncio.TimerHandle | None = None
        self._closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and an answer that was still held back."""
        self._connections.discard(self)
        if self._delayed is not None:
            self._delayed.cancel()
        if not self._closed.done():
            self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Collect a request and answer it once it is complete."""
        self._buffer += data
        self._serve()

    def pause_writing(self) -> None:
        """Take no further request while the client does not read its answers."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on with requests that have come in meanwhile."""
        self._writable = True
        self._serve()

    async def close(self) -> None:
        """Cut the connection and wait until it is gone."""
        self._transport.abort()
        await self._closed

    def _serve(self) -> None:
        while self._writable and self._delayed is None and not self._transport.is_closing():
            try:
                request = self._next_request()
            except BadRequestError as error:
                body = f"{error}\n".encode()
                headers = {"Content-Type": "text/plain", "Connection": "close"}
                self._send(error.status, headers, body, len(body))
                self._transport.close()
                return
            if request is None:
                return
            head, self._head = self._head, None
            response = self._respond(request)
            if response.delay_s > 0:
                self._delayed = asyncio.get_running_loop().call_later(
                    response.delay_s, self._send_delayed, response, head
                )
            else:
                self._finish(response, head)

    def _next_request(self) -> Request | None:
        buffer = self._buffer
        if self._head is None:
            end = buffer.find(_HEAD_END, 0, _MAX_HEAD_BYTES)
            if end < 0:
                if len(buffer) >= _MAX_HEAD_BYTES:
                    raise BadRequestError(
                        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers are too large."
                    )
                return None
            self._head = _parse_head(bytes(buffer[:end]))
            self._body_start = end + len(_HEAD_END)
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = self._head
        end = self._body_start + head.length
        if len(buffer) < end:
            return None
        body = bytes(buffer[self._body_start : end])
        del buffer[:end]
        return Request(head.method, head.path, head.headers, body)

    def _send_delayed(self, response: Response, head: _Head | None) -> None:
        self._delayed = None
        self._finish(response, head)
        self._serve()

    def _finish(self, response: Response, head: _Head | None) -> None:
        status, headers, body, _, send_bytes = response
        if send_bytes is None:
            self._transport.abort()
            return
        self._send(status, headers, body, send_bytes)
        if send_bytes < len(body) or (head is not None and not head.keep_alive):
            self._transport.close()

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, send_bytes: int) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        sent = body[:send_bytes]  # no copy when it is all of it
        # Joining small parts saves a system call; for large ones the copy would cost more.
        if len(sent) < _JOIN_BELOW_BYTES:
            self._transport.write(head + sent)
        else:
            self._transport.write(head)
            self._transport.write(sent)


def _parse_head(raw: bytes) -> _Head:
    request_line, *lines = raw.decode("latin-1").split("\r\n")
    method, _, rest = request_line.partition(" ")
    path, _, version = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequestError(
            HTTPStatus.BAD_REQUEST, f"Expected HTTP/1.1, got request line {request_line[:80]!r}."
        )
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, f"Malformed header line {line[:80]!r}.")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise BadRequestError(
            HTTPStatus.LENGTH_REQUIRED, "Send Content-Length: chunked requests are not taken."
        )
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, f"Malformed Content-Length {length[:80]!r}.")
    if int(length) > _MAX_BODY_BYTES:
        raise BadRequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {_MAX_BODY_BYTES} bytes."
        )
    wanted = headers.get("connection", "").lower()
    keep_alive = wanted != "close" if version == "HTTP/1.1" else wanted == "keep-alive"
    return _Head(method, path, headers, int(length), keep_alive)
