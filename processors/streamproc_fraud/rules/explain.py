"""What a rule set says, for people: its rules in order, and its word on given values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from math import nan

import msgspec

from streamproc import ConfigError
from streamproc_fraud.features.catalogue import CATALOGUE
from streamproc_fraud.rules.deciding import Decider, Verdict
from streamproc_fraud.score.scorecard import Scorecard

__all__ = ["Judged", "judge_values", "rule_rows"]


class Judged(msgspec.Struct):
    """What each rule says of some values.

    Attributes:
        rules: whether each hits, by rule.
        score: the model's probability; None without a model.
        parts: what each term of a scorecard adds to the log odds.
        verdict: the decision.
    """

    rules: dict[str, bool]
    score: float | None
    parts: dict[str, float]
    verdict: Verdict


def rule_rows(decider: Decider) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield stage, id, outcome, condition and features of each rule, in order."""
    for rule, used in zip(decider.rules, decider.checked.used, strict=True):
        outcome = f"({rule.outcome})" if rule.shadow else rule.outcome
        name = f"{rule.id}, shadow" if rule.shadow else rule.id
        yield rule.stage, name, outcome, " ".join(rule.when.split()), ", ".join(sorted(used))


def judge_values(decider: Decider, given: Mapping[str, str]) -> Judged:
    """Judge values given as text; those not given are missing.

    Raises:
        ConfigError: a name is no feature that the rules or the model look at, or a value is none.
    """
    for name in given:
        if name not in decider.features:
            near = difflib.get_close_matches(name, decider.features, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"they are {', '.join(decider.features)}"
            )
            raise ConfigError(f"{name!r} is nothing that these rules look at; {hint}")
    values = [_value(name, given.get(name)) for name in decider.features]
    score = decider.scores([values])[0] if decider.needs_score else nan
    verdict = decider.decide(values, score)
    parts = {}
    if isinstance(decider.model, Scorecard):
        parts = dict(decider.model.parts(decider.row(values)))
    return Judged(
        rules={rule.id: at in verdict.hits for at, rule in enumerate(decider.rules)},
        score=None if score != score else score,
        parts=parts,
        verdict=verdict,
    )


def _value(name: str, text: str | None) -> object:
    kind = CATALOGUE.kind(name)
    if text is None:
        return {"number": nan, "text": None, "flag": False}[kind or "number"]
    if kind == "text":
        return text
    if kind == "flag":
        if text not in ("true", "false"):
            raise ConfigError(f"{name}={text}: true or false")
        return text == "true"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: not a number") from None
