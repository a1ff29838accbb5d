"""When a run held which devices: written down only where it was not for the whole of its stretch. No I/O."""

from collections.abc import Mapping

from monitor.core.model import Hold, Run

KEPT_S = 60.0
"""A holding that ended earlier is forgotten: nothing of its time waits to be booked any more."""


def changed(
    run: Run, holds: frozenset[str], at_s: float, moments: Mapping[str, float]
) -> tuple[frozenset[str], tuple[Hold, ...]]:
    """What the run holds now, and its spells, if it holds these devices from `at_s` on and no others.

    `moments` says of single devices that they were come by, or lost, at another moment.
    """
    since_s = run.since.mono_s
    spells = [spell for spell in run.spells if spell.until_mono_s is None or spell.until_mono_s > at_s - KEPT_S]
    for device in sorted(run.holds - holds):
        lost_s = max(since_s, moments.get(device, at_s))
        begun = began(run, device)
        spells = [spell for spell in spells if spell != begun]
        if lost_s > begun.since_mono_s:
            spells.append(begun._replace(until_mono_s=lost_s))
    for device in sorted(holds - run.holds):
        before = [spell.until_mono_s or 0.0 for spell in spells if spell.device_id == device]
        begins_s = max([since_s, moments.get(device, at_s), *before])
        if before or begins_s > since_s:
            spells.append(Hold(device, begins_s))
    return holds, tuple(sorted(spells, key=lambda spell: (spell.since_mono_s, spell.device_id)))


def began(run: Run, device_id: str) -> Hold:
    """The present holding of a device that the run holds."""
    opened = [spell for spell in run.spells if spell.device_id == device_id and spell.until_mono_s is None]
    return opened[0] if opened else Hold(device_id, run.since.mono_s)
