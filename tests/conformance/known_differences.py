"""Where kinesis-local 0.6.2 differs from AWS: the test that shows it, and what it does instead.

Such a test must fail there (a strict xfail), so that a version that gets it right is noticed.
`docs/localkinesis.md` lists the same differences.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """What the emulator does; `always` is false where it depends on timing."""

    reason: str
    always: bool = True


_ANY_ORDERING = Difference("answers HTTP 500 to a malformed SequenceNumberForOrdering")
_COUNT = Difference("does not check the number of records in PutRecords")
_SIZE = Difference("does not check sizes in PutRecords, nor count the partition key")
_SEQUENCE = Difference("does not check which shard a sequence number is from, or whether any")
_ENDING = Difference("gives closed shards 2^63-1 as EndingSequenceNumber")
_NO_FILTER = Difference("does not apply this ShardFilter shortly after a reshard", always=False)

KINESIS_LOCAL: dict[str, Difference] = {
    f"test_an_explicit_hash_key_overrides_the_partition_key[kinesis-local-{2**127 - 1}-0]": (
        Difference("divides the hash range off by one")
    ),
    "test_sequence_number_for_ordering_must_be_a_sequence_number": _ANY_ORDERING,
    "test_put_records_refuses_501": _COUNT,
    "test_put_records_refuses_an_empty_list": _COUNT,
    "test_one_record_above_one_mib_refuses_the_whole_put_records": _SIZE,
    "test_the_partition_key_counts_towards_one_mib": _SIZE,
    "test_put_records_refuses_more_than_ten_mib": _SIZE,
    "test_a_made_up_sequence_number_is_refused": Difference(
        "answers ResourceNotFoundException instead of InvalidArgumentException"
    ),
    "test_a_sequence_number_of_another_shard_is_refused": _SEQUENCE,
    "test_a_sequence_number_goes_with_the_sequence_iterators_only": _SEQUENCE,
    "test_an_iterator_cannot_start_in_the_future": Difference("accepts a timestamp to come"),
    "test_an_unknown_iterator_type_is_refused": Difference("answers SerializationException"),
    "test_a_made_up_iterator_is_refused": Difference("answers HTTP 500"),
    "test_a_closed_shards_ending_number_is_not_below_its_records": _ENDING,
    "test_a_closed_shard_can_be_read_up_from_its_ending_number": _ENDING,
    "test_a_split_needs_a_key_inside_the_shard[kinesis-local-0]": Difference(
        "splits a shard at its first key, into an empty range and itself"
    ),
    "test_update_shard_count_reaches_any_count_evenly": Difference(
        "leaves shards of unequal width when one count does not divide the other"
    ),
    "test_filter_at_trim_horizon_lists_the_oldest_cover": Difference(
        "lists the children of AT_TRIM_HORIZON shards too"
    ),
    "test_filter_by_a_time_after_the_reshards_lists_open_shards": _NO_FILTER,
    "test_list_streams_goes_on_with_a_token": Difference("gives no NextToken in ListStreams"),
}
