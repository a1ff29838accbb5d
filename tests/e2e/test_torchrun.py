"""`torchrun` with two workers under `trainwatt run`, as an ordinary user on a node where nothing is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.drivers import nvml
from tests.harness import need
from tests.harness.daemon import clean_environment
from tests.harness.processes import processes_with
from tests.harness.users import NOBODY, as_an_ordinary_user

STEPS = 200
BATCH = 32
JOB = Path(__file__).parents[1] / "jobs" / "ddp.py"


def test_two_workers_are_one_run(library: Path) -> None:
    """One run, its steps not doubled, its samples added up, one report file, and nothing left behind."""
    if importlib.util.find_spec("torch") is None:
        need.missing("PyTorch (pip install torch==2.13.0)")
    with (
        TemporaryDirectory(prefix="tw-") as scratch,
        TemporaryDirectory(prefix="tw-") as runtime,
        TemporaryDirectory(prefix="tw-") as python,
    ):
        prefix = as_an_ordinary_user(Path(python))
        place = Path(scratch)
        driver = nvml.FakeDriver(place / "nvml.conf", [nvml.FakeGpu(idle_w=100.0)] * 2)
        copied = place / "libnvidia-ml.so.1"
        copied.write_bytes((library.parent / "libnvidia-ml.so.1").read_bytes())
        job = place / "ddp.py"
        job.write_text(JOB.read_text())
        for path in (place, Path(runtime), *place.iterdir()):
            path.chmod(0o755)
            if prefix:
                os.chown(path, NOBODY, NOBODY)
        home = {"HOME": scratch, "XDG_RUNTIME_DIR": runtime, "TMPDIR": scratch, "USER": "nobody"}
        given = {"CUDA_VISIBLE_DEVICES": "0,1"}
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        done = subprocess.run(
            [*prefix, need.trainwatt(), "run", "--name", "ddp", "--", *torchrun, str(job), str(STEPS)],
            env=clean_environment(driver.environment(place) | home | given),
            cwd=place,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        files = [path.name for path in place.glob("trainwatt-*.json")]
        report = json.loads((place / files[0]).read_text()) if files else {}
        left = [path for path in Path(runtime).rglob("*") if path.name != "trainwatt"]
        processes = processes_with(runtime) + processes_with(scratch)

    assert done.returncode == 0, done.stderr
    assert len(files) == 1
    assert (STEPS, 2 * STEPS * BATCH) == (report["progress"]["steps"], report["progress"]["samples"])
    assert report["progress"]["done_ratio"] == pytest.approx(1.0)
    assert report["run"]["name"] == "ddp"
    assert sum(part["energy_j"] for part in report["energy_j"]) == pytest.approx(
        2 * 100.0 * report["duration_s"], rel=0.05
    )
    assert ([], []) == (left, processes)
    assert done.stderr.count("trainwatt: run ddp") == 1
