"""Leases as KCL 2.x and 3.x write them to DynamoDB, attribute for attribute: pure functions.

Absent means none: no attribute is ever empty or NULL. What KCL has no attribute for stands in
attributes of our own on the lease's row, which KCL leaves in place. Sources: KCL's
DynamoDBLeaseSerializer, DynamoDBMultiStreamLeaseSerializer, Lease, SentinelCheckpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamproc.leases.lease import Lease
from streamproc.position import Position

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.type_defs import AttributeValueTypeDef

__all__ = ["KEY", "Item", "LeaseItems", "MalformedRow", "Update"]

Item = dict[str, Any]
"""Attributes in DynamoDB's typed form, such as ``{"leaseCounter": {"N": "7"}}``."""

KEY: Final = "leaseKey"

_TIME: Final = "streamprocTimestamp"
_INCARNATION: Final = "streamprocIncarnation"
_COMMITTED: Final = "streamprocCheckpoint"
"""The checkpoint that the incarnation speaks of: KCL moves the one and leaves ours in place."""

_CREATED: Final = "streamprocStreamCreated"
_VERSION: Final = ("leaseCounter", "leaseOwner", "checkpointOwner")
_PENDING: Final = (
    "pendingCheckpoint",
    "pendingCheckpointSubSequenceNumber",
    "pendingCheckpointState",
)
_SEQUENCE: Final = ("checkpoint", "checkpointSubSequenceNumber", _TIME)


class MalformedRow(Exception):
    """A row looks like a lease and cannot be read as one; the message says what is wrong."""


class Update(msgspec.Struct, frozen=True):
    """An update expression with its condition: the arguments of UpdateItem.

    Attributes:
        shows: what attributes the row has after it, None for none: those that it changes, and the
            version, since another worker's write may have the same counter.
        arguments: names, values and expressions for the request.
    """

    shows: dict[str, Any]
    arguments: dict[str, Any]

    def is_in(self, item: Mapping[str, Any]) -> bool:
        """Whether a row shows this update: then it landed, whatever became of its answer."""
        return all(item.get(name) == value for name, value in self.shows.items())


