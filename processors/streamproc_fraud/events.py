"""What the fraud processor takes and what it says."""

from __future__ import annotations

import msgspec

from streamproc import Event
from streamproc_fraud.rules import Facts

__all__ = ["Geo", "PaymentAuthorized", "PaymentFlagged"]


class Geo(msgspec.Struct, frozen=True):
    """Where a payment was made, in degrees (WGS 84)."""

    lat: float
    lon: float


class PaymentAuthorized(Event, type="PaymentAuthorized", version=1, id="payment_id"):
    """A card payment was authorized.

    Attributes:
        card_id: a token that stands for the card, never the card number itself.
        amount_minor: the amount in the currency's minor unit, such as cents.
        currency: ISO 4217, three capital letters.
    """

    payment_id: str
    card_id: str
    customer_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    ip: str | None = None
    device_id: str | None = None
    geo: Geo | None = None
    channel: str | None = None


class PaymentFlagged(Event, type="PaymentFlagged", version=1, id="payment_id"):
    """A payment broke one rule or several; one such event a payment.

    Attributes:
        reasons: the codes of the rules that it broke, in the fixed order of `RULE_CODES`.
        facts: what every rule saw, broken or not.
        rule_set: which rules with which thresholds decided; equal text means equal rules.
    """

    payment_id: str
    card_id: str
    reasons: list[str]
    facts: Facts
    rule_set: str
