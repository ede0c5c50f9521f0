"""What a run is made of, and the configuration that its workers get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec

from streamproc_benchmarks.demo.happenings import LOCATIONS
from streamproc_benchmarks.demo.oracle import FRAUD_SETTINGS

__all__ = ["GROUP", "LEASE_DURATION_S", "STREAM", "Options", "worker_arguments", "write_config"]

GROUP: Final = "demo"
STREAM: Final = "shop-events"

LEASE_DURATION_S: Final = 3.0
"""Shorter than the default, so that a take-over can be watched."""

_AGES_S: Final = 1e10
_KEPT: Final = 2_000
"""More than a stock sees during a take-over, at a few thousand records a second; more of it makes
the states of busy stocks larger, and the run slower."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; `duration` in seconds, `rate` in records a second."""

    duration: float
    rate: float
    shards: int
    seed: int
    redis_url: str | None = None
    keep: bool = False

    @property
    def size(self) -> int:
        """How many records are published after the opening."""
        return max(1, round(self.duration * self.rate))


def write_config(path: Path, endpoint_url: str, redis_url: str) -> None:
    """Write the workers' `streamproc.toml`."""
    # JSON's strings and numbers are TOML's too.
    constants = "\n".join(f"{name} = {json.dumps(v)}" for name, v in FRAUD_SETTINGS.items())
    path.write_text(
        f"""\
group = {json.dumps(GROUP)}

[stream]
name = {json.dumps(STREAM)}
region = "us-east-1"
endpoint_url = {json.dumps(endpoint_url)}

[redis]
url = {json.dumps(redis_url)}

[leases]
store = "redis"
duration = {LEASE_DURATION_S}
scan_interval = 0.5

[processors.fraud.constants]
{constants}

[processors.inventory]
# The shop's day is not the one on the wall clock.
max_lateness = 0
max_earliness = {_AGES_S}
# It is over in seconds: while the shards of a killed worker stand still, hours pass on the others.
moves_kept = {_KEPT}
settled_lines_kept = {_KEPT}
locations = {json.dumps(LOCATIONS)}
""",
        encoding="utf-8",
    )


def worker_arguments(config: Path, name: str, socket: Path) -> list[str]:
    """Return the arguments of `streamproc` that run one worker."""
    return ["run", "--config", str(config), "--worker-id", name, "--set", f"http.socket={socket}"]
