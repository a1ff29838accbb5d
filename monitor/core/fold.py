"""The monitor is a fold: `step(snapshot, sample) -> snapshot`. Same samples, same snapshots, bit for bit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from operator import attrgetter
from types import MappingProxyType

from monitor.core import claims, crosscheck, energy, idle, looks, meter, projection, runcount
from monitor.core.account import Account
from monitor.core.attribution import COMMON, Claim, Facts, Share, ShareKind, nobodys, settle, whole
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
)
from monitor.core.snapshot import DeviceTotals, RunTotals, Snapshot
from monitor.core.usage import Window
from monitor.core.waiting import Idle, Waiting

FIRST_USAGE_WITHIN_S = 10.0
"""Two periods of whoever looks at the processes."""
FIRST_READ_WITHIN_S = 1.0
"""A device is read so soon after a run has begun with the daemon: that is no gap."""
STALE_WINDOWS = 3
"""A device that is read seldom is stale once it has missed so many readings."""

Booked = tuple[float, float, float, tuple[Waiting, ...]]
"""Of one device: joules of runs, joules of nobody, joules that wait, and how these came."""


def step(before: Snapshot, sample: Sample) -> Snapshot:
    """Fold one sample into the snapshot. The order in which sources delivered does not matter."""
    turn = _Turn(before, sample)
    for one in _in_order(sample):
        if isinstance(one, Reading):
            turn.read(one)
        else:
            turn.fail(one)
    for processes in sample.processes:
        turn.see(processes)
    return turn.finish()


def _in_order(sample: Sample) -> Sequence[ReadFailure | Reading]:
    """What happened, device by device in the order of time, whichever source delivered first.

    At one moment a failure comes first: what it says of the baseline holds for the reading beside it.
    """
    if not sample.failures:
        return sorted(sample.readings, key=_device_then_time)
    return sorted((*sample.failures, *sample.readings), key=_whose_then_time)


_device_then_time = attrgetter("device.id", "at.mono_s")


def _whose_then_time(one: ReadFailure | Reading) -> tuple[str, float]:
    return one.device.id if isinstance(one, Reading) else one.device_id, one.at.mono_s


class _Turn:
    """The working copy of one step: mutable inside `step` only, frozen by `finish`."""

    def __init__(self, before: Snapshot, sample: Sample) -> None:
        self.before = before
        self.sample = sample
        self.devices = runcount.thawed(before.devices)
        self.node_energy_j = runcount.thawed(before.node_energy_j)
        self.runs = sample.runs.by_id
        self.account = Account(before, sample, self.runs)
        self.claims = claims.claims_of(before, sample)
        self.resumed_s = before.resumed_at.mono_s if before.resumed_at is not None else -math.inf
        self.has_modules = any(entry.device.component is Component.MODULE for entry in before.devices.values())
        """Whether CPUs may lie within something that is measured as a whole."""
        known = before.runs
        self.is_same_book = before.book is sample.runs and len(known) == len(self.runs)
        changed = (
            []
            if self.is_same_book
            else [run for run in sample.runs.runs if (one := known.get(run.id)) is None or one.run is not run]
        )
        self.is_fresh = bool(sample.usages or changed)
        """Whether there may be more to tell of what waits than in the last turn."""
        self.due: set[str] = set()
        """Devices of which something waits that may be told now."""
        for run in changed:
            self._account_for_late_finding(run)

    def read(self, reading: Reading) -> None:
        """Book what one device used since its last reading, or have it wait."""
        if self.has_modules:
            reading = self._placed(reading)
        device, at = reading.device, reading.at
        entry = self.devices.get(device.id)
        if entry is None:
            entry = DeviceTotals(device=device, energy_j=MappingProxyType({}), last_at=at)
            self._account_for_late_seeing(entry)
        elif entry.device.counter_epoch != device.counter_epoch:
            entry = _away(entry)
        self.has_modules = self.has_modules or device.component is Component.MODULE
        after, delta, unmeasured_s, restarted = meter.read(entry.meter, reading)
        how, used_j = delta.how, delta.energy_j
        method = energy.method_of(reading, how)
        if how is How.FIRST:
            unmeasured_s += max(0.0, at.mono_s - entry.last_at.mono_s)
        # False for a device without any sensor: its joules are absent, not 0.
        tells_energy = reading.energy_j is not None or reading.power_w is not None
        # Nearly always the joules tell of just the time since the last reading: then their shares account for it, too.
        told = tells_energy and unmeasured_s == 0.0 and how not in UNMEASURED
        in_step = told and delta.start.mono_s == entry.last_at.mono_s
        if not in_step:
            self._hold(device, entry.last_at.mono_s, at.mono_s, unmeasured_s)
        booked = entry.attributed_j, entry.unattributed_j, entry.pending_j, entry.waiting
        energy_j = entry.energy_j
        if tells_energy:
            energy_j = _plus(energy_j, method, used_j)
            if used_j > 0.0 or (in_step and delta.span_s > 0.0):
                booked = self._charge(entry, delta, method, in_step=in_step)
            if device.is_part and device.origin is not Origin.ESTIMATED:
                key = (device.component, method)
                self.node_energy_j[key] = self.node_energy_j.get(key, 0.0) + used_j
        attributed_j, unattributed_j, pending_j, waiting = booked
        # In the order of the fields: by name it takes as long again, and `_replace` four times, for each device.
        self.devices[device.id] = DeviceTotals(
            device,
            energy_j,
            at,
            attributed_j,
            unattributed_j,
            pending_j,
            entry.unmeasured_s + unmeasured_s,
            entry.resets + restarted,
            _power_w(entry, reading, delta),
            reading.telemetry or entry.telemetry,
            at if reading.telemetry else entry.telemetry_at,
            waiting,
            entry.processes,
            entry.looks,
            entry.idle if entry.idle.since_mono_s is None else _idle(entry, after, told=told),
            entry.ratios,
            after,
            crosscheck.check(entry.crosscheck, reading, delta),
        )

    def _placed(self, reading: Reading) -> Reading:
        """The reading, as an overlap where its joules are in a module's: a module that is a part contains its CPUs."""
        device = reading.device
        if device.within or device.component not in COMMON or device.component is Component.PLATFORM:
            return reading
        parts = [
            entry.device.id
            for entry in self.devices.values()
            if entry.device.component is Component.MODULE and self._measures(entry, reading.at)
        ]
        return reading._replace(device=replace(device, within=parts[0])) if parts else reading

    def _measures(self, entry: DeviceTotals, at: Instant) -> bool:
        """Whether it is a part whose joules are known now, or will be."""
        told_lately = at.mono_s - entry.last_at.mono_s <= self.before.policy.lost_after_s
        return entry.device.is_part and entry.meter.last is not None and told_lately

    def fail(self, failure: ReadFailure) -> None:
        """Drop the baseline of a device that fell away: its counter may restart unseen."""
        entry = self.devices.get(failure.device_id)
        if entry is not None and failure.baseline_lost:
            self.devices[failure.device_id] = _away(entry)

    def see(self, processes: Processes) -> None:
        """Note what runs on one device."""
        entry = self.devices.get(processes.device_id)
        if entry is None:
            return
        at_s, used_j = entry.last_at.mono_s, math.fsum(entry.energy_j.values())
        is_idle = not processes.processes and entry.telemetry.utilization_ratio == 0.0
        self.devices[processes.device_id] = entry._replace(
            processes=processes,
            looks=looks.added(entry.looks, processes, keep_from_s=_oldest_s(entry)),
            idle=idle.look(entry.idle, is_idle=is_idle, at_s=at_s, energy_j=used_j),
        )

    # -- whose it is -------------------------------------------------------------------------------------------------

    def _charge(self, entry: DeviceTotals, delta: EnergyDelta, method: Method, *, in_step: bool) -> Booked:
        """Book it where that is plain, else have it wait to be told."""
        device, start, end, energy_j, how = delta
        attributed_j, unattributed_j, pending_j, waiting = (
            entry.attributed_j,
            entry.unattributed_j,
            entry.pending_j,
            entry.waiting,
        )
        if not device.is_part:  # others have these joules already
            return attributed_j, unattributed_j + energy_j, pending_j, waiting
        start_s, end_s = start.mono_s, end.mono_s
        # In the order of the fields.
        span = Waiting(
            start_s,
            end_s,
            end.wall_s - end_s,
            energy_j,
            method,
            method is not Method.ESTIMATED and how not in UNMEASURED,
            in_step,
            start_s < self.resumed_s,
        )
        held = self.claims.get(device.id, ())
        if len(held) == 1 and (phase := claims.throughout(held[0], start_s, end_s)) is not None:
            self.account.book_at_once(device, whole(span, held[0].run, phase, entry.idle.power_w))
            return attributed_j + energy_j, unattributed_j, pending_j, waiting
        self.account.charge_node(device, energy_j, method, start_s + span.wall_offset_s, end.wall_s)
        policy = self.before.policy
        if not held and (policy.usage_wait_s if device.component in COMMON else policy.owner_wait_s) == 0.0:
            self.account.book(device, (nobodys(span),))
            return attributed_j, unattributed_j + energy_j, pending_j, waiting
        if held and (len(held) == 1 or policy.usage_wait_s == 0.0 or held[0].slice_ratio is not None):
            self.due.add(device.id)
        return attributed_j, unattributed_j, pending_j + energy_j, (*waiting, span)

    def _settle(self, at_s: float) -> None:
        """Book what waits and can be told by now, or has waited long enough."""
        policy = self.before.policy
        owner_by_s, usage_by_s = at_s - policy.owner_wait_s, at_s - policy.usage_wait_s
        if self._is_blind(at_s):
            owner_by_s = usage_by_s = -math.inf
        windows: list[Window] | None = None
        for device_id, entry in self.devices.items():
            if not entry.waiting:
                continue
            device, held = entry.device, self.claims.get(device_id, ())
            common = device.component in COMMON and not held
            by_s = usage_by_s if common or held else owner_by_s
            if not (self.is_fresh or device_id in self.due or entry.waiting[0].end_mono_s <= by_s):
                continue
            if common and windows is None:
                windows = self._windows()
            if held or common:
                shares, rest = settle(entry.waiting, held, self._facts(entry, windows or (), owner_by_s, usage_by_s))
                ratios = _ratios(shares) or entry.ratios
            else:  # nobody came for the oldest
                shares = [nobodys(span) for span in takewhile(lambda one: one.end_mono_s <= owner_by_s, entry.waiting)]
                rest, ratios = list(entry.waiting[len(shares) :]), entry.ratios
            attributed_j = self.account.book(device, shares)
            if common and windows:
                entry = self._learn_idle(entry, windows)  # noqa: PLW2901
            self.devices[device_id] = entry._replace(
                attributed_j=entry.attributed_j + attributed_j,
                unattributed_j=entry.unattributed_j + math.fsum([s.energy_j for s in shares if s.kind is None]),
                waiting=tuple(rest),
                pending_j=math.fsum([span.energy_j for span in rest]),
                ratios=ratios,
            )

    def _facts(self, entry: DeviceTotals, windows: Sequence[Window], owner_by_s: float, usage_by_s: float) -> Facts:
        return Facts(
            device=entry.device,
            idle_w=entry.idle.power_w,
            looks=entry.looks,
            windows=windows,
            owner_by_s=owner_by_s,
            usage_by_s=usage_by_s,
        )

    def _is_blind(self, at_s: float) -> bool:
        """Whether the daemon has just begun, and nobody has told yet who used what meanwhile: so long all waits."""
        resumed_at, policy = self.before.resumed_at, self.before.policy
        if resumed_at is None or policy.usage_wait_s == 0.0 or at_s > resumed_at.mono_s + FIRST_USAGE_WITHIN_S:
            return False
        usages = (*self.before.usages, *self.sample.usages)
        return not any(one.end.mono_s >= resumed_at.mono_s for one in usages)

    def _windows(self) -> list[Window]:
        resumed_at = self.before.resumed_at
        gpu_ratios = claims.gpu_ratios(self.claims, self.devices, resumed_at.mono_s if resumed_at else -math.inf)
        usages = (*self.before.usages, *self.sample.usages)
        return [Window(one, self.runs, gpu_ratios) for one in usages if one.start.mono_s < one.end.mono_s]

    @staticmethod
    def _learn_idle(entry: DeviceTotals, windows: Iterable[Window]) -> DeviceTotals:
        """What it drew while the node's CPUs were idle."""
        for window in windows:
            mean_w = window.quiet_power_w(entry.waiting)
            if mean_w is not None:
                power_w = idle.lowest(entry.idle.power_w, mean_w)
                entry = entry._replace(idle=entry.idle._replace(power_w=power_w))
        return entry

    def _hold(self, device: Device, start_mono_s: float, end_mono_s: float, unmeasured_s: float) -> None:
        """Account for the time of a device to the runs that held it; of the end of it nobody knows the joules."""
        held: Iterable[Claim] = self.claims.get(device.id, ())
        if not held and device.component in COMMON and self.before.policy.usage_wait_s > 0.0:
            held = [claims.of_run(run) for run in self.runs.values()]
        for claim in held if device.is_part else ():
            span_s = claims.overlap_s(claim, start_mono_s, end_mono_s)
            blind_s = claims.overlap_s(claim, end_mono_s - unmeasured_s, end_mono_s) if unmeasured_s > 0.0 else 0.0
            if span_s > 0.0 or blind_s > 0.0:
                count = self.account.count(claim.run.id)
                count.held_s += span_s
                if device.origin is not Origin.ESTIMATED:
                    count.measured_s += span_s - blind_s
                if device.component not in COMMON:  # the time of CPUs and memory goes as their joules do
                    self.account.reserve(claim.run.id, device, _reserved_s(claim, held, start_mono_s, end_mono_s))

    def _account_for_late_finding(self, run: Run) -> None:
        """A run that is found late used its devices before anybody charged it: that time is held, and unmeasured."""
        known = self.before.runs.get(run.id)
        for device_id, entry in self.before.devices.items():
            held = self.claims.get(device_id, ())
            if not held and known is None and entry.device.component in COMMON and entry.device.is_part:
                since_s = run.since.mono_s if self.before.policy.usage_wait_s > 0.0 else math.inf
            elif known is None or not claims.has(known.run, device_id):
                since_s = min((claim.since_s for claim in held if claim.run is run), default=math.inf)
            else:
                continue
            unseen_s = _oldest_s(entry) - since_s
            if unseen_s > 0.0:
                self.account.count(run.id).held_s += unseen_s

    def _account_for_late_seeing(self, entry: DeviceTotals) -> None:
        """The same for a device that is first read when runs are on it, as by a daemon that starts beside them."""
        at_s = entry.last_at.mono_s
        held: Iterable[Claim] = self.claims.get(entry.device.id, ())
        if not held and entry.device.component in COMMON and self.before.policy.usage_wait_s > 0.0:
            held = [claims.of_run(run) for run in self.runs.values() if run.end is None]
        for claim in held if entry.device.is_part else ():
            unseen_s = at_s - claim.since_s
            if unseen_s > FIRST_READ_WITHIN_S:
                self.account.count(claim.run.id).held_s += unseen_s

    def finish(self) -> Snapshot:
        """Freeze the turn."""
        at = self.sample.at
        if self.sample.usages:
            self.devices = {key: looks.resolved(entry, self.sample.usages) for key, entry in self.devices.items()}
        self._settle(at.mono_s)
        devices: dict[str, DeviceTotals] = {}
        watts: list[float] = []
        policy = self.before.policy
        stale_after_s = policy.stale_after_s
        for device_id in sorted(self.devices):
            entry = self.devices[device_id]
            if entry.meter.last is None or at.mono_s - entry.last_at.mono_s > stale_after_s:
                entry = self._aged(entry, at)
            devices[device_id] = entry
            if entry.power_w is not None and _is_measured(entry):
                watts.append(entry.power_w)
        usages = self.before.usages
        if self.is_fresh and (self.sample.usages or usages):
            usages = looks.still_needed((*usages, *self.sample.usages), devices)
        newest = self.sample.usages[-1] if self.sample.usages else None
        is_same_node = len(devices) == len(self.before.devices)
        totals = self._run_totals(devices, claims.watts(self.claims, devices), is_same_node=is_same_node)
        # Every field by name: `dataclasses.replace` takes four times as long.
        return Snapshot(
            ledger_id=self.before.ledger_id,
            policy=policy,
            resumed_at=self.before.resumed_at,
            at=at,
            devices=MappingProxyType(devices),
            runs=MappingProxyType(totals),
            book=self.sample.runs,
            stirred=frozenset(self.account.counts) if self.is_same_book and is_same_node else None,
            projections=projection.of_runs(totals.values(), self.sample, policy),
            node_energy_j=MappingProxyType(self.node_energy_j),
            node_power_w=sum(watts) if watts else None,
            node_emissions_g=MappingProxyType(self.account.node_emissions_g),
            node_unpriced_j=self.account.node_unpriced_j,
            projects=self.account.projects(),
            usages=usages,
            usage_mark=newest.mark if newest is not None else self.before.usage_mark,
            sources=self.sample.sources,
            intensities=self.sample.intensities,
            grid=self.sample.grid,
            ledger=self.sample.ledger,
            runs_dropped=self.sample.runs.dropped,
            names_altered=self.sample.runs.altered,
            late_ticks=self.before.late_ticks + self.sample.late_ticks,
            booked=tuple(self.account.booked),
        )

    def _aged(self, entry: DeviceTotals, at: Instant) -> DeviceTotals:
        """Of a device that is silent: it loses its watts, and its time is unmeasured once no counter can tell."""
        policy, resumed_at = self.before.policy, self.before.resumed_at
        silent_s = at.mono_s - entry.last_at.mono_s
        last = entry.meter.last
        if resumed_at is not None and entry.last_at.mono_s < resumed_at.mono_s:
            return entry  # of the daemon before this one: it may answer yet, or be gone for good
        if last is not None and silent_s <= max(policy.stale_after_s, STALE_WINDOWS * last.window_s):
            return entry
        if entry.meter.counted is not None and silent_s <= policy.lost_after_s:
            return entry._replace(power_w=None)
        self._hold(entry.device, entry.last_at.mono_s, at.mono_s, silent_s + entry.meter.unvouched_s)
        gone = _away(entry)
        last_at = at if silent_s > 0.0 else entry.last_at
        return gone._replace(unmeasured_s=gone.unmeasured_s + max(0.0, silent_s), last_at=last_at)

    def _run_totals(
        self, devices: Mapping[str, DeviceTotals], watts: Mapping[str, float], *, is_same_node: bool
    ) -> dict[str, RunTotals]:
        """Of every run; of most of many nothing was booked in this turn."""
        before, counts, at = self.before.runs, self.account.counts, self.sample.at
        if self.is_same_book and is_same_node:
            return runcount.gone_on(before, self.sample.runs, counts, watts, at_s=at.mono_s)
        totals: dict[str, RunTotals] = {}
        for run_id, run in self.runs.items():
            known, end = before.get(run_id), run.end
            power_w = watts.get(run_id) if end is None else None
            duration_s = run.before_s + max(0.0, (end or at).mono_s - run.since.mono_s)
            if known is None or known.run is not run or not is_same_node:
                self._begin_at_0(run, devices)
            elif run_id not in counts:  # of one that has ended, nothing is new
                totals[run_id] = known if end else known._replace(power_w=power_w, duration_s=duration_s)
                continue
            totals[run_id] = counts[run_id].totals(run, power_w=power_w, duration_s=duration_s)
        return totals

    def _begin_at_0(self, run: Run, devices: Mapping[str, DeviceTotals]) -> None:
        """Every series present at 0 from the start, so that the first increase is seen by whoever takes a rate."""
        count = self.account.count(run.id)
        present = {component for component, _, _ in count.energy_j}
        told = self.before.policy.usage_wait_s > 0.0
        at_s = self.sample.at.wall_s
        for entry in devices.values():
            component = entry.device.component
            held = entry.device.id in run.holds
            if component in present or not (held or (told and component in COMMON and entry.device.is_part)):
                continue
            for method in entry.energy_j:
                kind = ShareKind.WHOLE if held else ShareKind.USAGE
                count.energy_j[component, method, kind] = 0.0
                self.account.price(entry.device, 0.0, at_s, at_s, method, count.emissions_g)


