"""A sink that writes each event to standard output: for trying things out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec

from streamproc.entries import read_options
from streamproc.sinks.sink import OutgoingEvent, Sink

__all__ = ["LogSink", "open_sink"]


class _Options(msgspec.Struct, frozen=True):
    """The log sink has no settings."""


class LogSink(Sink):
    """Writes one JSON object a line: `key`, `cause` and the CloudEvents envelope as `event`.

    Args:
        stream: where to; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Write all of `events`."""
        lines = "".join([_line(event) for event in events])
        # A pipe whose reader is slow blocks; not the event loop.
        await asyncio.to_thread(self._write, lines)
        return set(range(len(events)))

    async def aclose(self) -> None:
        """Leave the stream open: it is not the sink's."""

    def _write(self, lines: str) -> None:
        self._stream.write(lines)
        self._stream.flush()


async def open_sink(options: Mapping[str, Any]) -> Sink:
    """Return a sink that writes to standard output.

    Raises:
        ConfigError: there are options.
    """
    read_options(_Options, options, "options", "the log sink")
    return LogSink()


def _line(event: OutgoingEvent) -> str:
    line = {"key": event.key, "cause": event.cause, "event": msgspec.Raw(event.data)}
    return f"{msgspec.json.encode(line).decode()}\n"
