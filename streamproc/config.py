"""The configuration tree: every setting, its type, its one default, and what it means.

Where values come from is `streamproc.settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streamproc.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "BatchConfig",
    "Config",
    "DeadLetterConfig",
    "DedupeConfig",
    "HttpConfig",
    "LeaseConfig",
    "OutboxConfig",
    "ReadConfig",
    "RedisConfig",
    "Section",
    "StreamConfig",
    "WorkerConfig",
    "require",
]

ENV_PREFIX = "STREAMPROC_"
"""What the environment variables of settings begin with."""

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file; an unknown key in it is an error."""


class StreamConfig(Section, frozen=True, kw_only=True):
    """`[stream]`: what is read."""

    name: Annotated[str, Meta(description="name of the Kinesis stream")] = ""
    region: Annotated[str | None, Meta(description="AWS region; unset asks the environment")] = None
    endpoint_url: Annotated[
        str | None, Meta(description="another Kinesis endpoint, such as a local one")
    ] = None
    initial_position: Annotated[
        str,
        Meta(
            description="where a new group begins: TRIM_HORIZON, LATEST, or an ISO 8601 time",
            pattern=r"^(TRIM_HORIZON|LATEST|\d{4}-\d\d-\d\dT.*)$",
        ),
    ] = "TRIM_HORIZON"
    shard_sync_interval: Annotated[
        Seconds, Meta(description="seconds between looks for new shards (ListShards)")
    ] = 30.0


class ReadConfig(Section, frozen=True, kw_only=True):
    """`[read]`: how shards are read."""

    mode: Annotated[
        Literal["polling", "fan-out"],
        Meta(
            description="how records come: asked for, or pushed to a registered consumer with a "
            "bandwidth of its own (enhanced fan-out; needs streamproc[fanout])"
        ),
    ] = "polling"
    consumer: Annotated[
        str | None,
        Meta(description="the registered consumer of mode fan-out; the group's name if unset"),
    ] = None
    push_endpoint_url: Annotated[
        str | None,
        Meta(description="another https endpoint for SubscribeToShard, such as a local one"),
    ] = None

    poll_interval: Annotated[
        Seconds,
        Meta(description="seconds between GetRecords calls of a shard that is at its tip"),
    ] = 0.25
    idle_poll_interval: Annotated[
        Seconds,
        Meta(description="seconds between calls once a shard has been empty for `idle_after`"),
    ] = 1.0
    idle_after: Annotated[
        Seconds, Meta(description="seconds without a record after which a shard counts as idle")
    ] = 30.0
    min_interval: Annotated[
        Seconds,
        Meta(description="least seconds between calls of one shard; AWS allows 5 a second"),
    ] = 0.2
    share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="part of each shard's limits (5 calls, 2 MB a second for all who poll it) "
            "that this group may use; 1 leaves it to Kinesis to refuse what is too much",
        ),
    ] = 1.0
    max_records: Annotated[
        int, Meta(ge=1, le=10_000, description="records asked for in one GetRecords call")
    ] = 10_000
    prefetch_bytes: Annotated[
        int,
        Meta(ge=1, description="bytes read ahead over all shards of a worker; then reading waits"),
    ] = 64 * 1024 * 1024
    out_of_range: Annotated[
        Literal["drop", "keep"],
        Meta(
            description="what becomes of KPL sub-records whose key belongs to another shard: the "
            "KPL sends them again, so they are dropped and counted; keep suits other aggregators"
        ),
    ] = "drop"
    client: Annotated[
        Literal["direct", "aiobotocore"],
        Meta(
            description="how GetRecords is called: on connections of our own, at a tenth of the "
            "CPU time, or by aiobotocore (always so behind a proxy)"
        ),
    ] = "direct"
    timeout: Annotated[Seconds, Meta(description="seconds until a Kinesis call is given up")] = 10.0


