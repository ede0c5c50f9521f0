"""From tokens to a checked tree: a Pratt parser that knows the kind of every operand.

    amount > 3 * card_mean_30d and not (country in home_countries)

From loose to tight: or, and, not, comparison and in, + -, * / %, minus sign.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from streamproc_fraud.rules.tokens import ExpressionError, Token, tokens_of

__all__ = [
    "FUNCTIONS",
    "MAX_DEPTH",
    "Call",
    "Constant",
    "Kind",
    "Logic",
    "Membership",
    "Name",
    "Node",
    "Operation",
    "Symbols",
    "parse",
]

MAX_DEPTH: Final = 60
"""How deep operations and brackets may nest."""

Kind = Literal["number", "text", "flag"]
Value = float | str | bool


class Constant(msgspec.Struct, frozen=True):
    """A value that stands in the expression, or a constant of the rule set."""

    value: Value
    kind: Kind


class Name(msgspec.Struct, frozen=True):
    """A feature."""

    name: str
    kind: Kind


class Operation(msgspec.Struct, frozen=True):
    """Two operands and ``+ - * / %`` (a number) or a comparison (a flag)."""

    sign: str
    left: Node
    right: Node
    kind: Kind


class Logic(msgspec.Struct, frozen=True):
    """``and``, ``or`` of two flags, ``not`` of one."""

    word: Literal["and", "or", "not"]
    parts: tuple[Node, ...]
    kind: Kind = "flag"


class Membership(msgspec.Struct, frozen=True):
    """Whether an operand is among `values`, or in the list called `list_name`."""

    operand: Node
    list_name: str | None
    values: frozenset[Value]
    negated: bool
    kind: Kind = "flag"


class Call(msgspec.Struct, frozen=True):
    """A listed function."""

    function: str
    arguments: tuple[Node, ...]
    kind: Kind


Node = Constant | Name | Operation | Logic | Membership | Call


class _Function(msgspec.Struct, frozen=True):
    arguments: tuple[Kind | Literal["any"], ...]
    result: Kind | Literal["last"]
    rest: bool = False  # the last argument may be repeated


FUNCTIONS: Final = {
    "abs": _Function(("number",), "number"),
    "coalesce": _Function(("any", "any"), "last"),
    "if_else": _Function(("flag", "any", "any"), "last"),
    "is_missing": _Function(("any",), "flag"),
    "log": _Function(("number",), "number"),
    "max": _Function(("number", "number"), "number", rest=True),
    "min": _Function(("number", "number"), "number", rest=True),
    "sqrt": _Function(("number",), "number"),
    "starts_with": _Function(("text", "text"), "flag"),
}
"""Every function there is."""

_POWERS: Final = {
    "or": 1, "and": 2,
    "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4, "not": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6,
}  # fmt: skip
_COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
_NOT_POWER, _MINUS_POWER = 3, 7
_LARGEST: Final = 1e300
_WORDS: Final = ("and", "or", "not", "in", "true", "false")
_KINDS: Final = {"number": "a number", "text": "text", "flag": "true or false"}


class Symbols(msgspec.Struct, frozen=True):
    """The names that an expression may use.

    Attributes:
        feature: name -> kind of a feature, None where there is no such feature.
        near: features that a wrong name may have meant.
        constants: the rule set's constants.
        lists: names of the rule set's lists.
    """

    feature: Callable[[str], Kind | None]
    near: Callable[[str], list[str]]
    constants: Mapping[str, Value]
    lists: frozenset[str]


def parse(text: str, symbols: Symbols, kinds: tuple[Kind, ...] = ("flag",)) -> Node:
    """Return the tree of an expression: a condition, unless other `kinds` are asked for.

    Raises:
        ExpressionError: it is not in the language, too large, or mixes kinds.
    """
    parser = _Parser(tokens_of(text), symbols)
    node = parser.expression(0, 0)
    if parser.token.kind != "end":
        raise ExpressionError(
            f"expected an operator, not {_shown(parser.token)}", parser.token.offset
        )
    if node.kind not in kinds:
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        hint = ", compare it" if kinds == ("flag",) else ""
        raise ExpressionError(f"this must be {wanted}; it is {_KINDS[node.kind]}{hint}", 0)
    return node


class _Parser:
    def __init__(self, tokens: list[Token], symbols: Symbols) -> None:
        self._tokens = tokens
        self._symbols = symbols
        self._at = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        token = self._take()
        if token.kind != "sign" or token.text != sign:
            raise ExpressionError(f"expected {sign!r}, not {_shown(token)}", token.offset)

    def expression(self, power: int, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ExpressionError(
                f"nested deeper than {MAX_DEPTH}; split the rule", self.token.offset
            )
        start = self.token.offset
        left = self._operand(depth + 1)
        while self.token.kind in ("sign", "name") and _POWERS.get(self.token.text, 0) > power:
            operator = self._take()
            left = self._operation(left, operator, start, depth + 1)
            # Chains of one level nest to the left, and cost depth when they are compiled.
            depth += 1
        return left

    def _operation(self, left: Node, operator: Token, start: int, depth: int) -> Node:
        word = operator.text
        if word in ("in", "not"):
            return self._membership(left, operator, start, depth)
        right_start = self.token.offset
        right = self.expression(_POWERS[word], depth)
        if word in ("and", "or"):
            for node, offset in ((left, start), (right, right_start)):
                _need(node, "flag", f"{word!r} joins conditions", offset)
            return Logic(word, (left, right))  # type: ignore[arg-type]  # one of the two words
        if word not in _COMPARISONS:
            for node, offset in ((left, start), (right, right_start)):
                _need(node, "number", f"{word!r} calculates", offset)
            return Operation(word, left, right, "number")
        if self.token.text in _COMPARISONS:
            raise ExpressionError(
                "one comparison at a time; join two with 'and'", self.token.offset
            )
        if "flag" in (left.kind, right.kind):
            raise ExpressionError(
                "a flag is not compared; write it alone, or after 'not'", operator.offset
            )
        if left.kind != right.kind:
            raise ExpressionError(
                f"{_KINDS[left.kind]} is compared with {_KINDS[right.kind]}", operator.offset
            )
        if left.kind == "text" and word not in ("==", "!="):
            raise ExpressionError("text has no order; use ==, != or in", operator.offset)
        return Operation(word, left, right, "flag")

    def _membership(self, operand: Node, operator: Token, start: int, depth: int) -> Node:
        if operator.text == "not":
            follows = self._take()
            if follows.text != "in":
                raise ExpressionError(
                    f"expected 'in' after 'not', not {_shown(follows)}", follows.offset
                )
        if operand.kind == "flag":
            raise ExpressionError("a flag is in no list", start)
        negated = operator.text == "not"
        token = self._take()
        if token.kind == "name" and token.text in self._symbols.lists:
            _need(operand, "text", "lists hold text", start)
            return Membership(operand, token.text, frozenset(), negated)
        if token.kind == "name":
            hint = _did_you_mean(difflib.get_close_matches(token.text, self._symbols.lists, n=1))
            raise ExpressionError(f"there is no list {token.text!r}{hint}", token.offset)
        if token.text != "(":
            raise ExpressionError(
                f"expected a list's name or values in brackets, not {_shown(token)}", token.offset
            )
        return Membership(operand, None, self._values(operand.kind, depth), negated)

    def _values(self, kind: Kind, depth: int) -> frozenset[Value]:
        values: set[Value] = set()
        while True:
            offset = self.token.offset
            node = self.expression(_POWERS["in"], depth)
            value = _constant(node)
            if value is None:
                raise ExpressionError("values in brackets must be written out", offset)
            _need(node, kind, "the values must be of the operand's kind", offset)
            values.add(value)
            token = self._take()
            if token.text == ")" and token.kind == "sign":
                return frozenset(values)
            if token.text != ",":
                raise ExpressionError(f"expected ',' or ')', not {_shown(token)}", token.offset)

    def _operand(self, depth: int) -> Node:
        token = self._take()
        if token.kind == "number":
            value = float(token.text)
            if value > _LARGEST:
                raise ExpressionError(f"larger than {_LARGEST:g}", token.offset)
            return Constant(value, "number")
        if token.kind == "text":
            return Constant(token.text[1:-1], "text")
        if token.kind == "name":
            return self._named(token, depth)
        if token.text == "(":
            node = self.expression(0, depth)
            self._expect(")")
            return node
        if token.text == "-":
            offset = self.token.offset
            node = self.expression(_MINUS_POWER, depth)
            _need(node, "number", "a minus sign turns a number", offset)
            return Operation("-", Constant(0.0, "number"), node, "number")
        raise ExpressionError(f"expected a value, not {_shown(token)}", token.offset)

    def _named(self, token: Token, depth: int) -> Node:
        word = token.text
        if word in ("true", "false"):
            return Constant(word == "true", "flag")
        if word == "not":
            offset = self.token.offset
            node = self.expression(_NOT_POWER, depth)
            _need(node, "flag", "'not' turns a condition", offset)
            return Logic("not", (node,))
        if word in _WORDS:
            raise ExpressionError(f"expected a value, not {word!r}", token.offset)
        if self.token.kind == "sign" and self.token.text == "(":
            return self._call(token, depth)
        if word in self._symbols.constants:
            return _literal(self._symbols.constants[word])
        kind = self._symbols.feature(word)
        if kind is not None:
            return Name(word, kind)
        if word in self._symbols.lists:
            raise ExpressionError(f"{word!r} is a list; use it after 'in'", token.offset)
        near = difflib.get_close_matches(word, self._symbols.constants, n=1)
        hint = _did_you_mean(near or self._symbols.near(word))
        raise ExpressionError(f"there is no feature or constant {word!r}{hint}", token.offset)

    def _call(self, token: Token, depth: int) -> Node:
        function = FUNCTIONS.get(token.text)
        if function is None:
            hint = _did_you_mean(difflib.get_close_matches(token.text, FUNCTIONS, n=1))
            known = hint or f"; there are {', '.join(FUNCTIONS)}"
            raise ExpressionError(f"there is no function {token.text!r}{known}", token.offset)
        self._expect("(")
        arguments: list[Node] = []
        offsets = []
        while not arguments or self.token.text == ",":
            if arguments:
                self._take()
            offsets.append(self.token.offset)
            arguments.append(self.expression(0, depth))
        self._expect(")")
        wanted = list(function.arguments)
        if function.rest:
            wanted += [wanted[-1]] * (len(arguments) - len(wanted))
        if len(arguments) != len(wanted):
            raise ExpressionError(
                f"{token.text} takes {len(wanted)} values, not {len(arguments)}", token.offset
            )
        for node, kind, offset in zip(arguments, wanted, offsets, strict=True):
            if kind != "any":
                _need(node, kind, f"an argument of {token.text}", offset)
        if function.result != "last":
            return Call(token.text, tuple(arguments), function.result)
        _need(arguments[-1], arguments[-2].kind, "the two must be alike", offsets[-1])
        return Call(token.text, tuple(arguments), arguments[-1].kind)


def _need(node: Node, kind: Kind, why: str, offset: int) -> None:
    if node.kind != kind:
        raise ExpressionError(
            f"{why}, so this must be {_KINDS[kind]}; it is {_KINDS[node.kind]}", offset
        )


def _literal(value: Value) -> Constant:
    kind: Kind = (
        "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    )
    return Constant(float(value) if kind == "number" else value, kind)


def _constant(node: Node) -> Value | None:
    if isinstance(node, Constant):
        return node.value
    is_minus = (
        isinstance(node, Operation) and node.sign == "-" and node.left == Constant(0.0, "number")
    )
    if is_minus and isinstance(node.right, Constant):  # type: ignore[union-attr]  # as just seen
        return -node.right.value  # type: ignore[union-attr, operator]
    return None


def _shown(token: Token) -> str:
    return "the end" if token.kind == "end" else repr(token.text)


def _did_you_mean(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""
