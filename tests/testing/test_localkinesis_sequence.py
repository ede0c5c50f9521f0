"""Sequence numbers and routing: the arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.testing.localkinesis import routing, sequence

epochs = st.integers(1, 2**36 - 1)
counters = st.integers(0, 2**64 - 1)
shards = st.integers(0, 2**32 - 1)


@given(epochs, counters, shards)
def test_a_sequence_number_has_56_digits_and_reads_back(epoch: int, count: int, shard: int) -> None:
    number = sequence.encode(epoch, count, shard)
    assert len(str(number)) == 56
    assert sequence.decode(str(number)) == (epoch, count, shard)


@given(epochs, st.tuples(counters, counters), st.tuples(shards, shards))
def test_numbers_are_ordered_by_epoch_then_counter(
    epoch: int, count: tuple[int, int], shard: tuple[int, int]
) -> None:
    low, high = sorted(count)
    if low < high:
        assert sequence.encode(epoch, low, shard[0]) < sequence.encode(epoch, high, shard[1])
    if epoch > 1:
        earlier = sequence.encode(epoch - 1, high, shard[0])
        assert earlier < sequence.encode(epoch, low, shard[1])


@given(st.text(max_size=60))
def test_other_texts_are_no_sequence_numbers(text: str) -> None:
    parts = sequence.decode(text)
    assert parts is None or str(sequence.encode(*parts)) == text.lstrip("0")


@given(st.integers(1, 3000))
def test_uniform_bounds_cover_the_hash_range(count: int) -> None:
    bounds = routing.uniform_bounds(count)
    assert len(bounds) == count
    assert bounds[0][0] == 0
    assert bounds[-1][1] == routing.MAX_HASH_KEY
    assert [end + 1 for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]


@given(st.integers(0, routing.MAX_HASH_KEY))
def test_hash_keys_are_read_as_decimals(value: int) -> None:
    assert routing.parse_hash_key(str(value)) == value
    assert routing.parse_hash_key(str(value + routing.HASH_SPACE)) is None
    assert routing.parse_hash_key(f"0{value}") is None


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=256))
def test_a_partition_key_hashes_into_the_range(key: str) -> None:
    assert 0 <= routing.hash_partition_key(key) <= routing.MAX_HASH_KEY
