"""Runs as JSON, their totals as the bytes of their numbers, and back. Every float comes back bit for bit."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Hold, Instant, Method, Phase, Progress, Quality, Run
from monitor.core.snapshot import EmissionsKey, Extras, RunTotals

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


Shape = tuple[tuple[Any, ...], ...]
"""Keys of each of a run's sums, in the order of SUMS: they change seldom, the joules behind them with every turn."""

SUMS = ("energy_j", "emissions_g", "phase_j", "idle_j")
PLAIN = ("unpriced_j", "recovered_j", "held_s", "measured_s", "power_w", "duration_s")
_sums, _plain = attrgetter(*SUMS), attrgetter(*PLAIN)
ABSENT = math.nan
"""Stands for a number that there is none of; a sum is never NaN."""


def shape_of(totals: RunTotals) -> Shape:
    """What the numbers of a run stand for."""
    return tuple(map(tuple, _sums(totals)))


def numbers_of(totals: RunTotals) -> bytes:
    """The totals of a run, eight bytes each: its sums in the order of its shape, those of PLAIN, and its extras."""
    numbers: list[float] = []
    for sums in _sums(totals):
        numbers += sums.values()
    numbers += (ABSENT if number is None else number for number in _plain(totals))
    numbers += totals.extras
    return struct.pack(f"<{len(numbers)}d", *numbers)


def totals_of(run: str, shape: str, numbers: bytes, shown: Shown = as_it_is) -> RunTotals:
    """What texts and numbers tell. Raises ValueError for words of another version, or numbers of another shape."""
    keys = json.loads(shape)
    try:
        told = [value for (value,) in struct.iter_unpack("<d", numbers)]
    except struct.error as error:
        raise ValueError(f"numbers of a run cannot be understood: {error}") from error
    if len(told) != sum(map(len, keys)) + len(PLAIN) + len(Extras._fields):
        raise ValueError(f"numbers of a run cannot be understood: {len(told)} do not fit its shape")
    values = iter(told)
    energy_j, emissions_g, phase_j, idle_j = ([*zip(group, islice(values, len(group)), strict=True)] for group in keys)
    unpriced_j, recovered_j, held_s, measured_s, power_w, duration_s, *extras = values
    return RunTotals(
        run=shown(_run(json.loads(run))),
        energy_j=MappingProxyType({(Component(c), Method(m), ShareKind(s)): joules for (c, m, s), joules in energy_j}),
        emissions_g=MappingProxyType({(Method(m), Basis(b), Quality(q)): grams for (m, b, q), grams in emissions_g}),
        phase_j=MappingProxyType(dict(phase_j)),
        idle_j=MappingProxyType({Component(c): joules for c, joules in idle_j}),
        unpriced_j=unpriced_j,
        recovered_j=recovered_j,
        held_s=held_s,
        measured_s=measured_s,
        power_w=None if math.isnan(power_w) else power_w,
        duration_s=duration_s,
        extras=Extras(*extras),
    )


def packed(text: str) -> tuple[str, bytes]:
    """Shape and numbers of the totals as versions 1 and 2 had them: one JSON text, the first without idle joules."""
    told = json.loads(text)
    sums = [
        *([(key, number) for *key, number in told[name]] for name in SUMS[:2]),
        *(list(told.get(name, {}).items()) for name in SUMS[2:]),
    ]
    numbers = [number for group in sums for _key, number in group]
    numbers += [*(ABSENT if told[name] is None else told[name] for name in PLAIN)]
    return encode([[key for key, _number in group] for group in sums]), struct.pack(f"<{len(numbers)}d", *numbers)


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
    return totals._replace(run=moved)


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
