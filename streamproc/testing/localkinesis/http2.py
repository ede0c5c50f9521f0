"""The HTTP/2 shell for SubscribeToShard, over TLS on loopback.

AWS serves subscriptions over HTTP/2 only, and clients that can do so speak it over TLS only, so the
certificate is made here: its authority is known to nobody but whoever is given `ca_pem`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trustme

from streamproc.testing.localkinesis import eventstream
from streamproc.testing.localkinesis.core import LocalKinesisCore, Reply, Wire
from streamproc.testing.localkinesis.errors import KinesisError
from streamproc.testing.localkinesis.subscriptions import Subscription, subscribe

_SUBSCRIBE = "Kinesis_20131202.SubscribeToShard"
_JSON = "application/x-amz-json-1.1"
_EVENTS = "application/vnd.amazon.eventstream"
# How often a subscription looks for records; AWS delivers within some 70 ms.
_LOOK_S = 0.01


class PushServer:
    """Serves the subscriptions of a core.

    Args:
        core: The account.
        host: Loopback address to listen on.
        port: TCP port; 0 takes a free one.

    """

    def __init__(self, core: LocalKinesisCore, host: str, port: int = 0) -> None:
        self._core = core
        self._host = host
        self.port = port
        authority = trustme.CA()
        self.ca_pem: bytes = authority.cert_pem.bytes()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.set_alpn_protocols(["h2"])
        authority.issue_cert(host, "localhost").configure_cert(self._tls)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    @property
    def endpoint_url(self) -> str:
        """The URL that subscriptions go to."""
        return f"https://{self._host}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self._core, self._connections), self._host, self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut all connections and close the port."""
        if self._server is not None:
            self._server.close()
            await self.cut()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Cut all connections, as a network would; new ones are taken."""
        for connection in list(self._connections):
            await connection.abort()


class _Connection(asyncio.Protocol):
    """One client's connection and the subscriptions on it."""

    def __init__(self, core: LocalKinesisCore, connections: set[_Connection]) -> None:
        self._core = core
        self._connections = connections
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._bodies: dict[int, bytearray] = {}
        self._targets: dict[int, str] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._window_grew = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the subscriptions."""
        self._connections.discard(self)
        for task in self._tasks.values():
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Act on what the client sent."""
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            self._transport.close()
            return
        for event in events:
            self._act(event)
        self._flush()

    async def abort(self) -> None:
        """Cut the connection and wait for its tasks."""
        self._transport.abort()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _act(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream), headers=list(headers)):
                self._bodies[stream] = bytearray()
                self._targets[stream] = dict(headers).get(b"x-amz-target", b"").decode()
            case h2.events.DataReceived(stream_id=int(stream), data=bytes(data)):
                self._bodies[stream] += data
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case h2.events.StreamEnded(stream_id=int(stream)):
                task = asyncio.create_task(self._serve(stream), name=f"push stream {stream}")
                self._tasks[stream] = task
                task.add_done_callback(lambda _: self._tasks.pop(stream, None))
            case h2.events.StreamReset(stream_id=int(stream)):
                if stream in self._tasks:
                    self._tasks[stream].cancel()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window_grew.set()
            case h2.events.ConnectionTerminated():
                self._transport.close()

    async def _serve(self, stream: int) -> None:
        target, body = self._targets.pop(stream), bytes(self._bodies.pop(stream))
        try:
            reply = self._faulty(body) if target == _SUBSCRIBE else _unknown(target)
            if reply is not None:
                await self._send_reply(stream, reply)
                return
            try:
                subscription = subscribe(self._core.account, body)
            except KinesisError as error:
                await self._send_reply(stream, Reply(error.status, error.body(), error.code))
                return
            self._send_headers(stream, 200, _EVENTS)
            await self._push(stream, subscription)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            return  # The client has gone.

    def _faulty(self, body: bytes) -> Reply | None:
        """Return the planned fault's answer; None when the request is to be served."""
        if not self._core.faults.active:
            return None
        _, fault = self._core.faults.take_request_faults("SubscribeToShard", None)
        if fault is None:
            return None
        error = fault.error()
        return Reply(error.status, error.body(), error.code)

    async def _push(self, stream: int, subscription: Subscription) -> None:
        await self._send(stream, eventstream.initial_response())
        try:
            while not subscription.is_over:
                event = subscription.next_event()
                if event is not None:
                    await self._send(stream, eventstream.record_event(event))
                elif not subscription.is_over:
                    await asyncio.sleep(_LOOK_S)
            if subscription.error is not None:
                error = subscription.error
                await self._send(stream, eventstream.exception(error.code, error.body()))
            self._h2.end_stream(stream)
            self._flush()
        finally:
            subscription.is_over = True

    async def _send_reply(self, stream: int, reply: Reply) -> None:
        if reply.wire is not Wire.SENT:
            self._h2.reset_stream(stream)
            self._flush()
            return
        self._send_headers(stream, reply.status, _JSON)
        await self._send(stream, reply.body)
        self._h2.end_stream(stream)
        self._flush()

    def _send_headers(self, stream: int, status: int, content_type: str) -> None:
        headers = [(":status", str(status)), ("content-type", content_type)]
        self._h2.send_headers(stream, headers)
        self._flush()

    async def _send(self, stream: int, data: bytes) -> None:
        """Send, as far and as fast as the client's window lets."""
        view = memoryview(data)
        while view:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._window_grew.clear()
                await self._window_grew.wait()
                continue
            self._h2.send_data(stream, bytes(view[:room]))
            view = view[room:]
            self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _unknown(target: str) -> Reply:
    error = KinesisError(
        "UnknownOperationException", f"Only SubscribeToShard is served over HTTP/2, not {target!r}."
    )
    return Reply(error.status, error.body(), error.code)
