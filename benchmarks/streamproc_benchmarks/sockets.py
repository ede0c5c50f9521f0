"""Where the unix sockets of a run's workers can lie."""

from __future__ import annotations

import tempfile
from typing import Final

__all__ = ["socket_directory"]

_LONGEST: Final = 60  # a unix socket's path has about 100 characters


def socket_directory() -> str:
    """Return the directory for temporary files, or one with a path short enough for a socket's."""
    given = tempfile.gettempdir()
    return given if len(given) <= _LONGEST else "/tmp"
