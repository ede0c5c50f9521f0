"""The plugin API as mypy sees it: what is right passes, what is wrong is told at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

# `# E: <code>` marks the lines that mypy must refuse, with the code of its error.
PLUGIN = """
import msgspec
from collections.abc import Sequence
from streamproc import Context, Counter, Event, Policy, Processor, Reject, Retry, on
from streamproc.windows import History
from typing import assert_type


class Paid(Event, type="Paid", version=2, id="payment_id", rename="camel"):
    payment_id: str
    card_id: str
    amount_minor: int


class Flagged(Event):
    payment_id: str


class Card(msgspec.Struct):
    count: int = 0


class Good(Processor[Card]):
    name = "good"
    policy = Policy(attempts=5, backoff=(0.1, 10.0), max_age=600.0, then="halt")

    @on(Paid, key="card_id")
    def judge(self, event: Paid, ctx: Context[Card]) -> None:
        assert_type(ctx.state, Card)
        assert_type(ctx.state.count, int)
        assert_type(ctx.event_time, float)
        assert_type(ctx.emit(Flagged(payment_id=event.payment_id), key="x"), str)
        if ctx.attempt > 3:
            raise Reject("too-often")
        raise Retry(after=1.5)


class GoodAsync(Processor):
    @on(Paid)
    async def judge(self, event: Paid, ctx: Context) -> None:
        assert_type(ctx.state, None)


class GoodKeys(Processor[int]):
    @on(Paid, keys=lambda event: [event.card_id, ("payment", event.payment_id)])
    def judge(self, event: Paid, ctx: Context[int]) -> None:
        ctx.states[event.card_id] += 1
        assert_type(ctx.states[event.card_id], int)


class Payments(History):
    keep = 30 * 86_400


class Windowed(msgspec.Struct):
    payments: Payments = msgspec.field(default_factory=Payments)


class GoodCounting(Processor[Windowed]):
    state_version = 2
    state_upgrades = {1: lambda old: {"payments": {}}}

    @on(Paid, key="card_id", counters=lambda event: [("card", event.card_id), "all"])
    def judge(self, event: Paid, ctx: Context[Windowed]) -> None:
        assert_type(ctx.counters["all"], Counter)
        ctx.counters["all"].add("amount", event.amount_minor, bucket=7)
        ctx.counters["all"].add("amount", "7")  # E: arg-type
        assert_type(ctx.counters["all"].value("amount"), int | float)
        assert_type(ctx.state.payments.window(60).count, int)
        ctx.state.payments.add("now")  # E: arg-type


class GoodBatch(Processor[Card]):
    @on(Paid, key="card_id", batch=True)
    def judge(self, events: Sequence[Paid], contexts: Sequence[Context[Card]]) -> None:
        for event, ctx in zip(events, contexts, strict=True):
            assert_type(event, Paid)
            assert_type(ctx.state, Card)


class GoodAsyncBatch(Processor):
    @on(Paid, batch=True)
    async def judge(self, events: Sequence[Paid], contexts: Sequence[Context]) -> None: ...


class BadBatch(Processor[Card]):
    @on(Paid, key="card_id", batch=True)  # E: arg-type
    def first(self, event: Paid, ctx: Context[Card]) -> None: ...

    @on(Paid, key="card_id")  # E: arg-type
    def second(self, events: Sequence[Paid], contexts: Sequence[Context[Card]]) -> None: ...


class Bad(Processor[Card]):
    policy = Policy(then="give-up")  # E: arg-type

    @on(Paid, key=lambda event: event.crad_id)  # E: attr-defined
    def first(self, event: Paid, ctx: Context[Card]) -> None:
        ctx.state.cuont += 1  # E: attr-defined
        ctx.state = 3  # E: assignment
        ctx.emit("flagged")  # E: arg-type

    @on(Paid, key="card_id")  # E: arg-type
    def second(self, event: Flagged, ctx: Context[Card]) -> None: ...

    @on(Paid, key="card_id")  # E: type-var
    def third(self, event: Paid, ctx: Context[Card]) -> int:
        return 1


Paid(payment_id="p", card_id="c")  # E: call-arg
"""


@pytest.mark.timeout(60)
def test_the_plugin_api_is_typed(tmp_path: Path) -> None:
    from mypy import api

    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    root = Path(__file__).parents[1]
    out, problems, _ = api.run(
        [
            "--config-file", "", "--strict", "--no-error-summary", "--hide-error-context",
            "--cache-dir", str(root / ".mypy_cache" / "plugin-api"), str(plugin),
        ]
    )  # fmt: skip
    assert problems == ""
    found = {}
    for line in out.splitlines():
        place, _, message = line.partition(": error: ")
        if message:
            found[int(place.rsplit(":", 1)[1])] = message.rsplit("[", 1)[1].rstrip("]")
    expected = {
        number: line.partition("# E: ")[2]
        for number, line in enumerate(PLUGIN.splitlines(), 1)
        if "# E: " in line
    }
    assert found == expected, out
