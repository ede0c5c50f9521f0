"""The operations that the endpoint knows: how each is decoded, run and encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streamproc.testing.localkinesis import (
    cbor,
    consumer_operations,
    put_operations,
    read_operations,
    requests,
    shard_operations,
    stream_operations,
)
from streamproc.testing.localkinesis.account import Account
from streamproc.testing.localkinesis.faults import Faults

Run = Callable[[Account, Any, Faults], bytes]

_encode = msgspec.json.Encoder().encode


class Operation:
    """One API operation.

    `run` gets the account and the decoded request and returns the body of the answer as JSON, and
    `run_in_cbor` as CBOR; `shard_of` says which shard a request is about, for faults that are
    limited to one.
    """

    def __init__(
        self,
        request_type: type[Any],
        run: Run,
        shard_of: Callable[[Account, Any], str | None],
        run_in_cbor: Run | None = None,
    ) -> None:
        self._request_type = request_type
        self._decoder = msgspec.json.Decoder(request_type)
        self.run = run
        self.run_in_cbor = run_in_cbor or _in_cbor(run)
        self.shard_of = shard_of

    def decode(self, body: bytes) -> Any:
        """Decode a request in JSON; an empty body stands for one without members.

        Raises:
            ValueError: it is malformed.
        """
        return self._decoder.decode(body or b"{}")

    def decode_cbor(self, body: bytes) -> Any:
        """Decode a request in CBOR.

        Raises:
            ValueError: it is malformed.
        """
        return cbor.decode_request(body, self._request_type)


def _in_cbor(run: Run) -> Run:
    def run_in_cbor(account: Account, request: Any, faults: Faults) -> bytes:
        return cbor.encode_answer(run(account, request, faults))

    return run_in_cbor


def _no_shard(_account: Account, _request: Any) -> str | None:
    return None


def _encoded(operation: Callable[[Account, Any], Any]) -> Run:
    def run(account: Account, request: Any, _faults: Faults) -> bytes:
        answer = operation(account, request)
        return b"" if answer is None else _encode(answer)

    return run


def _get_records(account: Account, request: requests.GetRecords, _faults: Faults) -> bytes:
    return read_operations.get_records(account, request)


def _plain(request_type: type[Any], operation: Callable[[Account, Any], Any]) -> Operation:
    return Operation(request_type, _encoded(operation), _no_shard)


OPERATIONS: dict[str, Operation] = {
    "CreateStream": _plain(requests.CreateStream, stream_operations.create_stream),
    "DeleteStream": _plain(requests.StreamRequest, stream_operations.delete_stream),
    "DescribeStream": _plain(requests.DescribeStream, stream_operations.describe_stream),
    "DescribeStreamSummary": _plain(
        requests.StreamRequest, stream_operations.describe_stream_summary
    ),
    "DescribeLimits": _plain(requests.NoMembers, stream_operations.describe_limits),
    "ListStreams": _plain(requests.ListStreams, stream_operations.list_streams),
    "IncreaseStreamRetentionPeriod": _plain(
        requests.ChangeRetention, stream_operations.increase_retention
    ),
    "DecreaseStreamRetentionPeriod": _plain(
        requests.ChangeRetention, stream_operations.decrease_retention
    ),
    "ListShards": _plain(requests.ListShards, shard_operations.list_shards),
    "UpdateShardCount": _plain(requests.UpdateShardCount, shard_operations.update_shard_count),
    "SplitShard": Operation(
        requests.SplitShard,
        _encoded(shard_operations.split_shard),
        lambda _, request: request.shard_to_split,
    ),
    "MergeShards": Operation(
        requests.MergeShards,
        _encoded(shard_operations.merge_shards),
        lambda _, request: request.shard_to_merge,
    ),
    "PutRecord": Operation(
        requests.PutRecord, put_operations.put_record, put_operations.record_shard
    ),
    "PutRecords": Operation(requests.PutRecords, put_operations.put_records, _no_shard),
    "GetShardIterator": Operation(
        requests.GetShardIterator,
        _encoded(read_operations.get_shard_iterator),
        lambda _, request: request.shard_id,
    ),
    "RegisterStreamConsumer": _plain(
        requests.RegisterStreamConsumer, consumer_operations.register_stream_consumer
    ),
    "DescribeStreamConsumer": _plain(
        requests.StreamConsumer, consumer_operations.describe_stream_consumer
    ),
    "DeregisterStreamConsumer": _plain(
        requests.StreamConsumer, consumer_operations.deregister_stream_consumer
    ),
    "ListStreamConsumers": _plain(
        requests.ListStreamConsumers, consumer_operations.list_stream_consumers
    ),
    "GetRecords": Operation(
        requests.GetRecords,
        _get_records,
        lambda _, request: read_operations.iterator_shard(request.shard_iterator),
        lambda account, request, _: read_operations.get_records_in_cbor(account, request),
    ),
}
