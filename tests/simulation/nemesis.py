"""Who makes trouble: one deed at a time, drawn from the plan's kinds."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from streamproc.testing.localkinesis.errors import KinesisError
from tests.simulation.plan import Trouble
from tests.simulation.worker import Worker

if TYPE_CHECKING:
    from tests.simulation.network import Link
    from tests.simulation.world import World

__all__ = ["Nemesis"]


class Nemesis:
    """Acts every so often until the chaos is over; leaves every link whole and nobody paused."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(world.kernel.rng.random())
        deeds = {
            Trouble.JOIN: self._join_or_leave,
            Trouble.DEPLOY: self._deploy,
            Trouble.RESHARD: self._reshard,
            Trouble.CRASH: self._crash,
            Trouble.PAUSE: self._pause,
            Trouble.LEASES: lambda: self._break("leases"),
            Trouble.STATE: lambda: self._break("state"),
            Trouble.KINESIS: lambda: self._break("kinesis"),
        }
        self._deeds = [deeds[kind] for kind in Trouble if kind in world.plan.troubles & set(deeds)]
        self._end = world.kernel.now + world.plan.chaos
        if self._deeds:
            self._later()

    def _later(self) -> None:
        delay = self._rng.expovariate(1 / self._world.plan.period)
        self._world.kernel.after(delay, self._act)

    def _act(self) -> None:
        if self._world.kernel.now < self._end:
            self._rng.choice(self._deeds)()
            self._later()

    def _somebody(self) -> Worker | None:
        up = [worker for worker in self._world.workers if worker.is_up]
        return self._rng.choice(up) if up else None

    def _join_or_leave(self) -> None:
        world = self._world
        up = [worker for worker in world.workers if worker.stays]
        if len(up) > 1 and self._rng.random() < 0.5:
            world.stop(self._rng.choice(up))
        else:
            world.start()

    def _deploy(self) -> None:
        """Stop all present workers one by one, and start one for each when it is gone."""
        gap = self._rng.uniform(0.2, 4.0)
        up = [worker for worker in self._world.workers if worker.stays]
        self._world.troubled(len(up) * gap)
        for n, worker in enumerate(up):
            self._world.kernel.after(n * gap, lambda worker=worker: self._replace(worker))

    def _replace(self, worker: Worker) -> None:
        if worker.stays:
            self._world.start()
            self._world.stop(worker)

    def _reshard(self) -> None:
        try:
            self._world.reshard(self._rng)
        except KinesisError:
            return  # Too narrow to be split: another time.

    def _crash(self) -> None:
        worker = self._somebody()
        if worker is None:
            return
        self._world.crash(worker)
        # Under its old name it resumes at once; under a new one its leases must expire.
        name = worker.name if self._rng.random() < 0.5 else None
        delay = self._rng.uniform(0.1, 8.0)
        self._world.troubled(delay)
        self._world.kernel.after(delay, lambda: self._world.start(name))

    def _pause(self) -> None:
        worker = self._somebody()
        if worker is not None:
            self._world.pause(worker, self._rng.choice([1.0, 5.0, 12.0, 25.0]))

    def _break(self, which: str) -> None:
        """Spoil a server's links, of one worker or of all, for a while."""
        rng, world = self._rng, self._world
        up = [worker for worker in world.workers if worker.host.alive and not worker.stopped]
        if not up:
            return
        victims = up if rng.random() < 0.4 else [rng.choice(up)]
        links: list[Link] = [getattr(worker, which) for worker in victims]
        kind = rng.choice(["slow", "failing", "losing", "silent", "refusing"])
        for link in links:
            match kind:
                case "slow":
                    link.delay = rng.choice([0.2, 1.0, 2.5])
                case "failing":
                    link.failing = rng.choice([0.3, 1.0])
                case "losing" if which != "kinesis":
                    link.losing = rng.choice([0.2, 0.7])
                case "refusing" if which == "kinesis":
                    link.refusing = rng.choice([0.1, 1.0])
                case "silent" if which == "leases":
                    link.silent = rng.choice([0.2, 1.0])
        length = rng.choice([1.0, 4.0, 11.0, 20.0])
        world.troubled(length)
        world.disturb(length + (world.lease_config.duration if kind == "silent" else 0.0))

        def heal() -> None:
            for link in links:
                link.heal()

        world.kernel.after(length, heal)
