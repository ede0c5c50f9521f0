"""What the figures depend on: interpreter, libraries, machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

__all__ = ["Environment", "read_environment"]

_LIBRARIES = (
    "streamproc",
    "aiobotocore",
    "botocore",
    "aiohttp",
    "httptools",
    "msgspec",
    "orjson",
    "redis",
    "hiredis",
    "uvloop",
)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a benchmark ran.

    Attributes:
        libraries: versions by distribution name; "not installed" for one that is missing.
        redis_server: what the Redis server calls itself; empty where none took part.
        cores: cores of the machine, and how many of them this process may use.
        load_average: mean runnable processes over one minute, before the first round; others' load
            shows here. None where the platform does not tell.
        pinning: what was pinned where, or why not.
    """

    python: str
    libraries: dict[str, str]
    redis_server: str
    cpu: str
    cores: int
    usable_cores: int
    kernel: str
    load_average: float | None
    pinning: str


def read_environment(*, redis_server: str = "", pinning: str) -> Environment:
    """Collect it now."""
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries={name: _version(name) for name in _LIBRARIES},
        redis_server=redis_server,
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        kernel=f"{platform.system()} {platform.release()}",
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        pinning=pinning,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []  # no Linux: the platform module's word is all there is
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _usable_cores() -> int:
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))
