"""From checked trees to one Python function that evaluates all expressions of a stage.

The code is put together from Python's own syntax nodes, each made here from a node of the language:
no text of a rule is ever handed to Python, and what the language cannot say the code cannot do.

A missing number is NaN and missing text is None. Whatever is compared with a missing value is
false, under `not` as well, so that a rule never hits for want of a value; to ask for that there is
`is_missing`. A division by zero, a remainder by zero, the logarithm of a number <= 0 and the root
of one < 0 are missing values, and are counted for the rule.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from streamproc_fraud.rules.lists import ValueList
from streamproc_fraud.rules.syntax import (
    Call,
    Constant,
    Logic,
    Membership,
    Name,
    Node,
    Operation,
)

__all__ = ["Evaluate", "compile_expressions", "compile_sum", "features_of"]

Evaluate = Callable[..., tuple[Any, ...]]
"""Takes the values of the features in their order; returns the value of each expression."""

_NAN: Final = math.nan
_COMPARE: Final = {"==": ast.Eq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE}
_CALCULATE: Final = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult}
_OPPOSITE: Final = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def compile_expressions(
    expressions: Sequence[Node],
    features: Sequence[str],
    lists: Mapping[str, ValueList],
    undefined: list[int],
    first_rule: int = 0,
) -> Evaluate:
    """Return one function for all `expressions`.

    Args:
        expressions: checked trees.
        features: the names of the function's arguments; the first is the event's time in seconds,
            by which list entries expire.
        lists: the rule set's lists.
        undefined: counts calculations without a result, by rule; changed by the function.
        first_rule: the place of the first expression in `undefined`.
    """
    makers = [_Maker(first_rule + at, features) for at in range(len(expressions))]
    results = ast.Tuple(
        [maker.make(node, False) for maker, node in zip(makers, expressions, strict=True)],
        ast.Load(),
    )
    evaluate: Evaluate = _function(results, len(features), lists, undefined)
    return evaluate


def compile_sum(
    expressions: Sequence[Node],
    weights: Sequence[float],
    bias: float,
    features: Sequence[str],
    undefined: list[int],
    then: Callable[[float], float],
) -> Callable[..., float]:
    """Return a function for the weighted sum of `expressions`, of which missing ones add nothing.

    Args:
        expressions: checked trees, of numbers or flags, that look at no list.
        weights: of the expressions.
        bias: what the sum begins with; terms are added to it in their order.
        then: makes of the sum what the function returns.
        features: the names of the function's arguments.
        undefined: see `compile_expressions`.
    """
    total: ast.expr = ast.Constant(bias)
    for at, (node, weight) in enumerate(zip(expressions, weights, strict=True)):
        value = _Maker(at, features).make(node, False)
        # total + (weight * x if (x := value) == x else 0.0)
        held = ast.NamedExpr(ast.Name("x", ast.Store()), value)
        again = ast.Name("x", ast.Load())
        part = ast.IfExp(
            ast.Compare(held, [ast.Eq()], [again]),
            ast.BinOp(ast.Constant(weight), ast.Mult(), again),
            ast.Constant(0.0),
        )
        total = ast.BinOp(total, ast.Add(), part)
    sum_up: Callable[..., float] = _function(
        _call("then", total), len(features), {}, undefined, {"then": then}
    )
    return sum_up


def _function(
    body: ast.expr,
    arguments: int,
    lists: Mapping[str, ValueList],
    undefined: list[int],
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    names = [ast.arg(_argument(at)) for at in range(arguments)]
    function = ast.Expression(ast.Lambda(ast.arguments([], names, None, [], [], None, []), body))
    code = compile(ast.fix_missing_locations(function), "<rules>", "eval")
    known: dict[str, Any] = {"__builtins__": {}, **_helpers(undefined), **more}
    for name, values in lists.items():
        known[_list(name)] = values
    return eval(code, known)  # made of our own nodes alone, see above


def features_of(node: Node) -> set[str]:
    """Return the features that an expression looks at."""
    match node:
        case Name(name):
            return {name}
        case Operation(_, left, right):
            return features_of(left) | features_of(right)
        case Logic(_, parts) | Call(_, parts):
            return set().union(*[features_of(part) for part in parts])
        case Membership(operand):
            return features_of(operand)
        case _:
            return set()


class _Maker:
    """Makes Python's nodes for one rule."""

    def __init__(self, rule: int, features: Sequence[str]) -> None:
        self._rule = ast.Constant(rule)
        self._prefix = f"x{rule}_"
        self._held = 0
        self._places = {name: at for at, name in enumerate(features)}

    def make(self, node: Node, negated: bool) -> ast.expr:
        """Return the code of a condition, or of its opposite."""
        match node:
            case Constant(value):
                return ast.Constant(not value if negated else value)
            case Name(name):
                argument = ast.Name(_argument(self._places[name]), ast.Load())
                return ast.UnaryOp(ast.Not(), argument) if negated else argument
            case Logic("not", (part,)):
                return self.make(part, not negated)
            case Logic(word, parts):
                # The opposite of "a and b" is "not a or not b".
                joint = ast.Or() if (word == "or") is not negated else ast.And()
                return ast.BoolOp(joint, [self.make(part, negated) for part in parts])
            case Operation(sign, left, right, "flag"):
                return self._comparison(_OPPOSITE[sign] if negated else sign, left, right)
            case Operation(sign, left, right):
                return self._calculation(sign, left, right)
            case Membership():
                return self._membership(node, node.negated is not negated)
            case Call():
                return self._call(node, negated)

    def _value(self, node: Node) -> ast.expr:
        return self.make(node, False)

    def _comparison(self, sign: str, left: Node, right: Node) -> ast.expr:
        operands = self._value(left), self._value(right)
        if sign == "!=":
            return _call("differs", *operands)
        return ast.Compare(operands[0], [_COMPARE[sign]()], [operands[1]])

    def _calculation(self, sign: str, left: Node, right: Node) -> ast.expr:
        operands = self._value(left), self._value(right)
        if sign in _CALCULATE:
            return ast.BinOp(operands[0], _CALCULATE[sign](), operands[1])
        if isinstance(right, Constant) and right.value and sign == "/":
            return ast.BinOp(operands[0], ast.Div(), operands[1])  # cannot be by zero
        return _call("divide" if sign == "/" else "remainder", *operands, self._rule)

    def _membership(self, node: Membership, negated: bool) -> ast.expr:
        operand = self._value(node.operand)
        if node.list_name is None:
            # A frozenset is what the compiler itself makes of `in {1, 2}`.
            values = ast.Constant(frozenset(node.values))  # type: ignore[arg-type]
            if negated:
                return _call("is_outside", operand, values)
            return ast.Compare(operand, [ast.In()], [values])
        held = ast.Name(_list(node.list_name), ast.Load())
        now = ast.Name(_argument(0), ast.Load())
        return _call("is_unlisted" if negated else "is_listed", operand, held, now)

    def _call(self, node: Call, negated: bool) -> ast.expr:
        if node.function == "if_else":
            condition, *either = node.arguments
            chosen = [self.make(argument, negated) for argument in either]
            return ast.IfExp(self._value(condition), *chosen)
        if node.function in ("max", "min") and not negated:
            bounded = self._bounded(node)
            if bounded is not None:
                return bounded
        arguments = [self._value(argument) for argument in node.arguments]
        if node.function in ("log", "sqrt"):
            arguments.append(self._rule)
        if not negated:
            return _call(node.function, *arguments)
        if node.function == "starts_with":
            return _call("starts_otherwise", *arguments)
        return ast.UnaryOp(ast.Not(), _call(node.function, *arguments))

    def _bounded(self, node: Call) -> ast.expr | None:
        """Return the code of the usual `max(5, x)`, which needs no call; None for other ones."""
        if len(node.arguments) != 2 or not isinstance(node.arguments[0], Constant):
            return None
        bound, value = map(self._value, node.arguments)
        self._held += 1
        name = f"{self._prefix}{self._held}"
        sign = ast.Gt() if node.function == "max" else ast.Lt()
        # bound if not (x := value) > bound, but for a missing x, which stays missing
        beyond = ast.Compare(ast.NamedExpr(ast.Name(name, ast.Store()), value), [sign], [bound])
        held = ast.Name(name, ast.Load())
        is_missing = ast.Compare(held, [ast.NotEq()], [held])
        return ast.IfExp(ast.BoolOp(ast.Or(), [beyond, is_missing]), held, bound)


