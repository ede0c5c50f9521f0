"""Pages that processors add, served by one worker and by several behind one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from streamproc import Page, PageAnswer, PageRequest
from streamproc.config import HttpConfig
from streamproc.errors import ConfigError
from streamproc.observability.fleet import FleetPages, WorkerProcess
from streamproc.observability.http import serve, serve_pages
from streamproc.observability.metrics import worker_registry
from tests.observability.making import FakeWorker

ANY_PORT = HttpConfig(port=0)


async def echo(request: PageRequest) -> PageAnswer:
    """Answer with what was asked, or fail if that was asked for."""
    if request.query.get("fail"):
        raise RuntimeError("secret 4111111111111111")
    tag = request.headers.get("if-none-match", "")
    body = f"{request.parts['sku']}@{request.parts['place']} {request.query.get('q')} {tag}"
    return PageAnswer(
        body=body.encode(),
        status=200 if request.parts["place"] != "none" else 404,
        content_type="text/plain",
        headers={"ETag": '"7"', "Cache-Control": "no-cache"},
    )


PAGE = Page("/things/{sku}/{place}", echo)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    worker = FakeWorker()
    async with (
        serve(worker, ANY_PORT, worker_registry(worker), [PAGE]) as server,
        aiohttp.ClientSession(str(server)) as session,
    ):
        yield session


class Fleet:
    """Two workers with the page, and a place without a process; all behind one port."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.processes = [
            WorkerProcess(number=n, socket=str(folder / f"{n}.sock"), pid=n) for n in range(3)
        ]
        self.stack = stack

    async def start_worker(self, number: int) -> None:
        worker = FakeWorker(worker_id=f"w{number}")
        config = HttpConfig(socket=self.processes[number].socket)
        await self.stack.enter_async_context(serve(worker, config, worker_registry(worker), [PAGE]))

    async def session(self) -> aiohttp.ClientSession:
        pages = FleetPages(self.processes, "group", "stream", [PAGE.path])
        server = await self.stack.enter_async_context(serve_pages(pages, ANY_PORT))
        return await self.stack.enter_async_context(aiohttp.ClientSession(str(server)))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(tmp_path, stack)


async def ask(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str, str]:
    async with session.get(path, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers.get("ETag", "")


ASKED = "/things/a%2Fb%7C%20c/W?q=1%262"
ANSWERED = 'a/b| c@W 1&2 "6"'


async def test_a_worker_serves_a_page_with_its_parts_decoded(
    session: aiohttp.ClientSession,
) -> None:
    assert await ask(session, ASKED, **{"If-None-Match": '"6"'}) == (200, ANSWERED, '"7"')
    assert (await ask(session, "/live"))[0] == 200
    assert (await ask(session, "/things/a"))[0] == 404


async def test_a_page_that_fails_is_500_and_says_nothing(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    status, text, _ = await ask(session, "/things/a/b?fail=1")
    assert (status, text) == (500, """{"error":"see the worker's log"}""")
    assert "the page /things/{sku}/{place} failed" in caplog.text
    assert (await ask(session, "/things/a/b"))[0] == 200


@pytest.mark.parametrize("path", ["/status", "/x"])
async def test_two_pages_at_one_path_are_refused(path: str) -> None:
    worker, page = FakeWorker(), Page(path, echo)
    with pytest.raises(ConfigError, match=f"two pages are at {path}"):
        async with serve(worker, ANY_PORT, worker_registry(worker), [page, page]):
            pass


async def test_a_fleet_asks_a_worker_that_answers(fleet: Fleet) -> None:
    await fleet.start_worker(1)
    session = await fleet.session()
    for _ in range(10):  # whichever place is tried first
        assert await ask(session, ASKED, **{"If-None-Match": '"6"'}) == (200, ANSWERED, '"7"')
    assert await ask(session, "/things/a/none") == (404, "a@none None ", '"7"')
    assert (await ask(session, "/things/a/b?fail=1"))[0] == 500
    assert (await ask(session, "/nothing"))[0] == 404


async def test_a_fleet_without_a_worker_says_so(fleet: Fleet) -> None:
    session = await fleet.session()
    assert (await ask(session, "/things/a/b"))[:2] == (
        503,
        '{"error":"no worker answers; try again"}',
    )


async def test_a_fleet_answers_many_at_once(fleet: Fleet) -> None:
    await fleet.start_worker(0)
    await fleet.start_worker(1)
    session = await fleet.session()
    answers = await asyncio.gather(*[ask(session, f"/things/{n}/W") for n in range(50)])
    assert [text for _, text, _ in answers] == [f"{n}@W None " for n in range(50)]
