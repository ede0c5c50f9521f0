"""Which events of a batch may be handled side by side."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

__all__ = ["lanes"]


def lanes(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Group item indexes so that items that share a key share a lane, in their order.

    `keys[i]` are the keys of item i; an item without keys has a lane of its own. Sharing is
    transitive: an item with keys a and b joins the lanes of both.
    """
    leader = list(range(len(keys)))

    def find(item: int) -> int:
        while leader[item] != item:
            leader[item] = leader[leader[item]]
            item = leader[item]
        return item

    first_with: dict[Hashable, int] = {}
    for item, own in enumerate(keys):
        for key in own:
            other = find(first_with.setdefault(key, item))
            mine = find(item)
            # The smaller index leads, so that lanes come out in order of their first item.
            leader[max(mine, other)] = min(mine, other)
    grouped: dict[int, list[int]] = {}
    for item in range(len(keys)):
        grouped.setdefault(find(item), []).append(item)
    return list(grouped.values())
