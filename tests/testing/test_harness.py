"""The harness, used as a plugin's author would use it."""

from __future__ import annotations

import msgspec
import pytest

from streamproc import Context, Event, Policy, Processor, on
from streamproc.testing import Harness, MemoryStateStore


class PaymentAuthorized(Event, type="PaymentAuthorized", id="payment_id"):
    payment_id: str
    card_id: str


class PaymentFlagged(Event, type="PaymentFlagged", id="payment_id"):
    payment_id: str


class Heartbeat(Event):
    host: str


class Card(msgspec.Struct):
    times: list[float] = []


class Velocity(Processor[Card]):
    policy = Policy(attempts=3, backoff=(10.0, 10.0))
    state_ttl = 3_600.0

    def __init__(self, limit: int = 1) -> None:
        self.limit = limit
        self.log: list[str] = []

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    @on(PaymentAuthorized, key="card_id")
    def score(self, event: PaymentAuthorized, ctx: Context[Card]) -> None:
        if event.card_id == "broken":
            raise RuntimeError("broken")
        ctx.state.times.append(ctx.event_time)
        if len(ctx.state.times) > self.limit:
            ctx.emit(PaymentFlagged(payment_id=event.payment_id))

    @on(Heartbeat, key="host")
    def beat(self, event: Heartbeat, ctx: Context[Card]) -> None:
        ctx.state.times.append(ctx.event_time)


async def test_events_change_state_and_emit_events() -> None:
    async with Harness(Velocity(limit=1)) as h:
        await h.send(PaymentAuthorized("p1", "c"), time="2026-01-01T00:00:00Z", key="c")
        assert h.state("velocity", "c") == Card(times=[1_767_225_600.0])
        assert h.emitted == []
        await h.send(PaymentAuthorized("p2", "c"), time=1_767_225_600.5)
        assert h.state("velocity", "c").times[1:] == [1_767_225_600.5]
        assert h.emitted_as(PaymentFlagged) == [PaymentFlagged("p2")]
        (flag,) = h.emitted
        assert (flag.type, flag.payload) == ("PaymentFlagged", {"payment_id": "p2"})
        assert (flag.key, flag.cause) == ("c", "p2")
        assert flag.time == "2026-01-01T00:00:00.500000+00:00"
        assert h.emitted_as(PaymentAuthorized) == []
        assert h.state("velocity", "nobody") is None


async def test_several_events_are_one_batch() -> None:
    async with Harness(Velocity()) as h:
        await h.send(*[PaymentAuthorized(f"p{n}", "c") for n in range(5)])
        assert h.statistics.batches == 1
        assert h.statistics.processed == 5


async def test_sending_nothing_does_nothing() -> None:
    async with Harness(Velocity()) as h:
        await h.send()
        assert h.statistics.batches == 0


async def test_records_of_one_batch_may_differ_in_time_and_key() -> None:
    async with Harness(Velocity()) as h:
        start = h.now
        await h.process(
            h.record(PaymentAuthorized("p1", "c"), time=start + 5, key="x"),
            h.record(PaymentAuthorized("p2", "c"), time=start - 5, key="y"),
            h.raw_record(b"garbage", key="z"),
        )
        assert h.now == start + 5
        assert h.state("velocity", "c").times == [start + 5, start - 5]
        assert h.dead_letters[0].partition_key == "z"
        assert h.statistics.batches == 1


async def test_sending_an_event_again_is_a_duplicate() -> None:
    async with Harness(Velocity()) as h:
        for _ in range(2):
            await h.send(PaymentAuthorized("p1", "c"), Heartbeat("h1"))
        assert h.statistics.duplicates == 2
        await h.send(Heartbeat("h1"), id="another")
        assert len(h.state("velocity", "h1").times) == 2


async def test_what_failed_is_among_the_dead_letters_and_nothing_waited() -> None:
    async with Harness(Velocity()) as h:
        before = h.now
        await h.send(PaymentAuthorized("p1", "broken"), PaymentAuthorized("p2", "c"))
        (letter,) = h.dead_letters
        assert (letter.reason, letter.event_id, letter.attempts) == ("handler-failed", "p1", 3)
        assert len(h.delays) == 2
        assert h.now == before + sum(h.delays) > before


async def test_a_new_worker_has_only_what_is_stored_and_counters_go_on() -> None:
    old, new = Velocity(), Velocity(limit=0)
    async with Harness(old) as h:
        await h.send(PaymentAuthorized("p1", "c"))
        await h.restart()
        await h.send(PaymentAuthorized("p1", "c"))
        assert old.log == ["start", "stop", "start"]
        await h.restart(new)
        await h.send(PaymentAuthorized("p2", "other"))
        assert h.emitted_as(PaymentFlagged) == [PaymentFlagged("p2")]
        assert len(h.state("velocity", "c").times) == 1
        assert (h.statistics.records, h.statistics.duplicates) == (3, 1)
    assert (old.log, new.log) == (["start", "stop", "start", "stop"], ["start", "stop"])


async def test_time_passes_when_told_and_state_expires_by_it() -> None:
    async with Harness(Velocity()) as h:
        await h.send(PaymentAuthorized("p1", "c"), time="2031-05-01T00:00:00Z")
        h.now += 3_599
        assert h.state("velocity", "c") is not None
        h.now += 1
        assert h.state("velocity", "c") is None


async def test_processors_are_stopped_when_one_fails_to_start_or_the_test_fails() -> None:
    class Fails(Velocity):
        name = "fails"

        async def start(self) -> None:
            raise OSError("no database")

    good = Velocity()
    with pytest.raises(OSError, match="no database"):
        async with Harness(good, Fails()):
            pass
    assert good.log == ["start", "stop"]
    with pytest.raises(KeyError):
        async with Harness(good):
            raise KeyError
    assert good.log == ["start", "stop"] * 2


async def test_a_harness_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with Harness"):
        await Harness(Velocity()).send(Heartbeat("h"))


async def test_state_of_an_unknown_processor_is_an_error() -> None:
    async with Harness(Velocity()) as h:
        with pytest.raises(KeyError, match="velocty"):
            h.state("velocty", "c")


async def test_the_stored_json_and_names_are_those_of_redis() -> None:
    async with Harness(Velocity(), group="shop") as h:
        await h.send(PaymentAuthorized("p1", "c"), time=5)
        assert isinstance(h.store, MemoryStateStore)
        assert h.store.stored("sp:{shop:0}:s:velocity:c") == b'{"times":[5.0]}'
