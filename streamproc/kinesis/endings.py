"""What comes after a shard that ended without saying so."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streamproc.kinesis.api import KinesisApi
from streamproc.kinesis.errors import MalformedResponseError, NotFoundError, TransientError
from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.records import ChildShard, HashKeyRange

__all__ = ["children_of_ended", "children_of_trimmed"]

log = logging.getLogger(__name__)


async def children_of_ended(api: KinesisApi, shard_id: str) -> list[ChildShard]:
    """Return the children of a shard that ended without naming any.

    Kinesis names them; some that speak its protocol do not.

    Raises:
        MalformedResponseError: the shard is open, so the answer that ended it is wrong.
    """
    shards = await api.list_shards()
    if any(shard.shard_id == shard_id and shard.is_open for shard in shards):
        raise MalformedResponseError(
            f"an answer ended {shard_id} although the shard is open; it is asked again"
        )
    return _children(shards, shard_id)


async def children_of_trimmed(
    api: KinesisApi, shard_id: str, error: NotFoundError
) -> list[ChildShard]:
    """Return the children of a shard that Kinesis no longer knows.

    Raises:
        NotFoundError: the whole stream is gone.
        TransientError: the shard is listed nevertheless.
    """
    shards = await api.list_shards()
    if any(shard.shard_id == shard_id for shard in shards):
        raise TransientError(f"a listed shard was not found: {error}") from error
    log.warning(
        "%s: Kinesis no longer has this shard, so what was not read of it before its retention "
        "ended is lost; going on with its children",
        shard_id,
    )
    return _children(shards, shard_id)


def _children(shards: Sequence[ShardInfo], shard_id: str) -> list[ChildShard]:
    return [
        ChildShard(
            shard_id=shard.shard_id,
            parent_shards=list(shard.parents),
            hash_key_range=HashKeyRange(shard.starting_hash_key, shard.ending_hash_key),
        )
        for shard in shards
        if shard_id in shard.parents
    ]
