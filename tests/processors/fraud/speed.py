"""How fast payments are judged: all features of the test week and twenty rules, in one process.

    python -m tests.processors.fraud.speed

Twelve windows, two flags and more, read for every payment by twenty rules; state as it is after a
month and a half. CPU time of the process; exits with 1 if the median is below 20,000 payments a
second, or a card's state is beyond its bound.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from itertools import pairwise
from math import nan
from typing import Final

import msgspec

from streamproc.cli.loop import calm_collector
from streamproc_fraud.evaluation.replay import label_parts
from streamproc_fraud.events import PaymentAuthorized
from streamproc_fraud.features.card import Card
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.features.shared import MemoryCounters
from streamproc_fraud.rules.deciding import Decider
from streamproc_fraud.rules.ruleset import read_rules
from streamproc_fraud.score.scorecard import shipped_scorecard
from streamproc_fraud.world.events import world_events
from streamproc_fraud.world.simulator import SIMULATION_START, World, simulate

from .payments import rule, rule_set

BAR: Final = 20_000
ROUNDS: Final = 9
CONDITIONS: Final = (
    "amount > 220",
    "card_count_1m > 5",
    "card_prior_count_30d >= 4 and card_ratio_30d > 4",
    "travel_kmh > 900",
    "card_count_1d > 20",
    "card_sum_1d > 2000",
    "card_mean_7d > 150",
    "terminal_risk_7d >= 0.5",
    "terminal_risk_1d > 0.3 and amount > 50",
    "terminal_risk_30d > 0.2",
    "terminal_delayed_count_1d > 30",
    "is_night and amount > 100",
    "is_weekend and card_count_1d > 10",
    "card_seconds_since_last < 5",
    "terminal_delayed_count_7d > 100 and card_count_7d > 5",
    "currency != 'EUR'",
    "card_mean_1d > 3 * card_mean_30d",
    "amount / card_mean_30d > 5",
    "card_count_7d > 60 or card_count_30d > 200",
    "terminal_delayed_count_30d == 0 and amount > 150 and not is_weekend",
)


def main() -> int:
    """Measure, print, and say whether the bar is met."""
    events = list(world_events(simulate(World()).between(91, 136)))
    calm_collector()  # as a worker does, see docs/performance.md
    start_us = round(SIMULATION_START.timestamp()) * 1_000_000
    rules = [rule(f"r{at}", condition) for at, condition in enumerate(CONDITIONS)]
    medians = {}
    for model in ("none", "scorecard"):
        checked = read_rules(rule_set(*rules, model=model), "speed")
        decider = Decider(checked, shipped_scorecard() if model == "scorecard" else None)
        engine = FeatureEngine()
        read = engine.plan(decider.features, "speed")
        cards: dict[str, Card] = defaultdict(Card)
        counters: dict[tuple[str, str], MemoryCounters] = defaultdict(MemoryCounters)
        rates = []
        timed = len(events) // 20
        cuts = [len(events) - timed * (ROUNDS - at) for at in range(ROUNDS + 1)]
        for first, end in [(0, cuts[0]), *pairwise(cuts)]:
            payments, started = 0, time.process_time()
            for t, _, event in events[first:end]:
                card = cards[event.card_id]
                if isinstance(event, PaymentAuthorized):
                    frame = engine.take(event, start_us + t * 1_000_000, card, counters)
                    values = read(frame)
                    decider.decide(values, decider.scores([values])[0] if decider.model else nan)
                    payments += 1
                else:
                    terminal = counters["terminal", event.terminal_id]
                    engine.take_label(event.payment_id, label_parts(event), card, terminal)
            rates.append(payments / (time.process_time() - started))
        medians[model] = statistics.median(rates[1:])
        sizes = [len(msgspec.json.encode(card)) for card in cards.values()]
        print(
            f"{len(decider.features) - 1} features, 20 rules, model {model}: "
            f"{medians[model]:,.0f} payments/s ({min(rates[1:]):,.0f} - {max(rates[1:]):,.0f}); "
            f"a card takes {statistics.mean(sizes):,.0f} bytes in Redis, {max(sizes):,} at most"
        )
    return 0 if medians["none"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
