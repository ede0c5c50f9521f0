"""What the fraud processor shows at /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc import ConfigError
from streamproc_fraud.rules.deciding import Decider
from streamproc_fraud.rules.live import LiveRules

__all__ = ["FraudCollector"]

_RULE = ("version", "rule", "shadow")


class FraudCollector(Collector):
    """Makes the metrics of the rules in force, and of their reloads, when they are asked for.

    Counts by rule begin again with each version, so the version is a label. They are of judgements
    made: one whose batch had to run again before its commit is counted again.
    """

    def __init__(self, live: LiveRules, ignored_places: Callable[[], int]) -> None:
        self._live = live
        self._ignored_places = ignored_places

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families; docs/fraud.md describes each."""
        live = self._live
        yield CounterMetricFamily(
            "streamproc_fraud_rules_reloads",
            "Rule sets put into force after the first.",
            value=live.reloads,
        )
        yield CounterMetricFamily(
            "streamproc_fraud_rules_refused",
            "Published rule sets that could not be used.",
            value=live.refused,
        )
        yield GaugeMetricFamily(
            "streamproc_fraud_rules_source_failures",
            "Times in a row that the rules could not be asked for.",
            value=live.failures,
        )
        yield CounterMetricFamily(
            "streamproc_fraud_ignored_places",
            "Payments whose place is none on earth.",
            value=self._ignored_places(),
        )
        try:
            decider = live.in_force.decider
        except ConfigError:  # before the start, where the rules are elsewhere
            return
        yield from _of_version(decider)


def _of_version(decider: Decider) -> Iterator[Metric]:
    decisions = CounterMetricFamily(
        "streamproc_fraud_decisions", "Payments judged.", labels=["version"]
    )
    decisions.add_metric([decider.version], decider.tallies.decisions)
    unscored = CounterMetricFamily(
        "streamproc_fraud_unscored",
        "Payments that the model gave no score.",
        labels=["version"],
    )
    unscored.add_metric([decider.version], decider.unscored)
    hits = CounterMetricFamily(
        "streamproc_fraud_rule_hits", "Payments that a rule hit.", labels=_RULE
    )
    decided = CounterMetricFamily(
        "streamproc_fraud_rule_decisions", "Payments that a rule decided.", labels=_RULE
    )
    undefined = CounterMetricFamily(
        "streamproc_fraud_rule_undefined",
        "Calculations in a rule without a result, such as a division by zero.",
        labels=_RULE,
    )
    drift = GaugeMetricFamily(
        "streamproc_fraud_rule_drift",
        "Standard deviations by which a rule's last 1,000 decisions differ from its rate.",
        labels=_RULE,
    )
    for at, rule in enumerate(decider.rules):
        tally = decider.tallies.by_rule[rule.id]
        labels = [decider.version, rule.id, str(rule.shadow).lower()]
        hits.add_metric(labels, tally.hits)
        decided.add_metric(labels, tally.decided)
        undefined.add_metric(labels, decider.undefined[at])
        drift.add_metric(labels, tally.drift)
    yield from (decisions, unscored, hits, decided, undefined, drift)