def _reserved_s(claim: Claim, held: Iterable[Claim], start_s: float, end_s: float) -> float:
    """Its part of the time of a device: of a divided one its slices, else equally among those who had it then."""
    from_s, until_s = max(start_s, claim.since_s), min(end_s, claim.until_s)
    if until_s <= from_s:
        return 0.0
    if claim.slice_ratio is not None:
        return (until_s - from_s) * claim.slice_ratio
    moments = {from_s, until_s} | {m for one in held for m in (one.since_s, one.until_s) if from_s < m < until_s}
    edges = sorted(moments)
    return sum(
        (high - low) / sum(one.since_s <= low and one.until_s >= high for one in held) for low, high in pairwise(edges)
    )


def _oldest_s(entry: DeviceTotals) -> float:
    """From here on its joules can still be given to somebody."""
    return entry.waiting[0].start_mono_s if entry.waiting else entry.last_at.mono_s


def _ratios(shares: Iterable[Share]) -> Mapping[str, float]:
    """What part each run had of the last joules that were split."""
    newest = max(shares, key=lambda share: share.span.end_mono_s, default=None)
    if newest is None or newest.span.energy_j <= 0.0:
        return {}
    same = [share for share in shares if share.span is newest.span and share.kind is not None]
    return MappingProxyType({share.run_id: share.energy_j / newest.span.energy_j for share in same})


