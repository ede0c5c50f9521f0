"""Rule sets exchanged while payments flow: from a file, from Redis, from S3."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streamproc import ConfigError, StreamprocError
from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor
from streamproc_fraud.rules.live import POLL_S
from streamproc_fraud.rules.sources import open_source

from .payments import START, alerts, metrics, payment, processor, rule, rule_set

RELOAD_S = 2.0
ONE = rule_set(rule("one", "amount > 0"))
TWO = rule_set(rule("two", "amount > 0"))
BROKEN = rule_set(rule("three", "amount > > 0"))


def publish(path: Path, text: str) -> None:
    """Publish as docs/fraud.md says: a finished file takes the other's place."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


async def until(holds: Callable[[], object]) -> None:
    started = time.monotonic()
    while not holds():
        await asyncio.sleep(POLL_S / 10)
        assert time.monotonic() < started + 10


async def in_force(fraud: FraudProcessor, rule_id: str) -> float:
    """Return the seconds until a rule is in force."""
    started = time.monotonic()
    while [r.id for r in fraud.live.in_force.decider.rules] != [rule_id]:
        await asyncio.sleep(0.01)
        assert time.monotonic() < started + 2 * RELOAD_S, f"{rule_id} is not in force"
    return time.monotonic() - started


async def test_a_published_file_is_in_force_within_two_seconds(tmp_path: Path) -> None:
    fraud = processor(tmp_path, ONE)
    async with Harness(fraud) as h:
        await h.send(payment("a"), time=START)
        publish(tmp_path / "rules.toml", TWO)
        assert await in_force(fraud, "two") <= RELOAD_S
        await h.send(payment("b"), time=START)
        assert [alert.rule for alert in alerts(h)] == ["one", "two"]
    assert fraud.live.reloads == 1


async def test_a_broken_set_is_refused_with_its_place_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fraud = processor(tmp_path, ONE)
    async with Harness(fraud) as h:
        publish(tmp_path / "rules.toml", BROKEN)
        await until(lambda: fraud.live.refused)
        await h.send(payment("a"), time=START)
        await asyncio.sleep(2 * POLL_S)
        assert fraud.live.refused == 1  # looked at once, not at every look
        assert [alert.rule for alert in alerts(h)] == ["one"]
        publish(tmp_path / "rules.toml", TWO)
        await in_force(fraud, "two")
    assert "rules.toml:9:20: rule three: expected a value" in caplog.text
    assert metrics(fraud, "rules_refused_total") == {"": 1}
    assert metrics(fraud, "rules_reloads_total") == {"": 1}


async def test_a_file_that_goes_away_leaves_the_rules_in_force(tmp_path: Path) -> None:
    fraud = processor(tmp_path, ONE)
    async with Harness(fraud) as h:
        (tmp_path / "rules.toml").unlink()
        await until(lambda: fraud.live.failures)
        await h.send(payment("a"), time=START)
        assert len(alerts(h)) == 1
        publish(tmp_path / "rules.toml", TWO)
        await in_force(fraud, "two")
        assert fraud.live.failures == 0


@pytest.mark.long
async def test_of_20000_events_at_2000_a_second_each_is_judged_once_by_one_version(
    tmp_path: Path,
) -> None:
    """Rule sets are exchanged all the while, a broken one among them."""
    fraud = processor(tmp_path, ONE)
    path, count, rate, step = tmp_path / "rules.toml", 20_000, 2_000, 100
    async with Harness(fraud) as h:
        started = time.monotonic()
        for first in range(0, count, step):
            if first % 4_000 == 1_000:
                publish(path, TWO if first % 8_000 == 1_000 else ONE)
            if first == 10_000:
                publish(path, BROKEN)
            await h.send(
                *[payment(f"p{n}", card=f"c{n % 500}") for n in range(first, first + step)],
                time=START,
            )
            await asyncio.sleep(max(0.0, started + (first + step) / rate - time.monotonic()))
        told = alerts(h)
    assert Counter(alert.payment_id for alert in told) == Counter(f"p{n}" for n in range(count))
    rule_of = {alert.rule_set: alert.rule for alert in told}
    assert sorted(rule_of.values()) == ["one", "two"]
    assert all(alert.rule == rule_of[alert.rule_set] for alert in told)
    assert fraud.live.reloads >= 4
    assert fraud.live.refused == 1


async def test_rules_in_redis(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("fraud:rules", ONE)
        fraud = FraudProcessor(rules=f"{redis_url}#fraud:rules")
        with pytest.raises(ConfigError, match="read when the worker starts"):
            _ = fraud.live.in_force
        async with Harness(fraud):
            client.set("fraud:rules", TWO)
            assert await in_force(fraud, "two") <= RELOAD_S
            client.set("fraud:rules", BROKEN)
            await until(lambda: fraud.live.refused)
            client.delete("fraud:rules")
            await until(lambda: fraud.live.failures)
            assert fraud.live.in_force.decider.rules[0].id == "two"


async def test_a_worker_does_not_start_without_rules(redis_url: str) -> None:
    with pytest.raises(StreamprocError, match="there is no such key"):
        async with Harness(FraudProcessor(rules=f"{redis_url}#nothing")):
            pass
    with redis.Redis.from_url(redis_url) as client:
        client.set("bad", BROKEN)
    with pytest.raises(ConfigError, match="#bad:9:20"):
        async with Harness(FraudProcessor(rules=f"{redis_url}#bad")):
            pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve S3 and give a client of it with a bucket `rules`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="rules")
    try:
        yield client
    finally:
        client.close()
        server.stop()


async def test_rules_in_s3(bucket: Any) -> None:
    await asyncio.to_thread(bucket.put_object, Bucket="rules", Key="a/b.toml", Body=ONE)
    fraud = FraudProcessor(rules="s3://rules/a/b.toml")
    async with Harness(fraud):
        assert fraud.live.in_force.decider.rules[0].id == "one"
        await fraud.live.look()
        assert (fraud.live.reloads, fraud.live.failures) == (0, 0)  # unchanged is no answer
        await asyncio.to_thread(bucket.put_object, Bucket="rules", Key="a/b.toml", Body=TWO)
        assert await in_force(fraud, "two") <= RELOAD_S
        await asyncio.to_thread(bucket.delete_object, Bucket="rules", Key="a/b.toml")
        await until(lambda: fraud.live.failures)
        assert fraud.live.in_force.decider.rules[0].id == "two"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("s3://bucket", "write s3://bucket/key"),
        ("redis://host:6379/0", "name the key after '#'"),
        ("ftp://host/rules", "a path, s3:// or redis:// is known"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        open_source(address)


def test_a_file_that_is_not_there_stops_the_worker_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(StreamprocError, match=r"none\.toml cannot be read"):
        FraudProcessor(rules=str(tmp_path / "none.toml"))


async def test_a_password_in_an_address_is_not_told() -> None:
    source = open_source("redis://:secret@127.0.0.1:1/0#rules")
    try:
        with pytest.raises(StreamprocError) as caught:
            await source.fetch(None)
    finally:
        await source.aclose()
    assert "secret" not in str(caught.value)
    assert "secret" not in source.where
