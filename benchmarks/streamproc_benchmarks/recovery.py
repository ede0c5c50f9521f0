"""How a group of workers gets over a crash, a stop, a Redis restart, a reshard: lag over time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from streamproc_benchmarks.charts import Chart, LineChart, Moment
from streamproc_benchmarks.environment import Environment, read_environment
from streamproc_benchmarks.figures import Bar, Figure
from streamproc_benchmarks.pinning import choose_cores
from streamproc_benchmarks.processes import start_child
from streamproc_benchmarks.recovery_round import EventName, Round, RoundDone, RoundSpec
from streamproc_benchmarks.rounds import Say
from streamproc_benchmarks.statistics import spread
from streamproc_benchmarks.tables import new_table, show_spread
from streamproc_benchmarks.verification import CountsWrong

__all__ = [
    "Recovery",
    "RecoveryPlan",
    "RecoveryRound",
    "checked",
    "measure_recovery",
    "print_recovery",
]

_START_S: Final = 180.0
_SENT_SHARE: Final = 0.98
_TITLES: Final[dict[EventName, str]] = {
    "kill": "kill -9 of a worker",
    "stop": "SIGTERM to a worker",
    "redis": "kill -9 and restart of Redis",
    "split": "split of a shard",
    "merge": "merge of two shards",
}


class RecoveryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to disturb how often, under which load.

    Attributes:
        rate: records a second, over all shards.
        settle: seconds of steady load before the event.
        limit: seconds after which a round that did not recover is given up.
        redis_away: seconds that Redis stays away between its kill and its restart.
        settings: dotted settings of the workers that differ from the defaults.
    """

    events: Sequence[EventName]
    rate: float
    shards: int
    workers: int
    rounds: int
    seed: int
    settle: float
    limit: float
    redis_away: float
    settings: dict[str, Any] = {}


class RecoveryRound(msgspec.Struct, frozen=True, kw_only=True):
    """One event under a steady load; times in seconds from it.

    Attributes:
        affected: the shards of the worker that ended, all of them, or the new ones of a reshard.
        took_s: until the worker was gone, or Redis answered again.
        first_commit_s: until the last of the affected shards had a commit again, by its new owner.
        back_s: until lag was back: over any second at most half above `level` in the mean.
        level, peak: records of lag, the mean before and the most after.
        published, took_effect, lost, duplicated, reordered: counts of records, by their effects.
        redelivered: records that came again after they had taken effect, and were left out.
        sent: records a second that the generator sent.
        at, lag: records published and not committed, about every 50 ms; before the event the times
            are negative.
    """

    affected: list[str]
    took_s: float
    first_commit_s: float
    back_s: float
    level: float
    peak: int
    published: int
    took_effect: int
    lost: int
    duplicated: int
    reordered: int
    redelivered: int
    sent: float
    at: list[float]
    lag: list[int]


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """Every round of every event; `settings` are those that differ from a worker's defaults."""

    rate: float
    shards: int
    workers: int
    settings: dict[str, Any]
    rounds: dict[EventName, list[RecoveryRound]]

    def figures(self) -> list[Figure]:
        """Times until the first commit and until lag is back, by event."""
        return [
            Figure(
                name=f"recovery.{event}.{field}",
                unit="s",
                better="less",
                values=[getattr(one, field) for one in rounds],
                caveat=self._behind(rounds),
            )
            for event, rounds in self.rounds.items()
            for field in ("first_commit_s", "back_s")
        ]

    def bars(self) -> list[Bar]:
        """Return none: no time was set as a bar, and wrong effects are an error."""
        return []

    def charts(self) -> list[Chart]:
        """Draw lag around each event, every round a line."""
        return [
            LineChart(
                title=f"Lag around: {_TITLES[event]}",
                x="seconds from the event",
                unit="records",
                lines={
                    f"round {number}": list(zip(one.at, map(float, one.lag), strict=True))
                    for number, one in enumerate(rounds, 1)
                },
                moments=[
                    Moment(0.0, _TITLES[event]),
                    Moment(_median(rounds, "first_commit_s"), "first commit"),
                    Moment(_median(rounds, "back_s"), "lag is back"),
                ],
                limits={"mean before": _median(rounds, "level")},
            )
            for event, rounds in self.rounds.items()
        ]

    def caveats(self) -> list[str]:
        """Say where the load was not what it was to be."""
        return [
            f"{_TITLES[event]}: {note}"
            for event, rounds in self.rounds.items()
            if (note := self._behind(rounds))
        ]

    def _behind(self, rounds: Sequence[RecoveryRound]) -> str:
        least = min(one.sent for one in rounds)
        if least >= _SENT_SHARE * self.rate:
            return ""
        return f"of the offered {self.rate:,.0f}/s only {least:,.0f}/s were sent in a round"


