"""`trainwatt dashboards DIR`: what it writes, what it leaves alone, and what is in the wheel."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import need
from tests.harness.daemon import clean_environment, command

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
UIDS = ("trainwatt-fleet", "trainwatt-grid", "trainwatt-node", "trainwatt-run")
FILES = {
    *(f"json/{uid}.json" for uid in UIDS),
    *(f"kubernetes/{uid}.configmap.yml" for uid in UIDS),
    "kubernetes/trainwatt.podmonitor.yml",
    "kubernetes/trainwatt.prometheusrule.yml",
    "provisioning/dashboards/trainwatt.yml",
    "provisioning/datasources/trainwatt.yml",
    "rules/trainwatt.rules.yml",
}
SUMS = "trainwatt.sha256"
BOARD = "json/trainwatt-node.json"
SIDECAR_BYTES = 2**18
"""kubectl apply without --server-side keeps a copy of an object in its annotations, which have room for so much."""

SETUPTOOLS = 77
"""The first that knows the licence fields of pyproject.toml."""


def tree(directory: Path) -> dict[str, bytes]:
    """Content by path of every file below, hidden ones included."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refused(directory: Path, *args: str) -> str:
    """What it says where it cannot: one line, exit 1."""
    done = command("dashboards", str(directory), *args)

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n")), done.stderr
    return done.stderr


def test_it_writes_everything(tmp_path: Path) -> None:
    """Boards, rules, provisioning and manifests, as they are in the package; sums that sha256sum takes; next steps."""
    done = command("dashboards", str(tmp_path / "new" / "here"))
    written = tree(tmp_path / "new" / "here")
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "new" / "here", capture_output=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert {*FILES, SUMS} == written.keys()
    assert 0 == checked.returncode, checked.stdout
    for name in FILES - {f"provisioning/{kind}/trainwatt.yml" for kind in ("dashboards", "datasources")}:
        source = FOLDER / name
        source = source if source.exists() else FOLDER / "rules" / source.name
        assert source.read_bytes() == written[name], name
    assert "4 boards" in done.stdout
    assert str(tmp_path / "new" / "here" / "rules" / "trainwatt.rules.yml") in done.stdout
    assert done.stdout.count("\n") <= 12


