"""Rule sets: read from TOML and checked, with the place of every mistake."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from streamproc import ConfigError
from streamproc_fraud.features.catalogue import CATALOGUE
from streamproc_fraud.rules.compiler import features_of
from streamproc_fraud.rules.lists import ValueList
from streamproc_fraud.rules.positions import place_in
from streamproc_fraud.rules.syntax import Kind, Node, Symbols, Value, parse
from streamproc_fraud.rules.tokens import ExpressionError

__all__ = ["MAX_RULES", "STAGES", "CheckedRules", "Rule", "RuleSet", "RuleSetError", "read_rules"]

Stage = Literal["allow", "block", "review", "score"]
STAGES: Final[tuple[Stage, ...]] = ("allow", "block", "review", "score")
"""In the order of precedence: what an earlier stage decides no later one changes."""

MAX_RULES: Final = 1_000
_MAX_BYTES: Final = 4 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RULE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# Raise it when what a rule set means changes, so that equal text does not look like equal rules.
_SEMANTICS: Final = 1


class RuleSetError(ConfigError):
    """A rule set is refused; the message names the place, ``<where>:<line>:<column>``."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
        id: names it in alerts and metrics.
        stage: when it has its say, see `STAGES`.
        when: its condition; `language` in docs/fraud.md.
        reason: the code that alerts carry; the id if not given.
        action: what a hit in the stage ``score`` leads to; the other stages say it themselves.
        shadow: whether its hits are only counted.
        note: for people.
    """

    id: str
    stage: Stage
    when: str
    reason: str = ""
    action: Literal["block", "review"] = "review"
    shadow: bool = False
    note: str = ""

    @property
    def outcome(self) -> Literal["approve", "block", "review"]:
        """What a hit leads to."""
        if self.stage == "allow":
            return "approve"
        return self.action if self.stage == "score" else self.stage


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: str
    until: datetime | None = None
    note: str = ""


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entries: list[str | _Entry] = []
    note: str = ""


class _Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    use: str = "scorecard"


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in a rule set's file.

    Attributes:
        name: the first half of the version.
        constants: names for values that conditions use.
        lists: values to look up; entries may carry ``until``.
        model: what computes `score`: ``scorecard`` for the one that is shipped, ``none``, or a
            name of the processor's setting `models`.
        rules: in the order in which reasons are listed.
    """

    name: str
    constants: dict[str, float | str | bool] = {}
    lists: dict[str, _List] = {}
    model: _Model = _Model()
    rules: list[Rule] = []


class CheckedRules:
    """A rule set that can be used.

    Attributes:
        source: the rule set.
        rules: in the order of precedence: by stage, in the stage ``score`` those that block before
            those that review, else as they stand.
        trees: their conditions.
        used: the features that each looks at.
        lists: its lists.
        digest: equal for equal rules, constants and lists, whatever comments and layout.
    """

    def __init__(self, source: RuleSet, conditions: Mapping[str, Node]) -> None:
        self.source = source
        self.rules: Sequence[Rule] = sorted(source.rules, key=_precedence)
        self.trees = [conditions[rule.id] for rule in self.rules]
        self.used = [features_of(tree) for tree in self.trees]
        self.lists = {name: _value_list(entries) for name, entries in source.lists.items()}
        said = msgspec.json.encode([_SEMANTICS, source], order="deterministic")
        self.digest = blake2b(said, digest_size=16).hexdigest()


def _precedence(rule: Rule) -> tuple[int, bool]:
    return STAGES.index(rule.stage), rule.outcome == "review"


def read_rules(
    text: str | bytes, where: str, constants: Mapping[str, Value] | None = None
) -> CheckedRules:
    """Read and check a rule set.

    Args:
        text: TOML, UTF-8.
        where: what messages call it, such as a path.
        constants: values that replace some of its constants.

    Raises:
        RuleSetError: it cannot be used; with line and column where one is at fault.
    """
    if len(text) > _MAX_BYTES:
        raise RuleSetError(f"{where}: larger than {_MAX_BYTES:,} bytes")
    try:
        text = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise RuleSetError(f"{where}: not UTF-8, from byte {error.start} on") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleSetError(_toml_place(where, text, str(error))) from None
    except RecursionError:
        raise RuleSetError(f"{where}: nested too deep") from None
    try:
        source = msgspec.convert(table, RuleSet)
    except msgspec.ValidationError as error:
        raise RuleSetError(_field_place(where, text, table, str(error))) from None
    source = _with_constants(source, constants or {}, where)
    _check(source, where, text)
    return CheckedRules(source, _conditions(source, where, text))


