"""A sink that writes the ledger to parquet files, and hands everything else on."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streamproc import OutgoingEvent, Sink, open_sink, read_options
from streamproc_inventory.ledger_file import LedgerRow, LedgerWriter
from streamproc_inventory.levels import Levels
from streamproc_inventory.notices import LedgerEntry

__all__ = ["LedgerSink", "LedgerSinkOptions", "ledger_row", "open_ledger_sink"]

log = logging.getLogger(__name__)

_REMEMBERED_STOCKS: Final = 100_000


class LedgerSinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The inventory-ledger sink's options.

    Attributes:
        path: a directory, or ``s3://bucket/prefix``.
        forward: the sink that gets every other event; they are dropped without one.
        forward_options: its options.
    """

    path: str
    forward: str | None = None
    forward_options: dict[str, Any] = {}


class _Envelope(msgspec.Struct):
    id: str
    data: LedgerEntry
    time: str | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


def ledger_row(data: bytes) -> LedgerRow:
    """Return the entry in the envelope of a `LedgerEntry`.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    envelope = _decode(data)
    return LedgerRow(envelope.id, envelope.time, envelope.data)


class LedgerSink(Sink):
    """Writes ledger entries to files and hands the other events on.

    It follows each stock's entries as they pass: one that does not go on where the one before it
    ended is logged as an error and counted in `breaks`; the audit finds it again.

    Attributes:
        breaks: entries that did not follow the one before.
    """

    def __init__(self, writer: LedgerWriter, forward: Sink | None) -> None:
        self.breaks = 0
        self._writer = writer
        self._forward = forward
        self._last: OrderedDict[tuple[str, str], tuple[int, Levels]] = OrderedDict()

    async def send(self, events: Sequence[OutgoingEvent]) -> set[int]:
        """Write entries for good, then hand the others on."""
        entries = {at: event for at, event in enumerate(events) if event.type == "LedgerEntry"}
        others = [at for at in range(len(events)) if at not in entries]
        done = set(entries)
        if entries:
            rows = [ledger_row(event.data) for event in entries.values()]
            await asyncio.to_thread(self._writer.append, rows)
            for row in rows:
                self._follow(row)
        if self._forward is None:
            return done | set(others)
        if others:
            taken = await self._forward.send([events[at] for at in others])
            done |= {others[at] for at in taken}
        return done

    async def aclose(self) -> None:
        """Close the sink behind this one."""
        if self._forward is not None:
            await self._forward.aclose()

    def _follow(self, row: LedgerRow) -> None:
        entry = row.entry
        version, levels = self._last.pop(row.stock, (None, None))
        if version is not None and entry.version <= version:
            self._last[row.stock] = (version, levels or entry.after)
            return  # delivered again
        if version is not None and (entry.version != version + 1 or entry.before != levels):
            self.breaks += 1
            log.error(
                "ledger of %s at %s: entry %d does not follow entry %d; run the inventory audit",
                entry.sku, entry.location_id, entry.version, version,
            )  # fmt: skip
        self._last[row.stock] = (entry.version, entry.after)
        if len(self._last) > _REMEMBERED_STOCKS:
            self._last.popitem(last=False)


async def open_ledger_sink(options: Mapping[str, Any]) -> Sink:
    """Open the files, and the sink that gets the other events.

    Raises:
        ConfigError: an option is wrong, or pyarrow is not installed.
    """
    settings = read_options(LedgerSinkOptions, options, "options", "the inventory-ledger sink")
    writer = LedgerWriter(settings.path)
    forward = None
    if settings.forward is not None:
        forward = await open_sink(settings.forward, settings.forward_options)
    return LedgerSink(writer, forward)
