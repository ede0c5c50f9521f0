"""The fraud processor: one payment in, at most one alert out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import nan
from typing import Any, Final

import msgspec
from prometheus_client.registry import Collector

from streamproc import ConfigError, Context, Processor, Reject, StreamprocError, on
from streamproc_fraud.currencies import MINOR_UNITS
from streamproc_fraud.events import (
    FraudLabelConfirmed,
    FraudLabelRetracted,
    PaymentAuthorized,
    PaymentFlagged,
    PaymentReviewed,
)
from streamproc_fraud.features.card import Card, Label
from streamproc_fraud.features.engine import FeatureEngine, Precision, is_place
from streamproc_fraud.measures import FraudCollector
from streamproc_fraud.rules.deciding import Decider, Verdict
from streamproc_fraud.rules.live import InForce, LiveRules
from streamproc_fraud.rules.ruleset import read_rules
from streamproc_fraud.rules.sources import PackagedRules, open_source
from streamproc_fraud.rules.syntax import Value
from streamproc_fraud.score.model import Model, OnnxModel
from streamproc_fraud.score.scorecard import shipped_scorecard

__all__ = ["AHEAD_LIMIT", "BEHIND_LIMIT", "LARGEST_AMOUNT", "BatchFraudProcessor", "FraudProcessor"]

LARGEST_AMOUNT: Final = 10**12
"""Minor units; more is a broken producer, and sums must stay within 64 bits."""

AHEAD_LIMIT: Final = 3_600.0
"""Seconds that a payment may claim to be later than its arrival in the stream."""

BEHIND_LIMIT: Final = 20 * 365.25 * 86_400
"""Seconds that it may claim to be earlier; replays of old data are fine, a zero clock is not."""


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model of one's own: an ONNX file, and what its columns are."""

    path: str
    features: list[str]


class FraudProcessor(Processor[Card]):
    """Judge payments by rules and a score, and tell of those to review or to block.

    A card's payments are its keyed state; what cards share, such as a terminal's payments and
    frauds, is counted in commutative counters. Windows are of event time. A payment that cannot
    be judged is rejected with one of the reasons ``no-card``, ``no-terminal``,
    ``amount-negative``, ``amount-too-large``, ``unknown-currency``, ``bad-time``,
    ``time-ahead`` and ``time-behind``, and leaves all state as it was.

    Args:
        rules: where the rule set is: a path, ``s3://bucket/key`` or ``redis://host/0#key``; it is
            looked at again all the time. Without it the one in the package is used.
        constants: values in place of the rule set's own constants.
        models: by name, `path` of an ONNX file and the `features` that are its columns; a rule set
            chooses one by name.
        precision: ``exact``, or ``bucketed`` for cards and terminals with very many payments.
        track: what is counted by customer, device, ip and terminal: lists of ``count``,
            ``amounts`` and ``cards``.
        label_delay_days: days after a payment until its label is due, and terminals' risk ends.

    Raises:
        ConfigError: a setting or the rule set cannot be used.
    """

    name = "fraud"
    state_ttl = 90 * 86_400.0  # a card that rests for a quarter starts afresh

    def __init__(
        self,
        rules: str | None = None,
        constants: Mapping[str, Value] | None = None,
        models: Mapping[str, Mapping[str, Any]] | None = None,
        precision: Precision = "exact",
        track: Mapping[str, Sequence[str]] | None = None,
        label_delay_days: float = 7.0,
    ) -> None:
        self.features = FeatureEngine(precision, track, label_delay_days)
        self.ignored_places = 0
        self._constants = dict(constants or {})
        self._models = {name: _model(name, given) for name, given in (models or {}).items()}
        source = PackagedRules() if rules is None else open_source(rules)
        self.live = LiveRules(source, self._put_together)

    async def start(self) -> None:
        """Read the rules where that was not possible yet, and watch them from now on."""
        await self.live.start()

    async def stop(self) -> None:
        """Stop watching the rules."""
        await self.live.stop()

    def collectors(self) -> Sequence[Collector]:
        """See `Processor.collectors`."""
        return [FraudCollector(self.live, lambda: self.ignored_places)]

    @property
    def shared_keys(self) -> Callable[[PaymentAuthorized], list[tuple[str, str]]]:
        """Return the keys of the counters that a payment touches."""
        return self.features.shared_keys

    def label_keys(self, label: FraudLabelConfirmed | FraudLabelRetracted) -> list[tuple[str, str]]:
        """Return the keys of the counters that a label touches."""
        return [("terminal", label.terminal_id)] if "terminal" in self.features.track else []

    @on(PaymentAuthorized, key="card_id", counters="shared_keys")
    def judge(self, payment: PaymentAuthorized, ctx: Context[Card]) -> None:
        """Take the payment into what is known, and decide on it."""
        force = self.live.in_force
        values = self._values(payment, ctx, force)
        decider = force.decider
        self._tell(payment, ctx, decider, values, decider.score(values))

    @on(FraudLabelConfirmed, key="card_id", counters="label_keys")
    def confirm(self, label: FraudLabelConfirmed, ctx: Context[Card]) -> None:
        """Note that a payment was a fraud, also before the payment itself."""
        self._label(label, "fraud", ctx)

    @on(FraudLabelRetracted, key="card_id", counters="label_keys")
    def retract(self, label: FraudLabelRetracted, ctx: Context[Card]) -> None:
        """Note that it was none after all."""
        self._label(label, "retracted", ctx)

    def _values(self, payment: PaymentAuthorized, ctx: Context[Card], force: InForce) -> list[Any]:
        """Take a payment in; return the values of what the rules and the model look at."""
        _refuse_unusable(payment)
        time_us = _event_time_us(payment, ctx)
        if payment.geo is not None and not is_place(payment.geo):
            self.ignored_places += 1
        return force.read(self.features.take(payment, time_us, ctx.state, ctx.counters))

    def _tell(
        self,
        payment: PaymentAuthorized,
        ctx: Context[Card],
        decider: Decider,
        values: Sequence[Any],
        score: float,
    ) -> None:
        verdict = decider.decide(values, score)
        if verdict.decision == "approve":
            return
        ctx.emit(_alert(payment, decider, verdict, values, score))

    def _label(
        self,
        label: FraudLabelConfirmed | FraudLabelRetracted,
        state: str,
        ctx: Context[Card],
    ) -> None:
        if not label.card_id:
            raise Reject("no-card")
        if not label.terminal_id:
            raise Reject("no-terminal")
        noted = Label(
            state,  # type: ignore[arg-type]  # one of the two, see the callers
            _microseconds(label.labelled_at),
            _within_limits(_microseconds(label.payment_authorized_at), ctx),
        )
        keys = self.label_keys(label)
        terminal = ctx.counters[keys[0]] if keys else None
        self.features.take_label(label.payment_id, noted, ctx.state, terminal)

    def _put_together(self, content: bytes, where: str) -> InForce:
        """Return what a published rule set leads to.

        Raises:
            ConfigError: it cannot be used here.
        """
        checked = read_rules(content, where, self._constants)
        wanted = checked.source.model.use
        model: Model | None = None
        if wanted == "scorecard":
            model = shipped_scorecard()
        elif wanted in self._models:
            model = self._models[wanted]
        elif wanted != "none":
            known = ", ".join(["scorecard", "none", *self._models])
            raise ConfigError(f"{where}: there is no model {wanted!r}; known here: {known}")
        decider = Decider(checked, model)
        return InForce(decider, self.features.plan(decider.features, where))


