"""True power over time, in closed form, so that the energy of any interval is known exactly.

tests/native/wave.c does the same arithmetic in the same order: both give the same bits.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Const:
    """A steady draw."""

    level_w: float

    def power_w(self, _since_s: float, /) -> float:
        """Watts this many seconds after the start of the wave."""
        return self.level_w

    def energy_j(self, first_s: float) -> float:
        """Joules of the first so many seconds of the wave."""
        return first_s * self.level_w

    def words(self) -> str:
        """Return the end of a `wave` line of the stand-in driver."""
        return f"const {self.level_w!r}"


@dataclass(frozen=True, slots=True)
class Square:
    """High for `duty` of every period, then low: the shape of training steps."""

    period_s: float
    duty: float
    high_w: float
    low_w: float

    def __post_init__(self) -> None:
        """Refuse a wave that has no shape."""
        if not (self.period_s > 0 and 0 <= self.duty <= 1):
            raise ValueError(f"period must be positive and duty in 0..1: {self}")

    def power_w(self, since_s: float) -> float:
        """Watts this many seconds after the start of the wave."""
        in_cycle_s = since_s - math.floor(since_s / self.period_s) * self.period_s
        return self.high_w if in_cycle_s < self.duty * self.period_s else self.low_w

    def energy_j(self, first_s: float) -> float:
        """Joules of the first so many seconds of the wave."""
        high_s = self.duty * self.period_s
        cycles = float(math.floor(first_s / self.period_s))
        rest_s = first_s - cycles * self.period_s
        cycle_j = high_s * self.high_w + (self.period_s - high_s) * self.low_w
        rest_j = min(rest_s, high_s) * self.high_w + max(rest_s - high_s, 0.0) * self.low_w
        return cycles * cycle_j + rest_j

    def words(self) -> str:
        """Return the end of a `wave` line of the stand-in driver."""
        return f"square {self.period_s!r} {self.duty!r} {self.high_w!r} {self.low_w!r}"


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line from one power to another, which then holds."""

    from_w: float
    to_w: float
    duration_s: float

    def power_w(self, since_s: float) -> float:
        """Watts this many seconds after the start of the wave."""
        if since_s >= self.duration_s:
            return self.to_w
        return self.from_w + (self.to_w - self.from_w) * (since_s / self.duration_s)

    def energy_j(self, first_s: float) -> float:
        """Joules of the first so many seconds of the wave."""
        rising_s = min(first_s, self.duration_s)
        rise_w = (self.to_w - self.from_w) * (rising_s / self.duration_s) if self.duration_s > 0 else 0.0
        return rising_s * (self.from_w + rise_w / 2) + (first_s - rising_s) * self.to_w

    def words(self) -> str:
        """Return the end of a `wave` line of the stand-in driver."""
        return f"ramp {self.from_w!r} {self.to_w!r} {self.duration_s!r}"


Wave = Const | Square | Ramp


@dataclass(frozen=True, slots=True)
class Waveform:
    """Waves one after the other, each from its time until the next one's; idle before the first."""

    idle_w: float = 0.0
    pieces: tuple[tuple[float, Wave], ...] = ()
    """(start in seconds, wave), in order of time."""

    def __post_init__(self) -> None:
        """Refuse pieces out of order, of which an integral would make nonsense."""
        if any(later < earlier for (earlier, _), (later, _) in pairwise(self.pieces)):
            raise ValueError("the pieces of a waveform must be in order of time")

    def then(self, start_s: float, wave: Wave) -> "Waveform":
        """Return this waveform with one more wave at its end."""
        return replace(self, pieces=(*self.pieces, (start_s, wave)))

    def power_w(self, at_s: float) -> float:
        """Watts at this moment."""
        for start_s, wave in reversed(self.pieces):
            if start_s <= at_s:
                return wave.power_w(at_s - start_s)
        return self.idle_w

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """Joules from one moment to another; negative when the second is the earlier."""
        if end_s < begin_s:
            return -self.energy_j(end_s, begin_s)
        total_j = 0.0
        starts_s = [start_s for start_s, _ in self.pieces]
        idle_end_s = min(end_s, *starts_s[:1], math.inf)
        if idle_end_s > begin_s:
            total_j += self.idle_w * (idle_end_s - begin_s)
        for (start_s, wave), next_s in zip(self.pieces, [*starts_s[1:], math.inf], strict=False):
            low_s, high_s = max(begin_s, start_s), min(end_s, next_s)
            if high_s > low_s:
                total_j += wave.energy_j(high_s - start_s) - wave.energy_j(low_s - start_s)
        return total_j

    def config_lines(self, gpu_index: int) -> list[str]:
        """Return the lines that make a GPU of the stand-in driver draw this."""
        idle = f"gpu {gpu_index} idle_w {self.idle_w!r}"
        return [idle, *(f"wave {gpu_index} {start!r} {wave.words()}" for start, wave in self.pieces)]
