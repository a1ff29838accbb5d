"""The published snapshot as Prometheus text 0.0.4 or OpenMetrics 1.0, by walking the metric list.

No hardware, no lock, no arithmetic, no side effect: two scrapers and a probe see the same numbers.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as text_format
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from monitor.core.ports import SnapshotView
from monitor.core.snapshot import Snapshot
from monitor.metrics import METRICS, Metric, Type

Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
OPENMETRICS = "application/openmetrics-text"


class SnapshotCollector(Collector):
    """prometheus-client's view of the snapshot that is published at the time of the scrape."""

    def __init__(self, view: SnapshotView) -> None:
        self._view = view

    def describe(self) -> Iterator[Family]:
        """Families without samples: the registry finds clashes of names by them."""
        return (_family(metric) for metric in METRICS)

    def collect(self) -> Iterator[Family]:
        """Every family that has a sample now."""
        snapshot = self._view.snapshot
        for metric in METRICS:
            family = _filled(metric, snapshot)
            if family.samples:
                yield family


class Exposition:
    """Renders the current snapshot in the format a scraper asks for."""

    def __init__(self, view: SnapshotView) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(SnapshotCollector(view))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for an Accept header: OpenMetrics 1.0 where it is preferred, else text 0.0.4."""
        if prefers_openmetrics(accept):
            # Names of the list need no escaping; looking for something to escape costs a third of the scrape.
            body: bytes = openmetrics.generate_latest(self._registry, openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return text_format.generate_latest(self._registry), text_format.CONTENT_TYPE_PLAIN_0_0_4


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


def _family(metric: Metric) -> Family:
    family = _CLASSES[metric.type](metric.family, metric.help, labels=metric.labels)
    family.unit = metric.unit
    return family


def _filled(metric: Metric, snapshot: Snapshot) -> Family:
    family = _family(metric)
    if isinstance(family, InfoMetricFamily):
        for labels, _one in metric.rows(snapshot):
            family.add_metric(labels, {})
    else:
        for labels, value in metric.rows(snapshot):
            family.add_metric(labels, value)
    return family
