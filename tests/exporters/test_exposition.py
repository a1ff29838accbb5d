"""What a scraper reads: both formats, valid, complete, and the same for everybody."""

import gzip
import json
import math
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_format
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters.prometheus import Exposition
from monitor.core.model import Basis, Component, Method, Quality
from monitor.core.snapshot import ProjectTotals, Snapshot
from monitor.core.waiting import Idle
from monitor.metrics import METRICS, Type
from tests.exporters.test_report_document import CPU, GPU, demo, device, snapshot, totals
from tests.harness import need, poll
from tests.harness.daemon import Daemon, daemon

OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5"
)


def parse_openmetrics(text: str) -> list[Family]:
    """The families of an OpenMetrics exposition."""
    return list(openmetrics_format.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon on simulated devices."""
    with daemon("--mock", "--zone", "DE", log=tmp_path_factory.mktemp("daemon") / "log") as running:
        yield running


def test_promtool_accepts_it(served: Daemon) -> None:
    """`promtool check metrics` has nothing to say about the text format."""
    done = subprocess.run(
        [need.program("promtool"), "check", "metrics"],
        input=served.metrics(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_both_formats_hold_the_same_series(served: Daemon) -> None:
    """Text 0.0.4 and OpenMetrics 1.0 parse with prometheus-client's parsers and carry the same series."""
    _, text_headers, text = served.get("/metrics")
    _, open_headers, openmetrics = served.get("/metrics", {"Accept": OPENMETRICS})

    assert text_headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert open_headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert openmetrics.endswith(b"# EOF\n")
    assert {(s.name, *sorted(s.labels.items())) for f in parse_text(text.decode()) for s in f.samples} == {
        (s.name, *sorted(s.labels.items())) for f in parse_openmetrics(openmetrics.decode()) for s in f.samples
    }


def test_all_emitted_is_declared(served: Daemon) -> None:
    """Every family on the wire is in the list, with its type, help and labels; no timestamps, no `_created`."""
    declared = {metric.series: metric for metric in METRICS}
    families = parse_openmetrics(served.get("/metrics", {"Accept": OPENMETRICS})[2].decode())

    for family in families:
        for sample in family.samples:
            metric = declared[sample.name]

            assert metric.type == family.type
            assert metric.help == family.documentation
            assert set(metric.labels) == set(sample.labels)
            assert metric.unit == family.unit
            assert sample.timestamp is None
            assert math.isfinite(sample.value)


SETTLED = {"trainwatt_run_settled_emissions_grams", "trainwatt_run_settled_ratio"}
"""They come when the settler has been round, which may be before a test looks, or after."""


def test_all_declared_is_emitted_or_conditional(served: Daemon) -> None:
    """Every metric of the list is there on a simulated node, but for those that need what it has not."""
    poll.until(lambda: "trainwatt_run_measured_time_ratio{" in served.metrics(), what="a second reading")
    text = served.metrics()
    absent = {metric.series for metric in METRICS if not re.search(rf"^{metric.series}[ {{]", text, re.MULTILINE)}
    absent |= SETTLED

    assert absent == {
        "trainwatt_overlap_energy_joules_total",  # all of its devices are parts
        "trainwatt_overlap_power_watts",
        "trainwatt_device_idle_power_watts",  # nothing tells its processes, so that it was never seen idle
        "trainwatt_run_idle_energy_joules_total",
        "trainwatt_device_energy_error_ratio",  # nothing is estimated
        "trainwatt_device_energy_crosscheck_ratio",  # there is one sensor to believe, and it is simulated
        "trainwatt_run_end_timestamp_seconds",  # its runs go on for ever
        "trainwatt_grid_intensity_valid_until_timestamp_seconds",  # a yearly value has no slot
        "trainwatt_source_failures_total",  # nothing fails
        "trainwatt_run_forecast_energy_joules",  # its runs do not tell how far they are
        "trainwatt_run_forecast_emissions_grams",
        "trainwatt_run_forecast_end_timestamp_seconds",
        "trainwatt_run_settled_emissions_grams",  # it has just begun: nothing is priced again yet
        "trainwatt_run_settled_ratio",
        "trainwatt_grid_forecast_intensity_grams_per_kilowatthour",  # no provider is asked
        "trainwatt_grid_forecast_error_ratio",
        "trainwatt_grid_fetch_failures_total",
        "trainwatt_grid_fetch_last_success_timestamp_seconds",
        "trainwatt_run_marginal_emissions_grams_total",
        "trainwatt_run_embodied_emissions_grams_total",  # it was not told what making the devices emitted
        "trainwatt_run_market_emissions_grams_total",  # nor of contracts, prices and water
        "trainwatt_market_intensity_grams_per_kilowatthour",
        "trainwatt_run_cost_total",
        "trainwatt_run_budget_cost",
        "trainwatt_electricity_price_per_kilowatthour",
        "trainwatt_run_water_liters_total",
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.series)
def test_names_follow_the_rules(metric: object) -> None:
    """Base units, no unit or type smuggled into a name, no label that a scrape configuration sets."""
    metric = next(m for m in METRICS if m is metric)
    stem = metric.stem.split("_")

    assert not {"kwh", "kilowatthours", "percent", "milliwatts", "milliseconds", "counter", "gauge"} & set(stem)
    assert metric.unit in {
        "",
        "joules",
        "watts",
        "grams",
        "seconds",
        "ratio",
        "bytes",
        "celsius",
        "liters",
        "grams_per_kilowatthour",
        "per_kilowatthour",
    }
    assert not {"job", "instance", "zone", "region", "cluster", "type", "owner", "service", "env"} & set(metric.labels)
    assert not metric.stem.endswith(("total", "info"))
    assert metric.help.endswith(".")
    assert metric.type in set(Type)


def test_idle_and_projects_are_series() -> None:
    """Idle joules of runs and idle power where they are known; joules and grams of projects, methods apart."""
    entry = totals(demo(), idle_j={Component.GPU: 100.0})
    gpu = device(GPU, Component.GPU)._replace(idle=Idle(power_w=61.5), pending_j=7.0)
    kinds = {(Component.GPU, Method.COUNTER): 5.0, (Component.CPU, Method.ESTIMATED): 2.0}
    project = ProjectTotals(energy_j=kinds, emissions_g={(Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): 0.5})
    known = snapshot(entry, devices={GPU: gpu, CPU: device(CPU, Component.CPU)})
    shown = SnapshotHolder(replace(known, projects={"p": project}))
    lines = Exposition(shown).render("")[0].decode().splitlines()

    assert {
        'trainwatt_run_idle_energy_joules_total{component="gpu",ledger="ledger-1",run="demo-1"} 100.0',
        f'trainwatt_device_idle_power_watts{{component="gpu",device="{GPU}"}} 61.5',
        f'trainwatt_device_pending_energy_joules{{component="gpu",device="{GPU}"}} 7.0',
        f'trainwatt_device_pending_energy_joules{{component="cpu",device="{CPU}"}} 0.0',
        'trainwatt_project_energy_joules_total{component="gpu",method="counter",project="p"} 5.0',
        'trainwatt_project_energy_joules_total{component="cpu",method="estimated",project="p"} 2.0',
        'trainwatt_project_emissions_grams_total{basis="lifecycle",method="counter",project="p",quality="static"} 0.5',
    } == {line for line in lines if re.match(r"trainwatt_(\w*idle|project|device_pending)", line)}


@dataclass
class SnapshotHolder:
    """A published snapshot."""

    snapshot: Snapshot


def test_gzip_when_asked(served: Daemon) -> None:
    """A scraper that takes gzip gets it; another gets plain text."""
    _, headers, body = served.get("/metrics", {"Accept-Encoding": "gzip"})

    assert headers["content-encoding"] == "gzip"
    assert b"trainwatt_device_energy_joules_total" in gzip.decompress(body)
    assert served.get("/metrics")[1].get("content-encoding") is None


def test_a_read_has_no_effect(tmp_path: Path) -> None:
    """Many scrapes, probes and API calls between two turns see the same numbers."""
    with daemon("--mock", "--zone", "DE", "--interval", "30", log=tmp_path / "log") as slow:
        seen = {slow.metrics() for _ in range(5)}
        for _ in range(5):
            slow.get("/-/healthy")
            slow.get("/api/v1/snapshot")
        seen.add(slow.metrics())

    assert len(seen) == 1


def test_everything_simulated_says_so(served: Daemon) -> None:
    """On the mock every series with a method says simulated, every device id starts with mock-, the API says so."""
    for family in parse_text(served.metrics()):
        for sample in family.samples:
            assert sample.labels.get("method", "simulated") == "simulated"
            assert sample.labels.get("device", "mock-").startswith("mock-")

    assert served.snapshot()["simulated"] is True


def test_health_and_readiness(served: Daemon) -> None:
    """Probes answer 200 with words; what is not there is 404; nothing can be posted."""
    assert [served.get(path)[0] for path in ("/-/healthy", "/-/ready", "/", "/nothing")] == [200, 200, 200, 404]


def test_the_snapshot_agrees_with_the_metrics(served: Daemon) -> None:
    """API and exposition show one snapshot: the same device has the same joules in both."""
    for _ in range(20):  # until both answers fall into one turn
        before = served.snapshot()
        text = served.metrics()
        if served.snapshot()["at"] == before["at"]:
            break
    joules = {
        sample.labels["device"]: sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == "trainwatt_device_energy_joules_total"
    }

    assert {device["id"]: device["energy_j"]["simulated"] for device in before["devices"]} == pytest.approx(joules)
    assert json.dumps(before, allow_nan=False)


def test_an_estimate_never_merges_into_what_is_measured(tmp_path: Path) -> None:
    """Estimated joules carry their method and band on their own series; the node's measured figures stay absent."""
    (tmp_path / "sys").mkdir()
    arguments = ("--sysfs", str(tmp_path / "sys"), "--estimate-cpu-tdp", "280", "--zone", "DE")
    with daemon(*arguments, log=tmp_path / "log") as estimating:
        text = estimating.metrics()

    assert 'trainwatt_device_energy_joules_total{component="cpu",device="cpu-estimate",method="estimated"}' in text
    assert 'trainwatt_device_energy_error_ratio{component="cpu",device="cpu-estimate"} 0.3' in text
    assert "trainwatt_node_measured" not in text
    assert 'method="counter"' not in text
