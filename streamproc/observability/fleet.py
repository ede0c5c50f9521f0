"""What several worker processes of one host tell, as if they were one.

Each worker serves its own state on a unix socket; the supervisor asks all of them when it is asked.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streamproc.observability.http import Pages
from streamproc.page import Page, PageAnswer, PageRequest

__all__ = ["FleetCollector", "FleetPages", "WorkerProcess"]

# A scraper gives up after 10 s; a worker that takes longer than this stands still.
_TIMEOUT_S: Final = 5.0
_PASSED_ON: Final = frozenset({"accept", "if-none-match"})
_PASSED_BACK: Final = frozenset({"cache-control", "etag"})


class WorkerProcess(msgspec.Struct, kw_only=True):
    """One place for a worker process, whichever process is in it.

    Attributes:
        number: from 0 on; the label `worker` of its metrics.
        socket: the unix socket that it serves on.
        pid: of the process that runs now, None while there is none.
        restarts: processes started in this place after the first.
    """

    number: int
    socket: str
    pid: int | None = None
    restarts: int = 0


class FleetPages(Pages):
    """The pages of all workers as one.

    Live while this process turns, since it starts workers that die again; ready when at least one
    worker is, since that one takes all shards.

    Args:
        workers: the workers, as the supervisor keeps them up to date.
        group: consumer group.
        stream: stream name.
        paths: those of the processors' pages; any worker is asked for them.
    """

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        group: str,
        stream: str,
        paths: Sequence[str] = (),
    ) -> None:
        self._workers = workers
        self._group = group
        self._stream = stream
        self._paths = paths

    def is_live(self) -> bool:
        """See `Pages.is_live`."""
        return True

    async def unready_reason(self) -> str | None:
        """Return every worker's reason, None when one is ready."""
        reasons = []
        for worker, answer in await self._ask("/ready"):
            if answer is None:
                reasons.append(f"worker {worker.number}: does not answer")
            elif answer[0] == 200:
                return None
            else:
                reasons.append(f"worker {worker.number}: {answer[1].strip()}")
        return "; ".join(reasons)

    async def status(self) -> bytes:
        """Return `workers`, the state of each that answers, and `processes`, all of them."""
        answers = await self._ask("/status")
        states = [answer[1] for _, answer in answers if answer is not None and answer[0] == 200]
        return msgspec.json.encode(
            {
                "supervisor": {"pid": os.getpid()},
                "processes": list(self._workers),
                "workers": [msgspec.Raw(state.encode()) for state in states],
            }
        )

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return all workers' metrics, each series with the label `worker`."""
        answers = await self._ask("/metrics")
        texts = {
            worker.number: answer[1] if answer is not None and answer[0] == 200 else None
            for worker, answer in answers
        }
        encode, content_type = choose_encoder(accept)
        return encode(FleetCollector(self._workers, texts, self._group, self._stream)), content_type

    def more(self) -> Sequence[Page]:
        """Return the processors' pages, which ask a worker in turn."""
        return [Page(path, self._asking(path)) for path in self._paths]

    def _asking(self, path: str) -> Callable[[PageRequest], Awaitable[PageAnswer]]:
        async def answer(request: PageRequest) -> PageAnswer:
            filled = path
            for name, value in request.parts.items():
                filled = filled.replace(f"{{{name}}}", quote(value, safe=""))
            target = f"{filled}?{urlencode(request.query)}" if request.query else filled
            headers = {n: v for n, v in request.headers.items() if n in _PASSED_ON}
            for worker in random.sample(self._workers, len(self._workers)):
                found = await _fetch(worker.socket, target, headers)
                if found is not None:
                    return found
            return PageAnswer(status=503, body=b'{"error":"no worker answers; try again"}')

        return answer

    async def _ask(self, path: str) -> list[tuple[WorkerProcess, tuple[int, str] | None]]:
        workers = list(self._workers)
        answers = await asyncio.gather(*[_get(worker.socket, path) for worker in workers])
        return list(zip(workers, answers, strict=True))


class FleetCollector(Collector):
    """Merges workers' metrics, and adds which of them answer and how often they were restarted.

    Args:
        workers: the workers.
        texts: their metrics in the text format, by number; None for one that does not answer.
        group: consumer group.
        stream: stream name.
    """

    def __init__(
        self,
        workers: Iterable[WorkerProcess],
        texts: dict[int, str | None],
        group: str,
        stream: str,
    ) -> None:
        self._workers = workers
        self._texts = texts
        self._common = (group, stream)

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        yield from self._merged().values()
        labels = ("group", "stream", "worker")
        up = GaugeMetricFamily(
            "streamproc_worker_up", "Whether the worker process answers.", labels=labels
        )
        restarts = CounterMetricFamily(
            "streamproc_worker_restarts", "Worker processes that died.", labels=labels
        )
        for worker in self._workers:
            values = (*self._common, str(worker.number))
            up.add_metric(values, self._texts.get(worker.number) is not None)
            restarts.add_metric(values, worker.restarts)
        yield up
        yield restarts

    def _merged(self) -> dict[str, Metric]:
        merged: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in text_string_to_metric_families(text or ""):
                into = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                into.samples += [
                    sample._replace(labels={**sample.labels, "worker": str(number)})
                    for sample in family.samples
                ]
        return merged


async def _fetch(socket: str, target: str, headers: dict[str, str]) -> PageAnswer | None:
    """Return a worker's answer as it is; None when nobody answers there."""
    connector: Any = aiohttp.UnixConnector(socket)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://worker{target}", headers=headers) as answer,
        ):
            return PageAnswer(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.headers.get("Content-Type", "application/octet-stream"),
                headers={n: v for n, v in answer.headers.items() if n.lower() in _PASSED_BACK},
            )
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def _get(socket: str, path: str) -> tuple[int, str] | None:
    """Return status and text; None when nobody answers there, which callers show."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector: Any = aiohttp.UnixConnector(socket)
    try:
        async with (
            aiohttp.ClientSession("http://worker", connector=connector, timeout=timeout) as session,
            session.get(path) as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, OSError):
        return None
