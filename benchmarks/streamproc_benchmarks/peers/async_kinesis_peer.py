"""A consumer with async-kinesis, run by the interpreter of that package's own environment.

It imports nothing of ours, is told what to do by one JSON argument, and says what
`streamproc_benchmarks.peers.attendant` reads. Its account is the events' ids, a line for every
hundred of them: async-kinesis tells its users neither shard nor sequence number.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

_LINE = 100


class Account:
    """Which events came when, and the clocks."""

    def __init__(self, warm_up: int, measured_until: int, expected: int, turn: int) -> None:
        self.ids: list[str] = []
        self.times: list[float] = []
        # When to say what; the last entry is never reached.
        self._marks = [(warm_up, "warm"), (measured_until, "measured"), (sys.maxsize, "")]
        self._next = warm_up
        self._expected = expected
        self._turn = turn

    def note(self, event_id: str) -> bool:
        """Note an event; False once it is the last that is expected."""
        ids = self.ids
        ids.append(event_id)
        if not len(ids) % _LINE:
            self.times.append(time.monotonic())
        if len(ids) >= self._next:
            self._say_next()
        if len(ids) >= self._expected:
            return False
        if not len(ids) % self._turn:
            say("turn", len(ids))
        return True

    def finish(self, path: Path) -> None:
        """Say what is left to say, and write the account."""
        while len(self._marks) > 1:
            self._say_next()
        times = [*self.times, time.monotonic()]
        with path.open("w") as lines:
            for at, first in zip(times, range(0, len(self.ids), _LINE), strict=False):
                lines.write(f"- {at:.9f} {' '.join(self.ids[first : first + _LINE])}\n")
        say("done", len(self.ids))

    def _say_next(self) -> None:
        say(self._marks.pop(0)[1], len(self.ids))
        self._next = self._marks[0][0]


def say(what: str, records: int) -> None:
    """Tell the attendant the clocks."""
    print(what, f"{time.monotonic():.9f} {time.process_time():.9f} {records}", flush=True)


async def consume(given: dict[str, Any], asked_to_end: asyncio.Event) -> None:
    """Read until everything expected has come, or until told to end."""
    from kinesis import Consumer

    account = Account(given["warm_up"], given["measured_until"], given["expected"], given["turn"])

    async def read() -> None:
        # Its defaults are what users get: JSON, 10,000 records a call, checkpoints in memory. Five
        # calls a second and shard are what AWS allows; it makes one unless told otherwise.
        async with Consumer(
            stream_name=given["stream"],
            endpoint_url=given["endpoint_url"],
            region_name="us-east-1",
            shard_fetch_rate=5,
        ) as consumer:
            say("began", 0)
            while True:
                # The iteration ends whenever nothing has come for two seconds.
                async for event in consumer:
                    if not account.note(event["id"]):
                        return

    reading = asyncio.ensure_future(read())
    ending = asyncio.ensure_future(asked_to_end.wait())
    await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        reading.result()
    account.finish(Path(given["result"]))
    await ending


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run in uvloop if it is there."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def watch_stdin(then: Callable[[], object]) -> None:
    """Call `then` in a thread once the attendant has closed stdin."""

    def wait() -> None:
        # Unbuffered: a thread that holds the buffer's lock would not let the interpreter end.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        then()

    threading.Thread(target=wait, daemon=True).start()


async def _main() -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    watch_stdin(lambda: loop.call_soon_threadsafe(asked_to_end.set))
    await consume(json.loads(sys.argv[1]), asked_to_end)


if __name__ == "__main__":
    run(_main())
