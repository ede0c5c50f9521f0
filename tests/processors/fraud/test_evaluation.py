"""The protocol's figures, the commands, and a small evaluation through a real stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamproc import ConfigError
from streamproc_fraud.commands import app
from streamproc_fraud.evaluation.protocol import (
    Weeks,
    average_precision,
    card_precision,
    judged,
    measure,
    roc_auc,
)
from streamproc_fraud.evaluation.replay import replay
from streamproc_fraud.features.engine import FeatureEngine
from streamproc_fraud.score.fit import fit_scorecard
from streamproc_fraud.score.scorecard import Scorecard, shipped_scorecard
from streamproc_fraud.world.publish import records_of
from streamproc_fraud.world.simulator import DAY, Transactions

from .payments import rule, rule_set

EARLY = Weeks(train_start=35)
"""A test week that a world of 60 days has room for: days 49 to 55."""


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_the_figures_are_those_of_scikit_learn(drawn: list[tuple[bool, int]]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = np.array([label for label, _ in drawn])
    scores = np.array([score / 6 for _, score in drawn])
    if 0 < labels.sum() < len(labels):
        assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        expected = average_precision_score(labels, scores)
        assert average_precision(labels, scores) == pytest.approx(expected)


def test_card_precision_leaves_out_cards_that_were_found_before() -> None:
    # Day 0: card 1 is found. Day 1: it does not count any more, and card 2 takes its place.
    days = np.array([0, 0, 0, 1, 1, 1])
    cards = np.array([1, 2, 3, 1, 2, 3])
    labels = np.array([True, False, False, True, True, False])
    scores = np.array([0.9, 0.8, 0.1, 0.9, 0.5, 0.4])
    assert card_precision(days, cards, labels, scores, top=1) == 1.0
    assert card_precision(days, cards, labels, scores, top=2) == 0.5
    assert card_precision(days, cards, labels, -scores, top=1) == 0.0


def test_the_protocol_judges_the_published_rows(world: Transactions) -> None:
    rows = judged(world, Weeks())
    assert len(rows) == 58_264
    assert int(world.fraud[rows].sum()) == 385
    perfect = measure(world, rows, world.fraud[rows].astype(float))
    assert (perfect.auc, perfect.average_precision) == (1.0, 1.0)
    assert perfect.card_precision_at_100 == pytest.approx(0.397, abs=5e-4)
    by_amount = measure(world, rows, world.amount_cents[rows].astype(float))
    assert by_amount.auc == pytest.approx(0.580, abs=5e-4)
    assert by_amount.average_precision == pytest.approx(0.138, abs=5e-4)
    assert by_amount.card_precision_at_100 == pytest.approx(0.067, abs=5e-4)


GOLDEN = {
    "TX_DURING_WEEKEND": "is_weekend",
    "TX_DURING_NIGHT": "is_night",
    **{
        f"CUSTOMER_ID_{theirs}_{days}DAY_WINDOW": f"card_{ours}_{days}d"
        for days in (1, 7, 30)
        for theirs, ours in (("NB_TX", "count"), ("AVG_AMOUNT", "mean"))
    },
    **{
        f"TERMINAL_ID_{theirs}_{days}DAY_WINDOW": f"terminal_{ours}_{days}d"
        for days in (1, 7, 30)
        for theirs, ours in (("NB_TX", "delayed_count"), ("RISK", "risk"))
    },
}


@pytest.fixture(scope="session")
def replayed(world: Transactions) -> tuple[Transactions, dict[str, Any], Any]:
    """Replay the test week and its history once: payments, features by name, scores."""
    weeks, card = Weeks(), shipped_scorecard()
    part = world.between(weeks.test_start - 38, weeks.end)
    names = sorted({*GOLDEN.values(), *card.features})
    values = replay(part, FeatureEngine(), names, weeks.test_start)
    columns = {name: values[:, at] for at, name in enumerate(names)}
    scores = np.array(card.scores(np.stack([columns[f] for f in card.features], 1).tolist()))
    return world, columns, scores


def test_streamed_features_equal_the_published_ones(replayed: Any, shared_data: Path) -> None:
    import pyarrow.parquet

    _, columns, _ = replayed
    golden = pyarrow.parquet.read_table(shared_data / "golden_features_2018-08-08_14.parquet")
    assert golden.num_rows == 67_080
    for theirs, ours in GOLDEN.items():
        published = golden[theirs].to_numpy().astype(float)
        difference = np.abs(published - columns[ours]).max()
        assert difference <= (1e-6 if "AVG" in theirs or "RISK" in theirs else 0), ours


def test_the_shipped_scorecard_meets_its_bars_on_the_test_week(replayed: Any) -> None:
    world, _, scores = replayed
    rows = judged(world, Weeks())
    first = int(np.searchsorted(world.t, Weeks().test_start * DAY))
    quality = measure(world, rows, scores[rows - first])
    assert quality.auc >= 0.84
    assert quality.average_precision >= 0.60
    assert quality.card_precision_at_100 >= 0.28
    # Calibrated: as many frauds are expected as there are, within a fifth.
    expected, found = scores[rows - first].sum(), world.fraud[rows].sum()
    assert expected == pytest.approx(found, rel=0.2)


def test_the_rule_on_large_amounts_finds_all_of_the_first_scenario_and_nothing_genuine(
    world: Transactions,
) -> None:
    large = world.amount_cents > 22_000
    assert large[world.scenario == 1].all()
    assert not (large & ~world.fraud).any()


def test_a_fit_looks_at_nothing_after_its_training_period(small_world: Transactions) -> None:
    weeks = Weeks(train_start=30)
    fitted = fit_scorecard(small_world, weeks)
    later = small_world.t >= 37 * DAY
    assert later.any()
    changed = Transactions(*[column.copy() for column in small_world])
    changed.fraud[later] = ~changed.fraud[later]
    changed.amount_cents[later] = 1
    assert fit_scorecard(changed, weeks) == fitted
    assert fitted.trained_on.startswith("reference world, 2018-05-01 to 2018-05-07: ")


def test_a_period_without_frauds_is_not_fitted(small_world: Transactions) -> None:
    nothing = small_world._replace(fraud=np.zeros(len(small_world.t), dtype=bool))
    with pytest.raises(ConfigError, match="0 frauds in the training period"):
        fit_scorecard(nothing, EARLY)


SMALL = ["--customers", "160", "--terminals", "320", "--radius", "28"]


def test_the_fit_command_writes_a_scorecard(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    done = CliRunner().invoke(app, ["fit", "--out", str(path), "--train-start", "10", *SMALL])
    assert done.exit_code == 0, done.output
    from streamproc_fraud.score.scorecard import ScorecardFile

    card = Scorecard(msgspec.json.decode(path.read_bytes(), type=ScorecardFile))
    assert 0 < card.score([0.0] * len(card.features)) < 1
    assert "bias" in done.output


@pytest.mark.process
@pytest.mark.timeout(180)
def test_an_evaluation_runs_through_the_stream(small_world: Transactions, tmp_path: Path) -> None:
    """On one shard, with duplicates, the scores are to the bit those of a run in memory."""
    import asyncio

    from streamproc_fraud.evaluation.stream import score_through_stream

    streamed = asyncio.run(score_through_stream(small_world, EARLY, duplicates=0.1))
    part = small_world.between(EARLY.test_start - 38, EARLY.end)
    card = shipped_scorecard()
    values = replay(part, FeatureEngine(), list(card.features), EARLY.test_start)
    expected = np.array(card.scores(values.tolist()))
    first = int(np.searchsorted(small_world.t, EARLY.test_start * DAY))
    scores = streamed.scores[first : first + len(expected)]
    assert (scores == expected).all()
    assert np.isnan(streamed.scores[:first]).all()


@pytest.mark.process
@pytest.mark.timeout(180)
def test_the_evaluate_command_prints_json_and_draws(tmp_path: Path) -> None:
    plot = tmp_path / "pr.png"
    done = CliRunner().invoke(
        app,
        ["evaluate", "--json", "--plot", str(plot), "--shards", "2", "--train-start", "3",
         "--world-days", "24", "--customers", "60", "--terminals", "160", "--radius", "30"],
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(done.stdout)
    assert {"auc", "average_precision", "card_precision_at_100"} <= found.keys()
    assert all(0 <= found[key] <= 1 for key in ("auc", "average_precision"))
    assert plot.read_bytes().startswith(b"\x89PNG")


RULES = rule_set(
    rule("large", "amount > 220", "block"),
    rule("risky", "terminal_risk_7d >= 0.5"),
    rule("dark", "card_count_1d > 3", "block", "shadow = true"),
)


def recording(small_world: Transactions, directory: Path) -> Path:
    path = directory / "stream.jsonl"
    path.write_bytes(
        b"\n".join(record.data for record in records_of(small_world, duplicates=0.05)) + b"\n"
    )
    return path


def test_a_backtest_tells_hits_precision_and_recall_before_and_after(
    small_world: Transactions, tmp_path: Path
) -> None:
    from streamproc_fraud.world.parquet import write_parquet

    after, before = tmp_path / "after.toml", tmp_path / "before.toml"
    after.write_text(RULES)
    before.write_text(RULES.replace("220", "100").replace('"test"', '"old"'))
    write_parquet(small_world, tmp_path / "world.parquet")
    found = {}
    for source in (tmp_path / "world.parquet", recording(small_world, tmp_path)):
        done = CliRunner().invoke(
            app,
            ["rules", "backtest", str(after), str(source), "--before", str(before), "--json"],
        )
        assert done.exit_code == 0, (done.output, done.exception)
        found[source.suffix] = json.loads(done.stdout)
    result = found[".parquet"]
    large = small_world.amount_cents > 22_000
    assert result["after"]["payments"] == len(small_world.t)
    assert result["after"]["known_frauds"] == int(small_world.fraud.sum())
    hits = result["after"]["rules"]["large"]
    assert hits["hits"] == int(large.sum())
    assert hits["precision"] == 1.0
    assert hits["recall"] == pytest.approx(large.sum() / small_world.fraud.sum())
    assert result["before"]["rules"]["large"]["hits"] == int(
        (small_world.amount_cents > 10_000).sum()
    )
    assert result["after"]["rules"]["dark"]["hits"] > 0
    decided = result["after"]["decisions"]
    assert decided["block"]["hits"] == int(large.sum())  # and none by the shadow rule
    # A recorded stream holds the same payments; the last week's labels are not in it yet.
    streamed = found[".jsonl"]["after"]
    assert streamed["rules"]["dark"]["hits"] == result["after"]["rules"]["dark"]["hits"]
    assert streamed["rules"]["risky"]["hits"] == result["after"]["rules"]["risky"]["hits"]
    assert 0 < streamed["known_frauds"] < result["after"]["known_frauds"]
    text = CliRunner().invoke(app, ["rules", "backtest", str(after), str(source)])
    assert "precision" in text.output


def test_a_backtest_names_a_line_that_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    for number, line in enumerate((b"{", b'{"type":"PaymentAuthorized","data":{}}')):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"\n" + line)
        done = CliRunner().invoke(
            app, ["rules", "backtest", str(tmp_path / "rules.toml"), str(path)]
        )
        assert isinstance(done.exception, ConfigError)
        assert f"{path}:2: no event" in str(done.exception)


def test_check_says_the_version_or_the_mistake(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    done = CliRunner().invoke(app, ["rules", "check", str(path)])
    assert done.exit_code == 0
    assert "test@" in done.output
    assert "3 rules, 1 of them shadow, 3 features" in done.output
    path.write_text(RULES.replace("amount >", "amuont >"))
    done = CliRunner().invoke(app, ["rules", "check", str(path)])
    assert "did you mean 'amount'" in str(done.exception)


def test_explain_shows_the_order_and_judges_values(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        RULES.replace('use = "none"', 'use = "scorecard"') + rule("score", "score > 0.5", "score")
    )
    done = CliRunner().invoke(
        app,
        ["rules", "explain", str(path), "-w", "amount=300", "-w", "terminal_risk_7d=0.6"],
    )
    assert done.exit_code == 0, (done.output, done.exception)
    assert "dark, shadow" in done.output
    assert "hits  large" in done.output
    assert "decision: block; reasons: large, risky, score, score:" in done.output
    for wrong, problem in (("amuont=3", "did you mean 'amount'"), ("amount=x", "not a number"),
                           ("amount", "write feature=value")):  # fmt: skip
        done = CliRunner().invoke(app, ["rules", "explain", str(path), "-w", wrong])
        assert problem in str(done.exception)


def test_a_workers_settings_are_taken_into_account(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(rule_set(rule("r", "ip_cards_1h > 3")))
    config = tmp_path / "streamproc.toml"
    config.write_text('[processors.fraud]\nrules = "s3://b/k"\ntrack = { ip = ["cards"] }\n')
    command = ["rules", "check", str(tmp_path / "rules.toml")]
    assert "is not counted" in str(CliRunner().invoke(app, command).exception)
    done = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert done.exit_code == 0, done.exception
    config.write_text("[processors.fraud]\nruels = 1\n")
    done = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert "processors.fraud" in str(done.exception)
