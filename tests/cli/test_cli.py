"""The command line as an operator meets it: real processes, exit codes, and what they print."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamproc.cores import usable_cores
from streamproc.testing import EmbeddedRedis, LocalKinesis

COMMAND = [sys.executable, "-m", "streamproc.cli.main"]


def streamproc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("STREAMPROC_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env={**environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def run(
    cwd: Path, kinesis: LocalKinesis, redis_url: str, *more: str
) -> subprocess.CompletedProcess[str]:
    """Run a worker of the stream `payments`, which is not there, to its end."""
    return await asyncio.to_thread(
        streamproc,
        "run",
        *("-s", "group=g", "-s", "stream.name=payments", "-s", "stream.region=us-east-1"),
        *("-s", f"stream.endpoint_url={kinesis.endpoint_url}"),
        *("-s", f"redis.url={redis_url}", "-s", "processors.fraud={}", *more),
        cwd=cwd,
    )


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the one sentence of a command that refused to work."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("streamproc: ")
    return line


def test_help_lists_the_commands_and_those_of_plugins(tmp_path: Path) -> None:
    done = streamproc("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("run", "local", "config", "demo", "bench"):
        assert re.search(rf"^\W*{command}\b", done.stdout, re.MULTILINE), command


def test_a_command_imports_its_own_part_only(tmp_path: Path) -> None:
    program = """
import sys
from streamproc.cli.main import app
app(["config", "show"], standalone_mode=False)
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    imported = set(done.stderr.split())
    assert "streamproc.cli.config" in imported
    assert not imported & {"aiobotocore", "aiohttp", "streamproc_benchmarks", "streamproc_fraud"}


def test_config_init_writes_a_file_that_run_understands(tmp_path: Path) -> None:
    assert streamproc("config", "init", cwd=tmp_path).returncode == 0
    shown = streamproc("config", "show", "--origin", cwd=tmp_path)
    assert re.search(r'group +"my-group" +streamproc\.toml', shown.stdout)
    assert "left alone" in refused(streamproc("config", "init", cwd=tmp_path), 2)


def test_config_show_hides_the_password(tmp_path: Path) -> None:
    settings = ["redis.url=redis://u:secret@h/0", "leases.options.url=redis://:secret@other/0"]
    flags = [part for setting in settings for part in ("--set", setting)]
    shown = streamproc("config", "show", *flags, cwd=tmp_path)
    assert "secret" not in shown.stdout
    assert "h/0" in shown.stdout
    assert "other/0" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.toml"], "no configuration file missing.toml"),
        (["--set", "redis.ulr=x"], "did you mean redis.url?"),
        (["--set", "redis.url"], "write key=value"),
        ([], "group is not set"),
        (["--set", "group=g", "--set", "stream.name=s"], "no processor is configured"),
        (
            ["-s", "group=g", "-s", "stream.name=s", "-s", "processors.frod={}"],
            "did you mean 'fraud'?",
        ),
        (
            ["-s", "group=g", "-s", "stream.name=s", "-s", "processors.fraud.nonsense=1"],
            "settings it takes: ",
        ),
        (
            ["-s", "group=g", "-s", "stream.name=s", "-s", "processors.x.use=nowhere:X"],
            "nowhere:X cannot be imported",
        ),
    ],
)
def test_run_refuses_a_mistake_in_one_sentence(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(streamproc("run", *arguments, cwd=tmp_path), 2)


async def test_run_tells_that_the_stream_does_not_exist(
    tmp_path: Path, local_kinesis: LocalKinesis, redis_url: str
) -> None:
    done = await run(tmp_path, local_kinesis, redis_url, "--port", "0")
    message = refused(done, 1)
    assert "payments" in message
    assert local_kinesis.endpoint_url in message


async def test_run_says_how_many_processes_auto_is_and_why(
    tmp_path: Path, local_kinesis: LocalKinesis, redis_url: str
) -> None:
    # Refused in the end, whatever that number is: one process finds no stream, and several are
    # too many for leases in memory.
    more = ("--port", "0", "-s", "leases.store=memory", "--processes", "auto")
    done = await run(tmp_path, local_kinesis, redis_url, *more)
    assert done.returncode != 0
    cores = usable_cores()
    assert f"worker.processes = auto: {cores.count}, since {cores.why}" in done.stderr


def test_run_refuses_a_number_of_processes_that_is_none(tmp_path: Path) -> None:
    arguments = ("-s", "group=g", "-s", "stream.name=s", "--processes", "many")
    assert "worker.processes" in refused(streamproc("run", *arguments, cwd=tmp_path), 2)


async def test_a_taken_port_is_told(
    tmp_path: Path, local_kinesis: LocalKinesis, redis_url: str
) -> None:
    done = await run(tmp_path, local_kinesis, redis_url, "--port", str(local_kinesis.port))
    assert "is taken by another process" in refused(done, 2)


def test_local_says_what_to_do_about_a_port_that_is_taken(
    tmp_path: Path, embedded_redis: EmbeddedRedis
) -> None:
    done = streamproc("local", "--redis-port", str(embedded_redis.port), cwd=tmp_path)
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert "name a free one, or 0 for any" in done.stderr


def test_local_refuses_a_name_that_no_stream_can_have(tmp_path: Path) -> None:
    arguments = ("local", "--port", "0", "--redis-port", "0", "--stream", "pay ments")
    assert "--stream 'pay ments'" in refused(streamproc(*arguments, cwd=tmp_path), 2)


async def test_local_serves_until_interrupted_and_leaves_nothing(
    tmp_path: Path, embedded_redis: EmbeddedRedis
) -> None:
    import redis.asyncio

    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("local", "--port", "0", "--redis-port", "0", "--stream", "payments", "--shards", "3"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    endpoints: dict[str, str] = {}
    async with asyncio.timeout(30):
        while "stream" not in endpoints:
            line = (await process.stdout.readline()).decode()
            assert line, "it ended before it was ready"
            name, _, value = line.strip().partition(" ")
            endpoints[name] = value.strip()
    async with redis.asyncio.Redis.from_url(endpoints["redis"]) as client:
        assert await client.ping()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.ping()
    assert endpoints["redis"] != embedded_redis.url
