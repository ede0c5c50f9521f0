"""The Kinesis client: aiobotocore with a typed GetRecords and typed errors."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.exceptions as boto
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp import AddrInfoType

from streamproc.config import ReadConfig, StreamConfig
from streamproc.errors import ConfigError, StreamError, StreamprocError
from streamproc.kinesis.api import KinesisApi, PutEntry, PutResult, StreamSummary
from streamproc.kinesis.codec import RESULT_KEY, GetRecordsResult, TypedParserFactory
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.direct import DirectGetRecords, open_direct
from streamproc.kinesis.errors import (
    ExpiredIteratorError,
    InvalidArgumentError,
    MalformedResponseError,
    Target,
    ThrottledError,
    TransientError,
    typed_error,
)
from streamproc.kinesis.fanout import FanOutApi
from streamproc.kinesis.lineage import ShardInfo
from streamproc.kinesis.polling import Sleep, backoff_delay
from streamproc.kinesis.quiet import QuietApi, QuietCall
from streamproc.kinesis.registration import registered_consumer
from streamproc.position import Position

if TYPE_CHECKING:
    from types_aiobotocore_kinesis.client import KinesisClient as BotoClient
    from types_aiobotocore_kinesis.type_defs import PutRecordsRequestEntryTypeDef

__all__ = ["KinesisClient", "open_kinesis"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Answer = TypeVar("_Answer", bound=Mapping[str, Any])

# Calls in flight are calls a second * latency: this is room for 5,000 calls a second whose answers
# take 100 ms, below the usual limit of 1,024 open files. Calls beyond that wait for their turn.
_MAX_CONNECTIONS: Final = 512
# Kinesis closes idle connections itself; kept this long, those of an idle shard are still reused.
_KEEPALIVE_S: Final = 30.0
_USER_AGENT: Final = (
    f"streamproc/{version('streamproc')} aiobotocore/{version('aiobotocore')} "
    f"python/{platform.python_version()}"
)
_LIST_PAGE: Final = 1_000
_CONTROL_ATTEMPTS: Final = 5


@asynccontextmanager
async def open_kinesis(
    stream: StreamConfig, read: ReadConfig | None = None
) -> AsyncIterator[KinesisClient]:
    """Open a client for one stream and close its connections in the end.

    Nothing is sent yet: a wrong name or wrong credentials show with the first call.

    Args:
        stream: whom to talk to; region and credentials come from where the AWS SDKs look for them
            unless given.
        read: `timeout` is the time in seconds for a connection and for each wait for bytes.

    Raises:
        ConfigError: the endpoint is no URL, or no region is known.
        StreamError: the configured AWS profile cannot be read.
    """
    read = read or ReadConfig()
    session = AioSession()
    session.register_component("response_parser_factory", TypedParserFactory())
    try:
        creating = session.create_client(
            "kinesis",
            region_name=_region(session, stream),
            endpoint_url=stream.endpoint_url,
            config=_boto_config(read),
        )
        boto_client = await creating.__aenter__()
    except boto.NoRegionError:
        raise ConfigError(
            "no AWS region is known; set stream.region (--region) or AWS_REGION"
        ) from None
    except boto.InvalidRegionError as error:
        raise ConfigError(f"stream.region (--region) or AWS_REGION: {error}") from None
    except boto.BotoCoreError as error:
        raise StreamError(f"cannot set up the AWS client: {error}") from error
    except ValueError as error:
        raise ConfigError(
            f"stream.endpoint_url = {stream.endpoint_url!r}: {error}; write http(s)://HOST:PORT, "
            "or leave it out for AWS itself"
        ) from None
    direct = await _open_direct(session, boto_client, read)
    try:
        yield KinesisClient(boto_client, stream.name, direct=direct, session=session)
    finally:
        if direct is not None:
            direct.close()
        await creating.__aexit__(None, None, None)


class KinesisClient(KinesisApi):
    """`KinesisApi` over HTTP for one stream.

    GetRecords, GetShardIterator and PutRecords are sent once: their callers wait with a backoff of
    their own. ListShards and DescribeStreamSummary are sent up to five times.
    """

    def __init__(
        self,
        boto_client: BotoClient,
        stream: str,
        sleep: Sleep | None = None,
        rng: random.Random | None = None,
        *,
        direct: DirectGetRecords | None = None,
        session: AioSession | None = None,
    ) -> None:
        self._boto = boto_client
        self._session = session
        self._direct = direct
        self._stream = stream
        self._target = Target(stream, boto_client.meta.region_name, boto_client.meta.endpoint_url)
        self._sleep = sleep or asyncio.sleep
        self._rng = rng or random.Random()

    @property
    def target(self) -> Target:
        """Stream, region and endpoint, for messages."""
        return self._target

    async def get_records(self, iterator: str, limit: int) -> GetRecordsResult:
        """Read up to `limit` records (1 to 10,000) and 10 MB from `iterator` on."""
        try:
            if self._direct is not None:
                return await self._direct.call(iterator, limit)
            call = self._boto.get_records(ShardIterator=iterator, Limit=limit)
            answer: Any = await self._send("GetRecords", call, RESULT_KEY)
        except (boto.ClientError, boto.BotoCoreError) as error:
            raise _of_iterator(typed_error(error, "GetRecords", self._target)) from error
        except InvalidArgumentError as error:
            raise _of_iterator(error) from error
        result: GetRecordsResult = answer[RESULT_KEY]
        return result

    @property
    def quiet(self) -> QuietApi | None:
        """GetRecords for quiet shards, where it is not aiobotocore that calls it."""
        return None if self._direct is None else _QuietCalls(self._direct, self._target)

    async def shard_iterator(
        self, shard_id: str, position: Position, *, inclusive: bool = False
    ) -> str:
        """Return an iterator for what follows `position`, or for its own record first."""
        call = self._boto.get_shard_iterator(
            StreamName=self._stream, ShardId=shard_id, **_starting_at(position, inclusive)
        )
        operation = f"GetShardIterator of {shard_id} at {position}"
        answer = await self._send(operation, call, "ShardIterator")
        return answer["ShardIterator"]

    async def list_shards(self, at: Position | None = None) -> list[ShardInfo]:
        """Return the stream's shards, all or those open at a sentinel, in the order of ids."""
        return await self._insist(lambda: self._list_all_pages(at))

    async def describe_stream(self) -> StreamSummary:
        """Return status, age, retention and size of the stream."""
        return await self._insist(self._describe)

    async def put_records(self, entries: Sequence[PutEntry]) -> list[PutResult]:
        """Put up to 500 records and 10 MiB; single ones may fail, which their results tell."""
        records = [_put_request(entry) for entry in entries]
        call = self._boto.put_records(StreamName=self._stream, Records=records)
        answer = await self._send("PutRecords", call, "Records")
        return [
            PutResult(
                shard_id=result.get("ShardId"),
                sequence_number=result.get("SequenceNumber"),
                error_code=result.get("ErrorCode"),
                error_message=result.get("ErrorMessage"),
            )
            for result in answer["Records"]
        ]

    async def fan_out(self, consumer: str, read: ReadConfig) -> FanOutApi:
        """Return enhanced fan-out to a consumer of the stream, which is registered if need be.

        Args:
            consumer: its name in the stream.
            read: endpoint and time limit.

        Raises:
            ConfigError: the package that carries HTTP/2 is not installed.
            StreamError: Kinesis refuses: no permission, too many consumers.
            KinesisError: the consumer cannot be had now.
        """
        try:
            from streamproc.kinesis.subscription import Subscriber
        except ImportError as error:
            raise ConfigError(
                f'read.mode = "fan-out" needs awscrt ({error}); install streamproc[fanout]'
            ) from error
        assert self._session is not None, "open_kinesis gives the session"
        credentials = await self._session.get_credentials()
        if credentials is None:
            raise StreamError(f"{self._target}: no AWS credentials for fan-out")
        summary = await self.describe_stream()
        return Subscriber(
            read.push_endpoint_url or self._target.endpoint_url,
            await registered_consumer(self._boto, summary.arn, consumer, self._target, self._sleep),
            credentials,
            self._target,
            _USER_AGENT,
            self._session.get_config_variable("ca_bundle"),
            read.timeout,
        )

    async def _list_all_pages(self, at: Position | None) -> list[ShardInfo]:
        # A token and a stream name exclude each other (API: ListShards, NextToken). A token that
        # expired raises ExpiredIteratorError, and the listing starts over: pages of two listings
        # must not be mixed, since a reshard may lie between them.
        page: dict[str, Any] = {"StreamName": self._stream, **_shard_filter(at)}
        shards: list[ShardInfo] = []
        while True:
            call = self._boto.list_shards(**page, MaxResults=_LIST_PAGE)
            answer = await self._send("ListShards", call, "Shards")
            shards += [_shard_info(shard) for shard in answer["Shards"]]
            token = answer.get("NextToken")
            if not token:
                return sorted(shards, key=lambda shard: shard.shard_id)
            page = {"NextToken": token}

    async def _describe(self) -> StreamSummary:
        call = self._boto.describe_stream_summary(StreamName=self._stream)
        answer = await self._send("DescribeStreamSummary", call, "StreamDescriptionSummary")
        summary = answer["StreamDescriptionSummary"]
        return StreamSummary(
            name=summary["StreamName"],
            status=summary["StreamStatus"],
            arn=summary["StreamARN"],
            retention_hours=summary["RetentionPeriodHours"],
            creation_timestamp=summary["StreamCreationTimestamp"].timestamp(),
            open_shard_count=summary["OpenShardCount"],
            encryption=summary.get("EncryptionType", "NONE"),
        )

    async def _send(self, operation: str, call: Awaitable[_Answer], needed: str) -> _Answer:
        try:
            answer = await call
        except (boto.ClientError, boto.BotoCoreError) as error:
            raise typed_error(error, operation, self._target) from error
        if needed not in answer:
            # botocore's parser lets a body that is no JSON pass as an empty answer.
            raise MalformedResponseError(f"{operation}, {self._target}: no {needed} in the answer")
        return answer

    async def _insist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(1, _CONTROL_ATTEMPTS):
            try:
                return await call()
            except (ThrottledError, TransientError, ExpiredIteratorError) as error:
                _log.info("attempt %d of %d failed: %s", attempt, _CONTROL_ATTEMPTS, error)
                await self._sleep(backoff_delay(attempt, self._rng))
        return await call()