async def measure_recovery(plan: RecoveryPlan, say: Say) -> tuple[Environment, Recovery]:
    """Let each event happen once in every round, each time to fresh servers and workers.

    Raises:
        CountsWrong: a record's effect was lost, doubled or reordered.
        ChildFailed: lag did not come back within the limit.
    """
    cores = choose_cores()
    rounds: dict[EventName, list[RecoveryRound]] = {event: [] for event in plan.events}
    server = ""
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as directory:
        for number in range(1, plan.rounds + 1):
            for event in plan.events:
                say(f"recovery, round {number} of {plan.rounds}: {_TITLES[event]}")
                spec = RoundSpec(
                    event=event,
                    rate=plan.rate,
                    shards=plan.shards,
                    workers=plan.workers,
                    seed=plan.seed + number,
                    settle=plan.settle,
                    limit=plan.limit,
                    redis_away=plan.redis_away,
                    load_core=cores.load,
                    worker_core=cores.consumer,
                    result=str(Path(directory) / f"{event}-{number}"),
                    settings=plan.settings,
                )
                played = await _play(spec)
                server = played.redis_server
                rounds[event].append(checked(event, played))
    environment = read_environment(redis_server=server, pinning=cores.note)
    return environment, Recovery(
        rate=plan.rate,
        shards=plan.shards,
        workers=plan.workers,
        settings=plan.settings,
        rounds=rounds,
    )


def print_recovery(found: Recovery, console: Console) -> None:
    """Print one row an event."""
    everything = [one for rounds in found.rounds.values() for one in rounds]
    table = new_table(
        f"Recovery: {found.workers} workers, {found.shards} shards, "
        f"{len(next(iter(found.rounds.values())))} rounds; offered {found.rate:,.0f} records/s, "
        f"sent {min(one.sent for one in everything):,.0f}/s at least",
        ("first commit, s", "lag is back, s", "lag before", "peak lag", "came again"),
        subject="event",
    )
    for event, rounds in found.rounds.items():
        table.add_row(
            _TITLES[event],
            show_spread([one.first_commit_s for one in rounds], ".2f"),
            show_spread([one.back_s for one in rounds], ".2f"),
            show_spread([one.level for one in rounds], ",.0f"),
            show_spread([one.peak for one in rounds], ",.0f"),
            show_spread([one.redelivered for one in rounds], ",.0f"),
        )
    console.print(table)
    published = sum(one.published for one in everything)
    took = [one.took_s for one in found.rounds.get("redis", ())]
    away = f" Redis was away for {spread(took).median:.2f} s." if took else ""
    console.print(
        "Medians over rounds, below them least-greatest. First commit: until every shard that the "
        "event concerns had a commit again. Lag, in records, is back once its mean over any second "
        "is at most half above the mean before. Came again: records delivered anew after their "
        f"commit, and left out.{away}"
    )
    console.print(
        f"Effects of {published:,} records, read from the states afterwards: none lost, none "
        "doubled, none out of its key's order."
    )


async def _play(spec: RoundSpec) -> Round:
    async with start_child("recovery_round", spec) as child:
        line = await child.line(_START_S + 2 * spec.settle + 2 * spec.limit)
    msgspec.json.decode(line, type=RoundDone)
    written = await asyncio.to_thread(Path(spec.result).read_bytes)
    return msgspec.msgpack.decode(written, type=Round)


def checked(event: EventName, played: Round) -> RecoveryRound:
    """Return the account of a round whose effects are right.

    Raises:
        CountsWrong: they are not.
    """
    effects, recovered = played.effects, played.recovered
    if not effects.is_clean:
        raise CountsWrong(
            f"{_TITLES[event]}: of {effects.published} records {effects.took_effect} took effect; "
            f"{effects.lost} lost, {effects.duplicated} duplicated, {effects.reordered} "
            "reordered; no figure is shown"
        )
    return RecoveryRound(
        affected=played.shards,
        took_s=played.took_s,
        first_commit_s=recovered.first_commit_s,
        back_s=recovered.back_s,
        level=recovered.level,
        peak=recovered.peak,
        published=effects.published,
        took_effect=effects.took_effect,
        lost=effects.lost,
        duplicated=effects.duplicated,
        reordered=effects.reordered,
        redelivered=played.redelivered,
        sent=played.sent,
        at=played.at,
        lag=played.lag,
    )


def _median(rounds: Sequence[RecoveryRound], field: str) -> float:
    return spread([float(getattr(one, field)) for one in rounds]).median
