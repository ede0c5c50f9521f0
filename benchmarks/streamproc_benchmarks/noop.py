"""A processor that does nothing: what remains is the engine's own cost."""

from __future__ import annotations

from streamproc import Context, Event, Processor, on

__all__ = ["BenchmarkEvent", "NoopProcessor"]


class BenchmarkEvent(Event, type="BenchmarkEvent", version=1, id="event_id"):
    """An event of the size and shape of a card payment, decoded field by field like one."""

    event_id: str
    account_id: str
    amount_minor: int
    currency: str
    terminal_id: str
    channel: str
    note: str = ""


class NoopProcessor(Processor):
    """Takes every `BenchmarkEvent` and leaves it at that; keeps no state."""

    name = "noop"

    @on(BenchmarkEvent)
    def ignore(self, event: BenchmarkEvent, ctx: Context) -> None:
        """Do nothing."""