class BatchFraudProcessor(FraudProcessor):
    """The same, scoring all payments of a batch in one call: for models that are slow one by one.

    Of labels and payments in one batch, at one terminal but of different cards, it may see either
    first.
    """

    @on(PaymentAuthorized, key="card_id", counters="shared_keys", batch=True)
    def judge(  # type: ignore[override]  # a batch handler in place of a handler
        self, payments: Sequence[PaymentAuthorized], contexts: Sequence[Context[Card]]
    ) -> None:
        """Take payments into what is known, score them together, and decide on each."""
        force = self.live.in_force
        decider = force.decider
        rows = [
            self._values(payment, ctx, force)
            for payment, ctx in zip(payments, contexts, strict=True)
        ]
        scores = decider.scores(rows) if decider.needs_score else [nan] * len(rows)
        for payment, ctx, values, score in zip(payments, contexts, rows, scores, strict=True):
            self._tell(payment, ctx, decider, values, score)


def _model(name: str, given: Mapping[str, Any]) -> Model:
    if name in ("scorecard", "none"):
        raise ConfigError(f"models.{name}: the name is taken; choose another")
    try:
        file = msgspec.convert(dict(given), ModelFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"models.{name}: {error}") from None
    return OnnxModel(file.path, file.features)


def _alert(
    payment: PaymentAuthorized,
    decider: Decider,
    verdict: Verdict,
    values: Sequence[Any],
    score: float,
) -> PaymentFlagged | PaymentReviewed:
    event = PaymentFlagged if verdict.decision == "block" else PaymentReviewed
    return event(
        alert_id=f"{payment.payment_id}|{verdict.rule}|{decider.version}",
        payment_id=payment.payment_id,
        card_id=payment.card_id,
        customer_id=payment.customer_id,
        terminal_id=payment.terminal_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        decision=verdict.decision,
        rule=verdict.rule or "",
        reasons=verdict.reasons,
        score=_told(score),
        rule_set=decider.version,
        features={
            name: _told(value)
            for name, value in zip(decider.features, values, strict=True)
            if name != "time"
        },
    )


def _told(value: Any) -> Any:
    """Return a value for an alert: a missing number is null there."""
    return None if value != value else value


def _refuse_unusable(payment: PaymentAuthorized) -> None:
    if not payment.card_id:
        raise Reject("no-card")
    if not payment.terminal_id:
        raise Reject("no-terminal")
    if payment.amount_minor < 0:  # 0 is how merchants check a card, and thieves try one
        raise Reject("amount-negative")
    if payment.amount_minor > LARGEST_AMOUNT:
        raise Reject("amount-too-large")
    if payment.currency not in MINOR_UNITS:
        raise Reject("unknown-currency")


def _event_time_us(payment: PaymentAuthorized, ctx: Context[Card]) -> int:
    """Return the payment's time in microseconds, which makes window borders exact."""
    if payment.authorized_at is not None:
        return _within_limits(_microseconds(payment.authorized_at), ctx)
    try:
        time_us = round(ctx.event_time * 1e6)
    except StreamprocError as error:
        raise Reject("bad-time") from error
    return _within_limits(time_us, ctx)


def _within_limits(time_us: int, ctx: Context[Card]) -> int:
    time, arrival = time_us / 1e6, ctx.arrival_time
    if time > arrival + AHEAD_LIMIT:
        raise Reject("time-ahead")
    if time < arrival - BEHIND_LIMIT:
        raise Reject("time-behind")
    return time_us


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise Reject("bad-time")
    return round(moment.timestamp() * 1e6)
