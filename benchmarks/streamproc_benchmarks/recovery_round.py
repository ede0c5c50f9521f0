"""The process of one round of `recovery`: a steady load, an event, and lag until all is well."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from streamproc.cli.loop import calm_collector, run_loop
from streamproc_benchmarks.effects import Effects, Steps
from streamproc_benchmarks.lag import Recovered, Sample, recovery
from streamproc_benchmarks.open_loop import OpenLoop
from streamproc_benchmarks.pinning import pin
from streamproc_benchmarks.processes import announce
from streamproc_benchmarks.server import redis_version
from streamproc_benchmarks.sockets import socket_directory
from streamproc_benchmarks.stage import Stage, StageError, beside, open_stage

__all__ = ["EVENTS", "EventName", "Round", "RoundDone", "RoundSpec"]

EventName = Literal["kill", "stop", "redis", "split", "merge"]
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)

_KEYS: Final = 1_000
_SAMPLE_S: Final = 0.05
_LOOK_S: Final = 0.2
_START_S: Final = 60.0
_USE: Final = "streamproc_benchmarks.effects:EffectsProcessor"


class RoundSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to disturb, and how.

    Attributes:
        rate: records a second.
        settle: seconds of steady load before the event, which say what the level of lag is.
        limit: seconds after the event until which all must be well.
        redis_away: seconds that Redis stays away between its kill and its restart.
        result: the file to write the `Round` to, as MessagePack.
        settings: dotted settings of the workers that differ from the defaults.
    """

    event: EventName
    rate: float
    shards: int
    workers: int
    seed: int
    settle: float
    limit: float
    redis_away: float
    load_core: int | None
    worker_core: int | None
    result: str
    settings: dict[str, Any] = {}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What happened.

    Attributes:
        shards: the shards that the event concerned.
        took_s: seconds that the event itself took: until the worker was gone, or Redis was back.
        at, lag: the samples, times in seconds from the event.
        sent: records a second that the generator sent.
        redelivered: records that workers met again after they were committed, and left out.
    """

    redis_server: str
    shards: list[str]
    took_s: float
    recovered: Recovered
    effects: Effects
    redelivered: int
    sent: float
    at: list[float]
    lag: list[int]


class RoundDone(msgspec.Struct, frozen=True):
    """The line that tells the parent that the result is written."""

    event: EventName


class _Event(msgspec.Struct, kw_only=True):
    """What an event is: the shards that it concerns, and when it began and was through."""

    shards: list[str]
    new_owner: bool
    began: float
    through: float
    resumes: bool = False

    def judged(self, samples: list[Sample]) -> Recovered | None:
        return recovery(
            samples,
            self.began,
            self.shards,
            new_owner=self.new_owner,
            resumed_at=self.through if self.resumes else None,
        )

    def require_within(self, limit: float, stage: Stage) -> None:
        """Give up once it has been longer than `limit` seconds.

        Raises:
            StageError: it has.
        """
        if time.monotonic() - self.began > limit:
            logs = "\n".join(worker.process.tail() for worker in stage.workers)
            raise StageError(f"lag was not back within {limit:g} s of the event\n{logs}")


async def _end_one(stage: Stage, how: signal.Signals) -> _Event:
    victim = stage.workers[0]
    shards, began = await victim.shards(), time.monotonic()
    await stage.end_worker(victim, how)
    return _Event(shards=shards, new_owner=True, began=began, through=time.monotonic())


async def _kill(stage: Stage, spec: RoundSpec) -> _Event:
    return await _end_one(stage, signal.SIGKILL)


async def _stop(stage: Stage, spec: RoundSpec) -> _Event:
    return await _end_one(stage, signal.SIGTERM)


async def _restart_redis(stage: Stage, spec: RoundSpec) -> _Event:
    shards, began = stage.open_shards(), time.monotonic()
    await stage.store.kill()
    await asyncio.sleep(spec.redis_away)
    await stage.store.restart()
    through = time.monotonic()
    return _Event(shards=shards, new_owner=False, began=began, through=through, resumes=True)


async def _split(stage: Stage, spec: RoundSpec) -> _Event:
    before, began = stage.open_shards(), time.monotonic()
    stage.split(before[0])
    return _new_shards(stage, before, began)


async def _merge(stage: Stage, spec: RoundSpec) -> _Event:
    before, began = stage.open_shards(), time.monotonic()
    stage.merge(before[0], before[1])
    return _new_shards(stage, before, began)


def _new_shards(stage: Stage, before: list[str], began: float) -> _Event:
    shards = [shard for shard in stage.open_shards() if shard not in before]
    return _Event(shards=shards, new_owner=True, began=began, through=time.monotonic())


_EVENTS: Final[dict[EventName, Callable[[Stage, RoundSpec], Awaitable[_Event]]]] = {
    "kill": _kill,
    "stop": _stop,
    "redis": _restart_redis,
    "split": _split,
    "merge": _merge,
}


async def _round(spec: RoundSpec, directory: Path) -> Round:
    steps = Steps(_KEYS, spec.seed, spec.rate)
    async with open_stage(
        directory, spec.shards, spec.worker_core, spec.settings, durable=True
    ) as stage:
        for number in range(spec.workers):
            await stage.start_worker(f"worker-{number + 1}", use=_USE)
        await stage.until_shared(_START_S)
        calm_collector()
        load = OpenLoop(stage.stream, spec.rate)
        async with beside(load.run(steps), stage.watch(_SAMPLE_S)) as wait:
            await wait(spec.settle / 2)
            # The first seconds of the load warm the workers up; they are not what is normal.
            stage.samples.clear()
            await wait(spec.settle)
            event = await _EVENTS[spec.event](stage, spec)
            while (recovered := event.judged(stage.samples)) is None:
                await wait(_LOOK_S)
                event.require_within(spec.limit, stage)
        await stage.until_caught_up(spec.limit)
        return Round(
            redis_server=await redis_version(stage.store.url),
            shards=event.shards,
            took_s=event.through - event.began,
            recovered=recovered,
            effects=await stage.effects(steps, all_of_it=True),
            redelivered=sum([await worker.counted("duplicates") for worker in stage.workers]),
            sent=load.offered().sent_rate,
            at=[sample.at - event.began for sample in stage.samples],
            lag=[sample.lag for sample in stage.samples],
        )


async def _play(spec: RoundSpec) -> None:
    with tempfile.TemporaryDirectory(
        prefix="streamproc-bench-", dir=socket_directory()
    ) as directory:
        found = await _round(spec, Path(directory))
    await asyncio.to_thread(Path(spec.result).write_bytes, msgspec.msgpack.encode(found))
    announce(RoundDone(spec.event))


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=RoundSpec)
    pin(given.load_core)
    run_loop(_play(given))
