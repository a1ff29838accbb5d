"""The monitor is a fold: `step(snapshot, sample) -> snapshot`. Same samples, same snapshots, bit for bit."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import itemgetter
from types import MappingProxyType

from monitor.core import crosscheck, energy, meter
from monitor.core.attribution import Share, ShareKind, attribute, held_s
from monitor.core.carbon import grams_of, price
from monitor.core.energy import UNMEASURED, EnergyDelta, How
from monitor.core.meter import Meter
from monitor.core.model import (
    Component,
    Device,
    Instant,
    Method,
    Origin,
    PowerSignal,
    Processes,
    ReadFailure,
    Reading,
    Run,
    Sample,
    Signal,
)
from monitor.core.runcount import RunCount
from monitor.core.snapshot import DeviceTotals, EmissionsKey, Interval, NodeEnergyKey, RunTotals, Snapshot

STALE_WINDOWS = 3
"""A device that is read seldom is stale once it has missed so many readings."""


def step(before: Snapshot, sample: Sample) -> Snapshot:
    """Fold one sample into the snapshot. The order in which sources delivered does not matter."""
    turn = _Turn(before, sample)
    for failure, reading in _in_order(sample):
        if failure is not None:
            turn.fail(failure)
        elif reading is not None:
            turn.read(reading)
    for processes in sample.processes:
        turn.see(processes)
    return turn.finish()


def _in_order(sample: Sample) -> Iterable[tuple[ReadFailure | None, Reading | None]]:
    """What happened, device by device in the order of time, whichever source delivered first.

    At one moment a failure comes first: what it says of the baseline holds for the reading beside it.
    """
    happened: list[tuple[str, float, bool, ReadFailure | None, Reading | None]] = [
        (reading.device.id, reading.at.mono_s, True, None, reading) for reading in sample.readings
    ]
    happened += [(failure.device_id, failure.at.mono_s, False, failure, None) for failure in sample.failures]
    return (event[3:] for event in sorted(happened, key=_device_then_time))


_device_then_time = itemgetter(0, 1, 2)


class _Turn:
    """The working copy of one step: mutable inside `step` only, frozen by `finish`."""

    def __init__(self, before: Snapshot, sample: Sample) -> None:
        self.before = before
        self.sample = sample
        self.devices = dict(before.devices)
        self.node_emissions_g = dict(before.node_emissions_g)
        self.node_unpriced_j = before.node_unpriced_j
        self.runs = {run.id: run for run in sample.runs.runs}
        self.counts: dict[str, RunCount] = {}
        self.holders = _holders(before, sample)
        self.booked: list[Interval] = []
        self.slots = [
            slot for slot in sample.intensities if slot.zone == before.policy.zone and slot.signal is Signal.AVERAGE
        ]
        self.flat = self.slots[0] if len(self.slots) == 1 and self.slots[0].is_for_ever else None
        """The one slot that holds at any time, such as a yearly value: then there is nothing to cut."""

    def read(self, reading: Reading) -> None:
        """Book what one device used since its last reading."""
        reading = self._placed(reading)
        entry = self.devices.get(reading.device.id)
        if entry is None:
            entry = DeviceTotals(device=reading.device, energy_j=MappingProxyType({}), last_at=reading.at)
        elif entry.device.counter_epoch != reading.device.counter_epoch:
            entry = _away(entry)
        metered = meter.read(entry.meter, reading)
        delta = metered.delta
        method = energy.method_of(reading, delta.how)
        unmeasured_s = metered.unmeasured_s
        if delta.how is How.FIRST:
            unmeasured_s += max(0.0, reading.at.mono_s - entry.last_at.mono_s)
        tells_energy = _tells_energy(reading)
        # Nearly always the joules tell of just the time since the last reading: then their shares account for it, too.
        told = tells_energy and delta.how not in UNMEASURED and unmeasured_s == 0.0
        in_step = told and delta.start.mono_s == entry.last_at.mono_s
        if not in_step:
            self._hold(reading.device, entry.last_at.mono_s, reading.at.mono_s, unmeasured_s)
        unattributed_j = self._charge(delta, method, in_step=in_step) if tells_energy else 0.0
        # All of it by name: `dataclasses.replace` takes as long again, twelve times a turn.
        self.devices[reading.device.id] = DeviceTotals(
            device=reading.device,
            energy_j=_plus(entry.energy_j, method, delta.energy_j) if tells_energy else entry.energy_j,
            attributed_j=entry.attributed_j + (delta.energy_j - unattributed_j),
            unattributed_j=entry.unattributed_j + unattributed_j,
            pending_j=entry.pending_j,
            processes=entry.processes,
            unmeasured_s=entry.unmeasured_s + unmeasured_s,
            resets=entry.resets + metered.restarted,
            power_w=_power_w(entry, reading, delta),
            telemetry=reading.telemetry or entry.telemetry,
            telemetry_at=reading.at if reading.telemetry else entry.telemetry_at,
            meter=metered.meter,
            crosscheck=crosscheck.check(entry.crosscheck, reading, delta),
            last_at=reading.at,
        )

    def _placed(self, reading: Reading) -> Reading:
        """The reading, as an overlap where its joules are in a module's: a module that is a part contains its CPUs."""
        if reading.device.within or reading.device.component not in (Component.CPU, Component.DRAM):
            return reading
        modules = [e.device.id for e in self.devices.values() if e.device.component is Component.MODULE]
        parts = [device_id for device_id in modules if self.devices[device_id].device.is_part]
        return replace(reading, device=replace(reading.device, within=parts[0])) if parts else reading

    def fail(self, failure: ReadFailure) -> None:
        """Drop the baseline of a device that fell away: its counter may restart unseen."""
        entry = self.devices.get(failure.device_id)
        if entry is not None and failure.baseline_lost:
            self.devices[failure.device_id] = _away(entry)

    def see(self, processes: Processes) -> None:
        """Note what runs on one device."""
        entry = self.devices.get(processes.device_id)
        if entry is not None:
            self.devices[processes.device_id] = replace(entry, processes=processes)

    def _charge(self, delta: EnergyDelta, method: Method, *, in_step: bool) -> float:
        """Give runs their joules and grams, and their time if it is `in_step`; return the joules that nobody held."""
        device = delta.device
        if not device.is_part:
            return delta.energy_j  # others have these joules already
        shares, unattributed_j = attribute(delta, self.holders.get(device.id, ()))
        resumed_at = self.before.resumed_at
        recovered = resumed_at is not None and delta.start.mono_s < resumed_at.mono_s
        seen = method is not Method.ESTIMATED and delta.how not in UNMEASURED
        first_s, last_s = delta.start.mono_s, delta.end.mono_s
        offset_s = delta.end.wall_s - last_s  # by the clock as it stood at the end: a step of it moves no joule
        held_from = {share.start_mono_s: share.span_s for share in shares}  # several may hold it at one time
        for share in shares:
            count = self._count(share.run_id)
            span_s = share.span_s
            count.add(share, device.component, method, recovered=recovered)
            if in_step:
                count.held_s += span_s
                count.measured_s += span_s if seen else 0.0
            start_s, end_s = share.start_mono_s + offset_s, share.end_mono_s + offset_s
            count.unpriced_j += self._price(share.energy_j, start_s, end_s, method, count.emissions_g)
            self._book(device, method, share, recovered, start_s, end_s, span_s if seen else 0.0)
        start_s, end_s = first_s + offset_s, delta.end.wall_s
        if unattributed_j > 0.0:
            nobodys = Share(energy_j=unattributed_j, start_mono_s=first_s, end_mono_s=last_s)
            free_s = max(0.0, delta.span_s - sum(held_from.values()))
            self._book(device, method, nobodys, recovered, start_s, end_s, free_s if seen else 0.0)
        self.node_unpriced_j += self._price(delta.energy_j, start_s, end_s, method, self.node_emissions_g)
        return unattributed_j

    def _book(  # noqa: PLR0917  (called for every share of every device in every turn)
        self,
        device: Device,
        method: Method,
        share: Share,
        recovered: bool,  # noqa: FBT001
        start_wall_s: float,
        end_wall_s: float,
        measured_s: float,
    ) -> None:
        zone = self.before.policy.zone or ""
        # In the order of Interval's fields.
        self.booked.append(
            Interval(
                share.run_id,
                device.id,
                zone,
                share.phase,
                method,
                share.kind,
                recovered,
                start_wall_s,
                end_wall_s,
                share.energy_j,
                0.0,
                measured_s,
            )
        )

    def _hold(self, device: Device, start_mono_s: float, end_mono_s: float, unmeasured_s: float) -> None:
        """Account for the time of a device to the runs that held it; of the end of it nobody knows the joules."""
        for run in self.holders.get(device.id, ()) if device.is_part else ():
            span_s = held_s(run, start_mono_s, end_mono_s)
            blind_s = held_s(run, end_mono_s - unmeasured_s, end_mono_s) if unmeasured_s > 0.0 else 0.0
            if span_s > 0.0 or blind_s > 0.0:
                count = self._count(run.id)
                count.held_s += span_s
                if device.origin is not Origin.ESTIMATED:
                    count.measured_s += span_s - blind_s

    def _count(self, run_id: str) -> RunCount:
        count = self.counts.get(run_id)
        if count is None:
            count = self.counts[run_id] = RunCount(self.before.runs.get(run_id))
        return count

    def _price(
        self, energy_j: float, start_s: float, end_s: float, method: Method, into: dict[EmissionsKey, float]
    ) -> float:
        if self.flat is not None:
            key = (method, self.flat.basis, self.flat.quality)
            into[key] = into.get(key, 0.0) + grams_of(energy_j, self.flat, self.before.policy.pue_ratio)
            return 0.0
        priced = price(energy_j, start_s, end_s, self.slots, self.before.policy.pue_ratio)
        for grams in priced.grams:
            key = (method, grams.basis, grams.quality)
            into[key] = into.get(key, 0.0) + grams.emissions_g
        return priced.unpriced_j

    def finish(self) -> Snapshot:
        """Freeze the turn."""
        at = self.sample.at
        devices = {device_id: self._aged(self.devices[device_id], at) for device_id in sorted(self.devices)}
        node_energy_j: dict[NodeEnergyKey, float] = {}
        for entry in devices.values():
            if _is_measured(entry):
                for method, energy_j in entry.energy_j.items():
                    key = (entry.device.component, method)
                    node_energy_j[key] = node_energy_j.get(key, 0.0) + energy_j
        watts = [e.power_w for e in devices.values() if _is_measured(e) and e.power_w is not None]
        return replace(
            self.before,
            at=at,
            devices=MappingProxyType(devices),
            runs=MappingProxyType({run_id: self._run_totals(run, devices) for run_id, run in self.runs.items()}),
            node_energy_j=MappingProxyType(node_energy_j),
            node_power_w=sum(watts) if watts else None,
            node_emissions_g=MappingProxyType(self.node_emissions_g),
            node_unpriced_j=self.node_unpriced_j,
            sources=self.sample.sources,
            intensities=self.sample.intensities,
            ledger=self.sample.ledger,
            runs_dropped=self.sample.runs.dropped,
            names_altered=self.sample.runs.altered,
            late_ticks=self.before.late_ticks + self.sample.late_ticks,
            booked=tuple(self.booked),
        )

    def _aged(self, entry: DeviceTotals, at: Instant) -> DeviceTotals:
        """A silent device loses its watts at once, and its time counts as unmeasured once no counter can tell."""
        policy, resumed_at = self.before.policy, self.before.resumed_at
        silent_s = at.mono_s - entry.last_at.mono_s
        last = entry.meter.last
        if last is not None and silent_s <= policy.stale_after_s:
            return entry
        if resumed_at is not None and entry.last_at.mono_s < resumed_at.mono_s:
            return entry  # of the daemon before this one: it may answer yet, or be gone for good
        if last is not None and silent_s <= max(policy.stale_after_s, STALE_WINDOWS * last.window_s):
            return entry
        if entry.meter.counted is not None and silent_s <= policy.lost_after_s:
            return replace(entry, power_w=None)
        self._hold(entry.device, entry.last_at.mono_s, at.mono_s, silent_s + entry.meter.unvouched_s)
        gone = _away(entry)
        last_at = at if silent_s > 0.0 else entry.last_at
        return replace(gone, unmeasured_s=gone.unmeasured_s + max(0.0, silent_s), last_at=last_at)

    def _run_totals(self, run: Run, devices: Mapping[str, DeviceTotals]) -> RunTotals:
        before = self.before.runs.get(run.id)
        if before is not None and before.run is run and run.end is not None and run.id not in self.counts:
            return before  # it ended, and nothing of it is new
        count = self._count(run.id)
        held = [devices[device_id] for device_id in sorted(run.holds) if device_id in devices]
        present = {component for component, _, _ in count.energy_j}
        for entry in held:
            # Present at 0 from the start, so that the first increase is seen by whoever takes a rate.
            if entry.device.component not in present:
                for method in entry.energy_j:
                    count.energy_j[entry.device.component, method, ShareKind.WHOLE] = 0.0
                    self._price(0.0, self.sample.at.wall_s, self.sample.at.wall_s, method, count.emissions_g)
        end = run.end or self.sample.at
        return count.totals(
            run,
            power_w=self._run_power_w(run, held),
            duration_s=run.before_s + max(0.0, end.mono_s - run.since.mono_s),
        )

    def _run_power_w(self, run: Run, held: list[DeviceTotals]) -> float | None:
        if run.end is not None:
            return None
        shares_w = []
        for entry in held:
            if entry.power_w is not None and entry.device.is_part:
                holders = sum(other.end is None for other in self.holders.get(entry.device.id, ()))
                shares_w.append(entry.power_w / max(1, holders))
        return math.fsum(shares_w) if shares_w else None


