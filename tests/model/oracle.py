"""What must be true of a store at any instant, from what was published alone."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

from streamproc.position import Position
from streamproc.state.keys import partition_of_text
from tests.model.backends import Held
from tests.model.owner import STREAM
from tests.model.shard_log import ShardLog
from tests.worker.group import entry

__all__ = ["Oracle"]

_REFUSED = -1  # the ledger rejects it


class Oracle:
    """Knows every delivery. Each id is booked by the first delivery of it that is committed."""

    def __init__(self, logs: Iterable[ShardLog], partitions: int) -> None:
        self._partitions = partitions
        self._logs = {log.shard_id: log for log in logs}
        self._entries: list[tuple[str, int]] = []
        self._deliveries: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
        self._emission_ids: dict[str, str] = {}

    def publish(self, shard_id: str, account: str, refused: bool = False) -> None:
        """Publish a new entry."""
        self._entries.append((account, _REFUSED if refused else len(self._entries)))
        self._deliver(shard_id, len(self._entries) - 1)

    def publish_again(self, shard_id: str, which: int) -> None:
        """Publish an earlier entry once more, maybe to another shard."""
        if self._entries:
            self._deliver(shard_id, which % len(self._entries))

    def _deliver(self, shard_id: str, index: int) -> None:
        account, number = self._entries[index]
        entry_id = f"{account}-{index}"
        self._deliveries[shard_id].append((entry_id, account, number))
        self._logs[shard_id].append(account, entry(number, account, entry_id))

    def check(self, held: Held) -> None:
        """Make sure that the store holds exactly what its positions say, once."""
        passed = {shard_id: self._passed(shard_id, held) for shard_id in self._deliveries}
        every = list(itertools.chain(*passed.values()))
        due = {entry_id: number for entry_id, _, number in every if number != _REFUSED}
        booked = Counter(itertools.chain(*held.booked.values()))
        assert booked == Counter(due.values()), "each id of the prefix once, and no other"
        assert Counter(entry_id for _, entry_id in held.emitted) == Counter(list(due))
        assert held.marks == len(due)
        self._check_dead(held, Counter(e for e, _, number in every if number == _REFUSED))
        self._check_order(held, passed)
        self._check_emission_ids(held)

    def check_finished(self, held: Held) -> None:
        """Make sure that, beside all that, every shard has been read to its end."""
        for shard_id, log in self._logs.items():
            if log.records:
                end = Position(log.records[-1].sequence_number)
                assert held.positions.get(f"{STREAM}/{shard_id}") == dict.fromkeys(
                    range(self._partitions), end
                )
        self.check(held)

    def _passed(self, shard_id: str, held: Held) -> list[tuple[str, str, int]]:
        """Return the deliveries that their partitions' positions have passed."""
        positions = held.positions.get(f"{STREAM}/{shard_id}", {})
        lengths = [
            len(self._logs[shard_id].up_to(positions.get(p))) for p in range(self._partitions)
        ]
        return [
            (entry_id, account, number)
            for at, (entry_id, account, number) in enumerate(self._deliveries[shard_id])
            if at < lengths[partition_of_text(account, self._partitions)]
        ]

    def _check_dead(self, held: Held, refused: Counter[str]) -> None:
        dead = Counter(held.dead)
        assert set(dead) == set(refused)
        # Repeats within one batch fall out before anybody handles them.
        assert all(dead[entry_id] <= refused[entry_id] for entry_id in dead)

    def _check_order(self, held: Held, passed: dict[str, list[tuple[str, str, int]]]) -> None:
        """Entries that only one shard has are booked in its order."""
        shards_of: dict[int, set[str]] = defaultdict(set)
        for shard_id, deliveries in passed.items():
            for _, _, number in deliveries:
                shards_of[number].add(shard_id)
        for shard_id, deliveries in passed.items():
            for account, numbers in held.booked.items():
                own = [number for number in numbers if shards_of[number] == {shard_id}]
                first = dict.fromkeys(n for _, a, n in deliveries if a == account)
                assert own == [number for number in first if number in own]

    def _check_emission_ids(self, held: Held) -> None:
        """An entry's event has one id, through all crashes and replays."""
        for emission_id, entry_id in held.emitted:
            assert self._emission_ids.setdefault(entry_id, emission_id) == emission_id
        assert len(set(self._emission_ids.values())) == len(self._emission_ids)
