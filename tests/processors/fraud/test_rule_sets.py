"""Rule sets: precedence, lists, shadow rules, versions, and where a mistake is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc import ConfigError
from streamproc.testing import Harness
from streamproc_fraud import FraudProcessor
from streamproc_fraud.rules.deciding import Decider
from streamproc_fraud.rules.ruleset import RuleSetError, read_rules
from streamproc_fraud.rules.tallies import BLOCK, Tallies

from .payments import START, alerts, metrics, payment, processor, rule, rule_set


def decider(text: str) -> Decider:
    return Decider(read_rules(text, "rules.toml"), None)


def decide(text: str, amount: float) -> tuple[str, str | None, list[str]]:
    made = decider(text)
    values = {"time": START, "amount": amount}
    verdict = made.decide([values[name] for name in made.features])
    return verdict.decision, verdict.rule, verdict.reasons


ALL = rule_set(
    rule("r", "amount > 10", "review"),
    rule("b", "amount > 20", "block"),
    rule("a", "amount > 30", "allow"),
    rule("b2", "amount > 15", "block", 'reason = "TWICE"'),
)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (5, ("approve", None, [])),
        (12, ("review", "r", ["r"])),
        (18, ("block", "b2", ["TWICE", "r"])),
        (25, ("block", "b", ["b", "TWICE", "r"])),
        (35, ("approve", "a", [])),
    ],
)
def test_the_first_stage_that_hits_decides_and_all_reasons_are_told_in_order(
    amount: float, expected: tuple[str, str | None, list[str]]
) -> None:
    assert decide(ALL, amount) == expected


def test_a_shadow_rule_counts_its_hits_and_acts_on_nothing() -> None:
    made = decider(
        rule_set(rule("dark", "amount > 1", "block", "shadow = true"), rule("r", "amount > 100"))
    )
    for amount in (50.0, 500.0):
        verdict = made.decide([START, amount])
        assert "dark" not in verdict.reasons
    tallies = made.tallies.by_rule
    assert (tallies["dark"].hits, tallies["dark"].decided) == (2, 0)
    assert (tallies["r"].hits, tallies["r"].decided) == (1, 1)


def test_a_shadow_allow_rule_lets_nothing_pass() -> None:
    text = rule_set(rule("a", "amount > 1", "allow", "shadow = true"), rule("r", "amount > 1"))
    assert decide(text, 5) == ("review", "r", ["r"])


def test_in_the_stage_score_blocking_goes_before_reviewing() -> None:
    text = rule_set(
        rule("look", "score > 0.1", "score"),
        rule("stop", "score > 0.5", "score", 'action = "block"'),
        model="scorecard",
    )
    made = decider(text)
    assert made.decide([START], 0.7)[:3] == ("block", "stop", ["stop", "look"])
    assert made.decide([START], 0.2)[:3] == ("review", "look", ["look"])
    assert made.decide([START], float("nan")).decision == "approve"


async def test_list_entries_expire_by_event_time(tmp_path: Path) -> None:
    head = """
[lists.trusted]
entries = ["card_9", { value = "card_1", until = 2026-01-01T00:01:00Z, note = "on holiday" }]
"""
    text = rule_set(rule("known", "card in trusted", "allow"), rule("r", "amount > 1"), head=head)
    async with Harness(processor(tmp_path, text)) as h:
        await h.send(payment("before"), time=START + 59.9)
        await h.send(payment("after"), time=START + 60)
        await h.send(payment("late"), time=START + 30)  # a replay decides as the first run did
        await h.send(payment("for-ever", card="card_9"), time=START + 90)
        assert [alert.payment_id for alert in alerts(h)] == ["after"]


def test_a_version_names_what_is_said_and_not_how_it_is_laid_out() -> None:
    text = rule_set(rule("r", "amount > limit"), head="[constants]\nlimit = 5")
    one = decider(text).version
    assert one.startswith("test@")
    assert decider(f"# a comment\n{text}").version == one
    assert decider(text.replace("limit = 5", "limit = 5.0")).version == one
    assert decider(text.replace("limit = 5", "limit = 6")).version != one
    assert decider(text.replace("limit'''", "limit + 0'''")).version != one
    assert Decider(read_rules(text, "x", {"limit": 7}), None).version != one


def test_the_model_is_part_of_the_version(tmp_path: Path) -> None:
    text = rule_set(rule("r", "amount > 5"))
    with_model = processor(tmp_path, text.replace('"none"', '"scorecard"'))
    assert with_model.live.in_force.decider.version != decider(text).version


def test_constants_are_replaced_by_settings() -> None:
    fraud = FraudProcessor(constants={"amount_limit": 5})
    assert fraud.live.in_force.decider.checked.source.constants["amount_limit"] == 5
    with pytest.raises(ConfigError, match="did you mean 'amount_limit'"):
        FraudProcessor(constants={"amount_limt": 5})
    with pytest.raises(ConfigError, match="must be like"):
        FraudProcessor(constants={"amount_limit": "5"})


GOOD = """\
name = "mine"

[constants]
limit = 100

[[rules]]
id = "one"
stage = "review"
when = "amount > limit"

[[rules]]
# the second
id = "two"
stage = "block"
when = \'\'\'
amount > 1
  and card_count_1d > 3
