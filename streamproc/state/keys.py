"""Where a consumer group's data lies in Redis: a documented layout that others may read.

A group is spread over partitions, one by default. All keys of a partition share one hash tag, so
that a commit touches one slot of a Redis Cluster:

    sp:{group:p}:pos                  hash    stream/shard -> "<epoch>|<position>"
    sp:{group:p}:incarnation          string  random id of this store
    sp:{group:p}:seen:<bucket>        set     16-byte digests of event ids
    sp:{group:p}:id:<16 bytes>        string  instead of the sets, with dedupe.layout = "keys"
    sp:{group:p}:s:<processor>:<key>  hash    v: version, d: the state as JSON, s: its
                                              schema version unless that is 1
    sp:{group:p}:c:<processor>:<key>  hash    a key's counters (docs/state.md)
    sp:{group:p}:h:<processor>:<key>|<name>  string  HyperLogLog of a counter's members
    sp:{group:p}:timers:<stream/shard>        hash  name -> a timer as JSON; clock: event time in ms
    sp:{group:p}:timers:<stream/shard>:event  zset  names of timers by event time, in ms
    sp:{group:p}:timers:<stream/shard>:wall   zset  the same by the wall clock
    sp:{group:p}:outbox               stream  emitted events that wait for the relay
    sp:{group:p}:dlq                  stream  dead letters
    sp:{group:p}:relay                string  the lock of the worker that relays the outbox
    sp:{group:p}:dlq-relay            string  the lock of the worker that relays the dead letters
    sp:{group:p}:parked               hash    parked partition key -> number of records that wait
    sp:{group:p}:parked:<key>         list    those records, oldest first, as JSON
    sp:{group:p}:parking              string  changes whenever a key is parked or is not any more
    sp:{group:p}:redrive              set     parked keys that somebody wants processed

What belongs to the whole group is in no commit:

    sp:{group}:partitions             string  how many partitions the group was made with
    sp:{group}:dedupe                 string  how its event ids are marked
    sp:{group}:leases                 hash    the `redis` lease store
"""

from __future__ import annotations

import re
from zlib import crc32

from streamproc.errors import ConfigError

__all__ = ["Keys", "group_key", "partition_of_key", "partition_of_text"]

_GROUP = re.compile(r"[A-Za-z0-9_.-]+")


def group_key(group: str, rest: str) -> str:
    """Return a key of the whole group.

    Raises:
        ConfigError: the group's name would break the hash tag.
    """
    if not _GROUP.fullmatch(group):
        raise ConfigError(f"group {group!r}: use letters, digits, '_', '.' and '-' only")
    return f"sp:{{{group}}}:{rest}"


def partition_of_text(text: str, partitions: int) -> int:
    """Return the partition that a text belongs to: its CRC-32 in UTF-8, modulo their number."""
    # A lone surrogate cannot be encoded strictly; such a key is refused elsewhere.
    return crc32(text.encode(errors="surrogatepass")) % partitions


def partition_of_key(key: str, partitions: int) -> int:
    """Return the partition of a state key, given its text as `key_text` makes it.

    The first part decides, so that all keys of one SKU, such as ``(sku, location)``, lie together
    and one event may touch several of them.
    """
    return partition_of_text(key.partition("|")[0], partitions)


class Keys:
    """The key names of one partition of a group.

    Raises:
        ConfigError: the group's name would break the hash tag.
    """

    def __init__(self, group: str, partition: int = 0) -> None:
        group_key(group, "")
        self.partition = partition
        self.prefix = prefix = f"sp:{{{group}:{partition}}}:"
        self.positions = f"{prefix}pos"
        self.incarnation = f"{prefix}incarnation"
        self.outbox = f"{prefix}outbox"
        self.dead_letters = f"{prefix}dlq"
        self.relay = f"{prefix}relay"
        self.dead_letter_relay = f"{prefix}dlq-relay"
        self.id_prefix = f"{prefix}id:"
        self.parked = f"{prefix}parked"
        self.parking = f"{prefix}parking"
        self.redrive = f"{prefix}redrive"
        self._seen = f"{prefix}seen:"
        self._state = f"{prefix}s:"
        self._timers = f"{prefix}timers:"
        self._counters = f"{prefix}c:"
        self._sketches = f"{prefix}h:"

    def seen(self, bucket: int) -> str:
        """Return the dedupe set of a bucket, a count of half TTLs since the epoch."""
        return f"{self._seen}{bucket}"

    def timers(self, shard: str) -> list[str]:
        """Return the keys of a shard's timers: all, by event time, by the wall clock."""
        name = self._timers + shard
        return [name, f"{name}:event", f"{name}:wall"]

    def parked_list(self, partition_key: str) -> str:
        """Return the list of what is parked under a record's partition key."""
        return f"{self.parked}:{partition_key}"

    def state_prefix(self, processor: str) -> str:
        """Return what a processor's state keys begin with; the key's text follows."""
        return f"{self._state}{processor}:"

    def counter_prefix(self, processor: str) -> str:
        """Return what a processor's counter keys begin with; the key's text follows."""
        return f"{self._counters}{processor}:"

    def sketch_prefix(self, processor: str) -> str:
        """Return what the keys of its counters' HyperLogLogs begin with; key|name follows."""
        return f"{self._sketches}{processor}:"
