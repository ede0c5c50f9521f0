"""A process that moves a lease's counter in competition with others; prints the counters it won."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from streamproc.leases.lease import renewed
from streamproc.leases.stores import open_store


async def race(name: str, group: str, options: dict[str, Any], key: str, wins: int) -> list[int]:
    """Win `wins` times; a loser goes on from the row it was shown."""
    store = await open_store(name, group, options)
    try:
        [lease] = [row for row in await store.list() if row.key == key]
        won: list[int] = []
        while len(won) < wins:
            wanted = renewed(msgspec.structs.replace(lease, incarnation=f"{os.getpid()}"))
            answer = await store.replace(lease, wanted)
            assert answer is not None
            if answer.incarnation == wanted.incarnation and answer.counter == wanted.counter:
                won.append(wanted.counter)
            lease = answer
        return won
    finally:
        await store.aclose()


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(race(*msgspec.json.decode(sys.argv[1])))).decode())
