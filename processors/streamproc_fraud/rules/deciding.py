"""From feature values to a decision, with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import nan
from typing import Any, NamedTuple

from streamproc_fraud.events import Decision
from streamproc_fraud.rules.compiler import compile_expressions
from streamproc_fraud.rules.ruleset import CheckedRules
from streamproc_fraud.rules.tallies import Tallies
from streamproc_fraud.score.model import Model
from streamproc_fraud.score.scorecard import Scorecard

__all__ = ["Decider", "Verdict"]


class Verdict(NamedTuple):
    """What was decided of one payment.

    Attributes:
        decision: what to do.
        rule: id of the rule that decided; None where none hit.
        reasons: codes of the rules that speak against the payment, in the order of precedence,
            then the score's parts.
        hits: places in `Decider.rules` of all rules that hit, shadow rules included.
        decided: place of the rule that decided.
    """

    decision: Decision
    rule: str | None
    reasons: list[str]
    hits: Sequence[int]
    decided: int | None


_NOTHING = Verdict("approve", None, [], (), None)


class Decider:
    """One version of the rules with its model; it never changes but for what it counts.

    Attributes:
        version: ``<name>@<digest>`` of rules, constants, lists and model.
        rules: in the order of precedence.
        features: names of the values that `decide` takes, the time first.
        tallies: counts by rule.
        undefined: calculations without a result, by the rules' places.
        unscored: payments for which the model gave no number.
    """

    def __init__(self, checked: CheckedRules, model: Model | None) -> None:
        self.checked = checked
        self.rules = checked.rules
        self.model = model
        digest = blake2b(digest_size=6)
        digest.update(checked.digest.encode())
        digest.update(b"" if model is None else model.digest.encode())
        self.version = f"{checked.source.name}@{digest.hexdigest()}"
        used = set[str]().union(*checked.used) | set(() if model is None else model.features)
        self.features: Sequence[str] = ["time", *sorted(used - {"time", "score"})]
        places = {name: at for at, name in enumerate(self.features)}
        self._model_places = [places[name] for name in model.features] if model else []
        self._score: Callable[..., float] | None = None
        if isinstance(model, Scorecard):
            self._score = model.function_of(self.features)
        self.undefined = [0] * len(self.rules)
        self.unscored = 0
        self._early_count = sum(rule.stage != "score" for rule in self.rules)
        self._evaluate = compile_expressions(
            checked.trees, [*self.features, "score"], checked.lists, self.undefined
        )
        self._acts = [not rule.shadow for rule in self.rules]
        self.tallies = Tallies([rule.id for rule in self.rules])

    @property
    def needs_score(self) -> bool:
        """Whether there is a model."""
        return self.model is not None

    def scores(self, rows: Sequence[Sequence[Any]]) -> list[float]:
        """Return the model's probability for the values of each payment; NaN is no score."""
        assert self.model is not None, "asked only where there is a model"
        scores = self.model.scores([self.row(values) for values in rows])
        self.unscored += sum([score != score for score in scores])
        return scores

    def score(self, values: Sequence[Any]) -> float:
        """Return the model's probability for one payment; NaN without a model, or without a score.

        The same number as `scores` gives.
        """
        if self._score is None:
            return nan if self.model is None else self.scores([values])[0]
        score = self._score(*values)
        if score != score:
            self.unscored += 1
        return score

    def row(self, values: Sequence[object]) -> list[float]:
        """Return what the model looks at, out of the values of `features`."""
        return [values[place] for place in self._model_places]  # type: ignore[misc]  # by its check

    def decide(self, values: Sequence[object], score: float = nan) -> Verdict:
        """Return the verdict on a payment, and count it.

        Args:
            values: of `features`, in their order.
            score: the model's probability; NaN without one.
        """
        found = self._evaluate(*values, score)
        if True not in found:
            self.tallies.decision((), None)
            return _NOTHING
        hits = [at for at, hit in enumerate(found) if hit]
        acting = [at for at in hits if self._acts[at]]
        self.tallies.decision(hits, acting[0] if acting else None)
        if not acting:
            return Verdict("approve", None, [], hits, None)
        decided = acting[0]
        decision = self.rules[decided].outcome
        if decision == "approve":
            return Verdict(decision, self.rules[decided].id, [], hits, decided)
        reasons = [self.rules[at].reason or self.rules[at].id for at in acting]
        if self.model is not None and acting[-1] >= self._early_count:
            reasons += [f"score:{name}" for name in self.model.reasons(self.row(values))]
        return Verdict(
            decision, self.rules[decided].id, list(dict.fromkeys(reasons)), hits, decided
        )