def _helpers(undefined: list[int]) -> dict[str, Any]:
    """Return the only functions that compiled rules can reach; none of them raises."""

    def differs(left: object, right: object) -> bool:
        return not (_is_missing(left) or _is_missing(right) or left == right)

    def divide(left: float, right: float, rule: int) -> float:
        if right:
            return left / right
        undefined[rule] += 1
        return _NAN

    def remainder(left: float, right: float, rule: int) -> float:
        if right and left - left == 0.0:  # finite
            return left % right
        undefined[rule] += 1
        return _NAN

    def log(value: float, rule: int) -> float:
        if value > 0 or value != value:
            return math.log(value)
        undefined[rule] += 1
        return _NAN

    def sqrt(value: float, rule: int) -> float:
        if value >= 0 or value != value:
            return math.sqrt(value)
        undefined[rule] += 1
        return _NAN

    def largest(*values: float) -> float:
        for value in values:
            if value != value:
                return _NAN
        return max(values)

    def least(*values: float) -> float:
        for value in values:
            if value != value:
                return _NAN
        return min(values)

    return {
        "abs": abs,
        "coalesce": lambda value, other: other if _is_missing(value) else value,
        "differs": differs,
        "divide": divide,
        "is_listed": lambda value, held, now: held.holds(value, now),
        "is_missing": _is_missing,
        "is_outside": lambda value, values: not _is_missing(value) and value not in values,
        "is_unlisted": lambda value, held, now: value is not None and not held.holds(value, now),
        "log": log,
        "max": largest,
        "min": least,
        "remainder": remainder,
        "sqrt": sqrt,
        "starts_otherwise": lambda value, start: not (value is None or value.startswith(start)),
        "starts_with": lambda value, start: value is not None and value.startswith(start),
    }  # fmt: skip


def _is_missing(value: object) -> bool:
    return value is None or value != value


def _call(function: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(function, ast.Load()), list(arguments), [])


def _argument(at: int) -> str:
    return f"v{at}"


def _list(name: str) -> str:
    return f"list_{name}"
