"""What a plugin author writes: a Processor, its handlers, and its failure policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, get_args, get_origin, overload

import msgspec
from prometheus_client.registry import Collector
from typing_extensions import TypeVar

from streamproc.context import Context
from streamproc.errors import ProcessorError
from streamproc.events.event import Event
from streamproc.page import Page
from streamproc.state.cell import Codec

if TYPE_CHECKING:
    from streamproc.state_reader import StateReader

__all__ = ["Handler", "Key", "Policy", "Processor", "codec_of", "handlers_of", "key_parts",
           "key_text", "on"]  # fmt: skip

Key = str | tuple[str, ...]
"""A state key: one word, or several such as ``(sku, location)``."""

S = TypeVar("S", default=None)
P = TypeVar("P", bound="Processor[Any]")
E = TypeVar("E", bound=Event)
R = TypeVar("R", None, Coroutine[Any, Any, None])

_HANDLER_ATTRIBUTE = "__streamproc_handlers__"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to an event whose handler raises.

    Attributes:
        attempts: how often it is tried in all.
        backoff: least and most seconds between attempts; the wait doubles, with jitter.
        timeout: seconds an `async` handler's call may take; longer counts as a failure. The call is
            cancelled and its context closed, so that nothing it does later takes effect. A plain
            function cannot be interrupted and is not limited: it holds up the whole worker.
        max_age: seconds since the record's arrival in Kinesis after which there are no more
            attempts; the first is always made. None sets no bound.
        then: the event's fate after the last attempt. ``dead-letter`` puts it aside and goes on.
            ``park`` puts it aside, and with it every later record of its partition key, in order,
            until somebody redrives the key; other keys go on. ``halt`` stops the shard at it, for
            a person to look. An event that is rejected is a dead letter with any of them.
    """

    attempts: int = 3
    backoff: tuple[float, float] = (0.1, 10.0)
    timeout: float | None = 30.0
    max_age: float | None = None
    then: Literal["dead-letter", "park", "halt"] = "dead-letter"

    def __post_init__(self) -> None:
        low, high = self.backoff
        if (
            self.attempts < 1
            or low < 0
            or high < low
            or (self.timeout is not None and self.timeout <= 0)
            or (self.max_age is not None and self.max_age <= 0)
        ):
            raise ProcessorError(
                f"not a usable policy: {self}; attempts >= 1, 0 <= backoff[0] <= backoff[1], "
                "timeout and max_age > 0 or None"
            )


class Handler(msgspec.Struct, frozen=True):
    """One `@on` declaration, bound to its processor.

    Attributes:
        name: processor and method, for messages.
        event: the class the handler takes.
        call: the bound method.
        is_async: whether `call` returns a coroutine.
        is_batch: whether `call` takes a run of events and their contexts.
        key: event -> the one state key, if declared.
        keys: event -> all state keys, if declared.
        counters: event -> all counter keys, if declared.
    """

    name: str
    event: type[Event]
    call: Callable[[Any, Any], Any]
    is_async: bool
    is_batch: bool
    key: Callable[[Any], Key] | None
    keys: Callable[[Any], Iterable[Key]] | None
    counters: Callable[[Any], Iterable[Key]] | None = None


class _Declaration(msgspec.Struct, frozen=True):
    event: type[Event]
    key: Callable[[Any], Key] | None
    keys: Callable[[Any], Iterable[Key]] | None
    counters: str | Callable[[Any], Iterable[Key]] | None
    is_batch: bool


