"""Fraud: features, rules and a score for every card payment, and alerts that say why."""

from streamproc_fraud.events import (
    FraudLabelConfirmed,
    FraudLabelRetracted,
    Geo,
    PaymentAuthorized,
    PaymentAuthorizedV1,
    PaymentFlagged,
    PaymentReviewed,
)
from streamproc_fraud.processor import BatchFraudProcessor, FraudProcessor

__all__ = [
    "BatchFraudProcessor",
    "FraudLabelConfirmed",
    "FraudLabelRetracted",
    "FraudProcessor",
    "Geo",
    "PaymentAuthorized",
    "PaymentAuthorizedV1",
    "PaymentFlagged",
    "PaymentReviewed",
]
