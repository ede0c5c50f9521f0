"""What every state store does, rule by rule: adopt, check, commit, and what it refuses."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamproc.errors import Fenced

from .stores import (
    DEDUPE_TTL,
    SHARD,
    START,
    Kit,
    MemoryKit,
    RedisKit,
    adopted,
    cell,
    commit,
    digest,
    emitted,
    entry,
    position,
    this_bucket,
)


async def test_adopting_a_new_shard_begins_its_chain(kit: Kit) -> None:
    assert (await kit.store.adopt(SHARD, 1, START)).position == START
    assert (await kit.store.adopt(SHARD, 1, None)).position == START


async def test_adopting_without_a_start_leaves_the_shard_without_position(kit: Kit) -> None:
    assert (await kit.store.adopt(SHARD, 1, None)).position is None
    result = await kit.store.commit(commit(START, position(1)))
    assert (result.outcome, result.position) == ("MOVED", None)


async def test_adopting_a_known_shard_finds_its_position_and_keeps_it(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.commit(commit(START, position(7)))
    assert (await kit.store.adopt(SHARD, 2, START)).position == position(7)
    assert (await kit.store.adopt(SHARD, 3, None)).position == position(7)


async def test_an_older_epoch_cannot_adopt_and_the_same_can(kit: Kit) -> None:
    await kit.store.adopt(SHARD, 5, START)
    before = await kit.dump()
    with pytest.raises(Fenced, match="epoch 4 is fenced off by epoch 5") as fenced:
        await kit.store.adopt(SHARD, 4, position(9))
    assert fenced.value.epoch == 5
    assert await kit.dump() == before
    assert (await kit.store.adopt(SHARD, 5, None)).position == START


async def test_the_incarnation_is_one_for_all_shards_and_stays(kit: Kit) -> None:
    first = (await kit.store.adopt(SHARD, 1, START)).incarnation
    assert first
    assert (await kit.store.adopt("orders/other", 1, START)).incarnation == first
    assert (await kit.store.adopt(SHARD, 2, START)).incarnation == first


async def test_commits_form_a_chain(kit: Kit) -> None:
    await adopted(kit)
    for number in range(3):
        start = position(number) if number else START
        result = await kit.store.commit(commit(start, position(number + 1)))
        assert result.outcome == "OK"
    assert (await kit.store.adopt(SHARD, 1, None)).position == position(3)


async def test_a_commit_from_elsewhere_is_told_where_the_shard_is(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.commit(commit(START, position(5)))
    for start in (START, position(4), position(6)):
        result = await kit.store.commit(commit(start, position(9)))
        assert (result.outcome, result.position) == ("MOVED", position(5))


async def test_a_repeated_commit_is_moved_to_its_own_end(kit: Kit) -> None:
    await adopted(kit)
    again = commit(START, position(5), digests=[digest(1)], outbox=[entry("a")])
    assert (await kit.store.commit(again)).outcome == "OK"
    before = await kit.dump()
    result = await kit.store.commit(again)
    assert (result.outcome, result.position) == ("MOVED", again.end)
    assert await kit.dump() == before


async def test_shards_have_chains_of_their_own(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.commit(commit(START, position(5)))
    result = await kit.store.commit(commit(position(5), position(6), shard="orders/other"))
    assert (result.outcome, result.position) == ("MOVED", None)


async def test_an_older_epoch_cannot_commit_once_a_newer_one_adopted(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.adopt(SHARD, 2, None)
    with pytest.raises(Fenced) as fenced:
        await kit.store.commit(commit(START, position(1), epoch=1))
    assert fenced.value.epoch == 2
    assert (await kit.store.commit(commit(START, position(1), epoch=2))).outcome == "OK"


async def test_an_older_epoch_cannot_commit_once_a_newer_one_committed(kit: Kit) -> None:
    await adopted(kit)
    assert (await kit.store.commit(commit(START, position(1), epoch=3))).outcome == "OK"
    with pytest.raises(Fenced):
        await kit.store.commit(commit(position(1), position(2), epoch=2))


async def test_a_committed_id_is_refused_by_its_index(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.commit(commit(START, position(1), digests=[digest(1), digest(2)]))
    result = await kit.store.commit(
        commit(position(1), position(2), digests=[digest(n) for n in (9, 2, 8, 1)])
    )
    assert (result.outcome, set(result.refused)) == ("DUPLICATE", {1, 3})


async def test_an_id_counts_for_all_shards_of_a_group(kit: Kit) -> None:
    await adopted(kit)
    await kit.store.adopt("orders/other", 1, START)
    await kit.store.commit(commit(START, position(1), digests=[digest(1)]))
    result = await kit.store.commit(
        commit(START, position(1), shard="orders/other", digests=[digest(1)])
    )
    assert result.outcome == "DUPLICATE"


async def test_check_tells_which_ids_are_committed(kit: Kit) -> None:
    await adopted(kit)
    checked = await kit.store.check([digest(1), digest(2)], [])
    bucket, seen = checked.bucket, checked.committed
    assert (bucket, seen) == (this_bucket(), set())
    await kit.store.commit(commit(START, position(1), digests=[digest(2)]))
    seen = (await kit.store.check([digest(1), digest(2), digest(3), digest(2)], [])).committed
    assert seen == {1, 3}


async def test_many_thousand_ids_fit_in_one_commit(kit: Kit) -> None:
    """More than Lua can unpack at once, which is just below 8,000."""
    await adopted(kit)
    many = [digest(number) for number in range(9_001)]
    assert (await kit.store.commit(commit(START, position(1), digests=many))).outcome == "OK"
    seen = (await kit.store.check([*many, digest(9_001)], [])).committed
    assert seen == set(range(9_001))
    others = [digest(20_000 + number) for number in range(9_001)]
    for at in (0, 3_999, 4_000, 7_999, 8_000, 9_000):
        others[at] = digest(at)
    result = await kit.store.commit(commit(position(1), position(2), digests=others))
    assert (result.outcome, set(result.refused)) == (
        "DUPLICATE",
        {0, 3_999, 4_000, 7_999, 8_000, 9_000},
    )


async def test_ids_are_remembered_through_two_more_half_ttls(sets_kit: Kit) -> None:
    await adopted(sets_kit)
    now = this_bucket()
    for at, age in enumerate((0, 1, 2, 3)):
        start = position(at) if at else START
        old = commit(start, position(at + 1), bucket=now - age, digests=[digest(age)])
        assert (await sets_kit.store.commit(old)).outcome == "OK"
    seen = (await sets_kit.store.check([digest(age) for age in (0, 1, 2, 3)], [])).committed
    assert seen == {0, 1, 2}
    result = await sets_kit.store.commit(
        commit(position(4), position(5), digests=[digest(age) for age in (3, 2, 1, 0)])
    )
    assert (result.outcome, set(result.refused)) == ("DUPLICATE", {1, 2, 3})


async def test_an_id_committed_after_the_bucket_changed_is_refused(sets_kit: Kit) -> None:
    """A batch checks, the bucket changes, another shard commits the id, the batch commits."""
    await adopted(sets_kit)
    await sets_kit.store.adopt("orders/other", 1, START)
    bucket = (await sets_kit.store.check([digest(1)], [])).bucket
    theirs = commit(
        START, position(1), shard="orders/other", bucket=bucket + 1, digests=[digest(1)]
    )
    assert (await sets_kit.store.commit(theirs)).outcome == "OK"
    ours = commit(START, position(1), bucket=bucket, digests=[digest(1)])
    assert (await sets_kit.store.commit(ours)).outcome == "DUPLICATE"


async def test_a_mark_outlives_the_ttl_from_any_moment_of_its_bucket(sets_kit: Kit) -> None:
    await adopted(sets_kit)
    await sets_kit.store.commit(commit(START, position(1), digests=[digest(1)]))
    left = [expiry for expiry in _seen_expiries(await sets_kit.dump()) if expiry > 0]
    assert len(left) == 1
    # Three half TTLs: its own bucket may have a whole one to go, and is looked at for two more.
    assert left[0] / 1000 == pytest.approx(time.time() + 1.5 * DEDUPE_TTL, abs=60)


async def test_a_key_of_its_own_remembers_an_id_for_the_ttl(keys_kit: Kit) -> None:
    await adopted(keys_kit)
    await keys_kit.store.commit(commit(START, position(1), digests=[digest(1), digest(2)]))
    dump = await keys_kit.dump()
    expiries = list(
        dump["marked"].values()
        if "marked" in dump
        else [expires_ms for key, (_, expires_ms) in dump.items() if ":id:" in key]
    )
    assert len(expiries) == 2
    assert expiries[0] / 1000 == pytest.approx(time.time() + DEDUPE_TTL, abs=60)


async def test_outbox_entries_and_dead_letters_are_appended_in_order(kit: Kit) -> None:
    await adopted(kit)
    letters: list[list[str | bytes]] = [["reason", "bad-json", "data", b"\x00\xff{"]]
    first = commit(START, position(1), outbox=[entry("a", b"\x00\xff"), entry("ü", b"")])
    second = commit(position(1), position(2), outbox=[entry("c")], dead_letters=letters)
    assert (await kit.store.commit(first)).outcome == "OK"
    assert (await kit.store.commit(second)).outcome == "OK"
    assert await kit.outbox() == [emitted("a", b"\x00\xff"), emitted("ü", b""), emitted("c")]
    assert await kit.dead_letters() == [{"reason": b"bad-json", "data": b"\x00\xff{"}]


async def test_a_state_is_written_and_its_cell_told(kit: Kit) -> None:
    await adopted(kit)
    written = cell(kit, "k")
    await kit.store.check([], [written])
    assert (written.version, written.raw) == (0, None)
    await kit.store.commit(commit(START, position(1), cells=[(written, b'{"n":1}')]))
    assert await kit.stored(written.key) == b'{"n":1}'
    assert written.raw == b'{"n":1}'
    first = written.version
    assert first > 0
    await kit.store.commit(commit(position(1), position(2), cells=[(written, b'{"n":2}')]))
    assert written.version not in (0, first)
    assert await kit.stored(written.key) == b'{"n":2}'


async def test_check_loads_newer_states_and_leaves_current_ones_alone(kit: Kit) -> None:
    await adopted(kit)
    mine, theirs = cell(kit, "k"), cell(kit, "k")
    await kit.store.commit(commit(START, position(1), cells=[(mine, b'{"n":1}')]))
    decoded = mine.read()
    await kit.store.check([], [mine, theirs])
    assert mine.read() is decoded
    assert (theirs.version, theirs.read()) == (mine.version, {"n": 1})
    await kit.store.commit(commit(position(1), position(2), cells=[(theirs, b'{"n":2}')]))
    await kit.store.check([], [mine])
    assert mine.read() == {"n": 2}


async def test_a_stale_state_is_refused_by_its_index(kit: Kit) -> None:
    await adopted(kit)
    mine, theirs, other = cell(kit, "k"), cell(kit, "k"), cell(kit, "other")
    await kit.store.commit(commit(START, position(1), cells=[(theirs, b"{}")]))
    result = await kit.store.commit(
        commit(position(1), position(2), cells=[(other, b"{}"), (mine, b'{"n":1}')])
    )
    assert (result.outcome, result.refused) == ("CONFLICT", (1,))
    assert mine.version == 0
    assert await kit.stored(other.key) is None


async def test_a_state_that_was_only_read_is_checked_and_not_written(kit: Kit) -> None:
    await adopted(kit)
    read, theirs = cell(kit, "k"), cell(kit, "k")
    result = await kit.store.commit(commit(START, position(1), cells=[(read, None)]))
    assert result.outcome == "OK"
    assert read.version == 0
    assert await kit.stored(read.key) is None
    await kit.store.commit(commit(position(1), position(2), cells=[(theirs, b"{}")]))
    result = await kit.store.commit(commit(position(2), position(3), cells=[(read, None)]))
    assert result.outcome == "CONFLICT"


async def test_a_state_lives_for_its_ttl_from_the_last_write(kit: Kit) -> None:
    await adopted(kit)
    kept, mortal = cell(kit, "kept"), cell(kit, "mortal", ttl=3_600.0)
    both = commit(START, position(1), cells=[(kept, b"{}"), (mortal, b"{}")])
    await kit.store.commit(both)
    assert await kit.ttl(kept.key) is None
    assert await kit.ttl(mortal.key) == pytest.approx(3_600, abs=60)
    await kit.expire(mortal.key)
    await kit.store.check([], [kept, mortal])
    assert (kept.raw, mortal.raw, mortal.version) == (b"{}", None, 0)


async def test_a_state_may_be_kept_for_centuries(kit: Kit) -> None:
    await adopted(kit)
    # In ms a number of 13 digits, which must not reach a command rounded or with an exponent.
    held = cell(kit, "k", ttl=100_000 * 86_400.0)
    await kit.store.commit(commit(START, position(1), cells=[(held, b"{}")]))
    assert await kit.ttl(held.key) == pytest.approx(100_000 * 86_400, abs=60)


async def test_letters_of_different_shapes_keep_their_fields_and_their_order(kit: Kit) -> None:
    await adopted(kit)
    letters = [
        ("reason", "a"),
        ("id", "1", "data", b"\xff\x00"),
        ("data", b"", "id", "2"),
        ("reason", "b"),
    ]
    changes: dict[str, Any] = {"outbox": [entry("e")], "digests": [digest(1)]}
    await kit.store.commit(commit(START, position(1), dead_letters=letters, **changes))
    assert await kit.outbox() == [emitted("e")]
    assert await kit.dead_letters() == [
        {"reason": b"a"},
        {"id": b"1", "data": b"\xff\x00"},
        {"data": b"", "id": b"2"},
        {"reason": b"b"},
    ]


async def test_reading_a_state_does_not_prolong_its_life(kit: Kit) -> None:
    await adopted(kit)
    held = cell(kit, "k", ttl=3_600.0)
    await kit.store.commit(commit(START, position(1), cells=[(held, b"{}")]))
    if isinstance(kit, RedisKit):
        await kit.client.pexpire(held.key, 1_000_000)
    else:
        assert isinstance(kit, MemoryKit)
        kit.now += 2_600
    await kit.store.check([], [held])
    await kit.store.commit(commit(position(1), position(2), cells=[(held, None)]))
    assert await kit.ttl(held.key) == pytest.approx(1_000, abs=60)


async def test_a_state_that_expired_and_came_back_is_not_the_old_one(kit: Kit) -> None:
    await adopted(kit)
    old, new = cell(kit, "k", ttl=60.0), cell(kit, "k", ttl=60.0)
    await kit.store.commit(commit(START, position(1), cells=[(old, b'{"n":1}')]))
    await kit.expire(old.key)
    await kit.store.commit(commit(position(1), position(2), cells=[(new, b'{"n":5}')]))
    result = await kit.store.commit(commit(position(2), position(3), cells=[(old, b'{"n":2}')]))
    assert result.outcome == "CONFLICT"
    assert await kit.stored(old.key) == b'{"n":5}'
    await kit.store.check([], [old])
    assert old.read() == {"n": 5}


async def test_a_held_state_that_expired_conflicts(kit: Kit) -> None:
    await adopted(kit)
    held = cell(kit, "k", ttl=60.0)
    await kit.store.commit(commit(START, position(1), cells=[(held, b"{}")]))
    await kit.expire(held.key)
    result = await kit.store.commit(commit(position(1), position(2), cells=[(held, b'{"n":1}')]))
    assert result.outcome == "CONFLICT"
    assert await kit.stored(held.key) is None


REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("FENCED", {"epoch": 1}),
    ("MOVED", {"start": position(99)}),
    ("DUPLICATE", {"digests": [digest(1), digest(2)]}),
    ("CONFLICT", {}),
]


@pytest.mark.parametrize("first", range(4), ids=[name for name, _ in REFUSALS])
async def test_the_first_reason_of_several_is_given_and_nothing_is_written(
    kit: Kit, first: int
) -> None:
    """FENCED before MOVED before DUPLICATE before CONFLICT; each also leaves no trace."""
    await kit.store.adopt(SHARD, 1, START)
    held = cell(kit, "k", ttl=60.0)
    made = commit(START, position(1), digests=[digest(1)], cells=[(cell(kit, "k"), b"{}")])
    await kit.store.commit(made)
    await kit.store.adopt(SHARD, 2, None)
    refused: dict[str, Any] = {
        "start": position(1),
        "end": position(2),
        "epoch": 2,
        "digests": [digest(2)],
        "cells": [(cell(kit, "new"), b"{}"), (held, b'{"n":1}')],
        "outbox": [entry("a")],
        "dead_letters": [["reason", "r"]],
    }
    for _, violation in REFUSALS[first:]:
        refused |= violation
    before = await kit.dump()
    if REFUSALS[first][0] == "FENCED":
        with pytest.raises(Fenced):
            await kit.store.commit(commit(**refused))
    else:
        assert (await kit.store.commit(commit(**refused))).outcome == REFUSALS[first][0]
    assert await kit.dump() == before
    assert (held.version, held.raw) == (0, None)


def _seen_expiries(dump: dict[str, Any]) -> list[int]:
    if "seen" in dump:
        return [expires_ms for _, expires_ms in dump["seen"].values()]
    return [expires_ms for key, (_, expires_ms) in dump.items() if ":seen:" in key]


async def test_the_shards_of_a_stream_that_have_a_position_are_known(kit: Kit) -> None:
    for shard in ("orders/a", "orders/b", "orders-2/c"):
        await kit.store.adopt(shard, 1, START)
    assert await kit.store.positioned_shards("orders") == {"a", "b"}


async def test_a_forgotten_shard_has_no_position(kit: Kit) -> None:
    for shard in ("orders/a", "orders/b"):
        await kit.store.adopt(shard, 1, START)
    await kit.store.forget_shards("orders", ["a", "never-seen"])
    await kit.store.forget_shards("orders", [])
    assert await kit.store.positioned_shards("orders") == {"b"}
    assert (await kit.store.adopt("orders/a", 1, None)).position is None
