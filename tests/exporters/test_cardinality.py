"""How many series there are: the formulas of METRICS.md against what is exported, by a daemon and at the caps."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from dashboards import cardinality
from dashboards.cardinality import CASES, counts_of, most
from exporters.prometheus import Exposition
from monitor.core.attribution import ShareKind
from monitor.core.crosscheck import CrossCheck
from monitor.core.model import (
    Basis,
    Component,
    Device,
    FeedHealth,
    GridState,
    Instant,
    Intensity,
    LedgerHealth,
    Method,
    Outlook,
    Progress,
    Quality,
    Rate,
    Run,
    Settled,
    Signal,
    SourceHealth,
    Telemetry,
)
from monitor.core.snapshot import (
    NO_PROJECT,
    OTHER_PROJECTS,
    Budget,
    DeviceTotals,
    Policy,
    Projection,
    ProjectTotals,
    RunTotals,
    Snapshot,
)
from monitor.core.waiting import Idle
from monitor.errors import FeedError
from monitor.grid import settler
from monitor.metrics import METRICS
from monitor.runs.book import Limits
from monitor.runs.entry import MOST_PHASE_NAMES
from tests.drivers.feedserver import FeedServer
from tests.e2e.test_grid import half_hours
from tests.harness import poll
from tests.harness.daemon import daemon

ROOT = Path(__file__).parents[2]
AT = Instant(1e5, 1_790_000_000.0)
SIGNALS = tuple(Signal)
SETTINGS = """
market_intensity = 47.0
water_liters_per_kilowatthour = 1.8
price = {{currency = "EUR", flat = 0.31}}
zone = "GB"

[feed.neso]
base_url = "{url}"

[embodied.gpu]
kilograms = 150
years = 4

