"""How many cores are usable, by files as Linux shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamproc.cores import cpu_quota, usable_cores

CONTAINER = "/ecs/task/container"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({}, None, id="no control groups"),
        pytest.param({"proc/self/cgroup": "0::/"}, None, id="v2, root group"),
        pytest.param(
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None, id="v2, max"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"},
            1.5,
            id="v2, in a container of its own namespace",
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"0::{CONTAINER}",
                f"sys/fs/cgroup{CONTAINER}/cpu.max": "max 100000",
                "sys/fs/cgroup/ecs/task/cpu.max": "200000 100000",
                "sys/fs/cgroup/ecs/cpu.max": "800000 100000",
            },
            2.0,
            id="v2, the least on the way up",
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"5:memory:{CONTAINER}\n4:cpu,cpuacct:{CONTAINER}\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            0.5,
            id="v1, whose path only the host can see",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
            id="v1, no limit",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "nonsense"}, None, id="unreadable"
        ),
    ],
)
def test_the_quota_is_that_of_the_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(write(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("cores", "limit", "count", "why"),
    [
        (8, "max 100000", 8, "no lower CPU quota"),
        (8, "250000 100000", 2, "quota is 2.5 cores"),
        (8, "25000 100000", 1, "quota is 0.25 cores"),
        (2, "400000 100000", 2, "may run on 2"),
    ],
)
def test_there_is_a_process_for_each_whole_core(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    limit: str,
    count: int,
    why: str,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": limit})
    found = usable_cores(tmp_path)
    assert found.count == count
    assert why in found.why


def test_this_host_has_at_least_one() -> None:
    assert usable_cores().count >= 1
