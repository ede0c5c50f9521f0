"""Fits the scorecard on one training period of the reference world, and on nothing after it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from streamproc import ConfigError
from streamproc_fraud.evaluation.protocol import Weeks
from streamproc_fraud.evaluation.replay import replay
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.score.scorecard import Scorecard, ScorecardFile, Term
from streamproc_fraud.world.simulator import DAY, SIMULATION_START, Transactions

__all__ = ["TERMS", "fit_scorecard"]

# What the card usually spends, floored so that small change makes no large ratios; 1 for a card
# that is hardly known.
_RATIO: Final = "if_else(card_prior_count_30d >= 3, amount / max(5, card_prior_mean_30d), 1)"
TERMS: Final = (
    Term("large-amount", "amount > 220"),
    Term("amount", "amount / 100"),
    Term("far-above-habit", f"{_RATIO} > 3"),
    Term("above-habit", f"log({_RATIO})"),
    Term("terminal-risk-1d", "terminal_risk_1d"),
    Term("terminal-risk-7d", "terminal_risk_7d"),
    Term("terminal-risk-30d", "terminal_risk_30d"),
    Term("risky-terminal", "terminal_risk_30d > 0.2"),
)
"""What an analyst would write down before seeing data: large amounts, unlike the card, and places
where frauds have been. The thresholds are round numbers and were not tuned."""

_FOLDS: Final = 5


def fit_scorecard(transactions: Transactions, weeks: Weeks) -> ScorecardFile:
    """Return a scorecard fitted on the training period of `weeks`.

    The payments before it make the history that features look back on; of those after it nothing
    is looked at. Calibration (Platt's) is fitted on scores that each fifth of the cards got from a
    model of the other four.

    Raises:
        ConfigError: scikit-learn is not installed, or the period has too few frauds.
    """
    end = weeks.train_start + weeks.train_days
    past = transactions.between(0, end)
    blank = Scorecard(ScorecardFile(trained_on="", terms=list(TERMS)))
    features = replay(past, FeatureEngine(), list(blank.features), weeks.train_start)
    trained = past.t >= weeks.train_start * DAY
    labels, cards = past.fraud[trained], past.customer[trained]
    if labels.sum() < 10 * _FOLDS:
        raise ConfigError(f"{labels.sum()} frauds in the training period; too few to fit on")
    terms = np.array([blank.terms(row) for row in features.tolist()])
    weights, bias = _fit(terms, labels)
    slope, offset = _calibrate(terms, labels, cards)
    first = SIMULATION_START.date().toordinal() + weeks.train_start
    days = [type(SIMULATION_START).fromordinal(first + n).date() for n in (0, weeks.train_days - 1)]
    return ScorecardFile(
        trained_on=f"reference world, {days[0]} to {days[1]}: "
        f"{len(labels):,} payments, {labels.sum():,} frauds",
        terms=[
            msgspec.structs.replace(term, weight=round(float(weight), 6))
            for term, weight in zip(TERMS, weights, strict=True)
        ],
        bias=round(float(bias), 6),
        slope=round(float(slope), 6),
        offset=round(float(offset), 6),
    )


def _fit(terms: Any, labels: Any) -> tuple[Any, float]:
    """Return weights and bias of a logistic regression on scaled terms, for unscaled ones."""
    model = _regression()
    scale = terms.std(axis=0)
    scale[scale == 0] = 1.0
    model.fit(terms / scale, labels)
    return model.coef_[0] / scale, float(model.intercept_[0])


def _calibrate(terms: Any, labels: Any, cards: Any) -> tuple[float, float]:
    odds = np.empty(len(labels))
    for fold in range(_FOLDS):
        held_out = cards % _FOLDS == fold
        weights, bias = _fit(terms[~held_out], labels[~held_out])
        odds[held_out] = terms[held_out] @ weights + bias
    model = _regression()
    model.fit(odds.reshape(-1, 1), labels)
    return float(model.coef_[0][0]), float(model.intercept_[0])


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError(
            f"fitting needs scikit-learn: pip install 'streamproc[fraud-fit]' ({error})"
        ) from None
    return LogisticRegression(max_iter=1_000)
