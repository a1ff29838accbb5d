"""PromQL as a tree: which selectors an expression has and which function each stands in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser


@dataclass(frozen=True, slots=True)
class Use:
    """One selector in an expression."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """(label, operator such as Equal or Re, value)."""
    function: str | None
    """The function or operator directly around it; None when there is none."""
    ranged: bool


def uses(expr: str) -> list[Use]:
    """Every selector of an expression. Raises ValueError when it does not parse."""
    return list(_walk(promql_parser.parse(expr), None))


def grouped_by(expr: str) -> set[str]:
    """Every label that a `by`, `on` or `group_left` of the expression names."""
    labels: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier:
            labels.update(node.modifier.matching.labels if node.modifier.matching else ())
            labels.update(node.modifier.group_labels or ())

    promql_parser.walk(promql_parser.parse(expr), visit)
    return labels


def _walk(node: Any, function: str | None, *, ranged: bool = False) -> Iterator[Use]:
    if isinstance(node, promql_parser.VectorSelector):
        matchers = tuple((m.name, str(m.op).removeprefix("MatchOp."), m.value) for m in node.matchers.matchers)
        yield Use(node.name or "", matchers, function, ranged)
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from _walk(node.vector_selector, function, ranged=True)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _walk(argument, node.func.name)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from _walk(node.lhs, None)
        yield from _walk(node.rhs, None)
    elif isinstance(node, promql_parser.AggregateExpr):
        yield from _walk(node.expr, str(node.op))
    elif isinstance(node, (promql_parser.ParenExpr, promql_parser.UnaryExpr)):
        yield from _walk(node.expr, function)