class Processor(Generic[S]):
    """A plugin: keyed state of type `S`, and a handler for each event type it wants.

    Handlers run inside a transaction: what they do to state and what they emit takes effect
    together with the record's position, or not at all. A handler may be run again for the same
    event before that commit, so effects outside the context need `Context.idempotency_key`.
    The same instance serves every shard of a worker; keep per-key data in `ctx.state`.

    Class attributes:
        name: names the state and metrics; inherited, and the lower-case class name if not given.
        policy: what happens when a handler raises.
        state_ttl: seconds after its last write that a state value, or a key's counters, are kept;
            reading does not prolong it; None keeps them.
        state_version: version of `S` that is written, from 1. Raise it when a new `S` cannot read
            what the old one wrote, or must not be written by releases that know the old one only.
        state_upgrades: for each older version that may still be stored, a function that takes such
            a state as JSON values (dicts, lists, texts, numbers) and returns the next version's.

    `S` is a msgspec Struct or a plain type, and `S()` must work: it is a new key's state.
    Subclass ``Processor`` without ``[S]`` for a processor that keeps no state.
    """

    name: ClassVar[str] = ""
    policy: ClassVar[Policy] = Policy()
    state_ttl: ClassVar[float | None] = None
    state_version: ClassVar[int] = 1
    state_upgrades: ClassVar[Mapping[int, Callable[[Any], Any]]] = MappingProxyType({})
    state_type: ClassVar[Any] = None
    _is_named: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            cls._is_named = True
        elif not cls._is_named:
            cls.name = cls.__name__.lower()
        if not cls.name or set(cls.name) & set("{}:\n "):
            raise ProcessorError(
                f"processor name {cls.name!r}: no braces, colons or spaces, please"
            )
        oldest = min(cls.state_upgrades, default=cls.state_version)
        if oldest < 1 or set(cls.state_upgrades) != set(range(oldest, cls.state_version)):
            raise ProcessorError(
                f"{cls.name}: state_upgrades has {sorted(cls.state_upgrades)}; with state_version "
                f"{cls.state_version} it needs a function for each version from the oldest that "
                f"may be stored to {cls.state_version - 1}"
            )
        for base in getattr(cls, "__orig_bases__", ()):
            generic, arguments = get_origin(base), get_args(base)
            if (
                isinstance(generic, type)
                and issubclass(generic, Processor)
                and not isinstance(arguments[0], TypeVar)
            ):
                cls.state_type = arguments[0]

    def pages(self, states: StateReader) -> Sequence[Page]:
        """Return HTTP pages to serve on the worker's port, beside its own; none by default.

        Args:
            states: reads this and other processors' states in the pages.
        """
        return ()

    def collectors(self) -> Sequence[Collector]:
        """Return Prometheus collectors whose metrics /metrics shows beside the worker's own."""
        return ()

    async def start(self) -> None:
        """Prepare what handlers need, such as a client; called once in the worker's loop."""

    async def stop(self) -> None:
        """Release what `start` acquired; called once after the last commit."""


@overload
def on(
    event: type[E],
    *,
    key: str | Callable[[E], Key] | None = None,
    keys: Callable[[E], Iterable[Key]] | None = None,
    counters: str | Callable[[E], Iterable[Key]] | None = None,
) -> Callable[[Callable[[P, E, Context[S]], R]], Callable[[P, E, Context[S]], R]]: ...


@overload
def on(
    event: type[E],
    *,
    key: str | Callable[[E], Key] | None = None,
    keys: Callable[[E], Iterable[Key]] | None = None,
    counters: str | Callable[[E], Iterable[Key]] | None = None,
    batch: Literal[True],
) -> Callable[
    [Callable[[P, Sequence[E], Sequence[Context[S]]], R]],
    Callable[[P, Sequence[E], Sequence[Context[S]]], R],
]: ...


