"""The crash campaign's short version; `make crash-campaign` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streamproc.testing import LocalKinesis
from tests.campaigns.crash import CrashPlan, CrashRun, RunFailed, replayable
from tests.campaigns.workload import make_workload

pytestmark = pytest.mark.process


@pytest.mark.parametrize("seed", [20, 21, 22])
async def test_every_id_takes_effect_once_when_workers_are_killed(
    seed: int, local_kinesis: LocalKinesis, redis_url: str, tmp_path: Path
) -> None:
    plan = CrashPlan.make(seed, deliveries=2_000)
    with replayable(plan):
        result = await CrashRun(plan, local_kinesis, redis_url, tmp_path).run()
    assert result.distinct == 1_600
    assert result.kills == len(plan.kills) > 0
    assert result.handovers == (seed == 20)


def test_a_failing_run_names_the_command_that_repeats_it() -> None:
    plan = CrashPlan.make(7, deliveries=500)
    with pytest.raises(RunFailed, match=r"--runs 1 --seed 7 --deliveries 500"), replayable(plan):
        raise RunFailed("an id took effect twice")


def test_a_workload_is_made_by_its_seed_and_a_fifth_of_it_are_duplicates() -> None:
    workload = make_workload(random.Random(3), 1_000)
    assert workload == make_workload(random.Random(3), 1_000)
    assert len(workload.deliveries) == 1_000
    assert workload.distinct == len(set(workload.deliveries)) == 800
