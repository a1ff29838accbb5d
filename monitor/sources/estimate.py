"""CPU power guessed from utilisation, where nothing measures it and somebody asked for a guess: `method="estimated"`.

Its joules count up like a counter's, so that a late read loses none of them, and are never merged with measured ones.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from monitor.core.model import Component, Device, Instant, Origin, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, UsageError

CURVE = ((0.0, 0.12), (0.1, 0.32), (0.5, 0.75), (1.0, 1.02))
"""(busy share, part of the TDP): the consumption profile of an unknown CPU at Boavizta, after Teads' measurements of
EC2 instances (doc.api.boavizta.org, "CPU"; medium.com/teads-engineering, "Estimating AWS EC2 instances power")."""
ERROR_BAND_RATIO = 0.3
"""Half the width of the band in which the truth is likely to lie: estimates from TDP and load missed measured training
nodes by 27 to 37 % (arXiv 2506.14551)."""
DEVICE_ID = "cpu-estimate"
BURST_RATIO = 1.5
LONGEST_SPAN_S = 60.0
"""Over a longer time a mean load says little, and the machine may have slept: nothing is guessed."""
IDLE_FIELDS = (3, 4)
"""idle and iowait, of the fields user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""
COUNTED_FIELDS = 8
"""The last two lie within user and nice (proc_stat(5))."""
STEAL_FIELD = 7
FEWEST_FIELDS = 4


@dataclass(frozen=True, slots=True)
class _Look:
    """What /proc/stat said at one moment."""

    at: Instant
    ticks: tuple[int, ...]


class Estimate:
    """All CPUs of the machine as one device; `tdp_w` is the sum over its sockets."""

    name = "estimate"

    def __init__(self, procfs: Path, *, tdp_w: float, now: Now, interval_s: float) -> None:
        if not tdp_w > 0.0:
            raise UsageError(f"a CPU cannot have a TDP of {tdp_w:g} W; give the sum over all sockets, such as 410")
        self.period_s = interval_s
        self._stat = procfs / "stat"
        self._tdp_w = tdp_w
        self._now = now
        self._energy_j = 0.0
        self._last: _Look | None = None
        self._device = Device(
            id=DEVICE_ID,
            component=Component.CPU,
            source=self.name,
            model=f"estimate from load and {tdp_w:g} W TDP, +-{ERROR_BAND_RATIO:.0%}",
            max_power_w=BURST_RATIO * CURVE[-1][1] * tdp_w,
            origin=Origin.ESTIMATED,
            error_ratio=ERROR_BAND_RATIO,
        )

    def open(self) -> None:
        """Look for the first time. Raises SourceAbsent without /proc/stat, SourceBroken where it makes no sense."""
        look = self._look()
        if self._last is None:
            self._last = look

    def read(self) -> Readout:
        """Estimated joules since the first look. Raises what `open` raises."""
        look, last = self._look(), self._last
        failures: tuple[ReadFailure, ...] = ()
        if last is None or look.at.mono_s - last.at.mono_s > LONGEST_SPAN_S:
            failures = () if last is None else (self._gap(last.at),)
            self._last = look
        else:
            busy = busy_share(last.ticks, look.ticks)
            if busy is not None:
                self._energy_j += power_w(busy, self._tdp_w) * (look.at.mono_s - last.at.mono_s)
                self._last = look
        reading = Reading(device=self._device, at=look.at, energy_j=self._energy_j)
        return Readout(readings=(reading,), failures=failures)

    def close(self) -> None:
        """Nothing is held open."""

    def _look(self) -> _Look:
        try:
            text = self._stat.read_text("ascii")
            return _Look(self._now(), parse_stat(text))
        except FileNotFoundError:
            raise SourceAbsent(f"there is no {self._stat}: the load of the CPUs is not known") from None
        except (OSError, ValueError) as error:
            raise SourceBroken(f"{self._stat}: {error}") from error

    def _gap(self, since: Instant) -> ReadFailure:
        message = f"the load was not looked at for over {LONGEST_SPAN_S:g} s: nothing is estimated for that time"
        return ReadFailure(device_id=DEVICE_ID, at=since, reason="gap", message=message, baseline_lost=True)


def power_w(busy: float, tdp_w: float) -> float:
    """Watts at a busy share 0..1, piecewise linear on the curve."""
    for (low, low_ratio), (high, high_ratio) in pairwise(CURVE):
        if busy <= high:
            return tdp_w * (low_ratio + (busy - low) / (high - low) * (high_ratio - low_ratio))
    return tdp_w * CURVE[-1][1]


def busy_share(before: tuple[int, ...], after: tuple[int, ...]) -> float | None:
    """Part of the CPUs' time that was spent working, 0..1; None when no time has passed.

    Waiting for a disk, and for a hypervisor that runs somebody else, is not work.
    """
    # Idle and iowait may fall a little (proc_stat(5)): then nothing of them has passed.
    spent = [max(0, late - early) for early, late in zip(before, after, strict=False)][:COUNTED_FIELDS]
    total = sum(spent)
    if total == 0:
        return None
    idle = sum(ticks for field, ticks in enumerate(spent) if field in (*IDLE_FIELDS, STEAL_FIELD))
    return (total - idle) / total


def parse_stat(text: str) -> tuple[int, ...]:
    """The fields of all CPUs together, in ticks. Raises ValueError when the file does not have them."""
    name, *fields = text.partition("\n")[0].split()
    if name != "cpu" or len(fields) < FEWEST_FIELDS:
        raise ValueError(f"no times of all CPUs in {text[:40]!r}")
    return tuple(int(field) for field in fields)