def _holders(before: Snapshot, sample: Sample) -> Mapping[str, list[Run]]:
    """The runs that hold each device, without those that ended before anything of this turn can have begun."""
    oldest_s = min((entry.last_at.mono_s for entry in before.devices.values()), default=0.0)
    holders: dict[str, list[Run]] = {}
    for run in sample.runs.runs:
        if run.end is None or run.end.mono_s >= oldest_s:
            for device_id in run.holds:
                holders.setdefault(device_id, []).append(run)
    return holders


def _away(entry: DeviceTotals) -> DeviceTotals:
    """The device without a baseline: what its counter might have told of a gap is now unmeasured for good."""
    return replace(entry, meter=Meter(), power_w=None, unmeasured_s=entry.unmeasured_s + entry.meter.unvouched_s)


def _is_measured(entry: DeviceTotals) -> bool:
    """Whether its joules belong into the node's sum: a disjoint part, and no estimate."""
    return entry.device.is_part and entry.device.origin is not Origin.ESTIMATED


def _tells_energy(reading: Reading) -> bool:
    """False for a device without any sensor: its joules are absent, not 0."""
    return reading.energy_j is not None or reading.power_w is not None


def _plus(totals: Mapping[Method, float], method: Method, energy_j: float) -> Mapping[Method, float]:
    return MappingProxyType({**totals, method: totals.get(method, 0.0) + energy_j})


def _power_w(entry: DeviceTotals, reading: Reading, delta: EnergyDelta) -> float | None:
    """Mean power: the driver's own average where it gives one, else of the interval; else as it was."""
    one_interval = entry.meter.last is None or delta.start == entry.meter.last.at
    if reading.power_w is not None and (reading.power_signal is PowerSignal.AVERAGE or not one_interval):
        return reading.power_w
    return delta.mean_power_w if delta.span_s > 0.0 else entry.power_w