class BatchConfig(Section, frozen=True, kw_only=True):
    """`[batch]`: how much is processed and committed at once."""

    records: Annotated[
        Count,
        Meta(
            description="most records in one batch, which is one transaction; a shard at its tip "
            "has smaller ones where its handlers take their time"
        ),
    ] = 1_000
    concurrency: Annotated[
        Count, Meta(description="keys that async handlers of a batch work on in parallel")
    ] = 32


class RedisConfig(Section, frozen=True, kw_only=True):
    """`[redis]`: where state, dedupe marks, outbox and positions live."""

    url: Annotated[str, Meta(description="redis://, rediss:// or unix:// address")] = (
        "redis://127.0.0.1:6379/0"
    )
    timeout: Annotated[Seconds, Meta(description="seconds until a Redis call is given up")] = 5.0
    cluster: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="whether the URL is of a Redis Cluster's node; auto asks it"),
    ] = "auto"
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="parts that a group's state is spread over in a Redis Cluster; for good",
        ),
    ] = 1
    wait_replicas: Annotated[
        int,
        Meta(
            ge=0,
            description="replicas that must have a commit before it counts (WAIT); "
            "makes its loss by a failover unlikely, not impossible",
        ),
    ] = 0
    wait_timeout: Annotated[
        Seconds, Meta(description="seconds to wait for `wait_replicas`; then it is tried again")
    ] = 1.0
    cache_bytes: Annotated[
        int, Meta(ge=0, description="bytes of keyed state kept decoded in a worker")
    ] = 64 * 1024 * 1024


class DedupeConfig(Section, frozen=True, kw_only=True):
    """`[dedupe]`: how long an event id is remembered."""

    ttl: Annotated[
        Seconds,
        Meta(description="seconds an id is remembered at least; cover the stream's retention"),
    ] = 172_800.0
    layout: Annotated[
        Literal["sets", "keys"],
        Meta(description="how ids are kept: in sets by half TTL (less memory), or a key each"),
    ] = "sets"
    on_short_ttl: Annotated[
        Literal["warn", "refuse"],
        Meta(description="what to do at the start when ttl does not cover the stream's retention"),
    ] = "warn"


class OutboxConfig(Section, frozen=True, kw_only=True):
    """`[outbox]`: where emitted events go."""

    sink: Annotated[
        str | None,
        Meta(description="sink that emitted events are relayed to; unset leaves them in Redis"),
    ] = None
    max_entries: Annotated[
        Count | None,
        Meta(
            description="events in a partition's outbox at which commits that emit wait; unset is "
            "no limit"
        ),
    ] = None
    options: Annotated[
        dict[str, Any], Meta(description="the sink's own settings, a table [outbox.options]")
    ] = msgspec.field(default_factory=dict)


class DeadLetterConfig(Section, frozen=True, kw_only=True):
    """`[dead_letters]`: where records go that could not be processed."""

    sink: Annotated[
        str | None,
        Meta(description="sink that dead letters are relayed to; unset leaves them in Redis"),
    ] = None
    options: Annotated[
        dict[str, Any], Meta(description="the sink's own settings, a table [dead_letters.options]")
    ] = msgspec.field(default_factory=dict)


class LeaseConfig(Section, frozen=True, kw_only=True):
    """`[leases]`: how workers share the shards."""

    store: Annotated[
        str, Meta(description="lease store: redis, dynamodb, sqlite, memory, or a plugin's")
    ] = "redis"
    options: Annotated[
        dict[str, Any], Meta(description="the store's own settings, a table [leases.options]")
    ] = msgspec.field(default_factory=dict)
    duration: Annotated[
        Seconds, Meta(description="seconds without a renewal after which a lease is up for taking")
    ] = 10.0
    scan_interval: Annotated[
        Seconds, Meta(description="seconds between a worker's looks at all leases")
    ] = 2.0
    checkpoint_interval: Annotated[
        Seconds | None,
        Meta(
            description="seconds between checkpoints of a shard that moves; unset is 1, and where "
            "writes are billed each renewal, or 60 with one renewal for all leases of a worker"
        ),
    ] = None
    renewal: Annotated[
        Literal["lease", "worker"],
        Meta(
            description="what is renewed: each lease, as KCL does, or the worker with all its "
            "leases, at a fraction of the writes; not for a table that KCL workers use"
        ),
    ] = "lease"
    handover_timeout: Annotated[
        Seconds, Meta(description="seconds a worker waits for a requested lease, then takes it")
    ] = 30.0
    max_leases: Annotated[
        Count | None, Meta(description="most leases one worker holds; unset is no limit")
    ] = None


