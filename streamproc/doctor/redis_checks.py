"""Judges what a Redis server says of itself: pure functions of facts and settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from streamproc.config import RedisConfig
from streamproc.doctor.clock import judge_clock
from streamproc.doctor.finding import Finding
from streamproc.doctor.redis_facts import RedisFacts

__all__ = ["check_server", "check_transport", "judge_eviction"]

_LEAST_VERSION: Final = (6, 2)
_FULL: Final = 0.8
_FAIL_SKEW_S: Final = 60.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def check_server(facts: RedisFacts, config: RedisConfig) -> Iterator[Finding]:
    """Judge one server, or one primary of a cluster."""
    yield _version(facts)
    yield judge_eviction(facts)
    yield _memory(facts)
    yield _role(facts)
    yield _persistence(facts)
    yield _replicas(facts, config)
    yield _cluster(facts, config)
    yield judge_clock("redis clock", f"Redis at {facts.address}", facts.clock_lead, _FAIL_SKEW_S)


def check_transport(config: RedisConfig) -> Finding:
    """Judge whether what is sent to Redis can be read on the way."""
    url = urlsplit(config.url)
    if url.scheme == "rediss":
        return Finding("redis tls", "ok", "encrypted")
    if url.scheme == "unix" or url.hostname in _LOOPBACK:
        return Finding("redis tls", "ok", "not needed: it is on this host")
    return Finding(
        "redis tls",
        "warn",
        f"{url.hostname} is spoken to in the clear, password and state included; "
        "use rediss:// where the server offers it",
    )


def judge_eviction(facts: RedisFacts) -> Finding:
    """Judge `maxmemory-policy`: state, marks and positions must not be thrown away for room."""
    if facts.eviction == "noeviction":
        return Finding("redis eviction", "ok", f"{facts.address}: noeviction")
    return Finding(
        "redis eviction",
        "fail",
        f"{facts.address}: maxmemory-policy is {facts.eviction}, so Redis throws away state, "
        "dedupe marks and positions when memory is short; set it to noeviction",
    )


def _version(facts: RedisFacts) -> Finding:
    numbers = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdecimal())
    if numbers >= _LEAST_VERSION:
        return Finding("redis version", "ok", f"{facts.address}: {facts.version}")
    return Finding(
        "redis version",
        "fail",
        f"{facts.address}: {facts.version} lacks commands that are needed (SMISMEMBER); "
        "use Redis 6.2 or later, or Valkey",
    )


def _memory(facts: RedisFacts) -> Finding:
    used = f"{facts.address}: {facts.used_memory / 1e6:,.0f} MB used"
    if not facts.max_memory:
        return Finding("redis memory", "ok", f"{used}, no maxmemory")
    share = facts.used_memory / facts.max_memory
    used += f" of {facts.max_memory / 1e6:,.0f}"
    if share < _FULL:
        return Finding("redis memory", "ok", used)
    return Finding(
        "redis memory", "warn", f"{used}; when it is full, commits are refused: make room, or grow"
    )


def _role(facts: RedisFacts) -> Finding:
    if facts.is_primary:
        return Finding("redis role", "ok", f"{facts.address}: primary")
    return Finding(
        "redis role", "fail", f"{facts.address} is a replica and takes no writes; name the primary"
    )


def _persistence(facts: RedisFacts) -> Finding:
    check = "redis persistence"
    if facts.last_dump_failed:
        return Finding(
            check,
            "fail",
            f"{facts.address}: the last dump could not be written, and Redis may refuse writes "
            "until one is; look at its disk",
        )
    if facts.appends:
        return Finding(check, "ok", f"{facts.address}: append-only file")
    if facts.dumps:
        return Finding(
            check,
            "warn",
            f"{facts.address}: dumps only; after a restart it is minutes old, and shards are read "
            "again from there. Set appendonly yes",
        )
    known = "no persistence" if facts.dumps is False else "no append-only file, dumps unknown"
    return Finding(
        check,
        "warn",
        f"{facts.address}: {known}; a restart without a replica loses the group's state (see "
        "worker.on_state_loss). Set appendonly yes",
    )


def _replicas(facts: RedisFacts, config: RedisConfig) -> Finding:
    found = f"{facts.address}: {facts.replicas} connected"
    if facts.replicas >= config.wait_replicas:
        return Finding(
            "redis replicas", "ok", f"{found}, redis.wait_replicas is {config.wait_replicas}"
        )
    return Finding(
        "redis replicas",
        "fail",
        f"{found}, but redis.wait_replicas = {config.wait_replicas}: no commit would ever count; "
        "add replicas or lower it",
    )


def _cluster(facts: RedisFacts, config: RedisConfig) -> Finding:
    check = "redis cluster"
    if facts.is_cluster and config.cluster == "off":
        return Finding(
            check,
            "fail",
            f"{facts.address} is a cluster's node, but redis.cluster is 'off'; set it to 'auto'",
        )
    if not facts.is_cluster and config.cluster == "on":
        return Finding(
            check,
            "fail",
            f"{facts.address} is no cluster, but redis.cluster is 'on'; set it to 'auto'",
        )
    if facts.is_cluster and config.partitions == 1:
        return Finding(
            check,
            "warn",
            f"{facts.address} is a cluster's node, but with redis.partitions = 1 the whole group "
            "lies on one of its nodes; more partitions can only be set before the group begins",
        )
    kind = "cluster" if facts.is_cluster else "single server"
    return Finding(check, "ok", f"{facts.address}: {kind}, redis.partitions = {config.partitions}")
