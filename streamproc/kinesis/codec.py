"""GetRecords answers, decoded in C straight into typed records.

botocore's parser walks the API model for every field of every record; msgspec reads the same body
into structs, base64 included, at about a twentieth of the cost. `TypedParserFactory` is the place
where the one is put before the other: everything but a successful GetRecords or ListShards stays
botocore's.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson
from aiobotocore.parsers import AioResponseParserFactory

from streamproc.kinesis.aggregation import KPL_MAGIC
from streamproc.kinesis.errors import MalformedResponseError
from streamproc.kinesis.records import ChildShard, Record

__all__ = ["RESULT_KEY", "GetRecordsResult", "TypedParserFactory", "decode_get_records"]

RESULT_KEY: Final = "Result"
"""Where the parsed response carries the `GetRecordsResult`."""


class GetRecordsResult(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of GetRecords (API: GetRecords, Response Syntax).

    Attributes:
        records: in the order of the shard; may be empty anywhere, not only at the tip.
        next_shard_iterator: where to go on; None once a closed shard is read to its end.
        millis_behind_latest: ms from the answer's end to the shard's tip; 0 at the tip.
        child_shards: the successors, named with the last answer of a closed shard only.
        has_aggregates: whether any record may be a KPL aggregate.
        wire_bytes: size of the body. It is also a fair measure of what the records take in memory,
            since base64 and JSON's names cost about what Python's object headers do.
    """

    records: list[Record]
    next_shard_iterator: str | None = None
    millis_behind_latest: int = 0
    child_shards: list[ChildShard] = msgspec.field(default_factory=list)
    has_aggregates: bool = False
    wire_bytes: int = 0


class _Body(msgspec.Struct, rename="pascal"):
    records: list[Record]
    next_shard_iterator: str | None = None
    millis_behind_latest: int | None = None
    child_shards: list[ChildShard] | None = None


# How the base64 of an aggregate begins: one search of the body instead of a look at each record.
_ENCODED_MAGIC: Final = b'"' + b64encode(KPL_MAGIC + bytes(2))[:5]

_decode_body = msgspec.json.Decoder(_Body).decode


def decode_get_records(body: bytes) -> GetRecordsResult:
    """Decode the JSON body of a successful GetRecords.

    Raises:
        MalformedResponseError: the body is cut off, is not JSON of this form, names children
            although the shard goes on, or names a child without parents (KCL asks again in these
            cases too: `K/retrieval/polling/KinesisDataFetcher.java`). An answer without iterator
            and children is returned: only ListShards can tell what it means.
    """
    try:
        answer = _decode_body(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedResponseError(
            f"GetRecords answered {len(body)} bytes that are not its result: {error}"
        ) from None
    children = answer.child_shards or []
    if children:
        if answer.next_shard_iterator:
            raise MalformedResponseError("GetRecords answered a next iterator and child shards")
        if not all(child.parent_shards for child in children):
            raise MalformedResponseError("GetRecords answered a child shard without parents")
    return GetRecordsResult(
        records=answer.records,
        next_shard_iterator=answer.next_shard_iterator or None,
        millis_behind_latest=answer.millis_behind_latest or 0,
        child_shards=children,
        has_aggregates=bool(answer.records) and _ENCODED_MAGIC in body,
        wire_bytes=len(body),
    )


class TypedParserFactory:
    """A `response_parser_factory` component for a session that talks to Kinesis.

    It also serves the clients that credential providers open on the same session (STS, SSO), by
    leaving their answers alone.
    """

    def __init__(self) -> None:
        self._plain = AioResponseParserFactory()
        self._parsers: dict[str, _TypedParser] = {}

    def set_parser_defaults(self, **defaults: Any) -> None:
        """Hand botocore's own settings on to its parsers."""
        self._plain.set_parser_defaults(**defaults)
        self._parsers.clear()

    def create_parser(self, protocol_name: str) -> _TypedParser:
        """Return the parser of a protocol; one serves all calls, since parsers keep no state."""
        parser = self._parsers.get(protocol_name)
        if parser is None:
            parser = _TypedParser(self._plain.create_parser(protocol_name))
            self._parsers[protocol_name] = parser
        return parser


class _TypedParser:
    """botocore's parser of a protocol behind shortcuts for the answers that are large."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain

    async def parse(self, response: dict[str, Any], shape: Any) -> Any:
        """Parse a response as botocore's endpoint asks for it; `shape` is its output model."""
        status = response["status_code"]
        decode = None if shape is None or status != 200 else _SHORTCUTS.get(shape.name)
        if decode is None:
            return await self._plain.parse(response, shape)
        headers = response["headers"]
        return decode(response["body"]) | {
            # Retry handlers and hooks look here, as they would in a parsed dict of botocore's.
            "ResponseMetadata": {
                "RequestId": headers.get("x-amzn-requestid", ""),
                "HTTPStatusCode": status,
                "HTTPHeaders": headers,
            },
        }


def _decode_list_shards(body: bytes) -> dict[str, Any]:
    # It holds texts and lists only, which botocore names as JSON does; a thousand shards took its
    # parser 0.2 s. What is no such JSON passes as an empty answer, as botocore has it.
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


_SHORTCUTS: Final[dict[str, Callable[[bytes], dict[str, Any]]]] = {
    "GetRecordsOutput": lambda body: {RESULT_KEY: decode_get_records(body)},
    "ListShardsOutput": _decode_list_shards,
}
