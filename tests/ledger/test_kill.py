"""kill -9 at any moment: what was shown is kept, and nothing is kept twice."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledger.counting import Count, rows_j, total_j
from tests.ledger.test_committing import committed_j

KILLS = 20
ROOT = Path(__file__).parent.parent.parent


def shown_before_kill(directory: Path, mono_s: float, after_lines: int) -> list[list[float]]:
    """Let a daemon count until it has shown so much and a little more; kill it; all that it has shown."""
    command = [sys.executable, "-m", "tests.ledger.writes_until_killed", str(directory), str(mono_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after_lines)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait(10)

    return [[float(word) for word in line.split()] for line in lines if line.endswith("\n")]


@pytest.mark.timeout(180)
def test_no_counter_falls_over_kills(tmp_path: Path) -> None:
    """Over twenty kills: what is restored is at least what was shown, and rows and totals tell the same joules."""
    rng = random.Random(3)
    mono_s, highest = 1000.0, [0.0, 0.0, 0.0]
    for _ in range(KILLS):
        shown = shown_before_kill(tmp_path, mono_s, rng.randint(1, 60))
        first_shown, last_shown = shown[0], shown[-1]
        count = Count(mono_s=last_shown[2] + 1.0)
        ledger = count.open(tmp_path)
        rows = ledger.history.intervals("r1")
        ledger.close()
        node_j, run_j = sum(ledger.first.node_energy_j.values()), total_j(ledger.first, "r1")

        assert first_shown[0] >= highest[0]
        assert first_shown[1] >= highest[1]
        assert node_j >= last_shown[0]
        assert run_j >= last_shown[1]
        assert pytest.approx(run_j, rel=1e-9) == rows_j(rows)
        assert pytest.approx(node_j, rel=1e-9) == committed_j(tmp_path)
        highest, mono_s = [node_j, run_j], last_shown[2] + 1.0
