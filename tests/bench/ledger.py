"""The ledger in virtual time: what it weighs on the disk, what a commit and its upkeep cost, how long a report takes.

The fold is left out, for what it does is measured elsewhere: each turn is a snapshot made by hand, of 10 s at a time
where the number of rows is the point (ten turns of a second end in the same rows), of 1 s for the cost of a commit.
"""

import contextlib
import random
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from monitor.core.attribution import ShareKind
from monitor.core.meter import Meter
from monitor.core.model import Basis, Component, Device, Instant, Method, Quality, Reading, Run
from monitor.core.snapshot import DeviceTotals, Interval, Policy, RunTotals, Snapshot
from monitor.core.waiting import Waiting
from monitor.grid.static import StaticGrid
from monitor.ledger.buckets import COARSE_S, FINE_S
from monitor.ledger.compaction import DAY_S
from monitor.ledger.ledger import Ledger, open_ledger
from tests.bench.report import Line
from tests.bench.steady import GPU_IDS, ZONES

BEGIN_UNIX_S = 1.79e9
USAGE_EVERY_S = 5.0
"""CPUs and memory are split so often."""
COMMITS = 1_000
SIZED_DAYS = 4
WEEK_RUNS = 50
TURNS_A_COMMIT = 30
REPORT_DAYS = 90
MIB = 2**20
MOST_BYTES_A_DAY, MOST_REPORT_S = 1e6, 2.0
TITLE = (
    f"ledger: in virtual time, without the fold; 8 GPUs and 2 packages with dram, or 8 GPUs alone; "
    f"commits: {COMMITS} of a second each with synchronous=FULL where the scratch directory is"
)


class Node:
    """Snapshots made by hand: every device draws about 400 W, every run holds what it is given.

    Of CPUs and memory all that are alive have a part; what remains is nobody's, and the last seconds wait.
    """

    def __init__(self, device_ids: Sequence[str]) -> None:
        self.at_s = 0.0
        self.runs: dict[str, RunTotals] = {}
        self._random = random.Random(1)
        self._waits: tuple[Waiting, ...] = ()
        self._prices = StaticGrid("DE").intensities(self.now())
        self._devices = {device_id: _device(device_id) for device_id in device_ids}
        self._energy_j = dict.fromkeys(device_ids, 0.0)

    def now(self) -> Instant:
        """The virtual present."""
        return Instant(self.at_s, BEGIN_UNIX_S + self.at_s)

    def begin(self, run_id: str, holds: Sequence[str]) -> None:
        """Start a run."""
        run = Run(id=run_id, name="experiment", start=self.now(), holds=frozenset(holds), user="ada", launcher="slurm")
        self.runs[run_id] = RunTotals(run=run, energy_j={}, emissions_g={})

    def end(self, run_id: str) -> None:
        """End it; it is no longer shown at the next turn but one."""
        self.runs[run_id] = self.runs[run_id]._replace(run=replace(self.runs[run_id].run, end=self.now()))

    def turn(self, span_s: float) -> Snapshot:
        """One more span of time."""
        self.at_s += span_s
        at = self.now()
        holder = {device_id: one.run.id for one in self.runs.values() if one.active for device_id in one.run.holds}
        active = [one.run.id for one in self.runs.values() if one.active]
        booked = [
            interval
            for device_id in self._devices
            for interval in (
                self._split(device_id, active, at, span_s)
                if device_id in ZONES
                else [self._booked(device_id, holder.get(device_id, ""), at, span_s)]
            )
        ]
        for run_id, one in self.runs.items():
            if one.active:
                mine = [interval.energy_j for interval in booked if interval.run_id == run_id]
                self.runs[run_id] = _more(one, sum(mine), self.at_s)
        return Snapshot(
            ledger_id="bench",
            policy=Policy(zone="DE"),
            at=at,
            devices={device_id: self._totals(device_id, at) for device_id in self._devices},
            runs=MappingProxyType(dict(self.runs)),
            node_emissions_g={(Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): sum(self._energy_j.values()) / 9e3},
            intensities=self._prices,
            booked=tuple(booked),
        )

    def _split(self, device_id: str, run_ids: Sequence[str], at: Instant, span_s: float) -> list[Interval]:
        """By use: a part to each run, and one to nobody."""
        parts = ["", *run_ids]
        each = [self._booked(device_id, run_id, at, span_s, 1 / len(parts)) for run_id in parts]
        return [one._replace(share=ShareKind.USAGE) if one.run_id else one for one in each]

    def _booked(self, device_id: str, run_id: str, at: Instant, span_s: float, part: float = 1.0) -> Interval:
        energy_j = part * self._random.uniform(350.0, 450.0) * span_s
        self._energy_j[device_id] += energy_j
        share = ShareKind.WHOLE if run_id else None
        return Interval(
            run_id=run_id,
            device_id=device_id,
            zone="DE",
            phase="",
            method=Method.COUNTER,
            share=share,
            recovered=False,
            start_wall_s=at.wall_s - span_s,
            end_wall_s=at.wall_s,
            energy_j=energy_j,
            idle_j=0.0,
            measured_s=span_s,
        )

    def _totals(self, device_id: str, at: Instant) -> DeviceTotals:
        device, energy_j = self._devices[device_id], self._energy_j[device_id]
        reading = Reading(device=device, at=at, energy_j=energy_j, power_w=401.3)
        return DeviceTotals(
            device=device,
            energy_j={Method.COUNTER: energy_j},
            attributed_j=energy_j,
            waiting=self._waiting(at) if device_id in ZONES else (),
            meter=Meter(last=reading, counted=reading, still_since=reading),
            last_at=at,
        )

    def _waiting(self, at: Instant) -> tuple[Waiting, ...]:
        """What the next look at the processes will tell the owners of, one interval more each second."""
        first_s = at.mono_s - at.mono_s % USAGE_EVERY_S
        self._waits = tuple(one for one in self._waits if one.start_mono_s >= first_s)
        start_s = self._waits[-1].end_mono_s if self._waits else first_s
        if start_s < at.mono_s:
            offset_s = at.wall_s - at.mono_s
            self._waits += (Waiting(start_s, at.mono_s, offset_s, 401.3, Method.COUNTER, True, True, False),)  # noqa: FBT003
        return self._waits


