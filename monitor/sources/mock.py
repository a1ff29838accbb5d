"""Simulated devices for machines without sensors: the same pipeline, `method="simulated"` on all of it.

Scenario `training`: a node of 8 GPUs and 2 sockets with two runs. Each run goes through steps, an evaluation and a
checkpoint; the last GPU is free. Deterministic by seed. Every device's energy is the exact integral of its power,
and the power it reports is the mean of the second before the reading.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitor.core.model import (
    Component,
    Device,
    Instant,
    Origin,
    Phase,
    Progress,
    Reading,
    Readout,
    Run,
    RunBook,
    Telemetry,
)
from monitor.core.ports import Now
from monitor.errors import UsageError
from monitor.sources.waveform import Waveform

POWER_WINDOW_S = 1.0
GPU_LIMIT_W = 700.0
GPU_MEMORY_BYTES = 80 * 1024**3
IDLE_AND_PEAK_W = {Component.GPU: (72.0, 640.0), Component.CPU: (96.0, 265.0), Component.DRAM: (14.0, 41.0)}
ROUNDING_S = 1e-9
IDLE_LOAD_RATIO = 1e-6
CAPPED_LOAD_RATIO = 0.95
"""Above so much load the power limit holds a simulated GPU down."""
SCENARIOS = ("training",)

Phases = Sequence[tuple[float, Sequence[tuple[float, float]]]]
"""(how long in s, [(duration in s, load 0..1), ...] repeated meanwhile)."""

PRETRAINING: Phases = (
    (96.0, [(0.34, 0.82), (0.58, 0.97), (0.28, 0.58)]),  # forward, backward, gradient exchange
    (18.0, [(0.45, 0.66), (0.15, 0.40)]),  # evaluation
    (6.0, [(6.0, 0.12)]),  # checkpoint
)
FINETUNING: Phases = (
    (40.0, [(0.22, 0.72), (0.18, 0.25)]),  # a step, then waiting for the data loader
    (10.0, [(0.30, 0.50), (0.20, 0.20)]),
    (4.0, [(4.0, 0.08)]),
)
PHASE_NAMES = ("train", "eval", "checkpoint")
WHOLE_RUN_S = 24 * 3600.0
"""So long the runs mean to train; they go on after that."""
FREE: Phases = ((60.0, [(60.0, 0.0)]),)


@dataclass(frozen=True, slots=True)
class _SimulatedRun:
    name: str
    gpus: range
    socket: int
    phases: Phases
    user: str
    project: str
    per_step: Progress
    """What a step adds."""
    budget: tuple[tuple[str, str], ...]
    """Its tags that say what it may use."""

    def at(self, run: Run, elapsed_s: float) -> Run:
        """The run as it is after so long."""
        lasts_s = [phase_s for phase_s, _loop in self.phases]
        cycles, into_s = divmod(elapsed_s, sum(lasts_s))
        step_s = sum(piece_s for piece_s, _load in self.phases[0][1])
        steps = int(cycles) * int(lasts_s[0] / step_s) + int(min(into_s, lasts_s[0]) / step_s)
        began_s = run.start.mono_s + elapsed_s - into_s
        starts_s = [began_s + sum(lasts_s[:number]) for number in range(len(lasts_s))]
        # The last phase of the round before, and those of this one that have begun.
        changes = [Phase(PHASE_NAMES[-1], starts_s[0] - lasts_s[-1])] if cycles else []
        changes += [Phase(name, start_s) for name, start_s in zip(PHASE_NAMES, starts_s, strict=True)]
        return replace(
            run,
            phases=tuple(phase for phase in changes if phase.since_mono_s <= run.start.mono_s + elapsed_s),
            progress=Progress(
                steps=steps,
                tokens=_times(steps, self.per_step.tokens),
                samples=_times(steps, self.per_step.samples),
                done_ratio=min(1.0, elapsed_s / WHOLE_RUN_S),
            ),
        )


def _times(steps: int, each: int | None) -> int | None:
    return None if each is None else steps * each


GENEROUS = (("budget_co2e_kg", "60"), ("budget_energy_kwh", "150"))
SOON_EXCEEDED = (("budget_co2e_kg", "0.05"), ("budget_energy_kwh", "0.1"))
"""Within some minutes, so that there is something to see."""
RUNS = (
    _SimulatedRun("llm-pretrain", range(4), 0, PRETRAINING, "ada", "language", Progress(tokens=2**19), GENEROUS),
    _SimulatedRun(
        "vision-finetune", range(4, 7), 1, FINETUNING, "grace", "vision", Progress(samples=768), SOON_EXCEEDED
    ),
)


@dataclass(frozen=True, slots=True)
class _Part:
    device: Device
    watts: Waveform
    capped: Waveform
    """1 where the power limit holds it down, else 0: its integral is the time of that."""
    idle_w: float
    peak_w: float


class Mock:
    """A simulated node: a source of readings and the book of its runs."""

    name = "mock"

    def __init__(self, scenario: str, *, now: Now, interval_s: float, seed: int = 0) -> None:
        if scenario not in SCENARIOS:
            known = ", ".join(SCENARIOS)
            raise UsageError(
                f"no scenario and no recording {scenario!r}; there is: {known}, or a file of trainwatt record"
            )
        self.period_s = interval_s
        self._now = now
        self._start = now()
        self._parts = _training_node(random.Random(seed))  # noqa: S311  (a simulation must repeat, not surprise)
        self._runs = tuple(
            Run(
                id=f"mock-{simulated.name}",
                name=simulated.name,
                start=self._start,
                holds=frozenset(
                    [f"mock-gpu-{gpu}" for gpu in simulated.gpus]
                    + [f"mock-package-{simulated.socket}", f"mock-package-{simulated.socket}-dram"]
                ),
                user=simulated.user,
                project=simulated.project,
                launcher="mock",
                tags=simulated.budget,
            )
            for simulated in RUNS
        )

    def runs(self, at: Instant) -> RunBook:
        """The simulated runs."""
        elapsed_s = max(0.0, at.mono_s - self._start.mono_s)
        pairs = zip(RUNS, self._runs, strict=True)
        return RunBook(runs=tuple(simulated.at(run, elapsed_s) for simulated, run in pairs))

    def open(self) -> None:
        """There is nothing to find."""

    def close(self) -> None:
        """Nothing is held open."""

    def read(self) -> Readout:
        """The state of every simulated device at this moment."""
        at = self._now()
        return Readout(readings=tuple(_reading(part, at, at.mono_s - self._start.mono_s) for part in self._parts))


def _reading(part: _Part, at: Instant, elapsed_s: float) -> Reading:
    energy_j = part.watts.energy_j(elapsed_s)
    power_w = (energy_j - part.watts.energy_j(elapsed_s - POWER_WINDOW_S)) / POWER_WINDOW_S
    load_ratio = (power_w - part.idle_w) / (part.peak_w - part.idle_w)
    telemetry = None
    if part.device.component is Component.GPU:
        busy = load_ratio > IDLE_LOAD_RATIO
        telemetry = Telemetry(
            power_limit_w=GPU_LIMIT_W,
            utilization_ratio=min(1.0, 0.35 + 0.65 * load_ratio) if busy else 0.0,
            memory_used_bytes=int(GPU_MEMORY_BYTES * 0.86) if busy else 0,
            temperature_c=round(31.0 + 38.0 * load_ratio, 0),
            throttled_s=(("power", part.capped.energy_j(elapsed_s)), ("thermal", 0.0)),
        )
    return Reading(device=part.device, at=at, energy_j=energy_j, power_w=power_w, telemetry=telemetry)


def _training_node(rng: random.Random) -> tuple[_Part, ...]:
    phases_of_gpu = {gpu: simulated.phases for simulated in RUNS for gpu in simulated.gpus}
    parts = [
        _part(rng, _device(f"mock-gpu-{gpu}", Component.GPU, str(gpu)), phases_of_gpu.get(gpu, FREE))
        for gpu in range(8)
    ]
    for simulated in RUNS:
        package = f"mock-package-{simulated.socket}"
        parts.append(_part(rng, _device(package, Component.CPU, str(simulated.socket)), simulated.phases))
        dram = _device(f"{package}-dram", Component.DRAM, f"{simulated.socket}:0")
        parts.append(_part(rng, dram, simulated.phases))
    return tuple(parts)


def _device(device_id: str, component: Component, index: str) -> Device:
    return Device(
        id=device_id,
        component=component,
        source=Mock.name,
        model=f"Simulated {component}",
        index=index,
        max_power_w=2 * IDLE_AND_PEAK_W[component][1],
        origin=Origin.SIMULATED,
    )


def _part(rng: random.Random, device: Device, phases: Phases) -> _Part:
    gain_ratio = rng.uniform(0.97, 1.03)  # no two cards of one model draw the same
    idle_w, peak_w = (watts * gain_ratio for watts in IDLE_AND_PEAK_W[device.component])
    pieces: list[tuple[float, float]] = []
    for phase_s, loop in phases:
        left_s = phase_s
        while left_s > ROUNDING_S:
            for step_s, load_ratio in loop:
                piece_s = min(step_s, left_s)
                if piece_s > 0.0:
                    noise_ratio = rng.uniform(0.985, 1.015)
                    pieces.append((piece_s, idle_w + load_ratio * noise_ratio * (peak_w - idle_w)))
                left_s -= piece_s
    capped_w = idle_w + CAPPED_LOAD_RATIO * (peak_w - idle_w)
    capped = Waveform([(piece_s, float(power_w > capped_w)) for piece_s, power_w in pieces])
    return _Part(device, Waveform(pieces), capped, idle_w, peak_w)
