"""The handbook's protocol: which payments are judged, and the three figures that sum it up."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc_fraud.world.simulator import DAY, Transactions

__all__ = [
    "TOP_CARDS",
    "Quality",
    "Weeks",
    "average_precision",
    "card_precision",
    "judged",
    "measure",
    "precision_recall",
    "roc_auc",
]

TOP_CARDS: Final = 100
"""Cards that investigators can look at in a day."""

Array = npt.NDArray[Any]


class Weeks(msgspec.Struct, frozen=True, kw_only=True):
    """When a model learns and when it is tested, in days since the world's first.

    Attributes:
        train_start: first day of the training period; the default is 2018-07-25.
        train_days: its length.
        delay_days: days after a payment until its label is known; none is used in between.
        test_days: length of the test period, which follows the delay.
    """

    train_start: int = 115
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7

    @property
    def test_start(self) -> int:
        """First day of the test period; 2018-08-08 by default."""
        return self.train_start + self.train_days + self.delay_days

    @property
    def end(self) -> int:
        """The day after the test period."""
        return self.test_start + self.test_days


class Quality(msgspec.Struct, frozen=True):
    """How well scores tell frauds.

    Attributes:
        auc: area under the ROC curve.
        average_precision: the mean precision, weighted by the recall that each step adds.
        card_precision_at_100: of the 100 cards with the highest scores of a day, the share that
            is defrauded that day, cards found before left out; the mean over the days.
    """

    auc: float
    average_precision: float
    card_precision_at_100: float


def judged(transactions: Transactions, weeks: Weeks) -> Array:
    """Return the rows of the test period that count.

    Cards that are known to be defrauded by then do not: those with a fraud in the training
    period, and for the test day k those with a fraud on the k-th to 0-th day after it.
    """
    day = transactions.t // DAY
    rows = []
    training = (day >= weeks.train_start) & (day < weeks.train_start + weeks.train_days)
    known = set(transactions.customer[training & transactions.fraud].tolist())
    for k in range(weeks.test_days):
        # The day whose labels became known the night before.
        fresh = day == weeks.test_start + k - weeks.delay_days - 1
        known |= set(transactions.customer[fresh & transactions.fraud].tolist())
        today = np.nonzero(day == weeks.test_start + k)[0]
        rows.append(today[~np.isin(transactions.customer[today], list(known))])
    return np.concatenate(rows)


def measure(transactions: Transactions, rows: Array, scores: Array) -> Quality:
    """Return the quality of `scores`, one for each of `rows`."""
    labels = transactions.fraud[rows]
    return Quality(
        auc=roc_auc(labels, scores),
        average_precision=average_precision(labels, scores),
        card_precision_at_100=card_precision(
            transactions.t[rows] // DAY, transactions.customer[rows], labels, scores
        ),
    )


def roc_auc(labels: Array, scores: Array) -> float:
    """Return the chance that a fraud scores above a genuine payment; ties count half."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    above = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def average_precision(labels: Array, scores: Array) -> float:
    """Return the sum over thresholds of precision times the recall gained there."""
    recall, precision = precision_recall(labels, scores)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def precision_recall(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Return recall and precision at each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(labels[order])
    ends = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    return hits[ends] / max(1, hits[-1]), hits[ends] / (ends + 1)


def card_precision(
    days: Array, cards: Array, labels: Array, scores: Array, top: int = TOP_CARDS
) -> float:
    """Return the mean over days of the share of defrauded cards among the `top` of each."""
    found: set[int] = set()
    shares = []
    for day in np.unique(days):
        rows = np.nonzero(days == day)[0]
        best: dict[int, float] = {}
        defrauded: set[int] = set()
        for card, label, score in zip(
            cards[rows].tolist(), labels[rows].tolist(), scores[rows].tolist(), strict=True
        ):
            if card not in found:
                best[card] = max(score, best.get(card, score))
                if label:
                    defrauded.add(card)
        ranked = sorted(best, key=lambda card: (-best[card], card))[:top]
        caught = defrauded.intersection(ranked)
        shares.append(len(caught) / top)
        found |= caught
    return float(np.mean(shares))
