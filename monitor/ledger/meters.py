"""What must be remembered of each device, as bytes of the table `meters` and back. Every float comes back bit for bit.

Of its telemetry, watts and processes nothing is kept: they are of the moment.
"""

import json
import math
import struct
from types import MappingProxyType
from typing import Any

from monitor.core.crosscheck import CrossCheck
from monitor.core.meter import Meter
from monitor.core.model import Component, Device, Instant, Method, Origin, PowerSignal, Reading
from monitor.core.snapshot import DeviceTotals
from monitor.core.waiting import Idle
from monitor.ledger.runs import ABSENT
from monitor.ledger.waits import METHODS, looks_of, waiting_of

_DEVICE = struct.Struct("<31d")
"""In the order of `numbers_of`. Beside the counts of whole things, which a double keeps exactly, all are SI units."""
_READING = struct.Struct("<7d")
"""Of the readings that the meter remembers beside the newest."""
_SIGNALS = tuple(PowerSignal)
_NUMBERS = {signal: float(number) for number, signal in enumerate(_SIGNALS)}
_NO_READING = (ABSENT,) * 7
_NONE, _SAME, _OTHER = 0.0, 1.0, 2.0
"""A remembered reading is none, the newest one (nearly always), or another, which follows."""


def numbers_of(entry: DeviceTotals) -> bytes:
    """What must be remembered of one device, but for what waits.Waits tells of it."""
    joules_by, last_at, meter, idle = entry.energy_j.get, entry.last_at, entry.meter, entry.idle
    last, counted, still_since = meter.last, meter.counted, meter.still_since
    check_span_s, check_counter_j, check_integrated_j, check_ratio = entry.crosscheck
    mono_s, wall_s, energy_j, wraps_at_j, power_w, signal, window_s = _NO_READING if last is None else _fields(last)
    # One by one: this is most of what a commit computes, and a call of many parts takes half as long again.
    told = _DEVICE.pack(
        last_at.mono_s,
        last_at.wall_s,
        joules_by(Method.COUNTER, ABSENT),
        joules_by(Method.INTEGRATED, ABSENT),
        joules_by(Method.ESTIMATED, ABSENT),
        joules_by(Method.SIMULATED, ABSENT),
        entry.attributed_j,
        entry.unattributed_j,
        entry.pending_j,
        entry.unmeasured_s,
        entry.resets,
        check_span_s,
        check_counter_j,
        check_integrated_j,
        ABSENT if check_ratio is None else check_ratio,
        mono_s,
        wall_s,
        energy_j,
        wraps_at_j,
        power_w,
        signal,
        window_s,
        meter.bridged_j,
        meter.unvouched_s,
        meter.withheld_j,
        meter.still_j,
        _NONE if counted is None else _SAME if counted is last else _OTHER,
        _NONE if still_since is None else _SAME if still_since is last else _OTHER,
        ABSENT if idle.power_w is None else idle.power_w,
        ABSENT if idle.since_mono_s is None else idle.since_mono_s,
        idle.energy_j,
    )
    for reading in (counted, still_since):
        if reading is not last and reading is not None:
            told += _READING.pack(*_fields(reading))
    return told


def _fields(reading: Reading) -> tuple[float, ...]:
    at, energy_j, wraps_at_j, power_w = reading.at, reading.energy_j, reading.wraps_at_j, reading.power_w
    return (
        at.mono_s,
        at.wall_s,
        ABSENT if energy_j is None else energy_j,
        ABSENT if wraps_at_j is None else wraps_at_j,
        ABSENT if power_w is None else power_w,
        _NUMBERS[reading.power_signal],
        reading.window_s,
    )


