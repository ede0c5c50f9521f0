"""The HTTP shell around the core: JSON or CBOR over HTTP/1.1, on loopback."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import msgspec

from streamproc.testing.localkinesis import cbor
from streamproc.testing.localkinesis.core import CoreSettings, LocalKinesisCore, Reply, Wire
from streamproc.testing.localkinesis.faults import Faults
from streamproc.testing.localkinesis.http1 import HttpConnection, Request, Response

if TYPE_CHECKING:
    from streamproc.testing.localkinesis.http2 import PushServer

_log = logging.getLogger(__name__)

_CONTENT_TYPE = "application/x-amz-json-1.1"
_TARGET_PREFIX = "Kinesis_20131202."


class LocalKinesis:
    """A Kinesis endpoint for any AWS client, inside the running event loop.

    Args:
        host: Address to listen on. Nothing checks credentials: keep it a loopback address.
        port: TCP port; 0 takes a free one. It is kept over `stop()` and `start()`.
        core: The account to serve; a new one by default.
        push: Whether to serve SubscribeToShard too, over HTTP/2 and TLS on a port of its own; takes
            the packages h2 and trustme.
        settings: What `LocalKinesisCore` takes, when it is not given.

    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        core: LocalKinesisCore | None = None,
        push: bool = False,
        **settings: Unpack[CoreSettings],
    ) -> None:
        if core is not None and settings:
            raise TypeError(f"give either core or its settings, not both: {', '.join(settings)}")
        self.core = core or LocalKinesisCore(**settings)
        self.host = host
        self.port = port
        self.push: PushServer | None = None
        if push:
            from streamproc.testing.localkinesis.http2 import PushServer

            self.push = PushServer(self.core, host)
        self._server: asyncio.Server | None = None
        self._connections: set[HttpConnection] = set()
        self._request_ids = (f"{os.getpid():08x}-0000-4000-8000-{n:012x}" for n in count(1))

    @property
    def faults(self) -> Faults:
        """The faults planned for this endpoint."""
        return self.core.faults

    @property
    def endpoint_url(self) -> str:
        """The URL to give to an AWS client as `endpoint_url`."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen. A port of 0 is replaced by the one that the system gave.

        Raises:
            OSError: The port is taken.
            RuntimeError: This endpoint listens already.

        """
        if self._server is not None:
            raise RuntimeError(f"LocalKinesis is already listening at {self.endpoint_url}")
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self._respond, self._connections), self.host, self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]
        if self.push is not None:
            await self.push.start()

    async def stop(self) -> None:
        """Cut all connections and close the port, as an outage would.

        Streams and records stay for the next `start()`. Does nothing when not listening.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            await connection.close()
        await server.wait_closed()
        if self.push is not None:
            await self.push.stop()

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening."""
        await self.stop()

    def _respond(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        in_cbor = content_type == cbor.CONTENT_TYPE and cbor.why_not() is None
        reply = self._reply(request, content_type, in_cbor)
        headers = {
            "x-amzn-RequestId": next(self._request_ids),
            "Content-Type": cbor.CONTENT_TYPE if in_cbor else _CONTENT_TYPE,
        }
        if reply.error_code is not None:
            headers["x-amzn-ErrorType"] = reply.error_code
        send_bytes = {
            Wire.SENT: len(reply.body),
            Wire.TRUNCATED: len(reply.body) // 2,
            Wire.DROPPED: None,
        }[reply.wire]
        return Response(reply.status, headers, reply.body, reply.delay_s, send_bytes)

    def _reply(self, request: Request, content_type: str, in_cbor: bool) -> Reply:
        if request.method == "GET" and request.path == "/health":
            return Reply(200, b'{"status":"ok"}')
        refuse = _refuse_in_cbor if in_cbor else _refuse
        target = request.headers.get("x-amz-target", "")
        if request.method != "POST" or not target.startswith(_TARGET_PREFIX):
            return refuse(
                "UnknownOperationException",
                f"Expected POST with X-Amz-Target: {_TARGET_PREFIX}<operation>, got "
                f"{request.method} with {target!r}.",
            )
        if not in_cbor and content_type not in (_CONTENT_TYPE, "application/json"):
            why_not = cbor.why_not() if content_type == cbor.CONTENT_TYPE else None
            takes = f"it takes {_CONTENT_TYPE} or {cbor.CONTENT_TYPE}"
            return refuse(
                "SerializationException",
                f"Content type {content_type!r} is not served: {why_not or takes}.",
            )
        handle = self.core.handle_cbor if in_cbor else self.core.handle
        try:
            return handle(target.removeprefix(_TARGET_PREFIX), request.body)
        except Exception:
            # A defect here must reach the client as AWS's own would, not as a hung connection.
            _log.exception("LocalKinesis failed to answer %s", target)
            return refuse("InternalFailure", "LocalKinesis failed; see its log.", 500)


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 4567,
    streams: Mapping[str, int] | None = None,
    on_ready: Callable[[LocalKinesis], None] | None = None,
    **settings: Unpack[CoreSettings],
) -> None:
    """Serve an endpoint until cancelled.

    Args:
        host: Address to listen on.
        port: TCP port; 0 takes a free one, which `on_ready` can read.
        streams: Streams to begin with: name to number of shards.
        on_ready: Called with the endpoint once it listens.
        settings: What `LocalKinesisCore` takes.

    """
    async with LocalKinesis(host=host, port=port, **settings) as kinesis:
        for name, shards in (streams or {}).items():
            kinesis.core.call("CreateStream", StreamName=name, ShardCount=shards)
        if on_ready is not None:
            on_ready(kinesis)
        await asyncio.get_running_loop().create_future()


def _refuse(code: str, message: str, status: int = 400) -> Reply:
    return Reply(status, msgspec.json.encode({"__type": code, "message": message}), code)


def _refuse_in_cbor(code: str, message: str, status: int = 400) -> Reply:
    reply = _refuse(code, message, status)
    return reply._replace(body=cbor.encode_answer(reply.body))
