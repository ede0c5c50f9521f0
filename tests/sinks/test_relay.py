"""The relay against a real server: nothing lost, nothing out of order, one relay at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis.asyncio

from streamproc.config import Config, OutboxConfig
from streamproc.context import Context, Effects, Item
from streamproc.errors import ConfigError
from streamproc.events.event import Event
from streamproc.redis_client import connect_redis
from streamproc.sinks import relay as relay_module
from streamproc.sinks.relay import OutboxRelay, open_relays
from streamproc.testing import EmbeddedRedis
from tests.sinks.making import KEYS, FakeSink, emit
from tests.waiting import until

LOCK = f"{KEYS.prefix}relay"
Relaying = Callable[..., Any]


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@asynccontextmanager
async def relaying(
    client: redis.asyncio.Redis, sink: FakeSink, worker_id: str = "w1", **options: Any
) -> AsyncIterator[OutboxRelay]:
    """Run a relay; stop it cleanly at the end, if it still runs."""
    fast: dict[str, Any] = {"poll_interval": 0.01, "standby_interval": 0.02}
    relay = OutboxRelay(client, KEYS, sink, worker_id, **(fast | options))
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        async with asyncio.timeout(10):
            await task


async def left(client: redis.asyncio.Redis) -> int:
    return int(await client.xlen(KEYS.outbox))


async def test_emitted_events_leave_in_order_and_the_outbox_is_empty(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    await emit(client, *[(str(n), f"k{n % 3}") for n in range(25)])
    async with relaying(client, sink, batch=10) as relay:
        await until(lambda: relay.statistics().delivered == 25)
    assert sink.ids == [str(n) for n in range(25)]
    assert await left(client) == 0
    assert relay.statistics().failures == 0


async def test_events_emitted_later_leave_too(client: redis.asyncio.Redis, sink: FakeSink) -> None:
    async with relaying(client, sink):
        await until(lambda: client.exists(LOCK))
        for n in range(3):
            await emit(client, (str(n), "k"))
            await until(lambda n=n: len(sink.ids) == n + 1)


async def test_what_a_transaction_writes_is_what_a_sink_gets(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    class Flagged(Event, type="Flagged", version=2):
        payment: str

    effects = Effects(lambda processor, event: None)
    context = Context[None]("fraud", "payments", "stream", "shard", effects)
    item = Item(0, "Paid", "cause-1", b"digest", "2026-01-01T00:00:00Z", 1.0, "7", "pk")
    context.begin(item, None, {})
    emission_id = context.emit(Flagged("p1"), key="card ü")
    fields = msgspec.structs.asdict(effects.emissions[0])
    del fields["order"], fields["processor"]
    await client.xadd(KEYS.outbox, fields)
    async with relaying(client, sink):
        await until(lambda: sink.taken)
    (event,) = sink.taken
    assert (event.id, event.type, event.key) == (emission_id, "Flagged", "card ü")
    assert event.cause == "cause-1"
    assert b'"type":"Flagged.v2"' in event.data
    assert b'"payment":"p1"' in event.data


async def test_of_two_relays_one_delivers(client: redis.asyncio.Redis) -> None:
    one, two = FakeSink(), FakeSink()
    async with relaying(client, one, "w1") as first:
        await until(lambda: first.statistics().active)
        async with relaying(client, two, "w2") as second:
            for n in range(50):
                await emit(client, (str(n), "k"))
            await until(lambda: len(one.ids) == 50)
            assert not second.statistics().active
            assert (await client.get(LOCK)).startswith(b"w1/")
    assert two.calls == []


async def test_when_a_relay_stops_another_takes_over_at_once(client: redis.asyncio.Redis) -> None:
    one, two = FakeSink(), FakeSink()
    # The lock would last an hour: only its release lets the second one in.
    async with relaying(client, two, "w2", lock_ttl=3_600.0, standby_interval=0.05) as second:
        await until(lambda: second.statistics().active)
        async with relaying(client, one, "w1", lock_ttl=3_600.0) as first:
            await emit(client, ("0", "k"))
            await until(lambda: two.ids == ["0"])
            second.stop()
            await until(lambda: first.statistics().active)
            await emit(client, ("1", "k"))
            await until(lambda: one.ids == ["1"])
    assert await client.exists(LOCK) == 0


async def test_when_a_relay_dies_another_takes_over_after_the_locks_time(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    await client.set(LOCK, "the dead one", px=100)
    await emit(client, ("0", "k"))
    async with relaying(client, sink):
        await until(lambda: sink.ids == ["0"])


async def test_a_relay_that_lost_its_lock_delivers_no_more_and_leaves_the_lock_alone(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    sink.gate.clear()
    await emit(client, ("0", "k"))
    async with relaying(client, sink, lock_ttl=0.3) as relay:
        await until(lambda: sink.calls)
        await client.set(LOCK, "somebody else")
        await until(lambda: sink.cancelled == 1)
        await until(lambda: not relay.statistics().active)
        assert await client.get(LOCK) == b"somebody else"
    assert await client.get(LOCK) == b"somebody else"
    assert await left(client) == 1


async def test_a_delivery_that_takes_longer_than_the_lock_keeps_the_lock(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    sink.gate.clear()
    await emit(client, ("0", "k"))
    async with relaying(client, sink, lock_ttl=0.2):
        await until(lambda: sink.calls)
        renewals = 0

        async def renewed_thrice() -> bool:
            # A renewal shows as a time to live that grew; three are more than one lock's time.
            nonlocal renewals, last
            now = await client.pttl(LOCK)
            renewals += now > last
            last = now
            return renewals >= 4

        last = await client.pttl(LOCK)
        await until(renewed_thrice)
        sink.gate.set()
        await until(lambda: sink.ids == ["0"])
    assert sink.cancelled == 0


async def test_stopping_finishes_the_delivery_in_hand(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    sink.gate.clear()
    await emit(client, *[(str(n), "k") for n in range(4)])
    async with relaying(client, sink, batch=2) as relay:
        await until(lambda: sink.calls)
        relay.stop()
        sink.gate.set()
    assert sink.ids == ["0", "1"]
    assert await left(client) == 2
    assert await client.exists(LOCK) == 0


async def test_what_the_sink_fails_to_take_is_delivered_later(
    client: redis.asyncio.Redis, sink: FakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.failure = ConnectionError("sink is away")
    await emit(client, ("0", "k"), ("1", "k"))
    async with relaying(client, sink) as relay:
        await until(lambda: relay.statistics().failures >= 2)
        assert await left(client) == 2
        sink.failure = None
        await until(lambda: sink.ids == ["0", "1"])
    assert relay.statistics().delivered == 2
    assert "sink is away" in caplog.text


@pytest.mark.parametrize("raises", [True, False])
async def test_a_sink_that_is_down_is_asked_ever_less_often_and_told_of_seldom(
    client: redis.asyncio.Redis, sink: FakeSink, caplog: pytest.LogCaptureFixture, raises: bool
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.001)

    sink.failure = ConnectionError("away") if raises else None
    sink.refuse = lambda _event: True
    await emit(client, ("0", "k"))
    caplog.set_level(logging.WARNING)
    async with relaying(client, sink, sleep=sleep, lock_ttl=3_600.0, rng=random.Random(1)) as relay:
        await until(lambda: relay.statistics().failures >= 40)
    backoffs = [wait for wait in waits if wait != 1_200.0]  # a third of the lock's time: renewals
    assert 0.1 <= backoffs[0] <= 0.2
    assert 0.2 <= backoffs[1] <= 0.4
    assert all(2.5 <= wait <= 5.0 for wait in backoffs[6:40])
    assert len({round(wait, 6) for wait in backoffs[6:40]}) > 20
    assert 0 < len(caplog.records) <= 7


async def test_a_key_that_is_not_taken_holds_back_itself_only(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    sink.refuse = lambda event: event.id == "a0"
    # More of the blocked key than fit in one delivery stand before the other key's.
    await emit(client, *[(f"a{n}", "a") for n in range(25)], ("b0", "b"))
    async with relaying(client, sink, batch=10):
        await until(lambda: sink.ids == ["b0"])
        assert await left(client) == 25
        sink.refuse = lambda _event: False
        await until(lambda: len(sink.ids) == 26)
    assert sink.ids[1:] == [f"a{n}" for n in range(25)]


@pytest.mark.parametrize("seed", range(5))
async def test_each_keys_events_leave_in_order_whatever_fails(
    client: redis.asyncio.Redis, sink: FakeSink, seed: int
) -> None:
    rng = random.Random(seed)
    sent = [(str(n), f"k{rng.randrange(5)}") for n in range(200)]
    sink.refuse = lambda _event: rng.random() < 0.05

    async def sleep(seconds: float) -> None:
        # Half of the time the sink fails altogether after a pause.
        sink.failure = ConnectionError("away") if rng.random() < 0.2 else None
        await asyncio.sleep(0)

    await emit(client, *sent)
    async with relaying(client, sink, batch=17, lock_ttl=3_600.0) as relay:
        relay._sleep = sleep
        await until(lambda: len(sink.taken) >= 200)
    for key in {key for _, key in sent}:
        delivered = [event.id for event in sink.taken if event.key == key]
        assert delivered == [event_id for event_id, k in sent if k == key]
    assert relay.statistics().failures > 0
    assert await left(client) == 0


async def test_only_what_is_acknowledged_is_removed(
    client: redis.asyncio.Redis, sink: FakeSink
) -> None:
    sink.refuse = lambda event: event.key == "b"
    await emit(client, ("0", "a"), ("1", "b"), ("2", "a"))
    async with relaying(client, sink) as relay:
        await until(lambda: relay.statistics().failures > 0)
    entries = await client.xrange(KEYS.outbox)
    assert [fields[b"id"] for _, fields in entries] == [b"1"]


async def test_an_outage_of_redis_is_waited_out(sink: FakeSink) -> None:
    async with EmbeddedRedis(appendonly=True) as server:
        client = connect_redis(server.url, 2.0)
        await emit(client, ("0", "k"))
        async with relaying(client, sink, lock_ttl=0.5) as relay:
            await until(lambda: sink.ids == ["0"])
            await server.kill()
            await until(lambda: relay.statistics().failures > 0)
            await server.restart()
            await emit(client, ("1", "k"))
            await until(lambda: sink.ids == ["0", "1"])
        await client.aclose()


async def test_statistics_tell_size_and_age(client: redis.asyncio.Redis, sink: FakeSink) -> None:
    sink.gate.clear()
    await client.xadd(KEYS.outbox, {"id": "0", "key": "k"}, id="1000-0")
    await client.xadd(KEYS.outbox, {"id": "1", "key": "k"}, id="5000-0")
    async with relaying(client, sink, wall_clock=lambda: 61.0) as relay:
        before = relay.statistics()
        assert (before.active, before.size, before.lag_seconds) == (False, None, None)
        await until(lambda: sink.calls)
        now = relay.statistics()
        assert (now.active, now.size, now.lag_seconds) == (True, 2, 60.0)
        sink.gate.set()
        await until(lambda: relay.statistics().size == 0)
        assert relay.statistics().lag_seconds == 0.0


async def test_a_defect_in_a_sinks_answer_does_not_end_the_relay(
    client: redis.asyncio.Redis, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [None, {99}, {0}]

    async def send(_events: object) -> Any:
        return answers.pop(0)

    monkeypatch.setattr(sink, "send", send)
    await emit(client, ("0", "k"))
    async with relaying(client, sink) as relay:
        await until(lambda: relay.statistics().delivered == 1)
    assert relay.statistics().failures == 2
    assert await left(client) == 0


async def test_a_defect_of_the_relay_is_told_and_it_starts_again(
    client: redis.asyncio.Redis,
    sink: FakeSink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outgoing, failures = relay_module._outgoing, [ValueError("defect")]

    def broken_once(entry: Any) -> Any:
        if failures:
            raise failures.pop()
        return outgoing(entry)

    monkeypatch.setattr(relay_module, "_outgoing", broken_once)
    await emit(client, ("0", "k"))
    async with relaying(client, sink):
        await until(lambda: sink.ids == ["0"])
    assert "defect" in caplog.text


def configured(sink: str | None, **options: Any) -> Config:
    return Config(group="payments", outbox=OutboxConfig(sink=sink, options=options))


async def test_without_a_sink_events_stay_for_others_to_read(client: redis.asyncio.Redis) -> None:
    await emit(client, ("0", "k"))
    async with open_relays(configured(None), client, [KEYS], "w1") as relay:
        assert relay is None
    assert await left(client) == 1


async def test_the_configured_sink_is_opened_and_closed(
    client: redis.asyncio.Redis, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opener(options: dict[str, Any]) -> FakeSink:
        assert options == {"stream": "out"}
        return sink

    monkeypatch.setattr("streamproc.sinks.sink.find_entry", lambda group, name: opener)
    await emit(client, ("0", "k"))
    async with open_relays(configured("mine", stream="out"), client, [KEYS], "w1") as relay:
        assert relay is not None
        await until(lambda: sink.ids == ["0"])
    assert sink.closed
    assert await client.exists(LOCK) == 0


async def test_leaving_waits_for_a_sink_that_hangs_only_so_long(
    client: redis.asyncio.Redis, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opener(_options: object) -> FakeSink:
        return sink

    monkeypatch.setattr("streamproc.sinks.sink.find_entry", lambda group, name: opener)
    monkeypatch.setattr(relay_module, "_STOP_S", 0.05)
    sink.gate.clear()
    await emit(client, ("0", "k"))
    async with asyncio.timeout(5):
        async with open_relays(configured("mine"), client, [KEYS], "w1"):
            await until(lambda: sink.calls)
    assert (sink.cancelled, sink.closed) == (1, True)
    assert await client.exists(LOCK) == 0


async def test_a_sink_that_is_not_there_says_which_are(client: redis.asyncio.Redis) -> None:
    with pytest.raises(ConfigError, match="kinesi"):
        async with open_relays(configured("kinesi"), client, [KEYS], "w1"):
            pass
