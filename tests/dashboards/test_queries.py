"""Every expression of the committed dashboards against the metric list."""

import pytest

from monitor.metrics import METRICS
from tests.dashboards.boards import TARGETS, Target, filled_in
from tests.dashboards.promql_tree import grouped_by, uses

LABELS = {metric.series: {*metric.labels, "job", "instance"} for metric in METRICS}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_names_are_of_the_list(target: Target) -> None:
    """Every metric and every label that a query names is on the list, and it parses with all variables filled in."""
    expr = filled_in(target.expr)
    found = uses(expr)

    assert "$" not in expr
    assert found
    assert {use.metric for use in found} <= LABELS.keys()
    assert all({label for label, _, _ in use.matchers} <= LABELS[use.metric] for use in found)
    assert grouped_by(expr) <= set().union(*(LABELS[use.metric] for use in found))


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_ranges_belong_to_functions(target: Target) -> None:
    """A range stands in a function, and a rate, an increase or a last value has one."""
    for use in uses(filled_in(target.expr)):
        assert use.ranged == (use.function in {"rate", "increase", "last_over_time", "min_over_time"})


@pytest.mark.parametrize("expr", ["sum(", "a + ", "rate(a[5m]", "a{b=c}"])
def test_bad_promql_is_refused(expr: str) -> None:
    """The parser that these tests lean on does find errors."""
    with pytest.raises(ValueError, match=r"expected|invalid|unclosed|token"):
        uses(expr)
