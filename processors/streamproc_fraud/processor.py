"""The fraud processor: one payment in, at most one flag out."""

from __future__ import annotations

from typing import Final

from streamproc import Context, Processor, Reject, StreamprocError, on
from streamproc_fraud.card import Card
from streamproc_fraud.events import PaymentAuthorized, PaymentFlagged
from streamproc_fraud.rules import Facts, Rules

__all__ = ["AHEAD_LIMIT", "BEHIND_LIMIT", "LARGEST_AMOUNT", "FraudProcessor"]

LARGEST_AMOUNT: Final = 10**12
"""Minor units; more is a broken producer, and sums must stay within 64 bits."""

AHEAD_LIMIT: Final = 3_600.0
"""Seconds that a payment may claim to be later than its arrival in the stream."""

BEHIND_LIMIT: Final = 20 * 365.25 * 86_400
"""Seconds that it may claim to be earlier; replays of old data are fine, a zero clock is not."""

_LEAST_KEPT_TIMES: Final = 1_000


class FraudProcessor(Processor[Card]):
    """Flag payments over an amount, in too quick succession, or far above a card's habit.

    State is kept per card, in the order in which the stream delivers its payments; windows are of
    event time. A payment that cannot be judged is rejected with one of the reasons ``no-card``,
    ``amount-not-positive``, ``amount-too-large``, ``bad-currency``, ``bad-time``, ``time-ahead``
    and ``time-behind``, and leaves the card's state as it was.

    Args:
        amount_limit_minor: largest amount that passes, in minor units of its own currency.
        velocity_limit: most payments of one card within `velocity_window` seconds.
        velocity_window: seconds of event time.
        spend_ratio: largest amount that passes, as a multiple of the card's mean earlier payment
            in that currency.
        spend_ratio_min_count: earlier payments needed before that mean is trusted.

    Raises:
        ConfigError: a threshold makes no sense.
    """

    name = "fraud"
    state_ttl = 90 * 86_400.0  # a card that rests for a quarter starts afresh

    def __init__(
        self,
        amount_limit_minor: int = 22_000,
        velocity_limit: int = 5,
        velocity_window: float = 60.0,
        spend_ratio: float = 4.0,
        spend_ratio_min_count: int = 4,
    ) -> None:
        self.rules = Rules(
            amount_limit_minor=amount_limit_minor,
            velocity_limit=velocity_limit,
            velocity_window=velocity_window,
            spend_ratio=spend_ratio,
            spend_ratio_min_count=spend_ratio_min_count,
        )
        self._rule_set = self.rules.version
        self._window_us = round(velocity_window * 1e6)
        self._kept_times = max(_LEAST_KEPT_TIMES, 2 * velocity_limit)

    @on(PaymentAuthorized, key="card_id")
    def judge(self, payment: PaymentAuthorized, ctx: Context[Card]) -> None:
        """Take the payment into the card's state, and flag it if it breaks a rule."""
        _refuse_unusable(payment)
        time_us = _event_time_us(ctx)
        card = ctx.state
        spend = card.spend_in(payment.currency)
        facts = Facts(
            amount_minor=payment.amount_minor,
            payments_in_window=card.pay_at(time_us, self._window_us, self._kept_times),
            earlier_payments=spend.count,
            spend_ratio=spend.ratio_of(payment.amount_minor),
        )
        spend.add(payment.amount_minor)
        reasons = self.rules.broken_by(facts)
        if reasons:
            ctx.emit(
                PaymentFlagged(
                    payment_id=payment.payment_id,
                    card_id=payment.card_id,
                    reasons=reasons,
                    facts=facts,
                    rule_set=self._rule_set,
                )
            )


def _refuse_unusable(payment: PaymentAuthorized) -> None:
    if not payment.card_id:
        raise Reject("no-card")
    if payment.amount_minor <= 0:
        raise Reject("amount-not-positive")
    if payment.amount_minor > LARGEST_AMOUNT:
        raise Reject("amount-too-large")
    currency = payment.currency
    if not (
        len(currency) == 3 and currency.isascii() and currency.isupper() and currency.isalpha()
    ):
        raise Reject("bad-currency")


def _event_time_us(ctx: Context[Card]) -> int:
    """Return the payment's time in microseconds, which makes window borders exact."""
    try:
        time = ctx.event_time
    except StreamprocError as error:
        raise Reject("bad-time") from error
    if time > ctx.arrival_time + AHEAD_LIMIT:
        raise Reject("time-ahead")
    if time < ctx.arrival_time - BEHIND_LIMIT:
        raise Reject("time-behind")
    return round(time * 1e6)
