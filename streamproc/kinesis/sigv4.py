"""AWS Signature Version 4 for one kind of request: a POST of JSON to the root of an endpoint.

botocore signs anything, from a request object that it walks several times; a poll that finds
nothing has no work but this and its socket. Fixed to one method, path and set of headers, a
signature is four hashes (AWS General Reference, "Signature Version 4 signing process").
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import Final, Protocol

__all__ = ["Credentials", "Signer"]

_CONTENT_TYPE: Final = "application/x-amz-json-1.1"


class Credentials(Protocol):
    """What signs: botocore's frozen credentials."""

    @property
    def access_key(self) -> str:
        """The access key id."""
        ...

    @property
    def secret_key(self) -> str:
        """The secret access key."""
        ...

    @property
    def token(self) -> str | None:
        """The session token of temporary credentials."""
        ...


class Signer:
    """Signs requests for one operation.

    The key that signs is derived once a day and secret, as AWS scopes it.

    Args:
        region: the region that is signed for.
        service: the service's signing name, such as ``kinesis``.
        host: the Host header: with the port, unless it is the scheme's own.
        target: the operation, such as ``Kinesis_20131202.GetRecords``.
        user_agent: the User-Agent header.
    """

    def __init__(self, region: str, service: str, host: str, target: str, user_agent: str) -> None:
        self._region = region
        self._service = service
        self._host = host
        self._target = target
        self._fixed = [
            ("Host", host),
            ("Content-Type", _CONTENT_TYPE),
            ("X-Amz-Target", target),
            ("User-Agent", user_agent),
        ]
        self._derived_from: tuple[str, str] | None = None
        self._key = b""

    def head(self, credentials: Credentials, body: bytes, now: float) -> bytes:
        """Return an HTTP/1.1 request line and headers, to be followed by `body`; see `headers`."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers(credentials, body, now)]
        return f"POST / HTTP/1.1\r\n{''.join(lines)}\r\n".encode()

    def headers(self, credentials: Credentials, body: bytes, now: float) -> list[tuple[str, str]]:
        """Return all headers of a request, by name and value.

        Args:
            credentials: who signs.
            body: what is signed.
            now: seconds since the epoch; AWS takes five minutes' difference from its own.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        day = moment[:8]
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        # Temporary credentials add a header, which is signed in its alphabetical place.
        token = credentials.token
        token_name = "x-amz-security-token;" if token else ""
        token_line = f"x-amz-security-token:{token}\n" if token else ""
        signed = f"content-type;host;x-amz-date;{token_name}x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:{_CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{moment}\n"
            f"{token_line}x-amz-target:{self._target}\n\n{signed}\n{sha256(body).hexdigest()}"
        )
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = self._signing_key(credentials.secret_key, day)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return [
            *self._fixed,
            ("X-Amz-Date", moment),
            *([("X-Amz-Security-Token", token)] if token else []),
            ("Authorization", authorization),
            ("Content-Length", str(len(body))),
        ]

    def _signing_key(self, secret: str, day: str) -> bytes:
        if self._derived_from != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived_from, self._key = (secret, day), key
        return self._key
