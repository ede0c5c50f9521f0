"""Whether each record took effect exactly once and in order, judged by what Redis holds in the end.

Each record is a numbered step of its key. The processor's state of a key says which steps it saw,
and commits together with their effects; so whatever happened on the way, to lost answers, killed
workers or shards that were split, the states tell afterwards, and no list of all records is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from streamproc import Context, Event, Processor, StateReader, on
from streamproc.testing.localkinesis.prepared import PreparedRecord, prepare_record
from streamproc_benchmarks.workloads import EVENT_BYTES

__all__ = [
    "Effects",
    "EffectsProcessor",
    "Seen",
    "SlowEffectsProcessor",
    "Step",
    "Steps",
    "judge",
    "read_seen",
]

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Step(Event, type="BenchmarkStep", version=1, id="step_id"):
    """The `number`-th record of its key, from 0."""

    step_id: str
    key: str
    number: int
    note: str = ""


class Seen(msgspec.Struct):
    """What a key's state says of its steps.

    Attributes:
        next: one more than the greatest number seen.
        missing: numbers below it that were not seen.
        reordered: steps that came after one that follows them.
        duplicated: steps that came again.
    """

    next: int = 0
    missing: list[int] = []
    reordered: int = 0
    duplicated: int = 0

    def add(self, number: int) -> None:
        """Note a step."""
        if number >= self.next:
            self.missing.extend(range(self.next, number))
            self.next = number + 1
        elif number in self.missing:
            self.missing.remove(number)
            self.reordered += 1
        else:
            self.duplicated += 1


class EffectsProcessor(Processor[Seen]):
    """Notes each step in its key's state."""

    name = "effects"

    @on(Step, key="key")
    def note(self, event: Step, ctx: Context[Seen]) -> None:
        """Note it."""
        ctx.state.add(event.number)


class SlowEffectsProcessor(EffectsProcessor):
    """Waits for a slow service at each step, as it were.

    Args:
        seconds: that the service takes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @on(Step, key="key")
    async def note(  # type: ignore[override]  # waits, where its parent computes
        self, event: Step, ctx: Context[Seen]
    ) -> None:
        """Wait, then note it."""
        await asyncio.sleep(self._seconds)
        ctx.state.add(event.number)


class Steps(Iterator[PreparedRecord]):
    """Makes steps without end; keys are drawn, and each key's steps numbered.

    Args:
        keys: how many keys there are.
        seed: of the draw.
        per_second: steps in a second of event time.

    Attributes:
        sent: steps made so far, by key.
    """

    def __init__(self, keys: int, seed: int, per_second: float) -> None:
        self.sent = {f"key-{number:06d}": 0 for number in range(keys)}
        self._names = list(self.sent)
        self._draw = random.Random(seed).choice
        self._per_second = per_second
        self._made = 0
        self._time = ""

    def __next__(self) -> PreparedRecord:
        """Make the next step."""
        key = self._draw(self._names)
        number = self.sent[key]
        self.sent[key] = number + 1
        if self._made % 100 == 0:
            moment = _EPOCH + timedelta(seconds=self._made / self._per_second)
            self._time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._made += 1
        head = (
            f'{{"specversion":"1.0","id":"{key}-{number}","source":"https://example.com/bench",'
            f'"type":"com.example.benchmark.BenchmarkStep.v1","time":"{self._time}",'
            f'"datacontenttype":"application/json","data":{{"step_id":"{key}-{number}",'
            f'"key":"{key}","number":{number},"note":"'
        )
        text = head + "x" * (EVENT_BYTES - len(head) - 3) + '"}}'
        return prepare_record(key, text.encode())


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records; `published` and `took_effect` count them."""

    published: int
    took_effect: int
    lost: int
    duplicated: int
    reordered: int

    @property
    def is_clean(self) -> bool:
        """Whether each took effect once and in order, as far as the stream was processed."""
        return not (self.lost or self.duplicated or self.reordered)


def judge(sent: dict[str, int], seen: dict[str, Seen], *, all_of_it: bool) -> Effects:
    """Compare what was published with the states.

    Args:
        sent: steps published, by key.
        seen: the states.
        all_of_it: whether the stream was processed to its end, so that a step at the end of its
            key that was not seen is lost; else it may still be to come.
    """
    lost = took_effect = 0
    for key, count in sent.items():
        state = seen.get(key, Seen())
        lost += len(state.missing) + (count - state.next if all_of_it else 0)
        took_effect += state.next - len(state.missing)
    return Effects(
        published=sum(sent.values()),
        took_effect=took_effect,
        lost=lost,
        duplicated=sum(state.duplicated for state in seen.values()),
        reordered=sum(state.reordered for state in seen.values()),
    )


async def read_seen(redis_url: str, group: str) -> dict[str, Seen]:
    """Return the states of all keys, as they are committed."""
    async with StateReader(redis_url, group) as reader:
        return {
            stored.key[0]: stored.as_state_of(EffectsProcessor)
            async for stored in reader.scan(EffectsProcessor.name)
        }
