"""Memory over a day: the pipeline and the exporter in virtual time, in a process of their own."""

import gc
import json
import os
import sys
import time
from pathlib import Path

from exporters.prometheus import Exposition
from tests.bench.processes import child, hear, resident_mib
from tests.bench.report import Line
from tests.bench.scraper import HEADERS
from tests.bench.steady import SteadyRig

EARLY_H, LATE_H = 1, 24
RUNS = 2
SCRAPE_EVERY_S = 60
MOST_GROWTH_MIB = 0.5
"""What counts as flat: an allocator may still round up."""
TITLE = (
    f"memory: supervisor, loop, fold and exporter in virtual time, on a source without a driver; 8 GPUs, "
    f"2 packages with dram, {RUNS} runs, a scrape each {SCRAPE_EVERY_S} s"
)


def measure(scratch: Path) -> list[Line]:
    """Growth of resident memory and of live blocks between an hour and a day."""
    log = scratch / "memory.log"
    with child([sys.executable, "-m", __spec__.name], log=log, talks=True) as process:
        early, late = json.loads(hear(process, log)), json.loads(hear(process, log))
    return [
        Line(
            what=f"resident growth, {EARLY_H} h to {LATE_H} h simulated",
            value=late["resident_mib"] - early["resident_mib"],
            unit="MiB",
            most=MOST_GROWTH_MIB,
            budget=f"flat (< {MOST_GROWTH_MIB:g} MiB)",
        ),
        Line(what=f"resident after {LATE_H} h simulated", value=late["resident_mib"], unit="MiB", digits=1),
        Line(
            what="live Python blocks, growth likewise",
            value=100 * (late["blocks"] / early["blocks"] - 1),
            unit="%",
            digits=3,
        ),
        Line(what="wall time of a simulated day", value=late["wall_s"], unit="s", digits=1),
    ]


def _live() -> None:
    """Live through a day, with a scrape now and then; one line of JSON at the early hour and one at the late."""
    began_s = time.monotonic()
    rig = SteadyRig(RUNS)
    exposition = Exposition(rig.loop)
    lived_s = 0
    for until_h in (EARLY_H, LATE_H):
        while lived_s < until_h * 3600:
            rig.go(SCRAPE_EVERY_S)
            exposition.render(HEADERS["Accept"])
            lived_s += SCRAPE_EVERY_S
        gc.collect()
        found = {
            "resident_mib": resident_mib(os.getpid()),
            "blocks": sys.getallocatedblocks(),
            "wall_s": time.monotonic() - began_s,
        }
        print(json.dumps(found), flush=True)  # noqa: T201  (said to the parent)


if __name__ == "__main__":
    _live()
