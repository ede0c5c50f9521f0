"""The base of every event type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streamproc.errors import ProcessorError

__all__ = ["Event", "EventMeta"]


class EventMeta(msgspec.StructMeta):
    """Takes an event type's name, version and id out of the class statement."""

    __event_type__: str
    __event_version__: int
    __event_id__: str | None
    __supersedes__: Any

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        type: str | None = None,
        version: int = 1,
        id: str | None = None,
        supersedes: Any = None,
        **options: Any,
    ) -> EventMeta:
        """Create the class; events are frozen, because a batch may be run again from them."""
        options.setdefault("frozen", True)
        cls: EventMeta = super().__new__(mcls, name, bases, namespace, **options)
        cls.__event_type__ = type or name
        cls.__event_version__ = version
        cls.__event_id__ = id
        cls.__supersedes__ = supersedes
        if id is not None and id not in cls.__struct_fields__:
            raise ProcessorError(f"event {name}: id={id!r} names no field of it")
        if supersedes is not None and supersedes.__event_version__ >= version:
            raise ProcessorError(
                f"event {name} version {version} supersedes {supersedes.__name__}, "
                f"whose version {supersedes.__event_version__} is not older"
            )
        return cls


class Event(msgspec.Struct, metaclass=EventMeta):
    """A fact that travels through the stream; subclass it to declare a contract.

    Class arguments:
        type: the name on the wire; a reverse-DNS prefix and a ``.v<version>`` suffix there are
            understood. The class's name if not given.
        version: the contract's version, from 1.
        id: the field that identifies the event in business terms. Two records with one type and
            id are the same event, whatever their sequence numbers. The envelope's id if not given.
        supersedes: the class of the version before this one; it must define `upcast`.

    Any other class argument is msgspec's, such as ``rename="camel"``.

        class PaymentAuthorized(Event, type="PaymentAuthorized", version=1, id="payment_id"):
            payment_id: str
            card_id: str
            amount_minor: int
    """

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            type: str | None = None,
            version: int = 1,
            id: str | None = None,
            supersedes: Any = None,
            **options: Any,
        ) -> None: ...

    def upcast(self) -> Event:
        """Return this event as the next version; a superseded version must override it."""
        raise ProcessorError(f"{type(self).__name__} is superseded but defines no upcast()")
