"""Where a query is asked: the variables of a board that its selectors are bound to, and the ranges that it looks over.

A board's queries follow its variables; a rule is evaluated by Prometheus itself and has none.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dashboards import promql as q
from dashboards.promql import Query
from monitor import metrics as x
from monitor.metrics import Metric, Type

Match = str | tuple[str, ...]
"""What a label has to equal, or one of several such texts."""
LONGEST_SILENCE = "31d"
"""A node that was away for so long at the beginning of a range is taken for one that began its count within it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Makes the selectors of a board, or of the rules. A label in `match` has to equal its text, or one of several."""

    variables: tuple[str, ...]
    """Of each, a series that has such a label has to match it."""
    rate_range: str
    range: str

    def select(self, metric: Metric, /, **match: Match) -> Query:
        """Current value of every series."""
        return Query(self._selector(metric, match), q.labels_of(metric))

    def rate(self, metric: Metric, /, *, over: str = "", **match: Match) -> Query:
        """Increase per second around each moment. Raises TypeError for what is no counter."""
        _must_count(metric, "rate")
        return Query(f"rate({self._selector(metric, match)}[{over or self.rate_range}])", q.labels_of(metric))

    def increase(self, metric: Metric, /, *, over: str = "", **match: Match) -> Query:
        """Rise over the range. Raises TypeError for what is no counter, and for a run's.

        A run's counter starts at 0 with the run: `increase()` never sees what was used before the first scrape.
        """
        _must_count(metric, "increase")
        if "run" in metric.labels:
            raise TypeError(f"increase() of {metric.series} loses the run's beginning; use last_over_time()")
        return Query(f"increase({self._selector(metric, match)}[{over or self.range}])", q.labels_of(metric))

    def last_over_time(self, metric: Metric, /, *, over: str = "", before: str = "", **match: Match) -> Query:
        """Last value within the range: the total of a run, also of one that ended in it. `before`: so long ago."""
        window = self._window(metric, match, over=over, before=before)
        return Query(f"last_over_time({window})", q.labels_of(metric))

    def over_time(self, function: str, metric: Metric, /, *, over: str = "", **match: Match) -> Query:
        """Least, mean, highest value or number of changes of a gauge over the range."""
        if function not in {"min", "avg", "max"}:
            raise ValueError(f"{function}_over_time is not among min, avg and max")
        if metric.type is Type.COUNTER:
            raise TypeError(f"{function}_over_time() of {metric.series}, which is a {metric.type}")
        window = f"{self._selector(metric, match)}[{over or self.range}]"
        return Query(f"{function}_over_time({window})", q.labels_of(metric))

    def age(self, metric: Metric, /, **match: Match) -> Query:
        """Seconds since the moment that the metric holds. Raises TypeError for what holds no Unix time."""
        if not metric.stem.endswith("_timestamp"):
            raise TypeError(f"age of {metric.series}, which is no Unix time")
        return Query(f"time() - {self._selector(metric, match)}", q.labels_of(metric))

    def exact(self, metric: Metric, /, *by: str, over: str = "", **match: Match) -> Query:
        """The exact total of a run's counter or gauge: over nodes, scrapers, restarts and changes of address.

        What counts once is a series of one ledger, whoever scraped it and from whichever address; ledgers add up.
        """
        if "ledger" not in metric.labels:
            raise TypeError(
                f"{metric.series} does not name its ledger, so that what was scraped twice would count twice"
            )
        return q.total(q.highest(self.last_over_time(metric, over=over, before="", **match), *metric.labels), *by)

    def exact_since(self, metric: Metric, /, *by: str, **match: Match) -> Query:
        """Rise of a counter that is never reset over the range, to the last scrape before it and the last within it.

        Unlike `increase()` nothing is extrapolated. The ledger stands for the node, whatever its address. What is new
        on a node that was known before began at 0; of a node that was not, because it is new, is scraped only since,
        or is no longer kept of that time, the rise is from the first scrape that there is.
        """
        _must_count(metric, "exact_since")
        labels = ("ledger", *metric.labels)
        end = q.highest(self._with_ledger(metric, match, over="", before=""), *labels)
        begin = q.highest(self._with_ledger(metric, match, over=LONGEST_SILENCE, before=self.range), *labels)
        known = self.last_over_time(x.LEDGER_INFO, over=LONGEST_SILENCE, before=self.range)
        first = q.lowest(self._with_ledger(metric, match, over="", before="", function="min"), *labels)
        text = f"({begin.text}) or (0 * {end.text} and on (ledger) {known.text}) or {first.text}"
        return q.total(q.minus(end, Query(text, end.labels)), *by)

    def described(self, query: Query, info: Metric, *take: str, ended: bool = False, over: str = "") -> Query:
        """The same values with labels of an info metric beside them, matched on every label that both have.

        `ended` also takes the descriptions that are gone by the end of the range, where there is none now. `topk` takes
        one description where there are several: for a run on many nodes. Raises TypeError for what is no info metric
        (a product with it would change the values), ValueError when it lacks a label of `take`.
        """
        if info.type is not Type.INFO:
            raise TypeError(f"{info.series} is a {info.type}: a product with it would change the values")
        q.known(take, q.labels_of(info), info.series)
        on = q.listed(query.labels & q.labels_of(info))
        words = self._newest(info, on, over=over) if ended else self.select(info).text
        text = f"({query.text}) * on ({on}) group_left ({', '.join(take)}) topk by ({on}) (1, {words})"
        return Query(text, query.labels | set(take))

    def label_values(self, metric: Metric, label: str, *chosen: str) -> str:
        """Query of a board's variable: the values of a label, where the variables `chosen` match."""
        q.known([label, *chosen], q.labels_of(metric), metric.series)
        bound = ", ".join(f'{name}=~"${name}"' for name in chosen)
        selector = f"{metric.series}{{{bound}}}" if chosen else metric.series
        return f"label_values({selector}, {label})"

    def _with_ledger(
        self, metric: Metric, match: Mapping[str, Match], *, over: str, before: str, function: str = "last"
    ) -> Query:
        window = self._window(metric, match, over=over, before=before)
        on = q.listed(q.TARGET_LABELS)
        ledger = self._newest(x.LEDGER_INFO, on, over=over, before=before)
        text = f"{function}_over_time({window}) * on ({on}) group_left (ledger) topk by ({on}) (1, {ledger})"
        return Query(text, q.labels_of(metric) | {"ledger"})

    def _newest(self, info: Metric, on: str, *, over: str, before: str = "") -> str:
        """Descriptions of the end of the range, and those within it of what has none then: an old name never wins."""
        now = self._selector(info, {}) + (f" offset {before}" if before else "")
        return f"{now} or on ({on}) {self.last_over_time(info, over=over, before=before).text}"

    def _window(self, metric: Metric, match: Mapping[str, Match], *, over: str, before: str) -> str:
        return f"{self._selector(metric, match)}[{over or self.range}]" + (f" offset {before}" if before else "")

    def _selector(self, metric: Metric, match: Mapping[str, Match]) -> str:
        labels = q.labels_of(metric)
        q.known(match, labels, metric.series)
        bound = [f'{name}=~"${name}"' for name in self.variables if name in labels and name not in match]
        matchers = [*bound, *(f"{label}{_matcher(value)}" for label, value in match.items())]
        return f"{metric.series}{{{', '.join(matchers)}}}" if matchers else metric.series


def board(*variables: str) -> Scope:
    """The scope of a board with these variables beside `job` and `instance`."""
    return Scope(variables=(*q.TARGET_LABELS, *variables), rate_range="$__rate_interval", range="$__range")


RULES = Scope(variables=(), rate_range="5m", range="1h")
"""Of recording rules and alerts."""


def _matcher(value: Match) -> str:
    if isinstance(value, str):
        return f"={json.dumps(value)}"
    return f"=~{json.dumps('|'.join(map(re.escape, value)))}"


def _must_count(metric: Metric, function: str) -> None:
    if metric.type is not Type.COUNTER:
        raise TypeError(f"{function}() of {metric.series}, which is a {metric.type}")
