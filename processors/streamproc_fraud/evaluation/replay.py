"""Features of a stretch of payments without a stream, for fits and checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from streamproc_fraud.evaluation.protocol import Array
from streamproc_fraud.events import FraudLabelConfirmed, PaymentAuthorized
from streamproc_fraud.features.card import Card, Label
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.features.shared import MemoryCounters
from streamproc_fraud.world.events import world_events
from streamproc_fraud.world.simulator import DAY, SIMULATION_START, Transactions

__all__ = ["label_parts", "replay"]

_START_US = round(SIMULATION_START.timestamp()) * 1_000_000


def replay(
    transactions: Transactions, engine: FeatureEngine, names: Sequence[str], first_day: int
) -> Array:
    """Return the features of every payment from `first_day` on, a row each, flags as 0 and 1.

    All payments and labels go through the very code that the processor runs, in order of time.
    """
    cards: dict[str, Card] = defaultdict(Card)
    counters: dict[tuple[str, str], MemoryCounters] = defaultdict(MemoryCounters)
    read = engine.plan(names, "replay")
    rows = []
    for t, _, event in world_events(transactions):
        card = cards[event.card_id]
        if isinstance(event, PaymentAuthorized):
            frame = engine.take(event, _START_US + t * 1_000_000, card, counters)
            if t >= first_day * DAY:
                rows.append(list(map(float, read(frame))))
        else:
            engine.take_label(
                event.payment_id, label_parts(event), card, counters["terminal", event.terminal_id]
            )
    return np.array(rows).reshape(-1, len(names))


def label_parts(event: FraudLabelConfirmed) -> Label:
    """Return what a card keeps of a label."""
    return Label(
        "fraud",
        round(event.labelled_at.timestamp() * 1e6),
        round(event.payment_authorized_at.timestamp() * 1e6),
    )