class LeaseItems:
    """Reads and writes the rows of one stream.

    Args:
        stream: KCL's stream identifier ``account:stream:epoch`` for an application that reads
            several streams into one table; None where the table is of one stream.
        begin: where the group begins. KCL stores no time with ``AT_TIMESTAMP``, so a row without
            one of ours begins here. A begin at LATEST is known to us by its time; such a row says
            ``LATEST``, which is what KCL's setting says too.
    """

    def __init__(self, stream: str | None = None, begin: Position | None = None) -> None:
        self._stream = stream
        self._begin = begin
        latest = begin is not None and begin.sequence == "LATEST"
        self._timed = "LATEST" if latest else "AT_TIMESTAMP"

    def key(self, lease_key: str) -> Item:
        """Return the primary key of a shard's row."""
        return {KEY: _text(f"{self._stream}:{lease_key}" if self._stream else lease_key)}

    def encode(self, lease: Lease) -> Item:
        """Return every attribute of a lease."""
        position = lease.checkpoint
        item = self.key(lease.key) | {
            "checkpoint": _text(position.sequence),
            "checkpointSubSequenceNumber": _number(position.sub),
            "leaseCounter": _number(lease.counter),
            "ownerSwitchesSinceCheckpoint": _number(lease.owner_switches),
        }
        if position.timestamp is not None:
            item["checkpoint"] = _text(self._timed)
            item[_TIME] = {"N": repr(position.timestamp)}
        if lease.stream_created is not None:
            item[_CREATED] = _number(lease.stream_created)
        if lease.incarnation:
            item |= {
                _INCARNATION: _text(lease.incarnation),
                _COMMITTED: _text(position.encode()),
            }
        if self._stream:
            item |= {"streamName": _text(self._stream), "shardId": _text(lease.key)}
        texts = {
            "leaseOwner": lease.owner,
            "checkpointOwner": lease.checkpoint_owner,
            "startingHashKey": lease.starting_hash_key,
            "endingHashKey": lease.ending_hash_key,
        }
        item |= {name: _text(value) for name, value in texts.items() if value}
        sets = {"parentShardId": lease.parents, "childShardIds": lease.children}
        return item | {name: _set(values) for name, values in sets.items() if values}

    def decode(self, item: Mapping[str, Any]) -> Lease | None:
        """Return a row's lease; None for a row that is none, or is of another stream.

        KCL 3.5 keeps rows of other kinds in the lease table, told by ``entityType``.

        Raises:
            MalformedRow: it should be a lease and cannot be read.
        """
        if item.get("entityType", {"S": "LEASE"}) != {"S": "LEASE"}:
            return None
        stream = item.get("streamName", {}).get("S")
        if self._stream and stream != self._stream:
            return None
        if stream and not self._stream:
            raise MalformedRow(
                f"it is of an application that reads several streams ({stream}); to read one of "
                "them set leases.options.stream_identifier"
            )
        try:
            return self._decode(item)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise MalformedRow(f"{type(error).__name__}: {error}") from error

    def version(self, lease: Lease) -> dict[str, Any]:
        """Return the arguments of a write that needs the row as it was read."""
        names: dict[str, str] = {}
        values: Item = {}
        return _arguments(names, values, self._same(lease, names, values))

    def update(self, old: Lease, new: Lease) -> Update:
        """Return the update that turns `old`'s row into `new`'s, if it is at `old`'s version.

        Only what differs is touched: the row may hold attributes of KCL's that we do not know. A
        new checkpoint voids KCL's prepared one, as KCL's own checkpoint does.
        """
        before, after = self.encode(old), self.encode(new)
        written = {name: value for name, value in after.items() if before.get(name) != value}
        removed = tuple(name for name in before if name not in after)
        if any(before.get(name) != after.get(name) for name in _SEQUENCE):
            removed += _PENDING
        shows = {name: after.get(name) for name in (*written, *removed, *_VERSION)}
        names: dict[str, str] = {}
        values: Item = {}
        clauses = []
        # An empty update is no update at all; writing the counter it must have changes nothing.
        sets = written or {"leaseCounter": after["leaseCounter"]}
        assignments = [
            f"{_name(n, names)} = {_value(f's_{n}', v, values)}" for n, v in sets.items()
        ]
        clauses.append("SET " + ", ".join(assignments))
        if removed:
            clauses.append("REMOVE " + ", ".join(_name(n, names) for n in removed))
        condition = self._same(old, names, values)
        arguments = _arguments(names, values, condition)
        return Update(shows, arguments | {"UpdateExpression": " ".join(clauses)})

    def _same(self, lease: Lease, names: dict[str, str], values: Item) -> str:
        item = self.encode(lease)
        terms = []
        for name in _VERSION:
            placeholder = _name(name, names)
            if name in item:
                terms.append(f"{placeholder} = {_value(f'c_{name}', item[name], values)}")
            else:
                terms.append(f"attribute_not_exists({placeholder})")
        return " AND ".join(terms)

    def _decode(self, item: Mapping[str, Any]) -> Lease:
        created = item.get(_CREATED, {}).get("N")
        position = self._position(item)
        is_ours = _optional(item, _COMMITTED) == position.encode()
        return Lease(
            key=item["shardId"]["S"] if self._stream else item[KEY]["S"],
            owner=_optional(item, "leaseOwner"),
            counter=int(item["leaseCounter"]["N"]),
            checkpoint=position,
            checkpoint_owner=_optional(item, "checkpointOwner"),
            owner_switches=int(item.get("ownerSwitchesSinceCheckpoint", {"N": "0"})["N"]),
            parents=_names(item, "parentShardId"),
            children=_names(item, "childShardIds"),
            starting_hash_key=_optional(item, "startingHashKey"),
            ending_hash_key=_optional(item, "endingHashKey"),
            incarnation=_optional(item, _INCARNATION) if is_ours else None,
            stream_created=None if created is None else int(created),
        )

    def _position(self, item: Mapping[str, Any]) -> Position:
        sequence: str = item["checkpoint"]["S"]
        time = item.get(_TIME, {}).get("N")
        if time is not None and sequence in ("AT_TIMESTAMP", "LATEST"):
            return Position("AT_TIMESTAMP", timestamp=float(time))
        if sequence == "AT_TIMESTAMP":
            if self._begin is None or self._begin.timestamp is None:
                raise ValueError(
                    "its checkpoint is AT_TIMESTAMP, whose time KCL keeps in its configuration; "
                    "set stream.initial_position to that time"
                )
            return self._begin
        position = Position.decode(sequence)
        if position.is_start or position.is_end:
            return position
        return Position(sequence, int(item.get("checkpointSubSequenceNumber", {"N": "0"})["N"]))


def _text(value: str) -> AttributeValueTypeDef:
    return {"S": value}


def _number(value: int) -> AttributeValueTypeDef:
    return {"N": str(value)}


def _set(values: Collection[str]) -> AttributeValueTypeDef:
    return {"SS": sorted(values)}


def _optional(item: Mapping[str, Any], name: str) -> str | None:
    value: str | None = item[name]["S"] if name in item else None
    return value


def _names(item: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(sorted(item[name]["SS"])) if name in item else ()


def _name(name: str, names: dict[str, str]) -> str:
    # Placeholders throughout: which words are reserved is DynamoDB's to change.
    names[f"#{name}"] = name
    return f"#{name}"


def _value(name: str, value: Any, values: Item) -> str:
    values[f":{name}"] = value
    return f":{name}"


def _arguments(names: dict[str, str], values: Item, condition: str) -> dict[str, Any]:
    return {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