def _with_constants(source: RuleSet, given: Mapping[str, Value], where: str) -> RuleSet:
    for name, value in given.items():
        if name not in source.constants:
            near = difflib.get_close_matches(name, source.constants, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {_listed(source.constants)}"
            raise RuleSetError(f"{where}: there is no constant {name!r} to replace; {hint}")
        was = source.constants[name]
        if isinstance(was, (bool, str)) is not isinstance(value, (bool, str)) or (
            isinstance(was, (bool, str)) and type(was) is not type(value)
        ):
            raise RuleSetError(f"{where}: constant {name} = {value!r} must be like {was!r}")
    return msgspec.structs.replace(source, constants={**source.constants, **given})


def _check(source: RuleSet, where: str, text: str) -> None:
    if not _RULE_ID.fullmatch(source.name):
        raise RuleSetError(f"{where}: name = {source.name!r}: letters, digits, '_', '.' and '-'")
    if len(source.rules) > MAX_RULES:
        raise RuleSetError(f"{where}: {len(source.rules)} rules; at most {MAX_RULES}")
    for name in (*source.constants, *source.lists):
        if not _NAME.fullmatch(name):
            raise RuleSetError(f"{where}: {name!r} is no name: letters, digits and '_'")
        if CATALOGUE.kind(name) is not None:
            raise RuleSetError(f"{where}: {name!r} is a feature's name already")
    for name, value in source.constants.items():
        if not isinstance(value, (bool, str)) and value - value != 0:
            raise RuleSetError(f"{where}: constant {name} = {value}: must be finite")
    for name in source.lists.keys() & source.constants.keys():
        raise RuleSetError(f"{where}: {name!r} is a constant and a list")
    for name, values in source.lists.items():
        for entry in values.entries:
            if isinstance(entry, _Entry) and entry.until and entry.until.tzinfo is None:
                raise RuleSetError(
                    f"{where}: list {name}: until = {entry.until.isoformat()} needs an offset, "
                    "such as Z"
                )
    seen: set[str] = set()
    for number, rule in enumerate(source.rules):
        place = place_in(text, where, number, "id")
        if not _RULE_ID.fullmatch(rule.id):
            raise RuleSetError(f"{place}: id = {rule.id!r}: letters, digits, '_', '.' and '-'")
        if rule.id in seen:
            raise RuleSetError(f"{place}: there are two rules {rule.id!r}")
        seen.add(rule.id)


def _conditions(source: RuleSet, where: str, text: str) -> dict[str, Node]:
    conditions = {}
    for number, rule in enumerate(source.rules):
        symbols = Symbols(
            feature=_kind_with_score if rule.stage == "score" else CATALOGUE.kind,
            near=CATALOGUE.near,
            constants=source.constants,
            lists=frozenset(source.lists),
        )
        try:
            conditions[rule.id] = parse(rule.when, symbols)
        except ExpressionError as error:
            place = place_in(text, where, number, "when", rule.when, error.offset)
            raise RuleSetError(f"{place}: rule {rule.id}: {error.problem}") from None
        if "score" in features_of(conditions[rule.id]) and source.model.use == "none":
            place = place_in(text, where, number, "when")
            raise RuleSetError(f"{place}: rule {rule.id}: no model computes a score here")
    return conditions


def _kind_with_score(name: str) -> Kind | None:
    return "number" if name == "score" else CATALOGUE.kind(name)


def _value_list(values: _List) -> ValueList:
    until: dict[str, float] = {}
    for entry in values.entries:
        if isinstance(entry, str):
            until[entry] = float("inf")
        else:
            until[entry.value] = entry.until.timestamp() if entry.until else float("inf")
    return ValueList(until)


def _toml_place(where: str, text: str, message: str) -> str:
    match = re.search(r"\(at line (\d+), column (\d+)\)", message)
    if match is None:  # "at end of document"
        lines = text.splitlines() or [""]
        return f"{where}:{len(lines)}:{len(lines[-1]) + 1}: {message}"
    return f"{where}:{match[1]}:{match[2]}: {message.replace(match[0], '').strip()}"


def _field_place(where: str, text: str, table: Mapping[str, Any], message: str) -> str:
    match = re.search(r" - at `\$\.rules\[(?:\.\.\.|\d+)\](?:\.(\w+))?`", message)
    unknown = re.search(r"unknown field `(\w+)`", message)
    problem = message.partition(" - at ")[0]
    if unknown and match:
        near = difflib.get_close_matches(unknown[1], Rule.__struct_fields__, n=1)
        problem += f"; did you mean {near[0]!r}?" if near else ""
    if match is None:
        return f"{where}: {message}"
    for number, rule in enumerate(table["rules"]):
        try:
            msgspec.convert(rule, Rule)
        except msgspec.ValidationError:
            key = (unknown and unknown[1]) or match[1] or "id"
            name = rule.get("id", number + 1) if isinstance(rule, dict) else number + 1
            return f"{place_in(text, where, number, key)}: rule {name}: {problem}"
    return f"{where}: {message}"


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"
