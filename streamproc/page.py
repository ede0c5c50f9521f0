"""HTTP pages that a processor adds to those of its worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import msgspec

__all__ = ["Page", "PageAnswer", "PageRequest"]


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A GET request for a page.

    Attributes:
        parts: what stood in the path in place of each ``{name}``, decoded.
        query: the query's parameters.
        headers: by lower-case name.
    """

    parts: Mapping[str, str]
    query: Mapping[str, str] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})


class PageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a page answers."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})


class Page(msgspec.Struct, frozen=True):
    """A page that is served beside /status and /metrics.

    With several processes any worker may be asked for it, so an answer must not depend on what one
    process holds.

    Attributes:
        path: such as ``/inventory/{sku}/{location}``.
        answer: is called for each GET of it; whatever it raises is answered as 500 and logged.
    """

    path: str
    answer: Callable[[PageRequest], Awaitable[PageAnswer]]
