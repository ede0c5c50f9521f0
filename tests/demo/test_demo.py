"""The command itself, as a newcomer runs it: real servers, real workers, real signals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import redis

from streamproc.testing import EmbeddedRedis
from streamproc_benchmarks.demo.workload import Workload

pytestmark = pytest.mark.process

_SHORT = ("--duration", "4", "--rate", "500", "--plain")
Demo = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[..., Demo]]:
    """Start `streamproc demo`; its end is waited for in any case."""
    started: list[Demo] = []

    def run(*arguments: str) -> Demo:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "streamproc_benchmarks.demo", *_SHORT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def read_until(process: Demo, words: str) -> str:
    """Return the output up to the line that has `words`."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"no line with {words!r} in:\n{text}")


def test_a_run_with_a_kill_and_a_split_is_verified(start: Callable[..., Demo]) -> None:
    demo = start("--seed", "11")

    output, _ = demo.communicate(timeout=90)

    assert demo.returncode == 0, output
    assert "nothing lost, nothing twice" in output
    assert output.count("✓") == 9
    split = re.search(r"shard (\d+) is split into shard 4 and shard 5", output)
    assert split is not None
    assert f"shard {split[1]} is read to its end; shard 4 and shard 5 go on" in output
    killed = re.search(r"KILLED (worker-\d) \(SIGKILL, pid (\d+)\) with shard", output)
    assert killed is not None
    assert "take-over: all of them have a new owner" in output
    # Both took part: what the dead one committed is there, and was not committed again.
    counted = re.search(r"([\d,]+) by worker-1 \+ ([\d,]+) by worker-2 = ([\d,]+)", output)
    assert counted is not None
    one, two, all_records = (int(number.replace(",", "")) for number in counted.groups())
    assert one > 0 < two
    workload = Workload(11, 2_000)
    assert one + two == all_records == len(workload.opening()) + workload.size
    assert re.search(r"precision \S+, recall \S+: \d+ of \d+ alerts", output)
    with pytest.raises(ProcessLookupError):
        os.kill(int(killed[2]), 0)


@pytest.mark.parametrize("stage", ["two workers start", "the shop opens", "KILLED worker-"])
def test_an_interrupt_ends_everything(start: Callable[..., Demo], stage: str) -> None:
    demo = start()
    text = read_until(demo, stage)
    endpoint = re.search(r"http://\S+?:\d+", text)
    pids = re.search(r"pid (\d+) and (\d+)", text)
    assert endpoint is not None
    assert pids is not None

    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)

    assert demo.returncode == 130
    for pid in pids.groups():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    address = urlsplit(endpoint[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)


def test_a_worker_that_dies_unasked_ends_the_run_with_its_log(start: Callable[..., Demo]) -> None:
    demo = start()
    pids = re.search(r"pid (\d+) and", read_until(demo, "two workers start"))
    assert pids is not None
    read_until(demo, "they share 4 shards")

    os.kill(int(pids[1]), signal.SIGKILL)
    output, _ = demo.communicate(timeout=30)

    assert demo.returncode == 1
    assert "worker-1 ended by itself with SIGKILL; the end of its log" in output
    left = re.search(r"the logs are left in (\S+)", output)
    assert left is not None
    assert "worker-1.log" in os.listdir(left[1])
    shutil.rmtree(left[1])


async def test_a_given_redis_is_used_and_left_as_it_was(start: Callable[..., Demo]) -> None:
    async with EmbeddedRedis() as server, redis.asyncio.Redis.from_url(server.url) as client:
        await client.set("mine", "1")

        output, _ = start("--redis-url", server.url).communicate(timeout=90)

        assert "nothing lost, nothing twice" in output
        assert await client.keys("*") == [b"mine"]


async def test_a_redis_that_knows_the_group_is_refused(start: Callable[..., Demo]) -> None:
    async with EmbeddedRedis() as server, redis.asyncio.Redis.from_url(server.url) as client:
        await client.set("sp:{demo}:pos", "mine")

        demo = start("--redis-url", server.url)
        output, _ = demo.communicate(timeout=30)

        assert demo.returncode == 2
        assert "1 keys of the group 'demo'" in output
        assert await client.keys("*") == [b"sp:{demo}:pos"]
