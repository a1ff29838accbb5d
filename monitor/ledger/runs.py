"""Runs and their totals as JSON and back. Every float comes back bit for bit, for `repr` is exact."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Hold, Instant, Method, Phase, Progress, Quality, Run
from monitor.core.snapshot import EmissionsKey, RunTotals

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


Shown = Callable[[Run], Run]
"""A run as it is to be shown now: by another setting its user was shown otherwise."""


def as_it_is(run: Run) -> Run:
    """Unchanged."""
    return run


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
            "spells": run.spells,
            "slices": sorted(run.slices),
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
            "idle_j": dict(totals.idle_j),
            "unpriced_j": totals.unpriced_j,
            "recovered_j": totals.recovered_j,
            "held_s": totals.held_s,
            "measured_s": totals.measured_s,
            "power_w": totals.power_w,
            "duration_s": totals.duration_s,
        }
    )


def totals_of(run: str, totals: str, shown: Shown = as_it_is) -> RunTotals:
    """What the two texts tell; what version 1 did not know is absent. Raises ValueError for words of another one."""
    told = json.loads(totals)
    energy_j = {(Component(c), Method(m), ShareKind(s)): joules for c, m, s, joules in told["energy_j"]}
    return RunTotals(
        run=shown(_run(json.loads(run))),
        energy_j=MappingProxyType(energy_j),
        emissions_g=emissions_of(told["emissions_g"]),
        phase_j=MappingProxyType(told["phase_j"]),
        idle_j=MappingProxyType({Component(c): joules for c, joules in told.get("idle_j", {}).items()}),
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
        # Spells and phases have no wall time; they move with the stretch that they are of.
        spells=tuple(_moved(spell, shift_s) for spell in run.spells),
        phases=tuple(replace(phase, since_mono_s=phase.since_mono_s + shift_s) for phase in run.phases),
    )
    return replace(totals, run=moved)


def _moved(spell: Hold, shift_s: float) -> Hold:
    until_s = spell.until_mono_s
    return Hold(spell.device_id, spell.since_mono_s + shift_s, None if until_s is None else until_s + shift_s)


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
        spells=tuple(Hold(*spell) for spell in told.get("spells", ())),
        slices=frozenset(told.get("slices", ())),
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
