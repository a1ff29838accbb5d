"""A count in virtual time for the tests of the ledger: two GPUs and a CPU folded by the real fold, and their ledger."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monitor.core.fold import step
from monitor.core.model import (
    Basis,
    Component,
    Device,
    Instant,
    Intensity,
    LedgerState,
    Quality,
    Reading,
    Run,
    RunBook,
    Sample,
    Telemetry,
)
from monitor.core.snapshot import Interval, Policy, Snapshot
from monitor.ledger.ledger import Ledger, open_ledger

BOOT = "boot-1"
EPOCH = "driver-1"
POLICY = Policy(zone="DE", pue_ratio=1.25)
UNIX_AT_BOOT_S = 1_790_000_000.0
DEVICES = (
    Device(id="GPU-a", component=Component.GPU, source="nvml", max_power_w=1000.0, counter_epoch=EPOCH),
    Device(id="GPU-b", component=Component.GPU, source="nvml", max_power_w=1000.0),
    Device(id="package-0", component=Component.CPU, source="rapl", max_power_w=500.0, counter_epoch=EPOCH),
)
FLAT = Intensity(
    zone="DE",
    grams_per_kilowatthour=344.14,
    basis=Basis.LIFECYCLE,
    quality=Quality.STATIC,
    provider="test",
    valid_from_s=float("-inf"),
    valid_until_s=float("inf"),
    detail="2024",
)


class Count:
    """Turns of a second; every device draws a random power by its counter."""

    def __init__(self, *, mono_s: float = 1000.0, seed: int = 1) -> None:
        self.mono_s = mono_s
        self.wall_offset_s = UNIX_AT_BOOT_S
        self.snapshot = Snapshot(ledger_id="none yet", policy=POLICY)
        self.runs: list[Run] = []
        self.intensities: tuple[Intensity, ...] = (FLAT,)
        self.raw_j = {device.id: 0.1 * number for number, device in enumerate(DEVICES)}
        self._random = random.Random(seed)

    def now(self) -> Instant:
        """The virtual present."""
        return Instant(self.mono_s, self.wall_offset_s + self.mono_s)

    def pass_time(self, seconds: float) -> None:
        """Devices draw power, and nobody looks."""
        self.mono_s += seconds
        for device in DEVICES:
            self.raw_j[device.id] += seconds * self._random.uniform(50.0, 400.0)

    def turn(self, seconds: float = 1.0, *, power: bool = True) -> Snapshot:
        """Let time pass, read every device, fold."""
        self.pass_time(seconds)
        at = self.now()
        readings = tuple(
            Reading(
                device=device,
                at=at,
                energy_j=self.raw_j[device.id],
                wraps_at_j=None if device.component is Component.GPU else 2.0**40 / 3,
                power_w=self._random.uniform(50.0, 400.0) if power else None,
                telemetry=Telemetry(utilization_ratio=0.5) if power else None,
            )
            for device in DEVICES
        )
        book = RunBook(runs=tuple(self.runs))
        sample = Sample(at=at, readings=readings, runs=book, intensities=self.intensities)
        self.snapshot = step(self.snapshot, sample)
        return self.snapshot

    def begin(self, run_id: str, *, holds: Sequence[str] = ("GPU-a", "package-0"), **words: Any) -> Run:
        """Start a run now."""
        run = Run(id=run_id, name=f"name of {run_id}", start=self.now(), holds=frozenset(holds), **words)
        self.runs.append(run)
        return run

    def end(self, run_id: str) -> None:
        """End it now."""
        self.runs = [replace(run, end=self.now()) if run.id == run_id else run for run in self.runs]

    def open(self, directory: Path, *, boot_id: str = BOOT, **options: Any) -> Ledger:
        """Open the ledger and go on from it."""
        settings = {"policy": POLICY, "retention_days": None, "state": LedgerState.FILE} | options
        ledger = open_ledger(directory, now=self.now, boot_id=boot_id, **settings)
        self.snapshot = ledger.first
        return ledger

    def keep(self, ledger: Ledger, turns: int = 1) -> Snapshot:
        """So many turns, each offered and committed."""
        for _ in range(turns):
            ledger.offer(self.turn())
            ledger.commit()
        return self.snapshot


def total_j(snapshot: Snapshot, run_id: str) -> float:
    """All joules of a run."""
    return sum(snapshot.runs[run_id].energy_j.values())


def rows_j(intervals: Sequence[Interval]) -> float:
    """All joules of rows."""
    return sum(interval.energy_j for interval in intervals)
