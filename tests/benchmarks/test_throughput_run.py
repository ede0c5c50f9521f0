"""Who takes turns with whom, and what becomes of a peer that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from streamproc_benchmarks.load import Published
from streamproc_benchmarks.measurement import Mark
from streamproc_benchmarks.peers.installation import Installer, Prepared, Unavailable
from streamproc_benchmarks.processes import ChildFailed
from streamproc_benchmarks.progress import Consumed, DoneBatch
from streamproc_benchmarks.runs import Bench
from streamproc_benchmarks.throughput_run import ThroughputPlan, measure_throughput
from streamproc_benchmarks.verification import CountsWrong

PUBLISHED = Published(shards={"s": ["1", "2", "3"]}, mean_bytes=405.0)


class FakeInstaller:
    """Has async-kinesis, and no Java."""

    async def prepare(self, peer: str) -> Prepared:
        if peer == "kcl":
            raise Unavailable("java is not on PATH")
        return Prepared(peer="async-kinesis", command=["python"], described="async-kinesis 3.0.1")


class Running:
    """A consumer with two turns."""

    def __init__(self, took_turn: Callable[[], None], sequences: list[str]) -> None:
        self._took_turn = took_turn
        self._sequences = sequences
        self._left = 2

    async def take_turn(self) -> bool:
        self._took_turn()
        self._left -= 1
        return self._left > 0

    async def finish(self) -> Consumed:
        return Consumed(
            started=Mark(at=0.0, own=0.0, delayed=None, server=None, redis=None),
            ended=Mark(at=1.0, own=0.5, delayed=None, server=None, redis=None),
            records=len(self._sequences),
            batches=[DoneBatch("s", 0.5, self._sequences)],
            counters={},
        )


class FakeBench:
    """Runs consumers that do what `does` says: sequence numbers, or an error."""

    def __init__(self, **does: list[str] | Exception) -> None:
        self.peers: dict[str, Prepared] = {}
        self.ran: list[str] = []
        self.windows: dict[str, tuple[float, int | None]] = {}
        self._does = does

    async def load(self, stream: str, workload: str, count: int, seed: int) -> Published:
        return PUBLISHED

    @asynccontextmanager
    async def consumer(
        self, consumer: str, stream: str, expected: int, *, margin: float, turn: int | None
    ) -> AsyncIterator[Running]:
        self.windows[consumer] = (margin, turn)
        does = self._does.get(consumer.replace("-", "_"), ["1", "2", "3"])
        if isinstance(does, Exception):
            raise does
        yield Running(lambda: self.ran.append(consumer), does)


PLAN = ThroughputPlan(
    consumers=["typed", "noop"],
    against=["async-kinesis", "kcl"],
    records=3,
    rounds=2,
    shards=1,
    seed=1,
)


async def measured(bench: FakeBench, said: list[str] | None = None) -> Any:
    return await measure_throughput(
        dict.fromkeys(PLAN.names, cast("Bench", bench)),
        PLAN,
        (said if said is not None else []).append,
        cast("Installer", FakeInstaller()),
    )


async def test_peers_take_turns_with_the_consumers_and_the_missing_are_named() -> None:
    bench = FakeBench()
    found = await measured(bench)
    turns = ["typed", "noop", "async-kinesis"] * 2
    assert bench.ran == turns * 2, "two turns in each of two rounds"
    assert set(bench.windows.values()) == {(0.2, 10_000)}, "the same for everybody"
    assert {name: len(rounds) for name, rounds in found.rounds.items()} == {
        "typed": 2, "noop": 2, "async-kinesis": 2,
    }  # fmt: skip
    assert found.not_run == {"kcl": "java is not on PATH"}
    assert found.peers == {"async-kinesis": "async-kinesis 3.0.1"}


async def test_a_jvm_has_all_its_records_in_one_turn() -> None:
    class WithJava:
        async def prepare(self, peer: str) -> Prepared:
            return Prepared(peer="kcl", command=["java"], described="KCL")

    bench = FakeBench()
    plan = msgspec.structs.replace(PLAN, against=["kcl"])
    await measure_throughput(
        dict.fromkeys(plan.names, cast("Bench", bench)),
        plan,
        lambda _: None,
        cast("Installer", WithJava()),
    )
    assert bench.windows["kcl"] == (0.2, None)
    assert bench.windows["noop"] == (0.2, 10_000)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (ChildFailed("ended with code 7:\n  out of memory"), "ended with code 7:\n  out of memory"),
        ([], "none lay between warm-up and end; more records are needed (--records)"),
    ],
)
async def test_a_peer_that_fails_is_left_out_and_named(
    does: list[str] | Exception, told: str
) -> None:
    bench, said = FakeBench(async_kinesis=does), list[str]()
    found = await measured(bench, said)
    assert bench.ran[-4:] == ["typed", "noop"] * 2, "it is not asked again"
    assert found.rounds.keys() == {"typed", "noop"}
    assert found.not_run["async-kinesis"].startswith("failed in round 1: ")
    assert found.not_run["async-kinesis"].endswith(" ".join(told.split()))
    assert any(told in line for line in said)


async def test_a_peers_losses_are_counted_and_ours_end_the_run() -> None:
    found = await measured(FakeBench(async_kinesis=["1", "3", "3"]))
    assert [(one.lost, one.duplicated) for one in found.rounds["async-kinesis"]] == [(1, 1)] * 2
    with pytest.raises(CountsWrong, match="noop: 3 records published, 2 consumed; 1 lost"):
        await measured(FakeBench(noop=["1", "3"]))


async def test_a_consumer_of_ours_that_fails_ends_the_run() -> None:
    with pytest.raises(ChildFailed):
        await measured(FakeBench(noop=ChildFailed("ended with code 1")))
