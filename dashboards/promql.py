"""Queries made from the metric list: what Prometheus would answer wrongly, or never, is an error here.

A query cannot name a dead metric or an unknown label, nor take the rate of a gauge. Every selector is bound to the
dashboard's variables `job` and `instance`.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.core.units import JOULES_PER_KILOWATTHOUR
from monitor.metrics import METRICS, Metric, Type

TARGET_LABELS = ("job", "instance")
"""What Prometheus itself puts on every series of a scrape."""
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the labels of its result."""

    text: str
    labels: frozenset[str]

    def legend(self, template: str) -> str:
        """The template itself. Raises ValueError when a `{{label}}` in it is not on the result."""
        _known(re.findall(r"{{(\w+)}}", template), self.labels, self.text)
        return template


def select(metric: Metric, **match: str) -> Query:
    """Current value of every series whose labels equal `match`."""
    return Query(_selector(metric, match), _labels(metric))


def rate(metric: Metric, **match: str) -> Query:
    """Increase per second around each moment. Raises TypeError for what is no counter."""
    _must_count(metric, "rate")
    return Query(f"rate({_selector(metric, match)}[$__rate_interval])", _labels(metric))


def increase(metric: Metric, **match: str) -> Query:
    """Rise over the dashboard's time range. Raises TypeError for what is no counter, and for a run's.

    A run's counter starts at 0 with the run: `increase()` never sees what was used before the first scrape.
    """
    _must_count(metric, "increase")
    if "run" in metric.labels:
        raise TypeError(f"increase() of {metric.series} loses the run's beginning; use last_over_time()")
    return Query(f"increase({_selector(metric, match)}[$__range])", _labels(metric))


def last_over_time(metric: Metric, **match: str) -> Query:
    """Last value within the dashboard's time range: the total of a run, also of one that ended in it."""
    return Query(f"last_over_time({_selector(metric, match)}[$__range])", _labels(metric))


def age(metric: Metric) -> Query:
    """Seconds since the moment that the metric holds. Raises TypeError for what holds no Unix time."""
    if not metric.stem.endswith("_timestamp"):
        raise TypeError(f"age of {metric.series}, which is no Unix time")
    return Query(f"time() - {_selector(metric, {})}", _labels(metric))


def total(query: Query, *by: str) -> Query:
    """Sum, one result for each combination of the labels `by`; what two jobs scrape from one address counts once."""
    return _aggregate("sum", _once(query), by)


def highest(query: Query, *by: str) -> Query:
    """Maximum, one result for each combination: for what several jobs or nodes tell alike."""
    return _aggregate("max", query, by)


def count(query: Query, *by: str) -> Query:
    """Number of series, as `total` counts them."""
    return _aggregate("count", _once(query), by)


def ratio(part: Query, whole: Query) -> Query:
    """One divided by the other, series by series. Raises ValueError unless both have the same labels."""
    if part.labels != whole.labels:
        raise ValueError(f"{part.text} and {whole.text} differ in {sorted(part.labels ^ whole.labels)}")
    return Query(f"{part.text} / {whole.text}", part.labels)


def kilowatthours(energy_j: Query) -> Query:
    """Joules as kWh."""
    return Query(f"({energy_j.text}) / {JOULES_PER_KILOWATTHOUR:.0f}", energy_j.labels)


def hourly(per_second: Query) -> Query:
    """A rate per second as one per hour."""
    return Query(f"({per_second.text}) * {SECONDS_PER_HOUR}", per_second.labels)


def described(query: Query, info: Metric, *take: str, ended: bool = False) -> Query:
    """The same values with labels of an info metric beside them, matched on every label that both have.

    `ended` also takes the descriptions that are gone by the end of the time range. `topk` takes one description where
    there are several: after a rename within the range, or for a run on many nodes. Raises TypeError for what is no
    info metric (a product with it would change the values), ValueError when it lacks a label of `take`.
    """
    if info.type is not Type.INFO:
        raise TypeError(f"{info.series} is a {info.type}: a product with it would change the values")
    _known(take, _labels(info), info.series)
    words = last_over_time(info) if ended else select(info)
    on = _listed(query.labels & words.labels)
    text = f"({query.text}) * on ({on}) group_left ({', '.join(take)}) topk by ({on}) (1, {words.text})"
    return Query(text, query.labels | set(take))


def or_zero(query: Query, present: Query) -> Query:
    """The query, and 0 for each series of `present` that it says nothing about: "none yet" apart from "no data"."""
    on = _listed(query.labels & present.labels)
    return Query(f"({query.text}) or on ({on}) (0 * {present.text})", query.labels | present.labels)


def label_values(metric: Metric, label: str, *chosen: str) -> str:
    """Query of a dashboard variable: the values of a label, where the variables `chosen` match."""
    if metric not in METRICS:
        raise ValueError(f"{metric.series} is not on the metric list")
    _known([label, *chosen], _labels(metric), metric.series)
    selector = f"{metric.series}{{{_variables(chosen)}}}" if chosen else metric.series
    return f"label_values({selector}, {label})"


def _selector(metric: Metric, match: dict[str, str]) -> str:
    if metric not in METRICS:
        raise ValueError(f"{metric.series} is not on the metric list")
    _known(match, _labels(metric), metric.series)
    matchers = [_variables(TARGET_LABELS), *(f"{label}={json.dumps(value)}" for label, value in match.items())]
    return f"{metric.series}{{{', '.join(matchers)}}}"


def _variables(labels: Iterable[str]) -> str:
    return ", ".join(f'{label}=~"${label}"' for label in labels)


def _labels(metric: Metric) -> frozenset[str]:
    return frozenset((*metric.labels, *TARGET_LABELS))


def _must_count(metric: Metric, function: str) -> None:
    if metric.type is not Type.COUNTER:
        raise TypeError(f"{function}() of {metric.series}, which is a {metric.type}")


def _aggregate(operator: str, query: Query, by: tuple[str, ...]) -> Query:
    _known(by, query.labels, query.text)
    clause = f" by ({', '.join(by)}) " if by else ""
    return Query(f"{operator}{clause}({query.text})", frozenset(by))


def _once(query: Query) -> Query:
    return highest(query, *sorted(query.labels - {"job"})) if "job" in query.labels else query


def _known(labels: Iterable[str], there: frozenset[str], what: str) -> None:
    for label in labels:
        if label not in there:
            raise ValueError(f"{what} has no label {label!r}; it has {_listed(there)}")


def _listed(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels))
