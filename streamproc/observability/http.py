"""/live, /ready, /metrics, /status and processors' pages over HTTP, on one port or unix socket."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamproc.config import HttpConfig
from streamproc.errors import ConfigError
from streamproc.observability.status import StatusSource, WorkerStatus
from streamproc.page import Page, PageAnswer, PageRequest

__all__ = ["HttpServer", "Pages", "WorkerPages", "serve", "serve_pages"]

log = logging.getLogger(__name__)

_INDEX: Final = """streamproc
/live     200 while the process should be left running
/ready    200 while it takes part; 503 with the reason otherwise
/metrics  Prometheus metrics
/status   the whole state as JSON
"""
_OWN: Final = frozenset({"/", "/live", "/ready", "/metrics", "/status"})
_NOT_READY: Final = {
    "starting": "starting: the stream, Redis and the lease store have not all answered yet",
    "running": "running, but the leases have not been looked at yet",
    "draining": "draining: this worker stops and takes no more shards",
    "stopped": "stopped",
}
# Answers are small and ready at once; nobody is worth waiting for at the end.
_SHUTDOWN_S: Final = 1.0


class Pages(Protocol):
    """What the server shows."""

    def is_live(self) -> bool:
        """Whether the process should be left running."""
        ...

    async def unready_reason(self) -> str | None:
        """Return why not to count on this process, None when it is ready."""
        ...

    async def status(self) -> bytes:
        """Return the state as JSON."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, in a form that the Accept header allows."""
        ...

    def more(self) -> Sequence[Page]:
        """Return the pages that processors add."""
        ...


class WorkerPages:
    """One worker's pages.

    Args:
        source: the worker.
        registry: what /metrics shows.
        more: its processors' pages.
    """

    def __init__(
        self, source: StatusSource, registry: Collector, more: Sequence[Page] = ()
    ) -> None:
        self._source = source
        self._registry = registry
        self._more = more

    def is_live(self) -> bool:
        """See `Pages.is_live`."""
        return self._source.is_live()

    async def unready_reason(self) -> str | None:
        """See `Pages.unready_reason`."""
        status: WorkerStatus = self._source.status()
        return None if status.ready else _NOT_READY[status.state]

    async def status(self) -> bytes:
        """See `Pages.status`."""
        return msgspec.json.encode(self._source.status())

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `Pages.metrics`."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def more(self) -> Sequence[Page]:
        """See `Pages.more`."""
        return self._more


class HttpServer:
    """Where a server listens.

    Attributes:
        port: the TCP port, also when the configuration left it to the system; None without one.
        socket: the unix socket's path; None without one.
    """

    def __init__(self, host: str, port: int | None, socket: str | None) -> None:
        self.port = port
        self.socket = socket
        self._host = host

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        return "off" if self.port is None else f"http://{_bracketed(self._host)}:{self.port}"


@asynccontextmanager
async def serve(
    source: StatusSource, config: HttpConfig, registry: Collector, more: Sequence[Page] = ()
) -> AsyncIterator[HttpServer]:
    """Serve a worker's state for as long as the context is open.

    Args:
        source: the worker.
        config: where to listen; with neither a port nor a socket nothing is served.
        registry: what /metrics shows, as `worker_registry` makes it.
        more: pages of the processors.

    Raises:
        ConfigError: the port or socket cannot be had, or two pages have one path.
    """
    async with serve_pages(WorkerPages(source, registry, more), config) as server:
        yield server


@asynccontextmanager
async def serve_pages(pages: Pages, config: HttpConfig) -> AsyncIterator[HttpServer]:
    """Serve pages for as long as the context is open.

    Raises:
        ConfigError: the port or socket cannot be had.
    """
    if config.socket is None and config.port is None:
        yield HttpServer(config.host, None, None)
        return
    runner = web.AppRunner(_application(pages), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        yield await _listen(runner, config)
    finally:
        await runner.cleanup()
        if config.socket is not None:
            with suppress(FileNotFoundError):  # later versions of Python remove it themselves
                os.unlink(config.socket)


async def _listen(runner: web.AppRunner, config: HttpConfig) -> HttpServer:
    try:
        if config.socket is not None:
            await web.UnixSite(runner, config.socket).start()
            return HttpServer(config.host, None, config.socket)
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        raise ConfigError(_explain(error, config)) from error
    return HttpServer(config.host, runner.addresses[0][1], None)


def _explain(error: OSError, config: HttpConfig) -> str:
    if config.socket is not None:
        return (
            f"http.socket: cannot listen on {config.socket}: {error}; name a path of at most 100 "
            "characters in a directory that exists and may be written to"
        )
    where = f"{_bracketed(config.host)}:{config.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"http.port: {where} is taken by another process; stop that one or set http.port "
            "(STREAMPROC_HTTP__PORT) to another port, 0 for any free one"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"http.port: this user may not listen on {where}; use a port from 1024 on"
    return (
        f"http.host: cannot listen on {where}: {error}; set http.host (STREAMPROC_HTTP__HOST) to "
        "an address of this host, 0.0.0.0 for all of them"
    )


def _application(pages: Pages) -> web.Application:
    application = web.Application()
    application.router.add_get("/", _page(_index))
    application.router.add_get("/live", _page(_live, pages))
    application.router.add_get("/ready", _page(_ready, pages))
    application.router.add_get("/status", _page(_status, pages))
    application.router.add_get("/metrics", _page(_metrics, pages))
    seen = set(_OWN)
    for page in pages.more():
        if page.path in seen:
            raise ConfigError(f"two pages are at {page.path}; run their processors apart")
        seen.add(page.path)
        application.router.add_get(page.path, _of_processor(page))
    return application


def _of_processor(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        asked = PageRequest(
            parts=dict(request.match_info),
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        try:
            answer = await page.answer(asked)
        except Exception:  # A page is the plugin's code: its failure is this request's alone.
            log.exception("the page %s failed", page.path)
            answer = PageAnswer(status=500, body=b'{"error":"see the worker\'s log"}')
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers={"Content-Type": answer.content_type, **answer.headers},
        )

    return handle


def _page(
    answer: Callable[..., Awaitable[web.Response]], *fixed: Pages
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a request handler whose answers no proxy keeps."""

    async def handle(request: web.Request) -> web.Response:
        response = await answer(request, *fixed)
        response.headers["Cache-Control"] = "no-store"
        return response

    return handle


async def _index(_request: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


async def _live(_request: web.Request, pages: Pages) -> web.Response:
    if pages.is_live():
        return web.Response(text="live\n")
    return web.Response(status=503, text="not live: restart this process\n")


async def _ready(_request: web.Request, pages: Pages) -> web.Response:
    reason = await pages.unready_reason()
    if reason is None:
        return web.Response(text="ready\n")
    return web.Response(status=503, text=f"{reason}\n")


async def _status(_request: web.Request, pages: Pages) -> web.Response:
    return web.Response(body=await pages.status(), content_type="application/json")


async def _metrics(request: web.Request, pages: Pages) -> web.Response:
    body, content_type = await pages.metrics(request.headers.get("Accept", ""))
    response = web.Response(body=body, headers={"Content-Type": content_type})
    response.enable_compression()  # only for those who accept it; metrics shrink to a tenth
    return response


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
