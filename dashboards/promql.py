"""Queries made from the metric list: what Prometheus would answer wrongly, or never, is an error here.

A query cannot name a dead metric or an unknown label, take the rate of a gauge, or match series that do not fit. The
selectors themselves are made in `dashboards/scope.py`, which knows what they are bound to.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.core.units import JOULES_PER_KILOWATTHOUR
from monitor.metrics import METRICS, Metric

TARGET_LABELS = ("job", "instance")
"""What Prometheus itself puts on every series of a scrape."""
SECONDS_PER_HOUR = 3600
COMPARISONS = (">", ">=", "<", "<=", "==", "!=")


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the labels of its result."""

    text: str
    labels: frozenset[str]

    def legend(self, template: str) -> str:
        """The template itself. Raises ValueError when a `{{label}}` in it is not on the result."""
        known(re.findall(r"{{(\w+)}}", template), self.labels, self.text)
        return template


# -- many series into few --------------------------------------------------------------------------------------------


def total(query: Query, *by: str) -> Query:
    """Sum, one result for each combination of the labels `by`; what two jobs scrape from one address counts once."""
    return _aggregate("sum", _once(query), by)


def highest(query: Query, *by: str) -> Query:
    """Maximum, one result for each combination: for what several jobs or nodes tell alike."""
    return _aggregate("max", query, by)


def lowest(query: Query, *by: str) -> Query:
    """Minimum, one result for each combination."""
    return _aggregate("min", query, by)


def count(query: Query, *by: str) -> Query:
    """Number of series, as `total` counts them."""
    return _aggregate("count", _once(query), by)


def over_ledgers(query: Query, *by: str) -> Query:
    """Sum of the nodes' own parts of a run: a series of one ledger counts once, whoever scraped it and from where.

    Raises ValueError for series that do not name their ledger.
    """
    known(["ledger"], query.labels, query.text)
    return total(highest(query, *sorted(query.labels.difference(TARGET_LABELS))), *by)


def top(number: int, query: Query, *by: str) -> Query:
    """The series with the highest values, of each combination of the labels `by`."""
    return _ranked("topk", number, query, by)


def bottom(number: int, query: Query, *by: str) -> Query:
    """The series with the lowest values, of each combination of the labels `by`."""
    return _ranked("bottomk", number, query, by)


# -- two queries into one --------------------------------------------------------------------------------------------


def ratio(part: Query, whole: Query) -> Query:
    """One divided by the other, series by series; the whole may lack labels of the part, never the other way round."""
    return _pairwise(part, "/", whole)


def product(query: Query, factor: Query) -> Query:
    """One times the other, matched as by `ratio`."""
    return _pairwise(query, "*", factor)


def minus(query: Query, other: Query) -> Query:
    """One less the other, matched as by `ratio`."""
    return _pairwise(query, "-", other)


def plus(query: Query, other: Query) -> Query:
    """One and the other added up, matched as by `ratio`: a series that only one of them has is in neither."""
    return _pairwise(query, "+", other)


def compared(query: Query, operator: str, other: "Query | float") -> Query:
    """The values of which a comparison holds, with a number or with another query, matched as by `ratio`."""
    if operator not in COMPARISONS:
        raise ValueError(f"{operator!r} is no comparison; there are {', '.join(COMPARISONS)}")
    if isinstance(other, Query):
        return _pairwise(query, operator, other)
    return Query(f"{_inner(query)} {operator} {_number(other)}", query.labels)


def where(query: Query, condition: Query, *on: str) -> Query:
    """The series that have a counterpart in `condition`, matched on these labels, by default on all that both have."""
    return Query(f"{_inner(query)} and on ({_shared(query, condition, on)}) {_inner(condition)}", query.labels)


def unless(query: Query, condition: Query, *on: str) -> Query:
    """The series that have no counterpart in `condition`, matched on these labels, by default on all that both have."""
    return Query(f"{_inner(query)} unless on ({_shared(query, condition, on)}) {_inner(condition)}", query.labels)


def otherwise(query: Query, other: Query) -> Query:
    """The series of both; of one that both have, the first's. Raises ValueError unless they have the same labels."""
    if query.labels != other.labels:
        raise ValueError(f"{query.text} and {other.text} differ in {sorted(query.labels ^ other.labels)}")
    return Query(f"{_inner(query)} or {_inner(other)}", query.labels)


def or_zero(query: Query, present: Query) -> Query:
    """The query, and 0 for each series of `present` that it says nothing about: "none yet" apart from "no data"."""
    on = _shared(query, present, ())
    return Query(f"({query.text}) or on ({on}) (0 * {_inner(present)})", query.labels | present.labels)


# -- units -----------------------------------------------------------------------------------------------------------


def kilowatthours(energy_j: Query) -> Query:
    """Joules as kWh."""
    return Query(f"({energy_j.text}) / {JOULES_PER_KILOWATTHOUR:.0f}", energy_j.labels)


def hourly(per_second: Query) -> Query:
    """A rate per second as one per hour."""
    return times(per_second, SECONDS_PER_HOUR)


def times(query: Query, factor: float) -> Query:
    """Every value times a number."""
    return Query(f"({query.text}) * {_number(factor)}", query.labels)


# -- for the scopes --------------------------------------------------------------------------------------------------


def labels_of(metric: Metric) -> frozenset[str]:
    """Labels of a scraped series. Raises ValueError for a metric that is not on the list."""
    if metric not in METRICS:
        raise ValueError(f"{metric.series} is not on the metric list")
    return frozenset((*metric.labels, *TARGET_LABELS))


def known(labels: Iterable[str], there: frozenset[str], what: str) -> None:
    """Raises ValueError naming a label that is not there."""
    for label in labels:
        if label not in there:
            raise ValueError(f"{what} has no label {label!r}; it has {listed(there)}")


def listed(labels: Iterable[str]) -> str:
    """Labels as a clause has them, in one order always."""
    return ", ".join(sorted(labels))


def _aggregate(operator: str, query: Query, by: tuple[str, ...]) -> Query:
    known(by, query.labels, query.text)
    clause = f" by ({', '.join(by)}) " if by else ""
    return Query(f"{operator}{clause}({query.text})", frozenset(by))


def _ranked(operator: str, number: int, query: Query, by: tuple[str, ...]) -> Query:
    known(by, query.labels, query.text)
    clause = f" by ({', '.join(by)}) " if by else ""
    return Query(f"{operator}{clause}({number}, {query.text})", query.labels)


def _once(query: Query) -> Query:
    return highest(query, *sorted(query.labels - {"job"})) if "job" in query.labels else query


def _pairwise(left: Query, operator: str, right: Query) -> Query:
    if not right.labels <= left.labels:
        raise ValueError(f"{left.text} and {right.text} differ in {sorted(right.labels - left.labels)}")
    match = "" if left.labels == right.labels else f"on ({listed(right.labels)}) group_left () "
    return Query(f"{_inner(left)} {operator} {match}{_inner(right)}", left.labels)


def _shared(left: Query, right: Query, on: tuple[str, ...]) -> str:
    known(on, left.labels, left.text)
    known(on, right.labels, right.text)
    return listed(on or left.labels & right.labels)


def _inner(query: Query) -> str:
    """The expression as part of another: in parentheses, unless it is a selector or a call."""
    closed = re.fullmatch(r"[\w:]+(\s+by \([^()]*\) )?(\{[^{}]*\}|\((?:[^()]|\([^()]*\))*\))?", query.text)
    return query.text if closed else f"({query.text})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else repr(float(value))
