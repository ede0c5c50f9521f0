"""Records to items: envelope, typed events, event id, and the calls that are to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streamproc.context import Item
from streamproc.deadletter import DeadLetter, describe_failure
from streamproc.errors import DecodeError
from streamproc.events.envelope import read_envelope
from streamproc.events.registry import Reading
from streamproc.kinesis.aggregation import KPL_MAGIC
from streamproc.kinesis.records import Record
from streamproc.pipeline.plans import Plan, Plans
from streamproc.pipeline.routes import Counting, Routes, Target
from streamproc.processor import key_text
from streamproc.state.cache import CellCache
from streamproc.state.cell import StateCell, Undoable
from streamproc.state.counters import CounterCell
from streamproc.state.keys import partition_of_key, partition_of_text

__all__ = ["Call", "DecodedBatch", "decode_batch", "key_texts", "make_call", "make_counters",
           "split_batch"]  # fmt: skip

Call = tuple[Target, Any, str | None, Mapping[Any, StateCell]]
"""One handler call: whom, with what event, its key's text, its states by the handler's own keys.

A plain tuple: one is made for every event, and a named one costs seven times as much to make.
"""

_NO_CELLS: Mapping[Any, StateCell] = {}

# What msgspec raises for data that it cannot decode.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class DecodedBatch:
    """What became of a batch's records, or of those of them that belong to one partition.

    Attributes:
        records: the batch; `Item.order` is an index into it.
        own: the records that this is about: the batch's, or one partition's share.
        bytes: the size of their data.
        items: the events, without repetitions inside the batch, in order.
        cells: every state that they touch, by Redis key.
        counters: every counter key that they may change, by Redis key.
        dead: what could not be decoded.
        unknown: records of a type that nobody declared, when those are skipped.
        has_async: whether any call is to an `async` handler.
        has_runs: whether any call is to a batch handler.
        has_timers: whether any item is a timer's event.
    """

    def __init__(self, records: Sequence[Record], own: Sequence[Record] | None = None) -> None:
        self.records = records
        self.own = records if own is None else own
        self.bytes = 0
        self.items: list[Item] = []
        self.cells: dict[str, StateCell] = {}
        self.counters: dict[str, CounterCell] = {}
        self.dead: list[DeadLetter] = []
        self.unknown: list[Record] = []
        self.has_async = False
        self.has_runs = False
        self.has_timers = False

    def reset(self) -> None:
        """Forget what handlers did."""
        for undoable in self.undoables():
            undoable.reset()

    def undoables(self) -> list[Undoable]:
        """Return everything that handlers can change."""
        return [*self.cells.values(), *self.counters.values()]


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
    batch = DecodedBatch(records)
    # Locals, since each is used for every record.
    partitions, plans = routes.partitions, routes.plans
    items, cells, used = batch.items, batch.cells, set[Plan]()
    ids: set[bytes] = set()
    last: Plan | None = None
    calls: list[Call]
    envelopes, batch.bytes = _envelopes(records, plans)
    for order, (record, envelope) in enumerate(zip(records, envelopes, strict=True)):
        try:
            if envelope is None:
                # A type that was not met before this batch, or no event at all: this way tells.
                envelope = read_envelope(record.data)
                plan, is_direct = plans.meet(envelope.type), False
            else:
                plan, is_direct = plans.of[type(envelope)]
            if plan is None:
                if dead_letter_unknown:
                    raise _unknown(record)
                batch.unknown.append(record)
                continue
            payload = envelope.data
            if not is_direct:
                event = plan.decode(payload)
            elif plan.upcast is None:
                event = payload
            else:
                event = plan.upcast(payload)
            event_id = envelope.id if plan.id_of is None else plan.id_of(event)
            if not event_id:
                raise _no_id(plan.reading)
            if not isinstance(event_id, str):
                event_id = str(event_id)
            hashed = plan.begin_digest()
            hashed.update(event_id.encode())
            digest = hashed.digest()
            if digest in ids:
                continue
            partition = 0
            if partitions > 1:
                partition = _partition(plan, event, payload, digest, partitions)
                plan = plan.in_partition(routes, partition)
            # Nearly all events have one handler: no loop for it, and no call where it has no key.
            if plan.bare is not None:
                calls = [(plan.bare, event, None, _NO_CELLS)]
            elif plan.only is not None:
                calls = [make_call(plan.only, event, cells, cache)]
            else:
                calls = [make_call(target, event, cells, cache) for target in plan.targets]
                for decode, wanted in plan.others:
                    event = decode(payload)
                    calls += [make_call(target, event, cells, cache) for target in wanted]
            item = Item(
                order,
                plan.event_type,
                event_id,
                digest,
                envelope.time,
                record.approximate_arrival_timestamp,
                record.sequence_number,
                record.partition_key,
                calls,
                partition,
            )
            if plan.counting:
                item.counters = make_counters(calls, batch.counters, cache)
        except (DecodeError, *_UNREADABLE) as error:
            batch.dead.append(_undecodable(record, stream, shard, error))
            continue
        ids.add(digest)
        if plan is not last:
            used.add(plan)
            last = plan
        items.append(item)
    batch.has_async = any(plan.has_async for plan in used)
    batch.has_runs = any(plan.has_runs for plan in used)
    return batch


def _envelopes(records: Sequence[Record], plans: Plans) -> tuple[list[Any], int]:
    """Return what each record says, None where `plans` cannot read it, and the bytes of all data.

    A loop of its own: with the decoder in turn with all else that is done for a record, decoding a
    batch took a seventh longer.
    """
    decode, size = plans.decode, 0
    envelopes: list[Any] = []
    for record in records:
        data = record.data
        # Here, where the data is in the CPU's cache: after the commit it no longer is.
        size += len(data)
        try:
            envelopes.append(decode(data))
        except _UNREADABLE:
            envelopes.append(None)
    return envelopes, size


def split_batch(batch: DecodedBatch, partitions: int) -> dict[int, DecodedBatch]:
    """Return each partition's share of a batch; partitions without a record have none.

    Events lie where their keys do. Whatever is none goes by its record's partition key, as does an
    event that repeats an earlier one of the batch.
    """
    own: dict[int, list[Record]] = {}
    events = {item.order: item.partition for item in batch.items}
    for order, record in enumerate(batch.records):
        partition = events.get(order)
        if partition is None:
            partition = partition_of_text(record.partition_key, partitions)
        own.setdefault(partition, []).append(record)
    shares = {at: DecodedBatch(batch.records, records) for at, records in own.items()}
    for share in shares.values():
        share.has_async, share.has_runs = batch.has_async, batch.has_runs
        share.bytes = sum([len(record.data) for record in share.own])
    for item in batch.items:
        share = shares[item.partition]
        share.items.append(item)
        for call in item.calls:
            for cell in call[3].values():
                share.cells[cell.key] = cell
        for counters in item.counters.values():
            for counter in counters.values():
                share.counters[counter.key] = counter
    for letter in batch.dead:
        shares[partition_of_text(letter.partition_key, partitions)].dead.append(letter)
    for record in batch.unknown:
        shares[partition_of_text(record.partition_key, partitions)].unknown.append(record)
    return shares


def _unknown(record: Record) -> DecodeError:
    wire_type = read_envelope(record.data).type
    return DecodeError("unknown-type", f"no processor declares {wire_type!r}")


def _no_id(reading: Reading) -> DecodeError:
    field = reading.id_field or "the envelope's id"
    return DecodeError("no-id", f"{reading.event_type}: {field} is empty, and it is the event id")


def _partition(plan: Plan, event: Any, payload: Any, digest: bytes, partitions: int) -> int:
    """Return where all keys of an event lie; one without keys goes by its id.

    Raises:
        DecodeError: its keys lie in several partitions, or a key function raises.
    """
    home: int | None = None
    first = ""
    groups = [(event, plan.targets), *[(decode(payload), wanted) for decode, wanted in plan.others]]
    for each, targets in groups:
        for target in targets:
            for text in key_texts(target, each):
                partition = partition_of_key(text, partitions)
                if home is None:
                    home, first = partition, text
                elif partition != home:
                    raise _cross_partition(plan, first, text)
    return int.from_bytes(digest, "big") % partitions if home is None else home


def _cross_partition(plan: Plan, one: str, other: str) -> DecodeError:
    return DecodeError(
        "cross-partition",
        f"{plan.reading.event_type}: its keys {one!r} and {other!r} lie in two partitions, and an "
        "event is one transaction in one of them: handle it by one key, and from there emit an "
        "event with a key of its own for each of the others",
    )


def key_texts(target: Target, event: Any) -> list[str]:
    """Return the texts of all keys that a handler's states and counters have for an event.

    Raises:
        DecodeError: a key function raises.
    """
    try:
        texts = []
        if target.key is not None:
            texts.append(key_text(target.key(event)))
        elif target.keys is not None:
            texts += [key_text(key) for key in target.keys(event)]
        if target.counting is not None:
            texts += [key_text(key) for key in target.counting.keys(event)]
    except Exception as error:
        raise _bad_key(target, error) from error
    return texts


def _bad_key(target: Target, error: Exception) -> DecodeError:
    # A key function is the plugin's code: whatever it raises is this event's failure alone.
    return DecodeError("bad-key", f"{target.handler.name}: {type(error).__name__}: {error}")


def make_call(target: Target, event: Any, cells: dict[str, StateCell], cache: CellCache) -> Call:
    """Return the call of a handler with an event; the states it touches are added to `cells`.

    Raises:
        DecodeError: the key function raises.
    """
    try:
        if target.key is not None:
            text = key_text(target.key(event))
            codec = target.codec
            if codec is None:
                return (target, event, text, _NO_CELLS)
            name = target.prefix + text
            cell = cells.get(name)
            if cell is None:
                cell = cells[name] = cache.get(name, codec)
            return (target, event, text, {text: cell})
        if target.keys is None:
            return (target, event, None, _NO_CELLS)
        texts = [(key, key_text(key)) for key in target.keys(event)]
    except Exception as error:
        raise _bad_key(target, error) from error
    codec = target.codec
    if codec is None:
        return (target, event, None, _NO_CELLS)
    own = {}
    for key, text in texts:
        name = target.prefix + text
        cell = cells.get(name)
        if cell is None:
            cell = cells[name] = cache.get(name, codec)
        own[key] = cell
    return (target, event, None, own)


def make_counters(
    calls: Sequence[Call], counters: dict[str, CounterCell], cache: CellCache
) -> dict[str, dict[Any, CounterCell]]:
    """Return the counters of an event's calls, by processor and the handler's own keys.

    Raises:
        DecodeError: a function to their keys raises.
    """
    found: dict[str, dict[Any, CounterCell]] = {}
    for target, event, _, _ in calls:
        if target.counting is not None:
            own = _counters(target, target.counting, event, counters, cache)
            found[target.counting.processor] = own
    return found


def _counters(
    target: Target,
    counting: Counting,
    event: Any,
    counters: dict[str, CounterCell],
    cache: CellCache,
) -> dict[Any, CounterCell]:
    own = {}
    try:
        for key in counting.keys(event):
            text = key_text(key)
            name = counting.prefix + text
            counter = counters.get(name)
            if counter is None:
                sketches = f"{counting.sketch_prefix}{text}|"
                counter = CounterCell(cache.counts(name), sketches, counting.ttl_ms)
                counters[name] = counter
            own[key] = counter
    except Exception as error:
        raise _bad_key(target, error) from error
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
    if record.data.startswith(KPL_MAGIC):
        # The reader unpacks what is sound: this one is damaged, or lay inside another.
        return "bad-aggregate"
    if isinstance(error, msgspec.ValidationError):
        return "bad-shape"
    if isinstance(error, UnicodeError):
        return "bad-utf8"
    return "bad-json"
