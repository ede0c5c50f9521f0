"""SubscribeToShard: one subscription, on an HTTP/2 connection of its own.

AWS promises SubscribeToShard over HTTP/2 only, which aiobotocore does not speak; awscrt, from the
AWS SDK team, does. Its callbacks come from its own threads. What is received waits here, and the
stream's window is opened again only once it was taken: a slow consumer slows the sender down.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.exceptions as boto
import msgspec
from awscrt import exceptions, http, io
from botocore.eventstream import EventStreamBuffer, ParserError

from streamproc.kinesis.errors import (
    MalformedResponseError,
    Target,
    TransientError,
    client_error,
    typed_error,
)
from streamproc.kinesis.fanout import PushedEvent, PushSubscription
from streamproc.kinesis.records import ChildShard, Record
from streamproc.kinesis.sigv4 import Credentials, Signer
from streamproc.position import Position

__all__ = ["Subscriber"]

_TARGET: Final = "Kinesis_20131202.SubscribeToShard"
# Bytes under way that nobody has taken yet. An event has up to 1 MiB of data, a third more in
# base64; one that is larger still comes through, since what arrives of it opens the window again.
_WINDOW: Final = 2 * 1024 * 1024


class _Event(msgspec.Struct, rename="pascal"):
    records: list[Record]
    continuation_sequence_number: str | None = None
    millis_behind_latest: int = 0
    child_shards: list[ChildShard] | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.Encoder().encode


class Subscriber:
    """Opens subscriptions for one registered consumer.

    Args:
        endpoint_url: https URL of the endpoint.
        consumer_arn: the registered consumer.
        credentials: botocore's, which renew themselves.
        target: stream, region and endpoint, for signing and for messages.
        user_agent: the User-Agent header.
        ca_path: file with the authorities to trust; None for the system's.
        timeout: seconds to wait for the connection and for the answer's head.
    """

    def __init__(
        self,
        endpoint_url: str,
        consumer_arn: str,
        credentials: Any,
        target: Target,
        user_agent: str,
        ca_path: str | None,
        timeout: float,
    ) -> None:
        parts = urlsplit(endpoint_url)
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        self._consumer_arn = consumer_arn
        self._credentials = credentials
        self._target = target
        self._timeout = timeout
        self._signer = Signer(target.region, "kinesis", parts.netloc, _TARGET, user_agent)
        options = io.TlsContextOptions()
        if ca_path is not None:
            options.override_default_trust_store_from_path(None, ca_path)
        self._tls = io.ClientTlsContext(options)

    async def subscribe(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> PushSubscription:
        """See `FanOutApi.subscribe`."""
        operation = f"SubscribeToShard of {shard_id} at {position}"
        body = _encode(
            {
                "ConsumerARN": self._consumer_arn,
                "ShardId": shard_id,
                "StartingPosition": _starting_at(position, inclusive),
            }
        )
        try:
            frozen = await self._credentials.get_frozen_credentials()
            async with asyncio.timeout(self._timeout):
                subscription = await self._open(frozen, body, operation)
        except (boto.ClientError, boto.BotoCoreError) as error:
            raise typed_error(error, operation, self._target) from error
        except TimeoutError as error:
            # A refused certificate is told after 10 to 30 s only, lest an attacker learn from it.
            raise TransientError(
                f"{operation}, {self._target}: no connection to {self._host}:{self._port} in "
                f"{self._timeout:g} s; is the host reachable, and its certificate trusted "
                "(AWS_CA_BUNDLE)?"
            ) from error
        except (exceptions.AwsCrtError, OSError) as error:
            raise TransientError(
                f"{operation}, {self._target}: {type(error).__name__}: {error}"
            ) from error
        return subscription

    async def _open(self, frozen: Credentials, body: bytes, operation: str) -> _Subscription:
        tls = self._tls.new_connection_options()
        tls.set_server_name(self._host)
        tls.set_alpn_list(["h2"])
        connecting = http.Http2ClientConnection.new(
            self._host,
            self._port,
            tls_connection_options=tls,
            manual_window_management=True,
            initial_window_size=_WINDOW,
        )
        connection = await _connected(connecting)
        headers = http.HttpHeaders(self._signer.headers(frozen, body, time.time()))
        request = http.HttpRequest("POST", "/", headers, body_stream=BytesIO(body))
        subscription = _Subscription(connection, request, operation, self._target)
        try:
            await subscription.opened()
        except BaseException:
            subscription.close()
            raise
        return subscription


async def _connected(connecting: Any) -> Any:
    """Wait for a connection that may come after we were told to wait no longer.

    awscrt's future must not be cancelled, as waiting for it by asyncio's means would: it is settled
    all the same, which would then fail in awscrt's thread. A connection that comes too late is
    closed.
    """
    loop = asyncio.get_running_loop()
    connected = loop.create_future()

    def note(done: Any) -> None:
        error = done.exception()
        if connected.done():
            if error is None:
                done.result().close()
        elif error is not None:
            connected.set_exception(error)
        else:
            connected.set_result(done.result())

    def tell(done: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(note, done)

    connecting.add_done_callback(tell)
    return await connected


class _Subscription:
    """Events of one subscription, from awscrt's threads into the loop.

    Invariant: bytes received and not yet taken are at most a window and one event.
    """

    def __init__(self, connection: Any, request: Any, operation: str, target: Target) -> None:
        self._connection = connection
        self._operation = operation
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._buffer = EventStreamBuffer()
        self._messages: deque[Any] = deque()
        self._received = 0
        self._changed = asyncio.Event()
        self._status: int | None = None
        self._refusal = bytearray()
        self._failure: Exception | None = None
        self._over = False
        self._stream = connection.request(request, self._on_response, self._on_body)
        self._stream.completion_future.add_done_callback(self._on_complete)
        self._stream.activate()

    async def opened(self) -> None:
        """Wait for the answer's head.

        Raises:
            ClientError: the subscription is refused.
            AwsCrtError: the connection broke.
        """
        await self._until(lambda: self._status is not None)
        if self._status != 200:
            await self._until(lambda: self._over)
            raise client_error(self._operation, self._status or 0, bytes(self._refusal))

    async def next(self) -> PushedEvent | None:
        """See `PushSubscription.next`."""
        while True:
            await self._until(lambda: bool(self._messages))
            if not self._messages:
                return None
            message = self._messages.popleft()
            if not self._messages:
                self._open_window()
            event = self._read(message)
            if event is not None:
                return event

    def close(self) -> None:
        """See `PushSubscription.close`."""
        self._over = True
        self._changed.set()
        self._connection.close()

    # awscrt's threads.

    def _on_response(self, http_stream: Any, status_code: int, headers: Any, **_: Any) -> None:
        self._tell(self._note_status, status_code)

    def _on_body(self, http_stream: Any, chunk: bytes, **_: Any) -> None:
        self._tell(self._note_chunk, chunk)

    def _on_complete(self, done: Any) -> None:
        self._tell(self._note_end, done.exception())

    def _tell(self, note: Any, value: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(note, value)

    # The loop.

    def _note_status(self, status: int) -> None:
        self._status = status
        self._changed.set()

    def _note_chunk(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._status != 200:
            self._refusal += chunk
        else:
            self._buffer.add_data(chunk)
            try:
                self._messages.extend(self._buffer)
            except ParserError as error:
                self._failure = MalformedResponseError(
                    f"{self._operation}, {self._target}: not an event stream: {error}"
                )
        if not self._messages:
            self._open_window()  # Part of an event: the rest must be let in.
        self._changed.set()

    def _note_end(self, error: Exception | None) -> None:
        self._failure = self._failure or error
        self._over = True
        self._changed.set()

    def _open_window(self) -> None:
        if self._received and not self._over:
            self._stream.update_window(self._received)
        self._received = 0

    async def _until(self, holds: Any) -> None:
        """Wait until something holds or all is over; raise what it ended with."""
        while not holds():
            if self._failure is not None:
                raise self._failed(self._failure)
            if self._over:
                return
            self._changed.clear()
            await self._changed.wait()

    def _failed(self, error: Exception) -> Exception:
        if not isinstance(error, exceptions.AwsCrtError):
            return error
        return TransientError(f"{self._operation}, {self._target}: {error.name}: {error.message}")

    def _read(self, message: Any) -> PushedEvent | None:
        headers: Mapping[str, Any] = message.headers
        kind = headers.get(":message-type")
        if kind in ("exception", "error"):
            code = headers.get(":exception-type") or headers.get(":error-code", "")
            refused = client_error(self._operation, 400, message.payload, str(code))
            raise typed_error(refused, self._operation, self._target)
        if headers.get(":event-type") != "SubscribeToShardEvent":
            return None  # The initial response, which carries nothing.
        try:
            event = _decode_event(message.payload)
        except msgspec.MsgspecError as error:
            raise MalformedResponseError(f"{self._operation}, {self._target}: {error}") from None
        return PushedEvent(
            records=event.records,
            continuation=event.continuation_sequence_number,
            millis_behind_latest=event.millis_behind_latest,
            child_shards=event.child_shards or [],
            wire_bytes=len(message.payload),
        )


def _starting_at(position: Position, inclusive: bool) -> dict[str, Any]:
    if position.timestamp is not None:
        return {"Type": "AT_TIMESTAMP", "Timestamp": position.timestamp}
    if position.is_start:
        return {"Type": position.sequence}
    kind = "AT_SEQUENCE_NUMBER" if inclusive else "AFTER_SEQUENCE_NUMBER"
    return {"Type": kind, "SequenceNumber": position.sequence}
