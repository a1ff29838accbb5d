"""The dashboards drawn by Grafana's own libraries in Chromium; see tests/grafana/README.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dashboards.boards import BOARDS, ROOT
from tests.harness import need
from tests.harness.prometheus import Prometheus

HARNESS = ROOT / "tests" / "grafana"
PNG = b"\x89PNG\r\n"


@pytest.mark.skipif(
    os.environ.get("TRAINWATT_GRAFANA") != "1",
    reason="downloads 450 MB of npm packages: run tests/grafana/setup, then set TRAINWATT_GRAFANA=1",
)
@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_is_drawn(scraped: Prometheus, uid: str, tmp_path: Path) -> None:
    """Each panel is drawn with data, runs are shaded, links lead to boards, and a choice of each variable is asked."""
    assert (HARNESS / "build" / "main.js").exists(), "run tests/grafana/setup first"
    picture = tmp_path / "board.png"
    program = [sys.executable, str(HARNESS / "check.py"), "--prometheus", scraped.url, "--range", "2m", "--interact"]
    program += ["--dashboard", str(ROOT / "dashboards" / "json" / f"{uid}.json"), "--screenshot", str(picture)]

    done = subprocess.run(
        [*program, "--chromium", need.chromium()], capture_output=True, text=True, timeout=300, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert picture.read_bytes().startswith(PNG)
