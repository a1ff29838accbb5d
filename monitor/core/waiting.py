"""What is remembered of a device until it is known whose its joules are."""

from typing import NamedTuple

from monitor.core.model import Method


class Waiting(NamedTuple):
    """Joules of one device over [start, end) of the steady clock that are nobody's yet."""

    start_mono_s: float
    end_mono_s: float
    wall_offset_s: float
    """Wall time less steady time, by the clocks as they stood at the end: a step of the clock moves no joule."""
    energy_j: float
    method: Method
    is_seen: bool
    """Whether a sensor told."""
    is_timed: bool
    """Whether it accounts for the time, too: else that has been accounted for by itself."""
    recovered: bool
    """Used while no daemon ran."""


class Look(NamedTuple):
    """Who used a device, as its driver tells it over [start, end)."""

    start_mono_s: float
    end_mono_s: float
    pids: tuple[tuple[int, float | None], ...]
    """Process number and mean SM utilisation of each that was there."""
    users: tuple[tuple[str, float | None], ...] | None = None
    """The same by run, "" for processes of none; None until the owners of the processes are known."""


class Idle(NamedTuple):
    """How little a device was seen to draw with no process on it and no utilisation."""

    power_w: float | None = None
    """The least mean power of such a span; None = it was never seen idle."""
    since_mono_s: float | None = None
    """From here on it has been idle, as far as was seen."""
    energy_j: float = 0.0
    """What it has used since then."""
