"""`python -m tests.campaigns`: the crash campaign, as long as you like."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from streamproc.testing import EmbeddedRedis, LocalKinesis
from tests.campaigns.crash import CrashPlan, CrashRun, RunFailed, RunResult, replayable

__all__ = ["campaign"]


async def campaign(seeds: range, deliveries: int, directory: Path) -> list[RunResult]:
    """Run every seed, with `deliveries` records in each; says how it goes on stdout.

    Raises:
        RunFailed: a run broke a promise; the message has the command that repeats it.
    """
    results = []
    async with LocalKinesis() as kinesis, EmbeddedRedis() as server:
        for seed in seeds:
            plan = CrashPlan.make(seed, deliveries)
            with replayable(plan):
                results.append(await CrashRun(plan, kinesis, server.url, directory).run())
            kinesis.core.call("DeleteStream", StreamName=f"crash-{seed}")
            await server.restart()  # keeps nothing
            print(f"seed {seed}: {results[-1]}", flush=True)
    return results


def main() -> int:
    """Read the arguments, run, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="the first run's; the next ones follow")
    parser.add_argument("--deliveries", type=int, default=1_000_000, help="over all runs")
    parser.add_argument("--directory", type=Path, help="keep the workers' logs there")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crash-") as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        seeds = range(options.seed, options.seed + options.runs)
        each = -(-options.deliveries // options.runs)
        try:
            results = asyncio.run(campaign(seeds, each, directory))
        except RunFailed as failed:
            print(f"FAILED: {failed}", file=sys.stderr)
            return 1
    total = {name: sum(getattr(r, name) for r in results) for name in RunResult.__struct_fields__}
    print(
        "{runs} runs, {deliveries:,} deliveries of {distinct:,} distinct ids, {kills} kills, "
        "{handovers} hand-overs, looked at {samples:,} instants: every id took effect exactly once "
        "({wall:.0f} s)".format(**total, runs=len(results), wall=time.monotonic() - began)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
