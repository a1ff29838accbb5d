"""Our joules against the truth, in virtual time: the real source, supervisor and fold on the stand-in driver.

A window's energy is the difference of the snapshot's joules at the readings nearest its edges; the truth is the closed
form between those readings' own times. GPU only.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import pynvml

from monitor.core.model import Run
from monitor.core.snapshot import Snapshot
from tests.bench import node
from tests.bench.report import Verdict, table
from tests.drivers import nvml
from tests.harness.rig import Rig

TITLE = (
    "accuracy: |error| in % of the truth, mean / max over 8 phases of load and counter and 10 windows each;\n"
    f"GPU square {node.HIGH_W:g}/{node.LOW_W:g} W, virtual time, truth at the readings' own times. "
    "Our own error only: a real sensor's gain error (-8 to +4 %) comes on top"
)
REMARK = (
    "(readings fall on whole seconds and the counter and power refresh every 0.1 s: loads of 0.1, 1 and 2.9 s beat "
    "with them,\nwhich cancels edges for the one and aliases the other; 0.37 s is the ordinary case)"
)
PERIODS_S = (0.1, 0.37, 1.0, 2.9)
WINDOWS_S = (2, 5, 20, 60)
BUDGETS = {5: 0.01, 60: 0.001}
"""Window in s: relative error, beside one counter period x power step at each edge. Devices with a counter only."""
BEGIN_S, SETTLE_S = 1000.0, 10.0
STARTS_S = tuple(SETTLE_S + 3.37 * number for number in range(10))
"""Windows begin so long after the rig does."""

Series = list[tuple[float, float]]
"""(moment of the reading in s, joules booked so far), by time."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What the GPUs offer."""

    name: str
    gpu: nvml.FakeGpu
    counter: bool = False


MODES = (
    Mode("energy counter", nvml.FakeGpu(), counter=True),
    Mode("no counter, 1 s average power", nvml.FakeGpu()),
    Mode("no counter, instant power", nvml.FakeGpu(name="Tesla P100-SXM2-16GB", arch=4, usage="instant")),
)


RUNS = Mode("runs, at their own edges", nvml.FakeGpu(), counter=True)
"""Registered runs: their start and end trigger readings, and the truth is that between the edges themselves."""
APART_S = 3.37


@dataclass(slots=True)
class Errors:
    """Relative errors of one mode and window, by load period."""

    by_period: dict[float, list[float]] = field(default_factory=dict)
    beyond: int = 0
    """How many exceed the budget, edges allowed for."""

    def cells(self) -> list[str]:
        """Mean / max of |error| in %, for each period and for all."""
        every = [error for errors in self.by_period.values() for error in errors]
        return [mean_and_max(errors) for errors in (*self.by_period.values(), every)]


def _driver(config: Path, mode: Mode, period_s: float) -> nvml.FakeDriver:
    """Eight GPUs under one load, each in a phase of its own."""
    os.environ[nvml.CONFIG_VARIABLE] = str(config)
    driver = nvml.FakeDriver(config, [mode.gpu] * node.GPUS, virtual_s=BEGIN_S)
    for gpu in range(node.GPUS):
        driver.change_gpu(gpu, counter_phase_s=(3 * gpu % node.GPUS) / node.GPUS * mode.gpu.counter_period_s)
        driver.wave(gpu, BEGIN_S / 2 + period_s * gpu / node.GPUS, node.load(period_s))
    if not mode.counter:
        driver.fault(node.ENERGY, node.NOT_SUPPORTED)
    return driver


def mean_and_max(errors: list[float]) -> str:
    """Of |error|, in %."""
    sizes = [100 * abs(error) for error in errors]
    return f"{fmean(sizes):.3f} / {max(sizes):.3f}"


def measure(scratch: Path, *, markdown: bool) -> str:
    """Every mode x window x load, as a table."""
    nvml.preload(nvml.build(scratch))
    headings = ["", "window", *(f"{period:g} s load" for period in PERIODS_S), "all loads", "budget", ""]
    rows: list[list[str]] = []
    for mode in MODES:
        found = {window_s: Errors() for window_s in WINDOWS_S}
        for period_s in PERIODS_S:
            with _metered(scratch / "accuracy.conf", mode, period_s) as (driver, series):
                for window_s, errors in found.items():
                    _judge(driver, series, errors, mode=mode, period_s=period_s, window_s=window_s)
        rows += [_row(mode, window_s, errors) for window_s, errors in found.items()]
    runs = {window_s: Errors() for window_s in WINDOWS_S}
    for period_s in PERIODS_S:
        _judge_runs(scratch / "accuracy.conf", runs, period_s)
    rows += [_row(RUNS, window_s, errors) for window_s, errors in runs.items()]
    return f"{table(headings, rows, markdown=markdown)}\n{REMARK}"


