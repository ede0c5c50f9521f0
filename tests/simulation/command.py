"""`python -m tests.simulation`: run seeds, on all cores, and say how to replay what failed."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator

from tests.simulation.mutations import MUTATIONS, injected
from tests.simulation.oracle import Violation
from tests.simulation.plan import plan_of
from tests.simulation.world import Outcome, World, simulate

__all__ = ["main"]


def main() -> None:
    """Run the command."""
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are iterated over; their order must be the same in every run.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    if arguments.mutations:
        sys.exit(_try_mutations(arguments.seeds))
    with injected(arguments.inject):
        if arguments.seed is not None:
            sys.exit(_replay(arguments.seed, arguments.verbose))
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        sys.exit(_campaign(seeds, arguments.jobs, arguments.inject))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one and say what happened")
    parser.add_argument("--verbose", action="store_true", help="with the workers' own log")
    parser.add_argument("--inject", choices=sorted(MUTATIONS), help="with this bug put in")
    parser.add_argument(
        "--mutations", action="store_true", help="say how many seeds it takes to find each bug"
    )
    return parser.parse_args()


def _replay(seed: int, verbose: bool) -> int:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.CRITICAL,
        format="%(message)s",
        stream=sys.stdout,
    )
    print(f"seed {seed}: {plan_of(seed)}")
    world = World(plan_of(seed))
    world.narrate = lambda line: print(line) if verbose else None
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: _at_time(record, world))
    try:
        print(world.run())
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _at_time(record: logging.LogRecord, world: World) -> bool:
    record.msg, record.args = f"{world.kernel.now:8.3f} {record.getMessage()}", ()
    return True


def _one(seed: int) -> tuple[int, Outcome | None, str]:
    gc.disable()
    try:
        return seed, simulate(seed), ""
    except Violation as violation:
        return seed, None, str(violation)
    except Exception:
        return seed, None, traceback.format_exc()
    finally:
        gc.enable()
        gc.collect()


def _campaign(seeds: range, jobs: int, bug: str | None) -> int:
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.ERROR)
    began = time.monotonic()
    failed = commits = events = redelivered = 0
    seconds = 0.0
    for seed, outcome, why in _outcomes(seeds, jobs):
        if outcome is None:
            failed += 1
            print(f"seed {seed} failed ({plan_of(seed)}): {why}")
            flags = f"--seed {seed}" + (f" --inject {bug}" if bug else "")
            print(f"replay it: python -m tests.simulation {flags} --verbose", flush=True)
            continue
        commits, events = commits + outcome.commits, events + outcome.events
        redelivered, seconds = redelivered + outcome.redelivered, seconds + outcome.seconds
    print(
        f"{len(seeds)} seeds, {failed} failed: {seconds / 3600:.1f} simulated hours, {events} "
        f"events, {commits} commits, {redelivered} events delivered again after faults, "
        f"in {time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


def _try_mutations(most: int) -> int:
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.ERROR)
    missed = 0
    for name, (bug, _) in MUTATIONS.items():
        with injected(name):
            found = next((found for found in map(_one, range(most)) if found[1] is None), None)
        if found is None:
            missed += 1
            print(f"{name}: {bug}: NOT FOUND in {most} seeds", flush=True)
        else:
            print(f"{name}: {bug}: seed {found[0]}: {found[2][:160]}", flush=True)
    return 1 if missed else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[tuple[int, Outcome | None, str]]:
    if jobs == 1:
        yield from map(_one, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_one, seeds, chunksize=4)
