"""One device's meter: reading after reading becomes joules, over outages of its counter and back.

counter well    -> its difference
counter away    -> power integrated meanwhile (`bridged_j`)
counter returns -> what it counted, less what was integrated; an excess is withheld from the next joules
counter frozen  -> it shows one value while the power sensor sees a load: taken as away
"""

from typing import NamedTuple

from monitor.core.energy import UNMEASURED, EnergyDelta, How, between
from monitor.core.model import Reading

FROZEN_AFTER_S = 5.0
"""Counters are refreshed every 10 to 100 ms: one that stands still for so long under load has stopped."""
FROZEN_LOAD_J = 100.0
"""And so much must have been drawn meanwhile: a device that draws nothing counts nothing."""
STILL_S = 1.0
"""Counters are refreshed more often than this."""
RESUMED_RATIO = 0.5
"""A frozen counter that comes back within this part of what was integrated had only stopped to show."""


class Meter(NamedTuple):
    """What must be remembered of a device between two readings."""

    last: Reading | None = None
    """The newest reading; None while the device is away."""
    counted: Reading | None = None
    """The newest reading whose counter was believed."""
    bridged_j: float = 0.0
    """Joules booked by integration since `counted`."""
    unvouched_s: float = 0.0
    """Seconds since `counted` that integration could not tell: unmeasured unless the counter comes back."""
    withheld_j: float = 0.0
    """Integrated in excess of what the counter told afterwards: taken off the next joules."""
    still_since: Reading | None = None
    """The first reading with the value that the counter has shown ever since."""
    still_j: float = 0.0
    """Joules that the power sensor saw since then; not booked."""


class Metered(NamedTuple):
    """What one more reading gave."""

    meter: Meter
    delta: EnergyDelta
    unmeasured_s: float
    """Seconds that turned out to be unmeasured."""
    restarted: bool = False
    """Whether the hardware counter began anew."""


def is_true_to_time(before: Meter, after: Meter) -> bool:
    """Whether the joules booked between are those of their own time: nothing held back, and no standstill."""
    still_s = after.last.at.mono_s - after.still_since.at.mono_s if after.last and after.still_since else 0.0
    return before.withheld_j == after.withheld_j == 0.0 and not (after.still_j > 0.0 and still_s > STILL_S)


def read(meter: Meter, now: Reading) -> Metered:
    """Take one more reading of the device."""
    last, counted = meter.last, meter.counted
    if now.energy_j is None:
        metered = _without_counter(meter, now)
    elif last is None or last.energy_j is not None or counted is None:
        metered = _by_counter(meter, now)
    elif now.energy_j == counted.energy_j and now.power_w is not None:
        metered = _without_counter(meter, now)  # it was found to be frozen, and still shows its old value
    else:
        metered = _counter_returns(meter, counted, now)
    return _withhold(metered) if metered.meter.withheld_j > 0.0 else metered


def _by_counter(meter: Meter, now: Reading) -> Metered:
    delta = between(meter.last, now)
    how = delta.how
    stands_still = delta.energy_j == 0.0 and how is How.COUNTER and delta.span_s > 0.0
    if not stands_still or now.power_w is None:
        moving = Meter(now, now, 0.0, 0.0, meter.withheld_j, now)  # in the order of the fields
        return Metered(moving, delta, delta.unmeasured_s if how in UNMEASURED else 0.0, how is How.RESET)
    since = meter.still_since or now
    still_j = meter.still_j + now.power_w * delta.span_s * now.device.calibration_ratio
    if now.at.mono_s - since.at.mono_s < FROZEN_AFTER_S or still_j < FROZEN_LOAD_J:
        still = Meter(last=now, counted=now, withheld_j=meter.withheld_j, still_since=since, still_j=still_j)
        return Metered(meter=still, delta=delta, unmeasured_s=0.0)
    # It has stopped: book what was drawn since it stood still, and go on by integration.
    seen = EnergyDelta(device=now.device, start=since.at, end=now.at, energy_j=still_j, how=How.INTEGRATED)
    away = Meter(last=now._replace(energy_j=None), counted=since, bridged_j=still_j, withheld_j=meter.withheld_j)
    return Metered(meter=away, delta=seen, unmeasured_s=0.0)


def _without_counter(meter: Meter, now: Reading) -> Metered:
    now = _power_only(now)
    delta = between(_power_only(meter.last) if meter.last is not None else None, now)
    away = meter._replace(last=now, bridged_j=meter.bridged_j + delta.energy_j)
    if meter.counted is None:
        return Metered(meter=away, delta=delta, unmeasured_s=delta.unmeasured_s)
    # The counter may yet tell what was used in a gap.
    waiting = away._replace(unvouched_s=meter.unvouched_s + delta.unmeasured_s)
    return Metered(meter=waiting, delta=delta, unmeasured_s=0.0)


def _counter_returns(meter: Meter, counted: Reading, now: Reading) -> Metered:
    """Book what the counter saw during its outage, less what was integrated meanwhile."""
    told = between(counted, now)
    well = Meter(last=now, counted=now, withheld_j=meter.withheld_j, still_since=now)
    if told.unmeasured_s > 0.0 or told.energy_j < RESUMED_RATIO * meter.bridged_j:
        # It cannot vouch for the outage: what was integrated stands, and the count goes on from here.
        last_interval = between(meter.last, now._replace(energy_j=None))
        return Metered(
            meter=well,
            delta=last_interval,
            unmeasured_s=meter.unvouched_s + last_interval.unmeasured_s,
            restarted=told.how is How.RESET,
        )
    excess_j = meter.bridged_j - told.energy_j
    return Metered(
        meter=well._replace(withheld_j=well.withheld_j + max(0.0, excess_j)),
        delta=told._replace(energy_j=max(0.0, -excess_j)),
        unmeasured_s=0.0,
    )


def _power_only(reading: Reading) -> Reading:
    return reading._replace(energy_j=None) if reading.energy_j is not None else reading


def _withhold(metered: Metered) -> Metered:
    """Take off what was booked too much earlier: never below zero, the rest later."""
    owed_j = metered.meter.withheld_j
    taken_j = min(owed_j, metered.delta.energy_j)
    if taken_j <= 0.0:
        return metered
    return metered._replace(
        meter=metered.meter._replace(withheld_j=owed_j - taken_j),
        delta=metered.delta._replace(energy_j=metered.delta.energy_j - taken_j),
    )
