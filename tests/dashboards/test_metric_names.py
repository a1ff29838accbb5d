"""The metric list itself, by the rules of Prometheus and of DESIGN.md section 7 that promtool does not know."""

import re

import pytest

from monitor.metrics import METRICS, PREFIX, Metric, Type

BASE_UNITS = {
    "": "a plain number",
    "joules": "energy",
    "watts": "power",
    "grams": "mass",
    "seconds": "time",
    "bytes": "memory",
    "celsius": "temperature",
    "ratio": "0..1, or counted by measured",
    "liters": "volume",
    "grams_per_kilowatthour": "what the field reads, though no base unit",
    "per_kilowatthour": "money, in the currency of its label",
}
OF_ONE_KIND = {"run_marginal_emissions", "run_embodied_emissions", "run_market_emissions"}
"""Series of their own, each by one factor that is told beside it: DESIGN.md section 7 gives them no basis."""
SCRAPER_LABELS = {
    "job",
    "instance",
    "host",
    "cluster",
    "region",
    "zone",
    "az",
    "dc",
    "owner",
    "service",
    "env",
    "stage",
}
"""Set by whoever scrapes; ours would clash with them."""
DESCRIPTIONS = {"name", "user", "project", "launcher", "job_id", "model", "version", "provider", "calibration"}
"""Live on info metrics only: on a counter a rename would begin another series."""

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.series)


def test_names_are_unique() -> None:
    """No two metrics share a family or a series."""
    assert len(METRICS) == len({m.family for m in METRICS}) == len({m.series for m in METRICS})


@each_metric
def test_name(metric: Metric) -> None:
    """snake_case, our prefix, a base unit, no word for a type, and no suffix of another type."""
    name = metric.series.removeprefix(PREFIX)

    assert metric.series.startswith(PREFIX)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    assert metric.unit in BASE_UNITS or metric.stem.endswith("_cost")
    assert not {"counter", "gauge", "histogram", "summary", "metric"} & set(name.split("_"))
    assert not re.search(r"kwh|percent|milli|micro|kilowatts|kilograms", name.replace(metric.unit, ""))
    assert name.endswith("_total") == (metric.type is Type.COUNTER)
    assert name.endswith("_info") == (metric.type is Type.INFO)
    assert not name.endswith(("_count", "_sum", "_bucket", "_created"))


@each_metric
def test_help_is_a_sentence(metric: Metric) -> None:
    """Help begins with a capital or a digit, ends with a full stop and fits a table."""
    assert re.fullmatch(r"[A-Z0-9][^|\n]*\.", metric.help)


@each_metric
def test_labels(metric: Metric) -> None:
    """Labels are snake_case, unique, none of the scraper's, and descriptions stay on info metrics."""
    assert len(metric.labels) == len(set(metric.labels))
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in metric.labels)
    assert not SCRAPER_LABELS & set(metric.labels)
    if metric.type is not Type.INFO and not metric.stem.startswith(("project_", "grid_fetch_")):
        assert not DESCRIPTIONS & set(metric.labels)


@each_metric
def test_what_must_not_be_merged_is_told_apart(metric: Metric) -> None:
    """A run's series names its ledger, energy and power of a device their component, grams their basis."""
    labels = set(metric.labels)

    if metric.stem.startswith("run_") and "run" in labels:
        assert "ledger" in labels
    if metric.stem.startswith("device_") and metric.unit in {"joules", "watts"}:
        assert {"device", "component"} <= labels
    if metric.unit == "grams" and metric.type is Type.COUNTER and metric.stem.endswith("_emissions"):
        assert {"basis"} <= labels or metric.stem in OF_ONE_KIND
