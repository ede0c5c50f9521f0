"""Records of parked partition keys: how they are put aside, and how they are taken up again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamproc.deadletter import DeadLetter
from streamproc.pipeline.decode import DecodedBatch, decode_batch
from streamproc.pipeline.dispatch import Dispatched
from streamproc.pipeline.engine import Engine
from streamproc.state.parking import Queue, Redriven

__all__ = ["Redrive", "by_partition_key"]


def by_partition_key(letters: Sequence[DeadLetter]) -> dict[str, list[str]]:
    """Return records to be parked as JSON, by partition key, in stream order."""
    parked: dict[str, list[str]] = {}
    for letter in sorted(letters, key=lambda letter: (int(letter.sequence), letter.sub)):
        parked.setdefault(letter.partition_key, []).append(letter.to_json())
    return parked


class Redrive:
    """The oldest records of a parked key on their way through the handlers once more.

    Attributes:
        key: the partition key.
        letters: the records with what was known of them, oldest first.
    """

    def __init__(self, key: str, queue: Queue) -> None:
        self.key = key
        self.letters = [DeadLetter.from_json(record) for record in queue.records]
        self._length = queue.length

    def decode(self, engine: Engine, shard: str, partition: int) -> DecodedBatch:
        """Return the records as a batch; `Item.order` is an index into `letters`."""
        batch = decode_batch(
            [letter.record() for letter in self.letters],
            engine.routes,
            engine.cache,
            stream=engine.stream,
            shard=shard,
            dead_letter_unknown=engine.dead_letter_unknown,
        )
        # They may have come from a shard that was split or merged since.
        by_place = {(each.sequence, each.sub): each for each in self.letters}
        batch.dead = [
            _again(by_place[each.sequence, each.sub], each.reason, each.error)
            for each in batch.dead
        ]
        for item in [item for item in batch.items if item.partition != partition]:
            batch.items.remove(item)
            error = f"its keys lie in partition {item.partition}, it was parked in {partition}"
            batch.dead.append(_again(self.letters[int(item.order)], "cross-partition", error))
        return batch

    def dead(self, batch: DecodedBatch, redriven: Redriven) -> list[DeadLetter]:
        """Return those that cannot be decoded any more, of what is done with."""
        done = {(each.sequence, each.sub) for each in self.letters[: redriven.done]}
        return [letter for letter in batch.dead if (letter.sequence, letter.sub) in done]

    def outcome(self, result: Dispatched, again: Sequence[DeadLetter]) -> Redriven:
        """Return what becomes of the list.

        Args:
            result: what handlers did.
            again: what became of those that failed and are to stay, in order.
        """
        stays = [failure.item for failure in result.failures if failure.fate != "dead-letter"]
        if stays:
            return Redriven(self.key, int(stays[0].order), self._length, again[0].to_json())
        return Redriven(self.key, len(self.letters), self._length)


def _again(letter: DeadLetter, reason: str, error: str) -> DeadLetter:
    return msgspec.structs.replace(letter, reason=reason, error=error, traceback="")
