"""How little a device draws when nothing runs on it: learned from what is seen, never assumed."""

from monitor.core.waiting import Idle

SHORTEST_S = 3.0
"""A counter that is refreshed every 100 ms is within some 2 % over so long."""
QUIET_RATIO = 0.02
"""A node whose CPUs are busy for no more than this counts as idle: there is always a daemon awake."""


def look(idle: Idle, *, is_idle: bool, at_s: float, energy_j: float) -> Idle:
    """One more look at the device, which has used `energy_j` since the start of the count up to `at_s`."""
    if not is_idle:
        return broken(idle)
    if idle.since_mono_s is None:
        return Idle(idle.power_w, at_s, energy_j)
    span_s = at_s - idle.since_mono_s
    if span_s < SHORTEST_S:
        return idle
    return Idle(lowest(idle.power_w, (energy_j - idle.energy_j) / span_s), at_s, energy_j)


def broken(idle: Idle) -> Idle:
    """It was in use, or nobody knows what it used."""
    return idle if idle.since_mono_s is None else Idle(idle.power_w)


def lowest(known_w: float | None, seen_w: float) -> float | None:
    """The lower of the two. Nothing that is switched on draws nothing: that is a sensor that has stopped."""
    if seen_w <= 0.0:
        return known_w
    return seen_w if known_w is None else min(known_w, seen_w)
