"""A processor whose state shows every violation: what it saw of each key, in the order it saw it."""

from __future__ import annotations

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