def _device(device_id: str) -> Device:
    component = ZONES.get(device_id, Component.GPU)
    return Device(
        id=device_id,
        component=component,
        source="nvml",
        max_power_w=1000.0,
        model="NVIDIA H100",
        counter_epoch="driver",
    )


def _more(totals: RunTotals, energy_j: float, at_s: float) -> RunTotals:
    key = (Component.GPU, Method.COUNTER, ShareKind.WHOLE)
    energy_j += totals.energy_j.get(key, 0.0)
    return totals._replace(
        energy_j={key: energy_j},
        emissions_g={(Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): energy_j / 9e3},
        held_s=8 * at_s,
        measured_s=8 * at_s,
        duration_s=at_s - totals.run.start.mono_s,
    )


def _open(node: Node, directory: Path) -> Ledger:
    return open_ledger(directory, now=node.now, policy=Policy(zone="DE"), boot_id="bench", retention_days=None)


def _live(node: Node, ledger: Ledger, seconds: float, *, turn_s: float = FINE_S) -> None:
    """Let time pass, with a commit each so many turns."""
    until_s = node.at_s + seconds
    while node.at_s < until_s:
        for _ in range(TURNS_A_COMMIT):
            ledger.offer(node.turn(turn_s))
        ledger.commit()


def _tend(ledger: Ledger) -> tuple[float, float]:
    """All the upkeep that is due: CPU seconds, and the longest turn's."""
    began_s, longest_s, more = time.thread_time(), 0.0, True
    while more:
        turn_s = time.thread_time()
        more = ledger.tend()
        longest_s = max(longest_s, time.thread_time() - turn_s)
    return time.thread_time() - began_s, longest_s


def _bytes(directory: Path) -> int:
    return (directory / "ledger.sqlite").stat().st_size


def measure(scratch: Path) -> list[Line]:
    """Sizes in bytes, times in s."""
    return [
        *_commits(scratch / "commits"),
        *_size(scratch / "size"),
        *_week(scratch / "week"),
        *_report(scratch / "long"),
    ]


