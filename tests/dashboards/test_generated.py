import shutil
import subprocess
import sys
from pathlib import Path

from tests.dashboards.boards import ROOT


def generate(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/generate of a tree to its end."""
    program = [sys.executable, str(root / "scripts" / "generate"), *args]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


def copy_of_the_code(target: Path) -> Path:
    """A tree with everything that the generator reads."""
    for folder in ("monitor", "exporters", "dashboards", "scripts", "schemas"):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("METRICS.md", "COMMANDS.md", "trainwatt.py"):
        shutil.copy(ROOT / file, target / file)
    return target


def test_generated_files_are_up_to_date() -> None:
    """METRICS.md, COMMANDS.md and the dashboards' JSON are what the code makes of them today."""
    done = generate(ROOT, "--check")

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_check_names_what_would_change_and_writes_nothing(tmp_path: Path) -> None:
    """With --check a stale file and a missing one are named, and stay as they are."""
    root = copy_of_the_code(tmp_path)
    (root / "METRICS.md").write_text("stale")
    (root / "dashboards" / "json" / "trainwatt-node.json").unlink()

    done = generate(root, "--check")

    assert 1 == done.returncode
    assert ["METRICS.md", "dashboards/json/trainwatt-node.json"] == [
        line.split(":")[0] for line in done.stdout.splitlines()
    ]
    assert "stale" == (root / "METRICS.md").read_text()


def test_generating_restores_every_file(tmp_path: Path) -> None:
    """Without --check the generator writes, byte for byte, what is committed."""
    root = copy_of_the_code(tmp_path)
    files = [
        "METRICS.md",
        "COMMANDS.md",
        "dashboards/json/trainwatt-node.json",
        "schemas/report.json",
        "schemas/control.json",
    ]
    for file in files:
        (root / file).unlink()

    done = generate(root)

    assert 0 == done.returncode, done.stderr
    assert {file: (ROOT / file).read_text() for file in files} == {file: (root / file).read_text() for file in files}
