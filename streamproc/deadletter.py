"""A record that is put aside: why, where it was, how often it was tried, and its bytes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from streamproc.kinesis.records import Record

__all__ = ["DeadLetter", "describe_failure"]

_TRACEBACK_LIMIT = 8_000


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the dead-letter stream; `data` is the payload, untouched.

    Attributes:
        reason: a short, stable word or phrase: ``bad-json``, ``handler-failed``, a `Reject` reason.
        error: the error's text.
        traceback: where it was raised; empty when the record could not be decoded.
        arrival: seconds since the epoch at which Kinesis took the record.
        attempts: how often a handler was tried; 0 when none was.
        event_id: the event's id, if it was decoded that far.
        sub: index inside the KPL aggregate that the record came in, else 0.
    """

    reason: str
    error: str
    stream: str
    shard: str
    sequence: str
    partition_key: str
    arrival: float
    data: bytes
    traceback: str = ""
    attempts: int = 0
    event_type: str = ""
    event_id: str = ""
    handler: str = ""
    sub: int = 0

    @classmethod
    def of(
        cls, record: Record, stream: str, shard: str, *, reason: str, error: str, **facts: object
    ) -> DeadLetter:
        """Return the dead letter of a record."""
        return cls(
            reason=reason,
            error=error,
            stream=stream,
            shard=shard,
            sequence=record.sequence_number,
            partition_key=record.partition_key,
            arrival=record.approximate_arrival_timestamp,
            data=record.data,
            sub=record.sub,
            **facts,  # type: ignore[arg-type]  # the remaining fields, by name
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, bytes]) -> DeadLetter:
        """Read what `fields` wrote, of this release or an earlier one.

        Raises:
            msgspec.ValidationError: it is no dead letter.
        """
        known = {
            name: value if name == "data" else value.decode()
            for name, value in fields.items()
            if name in cls.__struct_fields__
        }
        return msgspec.convert(known, cls, strict=False)

    @classmethod
    def from_json(cls, text: bytes) -> DeadLetter:
        """Read what `to_json` wrote.

        Raises:
            msgspec.MsgspecError: it is no dead letter.
        """
        return msgspec.json.decode(text, type=cls)

    def to_json(self) -> str:
        """Return it as JSON, the payload in base64."""
        return msgspec.json.encode(self).decode()

    def record(self) -> Record:
        """Return the record as it was read."""
        return Record(self.sequence, self.arrival, self.data, self.partition_key, self.sub)

    @property
    def id(self) -> str:
        """What stands for the record: the same each time that this delivery of it is put aside."""
        return f"{self.stream}/{self.shard}/{self.sequence}/{self.sub}"

    def facts(self) -> dict[str, Any]:
        """Return everything but the payload."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "data"}

    def fields(self) -> list[str | bytes]:
        """Return the stream entry: field, value, field, value..."""
        flat: list[str | bytes] = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            flat += (name, value if isinstance(value, (str, bytes)) else repr(value))
        return flat


def describe_failure(error: BaseException) -> tuple[str, str]:
    """Return an error's text and its traceback, the innermost part if it is long."""
    text = f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return text, trace[-_TRACEBACK_LIMIT:]
