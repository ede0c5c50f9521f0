"""The endpoint without its sockets: a request body in, a reply out, no IO and no task.

The same object serves HTTP (`server`) and a simulation under virtual time, so it never sleeps: what
takes time or happens to the connection is said in the `Reply` and left to whoever carries it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

import msgspec

from streamproc.testing.localkinesis import cbor
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.errors import KinesisError
from streamproc.testing.localkinesis.faults import FaultKind, Faults
from streamproc.testing.localkinesis.operations import OPERATIONS, Operation, Run
from streamproc.testing.localkinesis.throttle import ThrottleLimits


class Wire(StrEnum):
    """What happens to the answer on its way."""

    SENT = "sent"
    DROPPED = "dropped"
    TRUNCATED = "truncated"


class Reply(NamedTuple):
    """An answer and how it is to be delivered: after `delay_s` s, whole, cut or not at all."""

    status: int
    body: bytes
    error_code: str | None = None
    delay_s: float = 0.0
    wire: Wire = Wire.SENT


class CoreSettings(TypedDict, total=False):
    """Keyword arguments of `LocalKinesisCore`, for those who pass them on."""

    clock: Callable[[], float]
    account_id: str
    region: str
    transition_delay_s: float
    shard_limit: int
    throttling: bool
    throttle_limits: ThrottleLimits | None


class LocalKinesisCore:
    """An in-memory Kinesis Data Streams account.

    Args:
        clock: Seconds since the epoch; the only source of time, so iterator expiry, retention,
            throttling and state changes all follow it.
        account_id: Twelve digits, shown in ARNs and messages.
        region: Shown in ARNs and messages.
        transition_delay_s: How long a stream stays CREATING, UPDATING or DELETING. With 0 a
            stream is ready as soon as the call returns.
        shard_limit: Open shards that the account may have.
        throttling: Whether shards limit their rates as AWS does.
        throttle_limits: The rates, AWS's by default.

    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        account_id: str = "000000000000",
        region: str = "us-east-1",
        transition_delay_s: float = 0.0,
        shard_limit: int = 20_000,
        throttling: bool = False,
        throttle_limits: ThrottleLimits | None = None,
    ) -> None:
        self.faults = Faults()
        self.account = Account(
            clock=clock,
            account_id=account_id,
            region=region,
            transition_delay_s=transition_delay_s,
            shard_limit=shard_limit,
            throttling=throttling,
            throttle_limits=throttle_limits or ThrottleLimits(),
        )

    @property
    def throttling(self) -> bool:
        """Whether shards limit their rates; may be set at any time."""
        return self.account.throttling

    @throttling.setter
    def throttling(self, on: bool) -> None:
        self.account.throttling = on

    def handle(self, operation: str, body: bytes) -> Reply:
        """Answer one request; `operation` is the API name, `body` its JSON."""
        handler = OPERATIONS.get(operation)
        if handler is None:
            return _unknown(operation)
        return self._handle(operation, handler, body, handler.decode, handler.run)

    def handle_cbor(self, operation: str, body: bytes) -> Reply:
        """Answer one request in CBOR, in CBOR; takes the package cbor2."""
        handler = OPERATIONS.get(operation)
        if handler is None:
            reply = _unknown(operation)
        else:
            reply = self._handle(operation, handler, body, handler.decode_cbor, handler.run_in_cbor)
        if reply.error_code is None:
            return reply
        return reply._replace(body=cbor.encode_answer(reply.body))

    def _handle(
        self,
        operation: str,
        handler: Operation,
        body: bytes,
        decode: Callable[[bytes], Any],
        run: Run,
    ) -> Reply:
        """Answer one request with `run`, or with an error in JSON."""
        try:
            request = decode(body)
        except ValueError as error:
            refusal = KinesisError("SerializationException", f"{operation}: {error}")
            return Reply(refusal.status, refusal.body(), refusal.code)
        if not self.faults.active:
            return self._answer(run, request)
        shard = handler.shard_of(self.account, request)
        delay_s, fault = self.faults.take_request_faults(operation, shard)
        if fault is None:
            return self._answer(run, request)._replace(delay_s=delay_s)
        reply = self._answer(run, request) if fault.applied else Reply(200, b"")
        if fault.kind is FaultKind.ERROR:
            planned = fault.error()
            reply = Reply(planned.status, planned.body(), planned.code)
        wire = {FaultKind.DROP: Wire.DROPPED, FaultKind.TRUNCATE: Wire.TRUNCATED}
        return reply._replace(delay_s=delay_s, wire=wire.get(fault.kind, Wire.SENT))

    def call(self, operation: str, /, **members: Any) -> Any:
        """Make a request from Python: members by their API names, `Data` as bytes.

        Returns the decoded answer; raises KinesisError for an error answer. `Data` in answers is
        base64 text, as on the wire. Faults that concern the connection do not apply here.
        """
        reply = self.handle(operation, msgspec.json.encode(members))
        answer: Any = msgspec.json.decode(reply.body) if reply.body else None
        if reply.error_code is not None:
            raise KinesisError(reply.error_code, answer["message"], reply.status)
        return answer

    def _answer(self, run: Run, request: Any) -> Reply:
        try:
            return Reply(200, run(self.account, request, self.faults))
        except KinesisError as error:
            return Reply(error.status, error.body(), error.code)


def _unknown(operation: str) -> Reply:
    error = KinesisError("UnknownOperationException", f"Unknown operation {operation!r}.")
    return Reply(error.status, error.body(), error.code)
