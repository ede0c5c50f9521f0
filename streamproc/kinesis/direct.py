"""GetRecords past botocore, with its credentials, endpoint, region and errors.

A call through aiobotocore costs some 0.7 ms of CPU before its first record, this one 0.06
(docs/performance.md). What a worker polls all day is worth that; every other call is aiobotocore's.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import botocore.exceptions as boto
import msgspec
from aiobotocore.session import AioSession
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from streamproc.kinesis.codec import GetRecordsResult, decode_get_records
from streamproc.kinesis.errors import client_error
from streamproc.kinesis.sigv4 import Signer
from streamproc.kinesis.transport import HttpPool

__all__ = ["DirectGetRecords", "open_direct"]

_TARGET = "Kinesis_20131202.GetRecords"


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

    async def call(self, iterator: str, limit: int) -> GetRecordsResult:
        """Read up to `limit` records from `iterator` on.

        Raises:
            botocore.exceptions.ClientError: Kinesis answered with an error.
            botocore.exceptions.BotoCoreError: no credentials, no connection, or it broke.
            MalformedResponseError: the answer cannot be read.
        """
        frozen = await self._credentials.get_frozen_credentials()
        body = _encode(_Request(iterator, limit))
        try:
            status, answer = await self._pool.post(
                self._signer.head(frozen, body, time.time()) + body
            )
        except ssl.SSLCertVerificationError as error:
            raise boto.SSLError(endpoint_url=self._endpoint_url, error=error) from error
        except (ConnectionRefusedError, socket.gaierror) as error:
            raise boto.EndpointConnectionError(
                endpoint_url=self._endpoint_url, error=error
            ) from error
        except OSError as error:
            raise boto.HTTPClientError(error=f"{type(error).__name__}: {error}") from error
        if status != 200:
            raise client_error("GetRecords", status, answer)
        return decode_get_records(answer)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


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
