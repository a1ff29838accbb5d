"""The published snapshot as Prometheus text 0.0.4 or OpenMetrics 1.0, by walking the metric list.

No hardware, no lock, no arithmetic, no side effect: two scrapers and a probe see the same numbers.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as text_format
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from monitor.core.ports import SnapshotView
from monitor.metrics import METRICS, Metric, Type

Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
OPENMETRICS = "application/openmetrics-text"
END = b"# EOF\n"
Row = tuple[tuple[str, ...], float]


class _OneFamily(CollectorRegistry):
    """A registry of the one family that is to be rendered, for the writers of prometheus-client take nothing less."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Family]:
        """The family."""
        return iter((self._family,))


class _Rendered:
    """A family as prometheus-client rendered it, and how it goes on while its series stay the same."""

    def __init__(self, rows: list[Row], text: bytes) -> None:
        self.text = text
        self._rows = rows
        self._head = ""
        self._series: list[str] | None = None
        """Each series up to its value; None until they are needed."""

    def follow(self, rows: list[Row]) -> bool:
        """Take the values of another scrape; False where its series are others."""
        if rows == self._rows:
            return True
        if [labels for labels, _value in rows] != [labels for labels, _value in self._rows]:
            return False
        if self._series is None:
            *lines, _nothing = self.text.decode().split("\n")
            head = [line for line in lines if line.startswith("#")]
            self._head = "\n".join(head)
            self._series = [line.rpartition(" ")[0] for line in lines[len(head) :]]
        if len(self._series) != len(rows):
            return False
        values = [floatToGoString(value) for _labels, value in rows]  # type: ignore[no-untyped-call]
        lines = [f"{one} {value}" for one, value in zip(self._series, values, strict=True)]
        self.text = "\n".join((self._head, *lines, "")).encode()
        self._rows = rows
        return True


class Exposition:
    """Renders the current snapshot in the format a scraper asks for.

    What prometheus-client has rendered is used again: a family whose rows are those of the last scrape as it is, for
    descriptions and limits hardly ever change and are half of the samples; of one whose values alone are others, names
    and labels.
    """

    def __init__(self, view: SnapshotView) -> None:
        self._view = view
        self._rendered: dict[bool, dict[str, _Rendered]] = {False: {}, True: {}}
        """By format and metric: the last scrape."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for an Accept header: OpenMetrics 1.0 where it is preferred, else text 0.0.4."""
        is_open = prefers_openmetrics(accept)
        known, snapshot = self._rendered[is_open], self._view.snapshot
        parts: list[bytes] = []
        for metric in METRICS:
            rows = list(metric.rows(snapshot))
            if not rows:
                continue
            last = known.get(metric.family)
            if last is None or not last.follow(rows):
                last = known[metric.family] = _Rendered(rows, _text(metric, rows, is_open=is_open))
            parts.append(last.text)
        if is_open:
            parts.append(END)
        return b"".join(parts), openmetrics.CONTENT_TYPE_LATEST if is_open else text_format.CONTENT_TYPE_PLAIN_0_0_4


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header ranks OpenMetrics at least as high as plain text (RFC 9110, section 12.5.1)."""
    quality = {OPENMETRICS: 0.0, "text/plain": 0.0}
    for entry in accept.split(","):
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        if media in quality:
            quality[media] = max(quality[media], _q(parameters))
    return quality[OPENMETRICS] > 0.0 and quality[OPENMETRICS] >= quality["text/plain"]


def _q(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


_CLASSES: dict[Type, Callable[..., Family]] = {
    Type.COUNTER: CounterMetricFamily,
    Type.GAUGE: GaugeMetricFamily,
    Type.INFO: InfoMetricFamily,
}


def _text(metric: Metric, rows: list[Row], *, is_open: bool) -> bytes:
    family = _CLASSES[metric.type](metric.family, metric.help, labels=metric.labels)
    family.unit = metric.unit
    if isinstance(family, InfoMetricFamily):
        for labels, _one in rows:
            family.add_metric(labels, {})
    else:
        for labels, value in rows:
            family.add_metric(labels, value)
    one = _OneFamily(family)
    if not is_open:
        return text_format.generate_latest(one)
    # Names of the list need no escaping; looking for something to escape costs a third of the scrape.
    text: bytes = openmetrics.generate_latest(one, openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
    return text.removesuffix(END)
