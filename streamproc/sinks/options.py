"""A sink's own settings, `[outbox.options]`, read into a typed struct."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from streamproc.errors import ConfigError

__all__ = ["read_options"]

T = TypeVar("T", bound=msgspec.Struct)


def read_options(kind: type[T], options: Mapping[str, Any], sink: str) -> T:
    """Check a sink's options and return them as `kind`, a msgspec struct.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type.
    """
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known) or 'none'}"
            raise ConfigError(f"outbox.options.{name}: the {sink} sink has no such option; {hint}")
    try:
        # Environment variables arrive as text; lax conversion lets "5" be a number.
        return msgspec.convert(dict(options), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"outbox.options of the {sink} sink: {error}") from None