def _row(mode: Mode, window_s: int, errors: Errors) -> list[str]:
    budget, verdict = "", Verdict.NONE
    if mode.counter and window_s in BUDGETS:
        budget = f"{100 * BUDGETS[window_s]:g} % + edges"
        verdict = Verdict.OVER if errors.beyond else Verdict.PASS
    return [mode.name, f"{window_s} s", *errors.cells(), budget, verdict]


def _judge_runs(config: Path, found: dict[int, Errors], period_s: float) -> None:
    """Ten runs a window on each of eight GPUs, one after the other."""
    driver = _driver(config, RUNS, period_s)
    rig = Rig(driver=driver, begin_s=BEGIN_S)
    with released():
        rig.go(SETTLE_S)
        for window_s, errors in found.items():
            sizes = errors.by_period.setdefault(period_s, [])
            for _ in STARTS_S:
                rig.go(APART_S)
                runs = [
                    Run(id=f"{gpu}", name="", start=rig.now(), holds=frozenset({driver.uuid(gpu)}))
                    for gpu in range(node.GPUS)
                ]
                rig.book[:] = runs
                rig.edge()
                rig.go(window_s)
                end = rig.now()
                rig.book[:] = [replace(run, end=end) for run in runs]
                snapshot = rig.edge()
                for gpu, run in enumerate(runs):
                    true_j = driver.true_energy_j(gpu, run.start.mono_s, end.mono_s)
                    error_j = sum(snapshot.runs[run.id].energy_j.values()) - true_j
                    sizes.append(error_j / true_j)
                    edges_j = 2 * RUNS.gpu.counter_period_s * (node.HIGH_W - node.LOW_W)
                    budget_j = BUDGETS.get(window_s, 1.0) * true_j + edges_j
                    errors.beyond += abs(error_j) > budget_j
                rig.book.clear()
                rig.go(0.0)


@contextlib.contextmanager
def _metered(config: Path, mode: Mode, period_s: float) -> Iterator[tuple[nvml.FakeDriver, list[Series]]]:
    """Meter eight GPUs under one load, each in a phase of its own: the driver, and what was booked by when."""
    driver = _driver(config, mode, period_s)
    series: list[Series] = [[] for _ in range(node.GPUS)]

    rig = Rig(driver=driver, begin_s=BEGIN_S)

    def note(_snapshot: Snapshot) -> None:
        for gpu, booked in enumerate(series):
            booked.append((rig.read_at_s(driver.uuid(gpu)), rig.energy_j(driver.uuid(gpu))))

    with released():
        rig.go(STARTS_S[-1] + WINDOWS_S[-1] + 1.0, each_turn=note)
        yield driver, series


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Leave the library shut: it counts initialisations, and one left over would keep the next case from starting."""
    try:
        yield
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            while True:
                pynvml.nvmlShutdown()


def _judge(
    driver: nvml.FakeDriver, series: list[Series], errors: Errors, *, mode: Mode, period_s: float, window_s: int
) -> None:
    edge_j = driver.gpus[0].counter_period_s * (node.HIGH_W - node.LOW_W)
    for gpu, booked in enumerate(series):
        for start_s in STARTS_S:
            begin, end = nearest(booked, BEGIN_S + start_s), nearest(booked, BEGIN_S + start_s + window_s)
            true_j = driver.true_energy_j(gpu, begin[0], end[0])
            error_j = end[1] - begin[1] - true_j
            errors.by_period.setdefault(period_s, []).append(error_j / true_j)
            if mode.counter and abs(error_j) > BUDGETS.get(window_s, 1.0) * true_j + 2 * edge_j:
                errors.beyond += 1


def nearest(series: Series, at_s: float) -> tuple[float, float]:
    """The reading nearest a moment."""
    return min(series, key=lambda reading: abs(reading[0] - at_s))
