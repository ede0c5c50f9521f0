"""Servers, fixtures and a harness to test stream processors without a cloud.

`Harness` runs processors on events in memory, over a `MemoryStateStore`. `LocalKinesis` is an
embedded Kinesis Data Streams endpoint, `EmbeddedRedis` a real Redis-compatible server on a free
loopback port, `EmbeddedCluster` several that are a cluster; `pytest_plugin` offers them as
fixtures. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamproc.testing.embedded_cluster import EmbeddedCluster
    from streamproc.testing.embedded_redis import EmbeddedRedis
    from streamproc.testing.harness import Harness
    from streamproc.testing.localkinesis import LocalKinesis, LocalKinesisCore
    from streamproc.testing.memory_state import MemoryStateStore

__all__ = [
    "EmbeddedCluster",
    "EmbeddedRedis",
    "Harness",
    "LocalKinesis",
    "LocalKinesisCore",
    "MemoryStateStore",
]

_HOMES = {
    "EmbeddedCluster": "streamproc.testing.embedded_cluster",
    "EmbeddedRedis": "streamproc.testing.embedded_redis",
    "Harness": "streamproc.testing.harness",
    "LocalKinesis": "streamproc.testing.localkinesis",
    "LocalKinesisCore": "streamproc.testing.localkinesis",
    "MemoryStateStore": "streamproc.testing.memory_state",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing one does not cost all."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
