"""A week with duplicates and rewinds leads to what a clean week leads to."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

from streamproc.kinesis.records import Record
from streamproc.testing import Harness
from streamproc_fraud.world.publish import records_of
from streamproc_fraud.world.simulator import Transactions

from .payments import alerts, processor, rule, rule_set

RULES = rule_set(
    rule("large", "amount > 220", "block"),
    rule("often", "card_count_1d > 8"),
    rule("risky", "terminal_risk_7d >= 0.3"),
    rule("unlike", "card_prior_count_30d >= 4 and card_ratio_30d > 4"),
    rule("scored", "score > 0.02", "score"),
    model="scorecard",
)
BATCH = 100


def written(h: Harness, transactions: Transactions, duplicates: float) -> list[Record]:
    return [
        h.raw_record(record.data, key=record.partition_key)
        for record in records_of(transactions, duplicates=duplicates)
    ]


async def run(
    directory: Path, transactions: Transactions, duplicates: float, rewinds: tuple[int, ...]
) -> tuple[list[Any], dict[str, Any]]:
    """Process the payments; at each of `rewinds`, a batch's number, Redis is 20 batches older."""
    async with Harness(processor(directory, RULES)) as h:
        records = written(h, transactions, duplicates)
        batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]
        h.now = 1_800_000_000.0
        kept: dict[int, Any] = {}
        at, left = 0, list(rewinds)
        while at < len(batches):
            if any(at == rewind - 20 for rewind in left):
                kept[at] = copy.deepcopy(vars(h.store))
            if left and at == left[0]:
                # The store is what it was 20 batches ago; a new owner reads on from there.
                at = left.pop(0) - 20
                vars(h.store).update(kept[at])
                await h.restart()
            await h.process(*batches[at])
            at += 1
        cards = {f"card-{c}" for c in transactions.customer.tolist()}
        states = {card: h.state("fraud", card) for card in cards}
        assert h.dead_letters == []
        return alerts(h), states


async def test_duplicates_and_rewinds_change_no_score_and_no_alert(
    small_world: Transactions, tmp_path: Path
) -> None:
    week = small_world.between(20, 34)
    clean, clean_states = await run(tmp_path, week, 0.0, ())
    rough, rough_states = await run(tmp_path, week, 0.1, (30, 45))
    assert len(clean) > 100
    assert {alert.rule for alert in clean} >= {"large", "risky", "unlike"}
    assert sorted(rough, key=lambda a: a.alert_id) == sorted(clean, key=lambda a: a.alert_id)
    assert max(Counter(alert.alert_id for alert in rough).values()) == 1
    assert rough_states == clean_states


async def test_every_alert_carries_its_grounds(small_world: Transactions, tmp_path: Path) -> None:
    found, _ = await run(tmp_path, small_world.between(20, 26), 0.0, ())
    for alert in found:
        assert alert.alert_id == f"{alert.payment_id}|{alert.rule}|{alert.rule_set}"
        assert alert.rule_set.startswith("test@")
        assert alert.reasons
        assert {"amount", "card_count_1d", "terminal_risk_7d"} <= alert.features.keys()
        assert alert.features["amount"] == alert.amount_minor / 100