\'\'\'
"""


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        ('name = "mine"', 'name = "mine', "1:13", "Illegal character"),
        ('stage = "block"', "stage = block", "14:9", "Invalid value"),
        ("amount > limit", "amount > limt", "9:18", "did you mean 'limit'"),
        ("amount > limit", "amount >", "9:17", "expected a value"),
        ("card_count_1d", "card_cuont_1d", "17:7", "did you mean 'card_count_1d'"),
        ("card_count_1d", "card_count_31d", "17:7", "there is no feature"),
        ("card_count_1d > 3", "(card_count_1d > 3", "18:1", r"expected '\)'"),
        ('id = "two"', 'id = "one"', "13:1", "two rules 'one'"),
        ('id = "two"', 'id = "a b"', "13:1", "letters, digits"),
        ('stage = "block"', 'stage = "blok"', "14:1", "Invalid enum value 'blok'"),
        ('stage = "block"', 'stag = "block"', "14:1", "did you mean 'stage'"),
        ('stage = "block"\n', "", "13:1", "missing required field `stage`"),
        ('when = "amount > limit"', 'when = "amount > limit"\nwhne = "x"', "10:1", "'when'"),
        ('id = "one"', "id = 7", "7:1", "Expected `str`"),
        ("limit = 100", "amount = 100", None, "feature's name already"),
        ("limit = 100", "limit = nan", None, "must be finite"),
        ('name = "mine"', 'name = "mi ne"', None, "letters, digits"),
        ('name = "mine"', "", None, "missing required field `name`"),
        ("amount > limit", "score > 0.5", "9:9", "no feature or constant 'score'"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(
    old: str, new: str, place: str | None, problem: str
) -> None:
    assert read_rules(GOOD, "rules.toml").rules
    assert old in GOOD
    where = "rules.toml" if place is None else f"rules.toml:{place}:"
    with pytest.raises(RuleSetError, match=problem) as caught:
        read_rules(GOOD.replace(old, new, 1), "rules.toml")
    assert str(caught.value).startswith(where)


def test_a_score_that_no_model_computes_is_refused() -> None:
    text = rule_set(rule("s", "score > 0.5", "score"))
    with pytest.raises(RuleSetError, match="no model computes a score"):
        read_rules(text, "x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (5 * 1024 * 1024), "larger than"),
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (rule_set(*[rule(f"r{n}", "amount > 1") for n in range(1_001)]).encode(), "at most 1000"),
    ],
    ids=["encoding", "size", "depth", "rules"],
)
def test_an_absurd_rule_set_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(RuleSetError, match=problem):
        read_rules(text, "x")


def test_a_feature_whose_counts_are_not_kept_is_refused(tmp_path: Path) -> None:
    text = rule_set(rule("r", "ip_cards_1h > 3"))
    with pytest.raises(ConfigError, match=r"add 'cards' to processors\.fraud\.track\.ip"):
        processor(tmp_path, text)
    assert processor(tmp_path, text, track={"ip": ["cards"]})


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'mine'; known here: scorecard, none"):
        processor(tmp_path, rule_set(rule("r", "amount > 3"), model="mine"))


async def test_a_division_by_zero_does_not_hit_and_is_counted(tmp_path: Path) -> None:
    text = rule_set(rule("odd", "amount / (amount - 10) > 0"), rule("sure", "amount > 0"))
    fraud = processor(tmp_path, text)
    async with Harness(fraud) as h:
        await h.send(payment("ten", 1_000), payment("twelve", 1_200), time=START)
        assert [alert.reasons for alert in alerts(h)] == [["sure"], ["odd", "sure"]]
        assert h.dead_letters == []
    assert metrics(fraud, "rule_undefined_total") == {"odd": 1, "sure": 0}
    assert metrics(fraud, "rule_hits_total") == {"odd": 1, "sure": 2}
    assert metrics(fraud, "rule_decisions_total") == {"odd": 1, "sure": 1}
    assert metrics(fraud, "rule_drift") == {"odd": 0, "sure": 0}
    assert metrics(fraud, "decisions_total") == {"": 2}


def test_drift_tells_of_a_rule_that_hits_more_or_less_often_than_it_did() -> None:
    tallies = Tallies(["steady", "changing", "never"])
    for block in range(6):
        for n in range(BLOCK):
            often = 20 if block < 5 else 10
            hits = [0] * (n % 20 == 0) + [1] * (n % often == 0)
            tallies.decision(hits, hits[0] if hits else None)
    drift = {name: tally.drift for name, tally in tallies.by_rule.items()}
    assert drift["steady"] == 0
    assert drift["changing"] == pytest.approx(50 / (1_000 * 0.05 * 0.95) ** 0.5)
    assert abs(drift["never"]) < 1


names = st.sampled_from(["a", "b", "c", "d"])


@given(
    rules=st.lists(
        st.tuples(st.sampled_from(["allow", "block", "review"]), st.integers(0, 5), st.booleans()),
        max_size=8,
    ),
    amount=st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_decisions_are_those_of_the_definition(
    rules: list[tuple[str, int, bool]], amount: int
) -> None:
    text = rule_set(
        *[
            rule(f"r{at}", f"amount > {limit}", stage, f"shadow = {str(shadow).lower()}")
            for at, (stage, limit, shadow) in enumerate(rules)
        ]
    )
    acting = {
        stage: [
            f"r{at}"
            for at, (own, limit, shadow) in enumerate(rules)
            if own == stage and amount > limit and not shadow
        ]
        for stage in ("allow", "block", "review")
    }
    if acting["allow"]:
        expected = "approve"
    elif acting["block"]:
        expected = "block"
    else:
        expected = "review" if acting["review"] else "approve"
    made = decider(text)
    verdict = made.decide([START, float(amount)][: len(made.features)])
    assert verdict.decision == expected
    if expected != "approve":
        assert verdict.reasons == acting["block"] + acting["review"]
