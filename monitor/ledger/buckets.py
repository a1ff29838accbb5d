"""What was booked, cut at the edges of buckets of Unix time and added up. No joule is lost to the cut."""

import math
from collections.abc import Iterable, Sequence

from monitor.core.attribution import ShareKind
from monitor.core.model import Method
from monitor.core.snapshot import Interval

FINE_S, COARSE_S = 10, 300
LONG_S = 600.0
"""An interval that lasts longer (told by a counter after an outage) is cut at the coarse edges: within it nobody knows
more than its mean."""

OWN_FROM_S, OVER_S = 7.5, 1.0
"""An interval of about a bucket's length, such as that between two looks at many processes, has a bucket of its own,
from the second that it begins in: cut at the edges, each look would make twice the rows. It ends so little later at
most, and never beyond a coarse edge, at which prices change."""

Account = tuple[str, str, str, str, Method, ShareKind | None, bool]
"""Run, device, zone, phase, method, share, recovered: the first seven fields of an Interval."""
Key = tuple[Account, int, int]
"""Account, start and span of the bucket."""
Sums = tuple[float, float, float]
"""Joules, idle joules, measured seconds."""


class Cut:
    """A while cut into buckets, and whatever was had over it with it: a turn tells the same while of many runs."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.span_s = span_s = FINE_S if end_s - start_s <= LONG_S else COARSE_S
        first = math.floor(start_s / span_s) * span_s
        self.buckets = range(first, max(first + 1, math.ceil(end_s / span_s) * span_s), span_s)
        """Starts of those that it is in."""
        length_s = (end_s - start_s) or 1.0
        self._ratios = [(min(end_s, one + span_s) - max(start_s, one)) / length_s for one in self.buckets]
        self._known: dict[float, Sequence[float]] = {0.0: [0.0] * len(self.buckets)}

    def parts(self, total: float) -> Sequence[float]:
        """Of a number >= 0, what falls into each bucket. They add up to it bit for bit, in any order."""
        parts = self._known.get(total)
        if parts is None:
            parts = self._known[total] = _parts(total, self._ratios)
        return parts


def _parts(total: float, ratios: Sequence[float]) -> Sequence[float]:
    """Every part is a multiple of the total's last bit, so that no sum of them is rounded; the last has the rest."""
    bit = math.ulp(total)
    bits = total / bit
    left = total
    parts = []
    for ratio in ratios[:-1]:
        part = min(left, math.floor(bits * ratio) * bit)
        left -= part
        parts.append(part)
    return [*parts, left]


def _has_its_own(start_s: float, end_s: float) -> bool:
    return (
        end_s - start_s >= OWN_FROM_S
        and end_s <= int(start_s) + FINE_S + OVER_S
        and end_s <= (start_s // COARSE_S + 1) * COARSE_S
    )


class Pending:
    """Rows that wait for their commit."""

    def __init__(self) -> None:
        self.rows: dict[Key, Sums] = {}
        self._coarsen_at = 50_000

    def book(self, intervals: Iterable[Interval]) -> None:
        """Add what a turn booked. The loop waits for this."""
        start_s = end_s = math.nan
        for interval in intervals:
            start_wall_s, end_wall_s, energy_j, idle_j, measured_s = interval[7:]
            if not energy_j and not measured_s:
                continue
            if start_wall_s != start_s or end_wall_s != end_s:
                start_s, end_s = start_wall_s, end_wall_s
                bucket_s = int(start_s) // FINE_S * FINE_S
                cut = None
                if end_s > bucket_s + FINE_S:  # seldom
                    if _has_its_own(start_s, end_s):
                        bucket_s = int(start_s)
                    else:
                        cut = Cut(start_s, end_s)
            account: Account = interval[:7]
            if cut is None:  # nearly always
                self._add((account, bucket_s, FINE_S), (energy_j, idle_j, measured_s))
                continue
            sums = zip(cut.parts(energy_j), cut.parts(idle_j), cut.parts(measured_s), strict=True)
            for start, parts in zip(cut.buckets, sums, strict=True):
                if parts[0] or parts[2]:
                    self._add((account, start, cut.span_s), parts)

    def take(self) -> dict[Key, Sums]:
        """All of them; none is left."""
        rows, self.rows = self.rows, {}
        return rows

    def give_back(self, rows: dict[Key, Sums]) -> None:
        """Take back what could not be committed."""
        newer, self.rows = self.rows, rows
        for key, sums in newer.items():
            self._add(key, sums)

    def _add(self, key: Key, sums: Sums) -> None:
        known = self.rows.setdefault(key, sums)
        if known is not sums:
            self.rows[key] = (known[0] + sums[0], known[1] + sums[1], known[2] + sums[2])
        elif len(self.rows) > self._coarsen_at:
            self._coarsen()

    def _coarsen(self) -> None:
        """Hours without a commit: what waits is merged to the coarse buckets, so that memory stays bounded."""
        rows, self.rows = self.rows, {}
        self._coarsen_at = 2 * len(rows)
        for (account, start_s, _), sums in rows.items():
            self._add((account, start_s // COARSE_S * COARSE_S, COARSE_S), sums)
        self._coarsen_at = max(50_000, 2 * len(self.rows))