def _commits(directory: Path) -> list[Line]:
    node = Node([*GPU_IDS, *ZONES])
    node.begin("run-1", GPU_IDS[:4])
    node.begin("run-2", GPU_IDS[4:])
    ledger = _open(node, directory)
    costs_s, offers_s = [], []
    for snapshot in [node.turn(1.0) for _ in range(COMMITS)]:
        began_s = time.thread_time()
        ledger.offer(snapshot)
        offered_s = time.thread_time()
        ledger.commit()
        costs_s.append(time.thread_time() - began_s)
        offers_s.append(offered_s - began_s)
    ledger.close()
    costs_s.sort()
    bare_s = _least_commit_s(directory)
    return [
        Line(
            what="CPU of offer and commit, mean, 8 GPUs + 4 zones + 2 runs",
            value=1e3 * sum(costs_s) / COMMITS,
            unit="ms",
            bare=1e3 * bare_s,
            digits=3,
        ),
        Line(what="  99th percentile", value=1e3 * costs_s[COMMITS * 99 // 100], unit="ms", digits=3),
        Line(what="  of it the loop's part (offer)", value=1e3 * sum(offers_s) / COMMITS, unit="ms", digits=3),
    ]


def _least_commit_s(directory: Path) -> float:
    """Mean CPU seconds of a commit of one row, as durable: what SQLite and the disk take anyway."""
    with contextlib.closing(sqlite3.connect(directory / "bare.sqlite", isolation_level=None)) as db:
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE least (joules REAL)"):
            db.execute(statement)
        db.execute("INSERT INTO least VALUES (0.0)")
        began_s = time.thread_time()
        for number in range(COMMITS):
            db.execute("UPDATE least SET joules = ?", (0.1 * number,))
        return (time.thread_time() - began_s) / COMMITS


def _size(directory: Path) -> list[Line]:
    """8 GPUs and one run: growth a day once the days are compacted, beside the two days that are kept fine."""
    node = Node(GPU_IDS)
    node.begin("run", GPU_IDS)
    ledger = _open(node, directory)
    _live(node, ledger, SIZED_DAYS * DAY_S)
    fine_bytes = _bytes(directory)
    rows = ledger.history.intervals("run")
    node.at_s += 3 * DAY_S
    cpu_s, longest_s = _tend(ledger)
    again = ledger.history.intervals("run")
    ledger.close()
    compact_bytes = _compact_bytes(directory)
    return [
        Line(
            what="a day of 8 GPUs and one run, compacted",
            value=compact_bytes / SIZED_DAYS / 1e6,
            unit="MB",
            most=MOST_BYTES_A_DAY / 1e6,
            budget=f"{MOST_BYTES_A_DAY / 1e6:g} MB a day",
        ),
        Line(what="  a day before its compaction", value=fine_bytes / SIZED_DAYS / 1e6, unit="MB"),
        Line(what="  CPU of compacting a day", value=cpu_s / SIZED_DAYS, unit="s"),
        Line(what="  longest turn of upkeep", value=1e3 * longest_s, unit="ms", digits=1),
        Line(
            what="  joules before and after, difference",
            value=abs(sum(row.energy_j for row in rows) / sum(row.energy_j for row in again) - 1),
            unit="",
            digits=12,
        ),
    ]


def _compact_bytes(directory: Path) -> int:
    """Bytes that are in use, without pages that wait for the next rows."""
    with contextlib.closing(sqlite3.connect(directory / "ledger.sqlite")) as db:
        pages, free, size = (
            db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def _week(directory: Path) -> list[Line]:
    """A week of 50 runs, one after another, living as it would: compacted as it grows."""
    node = Node([*GPU_IDS, *ZONES])
    ledger = _open(node, directory)
    began_s = time.perf_counter()
    for number in range(WEEK_RUNS):
        node.begin(f"run-{number}", GPU_IDS)
        _live(node, ledger, 7 * DAY_S / WEEK_RUNS - COARSE_S)
        node.end(f"run-{number}")
        _live(node, ledger, COARSE_S)
        node.runs.clear()
        _tend(ledger)
    took_s = time.perf_counter() - began_s
    opened_s = time.perf_counter()
    ledger.close()
    closed_s = time.perf_counter()
    ledger = _open(node, directory)
    opening_s = time.perf_counter() - closed_s
    ledger.close()
    return [
        Line(what=f"file after a week, 12 devices, {WEEK_RUNS} runs", value=_bytes(directory) / 1e6, unit="MB"),
        Line(what="  to open it", value=opening_s, unit="s", digits=3),
        Line(what="  to close it", value=closed_s - opened_s, unit="s", digits=3),
        Line(what="  wall time of the simulation", value=took_s, unit="s", digits=1),
    ]


def _report(directory: Path) -> list[Line]:
    """A run of 90 days on 8 GPUs and 4 zones: made of coarse rows up to the last two days, as it is after so long."""
    node = Node([*GPU_IDS, *ZONES])
    node.begin("run", GPU_IDS)
    ledger = _open(node, directory)
    _live(node, ledger, (REPORT_DAYS - 2) * DAY_S, turn_s=2 * COARSE_S + FINE_S)
    _live(node, ledger, 2 * DAY_S)
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    found, rows = ledger.history.find("run"), ledger.history.intervals("run")
    took_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
    if found is None:
        raise RuntimeError("the run is not in the ledger")
    off = abs(sum(row.energy_j for row in rows) / sum(found.energy_j.values()) - 1)
    size = _bytes(directory)
    ledger.close()
    return [
        Line(
            what=f"find + intervals of a {REPORT_DAYS}-day run ({len(rows)} rows, file {size / 1e6:.0f} MB)",
            value=took_s,
            unit="s",
            most=MOST_REPORT_S,
            budget=f"{MOST_REPORT_S:g} s for the report",
        ),
        Line(what="  CPU of it", value=cpu_s, unit="s"),
        Line(what="  rows against the totals, difference", value=off, unit="", digits=12),
    ]
