"""AWS Signature Version 4 for one kind of request: a POST of JSON to the root of an endpoint.

botocore signs anything, from a request object that it walks several times; a poll that finds
nothing has no work but this and its socket. Fixed to one method, path and set of headers, a
signature is four hashes (AWS General Reference, "Signature Version 4 signing process").
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = ["Credentials", "Signer"]

_CONTENT_TYPE: Final = "application/x-amz-json-1.1"
# Bytes that SHA-256 takes at a time; a key of its own size is shorter.
_BLOCK: Final = 64


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

    The key that signs is derived once a day and secret, as AWS scopes it. What requests of one
    second have in common is written and hashed once: a worker's quiet shards are polled in bunches.

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
        self._key: _Hmac | None = None
        self._key_of: tuple[str, str] | None = None
        self._second: _Second | None = None

    def request(self, credentials: Credentials, body: bytes, now: float) -> bytes:
        """Return a whole HTTP/1.1 request; see `headers`."""
        return self.requests(credentials, [body], now)[0]

    def requests(
        self, credentials: Credentials, bodies: Sequence[bytes], now: float
    ) -> list[bytes]:
        """Return a whole HTTP/1.1 request for each body."""
        second = self._second_of(credentials, now)
        head = second.head
        return [
            b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (head, signature, len(body), body)
            for body, signature in zip(bodies, second.signatures(bodies), strict=True)
        ]

    def headers(self, credentials: Credentials, body: bytes, now: float) -> list[tuple[str, str]]:
        """Return all headers of a request, by name and value.

        Args:
            credentials: who signs.
            body: what is signed.
            now: seconds since the epoch; AWS takes five minutes' difference from its own.
        """
        second = self._second_of(credentials, now)
        authorization = second.authorization + second.signatures([body])[0]
        return [
            *second.headers,
            ("Authorization", authorization.decode()),
            ("Content-Length", str(len(body))),
        ]

    def _second_of(self, credentials: Credentials, now: float) -> _Second:
        second, number = self._second, int(now)
        # What has another identity may still be the same, and costs the second's work once more.
        if second is None or second.number != number or second.credentials is not credentials:
            second = self._second = self._begin(number, credentials)
        return second

    def _begin(self, number: int, credentials: Credentials) -> _Second:
        access_key, token = credentials.access_key, credentials.token
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(number))
        day = moment[:8]
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        # Temporary credentials add a header, which is signed in its alphabetical place.
        token_name = "x-amz-security-token;" if token else ""
        token_line = f"x-amz-security-token:{token}\n" if token else ""
        signed = f"content-type;host;x-amz-date;{token_name}x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:{_CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{moment}\n"
            f"{token_line}x-amz-target:{self._target}\n\n{signed}\n"
        )
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature="
        )
        headers = [
            *self._fixed,
            ("X-Amz-Date", moment),
            *([("X-Amz-Security-Token", token)] if token else []),
        ]
        key = self._signing_key(credentials.secret_key, day)
        return _Second(
            number,
            credentials,
            headers,
            authorization.encode(),
            sha256(canonical.encode()),
            key.begun_with(f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n".encode()),
        )

    def _signing_key(self, secret: str, day: str) -> _Hmac:
        if self._key is None or self._key_of != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of, self._key = (secret, day), _Hmac.under(key)
        return self._key


class _Second:
    """What all requests of one second and one signer have in common.

    `head` is their request line and headers up to the signature, `authorization` what stands before
    the signature in its header.
    """

    def __init__(
        self,
        number: int,
        credentials: Credentials,
        headers: list[tuple[str, str]],
        authorization: bytes,
        canonical: Hash,
        code: _Hmac,
    ) -> None:
        self.number = number
        self.credentials = credentials
        self.headers = headers
        self.authorization = authorization
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.head = f"POST / HTTP/1.1\r\n{lines}Authorization: ".encode() + authorization
        self._canonical = canonical
        self._code = code

    def signatures(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Return the signature of a request with each of the bodies, in hexadecimal."""
        begun, code, signatures = self._canonical.copy, self._code.of, []
        for body in bodies:
            canonical = begun()
            canonical.update(sha256(body).hexdigest().encode())
            signatures.append(code(canonical.hexdigest().encode()))
        return signatures


class _Hmac:
    """HMAC-SHA256 under one key (RFC 2104), of messages that begin in one way.

    `hmac.digest` sets itself up anew each time, which takes more than twice as long as the hashes.
    Here copies are taken of hashes that have read the padded key and the messages' beginning.
    """

    def __init__(self, inner: Hash, outer: Hash) -> None:
        self._inner = inner
        self._outer = outer

    @classmethod
    def under(cls, key: bytes) -> _Hmac:
        """Return the code under a key, of any message."""
        padded = key.ljust(_BLOCK, b"\0")
        return cls(
            sha256(bytes(byte ^ 0x36 for byte in padded)),
            sha256(bytes(byte ^ 0x5C for byte in padded)),
        )

    def begun_with(self, beginning: bytes) -> _Hmac:
        """Return the code of messages that go on after `beginning`."""
        inner = self._inner.copy()
        inner.update(beginning)
        return _Hmac(inner, self._outer)

    def of(self, message: bytes) -> bytes:
        """Return the code of a message, or of the rest of it, in hexadecimal."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest().encode()
