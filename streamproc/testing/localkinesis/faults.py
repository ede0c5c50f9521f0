"""Faults on demand: what can go wrong between a consumer and Kinesis, and how often it did.

    fault = k.faults.throttle("GetRecords", count=3, shard="shardId-000000000000")
    ...
    assert fault.fired == 3

Faults of one operation fire in the order in which they were added, one a request (latency adds to
whatever else happens). A fault with `count=None` fires until it is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from streamproc.testing.localkinesis.errors import KinesisError

_THROTTLE_CODE: Final = "ProvisionedThroughputExceededException"


class FaultKind(StrEnum):
    """What happens to a request."""

    ERROR = "error"
    LATENCY = "latency"
    DROP = "drop"
    TRUNCATE = "truncate"
    FAIL_RECORD = "fail_record"


@dataclass(kw_only=True, eq=False)
class Fault:
    """One planned fault; `fired` counts how often it was applied."""

    kind: FaultKind
    operation: str | None = None
    shard: str | None = None
    remaining: int | None = 1
    skip: int = 0
    applied: bool = False
    delay_s: float = 0.0
    code: str = ""
    message: str = ""
    status: int = 400
    fired: int = 0

    def error(self) -> KinesisError:
        """Build the error that this fault answers with."""
        return KinesisError(self.code, self.message, self.status)


class Faults:
    """The faults planned for one endpoint.

    Every method that adds a fault takes `operation`, the API name such as "GetRecords" (None: any);
    `count`, how many requests it hits (None: until removed); `shard`, the shard id that a request
    must be about (None: any); `skip`, how many matching requests pass before the first hit.
    With `applied=True` the operation takes effect and only its answer is lost.
    """

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._fired = 0

    def throttle(
        self,
        operation: str | None = "GetRecords",
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
    ) -> Fault:
        """Answer ProvisionedThroughputExceededException."""
        return self.error(
            operation,
            code=_THROTTLE_CODE,
            message="Rate exceeded (planned fault).",
            count=count,
            shard=shard,
            skip=skip,
        )

    def server_error(
        self,
        operation: str | None = None,
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
        applied: bool = False,
    ) -> Fault:
        """Answer HTTP 500 InternalFailure."""
        return self.error(
            operation,
            code="InternalFailure",
            message="Internal service failure (planned fault).",
            status=500,
            count=count,
            shard=shard,
            skip=skip,
            applied=applied,
        )

    def expire_iterator(
        self, *, count: int | None = 1, shard: str | None = None, skip: int = 0
    ) -> Fault:
        """Answer GetRecords with ExpiredIteratorException."""
        return self.error(
            "GetRecords",
            code="ExpiredIteratorException",
            message="Iterator expired (planned fault).",
            count=count,
            shard=shard,
            skip=skip,
        )

    def error(
        self,
        operation: str | None,
        *,
        code: str,
        message: str = "Planned fault.",
        status: int = 400,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
        applied: bool = False,
    ) -> Fault:
        """Answer any error code, for instance LimitExceededException or AccessDeniedException."""
        return self._add(
            Fault(
                kind=FaultKind.ERROR,
                operation=operation,
                shard=shard,
                remaining=count,
                skip=skip,
                applied=applied,
                code=code,
                message=message,
                status=status,
            )
        )

    def latency(
        self,
        operation: str | None,
        delay_s: float,
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
    ) -> Fault:
        """Hold the answer back by `delay_s` seconds; the operation itself happens at once."""
        return self._add(
            Fault(
                kind=FaultKind.LATENCY,
                operation=operation,
                shard=shard,
                remaining=count,
                skip=skip,
                delay_s=delay_s,
            )
        )

    def drop_connection(
        self,
        operation: str | None = None,
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
        applied: bool = False,
    ) -> Fault:
        """Close the connection without an answer."""
        return self._add(
            Fault(
                kind=FaultKind.DROP,
                operation=operation,
                shard=shard,
                remaining=count,
                skip=skip,
                applied=applied,
            )
        )

    def truncate_body(
        self,
        operation: str | None = "GetRecords",
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
    ) -> Fault:
        """Send the full Content-Length but only half of the body, then close the connection."""
        return self._add(
            Fault(
                kind=FaultKind.TRUNCATE,
                operation=operation,
                shard=shard,
                remaining=count,
                skip=skip,
                applied=True,
            )
        )

    def fail_records(
        self,
        *,
        count: int | None = 1,
        shard: str | None = None,
        skip: int = 0,
        code: str = _THROTTLE_CODE,
        message: str = "Rate exceeded (planned fault).",
    ) -> Fault:
        """Fail single records inside PutRecords; `count` and `skip` are in records.

        `code` is ProvisionedThroughputExceededException or InternalFailure ("PutRecords" page).
        """
        return self._add(
            Fault(
                kind=FaultKind.FAIL_RECORD,
                operation="PutRecords",
                shard=shard,
                remaining=count,
                skip=skip,
                code=code,
                message=message,
            )
        )

    def remove(self, fault: Fault) -> None:
        """Take a fault out of the plan; its count of hits stays readable."""
        if fault in self._planned:
            self._planned.remove(fault)

    def clear(self) -> None:
        """Take all faults out of the plan."""
        self._planned.clear()

    @property
    def active(self) -> bool:
        """Whether any fault is planned."""
        return bool(self._planned)

    @property
    def pending(self) -> list[Fault]:
        """Faults that can still fire."""
        return list(self._planned)

    @property
    def fired(self) -> int:
        """How many faults were applied so far, all kinds together."""
        return self._fired

    def take_request_faults(self, operation: str, shard: str | None) -> tuple[float, Fault | None]:
        """Use up what hits this request: the added latency in seconds and at most one failure."""
        delay_s = 0.0
        failure: Fault | None = None
        for fault in self.pending:
            if fault.kind is FaultKind.FAIL_RECORD or not _matches(fault, operation, shard):
                continue
            if fault.kind is FaultKind.LATENCY:
                if self._hit(fault):
                    delay_s += fault.delay_s
            elif failure is None and self._hit(fault):
                failure = fault
        return delay_s, failure

    def take_record_fault(self, shard: str) -> Fault | None:
        """Use up the first fault that hits a record put into `shard`."""
        for fault in self._planned:
            if fault.kind is FaultKind.FAIL_RECORD and _matches(fault, "PutRecords", shard):
                return fault if self._hit(fault) else None
        return None

    def _add(self, fault: Fault) -> Fault:
        self._planned.append(fault)
        return fault

    def _hit(self, fault: Fault) -> bool:
        if fault.skip > 0:
            fault.skip -= 1
            return False
        fault.fired += 1
        self._fired += 1
        if fault.remaining is not None:
            fault.remaining -= 1
            if fault.remaining <= 0:
                self._planned.remove(fault)
        return True


def _matches(fault: Fault, operation: str, shard: str | None) -> bool:
    return fault.operation in (None, operation) and fault.shard in (None, shard)
