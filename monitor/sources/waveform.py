"""A power curve that repeats, with its exact integral: what the simulated devices run on."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class Waveform:
    """Piecewise constant watts, repeating for ever. `energy_j` is the exact integral of `power_w`."""

    def __init__(self, pieces: Sequence[tuple[float, float]]) -> None:
        """`pieces` are (duration in s, power in W); durations are positive."""
        self._watts = [power_w for _, power_w in pieces]
        self._ends_s = list(accumulate(duration_s for duration_s, _ in pieces))
        self._joules = [0.0, *accumulate(duration_s * power_w for duration_s, power_w in pieces)]
        self.cycle_s = self._ends_s[-1]

    def power_w(self, at_s: float) -> float:
        """Watts at a moment."""
        return self._watts[self._piece(at_s % self.cycle_s)]

    def energy_j(self, at_s: float) -> float:
        """Joules from 0 to a moment (negative before 0)."""
        cycles, into_s = divmod(at_s, self.cycle_s)
        piece = self._piece(into_s)
        began_s = self._ends_s[piece - 1] if piece else 0.0
        return cycles * self._joules[-1] + self._joules[piece] + (into_s - began_s) * self._watts[piece]

    def _piece(self, into_s: float) -> int:
        return min(bisect_right(self._ends_s, into_s), len(self._watts) - 1)
