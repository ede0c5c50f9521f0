"""The seam to wherever emitted events go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import msgspec

from streamproc.entries import find_entry
from streamproc.errors import ConfigError

__all__ = ["ENTRY_POINT_GROUP", "OutgoingEvent", "Sink", "open_sink"]

ENTRY_POINT_GROUP: Final = "streamproc.sinks"


class OutgoingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One emitted event on its way out.

    Attributes:
        id: the event's id, the same each time it is delivered: what receivers drop repeats by.
        type: the event type's name, without its version.
        key: events of one key are delivered in the order in which they were committed.
        cause: id of the event whose handler emitted this one.
        data: the CloudEvents 1.0 envelope as JSON.
    """

    id: str
    type: str
    key: str
    cause: str
    data: bytes


class Sink(Protocol):
    """Takes events to a destination, at least once and in order for each key.

    A sink is registered under the entry-point group `streamproc.sinks` as a coroutine function
    that takes `[outbox.options]` and returns an open sink; it raises `ConfigError` for a wrong
    option. A destination that does not answer is no reason to fail there: `send` is tried again.
    """

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Deliver `events`; return the indexes of those the destination has for good.

        What is not returned is sent again later. An event must not be delivered before an earlier
        one of its key that was not. Whatever this raises means that nothing counts as delivered.
        May be cancelled at any time. The relays of several partitions may call it side by side.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


async def open_sink(name: str, options: Mapping[str, Any], section: str = "outbox") -> Sink:
    """Open the sink that is registered as `name`.

    Args:
        name: of the entry point.
        options: its settings.
        section: the table of the configuration that they come from, for messages.

    Raises:
        ConfigError: no such sink is installed, it cannot be imported, or an option is wrong.
    """
    opener = cast(
        "Callable[[Mapping[str, Any]], Awaitable[Sink]]", find_entry(ENTRY_POINT_GROUP, name)
    )
    try:
        return await opener(options)
    except ConfigError as error:
        raise ConfigError(f"[{section}] {error}") from error
