"""Gathers the facts and has them judged, one part after the other; nothing stops the rest."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from streamproc.config import Config, require
from streamproc.doctor.finding import Finding
from streamproc.doctor.kinesis_checks import check_endpoint_clock, check_kinesis
from streamproc.doctor.redis_checks import check_server, check_transport
from streamproc.doctor.redis_facts import read_facts, try_script
from streamproc.errors import ConfigError, LeaseStoreError, ProcessorError, StreamError
from streamproc.kinesis.client import open_kinesis
from streamproc.leases.stores import open_store, store_options
from streamproc.pipeline.routes import Routes
from streamproc.plugins import load_processors
from streamproc.redis_client import TimedRedis, connect_redis
from streamproc.state.keys import Keys

__all__ = ["examine"]


async def examine(config: Config) -> AsyncIterator[Finding]:
    """Yield a finding for each check; none of them raises for what it is there to find."""
    yield _check_config(config)
    yield _check_processors(config)
    async for finding in _check_kinesis(config):
        yield finding
    async for finding in _check_redis(config):
        yield finding
    yield await _check_leases(config)


def _check_config(config: Config) -> Finding:
    try:
        require(config)
    except ConfigError as error:
        return Finding("config", "fail", str(error))
    return Finding("config", "ok", f"group {config.group}, stream {config.stream.name}")


def _check_processors(config: Config) -> Finding:
    try:
        processors = load_processors(config.processors)
        keys = [Keys(config.group or "any", p) for p in range(config.redis.partitions)]
        Routes(processors, keys)
    except (ConfigError, ProcessorError) as error:
        return Finding("processors", "fail", str(error))
    return Finding("processors", "ok", ", ".join(processor.name for processor in processors))


async def _check_kinesis(config: Config) -> AsyncIterator[Finding]:
    if not config.stream.name:
        return  # the configuration's finding says so
    try:
        async with open_kinesis(config.stream, config.read) as kinesis:
            async for finding in check_kinesis(kinesis, config):
                yield finding
            yield await check_endpoint_clock(kinesis.target.endpoint_url, time.time)
    except (ConfigError, StreamError) as error:
        yield Finding("kinesis", "fail", str(error))


async def _check_redis(config: Config) -> AsyncIterator[Finding]:
    try:
        client = connect_redis(config.redis.url, config.redis.timeout, cluster=config.redis.cluster)
    except ConfigError as error:
        yield Finding("redis", "fail", str(error))
        return
    async with client:
        yield check_transport(config.redis)
        try:
            servers = await read_facts(client)
        except (RedisError, OSError) as error:
            yield Finding("redis", "fail", f"{_named(error)}; check redis.url, network and login")
            return
        for facts in servers:
            for finding in check_server(facts, config.redis):
                yield finding
        if all(facts.is_primary for facts in servers):
            yield await _check_scripts(client, config)


async def _check_scripts(client: TimedRedis, config: Config) -> Finding:
    keys = Keys(config.group or "any")
    try:
        await try_script(client, keys.prefix)
    except (RedisError, OSError) as error:
        return Finding(
            "redis scripts",
            "fail",
            f"{_named(error)}; the user needs EVAL and EVALSHA, and in them reads and writes of "
            f"all types below {keys.prefix}*",
        )
    return Finding("redis scripts", "ok", "permitted, with all that they do")


async def _check_leases(config: Config) -> Finding:
    name = config.leases.store
    options = store_options(config)
    if name == "dynamodb":
        options["create_table"] = False  # looking is not beginning
    try:
        store = await open_store(name, config.group or "any", options)
        try:
            count = len(await store.list())
        finally:
            await store.aclose()
    except (ConfigError, LeaseStoreError) as error:
        return Finding("lease store", "fail", str(error))
    return Finding("lease store", "ok", f"{name}: {count} leases")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