def _away(entry: DeviceTotals) -> DeviceTotals:
    """The device without a baseline: what its counter might have told of a gap is now unmeasured for good."""
    return entry._replace(
        meter=Meter(),
        power_w=None,
        idle=idle.broken(entry.idle),
        unmeasured_s=entry.unmeasured_s + entry.meter.unvouched_s,
    )


def _is_measured(entry: DeviceTotals) -> bool:
    """Whether its joules belong into the node's sum: a disjoint part, and no estimate."""
    return entry.device.is_part and entry.device.origin is not Origin.ESTIMATED


def _idle(entry: DeviceTotals, after: Meter, *, told: bool) -> Idle:
    """What is known of its idle power: a count of idle joules goes on while each is of its own time."""
    return entry.idle if told and meter.is_true_to_time(entry.meter, after) else idle.broken(entry.idle)


def _plus(totals: Mapping[Method, float], method: Method, energy_j: float) -> Mapping[Method, float]:
    after = runcount.thawed(totals)
    after[method] = after.get(method, 0.0) + energy_j
    return MappingProxyType(after)


def _power_w(entry: DeviceTotals, reading: Reading, delta: EnergyDelta) -> float | None:
    """Mean power: the driver's own average where it gives one, else of the interval; else as it was."""
    if reading.power_w is not None:
        last = entry.meter.last
        if reading.power_signal is PowerSignal.AVERAGE or not (last is None or delta.start == last.at):
            return reading.power_w  # the sensor's own mean, or the joules are of more than the last interval
    return delta.mean_power_w if delta.span_s > 0.0 else entry.power_w
