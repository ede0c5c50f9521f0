"""Our signatures against botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest import mock

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kinesis.sigv4 import Signer

TARGET = "Kinesis_20131202.GetRecords"
TEXT = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789/+=", min_size=1, max_size=60)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1))


def headers_of(request: bytes, body: bytes) -> dict[str, str]:
    head = request.removesuffix(body)
    request_line, *lines = head.decode().split("\r\n")
    assert request_line == "POST / HTTP/1.1"
    assert lines[-2:] == ["", ""], "the head ends with an empty line"
    return dict(line.split(": ", 1) for line in lines[:-2])


def botocores(
    body: bytes, headers: dict[str, str], credentials: Credentials, region: str, now: datetime
) -> str:
    """Return the Authorization header that botocore makes for the same request."""
    host = headers["Host"]
    request = AWSRequest("POST", f"https://{host}/", data=body)
    request.headers["Host"] = host
    request.headers["Content-Type"] = headers["Content-Type"]
    request.headers["X-Amz-Target"] = headers["X-Amz-Target"]
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        SigV4Auth(credentials, "kinesis", region).add_auth(request)
    return str(request.headers["Authorization"])


@given(body=st.binary(max_size=200), access=TEXT, secret=TEXT, token=st.none() | TEXT, now=MOMENTS)
def test_signatures_are_those_of_botocore(
    body: bytes, access: str, secret: str, token: str | None, now: datetime
) -> None:
    host = "kinesis.eu-west-1.amazonaws.com"
    signer = Signer("eu-west-1", "kinesis", host, TARGET, "test/1")
    credentials = SimpleNamespace(access_key=access, secret_key=secret, token=token)
    headers = headers_of(
        signer.request(credentials, body, now.replace(tzinfo=UTC).timestamp()), body
    )
    known = Credentials(access, secret, token)
    assert headers["Authorization"] == botocores(body, headers, known, "eu-west-1", now)
    assert headers["Content-Length"] == str(len(body))
    assert headers.get("X-Amz-Security-Token") == token


def test_renewed_credentials_and_a_new_day_sign_anew() -> None:
    signer = Signer("us-east-1", "kinesis", "127.0.0.1:4567", TARGET, "test/1")
    first = SimpleNamespace(access_key="a", secret_key="one", token=None)
    second = SimpleNamespace(access_key="b", secret_key="two", token="t")
    for credentials in (first, second, first):
        for now in (datetime(2026, 1, 1, 23, 59, 59), datetime(2026, 1, 2)):
            for body in (b"{}", b'{"Limit":1}'):
                moment = now.replace(tzinfo=UTC).timestamp()
                headers = headers_of(signer.request(credentials, body, moment), body)
                known = Credentials(
                    credentials.access_key, credentials.secret_key, credentials.token
                )
                signature = botocores(body, headers, known, "us-east-1", now)
                assert headers["Authorization"] == signature
