"""Faults on demand: what can go wrong between a consumer and Kinesis, and how often it did.

    fault = k.faults.throttle("GetRecords", count=3, shard="shardId-000000000000")
    ...
    assert fault.fired == 3

Faults of one operation fire in the order in which they were added, one a request (latency adds to
whatever else happens). A fault with `count=None` fires until it is removed.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Final, TypedDict, Unpack

from streamproc.testing.localkinesis.errors import KinesisError

_THROTTLE_CODE: Final = "ProvisionedThroughputExceededException"


class FaultKind(StrEnum):
    """What happens to a request."""

    ERROR = "error"
    LATENCY = "latency"
    DROP = "drop"
    TRUNCATE = "truncate"
    FAIL_RECORD = "fail_record"


class FaultPlace(TypedDict, total=False):
    """Which of the matching requests a fault hits; see `Faults`."""

    count: int | None
    shard: str | None
    skip: int


@dataclass(eq=False)
class Fault:
    """One planned fault; `fired` counts how often it was applied."""

    kind: FaultKind
    operation: str | None
    _: KW_ONLY
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
    `count`, how many requests it hits (default 1; None: until removed); `shard`, the shard id that
    a request must be about (default None: any); `skip`, how many matching requests pass before the
    first hit (default 0).
    With `applied=True` the operation takes effect and only its answer is lost.
    """

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._fired = 0

    def throttle(self, operation: str | None = "GetRecords", **where: Unpack[FaultPlace]) -> Fault:
        """Answer ProvisionedThroughputExceededException."""
        message = "Rate exceeded (planned fault)."
        return self.error(operation, code=_THROTTLE_CODE, message=message, **where)

    def server_error(
        self,
        operation: str | None = None,
        *,
        applied: bool = False,
        **where: Unpack[FaultPlace],
    ) -> Fault:
        """Answer HTTP 500 InternalFailure."""
        return self.error(
            operation,
            code="InternalFailure",
            message="Internal service failure (planned fault).",
            status=500,
            applied=applied,
            **where,
        )

    def expire_iterator(self, **where: Unpack[FaultPlace]) -> Fault:
        """Answer GetRecords with ExpiredIteratorException."""
        message = "Iterator expired (planned fault)."
        return self.error("GetRecords", code="ExpiredIteratorException", message=message, **where)

    def error(
        self,
        operation: str | None,
        *,
        code: str,
        message: str = "Planned fault.",
        status: int = 400,
        applied: bool = False,
        **where: Unpack[FaultPlace],
    ) -> Fault:
        """Answer any error code, for instance LimitExceededException or AccessDeniedException."""
        error = Fault(
            FaultKind.ERROR, operation, applied=applied, code=code, message=message, status=status
        )
        return self._plan(error, where)

    def latency(self, operation: str | None, delay_s: float, **where: Unpack[FaultPlace]) -> Fault:
        """Hold the answer back by `delay_s` seconds; the operation itself happens at once."""
        return self._plan(Fault(FaultKind.LATENCY, operation, delay_s=delay_s), where)

    def drop_connection(
        self,
        operation: str | None = None,
        *,
        applied: bool = False,
        **where: Unpack[FaultPlace],
    ) -> Fault:
        """Close the connection without an answer."""
        return self._plan(Fault(FaultKind.DROP, operation, applied=applied), where)

    def truncate_body(
        self, operation: str | None = "GetRecords", **where: Unpack[FaultPlace]
    ) -> Fault:
        """Send the full Content-Length but only half of the body, then close the connection."""
        return self._plan(Fault(FaultKind.TRUNCATE, operation, applied=True), where)

    def fail_records(
        self,
        *,
        code: str = _THROTTLE_CODE,
        message: str = "Rate exceeded (planned fault).",
        **where: Unpack[FaultPlace],
    ) -> Fault:
        """Fail single records inside PutRecords; `count` and `skip` are in records.

        `code` is ProvisionedThroughputExceededException or InternalFailure ("PutRecords" page).
        """
        failed = Fault(FaultKind.FAIL_RECORD, "PutRecords", code=code, message=message)
        return self._plan(failed, where)

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

    def _plan(self, fault: Fault, where: FaultPlace) -> Fault:
        fault.remaining = where.get("count", 1)
        fault.shard = where.get("shard")
        fault.skip = where.get("skip", 0)
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
