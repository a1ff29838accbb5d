"""What the source knows of one GPU: its meters while it is at work, and when to look for it while it is away."""

from dataclasses import dataclass, field, replace
from typing import Any

from monitor.core.model import Device, ReadFailure
from monitor.sources.nvml.channel import Channel
from monitor.sources.nvml.driver import Handle
from monitor.sources.nvml.mig import Slice

FIRST_PROBE_S = 1.0


@dataclass(slots=True, eq=False)
class Gpu:
    """One GPU at work. Itself and no other: it is looked for among the others several times a reading."""

    slot: int
    handle: Handle
    channels: list[Channel]
    unknown: int = 0
    """How many times in a row its counter gave an unknown error."""
    off: set[object] = field(default_factory=set)
    """Telemetry that it does not offer."""
    throttled_s: tuple[tuple[str, float], ...] = ()
    """As it was told last: the same object while nothing changes."""
    slices: tuple[Slice, ...] = ()
    """What it is divided into."""

    @property
    def device(self) -> Device:
        """The part that it is."""
        return self.channels[0].device

    def describe(self, **told: Any) -> None:
        """Say more of the part that it is, and of no reading that overlaps."""
        for channel in self.channels:
            if not channel.device.within:
                channel.device = replace(channel.device, **told)

    def divide(self, slices: tuple[Slice, ...], ratios: tuple[float, ...]) -> None:
        """It is divided into these slices; none = it is whole."""
        self.slices = slices
        self.describe(slices=tuple(one.id for one in slices), slice_ratios=ratios)


@dataclass(slots=True, eq=False)
class Lost:
    """One GPU that is away, and when to look for it again."""

    slot: int
    failures: list[ReadFailure]
    probe_at_s: float
    probe_wait_s: float = FIRST_PROBE_S
