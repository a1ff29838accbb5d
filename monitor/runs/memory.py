"""What the ledger kept of a run, read and brought to life by the daemon after the one that wrote it. No I/O."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from monitor.core.model import Hold, Instant, Phase, Run
from monitor.runs.entry import FORMAT, NOBODY, Entry
from monitor.runs.found import Occupied
from monitor.runs.identity import Process
from monitor.runs.tally import Tally

FORMATS = (1, FORMAT)
"""The first had neither keys nor sightings, and what is held was what is allotted."""


def recall(run: Run) -> Entry | None:
    """The run as its memory tells it; None for a memory that cannot be read: then it is nobody's."""
    try:
        told: dict[str, Any] = json.loads(run.memory)
        if told["format"] not in FORMATS:
            return None
        return Entry(
            uid=int(told["uid"]),
            known=run,
            members=_processes(told["members"]),
            hints=[tuple((str(name), str(text)) for name, text in hints) for hints in told["hints"]],
            tally=Tally.load(told["tally"]),
            phase_names={str(name) for name in told["phases"]},
            keys={str(key) for key in told.get("keys", ())},
            sightings={str(key): frozenset(_processes(seen)) for key, seen in dict(told.get("sightings", {})).items()},
            found=bool(told.get("found", False)),
            lasting=bool(told.get("lasting", False)),
            unconfirmed=bool(told.get("unconfirmed", False)),
            was_seen=bool(told.get("was_seen", False)),
            outer=str(told.get("outer", "")),
            raw_job_id=str(told.get("raw_job_id", "")),
            allotted=frozenset(str(device) for device in told.get("allotted", run.holds)),
            occupied={
                str(device): Occupied(float(since_s), frozenset(str(one) for one in slices))
                for device, (since_s, slices) in dict(told.get("occupied", {})).items()
            },
            _shown=run,
        )
    except (ValueError, TypeError, KeyError):
        return None


def owner_of(run: Run) -> int | None:
    """User number of the run's owner; None where its memory does not tell."""
    entry = recall(run)
    return None if entry is None else entry.uid


def restored(run: Run, alive: Callable[[Process], bool], at: Instant | None, *, same_boot: bool) -> Entry:
    """The run as a new daemon finds it: with its living processes; without any it ended at `at`, the last commit.

    A lasting run goes on without, too, until it is confirmed or refuted, but not over a boot.
    """
    entry = recall(run) or Entry(uid=NOBODY, known=run)
    entry.members = {process for process in entry.members if alive(process)}
    entry.sightings = {key: frozenset(filter(alive, seen)) for key, seen in entry.sightings.items()}
    for process in entry.tally.reporters:
        if not alive(process):
            entry.tally.leave(process)
    if run.end is None:
        entry.touch()
        entry.lasting = entry.lasting and same_boot
        entry.unconfirmed = entry.lasting and not entry.processes
        if entry.bereft:
            entry.change(replace(run, end=last_seen(run, at)))
    return entry


def last_seen(run: Run, at: Instant | None) -> Instant:
    """End of a run that ended unseen, after `at`, the last commit."""
    return at if at is not None and at.mono_s > run.since.mono_s else run.since


def shift(entry: Entry, now: Instant, at: Instant | None) -> None:
    """Tell its moments, which are of another boot's steady clock and seen from `at`, by that of this boot."""
    run = entry.known
    last = at or run.end or now
    by_s = (now.mono_s - now.wall_s) - (last.mono_s - last.wall_s)

    def move(moment: Instant) -> Instant:
        return Instant(moment.mono_s + by_s, moment.wall_s)

    entry.change(
        replace(
            run,
            start=move(run.start),
            resumed=None if run.resumed is None else move(run.resumed),
            end=None if run.end is None else move(run.end),
            phases=tuple(Phase(phase.name, phase.since_mono_s + by_s) for phase in run.phases),
            spells=tuple(_moved(spell, by_s) for spell in run.spells),
        )
    )


def _moved(spell: Hold, by_s: float) -> Hold:
    until_s = None if spell.until_mono_s is None else spell.until_mono_s + by_s
    return Hold(spell.device_id, spell.since_mono_s + by_s, until_s)


def _processes(rows: list[Any]) -> set[Process]:
    return {Process(int(pid), int(ticks)) for pid, ticks in rows}
