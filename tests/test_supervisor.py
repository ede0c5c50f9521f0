"""The supervisor with real processes and real signals."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamproc import supervisor as supervisor_module
from streamproc.config import Config
from streamproc.errors import ConfigError
from streamproc.observability.fleet import _get
from streamproc.settings import load_config
from streamproc.supervisor import Patience, Supervisor
from streamproc.testing import LocalKinesis
from tests.waiting import until
from tests.worker.group import Group
from tests.worker.process import WorkerProcess

pytestmark = pytest.mark.process

FAKE_WORKER = Path(__file__).parent / "fake_worker.py"
HASTY = {"settled": 30.0, "attempts": 3, "least": 0.01, "most": 0.01}
# The supervisor as `streamproc run` has it: a process of its own, in the same kind of loop.
PARENT = """
import json, sys
from streamproc.cli.loop import run_loop
from streamproc.settings import load_config
from streamproc.supervisor import supervise
config = load_config(None, {}, json.loads(sys.argv[1]))
sys.exit(run_loop(supervise(config, sys.argv[2:])))
"""


class Workers:
    """What the fake workers are to do, and what they did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "group": "payments",
            "stream.name": "orders",
            "worker.processes": 2,
            "worker.drain_timeout": 3_600,
            "http.socket": str(folder / "http"),
        }

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(FAKE_WORKER), str(self.folder)]

    def config(self, **settings: Any) -> Config:
        given = {key.replace("__", "."): value for key, value in settings.items()}
        return load_config(None, {}, self.settings | given)

    def tell(self, name: str, text: object = "") -> None:
        (self.folder / name).write_text(str(text))

    def lines(self, name: str) -> list[list[str]]:
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    @asynccontextmanager
    async def supervised(
        self, patience: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[asyncio.Task[int]]:
        """Run a supervisor in this process until the block ends."""
        config = self.config(**settings)
        supervisor = Supervisor(config, self.command, Patience(**(patience or HASTY)))
        task = asyncio.create_task(supervisor.run())
        try:
            yield task
            async with asyncio.timeout(20):
                await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def started(self, count: int = 2) -> None:
        await until(lambda: len(self.lines("started")) >= count)

    def alive(self) -> list[int]:
        found = []
        for _, pid, *_ in self.lines("started"):
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                continue
            found.append(int(pid))
        return found


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


async def test_each_worker_has_a_socket_and_a_name_of_its_own(workers: Workers) -> None:
    async with workers.supervised(worker__id="host", worker__processes=3):
        await workers.started(3)
        os.kill(os.getpid(), signal.SIGTERM)
    lines = sorted(workers.lines("started"))
    assert [number for number, *_ in lines] == ["0", "1", "2"]
    for number, _, *flags in lines:
        assert "worker.processes=1" in flags
        assert f"worker.id=host-{number}" in flags
    assert len({flag for _, _, *flags in lines for flag in flags if "socket" in flag}) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_all_workers(workers: Workers, number: signal.Signals) -> None:
    async with workers.supervised() as task:
        await workers.started()
        os.kill(os.getpid(), number)
    assert task.result() == 0
    assert sorted(n for n, *_ in workers.lines("drained")) == ["0", "1"]
    assert workers.alive() == []


async def test_a_worker_that_ends_badly_when_drained_gives_its_code(workers: Workers) -> None:
    workers.tell("exit", 7)
    async with workers.supervised() as task:
        await workers.started()
        os.kill(os.getpid(), signal.SIGTERM)
    assert task.result() == 7


async def test_a_second_signal_kills_at_once(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    workers.tell("stubborn")
    async with workers.supervised() as task:
        await workers.started()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "all workers drain" in caplog.text)
        os.kill(os.getpid(), signal.SIGINT)
    assert task.result() == 128 + signal.SIGINT
    assert workers.lines("drained") == []
    assert workers.alive() == []


async def test_a_worker_that_does_not_drain_in_time_is_killed(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_KILL_GRACE_S", 0.05)
    workers.tell("stubborn")
    async with workers.supervised(worker__drain_timeout=0.05) as task:
        await workers.started()
        os.kill(os.getpid(), signal.SIGTERM)
    assert task.result() == 128 + signal.SIGKILL
    assert workers.alive() == []


async def test_a_worker_that_dies_is_started_again_and_the_others_go_on(workers: Workers) -> None:
    async with workers.supervised() as task:
        await workers.started()
        before = {number: pid for number, pid, *_ in workers.lines("started")}
        os.kill(int(before["0"]), signal.SIGKILL)
        await workers.started(3)
        number, pid, *_ = workers.lines("started")[2]
        assert number == "0"
        answer = await _get(str(workers.folder / "http"), "/status")
        assert answer is not None
        processes = orjson.loads(answer[1])["processes"]
        assert [process["restarts"] for process in processes] == [1, 0]
        assert [process["pid"] for process in processes] == [int(pid), int(before["1"])]
        os.kill(os.getpid(), signal.SIGTERM)
    assert task.result() == 0
    assert sorted(pid for _, pid, *_ in workers.lines("drained")) == sorted([pid, before["1"]])


async def test_workers_that_die_again_and_again_end_the_supervisor_with_their_code(
    workers: Workers,
) -> None:
    workers.tell("die-0", 3)
    async with workers.supervised() as task:
        pass
    assert task.result() == 3
    assert [number for number, *_ in workers.lines("started")].count("0") == HASTY["attempts"]
    assert workers.alive() == []


async def test_a_worker_that_ends_well_unasked_is_no_success(workers: Workers) -> None:
    workers.tell("die", 0)
    async with workers.supervised() as task:
        pass
    assert task.result() == 1


async def test_deaths_of_workers_that_had_settled_do_not_add_up(workers: Workers) -> None:
    workers.tell("die-0", 3)
    async with workers.supervised(HASTY | {"settled": 0.0}) as task:
        await until(lambda: [n for n, *_ in workers.lines("started")].count("0") > 5)
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(workers.lines("drained")) >= 1
    assert task.done()


async def test_a_stop_does_not_wait_for_a_restart(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.tell("die-0", 3)
    async with workers.supervised(HASTY | {"least": 3_600.0, "most": 3_600.0}) as task:
        await workers.started()
        await until(lambda: "died with code 3; starting it again" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)
    assert task.result() == 0
    assert len(workers.lines("started")) == 2


async def test_a_worker_that_is_just_being_started_is_stopped_too(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    create = asyncio.create_subprocess_exec

    async def interrupted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await create(*command, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "all workers drain" in caplog.text)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", create)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", interrupted)
    async with workers.supervised(worker__processes=1) as task:
        pass
    # It got the signal before it had a handler, so that ended it: with nothing in hand.
    assert task.result() == 0
    assert workers.lines("started") == []


async def test_a_signal_from_the_terminal_does_not_reach_the_workers(workers: Workers) -> None:
    # They would take it for the first and the supervisor's for the second, and exit at once.
    async with workers.supervised():
        await workers.started()
        groups = {os.getpgid(pid) for pid in workers.alive()}
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(groups) == 2
    assert os.getpgrp() not in groups


async def test_no_worker_is_left_when_the_supervisor_is_cut_off(workers: Workers) -> None:
    async with workers.supervised() as task:
        await workers.started()
        task.cancel()
    assert workers.alive() == []


async def test_a_port_in_use_is_told_before_any_worker_is_started(workers: Workers) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"http.socket": None, "http.port": taken.getsockname()[1]}
        workers.settings = {k: v for k, v in (workers.settings | settings).items() if v is not None}
        with pytest.raises(ConfigError, match="is taken"):
            await Supervisor(workers.config(), workers.command).run()
    assert workers.lines("started") == []


async def run_parent(workers: Workers) -> asyncio.subprocess.Process:
    """Start a supervisor process whose output, and its workers', ends when all have ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        json.dumps(workers.settings),
        *workers.command,
        stdout=asyncio.subprocess.PIPE,
    )
    await workers.started()
    return process


async def all_gone(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.read() == b""
        await process.wait()


async def test_as_a_process_of_its_own_it_drains_and_exits_with_0(workers: Workers) -> None:
    process = await run_parent(workers)
    process.send_signal(signal.SIGTERM)
    await all_gone(process)
    assert process.returncode == 0
    assert len(workers.lines("drained")) == 2


@pytest.mark.parametrize("stubborn", [False, True])
async def test_workers_end_when_the_supervisor_is_killed(workers: Workers, stubborn: bool) -> None:
    if stubborn:
        workers.tell("stubborn")
    process = await run_parent(workers)
    process.send_signal(signal.SIGKILL)
    await all_gone(process)
    assert len(workers.lines("drained")) == (0 if stubborn else 2)


async def test_real_workers_share_the_shards_survive_a_crash_and_stop_cleanly(
    local_kinesis: LocalKinesis, redis_url: str, tmp_path: Path
) -> None:
    accounts = [f"account-{n}" for n in range(7)]
    async with Group(local_kinesis, redis_url, shards=2) as group:
        supervisor = WorkerProcess(group, tmp_path, "host", worker__processes=2)

        async def shards() -> list[int]:
            status = await supervisor.status()
            return sorted(
                len(worker["shards"]) for worker in (status or {"workers": []})["workers"]
            )

        async def one_each() -> bool:
            return await shards() == [1, 1]

        try:
            await supervisor.start()
            await group.until(one_each)
            group.publish_entries(range(50), accounts)
            await group.until_booked(dict.fromkeys(accounts, 50))
            status = await supervisor.status()
            assert status is not None
            os.kill(status["processes"][0]["pid"], signal.SIGKILL)
            group.publish_entries(range(50, 100), accounts)
            await group.until_booked(dict.fromkeys(accounts, 100))
            await group.until(one_each)
            supervisor.signal(signal.SIGTERM)
            assert await supervisor.exit_code() == 0, supervisor.log.read_text()
        finally:
            await supervisor.aclose()
        for account in accounts:
            assert await group.numbers(account) == list(range(100))
        leases = await group.redis.hvals(f"sp:{{{group.name}}}:leases")  # type: ignore[misc]
        assert len(leases) == 2
        assert not any(b'"owner"' in lease for lease in leases)


def test_restarts_wait_ever_longer_up_to_a_bound_and_never_all_alike() -> None:
    patience, rng = Patience(least=0.5, most=30.0), random.Random(1)
    for deaths, full in ((1, 0.5), (2, 1.0), (4, 4.0), (20, 30.0)):
        delays = [patience.delay(deaths, rng) for _ in range(50)]
        assert full / 2 <= min(delays) < max(delays) <= full
        assert len(set(delays)) > 40
