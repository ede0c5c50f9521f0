"""The rules: thresholds, and which of them a payment's facts break."""

from __future__ import annotations

from hashlib import blake2s
from typing import Final

import msgspec

from streamproc import ConfigError

__all__ = ["AMOUNT_LIMIT", "RULE_CODES", "SPEND_RATIO", "VELOCITY", "Facts", "Rules"]

AMOUNT_LIMIT: Final = "amount-limit"
VELOCITY: Final = "velocity"
SPEND_RATIO: Final = "spend-ratio"
RULE_CODES: Final = (AMOUNT_LIMIT, VELOCITY, SPEND_RATIO)
"""Every reason code, in the order in which reasons are listed."""

# Raise it when what a rule means changes, so that equal thresholds do not look like equal rules.
_SEMANTICS: Final = 1


class Facts(msgspec.Struct, frozen=True):
    """What the rules look at.

    Attributes:
        amount_minor: the payment's amount.
        payments_in_window: payments of the card in the window that ends with this one, itself
            included; `Card` says when it is a lower bound.
        earlier_payments: payments of the card in this currency before this one.
        spend_ratio: the amount over the mean of those; None when there is none.
    """

    amount_minor: int
    payments_in_window: int
    earlier_payments: int
    spend_ratio: float | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """A set of thresholds; every comparison is strict, so a value at its limit passes.

    Attributes:
        amount_limit_minor: largest amount that passes, in minor units of its own currency.
        velocity_limit: most payments of one card within the window.
        velocity_window: seconds of event time; the window at t is (t - window, t].
        spend_ratio: largest amount that passes, as a multiple of the mean earlier payment.
        spend_ratio_min_count: earlier payments needed before that mean is trusted.

    Raises:
        ConfigError: a threshold makes no sense; the message names it.
    """

    amount_limit_minor: int
    velocity_limit: int
    velocity_window: float
    spend_ratio: float
    spend_ratio_min_count: int

    def __post_init__(self) -> None:
        for name, least in (
            ("amount_limit_minor", 0),
            ("velocity_limit", 1),
            ("velocity_window", 1e-6),
            ("spend_ratio", 0),
            ("spend_ratio_min_count", 1),
        ):
            value = getattr(self, name)
            if not value >= least:  # also NaN
                raise ConfigError(f"processors.fraud.{name} = {value}: must be at least {least}")

    @property
    def version(self) -> str:
        """The text that names these rules with these thresholds."""
        digest = blake2s(msgspec.json.encode(self), digest_size=4).hexdigest()
        return f"builtin-{_SEMANTICS}.{digest}"

    def broken_by(self, facts: Facts) -> list[str]:
        """Return the codes of the rules that the facts break."""
        reasons = []
        if facts.amount_minor > self.amount_limit_minor:
            reasons.append(AMOUNT_LIMIT)
        if facts.payments_in_window > self.velocity_limit:
            reasons.append(VELOCITY)
        if (
            facts.spend_ratio is not None
            and facts.earlier_payments >= self.spend_ratio_min_count
            and facts.spend_ratio > self.spend_ratio
        ):
            reasons.append(SPEND_RATIO)
        return reasons
