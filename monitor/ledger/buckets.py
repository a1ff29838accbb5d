"""What was booked, cut at the edges of buckets of Unix time and added up. No joule is lost to the cut."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from monitor.core.attribution import ShareKind
from monitor.core.model import Method
from monitor.core.snapshot import Interval

FINE_S, COARSE_S = 10, 300
LONG_S = 600.0
"""An interval that lasts longer (told by a counter after an outage) is cut at the coarse edges: within it nobody knows
more than its mean."""

Account = tuple[str, str, str, str, Method, ShareKind | None, bool]
"""Run, device, zone, phase, method, share, recovered: the first seven fields of an Interval."""
Key = tuple[Account, int, int]
"""Account, start and span of the bucket."""
Sums = list[float]
"""Joules, idle joules, measured seconds."""


def cut(interval: Interval) -> Iterator[tuple[int, int, float, float, float]]:
    """Cut into buckets: start, span, joules, idle joules, measured seconds. Each sums up to the interval's, exactly."""
    span_s, buckets, ratios = _buckets(interval.start_wall_s, interval.end_wall_s)
    if not ratios:
        yield buckets[0], span_s, interval.energy_j, interval.idle_j, interval.measured_s
        return
    sums = (_parts(total, ratios) for total in (interval.energy_j, interval.idle_j, interval.measured_s))
    for bucket, energy_j, idle_j, measured_s in zip(buckets, *sums, strict=True):
        yield bucket, span_s, energy_j, idle_j, measured_s


@lru_cache(maxsize=8)
def _buckets(start_s: float, end_s: float) -> tuple[int, Sequence[int], Sequence[float]]:
    """Span and starts of the buckets that an interval is in, and its part in each; none where it is in one only.

    What all runs had of a device over the same while stands in a row: that while is cut once.
    """
    span_s = FINE_S if end_s - start_s <= LONG_S else COARSE_S
    first = math.floor(start_s / span_s) * span_s
    if end_s <= first + span_s:
        return span_s, (first,), ()
    buckets = range(first, math.ceil(end_s / span_s) * span_s, span_s)
    length_s = end_s - start_s
    return span_s, buckets, [(min(end_s, one + span_s) - max(start_s, one)) / length_s for one in buckets]


def _parts(total: float, ratios: Sequence[float]) -> list[float]:
    """Split a number >= 0 so that the parts add up to it bit for bit, in any order.

    Every part is a multiple of the total's last bit, so that no sum of them is ever rounded; the last has the rest.
    """
    if total == 0.0:
        return [0.0] * len(ratios)
    bit = math.ulp(total)
    left = total
    parts = []
    for ratio in ratios[:-1]:
        part = min(left, math.floor(total / bit * ratio) * bit)
        left -= part
        parts.append(part)
    return [*parts, left]


class Pending:
    """Rows that wait for their commit."""

    def __init__(self) -> None:
        self.rows: dict[Key, Sums] = {}
        self._coarsen_at = 50_000

    def book(self, intervals: Iterable[Interval]) -> None:
        """Add what a turn booked. The loop waits for this: the usual interval, within one bucket, goes straight in."""
        for interval in intervals:
            account: Account = interval[:7]
            start_wall_s, end_wall_s, energy_j, idle_j, measured_s = interval[7:]
            start = int(start_wall_s) // FINE_S * FINE_S
            if 0.0 < end_wall_s <= start + FINE_S:
                if energy_j or measured_s:
                    self._add((account, start, FINE_S), energy_j, idle_j, measured_s)
                continue
            for start_s, span_s, *sums in cut(interval):
                if sums[0] or sums[2]:
                    self._add((account, start_s, span_s), *sums)

    def take(self) -> dict[Key, Sums]:
        """All of them; none is left."""
        rows, self.rows = self.rows, {}
        return rows

    def give_back(self, rows: dict[Key, Sums]) -> None:
        """Take back what could not be committed."""
        newer, self.rows = self.rows, rows
        for key, sums in newer.items():
            self._add(key, *sums)

    def _add(self, key: Key, energy_j: float, idle_j: float, measured_s: float) -> None:
        known = self.rows.get(key)
        if known is not None:
            known[0] += energy_j
            known[1] += idle_j
            known[2] += measured_s
            return
        self.rows[key] = [energy_j, idle_j, measured_s]
        if len(self.rows) > self._coarsen_at:
            self._coarsen()

    def _coarsen(self) -> None:
        """Hours without a commit: what waits is merged to the coarse buckets, so that memory stays bounded."""
        rows, self.rows = self.rows, {}
        self._coarsen_at = 2 * len(rows)
        for (account, start_s, _), sums in rows.items():
            self._add((account, start_s // COARSE_S * COARSE_S, COARSE_S), *sums)
        self._coarsen_at = max(50_000, 2 * len(self.rows))
