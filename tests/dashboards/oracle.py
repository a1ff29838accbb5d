"""What the queries of the boards have to answer, reckoned from the API's JSON of the scrapes and never from PromQL.

EXPECTED: dict[str, Expected] = {
    "Power now/A": lambda seen: total(seen.now(node_power)),
    "Energy in range/A": lambda seen: times(total(seen.increase(node_energy), "method"), 1 / JOULES_PER_KWH),
}

A reader takes a scrape and gives the series of one quantity, each with the labels that matter; `Seen` asks it about
the scrapes of all nodes, as a query does about their series. Two nodes run the same runs: what ought to be added up and
what ought not shows.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JOULES_PER_KWH = 3.6e6
EXTRAPOLATED_TO = 1.1
"""An edge of the window that is nearer to a sample than so many average gaps is taken for one of the series."""
SMALLEST = 1e-9
"""Of two values that differ by less, neither is wrong: what is left of a difference of two sums."""
CLOCK_S = 5e-6
"""The same for differences of two Unix times, of which a store keeps 15 to 16 digits."""

VICTORIA_SHORTEST_S = 5.0
"""VictoriaMetrics takes no rate over less than five gaps of a second."""

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]


@dataclass(frozen=True)
class Scrape:
    """One scrape of one node: what the API said of the snapshot that the exposition was made of."""

    at_s: float
    """Unix time under which Prometheus has it."""
    job: str
    instance: str
    snapshot: Mapping[str, Any]
    """`/api/v1/snapshot`."""
    grid: Mapping[str, Any]
    """`/api/v1/grid`."""
    runs: Sequence[Mapping[str, Any]]
    """`/api/v1/runs`, newest first, those that ended too."""
    reports: Mapping[str, Mapping[str, Any]]
    """`/api/v1/runs/ID` of every run of the snapshot: what a run costs is only there."""
    exposed: Vector
    """The exposition itself, its names as label `__name__`: only for what no JSON tells."""

    @property
    def ledger(self) -> str:
        """Identity of the node's count."""
        return str(self.snapshot["ledger"])

    def labels(self, **values: object) -> Labels:
        """Labels of a series of this scrape: these, its job and its instance."""
        return labels(job=self.job, instance=self.instance, **values)

    def of_exposition(self, name: str) -> Vector:
        """Series by the name of the metric."""
        named = {key: dict(key) for key in self.exposed if ("__name__", name) in key}
        return {
            self.labels(**{label: text for label, text in words.items() if label != "__name__"}): self.exposed[key]
            for key, words in named.items()
        }


Reader = Callable[[Scrape], Vector]
"""The series of one quantity in a scrape."""


@dataclass(frozen=True)
class Seen:
    """Every scrape up to the moment of the queries."""

    at_s: float
    """Of the queries, in Unix time. No scrape lies on the edge of a window that ends here."""
    nodes: Sequence[Sequence[Scrape]]
    """The scrapes of each node, oldest first."""
    up: Collection[str]
    """Instances that are scraped now: the others have ended, and are only in what looks back."""
    range_s: float
    rate_interval_s: float
    is_victoria: bool = False
    """VictoriaMetrics extrapolates nothing, and looks one sample before the window."""

    @property
    def last(self) -> Sequence[Scrape]:
        """The newest scrape of each node that is scraped now."""
        return [node[-1] for node in self.nodes if node[-1].instance in self.up]

    def now(self, reader: Reader) -> Vector:
        """Values of the newest scrapes."""
        return _union(reader(scrape) for scrape in self.last)

    def last_over_time(self, reader: Reader, window_s: float | None = None) -> Vector:
        """The last value within the window, by default the range, of each series that was seen in it."""
        return {series: samples[-1][1] for series, samples in self.samples(reader, window_s).items()}

    def over_time(
        self, fold: Callable[[Sequence[float]], float], reader: Reader, window_s: float | None = None
    ) -> Vector:
        """All values within the window, by default the range, folded into one."""
        return {
            series: fold([value for _at_s, value in samples])
            for series, samples in self.samples(reader, window_s).items()
        }

    def rate(self, reader: Reader, window_s: float | None = None) -> Vector:
        """Rise per second over the window, by default the rate interval."""
        window_s = window_s or self.rate_interval_s
        if not self.is_victoria:
            return times(self.increase(reader, window_s), 1 / window_s)
        window_s = max(window_s, VICTORIA_SHORTEST_S)
        spans = {series: _and_before(samples, self.at_s - window_s) for series, samples in self._all(reader).items()}
        return {
            series: (span[-1][1] - span[0][1]) / (span[-1][0] - span[0][0])
            for series, span in spans.items()
            if len(span) > 1
        }

    def increase(self, reader: Reader, window_s: float | None = None) -> Vector:
        """Rise over the window, by default the range."""
        begin_s = self.at_s - (window_s or self.range_s)
        if self.is_victoria:
            spans = {series: _and_before(samples, begin_s) for series, samples in self._all(reader).items()}
            return {series: _risen(span, begin_s) for series, span in spans.items() if span}
        return {
            series: extrapolated(samples, begin_s, self.at_s)
            for series, samples in self.samples(reader, window_s).items()
            if len(samples) > 1
        }

    def rise(self, reader: Reader) -> Vector:
        """Rise from the last scrape before the range to the last within it, from 0 where there was none before it."""
        begin_s = self.at_s - self.range_s
        found: Vector = {}
        for series, samples in self._all(reader).items():
            if samples[-1][0] > begin_s:
                before = [value for at_s, value in samples if at_s < begin_s]
                found[series] = samples[-1][1] - (before[-1] if before else 0.0)
        return found

    def samples(self, reader: Reader, window_s: float | None = None) -> dict[Labels, list[tuple[float, float]]]:
        """(Unix time, value) of each series within the window, by default the range, oldest first."""
        begin_s = self.at_s - (window_s or self.range_s)
        found: dict[Labels, list[tuple[float, float]]] = {}
        for node in self.nodes:
            for scrape in node:
                if scrape.at_s > begin_s:
                    for series, value in reader(scrape).items():
                        found.setdefault(series, []).append((scrape.at_s, value))
        return found

    def _all(self, reader: Reader) -> dict[Labels, list[tuple[float, float]]]:
        return self.samples(reader, self.at_s)


