"""What a kilowatt-hour costs: at one price, by time of use, or as a list tells it. Spans in, rates out."""

import json
import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from threading import Lock, Thread
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.core.model import Rate
from monitor.core.settlement import first_of_each_moment
from monitor.errors import UsageError
from monitor.grid.reply import unix_s
from monitor.tables import DAYS, MINUTES_PER_DAY, PriceTable, TimeOfUse, weekdays

Prices = Callable[[float, float], Sequence[Rate]]
"""Prices of a span [start, end) of Unix time, in the order of time and disjoint; time without a price is left out."""

LOG = logging.getLogger("trainwatt")

SHAPE = '[{"from": MOMENT, "until": MOMENT, "amount": NUMBER}, ...]'
WEEK_MINUTES = 7 * MINUTES_PER_DAY
HOUR_S = 3600.0
LONGEST_FILE_BYTES = 4 * 1024 * 1024
MOST_GAPS = 3


def prices(table: PriceTable | None) -> Prices:
    """What the settings say. Raises UsageError: times that overlap or leave gaps, a time zone that is not known."""
    if table is None:
        return nothing
    if table.times:
        return by_time_of_use(table.times, table.timezone or "UTC", table.flat)
    if table.file is not None:
        kept = PriceFile(table.file, table.flat)
        kept.look()
        return kept
    return listed((), table.flat)


def nothing(_start_s: float, _end_s: float) -> Sequence[Rate]:
    """Nobody knows."""
    return ()


def listed(rates: Iterable[Rate], flat: float | None = None) -> Prices:
    """Prices of known slots; `flat` is that of the time that they leave out. Where slots overlap, the first counts."""
    known = tuple(rates)
    if not known:
        always = (Rate(flat, -math.inf, math.inf),) if flat is not None else ()
        return lambda _start_s, _end_s: always

    # A file may have every quarter of an hour of a year, and the loop asks for a day: only what overlaps is looked at.
    by_start = sorted(range(len(known)), key=lambda rank: known[rank].valid_from_s)
    starts_s = [known[rank].valid_from_s for rank in by_start]
    ended_by_s = list(accumulate((known[rank].valid_until_s for rank in by_start), max))

    def within(start_s: float, end_s: float) -> Sequence[Rate]:
        found = sorted(by_start[bisect_right(ended_by_s, start_s) : bisect_left(starts_s, end_s)])
        pieces = first_of_each_moment([known[rank] for rank in found], start_s, end_s)
        return _joined((flat if rate is None else rate.amount, since, until) for since, until, rate in pieces)

    return within


