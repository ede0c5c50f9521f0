"""One HTTP/1.1 connection for polling: a socket that is read when somebody looks.

An event loop's transport calls its protocol for every answer as it comes. Polls that are sent in
bunches are better answered in bunches, too: a look at a socket that has its answer is one system
call, and neither a round of the loop nor a switch from another process (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Final

import httptools

__all__ = ["Answer", "ClosedUnansweredError", "Connection", "Ended", "open_socket"]

Answer = tuple[int, bytes]
"""Status and body."""

# Bytes to receive at a time. More than the 16 KiB of a TLS record: of what was decrypted nothing
# may stay behind, where no selector sees it.
_CHUNK: Final = 256 * 1024
# What a socket raises that has nothing, or, under TLS, nothing but a message of the protocol's own.
_NOTHING_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


Ended = Callable[["Connection", Answer | OSError], None]
"""Called with the connection of a call and what came of it; it must not raise."""


class ClosedUnansweredError(ConnectionError):
    """The other side closed the connection without a byte of an answer."""


class Connection:
    """One connection with one call at a time; also the receiver of httptools' callbacks.

    Its parser goes from one answer to the next, as llhttp does on a connection that is kept.

    Args:
        opened: connected and non-blocking; TLS has shaken hands.
        selector: tells that there is something to receive; it is registered there until closed.
        now: monotonic seconds.

    Attributes:
        is_open: whether it may be used for another call.
        is_answering: whether a part of an answer has come, and not yet all of it.
        is_busy: whether an answer is still to come.
        last_active: when it last sent or received, in monotonic seconds.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_ended",
        "_parser",
        "_received",
        "_selector",
        "_socket",
        "is_answering",
        "is_busy",
        "is_open",
        "last_active",
    )

    def __init__(self, opened: socket.socket, selector: selectors.BaseSelector, now: float) -> None:
        self.is_open = True
        self.is_answering = False
        self.is_busy = False
        self.last_active = now
        self._socket = opened
        self._selector = selector
        self._parser = httptools.HttpResponseParser(self)
        self._ended: Ended = _nobody
        self._received: bytes | OSError | None = None
        self._body: list[bytes] = []
        self._answer: Answer | None = None
        selector.register(opened, selectors.EVENT_READ, self)

    def send(self, request: bytes, ended: Ended, now: float) -> None:
        """Send a request, and have `ended` called with its answer or failure.

        Raises:
            ClosedUnansweredError: it could not be sent, and the connection is closed.
        """
        try:
            sent = self._socket.send(request)
        except OSError as error:
            self._close()
            raise ClosedUnansweredError(f"the connection takes no request: {error}") from error
        if sent < len(request):
            # One without a call under way has room for a request, unless its other end is dead.
            self._close()
            raise ClosedUnansweredError(f"the connection took {sent} of {len(request)} bytes")
        self._ended = ended
        self.is_busy = True
        self.last_active = now

    def receive(self) -> None:
        """Take what the socket has; `parse` says what came of it."""
        try:
            self._received = self._socket.recv(_CHUNK)
        except _NOTHING_YET:
            self._received = None
        except OSError as error:
            self._received = error

    def parse(self, now: float) -> None:
        """Go through what was received, and hand over the answer that it completes."""
        received, self._received = self._received, None
        if received is None or not self.is_open:
            return
        if not received or isinstance(received, OSError):
            self._lost(received or "closed")
            return
        if not self.is_busy:
            self._close()  # Nobody has asked: what follows cannot be trusted.
            return
        self.last_active = now
        self.is_answering = True
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            self.abort(ConnectionAbortedError(f"not HTTP/1.1: {error}"))
            return
        answer = self._answer
        if answer is not None:
            self.is_answering = self.is_busy = False
            self._answer = None
            self._ended(self, answer)

    def read_on(self, now: float) -> None:
        """Take what has come of an answer that began, up to its end.

        A page of records comes in dozens of chunks. Were each left to a turn of the loop of its
        own, a batch that is processed in between would have them all wait, and find cold caches.
        """
        while self.is_answering and self.is_open:
            self.receive()
            if self._received is None:
                return
            self.parse(now)

    def abort(self, why: OSError) -> None:
        """Close at once; a call under way fails with `why`."""
        self._close()
        if self.is_busy:
            self.is_busy = False
            self._ended(self, why)

    def _lost(self, how: OSError | str) -> None:
        if self.is_answering:
            self.abort(ConnectionResetError(f"the connection was lost within an answer: {how}"))
        else:
            self.abort(ClosedUnansweredError(f"the connection was lost before an answer: {how}"))

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._selector.unregister(self._socket)
            self._socket.close()

    # httptools; what is raised here would be taken for a fault of the other side.

    def on_message_begin(self) -> None:
        """Trust a connection no more that answers twice."""
        if self._answer is not None:
            self._close()

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Put the answer together."""
        status = self._parser.get_status_code()
        if status < 200:
            return  # "100 Continue" and its like: the answer is still to come.
        if self._answer is not None:
            return
        if not self._parser.should_keep_alive():
            self._close()
        self._answer = (status, b"".join(self._body))
        self._body.clear()


def _nobody(connection: Connection, outcome: Answer | OSError) -> None:
    raise AssertionError("no call was made on this connection")


async def open_socket(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a non-blocking socket that is connected to the first address of `host` that answers.

    Raises:
        OSError: there is none; with TLS, also that the other side is not to be trusted.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in addresses:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A connection that a NAT or a dead peer dropped shows before a call finds out.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.sock_connect(opened, address)
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened if tls is None else await _shake_hands(opened, tls, host)
    raise failure or OSError(f"{host} has no address")


async def _shake_hands(opened: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    secured = tls.wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await _readable(secured)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


async def _readable(opened: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(opened, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(opened)
