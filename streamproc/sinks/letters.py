"""Where dead letters go from Redis: sinks of their own, or those of emitted events as text."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, cast

import msgspec

from streamproc.deadletter import DeadLetter
from streamproc.entries import find_entry
from streamproc.errors import ConfigError
from streamproc.sinks.sink import OutgoingEvent, Sink, open_sink

__all__ = ["ENTRY_POINT_GROUP", "EventLetterSink", "LetterSink", "open_letter_sink"]

ENTRY_POINT_GROUP: Final = "streamproc.dead_letter_sinks"
_TYPE: Final = "streamproc.DeadLetter"


class LetterSink(Protocol):
    """Takes dead letters to a destination, at least once and in any order.

    One that keeps payloads as they are is registered under the entry-point group
    `streamproc.dead_letter_sinks`, as a coroutine function that takes `[dead_letters.options]`.
    """

    async def send(self, letters: Sequence[DeadLetter]) -> set[int]:
        """Deliver `letters`; return the indexes of those the destination has for good.

        What is not returned is sent again later. Whatever this raises means that nothing counts as
        delivered. May be cancelled at any time.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class EventLetterSink(LetterSink):
    """Sends dead letters through a sink of emitted events, as CloudEvents with base64 payloads."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def send(self, letters: Sequence[DeadLetter]) -> set[int]:
        """See `LetterSink.send`."""
        return await self._sink.send([_event(letter) for letter in letters])

    async def aclose(self) -> None:
        """Close the sink."""
        await self._sink.aclose()


async def open_letter_sink(name: str, options: Mapping[str, Any]) -> LetterSink:
    """Open the destination `name`: one made for dead letters, else the sink of that name.

    Raises:
        ConfigError: no such sink is installed, it cannot be imported, or an option is wrong.
    """
    if name not in entry_points(group=ENTRY_POINT_GROUP).names:
        return EventLetterSink(await open_sink(name, options, "dead_letters"))
    opener = cast(
        "Callable[[Mapping[str, Any]], Awaitable[LetterSink]]", find_entry(ENTRY_POINT_GROUP, name)
    )
    try:
        return await opener(options)
    except ConfigError as error:
        raise ConfigError(f"[dead_letters] {error}") from error


def _event(letter: DeadLetter) -> OutgoingEvent:
    envelope = {
        "specversion": "1.0",
        "id": letter.id,
        "source": f"streamproc/{letter.stream}/{letter.shard}",
        "type": f"{_TYPE}.v1",
        "datacontenttype": "application/json",
        "data": letter.facts() | {"payload_base64": base64.b64encode(letter.data).decode()},
    }
    return OutgoingEvent(
        id=letter.id,
        type=_TYPE,
        # Dead letters have no order to keep: one that cannot go holds up no other.
        key=letter.id,
        cause=letter.event_id,
        data=msgspec.json.encode(envelope),
    )
