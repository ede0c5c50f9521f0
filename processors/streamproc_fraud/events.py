"""What the fraud processor takes and what it says."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from streamproc import Event

__all__ = [
    "Decision",
    "FraudLabelConfirmed",
    "FraudLabelRetracted",
    "Geo",
    "PaymentAuthorized",
    "PaymentAuthorizedV1",
    "PaymentFlagged",
    "PaymentReviewed",
]

Decision = Literal["approve", "review", "block"]


class Geo(msgspec.Struct, frozen=True):
    """Where a payment was made, in degrees (WGS 84)."""

    lat: float
    lon: float


class PaymentAuthorizedV1(Event, type="PaymentAuthorized", version=1, id="payment_id"):
    """Version 1, which left the time to the envelope and knew no country."""

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

    def upcast(self) -> PaymentAuthorized:
        """Return version 2; what version 1 did not say stays unknown."""
        # By position: by name it takes three times as long, and old producers send many.
        return PaymentAuthorized(
            self.payment_id,
            self.card_id,
            self.customer_id,
            self.terminal_id,
            self.amount_minor,
            self.currency,
            None,
            self.ip,
            self.device_id,
            self.geo,
            self.channel,
        )


class PaymentAuthorized(
    Event, type="PaymentAuthorized", version=2, id="payment_id", supersedes=PaymentAuthorizedV1
):
    """A card payment was authorized.

    Attributes:
        card_id: a token that stands for the card, never the card number itself.
        terminal_id: the merchant's terminal, or the merchant where there is none.
        amount_minor: the amount in the currency's minor unit, such as cents.
        currency: ISO 4217, three capital letters.
        country: ISO 3166 alpha-2, where the payment was made.
        authorized_at: event time; the envelope's time, or else the arrival, where it is not given.
    """

    payment_id: str
    card_id: str
    customer_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    country: str | None = None
    ip: str | None = None
    device_id: str | None = None
    geo: Geo | None = None
    channel: str | None = None
    authorized_at: datetime | None = None


class FraudLabelConfirmed(Event, type="FraudLabelConfirmed", version=1):
    """A payment turned out to be a fraud: a chargeback, or an investigator's word.

    Its id is the envelope's. Several for one payment count once.

    Attributes:
        payment_authorized_at: the payment's own time, at which its terminal gets the fraud.
        labelled_at: when it was found out; of the labels of a payment the latest holds.
    """

    payment_id: str
    card_id: str
    terminal_id: str
    payment_authorized_at: datetime
    labelled_at: datetime
    source: str | None = None


class FraudLabelRetracted(Event, type="FraudLabelRetracted", version=1):
    """A payment is no fraud after all; see `FraudLabelConfirmed` for the fields."""

    payment_id: str
    card_id: str
    terminal_id: str
    payment_authorized_at: datetime
    labelled_at: datetime


class _Alert(Event):
    """What is told of a payment that is not simply approved.

    Attributes:
        alert_id: ``<payment>|<rule>|<version>``: one alert for each of these, however often it is
            delivered.
        rule: id of the first rule that brought the decision about.
        reasons: codes of all rules that hit, in the order of precedence, and for a score of its
            largest parts, as ``score:<term>``.
        score: probability of fraud by the model, None without one.
        rule_set: ``<name>@<digest>`` of the rules, lists and model that decided.
        features: the values that the rules and the model looked at; None is missing.
    """

    alert_id: str
    payment_id: str
    card_id: str
    customer_id: str
    terminal_id: str
    amount_minor: int
    currency: str
    decision: Decision
    rule: str
    reasons: list[str]
    score: float | None
    rule_set: str
    features: dict[str, float | str | bool | None]


class PaymentFlagged(_Alert, type="PaymentFlagged", version=2, id="alert_id"):
    """A payment that should be blocked."""


class PaymentReviewed(_Alert, type="PaymentReviewed", version=1, id="alert_id"):
    """A payment that a person should look at."""
