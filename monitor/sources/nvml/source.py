"""NVIDIA GPUs as a source: all of them, keyed by UUID, energy of every one first, telemetry now and then."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pynvml

from monitor import clock
from monitor.core.model import Component, Device, PowerSignal, ReadFailure, Reading, Readout, Telemetry
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceError
from monitor.sources.nvml import driver
from monitor.sources.nvml.policy import Action, action_of, describe, open_error, reason_of

INTEGRATION_PERIOD_S = 0.1
"""A GPU without a counter is read this often; the driver itself refreshes its power at 2 to 10 Hz."""
TELEMETRY_PERIOD_S = 5.0
FIRST_PROBE_S = 1.0
LONGEST_PROBE_S = 60.0
DEFAULT_MAX_POWER_W = 2000.0
"""Where the driver states no limit: above any single GPU that is sold."""
BURST_RATIO = 1.5
"""A board may exceed its limit for moments (the limit holds for a mean)."""


T = TypeVar("T")


class _SkippedError(Exception):
    def __init__(self, failure: ReadFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(slots=True)
class _Gpu:
    """One GPU at work: its handle, and what the driver has refused for it so far."""

    handle: driver.Handle
    device: Device
    signal: PowerSignal
    off: set[str] = field(default_factory=set)

    @property
    def integrated(self) -> bool:
        return "energy" in self.off


@dataclass(slots=True)
class _Lost:
    """One GPU that is away, and when to look for it again."""

    slot: int
    failure: ReadFailure
    probe_at_s: float
    probe_wait_s: float = FIRST_PROBE_S


class Nvml:
    """Every GPU that this process may open."""

    name = "nvml"

    def __init__(self, *, now: Now, interval_s: float) -> None:
        self.period_s = interval_s
        self._now = now
        self._interval_s = interval_s
        self._gpus: list[_Gpu] = []
        self._lost: list[_Lost] = []
        self._all_due_s = -math.inf
        self._telemetry_due_s = -math.inf

    def open(self) -> None:
        """Initialise the library and find every GPU. Raises SourceAbsent, SourceDenied or SourceBroken."""
        try:
            driver.init()
        except pynvml.NVMLError as error:
            raise open_error(error) from error
        self._gpus, self._lost = [], []
        try:
            for slot in range(driver.count()):
                self._find(slot)
            if not self._gpus and not self._lost:
                raise SourceAbsent("the NVIDIA driver shows no GPU that this user may open")
        except pynvml.NVMLError as error:
            self.close()
            raise open_error(error) from error
        except SourceError:
            self.close()
            raise
        self._all_due_s = self._telemetry_due_s = -math.inf

    def read(self) -> Readout:
        """Energy of all GPUs, then power, then telemetry if there is time. Raises SourceBroken for the library."""
        started_s = self._now().mono_s
        self._probe_lost(started_s)
        everything = started_s >= self._all_due_s
        due = [gpu for gpu in self._gpus if everything or gpu.integrated]
        if everything:
            self._all_due_s = clock.next_deadline_s(started_s, self._interval_s) - INTEGRATION_PERIOD_S / 2
        readings: list[tuple[_Gpu, Reading]] = []
        failures: list[ReadFailure] = [lost.failure for lost in self._lost]
        for gpu in due:
            try:
                readings.append((gpu, self._energy(gpu)))
            except _SkippedError as skipped:
                failures.append(skipped.failure)
        telemetry = self._telemetry_due(started_s)
        finished = tuple(self._complete(gpu, reading, telemetry=telemetry) for gpu, reading in readings)
        integrating = any(gpu.integrated for gpu in self._gpus)
        self.period_s = min(INTEGRATION_PERIOD_S, self._interval_s) if integrating else self._interval_s
        return Readout(readings=finished, failures=tuple(failures))

    def close(self) -> None:
        """Give every handle back."""
        self._gpus, self._lost = [], []
        try:
            driver.shutdown()
        except pynvml.NVMLError:
            return  # there is nothing to give back when the driver has gone

    def _find(self, slot: int) -> None:
        try:
            handle = driver.handle_by_index(slot)
            info = driver.info(handle)
        except pynvml.NVMLError as error:
            if action_of(error) is Action.REOPEN:
                raise SourceBroken(describe(error), reason=reason_of(error)) from error
            if error.value != pynvml.NVML_ERROR_NO_PERMISSION:
                self._lose(slot, f"gpu-slot-{slot}", error)
            return
        limits_w = [self._limit_w(driver.power_limit_w, handle), self._limit_w(driver.highest_power_limit_w, handle)]
        stated_w = max(limits_w)
        device = Device(
            id=info.uuid,
            component=Component.GPU,
            source=self.name,
            model=info.model,
            index=str(info.index),
            max_power_w=BURST_RATIO * stated_w if stated_w > 0.0 else DEFAULT_MAX_POWER_W,
        )
        averaging = info.architecture >= pynvml.NVML_DEVICE_ARCH_ADA
        signal = PowerSignal.AVERAGE if averaging else PowerSignal.INSTANT
        self._gpus.append(_Gpu(handle=handle, device=device, signal=signal))

    @staticmethod
    def _limit_w(ask: Callable[[driver.Handle], float], handle: driver.Handle) -> float:
        try:
            return ask(handle)
        except pynvml.NVMLError:
            return 0.0

    def _energy(self, gpu: _Gpu) -> Reading:
        energy_j = self._ask(gpu, "energy", driver.energy_j)
        return Reading(device=gpu.device, at=self._now(), energy_j=energy_j)

    def _complete(self, gpu: _Gpu, reading: Reading, *, telemetry: bool) -> Reading:
        """Add watts, and telemetry when due. None of it may cost the energy that is already read."""
        at, signal = reading.at, PowerSignal.AVERAGE
        power_w = self._ask_optional(gpu, "average_power", driver.average_power_w)
        if power_w is None:
            signal = gpu.signal
            power_w = self._ask_optional(gpu, "power", driver.power_w)
        if reading.energy_j is None:
            at = self._now()
        return Reading(
            device=reading.device,
            at=at,
            energy_j=reading.energy_j,
            power_w=power_w,
            power_signal=signal,
            telemetry=self._telemetry(gpu) if telemetry else None,
        )

    def _telemetry(self, gpu: _Gpu) -> Telemetry:
        return Telemetry(
            power_limit_w=self._ask_optional(gpu, "power_limit", driver.power_limit_w),
            utilization_ratio=self._ask_optional(gpu, "utilization", driver.utilization_ratio),
            memory_used_bytes=self._ask_optional(gpu, "memory", driver.memory_used_bytes),
            temperature_c=self._ask_optional(gpu, "temperature", driver.temperature_c),
        )

    def _telemetry_due(self, started_s: float) -> bool:
        late = self._now().mono_s - started_s > self.period_s / 2
        if started_s < self._telemetry_due_s or late:
            return False
        self._telemetry_due_s = clock.next_deadline_s(started_s, TELEMETRY_PERIOD_S) - INTEGRATION_PERIOD_S / 2
        return True

    def _ask(self, gpu: _Gpu, feature: str, call: Callable[[driver.Handle], T]) -> T | None:
        """Ask under the policy. None = not offered. Raises _SkippedError for this GPU, SourceBroken for all."""
        if feature in gpu.off:
            return None
        try:
            return call(gpu.handle)
        except pynvml.NVMLError as error:
            action = action_of(error)
            if action is Action.METRIC_OFF:
                gpu.off.add(feature)
                return None
            if action is Action.REOPEN:
                raise SourceBroken(describe(error), reason=reason_of(error)) from error
            if action is Action.DROP:
                self._gpus.remove(gpu)
                raise _SkippedError(self._lose(int(gpu.device.index), gpu.device.id, error)) from error
            message = f"GPU {gpu.device.index} ({gpu.device.id}): {describe(error)}"
            raise _SkippedError(
                ReadFailure(device_id=gpu.device.id, at=self._now(), reason=reason_of(error), message=message)
            ) from error

    def _ask_optional(self, gpu: _Gpu, feature: str, call: Callable[[driver.Handle], T]) -> T | None:
        if gpu not in self._gpus:
            return None
        try:
            return self._ask(gpu, feature, call)
        except _SkippedError:
            return None

    def _lose(self, slot: int, device_id: str, error: pynvml.NVMLError) -> ReadFailure:
        at = self._now()
        message = f"GPU {slot} ({device_id}): {describe(error)}"
        failure = ReadFailure(device_id=device_id, at=at, reason=reason_of(error), message=message, baseline_lost=True)
        self._lost.append(_Lost(slot=slot, failure=failure, probe_at_s=at.mono_s + FIRST_PROBE_S))
        return failure

    def _probe_lost(self, started_s: float) -> None:
        for lost in [lost for lost in self._lost if lost.probe_at_s <= started_s]:
            self._lost.remove(lost)
            self._find(lost.slot)
            for again in self._lost:
                if again.slot == lost.slot:
                    again.probe_wait_s = min(lost.probe_wait_s * 2, LONGEST_PROBE_S)
                    again.probe_at_s = started_s + again.probe_wait_s
                    if lost.failure.device_id.startswith("GPU-"):
                        again.failure = lost.failure
