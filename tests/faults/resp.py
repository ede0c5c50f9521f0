"""Where a RESP message ends (Redis protocol, versions 2 and 3), and which command a request is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha1

__all__ = ["read_message", "request_name"]


async def read_message(source: asyncio.StreamReader) -> bytes:
    """Return the next message, request or answer, as it came.

    Raises:
        asyncio.IncompleteReadError: the connection ended first.
    """
    parts: list[bytes] = []
    missing = 1
    while missing:
        head = await source.readuntil(b"\r\n")
        parts.append(head)
        missing -= 1
        kind, length = head[:1], head[1:-2]
        if kind in b"$=!" and int(length) >= 0:
            parts.append(await source.readexactly(int(length) + 2))
        elif kind in b"*~>" and int(length) > 0:
            missing += int(length)
        elif kind == b"%":
            missing += 2 * int(length)
    return b"".join(parts)


def request_name(request: bytes, scripts: Mapping[str, str]) -> str:
    """Return a request's command in lower case, or a script's name, by its digest in `scripts`."""
    words = request.split(b"\r\n", 5)
    command = words[2].decode().lower()
    if command == "evalsha":
        return scripts.get(words[4].decode(), command)
    if command == "eval":
        return scripts.get(sha1(words[4], usedforsecurity=False).hexdigest(), command)
    return command
