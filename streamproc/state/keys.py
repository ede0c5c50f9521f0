"""Where a consumer group's data lies in Redis: a documented layout that others may read.

All keys of a group share one hash tag, so that a commit touches one slot of a Redis Cluster:

    sp:{group}:pos                  hash    stream/shard -> "<epoch>|<position>"
    sp:{group}:incarnation          string  random id of this store
    sp:{group}:seen:<bucket>        set     16-byte digests of event ids
    sp:{group}:s:<processor>:<key>  hash    v: version, d: the state as JSON
    sp:{group}:outbox               stream  emitted events that wait for the relay
    sp:{group}:dlq                  stream  dead letters
    sp:{group}:relay                string  the lock of the worker that relays the outbox
    sp:{group}:leases               hash    the `redis` lease store
"""

from __future__ import annotations

import re

from streamproc.errors import ConfigError

__all__ = ["Keys"]

_GROUP = re.compile(r"[A-Za-z0-9_.-]+")


class Keys:
    """The key names of one group.

    Raises:
        ConfigError: the group's name would break the hash tag.
    """

    def __init__(self, group: str) -> None:
        if not _GROUP.fullmatch(group):
            raise ConfigError(f"group {group!r}: use letters, digits, '_', '.' and '-' only")
        prefix = f"sp:{{{group}}}:"
        self.prefix = prefix
        self.positions = f"{prefix}pos"
        self.incarnation = f"{prefix}incarnation"
        self.outbox = f"{prefix}outbox"
        self.dead_letters = f"{prefix}dlq"
        self._seen = f"{prefix}seen:"
        self._state = f"{prefix}s:"

    def seen(self, bucket: int) -> str:
        """Return the dedupe set of a bucket, a count of half TTLs since the epoch."""
        return f"{self._seen}{bucket}"

    def state_prefix(self, processor: str) -> str:
        """Return what a processor's state keys begin with; the key's text follows."""
        return f"{self._state}{processor}:"
