from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from streamproc.config import HttpConfig
from streamproc.errors import ConfigError
from streamproc.observability.http import HttpServer, serve
from streamproc.observability.metrics import worker_registry
from tests.observability.making import FakeWorker, lease, shard

ANY_PORT = HttpConfig(port=0)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(shards=[shard("a", records=3)], leases=[lease("a", "w1")])


@pytest.fixture
async def server(worker: FakeWorker) -> AsyncIterator[HttpServer]:
    async with serve(worker, ANY_PORT, worker_registry(worker)) as server:
        yield server


@pytest.fixture
async def session(server: HttpServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(str(server)) as session:
        yield session


async def get(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str, Any]:
    async with session.get(path, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_live_follows_the_worker(session: aiohttp.ClientSession, worker: FakeWorker) -> None:
    assert (await get(session, "/live"))[0] == 200
    worker.live = False
    assert (await get(session, "/live"))[0] == 503


async def test_a_worker_that_is_not_ready_is_live(
    session: aiohttp.ClientSession, worker: FakeWorker
) -> None:
    worker.change(ready=False, state="starting")
    assert (await get(session, "/live"))[0] == 200


@pytest.mark.parametrize(
    ("state", "word"),
    [("starting", "starting"), ("running", "leases"), ("draining", "draining")],
)
async def test_ready_tells_why_not(
    session: aiohttp.ClientSession, worker: FakeWorker, state: str, word: str
) -> None:
    assert (await get(session, "/ready"))[:2] == (200, "ready\n")
    worker.change(ready=False, state=state)
    status, text, _ = await get(session, "/ready")
    assert status == 503
    assert word in text


async def test_status_is_the_whole_state_as_json(session: aiohttp.ClientSession) -> None:
    status, text, headers = await get(session, "/status")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    state = orjson.loads(text)
    assert state["worker_id"] == "w1"
    assert state["shards"][0]["statistics"]["records"] == 3
    assert state["shards"][0]["reader"]["mode"] == "tip"
    assert state["leases"][0]["owner"] == "w1"


async def test_metrics_come_in_the_form_that_is_asked_for(session: aiohttp.ClientSession) -> None:
    status, text, headers = await get(session, "/metrics")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert 'streamproc_records_total{group="payments",stream="orders"} 3.0' in text
    accept = "application/openmetrics-text; version=1.0.0"
    _, text, headers = await get(session, "/metrics", Accept=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "streamproc_records" in {family.name for family in parse_openmetrics(text)}


async def test_metrics_are_as_of_the_scrape(
    session: aiohttp.ClientSession, worker: FakeWorker
) -> None:
    worker.change(shards=[shard("a", records=99)])
    assert '"orders"} 99.0' in (await get(session, "/metrics"))[1]


async def test_metrics_are_compressed_for_those_who_can_read_that(
    session: aiohttp.ClientSession,
) -> None:
    _, _, headers = await get(session, "/metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    _, _, headers = await get(session, "/metrics", **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


async def test_the_index_names_the_pages(session: aiohttp.ClientSession) -> None:
    _, text, _ = await get(session, "/")
    for page in ("/live", "/ready", "/metrics", "/status"):
        assert page in text
        assert (await get(session, page))[2]["Cache-Control"] == "no-store"
    assert (await get(session, "/nothing"))[0] == 404


async def test_requests_leave_no_trace_in_the_log(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await get(session, "/live")
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_a_port_in_use_says_which_and_what_to_do(
    server: HttpServer, worker: FakeWorker
) -> None:
    taken = HttpConfig(port=server.port)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{server.port} is taken.*STREAMPROC_HTTP__P"):
        async with serve(worker, taken, worker_registry(worker)):
            pass


async def test_a_host_that_is_not_this_one_says_so(worker: FakeWorker) -> None:
    elsewhere = HttpConfig(host="203.0.113.1", port=0)
    with pytest.raises(ConfigError, match=r"http\.host.*0\.0\.0\.0"):
        async with serve(worker, elsewhere, worker_registry(worker)):
            pass


async def test_a_unix_socket_in_place_of_the_port(worker: FakeWorker, tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    async with serve(worker, HttpConfig(socket=str(path)), worker_registry(worker)) as server:
        assert server.port is None
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession("http://worker", connector=connector) as session:
            assert (await get(session, "/ready"))[0] == 200
    assert not path.exists()


async def test_a_socket_that_a_killed_worker_left_behind_is_no_hindrance(
    worker: FakeWorker, tmp_path: Path
) -> None:
    path = tmp_path / "w.sock"
    left = await asyncio.start_unix_server(lambda _r, _w: None, path)
    left.close()
    await left.wait_closed()
    path.touch(exist_ok=True)
    if not path.is_socket():  # newer versions of Python remove it
        path.unlink()
    async with serve(worker, HttpConfig(socket=str(path)), worker_registry(worker)) as server:
        assert server.socket == str(path)


async def test_a_socket_path_that_cannot_be_says_so(worker: FakeWorker, tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 200), tmp_path / "missing" / "w.sock"):
        with pytest.raises(ConfigError, match=r"http\.socket"):
            async with serve(worker, HttpConfig(socket=str(path)), worker_registry(worker)):
                pass


async def test_without_port_and_socket_nothing_is_served(worker: FakeWorker) -> None:
    async with serve(worker, HttpConfig(port=None), worker_registry(worker)) as server:
        assert (server.port, server.socket, str(server)) == (None, None, "off")


async def test_the_port_is_free_again_afterwards(worker: FakeWorker) -> None:
    async with serve(worker, ANY_PORT, worker_registry(worker)) as server:
        port = server.port
    async with serve(worker, HttpConfig(port=port), worker_registry(worker)) as again:
        assert again.port == port
