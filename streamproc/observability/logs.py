"""Log lines on standard error: for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import orjson

from streamproc.observability.redact import redact

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging"]

_PREFIX: Final = "streamproc."
# Chatty below this, and what they tell then is about themselves.
_QUIETENED: Final = ("aiobotocore", "aiohttp", "asyncio", "botocore", "urllib3")
_STANDARD: Final = frozenset(
    (*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "exc_text")
)


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["text", "json"] = "text",
    stream: TextIO | None = None,
) -> None:
    """Send log records of at least `level` to standard error, passwords in URLs hidden.

    May be called again; the last call counts. Libraries stay at `warning`.

    Args:
        level: the least level.
        format: `text` for people, `json` for one object a line with the record's extra fields.
        stream: another place than standard error.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(least)
    for name in _QUIETENED:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


class TextFormatter(logging.Formatter):
    """Time in UTC, level, logger without ``streamproc.``, message; then the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        name = record.name.removeprefix(_PREFIX)
        lines = [f"{_time(record)} {record.levelname:<7} {name}: {record.getMessage()}"]
        lines += [text for _, text in _traces(self, record)]
        return redact("\n".join(lines))


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `pid`, `message`, the record's extra fields, tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": redact(record.getMessage()),
        }
        for name, text in _traces(self, record):
            fields[name] = redact(text)
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                fields.setdefault(redact(name), _clean(value))
        try:
            return orjson.dumps(fields).decode()
        except TypeError:  # half of a surrogate pair, or a number of more than 64 bits
            return json.dumps(fields)


class _Handler(logging.StreamHandler[TextIO]):
    """Tells this module's handler from those that others put there."""


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    if record.exc_info:
        yield "exception", formatter.formatException(record.exc_info)
    if record.stack_info:
        yield "stack", formatter.formatStack(record.stack_info)


def _clean(value: Any) -> Any:
    """Return a value that is JSON and tells no password."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {redact(str(key)): _clean(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case _:
            return redact(str(value))
