"""From a wire type to the classes that want it, across versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from streamproc.errors import DecodeError, ProcessorError
from streamproc.events.envelope import split_type
from streamproc.events.event import Event

__all__ = ["EventRegistry", "Reading"]

# Wire types come from producers; a hostile one must not grow the memo without bound.
_MEMO_LIMIT = 10_000


class Reading:
    """How one wire type becomes events: one decoder for each class that handlers declared.

    Two plugins may each declare a class of their own for one type; they see the same event id.

    Attributes:
        event_type: the declared name, which scopes event ids.
        decoders: for each declared class, a function from payload bytes to an event of it.
        direct: the class to which payloads can be decoded within their envelope; None where there
            are several.
        upcast: from an event of that class to the declared one; None where that is the same.
        id_field: the field that holds the event id; None takes the envelope's.
    """

    __slots__ = ("classes", "decoders", "direct", "event_type", "id_field", "id_prefix", "upcast")

    def __init__(self, classes: Sequence[type[Event]], version: int) -> None:
        self.classes = tuple(classes)
        self.event_type = classes[0].__event_type__
        self.id_field = classes[0].__event_id__
        self.id_prefix = self.event_type.encode() + b"\0"
        wire_classes = [_class_of(cls, version) for cls in classes]
        self.decoders = tuple(map(_decoder_for, classes, wire_classes))
        self.direct = wire_classes[0] if len(classes) == 1 else None
        self.upcast = _upcasts(classes[0], wire_classes[0]) if self.direct is not None else None


class EventRegistry:
    """The event classes that the processors of a worker declare.

    Raises:
        ProcessorError: two classes of one type disagree on the id field or the version.
    """

    def __init__(self, classes: Iterable[type[Event]]) -> None:
        self._classes: dict[str, list[type[Event]]] = {}
        self._memo: dict[str, Reading | None] = {}
        for cls in classes:
            self._add(cls)

    def reading(self, wire_type: str) -> Reading | None:
        """Return how to read `wire_type`, or None when no processor declares it.

        Raises:
            DecodeError: the type is declared, but not in this version.
        """
        try:
            return self._memo[wire_type]
        except KeyError:
            found = self._find(wire_type)
        if len(self._memo) < _MEMO_LIMIT:
            self._memo[wire_type] = found
        return found

    def _add(self, cls: type[Event]) -> None:
        known = self._classes.setdefault(cls.__event_type__, [])
        if cls in known:
            return
        for other in known:
            both = f"{_where(other)} and {_where(cls)}"
            if other.__event_id__ != cls.__event_id__:
                raise ProcessorError(
                    f"event type {cls.__event_type__}: {both} take its id from different fields "
                    f"({other.__event_id__!r}, {cls.__event_id__!r}); it has one id in a group"
                )
            if other.__event_version__ != cls.__event_version__:
                raise ProcessorError(
                    f"event type {cls.__event_type__}: {both} declare different versions "
                    f"({other.__event_version__}, {cls.__event_version__}); declare handlers on "
                    "the newest only"
                )
        known.append(cls)

    def _find(self, wire_type: str) -> Reading | None:
        name, version = split_type(wire_type)
        classes = self._classes.get(wire_type)
        if classes is not None:
            version = None
        else:
            classes = self._classes.get(name) or self._classes.get(name.rpartition(".")[2])
        if classes is None:
            return None
        return Reading(classes, classes[0].__event_version__ if version is None else version)


def _where(cls: type[Event]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _class_of(cls: type[Event], version: int) -> type[Event]:
    """Return `cls`, or the class that it supersedes, as which payloads of `version` are decoded."""
    step: type[Event] | None = cls
    while step is not None and step.__event_version__ != version:
        step = step.__supersedes__
    if step is None:
        raise DecodeError(
            "unknown-version",
            f"{cls.__event_type__} version {version} is not known; {_where(cls)} reads version "
            f"{cls.__event_version__} and those it supersedes",
        )
    return step


def _upcasts(cls: type[Event], step: type[Event]) -> Callable[[Any], Any] | None:
    """Return the way from events of `step` to `cls`; None where that is the same."""
    if step is cls:
        return None
    if cls.__supersedes__ is step:  # one step away, as nearly all are
        one_step: Callable[[Any], Any] = step.upcast
        return one_step

    def upcast(event: Event) -> Event:
        while type(event).__event_version__ < cls.__event_version__:
            event = event.upcast()
        return event

    return upcast


def _decoder_for(cls: type[Event], step: type[Event]) -> Callable[[Any], Event]:
    """Return bytes -> `cls` for payloads that are decoded as `step`."""
    decode, upcast = msgspec.json.Decoder(step).decode, _upcasts(cls, step)
    if upcast is None:
        return decode
    return lambda payload: upcast(decode(payload))
