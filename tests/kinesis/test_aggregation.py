"""KPL aggregates: what is unpacked, what is left out, and what stands as it came."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import aws_kinesis_agg.aggregator
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.aggregation import Deaggregated, deaggregate
from streamproc.kinesis.records import HashKeyRange, Record
from streamproc.position import Position

from .kpl import MAGIC, User, aggregate, hash_of, message, sealed, text

LAST_HASH_KEY = 2**128 - 1
EVERYTHING = HashKeyRange("0", str(LAST_HASH_KEY))
LOWER_HALF = HashKeyRange("0", str(2**127 - 1))

USERS = st.lists(
    st.builds(
        User,
        key=st.text(max_size=8),
        data=st.binary(max_size=40),
        hash_key=st.none() | st.integers(0, LAST_HASH_KEY),
    ),
    max_size=20,
)


def carrying(data: bytes, sequence: str = "7") -> Record:
    return Record(sequence, 1.5, data, "a")


def unpack(data: bytes, hash_range: HashKeyRange | None = EVERYTHING) -> Deaggregated:
    return deaggregate([carrying(data)], hash_range)


def content(records: Sequence[Record]) -> list[tuple[str, bytes, int]]:
    return [(record.partition_key, record.data, record.sub) for record in records]


def test_a_known_aggregate_byte_by_byte() -> None:
    body = bytes.fromhex("0a01610a01621a0608001a0268691a0608011a02796f")
    unpacked = unpack(sealed(body))
    assert content(unpacked.records) == [("a", b"hi", 0), ("b", b"yo", 1)]
    assert unpacked.aggregates == 1
    assert {record.sequence_number for record in unpacked.records} == {"7"}
    assert {record.approximate_arrival_timestamp for record in unpacked.records} == {1.5}


@given(USERS)
def test_every_user_record_comes_out_as_it_went_in(users: list[User]) -> None:
    unpacked = unpack(aggregate(users))
    assert content(unpacked.records) == [(u.key, u.data, at) for at, u in enumerate(users)]
    assert (unpacked.aggregates, unpacked.out_of_range) == (1, 0)


def test_what_the_python_aggregator_packs_is_unpacked() -> None:
    packer = aws_kinesis_agg.aggregator.RecordAggregator()
    users = [(f"card-{number % 3}", b'{"n": %d}' % number) for number in range(200)]
    for key, data in users:
        assert packer.add_user_record(key, data) is None
    _, _, packed = packer.clear_and_get().get_contents()
    unpacked = unpack(packed)
    assert [(record.partition_key, record.data) for record in unpacked.records] == users
    assert [record.sub for record in unpacked.records] == list(range(200))


def test_plain_records_and_aggregates_keep_their_order() -> None:
    packed = aggregate([User("a", b"2"), User("a", b"3")])
    records = [carrying(b"1", "1"), carrying(packed, "2"), carrying(b"4", "3")]
    unpacked = deaggregate(records, EVERYTHING)
    assert [record.data for record in unpacked.records] == [b"1", b"2", b"3", b"4"]
    reached = [record.position for record in unpacked.records]
    assert reached == [Position("1"), Position("2"), Position("2", 1), Position("3")]
    assert all(before < after for before, after in itertools.pairwise(reached))


@given(USERS)
def test_only_what_belongs_to_another_shard_is_left_out_and_it_is_counted(
    users: list[User],
) -> None:
    def is_lower(user: User) -> bool:
        return (hash_of(user.key) if user.hash_key is None else user.hash_key) < 2**127

    unpacked = unpack(aggregate(users), LOWER_HALF)
    kept = [(u.key, u.data, at) for at, u in enumerate(users) if is_lower(u)]
    assert content(unpacked.records) == kept, "the index inside the aggregate stays the same"
    assert unpacked.out_of_range == len(users) - len(kept)


def test_everything_is_kept_where_the_range_is_not_known() -> None:
    users = [User("a", b"low", 0), User("a", b"high", LAST_HASH_KEY)]
    unpacked = unpack(aggregate(users), None)
    assert [record.data for record in unpacked.records] == [b"low", b"high"]
    assert unpacked.out_of_range == 0


def test_a_record_without_explicit_hash_key_does_not_get_another_ones() -> None:
    upper = next(key for key in map(str, range(99)) if hash_of(key) >= 2**127)
    users = [User("x", b"explicit", 0), User(upper, b"none")]
    unpacked = unpack(aggregate(users), LOWER_HALF)
    assert [record.data for record in unpacked.records] == [b"explicit"]


def test_an_explicit_hash_key_that_is_no_number_gives_way_to_the_partition_key() -> None:
    key = next(key for key in map(str, range(99)) if hash_of(key) < 2**127)
    body = text(1, key.encode()) + text(2, b"-1") + text(3, b"\x08\x00\x10\x00" + text(3, b"x"))
    assert content(unpack(sealed(body), LOWER_HALF).records) == [(key, b"x", 0)]


def test_an_empty_aggregate_holds_nothing_and_is_counted() -> None:
    assert unpack(aggregate([])) == Deaggregated([], aggregates=1)


def test_unknown_fields_and_tags_are_skipped() -> None:
    tag = text(4, text(1, b"name") + text(2, b"value"))
    body = text(1, b"a") + text(3, b"\x08\x00" + text(3, b"x") + tag) + text(9, b"later")
    assert content(unpack(sealed(body)).records) == [("a", b"x", 0)]


def test_an_aggregate_inside_an_aggregate_is_not_unpacked_twice() -> None:
    inner = aggregate([User("b", b"inner")])
    assert content(unpack(aggregate([User("a", inner)])).records) == [("a", inner, 0)]


SOUND = message([User("a", b"hi")])
BROKEN = {
    "a wrong digest": MAGIC + SOUND + bytes(16),
    "nothing after the magic": MAGIC,
    "nothing but a digest": MAGIC + bytes(16),
    "no protobuf": sealed(b"\xff\xff"),
    "a message cut off": sealed(SOUND[:-1]),
    "no data": sealed(text(1, b"a") + text(3, b"\x08\x00")),
    "no key index": sealed(text(1, b"a") + text(3, text(3, b"hi"))),
    "a key index beyond the table": sealed(text(1, b"a") + text(3, b"\x08\x05" + text(3, b"hi"))),
    "a key that is not UTF-8": sealed(text(1, b"\xff\xfe") + text(3, b"\x08\x00" + text(3, b"x"))),
    "another magic": b"\xf3\x89\x9a\xc3" + SOUND,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_sound_aggregate_stands_as_it_came(data: bytes) -> None:
    assert unpack(data, LOWER_HALF) == Deaggregated([carrying(data)])


@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_whatever_break_it(body: bytes, with_digest: bool) -> None:
    data = sealed(body) if with_digest else MAGIC + body
    unpacked = unpack(data, LOWER_HALF)
    assert unpacked.aggregates or unpacked.records == [carrying(data)]


@given(USERS.filter(bool), st.data())
def test_a_flipped_bit_is_noticed(users: list[User], data: st.DataObject) -> None:
    packed = bytearray(aggregate(users))
    at = data.draw(st.integers(len(MAGIC), len(packed) - 1))
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert unpack(bytes(packed)) == Deaggregated([carrying(bytes(packed))])
