"""A daemon's worth of ledger in a process of its own: counts as fast as it can until it is killed.

Each line it prints is what a scrape would have seen: joules of the node and of the run, from the published snapshot.
"""

import sys
from pathlib import Path
from threading import Event

from monitor.core.snapshot import Snapshot
from tests.ledger.counting import Count, total_j


def main() -> None:
    """Go on from the ledger; `mono_s` is the virtual time to begin at."""
    directory, mono_s = Path(sys.argv[1]), float(sys.argv[2])
    count = Count(mono_s=mono_s, seed=int(mono_s))
    # Counters go on, a little above where they were: they outlive whoever reads them. A turn draws 225 W on average.
    count.raw_j = dict.fromkeys(count.raw_j, 230.0 * mono_s)
    ledger = count.open(directory)
    known = [totals.run for totals in ledger.runs]
    if known:
        count.runs = known
    else:
        count.begin("r1")
    shown = Event()
    ledger.start(lambda snapshot: show(snapshot, shown))
    while True:
        # Some turns while the commit before is under way, but not ever more of them: a commit must keep up.
        for _ in range(3):
            ledger.offer(count.turn(0.5), at_once=True)
        shown.wait()
        shown.clear()


def show(snapshot: Snapshot, shown: Event) -> None:
    """Print what was published."""
    node_j = sum(snapshot.node_energy_j.values())
    line = f"{node_j!r} {total_j(snapshot, 'r1')!r} {snapshot.at.mono_s if snapshot.at else 0.0!r}\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    shown.set()


if __name__ == "__main__":
    main()