class _QuietCalls(QuietApi):
    """`DirectGetRecords` with this package's errors."""

    def __init__(self, direct: DirectGetRecords, target: Target) -> None:
        self._direct = direct
        self._target = target

    def ask_at_once(self, calls: Sequence[QuietCall]) -> int:
        return self._direct.ask_at_once(calls)

    def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
        try:
            return self._direct.read_answer(outcome)
        except (boto.ClientError, boto.BotoCoreError) as error:
            raise _of_iterator(typed_error(error, "GetRecords", self._target)) from error


async def _open_direct(
    session: AioSession, boto_client: BotoClient, read: ReadConfig
) -> DirectGetRecords | None:
    if read.client == "aiobotocore":
        return None
    return await open_direct(
        session,
        endpoint_url=boto_client.meta.endpoint_url,
        region=boto_client.meta.region_name,
        timeout=read.timeout,
        connections=_MAX_CONNECTIONS,
        keepalive=_KEEPALIVE_S,
        user_agent=_USER_AGENT,
    )


def _of_iterator(error: StreamprocError) -> StreamprocError:
    # The limit comes checked from the configuration, so it is the iterator that is wrong.
    return ExpiredIteratorError(str(error)) if isinstance(error, InvalidArgumentError) else error


def _region(session: AioSession, stream: StreamConfig) -> str | None:
    configured = stream.region or session.get_config_variable("region")
    # A local endpoint does not care, but requests are signed for some region.
    return configured or ("us-east-1" if stream.endpoint_url else None)


