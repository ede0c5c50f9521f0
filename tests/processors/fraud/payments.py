"""Payments, labels and rule sets for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamproc.testing import Harness
from streamproc_fraud import (
    FraudLabelConfirmed,
    FraudLabelRetracted,
    FraudProcessor,
    PaymentAuthorized,
    PaymentFlagged,
    PaymentReviewed,
)

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAY = 86_400


def payment(
    payment_id: str,
    amount_minor: int = 1_000,
    *,
    card: str = "card_1",
    terminal: str = "terminal_1",
    currency: str = "EUR",
    **more: Any,
) -> PaymentAuthorized:
    return PaymentAuthorized(
        payment_id=payment_id,
        card_id=card,
        customer_id="customer_1",
        terminal_id=terminal,
        amount_minor=amount_minor,
        currency=currency,
        **more,
    )


def label(
    payment_id: str,
    paid_at: float,
    labelled_at: float,
    *,
    retracted: bool = False,
    card: str = "card_1",
    terminal: str = "terminal_1",
) -> FraudLabelConfirmed | FraudLabelRetracted:
    cls = FraudLabelRetracted if retracted else FraudLabelConfirmed
    return cls(
        payment_id=payment_id,
        card_id=card,
        terminal_id=terminal,
        payment_authorized_at=datetime.fromtimestamp(paid_at, UTC),
        labelled_at=datetime.fromtimestamp(labelled_at, UTC),
    )


def rule(id: str, when: str, stage: str = "review", more: str = "") -> str:
    return f"[[rules]]\nid = \"{id}\"\nstage = \"{stage}\"\nwhen = '''{when}'''\n{more}\n"


def rule_set(*rules: str, name: str = "test", model: str = "none", head: str = "") -> str:
    return f'name = "{name}"\n{head}\n[model]\nuse = "{model}"\n\n' + "\n".join(rules)


def processor(directory: Path, text: str, **settings: Any) -> FraudProcessor:
    """Return a processor with a rule set of its own; it lies in `directory`/rules.toml."""
    path = directory / "rules.toml"
    path.write_text(text)
    return FraudProcessor(rules=str(path), **settings)


def watching(
    directory: Path, *features: str, model: str = "none", **settings: Any
) -> FraudProcessor:
    """Return a processor that tells of every payment, with the values of `features`."""
    looks = " or ".join(f"is_missing({feature})" for feature in features)
    seen = rule("seen", f"amount > 0 or {looks}")
    return processor(directory, rule_set(seen, model=model), **settings)


def alerts(h: Harness) -> list[PaymentFlagged | PaymentReviewed]:
    kinds = {"PaymentFlagged": PaymentFlagged, "PaymentReviewed": PaymentReviewed}
    import msgspec

    return [msgspec.convert(each.payload, kinds[each.type]) for each in h.emitted]


def metrics(fraud: FraudProcessor, name: str) -> dict[str, float]:
    """Return a metric's values by rule, or by "" where it has no rules."""
    (collector,) = fraud.collectors()
    return {
        sample.labels.get("rule", ""): sample.value
        for family in collector.collect()
        for sample in family.samples
        if sample.name == f"streamproc_fraud_{name}"
    }


def seen(h: Harness, feature: str) -> dict[str, Any]:
    """Return a feature's value by payment."""
    return {alert.payment_id: alert.features[feature] for alert in alerts(h)}