[budget]
cost = 40
"""
NOT_ON_THE_MOCK = {
    "trainwatt_device_idle_power_watts",  # nothing tells its processes, so that it was never seen idle
    "trainwatt_run_idle_energy_joules_total",
    "trainwatt_device_energy_crosscheck_ratio",  # there is one sensor to believe
    "trainwatt_run_end_timestamp_seconds",  # its runs go on for ever
    "trainwatt_run_settled_emissions_grams",  # it has just begun: nothing is priced again yet
    "trainwatt_run_settled_ratio",
    "trainwatt_run_forecast_energy_joules",  # nor is a hundredth of anything done
    "trainwatt_run_forecast_emissions_grams",
    "trainwatt_run_forecast_end_timestamp_seconds",
    "trainwatt_run_marginal_emissions_grams_total",  # the feed does not tell it
    "trainwatt_grid_forecast_error_ratio",  # no forecast has met what came yet
    "trainwatt_grid_revisions_total",
    "trainwatt_grid_fetch_failures_total",  # nothing fails
    "trainwatt_source_failures_total",
}
"""Present on a node with real sensors and some history."""


def samples(exposition: str) -> Counter[str]:
    """How many there are of each series name."""
    return Counter(re.findall(r"^(\w+)(?:\{.*\})? \S+$", exposition, flags=re.MULTILINE))


def test_a_node_stays_within_the_budget() -> None:
    """Eight GPUs and ten runs with everything set up: under 1,000 samples, DESIGN section 10."""
    counts = counts_of(CASES.index("10 runs"))

    assert ("8", "10") == (str(counts["G"]), str(counts["R"]))
    assert sum(most(metric, counts) for metric in METRICS) < 1000


def test_the_caps_are_those_of_the_code() -> None:
    """What the last column says of runs, phases and settled figures is what the code allows."""
    counts, limits = counts_of(CASES.index("at the caps")), Limits()

    assert counts["R"] == limits.live + limits.ended
    assert counts["P"] == MOST_PHASE_NAMES + 1
    assert counts["N"] == limits.live * counts["G"]
    assert counts["W"] == settler.MOST_RUNS


def test_the_table_says_what_the_formulas_come_to() -> None:
    """METRICS.md has the sums of this code: every metric, every case."""
    text = (ROOT / "METRICS.md").read_text("utf-8")
    sums = [sum(most(metric, counts_of(case)) for metric in METRICS) for case in range(len(CASES))]

    assert f"| all of them | | {' | '.join(f'{number:,}' for number in sums)} |" in text


def test_a_real_daemon_has_no_more_and_hardly_less(tmp_path: Path) -> None:
    """Eight simulated GPUs, two runs, a feed, a price, budgets: each metric within its bound, the sum within 8 %.

    Each of the runs has begun one of its three phases, tells either tokens or samples, and is still described once.
    """
    file = tmp_path / "settings.toml"
    counts = counts_of(CASES.index("2 runs"))
    counts["K"] = 2  # reasons that the mock counts
    counts["N"] = 7 + 4  # its last GPU is free; its runs also hold packages and DRAM, which on a real node nobody does
    counts["T"] = 1
    with FeedServer() as provider:
        provider.answer_with(half_hours)
        file.write_text(SETTINGS.format(url=provider.base_url))
        env = {"TRAINWATT_FEED_NESO_BASE_URL": provider.base_url}
        with daemon("--mock", "training", "--config", str(file), log=tmp_path / "log", env=env) as served:

            def shown() -> Counter[str] | None:
                found = samples(served.metrics())
                named = {metric.series for metric in METRICS if most(metric, counts) > 0}
                return found if named - found.keys() <= NOT_ON_THE_MOCK else None

            found = poll.until(shown, what="every metric that the mock has", within_s=60)
    bounds = {metric.series: most(metric, counts) for metric in METRICS if metric.series in found}

    assert {name: count for name, count in found.items() if count > bounds[name]} == {}
    assert sum(bounds.values()) * 0.92 <= found.total() <= sum(bounds.values())


@dataclass
class Published:
    """A snapshot to be looked at."""

    snapshot: Snapshot


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_the_table_says(case: str) -> None:
    """As many of everything as the column says, in the real exposition: no metric has more, the sum is within 5 %."""
    counts = counts_of(CASES.index(case))
    body, _content_type = Exposition(Published(full(counts))).render("")
    found = samples(body.decode())
    bounds = {metric.series: most(metric, counts) for metric in METRICS if most(metric, counts) > 0}
    absent = {
        "trainwatt_run_end_timestamp_seconds": counts["R"] <= Limits().live,  # none has ended
        "trainwatt_run_marginal_emissions_grams_total": counts["Y"] == 1,  # no feed tells them
    }

    assert {name: count for name, count in found.items() if count > bounds[name]} == {}
    assert bounds.keys() - found.keys() == {name for name, is_absent in absent.items() if is_absent}
    assert sum(bounds.values()) * 0.95 <= found.total() <= sum(bounds.values())


def full(counts: dict[str, int]) -> Snapshot:
    """A snapshot with so many of everything."""
    methods, bases = list(Method)[: counts["M"]], list(Basis)[: counts["B"]]
    qualities = list(Quality)[: counts["Q"]]
    shares, components = list(ShareKind)[: counts["S"]], (Component.GPU, Component.CPU, Component.DRAM)
    emissions = dict.fromkeys(product(methods, bases, qualities), 1.0)
    devices = [_device(f"gpu-{number}", Component.GPU, counts) for number in range(counts["G"])]
    devices += [_device(f"zone-{n}", components[1 + n % 2], counts) for n in range(counts["D"] - counts["G"])]
    devices += [_device(f"over-{n}", Component.PLATFORM, counts, within="node") for n in range(counts["O"])]
    alive = min(counts["R"], Limits().live)
    gpus = frozenset(entry.device.id for entry in devices[: counts["N"] // alive])
    runs = [
        RunTotals(
            run=_run(f"run-{number}", gpus, end=None if number < alive else AT),
            energy_j=dict.fromkeys(product(components, methods, shares), 1.0),
            emissions_g=emissions,
            phase_j={f"phase-{phase}": 1.0 for phase in range(counts["P"])},
            idle_j=dict.fromkeys(components, 1.0),
            held_s=1.0,
            power_w=1.0,
        )
        for number in range(counts["R"])
    ]
    zones = [f"zone-{number}" for number in range(counts["Z"])]
    projects = [NO_PROJECT, OTHER_PROJECTS, *(f"project-{number}" for number in range(counts["J"] - 2))]
    energy = dict.fromkeys(product(components, methods), 1.0)
    reasons = tuple((reason, 1) for reason in sorted(FeedError.REASONS))[: counts["X"]]
    return Snapshot(
        ledger_id="ledger",
        policy=Policy(
            embodied_g_per_s={"gpu": 1.0},
            market_grams_per_kilowatthour=1.0,
            water_liters_per_kilowatthour=1.0,
            currency="EUR",
            budget=Budget(1.0, 1.0, 1.0),
        ),
        at=AT,
        devices={entry.device.id: entry for entry in devices},
        runs={entry.run.id: entry for entry in runs},
        projections={entry.run.id: Projection(AT.wall_s, 1.0, 1.0) for entry in runs},
        node_energy_j=energy,
        node_power_w=1.0,
        node_emissions_g=emissions,
        projects=dict.fromkeys(projects, ProjectTotals(energy_j=energy, emissions_g=emissions)),
        sources=tuple(
            SourceHealth(source=f"source-{n}", last_success=AT, read_duration_s=1.0, failures=reasons)
            for n in range(counts["T"])
        ),
        intensities=tuple(_intensity(zone, signal) for zone in zones for signal in SIGNALS[: counts["Y"]]),
        grid=GridState(
            feeds=tuple(
                FeedHealth(provider=f"provider-{n}", zone=zone, last_success_s=1.0, failures=reasons)
                for n in range(counts["F"])
                for zone in zones
            ),
            rates=(Rate(1.0, 0.0, 2e9),),
            outlooks=tuple(_outlook(zone) for zone in zones),
            settled={
                f"old-{number}": Settled(
                    emissions_g=dict.fromkeys(bases, 1.0),
                    energy_j=1.0,
                    final_j=1.0,
                    priced_at_s=1.0,
                    run=_run(f"old-{number}", gpus, end=AT),
                )
                for number in range(counts["W"])
            },
            revisions=dict.fromkeys(zones, 1),
        ),
        ledger=LedgerHealth(lag_s=1.0),
    )


def _device(device_id: str, component: Component, counts: dict[str, int], *, within: str = "") -> DeviceTotals:
    is_gpu = component is Component.GPU
    told = Telemetry(
        power_limit_w=1.0,
        utilization_ratio=1.0,
        memory_used_bytes=1,
        temperature_c=1.0,
        throttled_s=tuple((f"reason-{number}", 1.0) for number in range(counts["K"])),
    )
    return DeviceTotals(
        device=Device(id=device_id, component=component, source="source-0", max_power_w=1.0, within=within),
        energy_j=dict.fromkeys(list(Method)[: counts["M"]], 1.0),
        last_at=AT,
        power_w=1.0,
        idle=Idle(power_w=1.0),
        telemetry=told if is_gpu else Telemetry(),
        crosscheck=CrossCheck(ratio=1.0 if is_gpu else None),
    )


def _run(run_id: str, holds: frozenset[str], *, end: Instant | None) -> Run:
    told = Progress(steps=1, tokens=1, samples=1, done_ratio=0.5)
    return Run(id=run_id, name="run", start=AT, end=end, holds=holds, progress=told)


def _intensity(zone: str, signal: Signal) -> Intensity:
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=1.0,
        basis=Basis.LIFECYCLE,
        quality=Quality.ACTUAL,
        provider="provider-0",
        signal=signal,
        valid_from_s=0.0,
        valid_until_s=2e9,
    )


def _outlook(zone: str) -> Outlook:
    return Outlook(
        zone=zone,
        provider="provider-0",
        basis=Basis.LIFECYCLE,
        signal=Signal.AVERAGE,
        issued_at_s=0.0,
        slots=(Rate(1.0, 0.0, 2e9),),
        error_ratio=0.1,
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.series)
def test_every_symbol_is_explained(metric: object) -> None:
    """A formula has no symbol that the table does not count."""
    (found,) = [one for one in METRICS if one is metric]
    symbols = set(re.findall(r"[A-Z]", cardinality.formula(found)))

    assert symbols <= cardinality.COUNTS.keys()