def _boto_config(read: ReadConfig) -> AioConfig:
    return AioConfig(
        connect_timeout=read.timeout,
        # Between two reads of the socket, not for the whole answer: 10 MB over a slow link may take
        # longer, and giving up would only ask for the same 10 MB again.
        read_timeout=read.timeout,
        max_pool_connections=_MAX_CONNECTIONS,
        connector_args={"keepalive_timeout": _KEEPALIVE_S, "socket_factory": _open_socket},
        # One attempt. The SDK would sleep inside the call, where the reader can neither count a
        # throttle nor spread its shards' retries, nor notice that it is to stop.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Parameters are built here from checked values; validating them again costs CPU a call.
        parameter_validation=False,
        # Whole and fixed: botocore would put its own together anew for each request.
        user_agent=_USER_AGENT,
    )


def _open_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    # A connection that a NAT or a dead peer dropped leaves the pool before a call finds out.
    # (TCP_NODELAY is set by the event loops themselves.)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return opened


def _starting_at(position: Position, inclusive: bool) -> dict[str, Any]:
    if position.is_end:
        raise StreamError("a shard that is finished has no iterator; its lease must not be read")
    if position.timestamp is not None:
        return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": position.timestamp}
    if position.is_start:
        return {"ShardIteratorType": position.sequence}
    kind = "AT_SEQUENCE_NUMBER" if inclusive else "AFTER_SEQUENCE_NUMBER"
    return {"ShardIteratorType": kind, "StartingSequenceNumber": position.sequence}


def _shard_filter(at: Position | None) -> dict[str, Any]:
    if at is None:
        return {}
    if at.timestamp is not None:
        return {"ShardFilter": {"Type": "AT_TIMESTAMP", "Timestamp": at.timestamp}}
    return {"ShardFilter": {"Type": f"AT_{at.sequence}"}}


def _shard_info(shard: Any) -> ShardInfo:
    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
    hashes, numbers = shard["HashKeyRange"], shard["SequenceNumberRange"]
    return ShardInfo(
        shard_id=shard["ShardId"],
        parents=tuple(parent for parent in parents if parent),
        starting_hash_key=hashes["StartingHashKey"],
        ending_hash_key=hashes["EndingHashKey"],
        starting_sequence_number=numbers["StartingSequenceNumber"],
        ending_sequence_number=numbers.get("EndingSequenceNumber"),
    )


def _put_request(entry: PutEntry) -> PutRecordsRequestEntryTypeDef:
    request: PutRecordsRequestEntryTypeDef = {
        "Data": entry.data,
        "PartitionKey": entry.partition_key,
    }
    if entry.explicit_hash_key is not None:
        request["ExplicitHashKey"] = entry.explicit_hash_key
    return request
