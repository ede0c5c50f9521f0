"""Payments for tests; `oracle` decides what should be flagged, from all payments ever made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from streamproc_fraud import PaymentAuthorized, Rules

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def payment(
    payment_id: str, amount_minor: int = 1_000, *, card: str = "card_1", currency: str = "EUR"
) -> PaymentAuthorized:
    return PaymentAuthorized(
        payment_id=payment_id,
        card_id=card,
        customer_id="customer_1",
        terminal_id="terminal_1",
        amount_minor=amount_minor,
        currency=currency,
    )


def oracle(
    rules: Rules, payments: Sequence[tuple[float, PaymentAuthorized]]
) -> dict[str, list[str]]:
    """Return payment id -> reasons, by looking through all earlier payments for each."""
    flags = {}
    for at, (time, paid) in enumerate(payments):
        of_card = [(t, p) for t, p in payments[: at + 1] if p.card_id == paid.card_id]
        in_window = [t for t, _ in of_card if time - rules.velocity_window < t <= time]
        earlier = [p.amount_minor for _, p in of_card[:-1] if p.currency == paid.currency]
        reasons = []
        if paid.amount_minor > rules.amount_limit_minor:
            reasons.append("amount-limit")
        if len(in_window) > rules.velocity_limit:
            reasons.append("velocity")
        if len(earlier) >= rules.spend_ratio_min_count:
            ratio = paid.amount_minor * len(earlier) / sum(earlier)
            if ratio > rules.spend_ratio:
                reasons.append("spend-ratio")
        if reasons:
            flags[paid.payment_id] = reasons
    return flags
