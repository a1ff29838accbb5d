"""NVIDIA GPUs as a source: all of them, keyed by UUID, energy of every one first, the rest when there is time."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pynvml

from monitor import clock
from monitor.core.model import Device, Instant, PowerSignal, Processes, ReadFailure, Reading, Readout, Telemetry
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceError
from monitor.sources.nvml import driver, mig
from monitor.sources.nvml.channel import Channel, channels_of
from monitor.sources.nvml.driver import Handle
from monitor.sources.nvml.gpu import FIRST_PROBE_S, Gpu, Lost
from monitor.sources.nvml.policy import Action, action_of, describe, open_error, reason_of
from monitor.sources.nvml.processes import ProcessReader

INTEGRATION_PERIOD_S = 0.1
"""A GPU without a counter is read this often; the driver itself refreshes its power at 2 to 10 Hz."""
TELEMETRY_PERIOD_S = 5.0
"""Also for process utilisation, whose samples the driver keeps for 10 s."""
LOOKS_APART_S = 1.0
"""So long after a look at the processes the edge of a run is a reason for another one."""
LONGEST_PROBE_S = 60.0
LOOK_ROUND_S = 60.0
"""How often GPUs are counted and MIG slices listed anew."""
MOST_UNKNOWN = 5
"""So often in a row may the driver answer "unknown error" before the library is opened anew."""

T = TypeVar("T")
Said = tuple[Device, Instant, float | None, float | None, PowerSignal]
"""A reading before its telemetry is known: device, moment, joules, watts and what these mean."""


class _SkippedError(Exception):
    def __init__(self, failure: ReadFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Nvml:
    """Every GPU that this process may open."""

    name = "nvml"

    def __init__(
        self,
        *,
        now: Now,
        interval_s: float,
        calibration: dict[str, float] | None = None,
        sysfs: Path = Path("/sys"),
        sees_processes: bool = True,
    ) -> None:
        """`calibration` holds factors for the joules of single cards, by UUID.

        `sees_processes`: whether process numbers of the host, which the driver tells, mean anything to us.
        """
        self.period_s = interval_s
        self._now = now
        self._interval_s = interval_s
        self._calibration = calibration or {}
        self._gpus: list[Gpu] = []
        self._lost: list[Lost] = []
        self._module = sysfs / "module" / "nvidia"
        self._driver: tuple[str, ...] | None = None
        """Which driver the counters of the last readings belonged to."""
        self._changed: list[ReadFailure] = []
        self._reader: ProcessReader
        """Made when the library is opened: it knows the layout of the driver."""
        self._sees_processes = sees_processes
        self._looked_at_s = -math.inf
        """When the processes were last asked for."""
        self._standing: tuple[str, ...] = ()
        """What was wrong when all GPUs were last read."""
        self._slots = 0
        self._all_due_s = self._telemetry_due_s = self._look_due_s = -math.inf

    def open(self) -> None:
        """Initialise the library and find every GPU. Raises SourceAbsent, SourceDenied or SourceBroken."""
        try:
            driver.init()
        except pynvml.NVMLError as error:
            raise open_error(error) from error
        try:
            before, self._driver = self._driver, self._identity()
            self._reader = ProcessReader()
            self._slots = driver.count()
            for slot in range(self._slots):
                self._find(slot)
            if not self._gpus and not self._lost:
                raise SourceAbsent("the NVIDIA driver shows no GPU that this user may open")
            if before not in (None, self._driver):
                self._changed = self._restarted()
        except pynvml.NVMLError as error:
            self.close()
            raise open_error(error) from error
        except SourceError:
            self.close()
            raise
        self._all_due_s = self._telemetry_due_s = -math.inf
        self._look_due_s = self._now().mono_s + LOOK_ROUND_S

    def read(self) -> Readout:
        """Energy of all GPUs, then telemetry if there is time. Raises SourceBroken for the library."""
        return self._read(in_turn=True)

    def read_energy(self) -> Readout:
        """Energy of all GPUs, those too that are read more seldom. Raises SourceBroken for the library."""
        return self._read(in_turn=False)

    def _read(self, *, in_turn: bool) -> Readout:
        started_s = self._now().mono_s
        self._probe_lost(started_s)
        everything = not in_turn or started_s >= self._all_due_s
        if everything and in_turn:
            self._all_due_s = clock.next_deadline_s(started_s, self._interval_s) - INTEGRATION_PERIOD_S / 2
        due = [(gpu, channel) for gpu in self._gpus for channel in gpu.channels if everything or channel.hurried]
        failures = [failure for lost in self._lost for failure in lost.failures] if everything else []
        failures += self._changed
        self._changed = []
        counted = self._counters(due, failures, everything=everything)
        told = [said for seen in counted if (said := self._with_power(*seen))]
        telemetry: dict[str, Telemetry] = {}
        processes: tuple[Processes, ...] = ()
        if everything and in_turn and self._telemetry_due(started_s):
            telemetry = {gpu.device.id: self._telemetry(gpu) for gpu in self._gpus}
            processes = self._processes()
            self._look_round(started_s)
        elif not in_turn and started_s - self._looked_at_s >= LOOKS_APART_S:
            processes = self._processes()
        readings = tuple(
            Reading(
                device=device,
                at=at,
                energy_j=energy_j,
                power_w=power_w,
                power_signal=signal,
                telemetry=telemetry.get(device.id),
            )
            for device, at, energy_j, power_w, signal in told
        )
        integrating = any(channel.hurried for gpu in self._gpus for channel in gpu.channels)
        self.period_s = min(INTEGRATION_PERIOD_S, self._interval_s) if integrating else self._interval_s
        if everything:
            self._standing = tuple(failure.message for failure in failures)
        return Readout(readings=readings, failures=tuple(failures), processes=processes, notes=self._standing)

    def close(self) -> None:
        """Give every handle back."""
        self._gpus, self._lost = [], []
        try:
            driver.shutdown()
        except pynvml.NVMLError:
            return  # there is nothing to give back when the driver has gone

    def _counters(
        self, due: list[tuple[Gpu, Channel]], failures: list[ReadFailure], *, everything: bool
    ) -> list[tuple[Gpu, Channel, Instant, float | None]]:
        """Read every energy counter, before anything else takes time."""
        seen: list[tuple[Gpu, Channel, Instant, float | None]] = []
        for gpu, channel in due:
            try:
                # A counter that fails is asked at the slower rate: the driver has trouble enough.
                energy_j = self._energy_j(gpu, channel) if everything or not channel.counter_away else None
            except _SkippedError as skipped:
                failures.append(skipped.failure)
                if gpu not in self._gpus:
                    continue
                energy_j = None
            at = self._now()
            if energy_j is not None:
                channel.told_of = at
            seen.append((gpu, channel, at, energy_j))
        return [entry for entry in seen if entry[0] in self._gpus]

    def _energy_j(self, gpu: Gpu, channel: Channel) -> float | None:
        if channel.energy is None or channel.energy in channel.off:
            return None
        try:
            energy_j = self._ask(gpu, channel.off, channel.energy, channel.energy)
        except _SkippedError as skipped:
            channel.counter_away = True
            gpu.unknown = gpu.unknown + 1 if skipped.failure.reason == "unknown" else 0
            if gpu.unknown >= MOST_UNKNOWN:
                raise SourceBroken(skipped.failure.message, reason="unknown") from skipped
            raise
        channel.counter_away, gpu.unknown = False, 0
        return energy_j

    def _with_power(self, gpu: Gpu, channel: Channel, at: Instant, energy_j: float | None) -> Said | None:
        """The reading, with watts; None when neither counter nor sensor answered, for it must say something."""
        for signal, call in channel.powers:
            power_w = self._ask_optional(gpu, channel.off, call, call)
            if power_w is not None:
                at = at if energy_j is not None else channel.moment_of(signal, self._now())
                return channel.device, at, energy_j, power_w, signal
        answered = energy_j is not None or not channel.counter_away
        return (channel.device, at, energy_j, None, PowerSignal.AVERAGE) if answered and gpu in self._gpus else None

    def _telemetry(self, gpu: Gpu) -> Telemetry:
        return Telemetry(
            power_limit_w=self._ask_optional(gpu, gpu.off, "power_limit", driver.power_limit_w),
            utilization_ratio=self._ask_optional(gpu, gpu.off, "utilization", driver.utilization_ratio),
            memory_used_bytes=self._ask_optional(gpu, gpu.off, "memory", driver.memory_used_bytes),
            temperature_c=self._ask_optional(gpu, gpu.off, "temperature", driver.temperature_c),
            throttled_s=self._throttled_s(gpu),
        )

    def _throttled_s(self, gpu: Gpu) -> tuple[tuple[str, float], ...]:
        told = self._ask_optional(gpu, gpu.off, "throttled", driver.throttled_s) or ()
        if told != gpu.throttled_s:
            gpu.throttled_s = told
        return gpu.throttled_s

    def _processes(self) -> tuple[Processes, ...]:
        self._looked_at_s = self._now().mono_s
        seen: list[Processes] = []
        for gpu in [gpu for gpu in self._gpus if gpu.device.lists_processes]:
            ask = partial(self._reader.read, device_id=gpu.device.id, slices=gpu.slices)
            processes = self._ask_optional(gpu, gpu.off, "processes", ask)
            if processes is not None:
                seen.append(Processes(device_id=gpu.device.id, at=self._now(), processes=processes))
            elif "processes" in gpu.off:
                gpu.describe(lists_processes=False)
        return tuple(seen)

    def _lists_processes(self, gpu: Gpu) -> bool:
        """Whether the driver tells who works on it. Raises NVMLError only where the GPU or the library is gone."""
        try:
            self._reader.probe(gpu.handle, gpu.slices)
        except pynvml.NVMLError as error:
            if action_of(error) in (Action.DROP, Action.REOPEN):
                raise
            return action_of(error) is not Action.METRIC_OFF
        return True

    def _look_round(self, started_s: float) -> None:
        """Follow what operators change: GPUs that come or go (raises SourceBroken: open anew), MIG slices."""
        if started_s < self._look_due_s:
            return
        self._look_due_s = started_s + LOOK_ROUND_S
        try:
            slots = driver.count()
        except pynvml.NVMLError:
            return  # the next read of an energy counter says what is wrong
        if slots != self._slots:
            raise SourceBroken(f"there are {slots} GPUs now, not {self._slots}: looking anew", reason="topology")
        for gpu in self._gpus:
            divided = self._ask_optional(gpu, gpu.off, "slices", mig.divided)
            if divided is not None:
                gpu.divide(*divided)

    def _telemetry_due(self, started_s: float) -> bool:
        late = self._now().mono_s - started_s > self._interval_s / 2
        if started_s < self._telemetry_due_s or late:
            return False
        self._telemetry_due_s = clock.next_deadline_s(started_s, TELEMETRY_PERIOD_S) - INTEGRATION_PERIOD_S / 2
        return True

    def _ask(self, gpu: Gpu, off: set[object], feature: object, call: Callable[[Handle], T]) -> T | None:
        """Ask under the policy. None = not offered. Raises _SkippedError for this GPU, SourceBroken for all."""
        if feature in off:
            return None
        try:
            return call(gpu.handle)
        except pynvml.NVMLError as error:
            action = action_of(error)
            if action is Action.METRIC_OFF:
                off.add(feature)
                return None
            if action is Action.REOPEN:
                raise SourceBroken(describe(error), reason=reason_of(error)) from error
            if action is Action.DROP:
                self._gpus.remove(gpu)
                ids = [channel.device.id for channel in gpu.channels]
                raise _SkippedError(self._lose(gpu.slot, ids, error)[0]) from error
            raise _SkippedError(self._failure(gpu.slot, gpu.device.id, error)) from error

    def _ask_optional(self, gpu: Gpu, off: set[object], feature: object, call: Callable[[Handle], T]) -> T | None:
        if gpu not in self._gpus:
            return None
        try:
            return self._ask(gpu, off, feature, call)
        except _SkippedError:
            return None

    def _find(self, slot: int) -> None:
        try:
            handle = driver.handle_by_index(slot)
            info = driver.info(handle)
            gpu = Gpu(slot, handle, channels_of(handle, info))
            gpu.divide(*(mig.optional(mig.divided, handle) or ((), ())))
            gpu.describe(lists_processes=self._sees_processes and self._lists_processes(gpu))
        except pynvml.NVMLError as error:
            if action_of(error) is Action.REOPEN:
                raise SourceBroken(describe(error), reason=reason_of(error)) from error
            if error.value != pynvml.NVML_ERROR_NO_PERMISSION:
                self._lose(slot, [f"gpu-slot-{slot}"], error)
            return
        for channel in gpu.channels:
            ratio = self._calibration.get(channel.device.id, 1.0)
            channel.device = replace(
                channel.device, calibration_ratio=ratio, counter_epoch=" ".join(self._driver or ())
            )
        self._gpus.append(gpu)

    def _identity(self) -> tuple[str, ...]:
        """Version of the driver and the loading of its module: counters of another one have nothing in common."""
        try:
            loaded = self._module.stat()
        except OSError:
            return (driver.driver_version(),)
        return (driver.driver_version(), str(loaded.st_ino), str(loaded.st_ctime_ns))

    def _restarted(self) -> list[ReadFailure]:
        """Close every open interval: a counter that began anew may have passed its old value unseen."""
        at = self._now()
        return [
            ReadFailure(
                device_id=channel.device.id,
                at=at,
                reason="driver_changed",
                message="the NVIDIA driver was loaded anew: the time since the last reading is unmeasured",
                baseline_lost=True,
            )
            for gpu in self._gpus
            for channel in gpu.channels
        ]

    def _failure(self, slot: int, device_id: str, error: pynvml.NVMLError, *, lost: bool = False) -> ReadFailure:
        message = f"GPU {slot} ({device_id}): {describe(error)}"
        return ReadFailure(
            device_id=device_id, at=self._now(), reason=reason_of(error), message=message, baseline_lost=lost
        )

    def _lose(self, slot: int, device_ids: list[str], error: pynvml.NVMLError) -> list[ReadFailure]:
        failures = [self._failure(slot, device_id, error, lost=True) for device_id in device_ids]
        self._lost.append(Lost(slot, failures, self._now().mono_s + FIRST_PROBE_S))
        return failures

    def _probe_lost(self, started_s: float) -> None:
        for lost in [lost for lost in self._lost if lost.probe_at_s <= started_s]:
            self._lost.remove(lost)
            self._find(lost.slot)
            for again in self._lost:
                if again.slot == lost.slot:
                    again.probe_wait_s = min(lost.probe_wait_s * 2, LONGEST_PROBE_S)
                    again.probe_at_s = started_s + again.probe_wait_s
                    again.failures = lost.failures
