"""Records to items: envelope, typed events, event id, and the calls that are to be made."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from streamproc.context import Item
from streamproc.errors import DecodeError
from streamproc.events.envelope import read_envelope
from streamproc.events.registry import Reading
from streamproc.kinesis.records import Record
from streamproc.pipeline.deadletter import DeadLetter, describe_failure
from streamproc.pipeline.routes import Routes, Target
from streamproc.processor import key_text
from streamproc.state.cache import CellCache
from streamproc.state.cell import StateCell

__all__ = ["Call", "DecodedBatch", "decode_batch"]

# The first bytes of a record in which the Kinesis Producer Library packed several (KPL,
# aggregation-format.md). They are not unpacked; the dead letter says so instead of "bad-json".
_KPL_MAGIC = b"\xf3\x89\x9a\xc2"


class Call(NamedTuple):
    """One handler call: whom, with what, on which states."""

    target: Target
    event: Any
    key: str | None
    cells: dict[Any, StateCell]


class DecodedBatch:
    """What became of a batch's records.

    Attributes:
        items: the events, without repetitions inside the batch, in order.
        cells: every state that they touch, by Redis key.
        dead: what could not be decoded.
        duplicates: events that repeat an earlier one of this batch.
        unknown: records of a type that nobody declared, when those are skipped.
        has_async: whether any call is to an `async` handler.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.cells: dict[str, StateCell] = {}
        self.dead: list[DeadLetter] = []
        self.duplicates = 0
        self.unknown = 0
        self.has_async = False


class _Plan(NamedTuple):
    """A reading with its targets: what a wire type means for this worker."""

    reading: Reading
    targets: list[list[Target]]
    has_async: bool


def decode_batch(
    records: Sequence[Record],
    routes: Routes,
    cache: CellCache,
    *,
    stream: str,
    shard: str,
    dead_letter_unknown: bool,
) -> DecodedBatch:
    """Decode a batch; what cannot be decoded becomes a dead letter and the rest goes on."""
    batch = DecodedBatch()
    plans: dict[str, _Plan | None] = {}
    ids: set[bytes] = set()
    for order, record in enumerate(records):
        try:
            envelope = read_envelope(record.data)
            wire_type = envelope.type
            if wire_type in plans:
                plan = plans[wire_type]
            else:
                plan = plans[wire_type] = _plan(routes, wire_type)
            if plan is None:
                if dead_letter_unknown:
                    raise DecodeError("unknown-type", f"no processor declares {wire_type!r}")
                batch.unknown += 1
                continue
            reading, targets, has_async = plan
            events = [decode(envelope.data) for decode in reading.decoders]
            event_id = _event_id(reading, events[0], envelope.id)
            digest = blake2b(reading.id_prefix + event_id.encode(), digest_size=16).digest()
            if digest in ids:
                batch.duplicates += 1
                continue
            item = Item(
                order,
                reading.event_type,
                event_id,
                digest,
                envelope.time,
                record.approximate_arrival_timestamp,
                record.sequence_number,
                record.partition_key,
            )
            for event, wanted in zip(events, targets, strict=True):
                for target in wanted:
                    item.calls.append(_call(target, event, batch.cells, cache))
        except (DecodeError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            batch.dead.append(_undecodable(record, stream, shard, error))
            continue
        ids.add(digest)
        batch.items.append(item)
        batch.has_async |= has_async
    return batch


def _plan(routes: Routes, wire_type: str) -> _Plan | None:
    reading = routes.registry.reading(wire_type)
    if reading is None:
        return None
    targets = routes.of(reading)
    return _Plan(reading, targets, any(t.handler.is_async for group in targets for t in group))


def _event_id(reading: Reading, event: Any, envelope_id: str) -> str:
    event_id = envelope_id if reading.id_field is None else getattr(event, reading.id_field)
    if not event_id:
        field = reading.id_field or "the envelope's id"
        raise DecodeError(
            "no-id", f"{reading.event_type}: {field} is empty, and it is the event id"
        )
    return event_id if isinstance(event_id, str) else str(event_id)


def _call(target: Target, event: Any, cells: dict[str, StateCell], cache: CellCache) -> Call:
    handler = target.handler
    try:
        if handler.key is not None:
            text = key_text(handler.key(event))
            return Call(target, event, text, _cells(target, {text: text}, cells, cache))
        if handler.keys is not None:
            texts = {key: key_text(key) for key in handler.keys(event)}
            return Call(target, event, None, _cells(target, texts, cells, cache))
    except Exception as error:
        # A key function is the plugin's code: whatever it raises is this event's failure alone.
        raise DecodeError("bad-key", f"{handler.name}: {type(error).__name__}: {error}") from error
    return Call(target, event, None, {})


def _cells(
    target: Target, texts: dict[Any, str], cells: dict[str, StateCell], cache: CellCache
) -> dict[Any, StateCell]:
    """Return the states of a call by the handler's own keys; a processor may keep none."""
    codec = target.codec
    if codec is None:
        return {}
    own: dict[Any, StateCell] = {}
    for key, text in texts.items():
        name = target.prefix + text
        cell = cells.get(name)
        if cell is None:
            cell = cells[name] = cache.get(name, codec)
        own[key] = cell
    return own


def _undecodable(record: Record, stream: str, shard: str, error: Exception) -> DeadLetter:
    reason = _reason(record, error)
    text, _ = describe_failure(error)
    return DeadLetter.of(record, stream, shard, reason=reason, error=text)


def _reason(record: Record, error: Exception) -> str:
    if isinstance(error, DecodeError):
        return error.reason
    if not record.data:
        return "empty"
    if record.data.startswith(_KPL_MAGIC):
        return "kpl-aggregate"
    if isinstance(error, msgspec.ValidationError):
        return "bad-shape"
    if isinstance(error, UnicodeError):
        return "bad-utf8"
    return "bad-json"
