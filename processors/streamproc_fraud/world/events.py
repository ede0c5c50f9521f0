"""The reference world as events: its payments, and its labels when they become known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from streamproc_fraud.events import FraudLabelConfirmed, PaymentAuthorized
from streamproc_fraud.world.simulator import SIMULATION_START, Transactions

__all__ = ["WorldEvent", "label_of", "payment_of", "world_events"]

WorldEvent = PaymentAuthorized | FraudLabelConfirmed


def payment_of(transactions: Transactions, row: int, number: int) -> PaymentAuthorized:
    """Return a row as an event; `number` is the transaction's id."""
    customer = int(transactions.customer[row])
    return PaymentAuthorized(
        payment_id=f"tx-{number}",
        card_id=f"card-{customer}",
        customer_id=str(customer),
        terminal_id=str(transactions.terminal[row]),
        amount_minor=int(transactions.amount_cents[row]),
        currency="EUR",
        authorized_at=_moment(int(transactions.t[row])),
    )


def label_of(
    transactions: Transactions, row: int, number: int, delay_s: int
) -> FraudLabelConfirmed:
    """Return the label of a fraud as an event, which is due `delay_s` after the payment."""
    t = int(transactions.t[row])
    return FraudLabelConfirmed(
        payment_id=f"tx-{number}",
        card_id=f"card-{int(transactions.customer[row])}",
        terminal_id=str(transactions.terminal[row]),
        payment_authorized_at=_moment(t),
        labelled_at=_moment(t + delay_s),
        source="simulator",
    )


def world_events(
    transactions: Transactions, first_number: int = 0, label_delay_s: int = 7 * 86_400
) -> Iterator[tuple[int, int, WorldEvent]]:
    """Yield (t, row, event) in the order of time; of one second, labels come first.

    So that whoever is asked at the very moment at which a label is due knows it. Labels that are
    due after the last payment are left out.
    """
    frauds = iter(transactions.fraud.nonzero()[0].tolist())
    waiting = next(frauds, None)
    for row, t in enumerate(transactions.t.tolist()):
        while waiting is not None and int(transactions.t[waiting]) + label_delay_s <= t:
            label = label_of(transactions, waiting, first_number + waiting, label_delay_s)
            yield int(transactions.t[waiting]) + label_delay_s, waiting, label
            waiting = next(frauds, None)
        yield t, row, payment_of(transactions, row, first_number + row)


def _moment(t: int) -> datetime:
    return SIMULATION_START + timedelta(seconds=t)
