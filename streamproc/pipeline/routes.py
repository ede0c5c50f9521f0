"""Which handlers an event goes to; everything about them is worked out before any record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamproc.errors import ProcessorError
from streamproc.events.registry import EventRegistry, Reading
from streamproc.pipeline.plans import Plans
from streamproc.processor import Handler, Policy, Processor, handlers_of
from streamproc.state.cell import Codec
from streamproc.state.keys import Keys

__all__ = ["Routes", "Target"]


class Target:
    """One handler as the dispatcher calls it for events of one partition.

    Attributes:
        handler: what was declared.
        processor: the processor's place in `Routes.processors`.
        policy: the processor's failure policy.
        codec: the state's; None for a processor without state.
        prefix: what the Redis keys of its states begin with, in that partition.
    """

    __slots__ = ("call", "codec", "handler", "key", "keys", "policy", "prefix", "processor")

    def __init__(self, handler: Handler, processor: int, policy: Policy, codec: Codec | None,
                 prefix: str) -> None:  # fmt: skip
        self.handler = handler
        self.call = handler.call
        self.key = handler.key
        self.keys = handler.keys
        self.processor = processor
        self.policy = policy
        self.codec = codec
        self.prefix = prefix


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
            codec = (
                None
                if processor.state_type is None
                else Codec(processor.name, processor.state_type, processor.state_ttl)
            )
            prefixes = [each.state_prefix(processor.name) for each in keys]
            for handler in handlers_of(processor):
                for partition, prefix in enumerate(prefixes):
                    target = Target(handler, index, processor.policy, codec, prefix)
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
