"""What must be remembered of each device, as a row of the table `meters` and back. Every float comes back bit for bit.

Of its telemetry, watts and processes nothing is kept: they are of the moment.
"""

import json
from types import MappingProxyType
from typing import Any

from monitor.core.crosscheck import CrossCheck
from monitor.core.meter import Meter
from monitor.core.model import Component, Device, Instant, Origin, PowerSignal, Reading
from monitor.core.snapshot import DeviceTotals
from monitor.core.waiting import Idle
from monitor.ledger.waits import METHODS, looks_of, waiting_of

Row = tuple[Any, ...]
COLUMNS = 34
SAME = "same"
"""Stands for the newest reading, which is nearly always the one that counted last, too."""
_AVERAGE = PowerSignal.AVERAGE.value
_NO_READING = (None,) * 7


def row_of(key: int, entry: DeviceTotals, waiting: bytes | None, looks: str | None) -> Row:
    """The row of one device; `waiting` and `looks` are what waits.Waits tells of it."""
    check, meter, last = entry.crosscheck, entry.meter, entry.meter.last
    joules: list[float | None] = [None] * len(METHODS)
    for method, energy_j in entry.energy_j.items():
        joules[METHODS.index(method)] = energy_j
    return (
        key,
        entry.last_at.mono_s,
        entry.last_at.wall_s,
        *joules,
        entry.attributed_j,
        entry.unattributed_j,
        entry.pending_j,
        entry.unmeasured_s,
        entry.resets,
        check.span_s,
        check.counter_j,
        check.integrated_j,
        check.ratio,
        *(_NO_READING if last is None else _fields(last)),
        meter.bridged_j,
        meter.unvouched_s,
        meter.withheld_j,
        meter.still_j,
        _other(meter.counted, last),
        _other(meter.still_since, last),
        waiting,
        looks,
        *entry.idle,
    )


def _fields(reading: Reading) -> Row:
    return (
        reading.at.mono_s,
        reading.at.wall_s,
        reading.energy_j,
        reading.wraps_at_j,
        reading.power_w,
        _AVERAGE if reading.power_signal is PowerSignal.AVERAGE else reading.power_signal.value,
        reading.window_s,
    )


def _other(reading: Reading | None, last: Reading | None) -> str | None:
    if reading is None:
        return None
    return SAME if reading is last else json.dumps(_fields(reading))


def totals_of(device: Device, row: Row) -> DeviceTotals:
    """The device as it was committed; `row` is without the key. Raises ValueError for words of another version."""
    last = _reading(device, row[15:22])
    return DeviceTotals(
        device=device,
        last_at=Instant(row[0], row[1]),
        energy_j=MappingProxyType(
            {method: joules for method, joules in zip(METHODS, row[2:6], strict=True) if joules is not None}
        ),
        attributed_j=row[6],
        unattributed_j=row[7],
        pending_j=row[8],
        unmeasured_s=row[9],
        resets=row[10],
        crosscheck=CrossCheck(*row[11:15]),
        meter=Meter(
            last=last,
            bridged_j=row[22],
            unvouched_s=row[23],
            withheld_j=row[24],
            still_j=row[25],
            counted=_another(device, row[26], last),
            still_since=_another(device, row[27], last),
        ),
        waiting=waiting_of(row[28]),
        looks=looks_of(row[29]),
        idle=Idle(*row[30:33]),
    )


def _reading(device: Device, fields: Row) -> Reading | None:
    mono_s, wall_s, energy_j, wraps_at_j, power_w, signal, window_s = fields
    if mono_s is None:
        return None
    return Reading(
        device=device,
        at=Instant(mono_s, wall_s),
        energy_j=energy_j,
        wraps_at_j=wraps_at_j,
        power_w=power_w,
        power_signal=PowerSignal(signal),
        window_s=window_s,
    )


def _another(device: Device, text: str | None, last: Reading | None) -> Reading | None:
    if text is None or text == SAME:
        return last if text else None
    return _reading(device, tuple(json.loads(text)))


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
