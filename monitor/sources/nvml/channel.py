"""One meter of a GPU at work: which calls give its joules and watts, and what the driver has refused so far."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pynvml

from monitor.core.model import NODE, Component, Device, Instant, PowerSignal
from monitor.sources.nvml import driver
from monitor.sources.nvml.driver import GpuInfo, Handle, Scope
from monitor.sources.nvml.policy import Action, action_of

T = TypeVar("T")
Call = Callable[[Handle], T]

DEFAULT_MAX_POWER_W = 2000.0
"""Where the driver states no limit: above any single GPU that is sold."""
DEFAULT_MODULE_MAX_POWER_W = 6000.0
AVERAGE_WINDOW_S = 1.0
"""Of NVML_FI_DEV_POWER_AVERAGE, on every card that offers it (nvml.h; Yang et al., arXiv 2312.02741)."""
BURST_RATIO = 1.5
"""A board may exceed its limit for moments (the limit holds for a mean)."""


@dataclass(slots=True)
class Channel:
    """A device, the counter that tells its joules, and the calls that tell its watts, best first."""

    device: Device
    energy: Call[float] | None
    powers: list[tuple[PowerSignal, Call[float]]]
    counter_away: bool = False
    """The counter failed at the last try."""
    off: set[object] = field(default_factory=set)
    """Calls that this GPU does not offer, until the library is opened anew."""
    told_of: Instant | None = None
    """The moment that its last reading speaks of."""

    @property
    def hurried(self) -> bool:
        """Whether its joules must be integrated from watts now, at 10 Hz. What only overlaps is not worth the calls."""
        integrated = self.energy is None or self.energy in self.off or self.counter_away
        return integrated and self.device.is_part

    def moment_of(self, signal: PowerSignal, at: Instant) -> Instant:
        """The moment that watts read now speak of: a mean over a second tells of its middle, half a second ago.

        Never before the last reading's: a meter does not run backwards where a counter fails.
        """
        if signal is PowerSignal.AVERAGE:
            at = Instant(at.mono_s - AVERAGE_WINDOW_S / 2, at.wall_s - AVERAGE_WINDOW_S / 2)
            if self.told_of is not None and self.told_of.mono_s > at.mono_s:
                at = self.told_of
        self.told_of = at
        return at


def channels_of(handle: Handle, info: GpuInfo) -> list[Channel]:
    """What this GPU can tell about itself, its memory and the module around it: the first entry is its part of the sum.

    On a superchip the plain counter counts the whole module (GPU and CPU), so that the GPU is read by scope and the
    module overlaps; where only the module answers, it is the part.
    """
    main = Device(
        id=info.uuid,
        component=Component.GPU,
        source="nvml",
        model=info.model,
        index=str(info.index),
        max_power_w=_max_power_w(handle),
    )
    scoped = {scope: (_optional(_by_scope(driver.average_power_w, scope), handle) or 0.0) > 0.0 for scope in Scope}
    if not scoped[Scope.MODULE]:
        averaging = info.architecture >= pynvml.NVML_DEVICE_ARCH_ADA
        usage = PowerSignal.AVERAGE if averaging else PowerSignal.INSTANT
        powers: list[tuple[PowerSignal, Call[float]]] = [
            (PowerSignal.AVERAGE, driver.average_power_w),
            (usage, driver.power_w),
            (PowerSignal.INSTANT, driver.instant_power_w),
        ]
        found = [Channel(main, driver.energy_j, powers)]
    elif scoped[Scope.GPU]:
        module = _around(main, Component.MODULE, f"{info.uuid}-module", within=NODE)
        found = [_scoped(main, Scope.GPU), _scoped(module, Scope.MODULE)]
    else:
        found = [_scoped(_around(main, Component.MODULE, info.uuid), Scope.MODULE)]
    if scoped[Scope.MEMORY]:
        memory = _around(main, Component.DRAM, f"{info.uuid}-memory", within=info.uuid)
        found.append(Channel(memory, None, [(PowerSignal.AVERAGE, _by_scope(driver.average_power_w, Scope.MEMORY))]))
    return found


def _around(main: Device, component: Component, device_id: str, *, within: str = "") -> Device:
    whole = component is Component.MODULE
    return Device(
        id=device_id,
        component=component,
        source=main.source,
        model=main.model,
        index=main.index,
        max_power_w=DEFAULT_MODULE_MAX_POWER_W if whole else main.max_power_w,
        within=within,
    )


def _scoped(device: Device, scope: Scope) -> Channel:
    powers: list[tuple[PowerSignal, Call[float]]] = [
        (PowerSignal.AVERAGE, _by_scope(driver.average_power_w, scope)),
        (PowerSignal.INSTANT, _by_scope(driver.instant_power_w, scope)),
    ]
    return Channel(device, _by_scope(driver.scoped_energy_j, scope), powers)


def _by_scope(call: Callable[[Handle, Scope], float], scope: Scope) -> Call[float]:
    return lambda handle: call(handle, scope)


def _max_power_w(handle: Handle) -> float:
    stated_w = [_optional(call, handle) or 0.0 for call in (driver.power_limit_w, driver.highest_power_limit_w)]
    return BURST_RATIO * max(stated_w) if max(stated_w) > 0.0 else DEFAULT_MAX_POWER_W


def _optional(call: Call[T], handle: Handle) -> T | None:
    """Ask while looking around. Raises NVMLError only where the GPU or the library is gone."""
    try:
        return call(handle)
    except pynvml.NVMLError as error:
        if action_of(error) in (Action.DROP, Action.REOPEN):
            raise
        return None
