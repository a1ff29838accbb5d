"""One peer on the stand-in driver, in its own interpreter: CodeCarbon or Zeus behind the same three words.

peer_child.py codecarbon|zeus: answers `prepare`, `begin` and `end` on stdin, one line of JSON each. `begin` and `end`
tell the window that the measured program sees: from when beginning returned until ending was called, CLOCK_BOOTTIME.
Options are the tools' own defaults, but for one GPU, no file, no network. Run as a file, with no import of us.
"""

import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

JOULES_PER_KILOWATTHOUR = 3_600_000.0


class CodeCarbon:
    """A tracker of its own for each window."""

    def __init__(self) -> None:
        self._make: Any = importlib.import_module("codecarbon").OfflineEmissionsTracker
        self.prepare()

    def prepare(self) -> None:
        """Make a tracker."""
        self._tracker = self._make(country_iso_code="DEU", gpu_ids=[0], save_to_file=False, log_level="error")

    def begin(self) -> None:
        """Start it."""
        self._tracker.start()

    def end(self) -> float:
        """Stop it."""
        self._tracker.stop()
        return float(self._tracker.final_emissions_data.gpu_energy) * JOULES_PER_KILOWATTHOUR


class Zeus:
    """One monitor for all windows."""

    def __init__(self) -> None:
        self._monitor: Any = importlib.import_module("zeus.monitor").ZeusMonitor(gpu_indices=[0])

    def prepare(self) -> None:
        """Nothing to do."""

    def begin(self) -> None:
        """Open the window; there is no torch here to wait for."""
        self._monitor.begin_window("bench", sync_execution=False)

    def end(self) -> float:
        """Close it."""
        return float(self._monitor.end_window("bench", sync_execution=False).total_energy)


PEERS: dict[str, type[CodeCarbon | Zeus]] = {"codecarbon": CodeCarbon, "zeus": Zeus}


def main(name: str) -> None:
    """Serve until stdin ends."""
    # The libraries print as they like; what the parent reads is ours alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = PEERS[name]()
    answers.write(json.dumps({"version": version(name)}) + "\n")
    for line in sys.stdin:
        called_s = now_s()
        if line.strip() == "prepare":
            peer.prepare()
            answer = {}
        elif line.strip() == "begin":
            peer.begin()
            answer = {"at_s": now_s(), "took_s": now_s() - called_s}
        else:
            answer = {"energy_j": peer.end(), "at_s": called_s, "took_s": now_s() - called_s}
        answers.write(json.dumps(answer) + "\n")


def now_s() -> float:
    """The clock of the stand-in driver."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# Zeus reads its sensors in processes started afresh, which import this file.
if __name__ == "__main__":
    main(sys.argv[1])
