"""Single calls to DynamoDB: bounded in time, tried again where that can help, errors typed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import botocore.exceptions as boto

from streamproc.errors import LeaseStoreError

__all__ = ["ATTEMPTS", "Calls", "ConditionFailed", "TableMissing"]

log = logging.getLogger("streamproc.checkpoints")

ATTEMPTS: Final = 3
"""Tries of one call; each may take a third of the store's `timeout`."""

_FIRST_DELAY_S: Final = 0.05

_TRANSIENT: Final = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
    }
)
_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.SSOError,
    boto.TokenRetrievalError,
)
_ADVICE: Final = {
    "AccessDeniedException": "allow what deploy/iam-policy.json lists to this role or user",
    "ExpiredTokenException": "renew the temporary credentials",
    "InvalidSignatureException": "check the secret access key and this host's clock",
    "UnrecognizedClientException": "check the access key id, the session token and the region",
}


class ConditionFailed(Exception):
    """A conditional write was refused.

    Attributes:
        item: the row as it was then; None when it did not exist or the server does not tell.
        retried: whether an earlier try of the same call may have been applied.
    """

    def __init__(self, item: dict[str, Any] | None, retried: bool) -> None:
        super().__init__("the condition does not hold")
        self.item = item
        self.retried = retried


class TableMissing(LeaseStoreError):
    """The table does not exist (yet)."""


class Calls:
    """Makes calls of one table and counts their tries.

    A call whose answer was lost may have been applied; `ConditionFailed.retried` tells the caller
    to look whether the row already is as it wanted it.

    Args:
        where: the table, region and endpoint, for messages.
        rng: spreads the tries of many workers.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        where: str,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.where = where
        self._rng = rng or Random()
        self._sleep = sleep

    async def __call__(
        self, call: Callable[..., Awaitable[Any]], **arguments: Any
    ) -> dict[str, Any]:
        """Make a call until it is answered, at most `ATTEMPTS` times.

        Args:
            call: the client's method.
            arguments: its arguments.

        Raises:
            ConditionFailed: the condition does not hold.
            TableMissing: there is no such table.
            LeaseStoreError: DynamoDB refuses, or gave no answer in any try; the write may have been
                applied.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer: dict[str, Any] = await call(**arguments)
            except boto.ClientError as error:
                refused = self._refusal(error, call.__name__, retried=attempt > 1)
                if not _is_transient(error) or attempt == ATTEMPTS:
                    raise refused from error
                log.debug("try %d of %d: %s", attempt, ATTEMPTS, refused)
            except boto.BotoCoreError as error:
                failure = self._failure(error, call.__name__)
                if isinstance(error, _NO_CREDENTIALS) or attempt == ATTEMPTS:
                    raise failure from error
                log.debug("try %d of %d: %s", attempt, ATTEMPTS, failure)
            else:
                return answer
            await self._sleep(_FIRST_DELAY_S * 2.0**attempt * self._rng.uniform(0.25, 1.0))
        raise AssertionError("the last try returns or raises")

    def _refusal(self, error: boto.ClientError, operation: str, *, retried: bool) -> Exception:
        answer: dict[str, Any] = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        message = f"{operation}, {self.where}: {error}"
        if code == "ConditionalCheckFailedException":
            return ConditionFailed(answer.get("Item"), retried)
        if code == "ResourceNotFoundException":
            return TableMissing(f"{message}; check leases.options.table, the region and account")
        advice = _ADVICE.get(code)
        return LeaseStoreError(f"{message}; {advice}" if advice else message)

    def _failure(self, error: boto.BotoCoreError, operation: str) -> LeaseStoreError:
        message = f"{operation}, {self.where}: {type(error).__name__}: {error}"
        if isinstance(error, _NO_CREDENTIALS):
            return LeaseStoreError(
                f"{message}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a task "
                "role (a local endpoint takes any)"
            )
        return LeaseStoreError(message)


def _is_transient(error: boto.ClientError) -> bool:
    answer: dict[str, Any] = error.response
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return answer.get("Error", {}).get("Code") in _TRANSIENT or status >= 500 or status == 429
