"""What each wire type means for this worker: how to read it, and whom to call."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamproc.events.registry import Reading

if TYPE_CHECKING:
    from streamproc.pipeline.routes import Routes, Target

__all__ = ["Plan", "Plans"]

# Wire types come from producers; a hostile one must not have decoders made without bound.
_MOST_KNOWN: Final = 200


class Plan:
    """How events of one wire type are read and where they go.

    The usual type has one class; further ones are other plugins' own classes for it.

    Attributes:
        reading: the classes and the id.
        event_type: their type, without prefix and version.
        id_of: event -> its id; None takes the envelope's.
        begin_digest: a new hash that has taken in the event type, for the id to follow; a copy
            costs half of what one from scratch does.
        decode: payload bytes -> event of the first class.
        upcast: from what a payload is decoded to within its envelope to that event, if that is an
            older version.
        targets: the handlers of the first class.
        others: decoder and handlers of each further class.
        only: the handler, if there is one alone in all classes.
        bare: the same, if it has no keys either.
        counting: whether any handler declared counters.
    """

    __slots__ = ("_elsewhere", "bare", "begin_digest", "counting", "decode", "event_type",
                 "has_async", "has_runs", "id_of", "only", "others", "reading", "targets",
                 "upcast")  # fmt: skip

    def __init__(self, reading: Reading, targets: list[list[Target]]) -> None:
        self.reading = reading
        self.event_type = reading.event_type
        self.id_of = None if reading.id_field is None else attrgetter(reading.id_field)
        self.begin_digest = blake2b(reading.id_prefix, digest_size=16).copy
        self.decode, self.targets = reading.decoders[0], targets[0]
        self.upcast = reading.upcast
        self.others = tuple(zip(reading.decoders[1:], targets[1:], strict=True))
        self.only = targets[0][0] if len(targets) == len(targets[0]) == 1 else None
        keyed = self.only is not None and (self.only.key or self.only.keys)
        self.bare = None if keyed else self.only
        self.has_async = any(t.handler.is_async for group in targets for t in group)
        self.has_runs = any(t.handler.is_batch for group in targets for t in group)
        self.counting = any(t.counting is not None for group in targets for t in group)
        self._elsewhere: dict[int, Plan] = {}

    def in_partition(self, routes: Routes, partition: int) -> Plan:
        """Return the plan for events whose states lie in a partition."""
        plan = self._elsewhere.get(partition)
        if plan is None:
            targets = routes.of(self.reading, partition)
            plan = self._elsewhere[partition] = Plan(self.reading, targets)
        return plan


class Plans:
    """The wire types met so far, in one decoder that reads envelope and payload in a single pass.

    A tagged union over the wire types decodes a record in three quarters of the time that envelope
    and payload take one after the other, but has to know the exact types in advance, prefixes and
    version suffixes included. So it learns: what it does not know, or cannot read, goes the long
    way, which also says precisely what is wrong, and is told to `meet`.

    Attributes:
        decode: record data -> an object with `data`, `id` and `time`.
        of: the class of that object -> the plan, None for types that no processor declares; and
            whether `data` is the event or an older version of it, not the bytes of the payload.
    """

    def __init__(self, routes: Routes) -> None:
        self.of: dict[type, tuple[Plan | None, bool]] = {}
        self.decode: Callable[[bytes], Any] = _know_nothing
        self._routes = routes
        self._by_wire_type: dict[str, Plan | None] = {}

    def meet(self, wire_type: str) -> Plan | None:
        """Return the plan of a type, and know it from now on.

        Raises:
            DecodeError: the type is declared, but not in this version.
        """
        if wire_type in self._by_wire_type:
            return self._by_wire_type[wire_type]
        reading = self._routes.registry.reading(wire_type)
        plan = None if reading is None else Plan(reading, self._routes.of(reading))
        if len(self.of) < _MOST_KNOWN:
            self._by_wire_type[wire_type] = plan
            self._learn(wire_type, plan)
        return plan

    def _learn(self, wire_type: str, plan: Plan | None) -> None:
        direct = None if plan is None else plan.reading.direct
        member = msgspec.defstruct(
            "Whole",
            [
                ("data", msgspec.Raw if direct is None else direct),
                ("id", str, ""),
                ("time", str | None, None),
            ],
            tag_field="type",
            tag=wire_type,
            gc=False,
        )
        self.of[member] = plan, direct is not None
        union = functools.reduce(operator.or_, self.of, _Nothing)
        self.decode = msgspec.json.Decoder(union).decode


class _Nothing(msgspec.Struct, tag_field="type", tag="\0"):
    """A second member, since msgspec lets the tag of a single one be missing."""


def _know_nothing(data: bytes) -> Any:
    raise msgspec.ValidationError("no type is known yet")