def _and_before(samples: Sequence[tuple[float, float]], begin_s: float) -> Sequence[tuple[float, float]]:
    """The samples of a window and the one before it; none where the window has none."""
    inside = sum(at_s > begin_s for at_s, _value in samples)
    return samples[-1 - inside :] if inside else ()


def _risen(samples: Sequence[tuple[float, float]], begin_s: float) -> float:
    """VictoriaMetrics' `increase`: a series that begins in the window began at 0, unless its first value is great."""
    (first_s, first), (_last_s, last) = samples[0], samples[-1]
    if first_s > begin_s:
        step = abs(samples[1][1] - first) if len(samples) > 1 else 0.0
        return last if abs(first) < 10 * ((step or 10.0) + 1) else last - first
    return last - first


Expected = Callable[[Seen], Vector]
"""What a query has to answer: a value for each set of labels, none missing and none too many."""


def extrapolated(samples: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """Prometheus' `increase` of two or more samples (Unix time, value) in a window.

    The rise between the first and the last, drawn on to an edge that is nearer than 1.1 average gaps and else by half
    a gap; at the beginning not beyond where the counter would have been 0. No counter of the recording ever falls.
    """
    (first_s, first), (last_s, last) = samples[0], samples[-1]
    rise = last - first
    span_s = last_s - first_s
    gap_s = span_s / (len(samples) - 1)
    to_zero_s = span_s * first / rise if rise > 0 else float("inf")
    edges_s = (min(first_s - begin_s, to_zero_s), end_s - last_s)
    beyond_s = sum(edge_s if edge_s < EXTRAPOLATED_TO * gap_s else gap_s / 2 for edge_s in edges_s)
    return rise * (span_s + beyond_s) / span_s


# -- vectors ---------------------------------------------------------------------------------------------------------


def labels(**values: object) -> Labels:
    """Labels of a series; one that is empty is none."""
    return frozenset((name, str(value)) for name, value in values.items() if value not in ("", None))


def only(vector: Vector, **values: str) -> Vector:
    """The series with these labels."""
    return {key: value for key, value in vector.items() if set(values.items()) <= key}


def total(vector: Vector, *by: str) -> Vector:
    """Sums by these labels."""
    return _by(sum, vector, by)


def highest(vector: Vector, *by: str) -> Vector:
    """Highest values by these labels."""
    return _by(max, vector, by)


def lowest(vector: Vector, *by: str) -> Vector:
    """Lowest values by these labels."""
    return _by(min, vector, by)


def count(vector: Vector, *by: str) -> Vector:
    """Number of series by these labels."""
    return {key: float(number) for key, number in _by(len, vector, by).items()}


def times(vector: Vector, factor: float) -> Vector:
    """Every value times a number."""
    return {key: value * factor for key, value in vector.items()}


def kilowatthours(energy_j: Vector) -> Vector:
    """Joules as kWh."""
    return times(energy_j, 1 / JOULES_PER_KWH)


def with_labels(vector: Vector, words: Mapping[Labels, Labels]) -> Vector:
    """The series that words have something for, matched on all labels of the words' keys, with it added."""
    return {key | more: value for key, value in vector.items() for about, more in words.items() if about <= key}


def _by(fold: Callable[[list[float]], float], vector: Vector, by: Iterable[str]) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for key, value in vector.items():
        groups.setdefault(frozenset(pair for pair in key if pair[0] in set(by)), []).append(value)
    return {key: fold(values) for key, values in groups.items()}


def _union(vectors: Iterable[Vector]) -> Vector:
    return {key: value for vector in vectors for key, value in vector.items()}


# -- comparison ------------------------------------------------------------------------------------------------------


def answered(result: Iterable[Mapping[str, Any]]) -> Vector:
    """The answer of Prometheus to an instant query. Raises AssertionError when a set of labels comes twice."""
    found: Vector = {}
    for series in result:
        key = frozenset(pair for pair in series["metric"].items() if pair[0] != "__name__")
        assert key not in found, f"{dict(key)} twice"
        found[key] = float(series["value"][1])
    return found


def disagreement(answer: Vector, expected: Vector, *, rel: float, absolute: float = SMALLEST) -> str:
    """What is wrong with an answer, a line for each series that is missing, too much or of another value."""
    lines = [f"missing: {_shown(key)} {expected[key]!r}" for key in expected.keys() - answer.keys()]
    lines += [f"too much: {_shown(key)} {answer[key]!r}" for key in answer.keys() - expected.keys()]
    for key in answer.keys() & expected.keys():
        told, right = answer[key], expected[key]
        if not abs(told - right) <= max(absolute, rel * abs(right)):
            lines.append(f"wrong: {_shown(key)} {told!r}, not {right!r}")
    return "\n".join(sorted(lines))


def _shown(key: Labels) -> str:
    return "{" + ", ".join(f"{name}={text!r}" for name, text in sorted(key)) + "}"
