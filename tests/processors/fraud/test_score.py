"""The scorecard, its reasons, and models of one's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamproc import ConfigError
from streamproc.testing import Harness
from streamproc_fraud import BatchFraudProcessor, FraudProcessor
from streamproc_fraud.score.scorecard import Scorecard, ScorecardFile, Term, shipped_scorecard

from .payments import START, alerts, metrics, payment, rule, rule_set

TWO = ScorecardFile(
    trained_on="nothing",
    terms=[Term("large", "amount > 100", 3.0), Term("habit", "card_ratio_30d", 0.5)],
    bias=-2.0,
    slope=2.0,
    offset=1.0,
)


def test_a_score_is_the_logistic_of_its_terms() -> None:
    card = Scorecard(TWO)
    assert list(card.features) == ["amount", "card_ratio_30d"]
    odds = 2.0 * (-2.0 + 3.0 + 0.5 * 4) + 1.0
    assert card.score([150.0, 4.0]) == pytest.approx(1 / (1 + math.exp(-odds)))
    assert card.scores([[150.0, 4.0], [1.0, 0.0]])[1] == pytest.approx(1 / (1 + math.exp(3)))


def test_a_missing_value_adds_nothing_and_extremes_stay_probabilities() -> None:
    card = Scorecard(TWO)
    assert card.score([150.0, math.nan]) == card.score([150.0, 0.0])
    assert card.score([1.0, 1e12]) == 1.0
    assert 0 <= card.score([1.0, -1e12]) < 1e-300


def test_reasons_are_the_largest_parts_first() -> None:
    card = Scorecard(TWO)
    assert card.reasons([150.0, 20.0]) == ["habit", "large"]
    assert card.reasons([150.0, 1.0]) == ["large", "habit"]
    assert card.reasons([1.0, 0.1]) == []


def test_the_digest_names_the_weights() -> None:
    assert Scorecard(TWO).digest == Scorecard(TWO).digest
    other = msgspec.structs.replace(TWO, bias=-2.1)
    assert Scorecard(other).digest != Scorecard(TWO).digest


def test_a_term_outside_the_language_is_refused() -> None:
    file = ScorecardFile(trained_on="", terms=[Term("bad", "amount.__class__")])
    with pytest.raises(ConfigError, match="scorecard term bad, at character 7"):
        Scorecard(file)


def test_the_shipped_scorecard_says_what_it_was_fitted_on() -> None:
    card = shipped_scorecard()
    assert card.file.trained_on.startswith("reference world, 2018-07-25 to 2018-07-31")
    quiet = dict.fromkeys(card.features, 0.0) | {"card_prior_count_30d": 50, "amount": 40}
    quiet["card_prior_mean_30d"] = 40
    assert card.score([quiet[name] for name in card.features]) < 0.01
    wild = quiet | {"amount": 300.0, "terminal_risk_7d": 1.0}
    assert card.score([wild[name] for name in card.features]) > 0.99


async def test_an_alert_tells_what_its_score_is_made_of() -> None:
    async with Harness(FraudProcessor()) as h:
        for number in range(6):
            await h.send(payment(f"p{number}", 2_000), time=START + 3_600 * number)
        await h.send(payment("wild", 21_000), time=START + 30_000)
        (alert,) = alerts(h)
    assert alert.decision == "block"
    assert alert.reasons == [
        "spend-ratio", "high-score", "score:far-above-habit", "score:amount", "score:above-habit",
    ]  # fmt: skip
    assert alert.score is not None
    assert alert.score > 0.5
    assert alert.alert_id == f"wild|spend-ratio|{alert.rule_set}"


def made_model(path: Path, features: int, *, bias: float = 0.0) -> Path:
    """Write a model: the logistic of the sum of its features, as scikit-learn's converters do."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(
        np.array([[-1.0, 1.0]] * features, dtype=np.float32), "weights"
    )
    start = numpy_helper.from_array(np.array([-bias, bias], dtype=np.float32), "start")
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["sums"]),
        helper.make_node("Add", ["sums", "start"], ["odds"]),
        helper.make_node("Softmax", ["odds"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [weights, start],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def with_model(
    kind: type[FraudProcessor], directory: Path, features: list[str], **more: Any
) -> FraudProcessor:
    rules = directory / "rules.toml"
    rules.write_text(rule_set(rule("any", "score >= 0", "score"), model="mine"))
    path = made_model(directory / "model.onnx", len(features), **more)
    models = {"mine": {"path": str(path), "features": features}}
    return kind(rules=str(rules), models=models)


@pytest.mark.parametrize("kind", [FraudProcessor, BatchFraudProcessor])
async def test_a_model_in_onnx_scores_the_features_that_it_asks_for(
    tmp_path: Path, kind: type[FraudProcessor]
) -> None:
    fraud = with_model(kind, tmp_path, ["card_count_1d", "amount", "is_night"], bias=-6.0)
    async with Harness(fraud) as h:
        await h.send(*[payment(f"p{n}", 100 * n) for n in range(1, 6)], time=START)
        scores = [alert.score for alert in alerts(h)]
    # In the night of 1 January; softmax of (-s, s) is the logistic of 2 s.
    expected = [1 / (1 + math.exp(-2 * (n + n + 1 - 6))) for n in range(1, 6)]
    assert scores == pytest.approx(expected, rel=1e-5)


async def test_a_batch_is_scored_in_one_call_and_a_bad_payment_in_it_stands_alone(
    tmp_path: Path,
) -> None:
    fraud = with_model(BatchFraudProcessor, tmp_path, ["amount"])
    model = fraud.live.in_force.decider.model
    assert model is not None
    sizes: list[int] = []
    real = model.scores

    def scores(rows: Any) -> list[float]:
        sizes.append(len(rows))
        return real(rows)

    model.scores = scores  # type: ignore[method-assign]
    async with Harness(fraud) as h:
        await h.send(*[payment(f"p{n}") for n in range(100)], time=START)
        assert sizes == [100]
        batch = [payment(f"q{n}", -1 if n == 30 else 5) for n in range(64)]
        await h.send(*batch, time=START + 1)
        assert [letter.event_id for letter in h.dead_letters] == ["q30"]
        assert len(alerts(h)) == 163
        assert len(h.state("fraud", "card_1").payments) == 163


async def test_a_score_that_is_no_number_is_counted_and_decides_nothing(tmp_path: Path) -> None:
    fraud = with_model(FraudProcessor, tmp_path, ["travel_kmh"])
    async with Harness(fraud) as h:
        await h.send(payment("nowhere"), time=START)
        assert h.emitted == []
    assert metrics(fraud, "unscored_total") == {"": 1}


@pytest.mark.parametrize(
    ("features", "problem"),
    [(["amount", "no_such"], "'no_such' is no feature"), (["card"], "'card' is no feature that"),
     (["amount"], "does not take 1 features")],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, features: list[str], problem: str
) -> None:
    path = made_model(tmp_path / "model.onnx", 2)
    with pytest.raises(ConfigError, match=problem):
        FraudProcessor(models={"mine": {"path": str(path), "features": features}})


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    for path, problem in (("model.onnx", "is no ONNX model"), ("none.onnx", "cannot be read")):
        given = {"path": str(tmp_path / path), "features": ["amount"]}
        with pytest.raises(ConfigError, match=problem):
            FraudProcessor(models={"mine": given})
    with pytest.raises(ConfigError, match="unknown field `feature`"):
        FraudProcessor(models={"mine": {"path": "x", "features": [], "feature": 1}})
