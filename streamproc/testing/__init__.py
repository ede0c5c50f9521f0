"""Servers and fixtures to test stream processors without a cloud.

`LocalKinesis` is an embedded Kinesis Data Streams endpoint, `EmbeddedRedis` a real Redis-compatible
server on a free loopback port; `pytest_plugin` offers both as fixtures. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamproc.testing.embedded_redis import EmbeddedRedis
    from streamproc.testing.localkinesis import LocalKinesis, LocalKinesisCore

__all__ = ["EmbeddedRedis", "LocalKinesis", "LocalKinesisCore"]

_HOMES = {
    "EmbeddedRedis": "streamproc.testing.embedded_redis",
    "LocalKinesis": "streamproc.testing.localkinesis",
    "LocalKinesisCore": "streamproc.testing.localkinesis",
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