class HttpConfig(Section, frozen=True, kw_only=True):
    """`[http]`: /live, /ready, /metrics and /status."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[Port | None, Meta(description="port to listen on; 0 picks a free one")] = 9464
    socket: Annotated[
        str | None, Meta(description="path of a unix socket to listen on instead of a port")
    ] = None


class WorkerConfig(Section, frozen=True, kw_only=True):
    """`[worker]`: the process."""

    id: Annotated[
        str | None, Meta(description="unique worker id; host, process and a random part if unset")
    ] = None
    processes: Annotated[
        Count | Literal["auto"],
        Meta(
            description="worker processes, one per core to be used; auto is one for each that "
            "affinity and the container's CPU quota allow"
        ),
    ] = 1
    drain_timeout: Annotated[
        Seconds,
        Meta(description="seconds a stopping worker may take to drain; ECS kills after 30"),
    ] = 25.0
    on_unknown: Annotated[
        Literal["dead-letter", "skip"],
        Meta(description="what becomes of events of a type that no processor declares"),
    ] = "skip"
    on_state_loss: Annotated[
        Literal["halt", "replay", "continue"],
        Meta(description="what to do when Redis is another one than the checkpoints speak of"),
    ] = "halt"
    on_new_group: Annotated[
        Literal["begin", "halt"],
        Meta(
            description="what to do when neither leases nor state of the group are found; "
            "'halt' once the group has begun: then both can only have been lost"
        ),
    ] = "begin"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level logged")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="form of the log lines")] = (
        "text"
    )


class Config(Section, frozen=True, kw_only=True):
    """The whole of `streamproc.toml`."""

    group: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*$",
            description="consumer group, KCL's application name; letters, digits, _ . -",
        ),
    ] = ""
    stream: StreamConfig = StreamConfig()
    read: ReadConfig = ReadConfig()
    batch: BatchConfig = BatchConfig()
    redis: RedisConfig = RedisConfig()
    dedupe: DedupeConfig = DedupeConfig()
    outbox: OutboxConfig = OutboxConfig()
    dead_letters: DeadLetterConfig = DeadLetterConfig()
    leases: LeaseConfig = LeaseConfig()
    http: HttpConfig = HttpConfig()
    worker: WorkerConfig = WorkerConfig()
    processors: Annotated[
        dict[str, dict[str, Any]],
        Meta(
            description="one table a processor: its entry-point name, its constructor's arguments"
        ),
    ] = msgspec.field(default_factory=dict)


def require(config: Config) -> None:
    """Make sure that what has no default was given, and that the settings fit together.

    Raises:
        ConfigError: names what is missing or does not fit.
    """
    for key, value in (("group", config.group), ("stream.name", config.stream.name)):
        if not value:
            raise ConfigError(
                f"{key} is not set; put it into streamproc.toml (`streamproc config init` writes "
                f"one), or set {ENV_PREFIX}{key.upper().replace('.', '__')}"
            )
    if config.leases.store == "memory" and config.worker.processes != 1:
        raise ConfigError(
            "leases.store = 'memory' is known to one process only, so worker.processes must be 1; "
            "use redis, or sqlite for several processes of one host"
        )
