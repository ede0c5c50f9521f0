"""The options that say which dead letters are meant, one declaration for all commands."""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from streamproc.aside import LetterFilter
from streamproc.errors import ConfigError

__all__ = ["moment", "takes_filter"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def takes_filter(limit: int | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the filter options, in the place of its first parameter.

    Args:
        limit: what ``--limit`` is when it is not given.

    Returns:
        A decorator for a command whose first parameter takes the `LetterFilter`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = dict(inspect.signature(_letter_filter, eval_str=True).parameters)
        options["limit"] = options["limit"].replace(default=limit)
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def run(**given: Any) -> None:
            wanted = _letter_filter(**{name: given.pop(name) for name in options})
            command(wanted, **given)

        parameters = [*options.values(), *list(own.parameters.values())[1:]]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _letter_filter(
    reason: Annotated[str | None, typer.Option(help="Such as bad-json.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Event type.")] = None,
    shard: Annotated[str | None, typer.Option(help="Shard id, or the end of one.")] = None,
    handler: Annotated[str | None, typer.Option(help="processor.method, or the processor.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Put aside then or later: 30m, 2h, 1d or ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Put aside then or earlier.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Of a letter or of an event; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
) -> LetterFilter:
    return LetterFilter(
        reason=reason,
        type=type_,
        shard=shard,
        handler=handler,
        since=None if since is None else moment(since, time.time()),
        until=None if until is None else moment(until, time.time()),
        ids=frozenset(ids or ()),
        limit=limit,
    )


def moment(text: str, now: float) -> float:
    """Return the time that a text means, in seconds since the epoch.

    Args:
        text: an age such as ``30m``, ``2h`` or ``1d``, or ISO 8601; UTC without an offset.
        now: seconds since the epoch.

    Raises:
        ConfigError: it is neither.
    """
    age = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if age is not None:
        return now - float(age[1]) * _UNITS[age[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no time; write an age such as 30m, 2h or 1d, or ISO 8601"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
