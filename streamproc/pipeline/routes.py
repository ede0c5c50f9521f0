"""Which handlers an event goes to; everything about them is worked out before any record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from streamproc.errors import ProcessorError
from streamproc.events.registry import EventRegistry, Reading
from streamproc.pipeline.plans import Plans
from streamproc.processor import Handler, Key, Policy, Processor, codec_of, handlers_of
from streamproc.state.cell import Codec
from streamproc.state.keys import Keys

__all__ = ["Counting", "Routes", "Target"]


class Counting(msgspec.Struct, frozen=True):
    """Where a handler's counters lie, in one partition.

    Attributes:
        keys: event -> their keys.
        processor: whose they are.
        prefix: what their Redis keys begin with.
        sketch_prefix: what the keys of their HyperLogLogs begin with.
        ttl_ms: how long they are kept after their last change; 0 for ever.
    """

    keys: Callable[[Any], Iterable[Key]]
    processor: str
    prefix: str
    sketch_prefix: str
    ttl_ms: int


class Target:
    """One handler as the dispatcher calls it for events of one partition.

    Attributes:
        handler: what was declared.
        processor: the processor's place in `Routes.processors`.
        policy: the processor's failure policy.
        codec: the state's; None for a processor without state.
        prefix: what the Redis keys of its states begin with, in that partition.
        counting: its counters; None without.
    """

    __slots__ = ("call", "codec", "counting", "handler", "key", "keys", "policy", "prefix",
                 "processor")  # fmt: skip

    def __init__(self, handler: Handler, processor: int, policy: Policy, codec: Codec | None,
                 prefix: str, counting: Counting | None = None) -> None:  # fmt: skip
        self.handler = handler
        self.call = handler.call
        self.key = handler.key
        self.keys = handler.keys
        self.processor = processor
        self.policy = policy
        self.codec = codec
        self.prefix = prefix
        self.counting = counting


class Routes:
    """The processors of a worker and, for each declared event class, the handlers it goes to.

    Attributes:
        plans: the same by wire type, for those met so far.

    Args:
        processors: the plugins.
        keys: the group's keys, of one partition after the other.

    Raises:
        ProcessorError: two processors share a name, or handlers are declared wrongly.
    """

    def __init__(self, processors: Sequence[Processor[Any]], keys: Sequence[Keys]) -> None:
        self.processors = tuple(processors)
        self.partitions = len(keys)
        self._targets: list[dict[type, list[Target]]] = [{} for _ in keys]
        self._by_name: dict[tuple[str, str, int], Target] = {}
        names = [processor.name for processor in self.processors]
        for name in names:
            if names.count(name) > 1:
                raise ProcessorError(f"two processors are named {name!r}; they would share state")
        for index, processor in enumerate(self.processors):
            codec = codec_of(processor)
            for handler in handlers_of(processor):
                for partition, own_keys in enumerate(keys):
                    prefix = own_keys.state_prefix(processor.name)
                    counting = _counting(handler, processor, own_keys)
                    target = Target(handler, index, processor.policy, codec, prefix, counting)
                    self._targets[partition].setdefault(handler.event, []).append(target)
                    event_type = handler.event.__event_type__
                    self._by_name[processor.name, event_type, partition] = target
        self.registry = EventRegistry(self._targets[0])
        self.plans = Plans(self)

    def of(self, reading: Reading, partition: int = 0) -> list[list[Target]]:
        """Return the targets of each of a reading's classes, in the order of its decoders."""
        return [self._targets[partition][cls] for cls in reading.classes]

    def target(self, processor: str, event_type: str, partition: int) -> Target | None:
        """Return the handler by which a processor takes an event type; None without one."""
        return self._by_name.get((processor, event_type, partition))


def _counting(handler: Handler, processor: Processor[Any], keys: Keys) -> Counting | None:
    if handler.counters is None:
        return None
    return Counting(
        keys=handler.counters,
        processor=processor.name,
        prefix=keys.counter_prefix(processor.name),
        sketch_prefix=keys.sketch_prefix(processor.name),
        ttl_ms=0 if processor.state_ttl is None else int(processor.state_ttl * 1000),
    )