def totals_of(device: Device, numbers: bytes, waiting: bytes | None, looks: str | None) -> DeviceTotals:
    """The device as it was committed. Raises ValueError for what another version has written."""
    try:
        told = [None if math.isnan(number) else number for number in _DEVICE.unpack_from(numbers)]
        others = iter([_reading(device, fields) for fields in _READING.iter_unpack(numbers[_DEVICE.size :])])
    except struct.error as error:
        raise ValueError(f"numbers of {device.id} cannot be understood: {error}") from error
    last = _reading(device, _DEVICE.unpack_from(numbers)[15:22])

    def remembered(which: float) -> Reading | None:
        return None if which == _NONE else last if which == _SAME else next(others)

    joules = zip(METHODS, told[2:6], strict=True)
    attributed_j, unattributed_j, pending_j, unmeasured_s, resets = map(_there, told[6:11])
    bridged_j, unvouched_s, withheld_j, still_j, counted, still_since = map(_there, told[22:28])
    return DeviceTotals(
        device=device,
        last_at=Instant(_there(told[0]), _there(told[1])),
        energy_j=MappingProxyType({method: energy_j for method, energy_j in joules if energy_j is not None}),
        attributed_j=attributed_j,
        unattributed_j=unattributed_j,
        pending_j=pending_j,
        unmeasured_s=unmeasured_s,
        resets=int(resets),
        crosscheck=CrossCheck(_there(told[11]), _there(told[12]), _there(told[13]), told[14]),
        meter=Meter(
            last=last,
            bridged_j=bridged_j,
            unvouched_s=unvouched_s,
            withheld_j=withheld_j,
            still_j=still_j,
            counted=remembered(counted),
            still_since=remembered(still_since),
        ),
        waiting=waiting_of(waiting),
        looks=looks_of(looks),
        idle=Idle(told[28], told[29], _there(told[30])),
    )


def _there(number: float | None) -> float:
    if number is None:
        raise ValueError("a number of a device is missing")
    return number


def _reading(device: Device, fields: tuple[float, ...]) -> Reading | None:
    mono_s, wall_s, *told, signal, window_s = fields
    if math.isnan(mono_s):
        return None
    energy_j, wraps_at_j, power_w = (None if math.isnan(number) else number for number in told)
    return Reading(
        device=device,
        at=Instant(mono_s, wall_s),
        energy_j=energy_j,
        wraps_at_j=wraps_at_j,
        power_w=power_w,
        power_signal=_SIGNALS[int(signal)],
        window_s=window_s,
    )


def packed(row: tuple[Any, ...]) -> bytes:
    """The numbers of a device as version 2 had them: a column each, remembered readings as JSON or the word `same`."""
    told: list[float] = [ABSENT if number is None else number for number in row[:26]]
    told[20] = ABSENT if row[20] is None else _NUMBERS[PowerSignal(row[20])]
    remembered = [_NONE if text is None else _SAME if text == "same" else _OTHER for text in row[26:28]]
    idle = [ABSENT if number is None else number for number in row[28:31]]
    others = [json.loads(text) for text in row[26:28] if text not in {None, "same"}]
    tails = []
    for *numbers, signal, window_s in others:
        fields = [ABSENT if number is None else number for number in numbers]
        tails.append(_READING.pack(*fields, _NUMBERS[PowerSignal(signal)], window_s))
    return _DEVICE.pack(*told, *remembered, *idle) + b"".join(tails)


def resumable(entry: DeviceTotals) -> DeviceTotals:
    """The device for a daemon that takes over on the same boot: it keeps its baseline where its counter outlives us."""
    last = entry.meter.last
    if entry.device.counter_epoch is not None and last is not None and last.energy_j is not None:
        return entry
    return without_baseline(entry)


def without_baseline(entry: DeviceTotals) -> DeviceTotals:
    """The device whose counter cannot tell what was used meanwhile: that time will be unmeasured."""
    return entry._replace(meter=Meter(), unmeasured_s=entry.unmeasured_s + entry.meter.unvouched_s)


def on_another_boot(entry: DeviceTotals) -> DeviceTotals:
    """The device after the machine went down: nobody can tell any more whose the joules are that waited."""
    return without_baseline(entry)._replace(
        unattributed_j=entry.unattributed_j + entry.pending_j,
        pending_j=0.0,
        waiting=(),
        looks=(),
        idle=Idle(power_w=entry.idle.power_w),
    )


def about(device: Device) -> str:
    """Everything that describes a device, as JSON."""
    return json.dumps(
        {
            "id": device.id,
            "component": device.component,
            "source": device.source,
            "max_power_w": device.max_power_w,
            "model": device.model,
            "index": device.index,
            "origin": device.origin,
            "calibration_ratio": device.calibration_ratio,
            "error_ratio": device.error_ratio,
            "slices": device.slices,
            "slice_ratios": device.slice_ratios,
            "lists_processes": device.lists_processes,
            "counter_epoch": device.counter_epoch,
            "within": device.within,
        }
    )


def device_of(text: str) -> Device:
    """What `about` described."""
    told = json.loads(text)
    told |= {
        "component": Component(told["component"]),
        "origin": Origin(told["origin"]),
        "slices": tuple(told["slices"]),
        "slice_ratios": tuple(told.get("slice_ratios", ())),
    }
    return Device(**told)
