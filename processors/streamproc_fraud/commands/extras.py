"""A clear word where an optional package is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamproc import ConfigError

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Import what only some commands need.

    Raises:
        ConfigError: it is not installed; says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0].startswith("streamproc"):
            raise
        raise ConfigError(f"this needs {error.name}: pip install 'streamproc[{extra}]'") from None