def by_time_of_use(times: Sequence[TimeOfUse], timezone: str, flat: float | None = None) -> Prices:
    """Prices by the clock on the wall: at any moment that of the window that the local time is in.

    So an hour that the clock skips in spring has no price, and one that it shows twice in autumn has its price twice.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"price.timezone = {timezone!r}: no such time zone on this machine, such as Europe/Berlin (package tzdata)"
        ) from None
    week = _week(times, flat)
    edges = [minute for minute in range(WEEK_MINUTES) if week[minute] != week[minute - 1]] or [0]

    def within(start_s: float, end_s: float) -> Sequence[Rate]:
        return _joined(
            (week[_minute_of_week(since, offset_s)], since, until)
            for from_s, to_s, offset_s in _same_clock(start_s, end_s, zone)
            for since, until in _cut(from_s, to_s, offset_s, edges)
        )

    return within


class PriceFile:
    """Prices that somebody keeps in a JSON file: [{"from": MOMENT, "until": MOMENT, "amount": 0.3}, ...].

    A call answers with what is known and has somebody look whether the file has changed: it never waits for a disk. A
    file that cannot be read, or is damaged, leaves what was known before; `problem` says why.
    """

    def __init__(self, path: Path, flat: float | None = None) -> None:
        self._path = path
        self._flat = flat
        self._seen: tuple[int, int] | None = None
        self._prices = listed((), flat)
        self._looking = Lock()
        self.problem = ""

    def __call__(self, start_s: float, end_s: float) -> Sequence[Rate]:
        """The prices of a span as they were known at the last look."""
        if not self._looking.locked():
            Thread(target=self.look, name="prices", daemon=True).start()
        return self._prices(start_s, end_s)

    def look(self) -> None:
        """Read the file if it has changed; a problem is told once."""
        with self._looking:
            before = self.problem
            try:
                status = self._path.stat()
                seen = (status.st_mtime_ns, status.st_size)
                if seen != self._seen:
                    self._prices = listed(self._read(), self._flat)
                self._seen, self.problem = seen, ""
            except OSError as error:
                self.problem = f"cannot read the prices in {self._path}: {error.strerror}"
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                self.problem = f"{self._path}: expected {SHAPE}: {error}"
            if self.problem and self.problem != before:
                LOG.warning("%s; the prices of before stay", self.problem)

    def _read(self) -> list[Rate]:
        with self._path.open("rb") as file:
            rows = json.loads(file.read(LONGEST_FILE_BYTES))
        rates = [Rate(_amount(row["amount"]), unix_s(row["from"]), unix_s(row["until"])) for row in rows]
        if any(rate.valid_until_s <= rate.valid_from_s for rate in rates):
            raise ValueError("a price ends before it begins")
        return sorted(rates, key=lambda rate: rate.valid_from_s)


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _week(times: Sequence[TimeOfUse], flat: float | None) -> list[float | None]:
    """The price of each minute of a week, Monday first. Raises UsageError that names what is priced twice or never."""
    week: list[float | None] = [None] * WEEK_MINUTES
    for window in times:
        for day in weekdays(window.days):
            for minute in range(window.from_minute, window.until_minute):
                at = (day * MINUTES_PER_DAY + minute) % WEEK_MINUTES
                if week[at] is not None:
                    raise UsageError(f"price.times: {_moment(at)} is priced twice; each time needs one price")
                week[at] = window.amount
    gaps = [at for at in range(WEEK_MINUTES) if week[at] is None and week[at - 1] is not None]
    if gaps and flat is None:
        named = [f"{_moment(at)} to {_moment(_end_of_gap(week, at))}" for at in gaps[:MOST_GAPS]]
        more = f" and {len(gaps) - MOST_GAPS} more" if len(gaps) > MOST_GAPS else ""
        raise UsageError(f"price.times leave out {', '.join(named)}{more}; give flat = AMOUNT for the rest")
    return [flat if amount is None else amount for amount in week]


def _end_of_gap(week: Sequence[float | None], at: int) -> int:
    return next(
        minute % WEEK_MINUTES for minute in range(at, at + WEEK_MINUTES) if week[minute % WEEK_MINUTES] is not None
    )


def _moment(minute: int) -> str:
    day, rest = divmod(minute, MINUTES_PER_DAY)
    return f"{DAYS[day]} {rest // 60:02}:{rest % 60:02}"


def _same_clock(start_s: float, end_s: float, zone: ZoneInfo) -> Iterable[tuple[float, float, float]]:
    """(from, until, seconds ahead of UTC) of the parts of a span in which the clocks are not changed."""
    hours = [start_s + HOUR_S * number for number in range(math.ceil(max(0.0, end_s - start_s) / HOUR_S))]
    changes = [
        _change(since, until, zone)
        for since, until in pairwise([*hours, end_s])
        if _offset_s(since, zone) != _offset_s(until, zone)
    ]
    for since, until in pairwise([start_s, *changes, end_s]):
        if since < until:
            yield since, until, _offset_s(since, zone)


def _change(low_s: float, high_s: float, zone: ZoneInfo) -> float:
    """The moment between two others at which the clocks are changed: a whole second."""
    before = _offset_s(low_s, zone)
    low, high = math.floor(low_s), math.ceil(high_s)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset_s(middle, zone) == before else (low, middle)
    return float(high)


def _offset_s(at_s: float, zone: ZoneInfo) -> float:
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _minute_of_week(at_s: float, offset_s: float) -> int:
    # The Unix epoch was a Thursday.
    return int((at_s + offset_s) // 60 + 3 * MINUTES_PER_DAY) % WEEK_MINUTES


def _cut(start_s: float, end_s: float, offset_s: float, edges: Sequence[int]) -> Iterable[tuple[float, float]]:
    """The parts of a span between edges, which are minutes of the local week."""
    week_s = WEEK_MINUTES * 60.0
    monday_s = start_s - (start_s + offset_s + 3 * MINUTES_PER_DAY * 60.0) % week_s
    moments = {start_s, end_s}
    while monday_s < end_s:
        moments |= {moment for edge in edges if start_s < (moment := monday_s + edge * 60.0) < end_s}
        monday_s += week_s
    return pairwise(sorted(moments))


def _joined(pieces: Iterable[tuple[float | None, float, float]]) -> tuple[Rate, ...]:
    """Rates of pieces in the order of time: neighbours of one price are one, those without a price are left out."""
    rates: list[Rate] = []
    for amount, since, until in pieces:
        if amount is None:
            continue
        if rates and rates[-1].amount == amount and rates[-1].valid_until_s == since:
            rates[-1] = Rate(amount, rates[-1].valid_from_s, until)
        else:
            rates.append(Rate(amount, since, until))
    return tuple(rates)
