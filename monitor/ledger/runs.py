"""Runs and their totals as JSON and back. Every float comes back bit for bit, for `repr` is exact."""

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Instant, Method, Phase, Progress, Quality, Run
from monitor.core.snapshot import EmissionsKey, RunTotals

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def rebased(instant: Instant, now: Instant) -> Instant:
    """A moment of an earlier boot on this boot's steady clock, by wall time; negative before it booted."""
    return Instant(now.mono_s - (now.wall_s - instant.wall_s), instant.wall_s)


def run_text(run: Run) -> str:
    """A run, without its totals."""
    progress = run.progress
    return encode(
        {
            "id": run.id,
            "name": run.name,
            "start": _pair(run.start),
            "resumed": _pair(run.resumed),
            "before_s": run.before_s,
            "end": _pair(run.end),
            "holds": sorted(run.holds),
            "user": run.user,
            "project": run.project,
            "launcher": run.launcher,
            "job_id": run.job_id,
            "tags": run.tags,
            "phases": [(phase.name, phase.since_mono_s) for phase in run.phases],
            "progress": (progress.steps, progress.tokens, progress.samples, progress.done_ratio),
            "memory": run.memory,
        }
    )


def totals_text(totals: RunTotals) -> str:
    """The totals of a run, without what describes it."""
    return encode(
        {
            "energy_j": [(*key, joules) for key, joules in totals.energy_j.items()],
            "emissions_g": [(*key, grams) for key, grams in totals.emissions_g.items()],
            "phase_j": dict(totals.phase_j),
            "unpriced_j": totals.unpriced_j,
            "recovered_j": totals.recovered_j,
            "held_s": totals.held_s,
            "measured_s": totals.measured_s,
            "power_w": totals.power_w,
            "duration_s": totals.duration_s,
        }
    )


def totals_of(run: str, totals: str) -> RunTotals:
    """What the two texts tell. Raises ValueError for words of another version."""
    told = json.loads(totals)
    energy_j = {(Component(c), Method(m), ShareKind(s)): joules for c, m, s, joules in told["energy_j"]}
    return RunTotals(
        run=_run(json.loads(run)),
        energy_j=MappingProxyType(energy_j),
        emissions_g=emissions_of(told["emissions_g"]),
        phase_j=MappingProxyType(told["phase_j"]),
        unpriced_j=told["unpriced_j"],
        recovered_j=told["recovered_j"],
        held_s=told["held_s"],
        measured_s=told["measured_s"],
        power_w=told["power_w"],
        duration_s=told["duration_s"],
    )


def emissions_of(told: list[list[Any]]) -> Mapping[EmissionsKey, float]:
    """Grams by method, basis and quality."""
    return MappingProxyType({(Method(m), Basis(b), Quality(q)): grams for m, b, q, grams in told})


def on_this_boot(totals: RunTotals, now: Instant) -> RunTotals:
    """A run of an earlier boot, its moments on the clock of this one."""
    run = totals.run
    shift_s = now.mono_s - (now.wall_s - run.since.wall_s) - run.since.mono_s
    moved = replace(
        run,
        start=rebased(run.start, now),
        resumed=rebased(run.resumed, now) if run.resumed else None,
        end=rebased(run.end, now) if run.end else None,
        # A phase has no wall time; it moves with the stretch that it is of.
        phases=tuple(replace(phase, since_mono_s=phase.since_mono_s + shift_s) for phase in run.phases),
    )
    return replace(totals, run=moved)


def _run(told: dict[str, Any]) -> Run:
    steps, tokens, samples, done_ratio = told["progress"]
    start = _instant(told["start"])
    if start is None:
        raise ValueError("a run without a start")
    return Run(
        id=told["id"],
        name=told["name"],
        start=start,
        resumed=_instant(told["resumed"]),
        before_s=told["before_s"],
        end=_instant(told["end"]),
        holds=frozenset(told["holds"]),
        user=told["user"],
        project=told["project"],
        launcher=told["launcher"],
        job_id=told["job_id"],
        tags=tuple((name, value) for name, value in told["tags"]),
        phases=tuple(Phase(name, since_mono_s) for name, since_mono_s in told["phases"]),
        progress=Progress(steps=steps, tokens=tokens, samples=samples, done_ratio=done_ratio),
        memory=told["memory"],
    )


def _pair(instant: Instant | None) -> tuple[float, float] | None:
    return None if instant is None else (instant.mono_s, instant.wall_s)


def _instant(pair: list[float] | None) -> Instant | None:
    return None if pair is None else Instant(pair[0], pair[1])
