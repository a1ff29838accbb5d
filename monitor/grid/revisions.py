"""Values that a provider changed after the fact, and the line that tells people of one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from monitor.core.model import Intensity, Quality, Signal


class Revised(NamedTuple):
    """A value that a provider changed after the fact."""

    old: Intensity
    new: Intensity


def revisions(versions: Sequence[Intensity], *, since_s: float) -> list[Revised]:
    """Changes of an average value that was no forecast, told since then, oldest first.

    `versions` stand in the order in which they were fetched.
    """
    last: dict[tuple[object, ...], Intensity] = {}
    found = []
    for value in versions:
        if value.signal is not Signal.AVERAGE or value.quality in (Quality.FORECAST, Quality.CARRIED):
            continue
        key = (value.provider, value.basis, value.valid_from_s, value.valid_until_s)
        old, last[key] = last.get(key), value
        if old is None or old.grams_per_kilowatthour == value.grams_per_kilowatthour:
            continue
        if value.fetched_at_s is not None and value.fetched_at_s >= since_s:
            found.append(Revised(old, value))
    return found


def line(revised: Revised, moved_g: Mapping[str, float]) -> str:
    """For the log: old, new, and the grams by run that it moves; the run that it moves most is named."""
    old, new = revised
    run_id, grams = max(moved_g.items(), key=lambda item: abs(item[1]))
    slot = datetime.fromtimestamp(new.valid_from_s, UTC)
    quality = new.quality if new.quality is old.quality else f"{old.quality} -> {new.quality}"
    told = f"{grams:+.1f}" if abs(grams) >= 1.0 else f"{grams:+.2g}"
    more = len(moved_g) - 1
    others = f" (and {more} more {'run' if more == 1 else 'runs'})" if more else ""
    return (
        f"zone {new.zone}, {slot:%Y-%m-%d %H:%M}Z: {old.grams_per_kilowatthour:g} -> {new.grams_per_kilowatthour:g} "
        f"g/kWh ({new.provider}, {quality}); it moves the settled figure of run {run_id} by {told} g{others}"
    )


def is_same(one: Intensity, other: Intensity) -> bool:
    """Whether they are the same value, whatever its number; what is carried from it is of another time."""
    return (
        one.provider == other.provider
        and one.basis is other.basis
        and one.valid_from_s == other.valid_from_s
        and one.valid_until_s == other.valid_until_s
    )
