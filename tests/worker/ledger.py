"""A processor whose state shows every violation: what it saw of each key, and in which order."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from streamproc import Context, Event, Policy, Processor, Reject, on


class Entry(Event, type="Entry", version=1, id="entry_id"):
    entry_id: str
    account: str
    number: int


class Booked(Event, type="Booked", version=1, id="entry_id"):
    entry_id: str


class Account(msgspec.Struct):
    numbers: list[int] = []


class Ledger(Processor[Account]):
    """Appends each entry's number to its account; number -1 is refused, -2 always fails."""

    name = "ledger"
    policy = Policy(attempts=2, backoff=(0.0, 0.01))

    @on(Entry, key="account")
    def book(self, event: Entry, ctx: Context[Account]) -> None:
        ctx.state.numbers.append(event.number)
        if event.number == -1:
            raise Reject("negative")
        if event.number == -2:
            raise RuntimeError("cannot be booked")
        ctx.emit(Booked(entry_id=event.entry_id))


class StuckLedger(Ledger):
    """Never gets done with an entry."""

    policy = Policy(timeout=None)

    @on(Entry, key="account")
    async def book(  # type: ignore[override]  # waits, where its parent computes
        self, event: Entry, ctx: Context[Account]
    ) -> None:
        logging.getLogger("ledger").info("stuck on %s", event.entry_id)
        await asyncio.Event().wait()


class BlockingLedger(Ledger):
    """Keeps the event loop to itself for longer than the tests' leases last."""

    seconds = 5.0

    @on(Entry, key="account")
    def book(self, event: Entry, ctx: Context[Account]) -> None:
        logging.getLogger("ledger").info("blocking on %s", event.entry_id)
        time.sleep(self.seconds)
        super().book(event, ctx)


class MinuteLedger(BlockingLedger):
    """Keeps it for a minute."""

    seconds = 60.0


class HaltingLedger(Ledger):
    """Stops its shard at an entry that cannot be booked."""

    policy = Policy(attempts=2, backoff=(0.0, 0.01), then="halt")


class CountingLedger(Ledger):
    """Counts all entries in one place, besides; a negative one takes back what it counted."""

    name = "ledger"

    @on(Entry, key="account", counters=lambda entry: ["all"])
    def book(self, event: Entry, ctx: Context[Account]) -> None:
        everything = ctx.counters["all"]
        everything.add("entries")
        everything.add("by-rest", 1, bucket=event.number % 5)
        everything.max("most", event.number)
        everything.distinct("accounts", event.account)
        super().book(event, ctx)