def on(
    event: type[E],
    *,
    key: str | Callable[[E], Key] | None = None,
    keys: Callable[[E], Iterable[Key]] | None = None,
    counters: str | Callable[[E], Iterable[Key]] | None = None,
    batch: bool = False,
) -> Callable[[Any], Any]:
    """Declare a method, plain or `async`, as the handler of an event type.

    Args:
        event: the event class; the newest version, older ones are upcast to it.
        key: a field's name or a function: which state `ctx.state` is.
        keys: a function to several keys, for an event that touches several states: `ctx.states`.
        counters: a function to the keys of counters that the handler reads or changes:
            `ctx.counters`; or the name of a method, where it depends on the settings. Unlike
            states, they may be those of many other events at once: no order is kept by them, and
            no commit waits for another.
        batch: the method takes a run of events in one call, and as many contexts: for models and
            vectorised code. The events are in stream order, of any keys; two of one key share a
            state. One call takes all that a transaction has of the type, unless another handler
            of the processor has to see one of their keys in between. When the call raises, it is
            undone and divided until the events that fail stand alone: the others succeed.

    Events with one key are handled in stream order; `async` handlers of different keys run side
    by side.

    Raises:
        ProcessorError: both `key` and `keys` are given, or `key` names no field.
    """
    if key is not None and keys is not None:
        raise ProcessorError(f"@on({event.__name__}): give key= or keys=, not both")
    if isinstance(key, str):
        if key not in event.__struct_fields__:
            raise ProcessorError(f"@on({event.__name__}): key={key!r} names no field of it")
        key_of: Callable[[Any], Key] | None = attrgetter(key)
    else:
        key_of = key
    declaration = _Declaration(event, key_of, keys, counters, batch)

    def declare(method: Any) -> Any:
        declared = [*getattr(method, _HANDLER_ATTRIBUTE, ()), declaration]
        setattr(method, _HANDLER_ATTRIBUTE, declared)
        return method

    return declare


def handlers_of(processor: Processor[Any]) -> list[Handler]:
    """Return the processor's handlers in the order of their definition.

    Raises:
        ProcessorError: it has none, or two for one event type, or state but no key.
    """
    found: dict[str, Handler] = {}
    methods = {
        name: value
        for cls in reversed(type(processor).__mro__)
        for name, value in vars(cls).items()
    }
    for method_name, function in methods.items():
        for declared in getattr(function, _HANDLER_ATTRIBUTE, ()):
            name = f"{processor.name}.{method_name}"
            event_type = declared.event.__event_type__
            if event_type in found:
                raise ProcessorError(
                    f"{name} and {found[event_type].name} both handle "
                    f"{event_type}; a processor has one handler for an event type"
                )
            has_key = declared.key is not None or declared.keys is not None
            if not has_key and processor.state_type is not None:
                raise ProcessorError(
                    f"{name}: the processor keeps state, so @on needs key= or keys="
                )
            found[event_type] = Handler(
                name=name,
                event=declared.event,
                call=getattr(processor, method_name),
                is_async=inspect.iscoroutinefunction(function),
                is_batch=declared.is_batch,
                key=declared.key,
                keys=declared.keys,
                counters=_counters_of(processor, declared.counters, name),
            )
    if not found:
        raise ProcessorError(f"processor {processor.name} declares no handler; use @on(EventClass)")
    return list(found.values())


def codec_of(processor: Processor[Any] | type[Processor[Any]]) -> Codec | None:
    """Return how a processor's states are stored; None for one that keeps none."""
    if processor.state_type is None:
        return None
    return Codec(
        processor.name,
        processor.state_type,
        processor.state_ttl,
        processor.state_version,
        processor.state_upgrades,
    )


def _counters_of(
    processor: Processor[Any], declared: str | Callable[[Any], Iterable[Key]] | None, name: str
) -> Callable[[Any], Iterable[Key]] | None:
    if not isinstance(declared, str):
        return declared
    method: Callable[[Any], Iterable[Key]] | None = getattr(processor, declared, None)
    if method is None:
        raise ProcessorError(f"{name}: counters={declared!r} names no method of the processor")
    return method


def key_text(key: Key) -> str:
    """Return the text of a key as it stands in Redis: parts joined by ``|``, escaped by ``%``.

    Raises:
        TypeError: a key or part of it is not text.
        UnicodeError: it cannot be written as UTF-8.
    """
    if isinstance(key, str):
        text = key if "|" not in key and "%" not in key else _escape(key)
    else:
        text = "|".join(key)
        if "%" in text or text.count("|") != len(key) - 1:
            text = "|".join([_escape(part) for part in key])
    if not text.isascii():
        text.encode()
    return text


def key_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a key from its text in Redis; one for a key that is a plain text."""
    return tuple(part.replace("%7C", "|").replace("%25", "%") for part in text.split("|"))


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("|", "%7C")
