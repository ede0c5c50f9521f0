"""GetRecords past botocore, with its credentials, endpoint, region and errors.

A call through aiobotocore costs some 0.7 ms of CPU before its first record, this one 0.06
(docs/performance.md). What a worker polls all day is worth that; every other call is aiobotocore's.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final

import botocore.exceptions as boto
import msgspec
from aiobotocore.session import AioSession
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from streamproc.kinesis.codec import GetRecordsResult, decode_get_records
from streamproc.kinesis.connection import Answer
from streamproc.kinesis.errors import client_error
from streamproc.kinesis.quiet import QuietCall
from streamproc.kinesis.sigv4 import Credentials, Signer
from streamproc.kinesis.transport import HttpPool

__all__ = ["DirectGetRecords", "open_direct"]

_TARGET: Final = "Kinesis_20131202.GetRecords"
# For how long credentials are used again unasked. botocore renews temporary ones ten minutes before
# they end at the latest.
_FROZEN_S: Final = 60.0


class _Request(msgspec.Struct, rename="pascal"):
    shard_iterator: str
    limit: int


_encode = msgspec.json.Encoder().encode


class DirectGetRecords:
    """Makes GetRecords calls on connections of its own.

    Args:
        pool: the connections, to the endpoint.
        signer: signs for the endpoint.
        credentials: botocore's, which renew themselves.
        endpoint_url: the endpoint, for messages.
    """

    def __init__(self, pool: HttpPool, signer: Signer, credentials: Any, endpoint_url: str) -> None:
        self._pool = pool
        self._signer = signer
        self._credentials = credentials
        self._endpoint_url = endpoint_url
        self._frozen: Credentials | None = None
        self._frozen_until = 0.0

    async def call(self, iterator: str, limit: int) -> GetRecordsResult:
        """Read up to `limit` records from `iterator` on.

        Raises:
            botocore.exceptions.ClientError: Kinesis answered with an error.
            botocore.exceptions.BotoCoreError: no credentials, no connection, or it broke.
            MalformedResponseError: the answer cannot be read.
        """
        now = time.time()
        frozen: Credentials = await self._credentials.get_frozen_credentials()
        if frozen == self._frozen:
            frozen = self._frozen  # The one that the signer knows.
        self._frozen, self._frozen_until = frozen, now + _FROZEN_S
        try:
            body = _encode(_Request(iterator, limit))
            answer = await self._pool.post(self._signer.request(frozen, body, now))
        except OSError as error:
            raise self._translated(error) from error
        return _decoded(answer)

    def ask_at_once(self, calls: Sequence[QuietCall]) -> int:
        """Send the same calls without waiting for anything; see `HttpPool.post_at_once`.

        Credentials are those of a `call` within the last minute; nothing is sent if there was none.
        """
        now = time.time()
        if self._frozen is None or now >= self._frozen_until:
            return 0
        bodies = [_encode(_Request(iterator, limit)) for iterator, limit, _ in calls]
        requests = self._signer.requests(self._frozen, bodies, now)
        return self._pool.post_at_once(requests, [done for _, _, done in calls])

    def read_answer(self, outcome: Answer | OSError) -> GetRecordsResult:
        """Return what came of `ask_at_once`; raises what `call` does."""
        if isinstance(outcome, OSError):
            raise self._translated(outcome) from outcome
        return _decoded(outcome)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _translated(self, error: OSError) -> boto.BotoCoreError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return boto.SSLError(endpoint_url=self._endpoint_url, error=error)
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return boto.EndpointConnectionError(endpoint_url=self._endpoint_url, error=error)
        return boto.HTTPClientError(error=f"{type(error).__name__}: {error}")


def _decoded(answer: Answer) -> GetRecordsResult:
    status, body = answer
    if status != 200:
        raise client_error("GetRecords", status, body)
    return decode_get_records(body)


async def open_direct(
    session: AioSession,
    *,
    endpoint_url: str,
    region: str,
    timeout: float,
    connections: int,
    keepalive: float,
    user_agent: str,
) -> DirectGetRecords | None:
    """Return the direct way to an endpoint, or None where only aiobotocore knows one.

    That is behind a proxy, and without credentials, of which aiobotocore has more to say.
    """
    credentials = await session.get_credentials()
    if credentials is None or get_environ_proxies(endpoint_url):
        return None
    tls = None
    if endpoint_url.startswith("https:"):
        # The same authorities that aiobotocore trusts: AWS_CA_BUNDLE, or botocore's own.
        bundle = session.get_config_variable("ca_bundle") or get_cert_path(True)
        tls = ssl.create_default_context(cafile=bundle)
    host = endpoint_url.split("://", 1)[1].rstrip("/")
    return DirectGetRecords(
        HttpPool(endpoint_url, tls, timeout, connections, keepalive),
        Signer(region, "kinesis", host, _TARGET, user_agent),
        credentials,
        endpoint_url,
    )
