"""Batches that share a key run one after the other, others side by side, whoever is cancelled."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.pipeline.gate import KeyGate

key_sets = st.frozensets(st.sampled_from("abcd"), max_size=3)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


class Batch:
    """Holds keys from when it gets them until `leave` is set."""

    def __init__(self, gate: KeyGate, keys: frozenset[str]) -> None:
        self.keys = keys
        self.inside = False
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(gate))

    async def _run(self, gate: KeyGate) -> None:
        async with gate.hold(self.keys):
            self.inside = True
            try:
                await self.leave.wait()
            finally:
                self.inside = False

    @property
    def is_over(self) -> bool:
        return self.task.done()


@given(
    sets=st.lists(key_sets, min_size=1, max_size=8),
    moves=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=20),
)
@settings(max_examples=150, deadline=None)
async def test_a_batch_waits_for_the_earlier_ones_with_its_keys_and_for_no_other(
    sets: list[frozenset[str]], moves: list[tuple[int, bool]]
) -> None:
    gate = KeyGate()
    batches = [Batch(gate, keys) for keys in sets]
    everyone_in_turn = [(at, False) for at in range(len(batches))]
    cancelled = False
    for at, cancel in [*moves, *everyone_in_turn]:
        await settle()
        for place, batch in enumerate(batches):
            ahead = [b for b in batches[:place] if b.keys & batch.keys and not b.is_over]
            assert not (batch.inside and ahead)
            # Behind one that was cancelled, a batch may wait for that one's others as well.
            assert batch.is_over or batch.inside or ahead or cancelled
        if at < len(batches) and not batches[at].is_over:
            if cancel:
                batches[at].task.cancel()
                cancelled = True
            elif batches[at].inside:
                batches[at].leave.set()
    await settle()
    assert all(batch.is_over for batch in batches)
    assert gate._last == {}


async def test_whoever_waits_behind_a_cancelled_batch_still_waits_for_those_ahead() -> None:
    gate = KeyGate()
    first, second, third = (Batch(gate, frozenset("a")) for _ in range(3))
    await settle()
    second.task.cancel()
    await settle()
    assert second.is_over
    assert (first.inside, third.inside) == (True, False)
    first.leave.set()
    await settle()
    assert third.inside
    third.leave.set()
    await third.task
