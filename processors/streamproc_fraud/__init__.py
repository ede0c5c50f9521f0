"""Fraud: a processor that flags card payments by amount, velocity and spending habit."""

from streamproc_fraud.card import Card, Spend
from streamproc_fraud.events import Geo, PaymentAuthorized, PaymentFlagged
from streamproc_fraud.processor import FraudProcessor
from streamproc_fraud.rules import Facts, Rules

__all__ = [
    "Card",
    "Facts",
    "FraudProcessor",
    "Geo",
    "PaymentAuthorized",
    "PaymentFlagged",
    "Rules",
    "Spend",
]
