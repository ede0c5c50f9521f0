"""A proxy before a DynamoDB server, which fails single requests in the ways that networks do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Literal, Self

import aiohttp
from aiohttp import web

Fault = Literal["throttle", "500", "html", "refused", "lost", "hang"]
"""How a request fails: throttled; an internal error, as JSON or as a load balancer's page; cut
before the server saw it; cut after it was applied; never answered."""

FAULTS: tuple[Fault, ...] = ("throttle", "500", "html", "refused", "lost", "hang")


class FaultyProxy:
    """Passes requests on; the next ones fail as `faults` says, in that order.

    Attributes:
        faults: what happens to the next requests; None lets one pass.
        requests: the operations that were asked for.
        after_lost: awaited once an answer was lost, before the client can try again.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.faults: list[Fault | None] = []
        self.requests: list[str] = []
        self.after_lost: Callable[[], Awaitable[object]] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        application = web.Application()
        application.router.add_post("/", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.headers["x-amz-target"].partition(".")[2])
        fault = self.faults.pop(0) if self.faults else None
        body = await request.read()
        if fault == "throttle":
            return _error(400, "ThrottlingException")
        if fault == "500":
            return _error(500, "InternalServerError")
        if fault == "html":
            return web.Response(status=503, text="<html>busy</html>", content_type="text/html")
        if fault == "hang":
            await asyncio.Event().wait()
        if fault != "refused":
            async with self._session.post(
                self._endpoint, data=body, headers=request.headers
            ) as answer:
                content = await answer.read()
            if fault is None:
                return web.Response(
                    status=answer.status, body=content, content_type="application/x-amz-json-1.0"
                )
            if self.after_lost is not None:
                await self.after_lost()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def _error(status: int, code: str) -> web.Response:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "as told"}
    return web.Response(
        status=status, text=json.dumps(body), content_type="application/x-amz-json-1.0"
    )
