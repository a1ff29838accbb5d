"""`scripts/bench [cost|memory|start|scrape|accuracy|limits|ledger|job|scan ...]`: measure, print; 1 if one failed."""

import argparse
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.bench import accuracy, cost, job, ledger, limits, memory, peers, report, scan, scrape, start
from tests.bench.report import lines_table

BENCHES = ("cost", "memory", "start", "scrape", "accuracy", "limits", "ledger", "job", "scan")


def main() -> int:
    """Exit status: 1 when a measurement failed, whatever the numbers."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the budgets of DESIGN.md, section 10.")
    parser.add_argument("bench", nargs="*", help=f"any of {', '.join(BENCHES)}; all of them by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="window of the CPU measurement [default: 60]")
    parser.add_argument("--peers", action="store_true", help="accuracy: CodeCarbon and Zeus beside us, in real time")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")
    options = parser.parse_args()
    if unknown := set(options.bench) - set(BENCHES):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    # Children are stopped by whoever started them, on SIGTERM as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _say(f"command: {shlex.join(['scripts/bench', *sys.argv[1:]])}")
    _say(report.machine())
    try:
        with tempfile.TemporaryDirectory(prefix="trainwatt-bench-") as scratch:
            failed = _measure(options, Path(scratch))
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    return 1 if failed else 0


def _measure(options: argparse.Namespace, scratch: Path) -> list[str]:
    """Run what was asked for, each to its own table; names of those that failed."""
    markdown: bool = options.markdown
    made: dict[str, tuple[str, Callable[[], str]]] = {
        "cost": (cost.TITLE, lambda: lines_table(cost.measure(scratch, options.seconds), markdown=markdown)),
        "memory": (memory.TITLE, lambda: lines_table(memory.measure(scratch), markdown=markdown)),
        "start": (start.TITLE, lambda: lines_table(start.measure(scratch), markdown=markdown)),
        "scrape": (scrape.TITLE, lambda: lines_table(scrape.measure(scratch), markdown=markdown)),
        "accuracy": (accuracy.TITLE, lambda: accuracy.measure(scratch, markdown=markdown)),
        "limits": (limits.TITLE, lambda: limits.measure(scratch, markdown=markdown)),
        "ledger": (ledger.TITLE, lambda: lines_table(ledger.measure(scratch), markdown=markdown)),
        "job": (job.TITLE, lambda: lines_table(job.measure(scratch), markdown=markdown)),
        "scan": (scan.TITLE, lambda: lines_table(scan.measure(scratch, options.seconds), markdown=markdown)),
        "peers": (peers.TITLE, lambda: peers.measure(scratch, markdown=markdown)),
    }
    asked = [name for name in BENCHES if name in options.bench or not options.bench]
    failed: list[str] = []
    for name in [*asked, *(["peers"] if options.peers else [])]:
        title, measure = made[name]
        _say(f"\n{title}")
        try:
            _say(measure())
        except Exception:  # noqa: BLE001  (one that fails must not cost the others)
            _say(f"{name}: FAILED\n{traceback.format_exc()}")
            failed.append(name)
    return failed


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a program)


if __name__ == "__main__":
    sys.exit(main())
