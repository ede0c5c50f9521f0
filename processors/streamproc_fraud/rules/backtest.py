"""What a rule set would have done on recorded payments."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from math import nan
from pathlib import Path
from typing import Any, Final

import msgspec

from streamproc import ConfigError
from streamproc_fraud.currencies import MINOR_UNITS
from streamproc_fraud.events import (
    FraudLabelConfirmed,
    FraudLabelRetracted,
    PaymentAuthorized,
    PaymentAuthorizedV1,
)
from streamproc_fraud.features.card import Card, Label
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.features.shared import MemoryCounters
from streamproc_fraud.rules.deciding import Decider
from streamproc_fraud.rules.live import InForce

__all__ = ["Backtest", "Outcome", "RecordedEvent", "backtest", "read_recording"]

RecordedEvent = tuple[int, PaymentAuthorized | FraudLabelConfirmed | FraudLabelRetracted]
"""Event time in microseconds, and the event."""


class Outcome(msgspec.Struct):
    """How often something hit, and how often it was right.

    Attributes:
        hits: payments.
        frauds: those of them that are frauds by the labels in the recording.
        precision: their share; None without hits or labels.
        recall: the share of all frauds that was hit; None without labels.
    """

    hits: int = 0
    frauds: int = 0
    precision: float | None = None
    recall: float | None = None


class Backtest(msgspec.Struct):
    """The outcome of one rule set.

    Attributes:
        rule_set: its version.
        payments: how many were judged; `skipped` could not be.
        known_frauds: labelled payments among them.
        decisions: by decision, without those approved.
        rules: by rule, shadow rules included; their own condition, whatever decided.
        undefined: calculations without a result, by rule.
    """

    rule_set: str
    payments: int
    skipped: int
    known_frauds: int
    decisions: dict[str, Outcome]
    rules: dict[str, Outcome]
    undefined: dict[str, int]


def backtest(
    events: Iterable[RecordedEvent],
    sets: list[InForce],
    engine: FeatureEngine,
    frauds: set[str],
    since_us: int = 0,
) -> list[Backtest]:
    """Run rule sets over recorded events side by side; features are computed once for all.

    Args:
        events: in the order in which they came.
        sets: the rule sets.
        engine: as the processor's.
        frauds: ids of the payments that turned out to be frauds.
        since_us: payments before this time only make history.
    """
    cards: dict[str, Card] = defaultdict(Card)
    counters: dict[tuple[str, str], MemoryCounters] = defaultdict(MemoryCounters)
    runs = [_Run(each.decider) for each in sets]
    payments = skipped = 0
    known: set[str] = set()
    seen: set[str] = set()
    for time_us, event in events:
        card = cards[event.card_id]
        if not isinstance(event, PaymentAuthorized):
            state = "fraud" if isinstance(event, FraudLabelConfirmed) else "retracted"
            label = Label(
                state,  # type: ignore[arg-type]  # one of the two
                round(event.labelled_at.timestamp() * 1e6),
                round(event.payment_authorized_at.timestamp() * 1e6),
            )
            terminal = counters["terminal", event.terminal_id]
            engine.take_label(event.payment_id, label, card, terminal)
            continue
        if event.payment_id in seen:
            continue
        seen.add(event.payment_id)
        if not (0 <= event.amount_minor <= 10**12 and event.currency in MINOR_UNITS):
            skipped += 1
            continue
        frame = engine.take(event, time_us, card, counters)
        if time_us >= since_us:
            payments += 1
            is_fraud = event.payment_id in frauds
            if is_fraud:
                known.add(event.payment_id)
            for each, run in zip(sets, runs, strict=True):
                run.judge(each.read(frame), is_fraud)
    return [run.result(payments, skipped, len(known)) for run in runs]


class _Run:
    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._rules = [Outcome() for _ in decider.rules]
        self._decisions: dict[str, Outcome] = {"block": Outcome(), "review": Outcome()}

    def judge(self, values: list[Any], is_fraud: bool) -> None:
        decider = self._decider
        score = decider.scores([values])[0] if decider.needs_score else nan
        verdict = decider.decide(values, score)
        hit = [self._rules[at] for at in verdict.hits]
        if verdict.decision != "approve":
            hit.append(self._decisions[verdict.decision])
        for outcome in hit:
            outcome.hits += 1
            outcome.frauds += is_fraud

    def result(self, payments: int, skipped: int, known_frauds: int) -> Backtest:
        for outcome in (*self._rules, *self._decisions.values()):
            if known_frauds:
                outcome.recall = outcome.frauds / known_frauds
                outcome.precision = outcome.frauds / outcome.hits if outcome.hits else None
        names = [rule.id for rule in self._decider.rules]
        return Backtest(
            rule_set=self._decider.version,
            payments=payments,
            skipped=skipped,
            known_frauds=known_frauds,
            decisions=self._decisions,
            rules=dict(zip(names, self._rules, strict=True)),
            undefined={
                name: count
                for name, count in zip(names, self._decider.undefined, strict=True)
                if count
            },
        )


class _Recorded(msgspec.Struct):
    type: str
    data: msgspec.Raw
    time: datetime | None = None


_CLASSES: Final[dict[str, type[Any]]] = {
    "PaymentAuthorized.v1": PaymentAuthorizedV1,
    "PaymentAuthorized.v2": PaymentAuthorized,
    "PaymentAuthorized": PaymentAuthorized,
    "FraudLabelConfirmed.v1": FraudLabelConfirmed,
    "FraudLabelConfirmed": FraudLabelConfirmed,
    "FraudLabelRetracted.v1": FraudLabelRetracted,
    "FraudLabelRetracted": FraudLabelRetracted,
}


def read_recording(path: Path) -> Iterator[RecordedEvent]:
    """Yield the events of a recorded stream: CloudEvents, one a line, gzipped or not.

    Events of other types are passed over, as a worker does.

    Raises:
        ConfigError: a line is no such event; names it.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield from _recorded(line)
            except (msgspec.DecodeError, ValueError) as error:
                raise ConfigError(f"{path}:{number}: no event: {error}") from None


def _recorded(line: bytes) -> Iterator[RecordedEvent]:
    envelope = msgspec.json.decode(line, type=_Recorded)
    # A producer may put a reverse-DNS name in front: com.example.PaymentAuthorized.v1
    parts = envelope.type.split(".")
    cls = _CLASSES.get(".".join(parts[-2:])) or _CLASSES.get(parts[-1])
    if cls is None:
        return
    event = msgspec.json.decode(envelope.data, type=cls)
    if isinstance(event, PaymentAuthorizedV1):
        event = event.upcast()
    time = envelope.time
    if isinstance(event, PaymentAuthorized) and event.authorized_at is not None:
        time = event.authorized_at
    if time is None or time.tzinfo is None:
        raise ValueError("no time, or one without an offset")
    yield round(time.timestamp() * 1e6), event
