"""Who used a device between two looks at its processes, once the owners of the processes are known."""

from collections.abc import Iterable, Mapping

from monitor.core.attribution import COMMON
from monitor.core.model import Processes, Usage
from monitor.core.snapshot import DeviceTotals
from monitor.core.waiting import Look

LONGEST_LOOK_S = 10.0
"""The driver's ring of utilisation samples is overwritten after so long: of what was before, nobody tells."""
MOST_USAGES = 64
MOST_LOOKS = 64
"""More than can be told of what waits: a device that is not read any more needs none."""


def added(looks: tuple[Look, ...], processes: Processes, *, keep_from_s: float) -> tuple[Look, ...]:
    """One more look; those that nothing waits for are dropped."""
    end_s = processes.at.mono_s
    start_s = max(looks[-1].end_mono_s, end_s - LONGEST_LOOK_S) if looks else end_s - LONGEST_LOOK_S
    pids = tuple((process.pid, process.sm_utilization_ratio) for process in processes.processes)
    new = Look(start_s, end_s, pids)
    return (*(look for look in looks if look.end_mono_s > keep_from_s), new)[-MOST_LOOKS:]


def resolved(entry: DeviceTotals, usages: Iterable[Usage]) -> DeviceTotals:
    """The device with its looks told by run, where somebody has looked at the processes since."""
    if all(look.users is not None for look in entry.looks):
        return entry
    return entry._replace(looks=tuple(_resolved(look, usages) for look in entry.looks))


def _resolved(look: Look, usages: Iterable[Usage]) -> Look:
    if look.users is not None:
        return look
    later = next((usage for usage in usages if usage.end.mono_s >= look.end_mono_s), None)
    return look if later is None else look._replace(users=_by_run(look, later.owners))


def _by_run(look: Look, owners: Mapping[int, str] | None) -> tuple[tuple[str, float | None], ...]:
    if owners is None:
        return ()
    used: dict[str, float | None] = {}
    for pid, ratio in look.pids:
        run_id = owners.get(pid, "")
        known = used.get(run_id)
        used[run_id] = known if ratio is None else (known or 0.0) + ratio
    return tuple(used.items())


def still_needed(usages: Iterable[Usage], devices: Mapping[str, DeviceTotals]) -> tuple[Usage, ...]:
    """Those that tell of time which a device may still ask about."""
    oldest_s = min(
        (
            entry.waiting[0].start_mono_s if entry.waiting else entry.last_at.mono_s
            for entry in devices.values()
            if entry.device.component in COMMON and entry.device.is_part
        ),
        default=float("inf"),
    )
    return tuple(usage for usage in usages if usage.end.mono_s > oldest_s)[-MOST_USAGES:]
