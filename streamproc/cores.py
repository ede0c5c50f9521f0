"""How many cores this process may use: by affinity, and by the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

__all__ = ["UsableCores", "cpu_quota", "usable_cores"]

_ROOT: Final = Path("/")
# Where control groups of the two versions are mounted, below the root (cgroups(7)).
_UNIFIED: Final = "sys/fs/cgroup"
_CPU_CONTROLLERS: Final = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")


class UsableCores(msgspec.Struct, frozen=True):
    """Whole cores for one process each, and in words where the number comes from."""

    count: int
    why: str


def usable_cores(root: Path = _ROOT) -> UsableCores:
    """Return the cores that are worth a process each; at least one.

    A quota of 1.5 cores is one: two processes would be stopped by turns, each with its leases.

    Args:
        root: where the file system with the control groups begins.
    """
    cores = _affinity()
    quota = cpu_quota(root)
    if quota is None or quota >= cores:
        return UsableCores(cores, f"this process may run on {cores} and has no lower CPU quota")
    count = max(1, math.floor(quota))
    return UsableCores(count, f"the CPU quota is {quota:g} cores, of {cores} it may run on")


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the cores that the control groups of this process grant; None without a limit.

    Each group on the way up may set a limit, and the least holds. Within a container the way from
    the host's root is not to be seen; then what is mounted as the root is the container's own
    group. Reads cpu.max of version 2, and cpu.cfs_quota_us by cpu.cfs_period_us of version 1.
    """
    limits = [limit for limit in _limits(root) if limit is not None]
    return min(limits, default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path) -> Iterator[float | None]:
    for controllers, path in _memberships(root):
        if controllers == "":
            for folder in _way_up(root / _UNIFIED, path):
                yield _cpu_max(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for mount in _CPU_CONTROLLERS:
                for folder in _way_up(root / mount, path):
                    yield _cfs(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """Yield controllers and group of each line ``id:controllers:path`` (cgroups(7))."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path


def _way_up(mount: Path, path: str) -> Iterator[Path]:
    group = PurePosixPath(path.lstrip("/"))
    yield mount / group
    for parent in group.parents:
        yield mount / parent


def _cpu_max(file: Path) -> float | None:
    """Read ``quota period`` in microseconds; ``max`` is no limit."""
    match [part for line in _lines(file) for part in line.split()]:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
            return int(quota) / int(period)
    return None


def _cfs(quota: Path, period: Path) -> float | None:
    match (_lines(quota), _lines(period)):
        case ([allowed], [every]) if allowed.isdigit() and every.isdigit() and int(every) > 0:
            return int(allowed) / int(every)
    return None  # -1 is no limit.


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # Not every system has it, and not every container shows it.
