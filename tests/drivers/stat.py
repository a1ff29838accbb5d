"""/proc/stat of a machine under a chosen load."""

from itertools import pairwise
from pathlib import Path

CPUS = 4
TICKS_PER_S = 100


class Stat:
    """/proc/stat of a machine whose load changes at moments."""

    def __init__(self, procfs: Path, load: dict[float, float]) -> None:
        self.path = procfs / "stat"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.load = load
        self.frozen = False

    def update(self, at_s: float) -> None:
        """Show the times of this moment."""
        if self.frozen:
            return
        busy = idle = 0.0
        moments = sorted({*self.load, at_s})
        for begin, end in pairwise(moments):
            if begin < at_s:
                share = self.load.get(begin, 0.0)
                busy += (min(end, at_s) - begin) * share
                idle += (min(end, at_s) - begin) * (1.0 - share)
        ticks = [round(part * CPUS * TICKS_PER_S) for part in (busy, idle)]
        # Half of the idle time waits for disks; all of the work is done for guests.
        fields = [ticks[0], 0, 0, ticks[1] - ticks[1] // 2, ticks[1] // 2, 0, 0, 0, ticks[0], 0]
        text = " ".join(str(field) for field in fields)
        self.path.write_text(f"cpu  {text}\ncpu0 {text}\nintr 1\n")
