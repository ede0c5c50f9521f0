"""The lease layer alone at size: 10,000 shards on 200 workers, in virtual time.

Measures how long leases take to spread, how long a crash of a tenth of the fleet takes to be
taken over, that nothing moves afterwards, and what all that costs: calls to the store and rows read
by them, and CPU time of the decisions.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from tests import virtual_time
from tests.leases.fleet import Fleet

__all__ = ["main", "run"]

_QUIET_S = 20.0


async def run(shards: int, workers: int, renewal: str) -> dict[str, float]:
    """Spread, crash a tenth, rest; return seconds of virtual time and of CPU.

    `renewal` is ``lease``, a write for each; ``many``, a call for up to 250 of them; or ``worker``,
    one heartbeat for all leases of a worker.
    """
    fleet = Fleet(1, roster=renewal == "worker", wide=renewal == "many")
    began = time.process_time()
    try:
        await fleet.shards(shards)
        for n in range(workers):
            fleet.start(f"w{n}")
        held = await _until(fleet, lambda: fleet.holders().total() == shards, 120.0)
        even = held + await _until(fleet, lambda: _is_even(fleet), 900.0)
        for worker in fleet.workers[: workers // 10]:
            await worker.crash()
        over = await _until(fleet, lambda: fleet.holders().total() == shards, 120.0)
        await _until(fleet, lambda: _is_even(fleet), 900.0)
        acquired, before = _acquired(fleet), _traffic(fleet)
        await asyncio.sleep(_QUIET_S)
        moved = _acquired(fleet) - acquired
        calls, rows, writes = (
            (now - then) / _QUIET_S for now, then in zip(_traffic(fleet), before, strict=True)
        )
        scans = sum(worker.leases.statistics().scans for worker in fleet.workers)
        return {
            "all leases held after, s": round(held, 1),
            "evenly spread after, s": round(even, 1),
            "a tenth crashed, all held again after, s": round(over, 1),
            f"leases that moved in {_QUIET_S:g} quiet s": moved,
            "calls of the store a second, at rest": round(calls),
            "rows read a second, at rest": round(rows),
            "rows written a second, at rest": round(writes),
            "CPU ms a scan, everything included": round(
                (time.process_time() - began) / max(1, scans) * 1_000, 1
            ),
        }
    finally:
        await fleet.end()


async def _until(fleet: Fleet, condition, limit: float) -> float:  # type: ignore[no-untyped-def]
    began = virtual_time.now()
    while not condition():
        assert virtual_time.now() - began < limit, f"not within {limit} s"
        await asyncio.sleep(0.25)
    return virtual_time.now() - began


def _traffic(fleet: Fleet) -> tuple[int, int, int]:
    """Return calls to the store, rows read and rows written by them, over all workers so far."""
    wires = [worker.wire for worker in fleet.workers]
    return (
        sum(wire.calls for wire in wires),
        sum(wire.rows_read for wire in wires),
        sum(wire.writes for wire in wires),
    )


def _is_even(fleet: Fleet) -> bool:
    loads = fleet.loads()
    return loads[-1] - loads[0] <= 1


def _acquired(fleet: Fleet) -> int:
    return sum(worker.leases.statistics().acquired for worker in fleet.workers)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.scale", description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--renewal", choices=["lease", "many", "worker"], default="many")
    arguments = parser.parse_args()
    figures = virtual_time.run(run(arguments.shards, arguments.workers, arguments.renewal))
    print(f"{arguments.shards:,} shards, {arguments.workers} workers, renewal {arguments.renewal}")
    for name, value in figures.items():
        print(f"  {name}: {value:,}")


if __name__ == "__main__":
    main()