def test_again_changes_nothing(tmp_path: Path) -> None:
    """A second call writes nothing anew, not even with the same content."""
    command("dashboards", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = command("dashboards", str(tmp_path))

    assert 0 == again.returncode
    assert f"{len(FILES)} files, 0 of them written anew" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_an_older_version_wrote_is_replaced(tmp_path: Path) -> None:
    """A file that still has the sum that it was written with is ours; one that is lost comes back."""
    command("dashboards", str(tmp_path))
    new = tree(tmp_path)
    old = b'{"title": "of an older version"}\n'
    (tmp_path / BOARD).write_bytes(old)
    sums = (
        (tmp_path / SUMS).read_text().replace(hashlib.sha256(new[BOARD]).hexdigest(), hashlib.sha256(old).hexdigest())
    )
    (tmp_path / SUMS).write_text(sums + f"{hashlib.sha256(b'').hexdigest()}  json/trainwatt-gone.json\n")
    (tmp_path / "json" / "trainwatt-gone.json").touch()
    (tmp_path / "json" / "trainwatt-run.json").unlink()
    done = command("dashboards", str(tmp_path))

    assert 0 == done.returncode, done.stderr
    assert "2 of them written anew" in done.stdout
    assert f"{tmp_path}/json/trainwatt-gone.json is no longer part of trainwatt: remove it\n" in done.stdout
    assert {**new, "json/trainwatt-gone.json": b""} == tree(tmp_path)


@pytest.mark.parametrize("has_sums", [True, False])
def test_what_was_changed_is_not_overwritten(tmp_path: Path, *, has_sums: bool) -> None:
    """One line names it, nothing at all is written; --force overwrites it and nothing that is not ours."""
    command("dashboards", str(tmp_path))
    new = tree(tmp_path)
    (tmp_path / BOARD).write_text("mine")
    (tmp_path / "rules" / "trainwatt.rules.yml").unlink()
    (tmp_path / "rules" / "own.yml").write_text("mine")
    if not has_sums:
        (tmp_path / SUMS).unlink()
    before = tree(tmp_path)
    said = refused(tmp_path)

    assert f"{BOARD} in {tmp_path} would be overwritten" in said
    assert "--force" in said
    assert before == tree(tmp_path)
    assert 0 == command("dashboards", str(tmp_path), "--force").returncode
    assert {**new, "rules/own.yml": b"mine"} == tree(tmp_path)


def test_what_is_meant_to_be_changed_is_kept(tmp_path: Path) -> None:
    """An address set in the data source holds up no later call and outlives it; --force takes it back."""
    command("dashboards", str(tmp_path))
    new = tree(tmp_path)
    source = "provisioning/datasources/trainwatt.yml"
    (tmp_path / source).write_text("mine")
    (tmp_path / BOARD).unlink()
    done = command("dashboards", str(tmp_path))

    assert 0 == done.returncode, done.stderr
    assert f"{tmp_path}/{source} is kept as you changed it\n" in done.stdout
    assert {**new, source: b"mine"} == tree(tmp_path)
    assert 0 == command("dashboards", str(tmp_path), "--force").returncode
    assert new == tree(tmp_path)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    """DIR, a folder or a board's place taken by something else: one line that names it, nothing is written."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rules").write_text("mine")
    (tmp_path / "board" / BOARD).mkdir(parents=True)

    assert "Not a directory" in refused(tmp_path / "file")
    assert "Not a directory" in refused(tmp_path / "file" / "below")
    assert f"{tmp_path}/folder/rules" in refused(tmp_path / "folder")
    assert f"{tmp_path}/board/{BOARD}" in refused(tmp_path / "board", "--force")
    assert {"file": b"mine", "folder/rules": b"mine"} == tree(tmp_path)
    assert [tmp_path / "folder" / "rules"] == list((tmp_path / "folder").iterdir())


def test_no_name_is_not_this_directory(tmp_path: Path) -> None:
    """A variable of a script that is not set must not fill wherever it runs."""
    done = command("dashboards", "", cwd=tmp_path)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert [] == list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made() -> None:
    """The kernel's reason and the remedy, in one line."""
    said = refused(Path("/proc/trainwatt"))

    assert "cannot write to /proc/trainwatt: No such file or directory" in said
    assert "name a directory" in said


@pytest.mark.parametrize("exists", [True, False])
def test_no_room(tmp_path: Path, *, exists: bool) -> None:
    """A disk that takes 16 KiB of a file and no more: one line, and neither files nor folders stay."""
    target = tmp_path / "new" / "here"
    if exists:
        target.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 16; exec "$0" dashboards "$1"', need.trainwatt(), str(target)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert f"cannot write to {target}: File too large" in done.stderr
    assert before == sorted(tmp_path.rglob("*"))


def manifest(name: str) -> Any:
    """A Kubernetes object of the repository."""
    return yaml.safe_load((FOLDER / "kubernetes" / name).read_text("utf-8"))


@pytest.mark.parametrize("uid", UIDS)
def test_a_board_as_a_configmap(uid: str) -> None:
    """It has the sidecar's label, holds the board's JSON byte for byte, and is small enough to be applied."""
    file = FOLDER / "kubernetes" / f"{uid}.configmap.yml"
    told = manifest(file.name)
    board = (FOLDER / "json" / f"{uid}.json").read_text("utf-8")

    assert ("v1", "ConfigMap", uid) == (told["apiVersion"], told["kind"], told["metadata"]["name"])
    assert "1" == told["metadata"]["labels"]["grafana_dashboard"]
    assert {f"{uid}.json": board} == told["data"]
    assert uid == json.loads(told["data"][f"{uid}.json"])["uid"]
    assert len(json.dumps(told)) < SIDECAR_BYTES


def test_the_podmonitor() -> None:
    """Pods are found by label and port; a target is called by its node, and its job is one that the rules look for."""
    told = manifest("trainwatt.podmonitor.yml")
    (endpoint,) = told["spec"]["podMetricsEndpoints"]
    (relabeling,) = endpoint["relabelings"]

    assert ("monitoring.coreos.com/v1", "PodMonitor") == (told["apiVersion"], told["kind"])
    assert {told["spec"]["jobLabel"]: "trainwatt"} == told["spec"]["selector"]["matchLabels"]
    assert (["__meta_kubernetes_pod_node_name"], "instance") == (
        relabeling["sourceLabels"],
        relabeling["targetLabel"],
    )
    assert ("metrics", "/metrics", "15s") == (endpoint["port"], endpoint["path"], endpoint["interval"])


def test_the_wheel_has_it_all(tmp_path: Path) -> None:
    """Unpacked elsewhere and without any development dependency, a built wheel writes the same files."""
    if int(version("setuptools").split(".")[0]) < SETUPTOOLS:
        need.missing(f"setuptools {SETUPTOOLS}, which torch brings,")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("monitor", "exporters", "dashboards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "trainwatt.py", "trainwatt_slurm.py"):
        shutil.copy(ROOT / name, source / name)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert 0 == built.returncode, built.stderr
    wheel = tmp_path / built.stdout.splitlines()[-1]
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "sys.modules.update(dict.fromkeys(['grafana_foundation_sdk', 'yaml', 'promql_parser']))\n"
        "import trainwatt; assert 'site' in trainwatt.__file__; trainwatt.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site"), "dashboards", str(tmp_path / "out")],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert {*FILES, SUMS} == tree(tmp_path / "out").keys()
