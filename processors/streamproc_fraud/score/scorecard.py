"""The scorecard: a logistic regression over terms that a person can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from importlib.resources import files
from math import exp
from typing import Final

import msgspec

from streamproc import ConfigError
from streamproc_fraud.features.catalogue import CATALOGUE
from streamproc_fraud.rules.compiler import compile_expressions, compile_sum, features_of
from streamproc_fraud.rules.syntax import Symbols, parse
from streamproc_fraud.rules.tokens import ExpressionError

__all__ = ["Scorecard", "ScorecardFile", "Term", "shipped_scorecard"]

_LEAST_PART: Final = 0.5
"""Least contribution, in units of the log odds, that is worth telling as a reason."""

_MOST_REASONS: Final = 4
_LARGEST_EXPONENT: Final = 700.0


class Term(msgspec.Struct, frozen=True):
    """A part of the score.

    Attributes:
        name: what reasons call it.
        value: an expression of the rules' language, a number or a flag (1 or 0).
        weight: what one unit of it adds to the log odds.
    """

    name: str
    value: str
    weight: float = 0.0


class ScorecardFile(msgspec.Struct, frozen=True):
    """A scorecard as it is stored, in JSON.

    Attributes:
        trained_on: what it was fitted on, for people.
        terms: its parts.
        bias: log odds where all terms are 0.
        slope, offset: calibration: the log odds are slope * (bias + terms) + offset.
    """

    trained_on: str
    terms: list[Term]
    bias: float = 0.0
    slope: float = 1.0
    offset: float = 0.0


class Scorecard:
    """A `Model` made of terms; a term whose value is missing adds nothing.

    Raises:
        ConfigError: a term is no expression of the rules' language.
    """

    def __init__(self, file: ScorecardFile) -> None:
        self.file = file
        symbols = Symbols(CATALOGUE.kind, CATALOGUE.near, {}, frozenset())
        trees = []
        for term in file.terms:
            try:
                trees.append(parse(term.value, symbols, ("number", "flag")))
            except ExpressionError as error:
                raise ConfigError(f"scorecard term {term.name}, {error}") from None
        self.features: Sequence[str] = sorted(set[str]().union(*map(features_of, trees)))
        said = msgspec.json.encode(file, order="deterministic")
        self.digest = blake2b(said, digest_size=6).hexdigest()
        self._trees = trees
        # The first argument of compiled expressions is the time; no term looks at lists.
        self._evaluate = compile_expressions(
            trees, ["", *self.features], {}, undefined=[0] * len(trees)
        )
        self._score = self.function_of(["", *self.features])

    def terms(self, row: Sequence[float]) -> list[float]:
        """Return the values of the terms; 0 where one is missing."""
        return [value if value == value else 0.0 for value in map(float, self._evaluate(0.0, *row))]

    def scores(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """See `Model.scores`."""
        return [self.score(row) for row in rows]

    def score(self, row: Sequence[float]) -> float:
        """Return the probability of fraud for one row."""
        return self._score(0.0, *row)

    def function_of(self, features: Sequence[str]) -> Callable[..., float]:
        """Return a function from the values of `features`, the time first, to the probability."""
        weights, undefined = [term.weight for term in self.file.terms], [0] * len(self._trees)
        slope, offset = self.file.slope, self.file.offset
        return compile_sum(
            self._trees,
            weights,
            self.file.bias,
            features,
            undefined,
            lambda odds: logistic(slope * odds + offset),
        )

    def reasons(self, row: Sequence[float]) -> list[str]:
        """See `Model.reasons`."""
        parts = self.parts(row)
        telling = [name for name in parts if parts[name] >= _LEAST_PART]
        return sorted(telling, key=lambda name: -parts[name])[:_MOST_REASONS]

    def parts(self, row: Sequence[float]) -> Mapping[str, float]:
        """Return what each term adds to the log odds."""
        return {
            term.name: self.file.slope * term.weight * value
            for term, value in zip(self.file.terms, self.terms(row), strict=True)
        }


def logistic(odds: float) -> float:
    """Return the probability for log odds."""
    if not -_LARGEST_EXPONENT < odds < _LARGEST_EXPONENT:
        odds = max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, odds))
    return 1 / (1 + exp(-odds))


def shipped_scorecard() -> Scorecard:
    """Return the scorecard in the package, fitted by ``streamproc fraud fit``."""
    content = files("streamproc_fraud.score").joinpath("scorecard.json").read_bytes()
    return Scorecard(msgspec.json.decode(content, type=ScorecardFile))
