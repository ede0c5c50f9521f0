"""A processor that does nothing, so that the engine's own cost remains, and one that computes."""

from __future__ import annotations

from streamproc import Context, Event, Processor, on

__all__ = ["BenchmarkEvent", "ComputingProcessor", "NoopProcessor"]


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


class ComputingProcessor(Processor):
    """Computes some 100 us for each `BenchmarkEvent`, as a model does; keeps no state."""

    name = "computing"

    def __init__(self, additions: int = 2_500) -> None:
        self._additions = additions

    @on(BenchmarkEvent)
    def compute(self, event: BenchmarkEvent, ctx: Context) -> None:
        """Add numbers up."""
        total = 0
        for number in range(self._additions):
            total += number
