"""Several workers of a host, shown as one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse

from streamproc.config import HttpConfig
from streamproc.observability.fleet import FleetPages, WorkerProcess
from streamproc.observability.http import serve
from streamproc.observability.metrics import worker_registry
from tests.observability.making import FakeWorker, shard


class Fleet:
    """Two workers that serve on sockets, and a third place without a process."""

    def __init__(self, folder: Path) -> None:
        self.workers = [
            FakeWorker(worker_id=f"w{n}", shards=[shard(f"s{n}", records=n + 1)]) for n in range(2)
        ]
        self.processes = [
            WorkerProcess(number=n, socket=str(folder / f"{n}.sock"), pid=100 + n, restarts=n * 2)
            for n in range(3)
        ]
        self.pages = FleetPages(self.processes, "payments", "orders")

    async def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text, content_type = await self.pages.metrics("")
        assert content_type.startswith("text/plain")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse(text.decode())
            for sample in family.samples
        }


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    made = Fleet(tmp_path)
    async with AsyncExitStack() as stack:
        for worker, process in zip(made.workers, made.processes, strict=False):
            config = HttpConfig(socket=process.socket)
            await stack.enter_async_context(serve(worker, config, worker_registry(worker)))
        yield made


async def test_it_is_ready_when_one_worker_is(fleet: Fleet) -> None:
    assert await fleet.pages.unready_reason() is None
    fleet.workers[0].change(ready=False, state="starting")
    assert await fleet.pages.unready_reason() is None


async def test_it_tells_why_no_worker_is_ready(fleet: Fleet) -> None:
    fleet.workers[0].change(ready=False, state="starting")
    fleet.workers[1].change(ready=False, state="draining")
    reason = await fleet.pages.unready_reason()
    assert reason is not None
    first, second, third = reason.split("; ")
    assert first.startswith("worker 0: starting")
    assert second.startswith("worker 1: draining")
    assert third == "worker 2: does not answer"


async def test_it_is_live_whatever_the_workers_are(fleet: Fleet) -> None:
    fleet.workers[0].live = False
    assert fleet.pages.is_live()


async def test_status_is_that_of_all_workers_that_answer(fleet: Fleet) -> None:
    state = orjson.loads(await fleet.pages.status())
    assert [worker["worker_id"] for worker in state["workers"]] == ["w0", "w1"]
    assert [process["pid"] for process in state["processes"]] == [100, 101, 102]


async def test_every_series_of_every_worker_is_there_with_its_number(fleet: Fleet) -> None:
    samples = await fleet.samples()
    common = {("group", "payments"), ("stream", "orders")}
    for number, worker in enumerate(fleet.workers):
        label = ("worker", str(number))
        assert samples["streamproc_records_total", frozenset({*common, label})] == number + 1
        own: CollectorRegistry = worker_registry(worker)
        expected = {
            (sample.name, frozenset({*sample.labels.items(), label}))
            for family in own.collect()
            for sample in family.samples
        }
        assert expected - set(samples) == set()


async def test_restarts_are_counted_and_silence_shows(fleet: Fleet) -> None:
    samples = await fleet.samples()
    common = {("group", "payments"), ("stream", "orders")}
    up, restarts = (
        [samples[name, frozenset({*common, ("worker", str(n))})] for n in range(3)]
        for name in ("streamproc_worker_up", "streamproc_worker_restarts_total")
    )
    assert up == [1, 1, 0]
    assert restarts == [0, 2, 4]


async def test_openmetrics_is_spoken_too(fleet: Fleet) -> None:
    text, content_type = await fleet.pages.metrics("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert text.count(b"# TYPE streamproc_records counter") == 1
