"""What teams of workers did in their turns: the part in which all were at work, as figures."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from streamproc_benchmarks.measurement import Reading, reading
from streamproc_benchmarks.scaling import ScalingRound
from streamproc_benchmarks.scaling_worker import Account, Committed
from streamproc_benchmarks.verification import CountsWrong

__all__ = ["evaluated"]

# Turns that are not measured: code is loaded, caches fill.
_WARM_UP: Final = 2


def evaluated(
    teams: Mapping[int, Sequence[Account]], driver: Mapping[int, Sequence[float]]
) -> dict[int, ScalingRound]:
    """Return what each team did in the turns in which every worker of every team was at work.

    The turns that count are the same for all teams, so that what slows the host for some seconds
    slows each of them.

    Args:
        teams: by number of workers, what each of them did.
        driver: CPU time that the benchmark's own process took in each team's turns.

    Raises:
        CountsWrong: there are no such turns.
    """
    until = min(_at_work(account) for accounts in teams.values() for account in accounts)
    if until <= _WARM_UP:
        raise CountsWrong(
            f"some worker was done in turn {until + 1}, and the first {_WARM_UP} are not measured: "
            "more records are needed (--records), or shorter turns (--turn)"
        )
    return {
        workers: _round(accounts, until, sum(driver[workers][_WARM_UP:until]))
        for workers, accounts in teams.items()
    }


def _at_work(account: Account) -> int:
    """Return for how many turns from the first on the worker had work to the end of the turn."""
    last = account.batches[-1].began if account.batches else 0.0
    return sum(turn.ended.at <= last for turn in account.turns)


def _round(accounts: Sequence[Account], until: int, driver: float) -> ScalingRound:
    counted = [
        [reading(turn.began, turn.ended) for turn in account.turns[_WARM_UP:until]]
        for account in accounts
    ]
    # Each by its own clocks: a signal reaches one some microseconds after the other.
    walls = [sum(each.wall for each in readings) for readings in counted]
    wall = sum(walls) / len(walls)
    records = [_records(account, until) for account in accounts]
    own = sum(each.own for readings in counted for each in readings)
    return ScalingRound(
        turns=until - _WARM_UP,
        rate=sum(done / took for done, took in zip(records, walls, strict=True)),
        cpu_us=own / sum(records) * 1e6,
        worker_cores=own / wall,
        delayed_cores=_cores([each.delayed for readings in counted for each in readings], wall),
        server_cores=_cores([_servers(each) for each in counted[0]], wall),
        driver_cores=driver / wall,
    )


def _cores(seconds: Sequence[float | None], wall: float) -> float | None:
    told = [each for each in seconds if each is not None]
    return sum(told) / wall if len(told) == len(seconds) else None


def _servers(each: Reading) -> float | None:
    return None if each.server is None or each.redis is None else each.server + each.redis


def _records(account: Account, until: int) -> float:
    """Return the records done in the turns that count.

    Of a batch that was under way when they began or ended, the part counts that its time within
    them is of all its time at work.
    """
    begins = [turn.began.at for turn in account.turns] + [account.finishing]
    lengths = [turn.ended.at - turn.began.at for turn in account.turns]
    before = list(accumulate(lengths, initial=0.0))

    def worked(moment: float) -> float:
        """Return the time at work up to a moment."""
        place = max(0, bisect_right(begins, moment) - 1)
        since = max(0.0, moment - begins[place])
        return before[place] + (min(since, lengths[place]) if place < len(lengths) else since)

    def part(batch: Committed) -> float:
        began, ended = worked(batch.began), worked(batch.at)
        if ended <= began:
            return float(before[_WARM_UP] <= began < before[until])
        within = min(ended, before[until]) - max(began, before[_WARM_UP])
        return max(0.0, within) / (ended - began)

    return sum(len(batch.sequences) * part(batch) for batch in account.batches)
