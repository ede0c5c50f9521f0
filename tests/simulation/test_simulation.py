"""A thousand fleets, and that a seed is a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.long

SEEDS = 1_000
"""They take some 200 s of CPU time; in blocks, that workers of pytest can share."""
BLOCK = 50


def simulation(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_a_thousand_seeds_hold_every_invariant(first: int) -> None:
    done = simulation("--seeds", str(BLOCK), "--first", str(first), "--jobs", "1")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", ["16", "60"])
def test_a_seed_repeats_exactly(seed: str) -> None:
    """In another process, with its addresses and hashes."""
    first, second = simulation("--seed", seed), simulation("--seed", seed)
    assert "trace=" in first.stdout
    assert first.stdout == second.stdout


def test_a_failing_seed_prints_how_to_replay_it() -> None:
    done = simulation("--seeds", "1", "--first", "3", "--inject", "kept-at-stop")
    assert done.returncode == 1
    assert "seed 3 failed" in done.stdout
    replay = "python -m tests.simulation --seed 3 --inject kept-at-stop --verbose"
    assert f"replay it: {replay}" in done.stdout
    again = simulation("--seed", "3", "--inject", "kept-at-stop")
    assert again.returncode == 1
    assert "Violation" in again.stderr
