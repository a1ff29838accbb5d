"""`trainwatt check`: what is measured, by what, what is denied and its remedy, what is summed, what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import nvml, rapl
from tests.drivers.hwmon import HwmonTree, grace_hopper
from tests.harness.daemon import command


def check(*args: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The findings, as a machine reads them."""
    document: dict[str, Any] = json.loads(command("check", "--json", *args, env=env).stdout)
    return document


def by_source(findings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each source found."""
    return {source["source"]: source for source in findings["sources"]}


@pytest.fixture
def node(tmp_path: Path, library: Path) -> tuple[nvml.FakeDriver, rapl.RaplTree, dict[str, str]]:
    """A node with GPUs of several kinds and two sockets; only written down, nothing runs."""
    gpus = [nvml.FakeGpu(), nvml.FakeGpu(arch=7, usage="instant"), nvml.FakeGpu(mig=1)]
    driver = nvml.FakeDriver(tmp_path / "nvml.conf", gpus)
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", 3, gpu_index=1)
    driver.mig(2, 0, (1, 0), "MIG-a", 2**30)
    return driver, rapl.RaplTree(tmp_path / "sys"), driver.environment(library.parent)


def test_it_says_what_each_device_gives(node: tuple[nvml.FakeDriver, rapl.RaplTree, dict[str, str]]) -> None:
    """Counter or integration, and at what rate; slices; what is summed and what only overlaps."""
    driver, tree, env = node
    findings = check("--sysfs", str(tree.root), env=env)
    devices = {device["id"]: device for source in findings["sources"] for device in source["devices"]}

    assert (devices[driver.uuid(0)]["method"], devices[driver.uuid(1)]["method"]) == ("counter", "integrated")
    assert devices[driver.uuid(1)]["signal"] == "instant"
    assert by_source(findings)["nvml"]["period_s"] == 0.1
    assert devices[driver.uuid(2)]["slices"] == ["MIG-a"]
    assert (devices["psys"]["summed"], devices["psys"]["within"]) == (False, "node")
    assert devices["package-0"]["summed"] is True
    assert findings["summed"] == ["cpu", "dram", "gpu"]
    assert "fans" in findings["not_measured"]


def test_what_is_denied_comes_with_its_remedy(tmp_path: Path) -> None:
    """An unreadable tree: state denied, the ways to grant it, and CPU and DRAM among what is not measured; exit 1."""
    tree = rapl.RaplTree(tmp_path / "sys")
    for zone in ("intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1:1", "intel-rapl:2"):
        tree.deny(zone)
    findings = check("--sysfs", str(tree.root))
    denied = by_source(findings)["rapl"]
    plain = command("check", "--sysfs", str(tree.root))

    assert denied["state"] == "denied"
    assert "AmbientCapabilities=CAP_DAC_READ_SEARCH" in denied["problems"][0]
    assert "udev" in denied["problems"][0]
    assert {"cpu", "dram"} <= set(findings["not_measured"])
    assert plain.returncode == 1
    assert "rapl: denied" in plain.stdout


def test_a_second_way_to_the_same_joules_is_not_used(tmp_path: Path) -> None:
    """Where powercap works, meters of the same CPUs are named and left out of the sum."""
    tree = rapl.RaplTree(tmp_path / "sys")
    HwmonTree(tmp_path / "sys", grace_hopper())
    findings = by_source(check("--sysfs", str(tree.root)))

    assert findings["rapl"]["state"] == "used"
    assert findings["hwmon"]["state"] == "not used"
    assert findings["hwmon"]["note"] == "rapl tells the same joules"
    assert [device["within"] for device in findings["hwmon-node"]["devices"]] == ["node"]


def test_an_estimate_is_opt_in_and_apart(tmp_path: Path) -> None:
    """Without a sensor nothing is estimated unless asked; an estimate carries its band and is in no sum."""
    (tmp_path / "sys").mkdir()
    silent = check("--sysfs", str(tmp_path / "sys"))
    asked = check("--sysfs", str(tmp_path / "sys"), "--estimate-cpu-tdp", "280")
    (device,) = by_source(asked)["estimate"]["devices"]

    assert "estimate" not in by_source(silent)
    assert (device["method"], device["error_ratio"]) == ("estimated", 0.3)
    assert (asked["summed"], asked["estimated"]) == ([], ["cpu"])


def test_words_are_for_people(node: tuple[nvml.FakeDriver, rapl.RaplTree, dict[str, str]]) -> None:
    """The plain form names each device with its method in words, what is never added, and how to get grams."""
    _driver, tree, env = node
    text = command("check", "--sysfs", str(tree.root), env=env).stdout

    assert "energy counter" in text
    assert "power, integrated at 10 Hz (a sensor of the moment)" in text
    assert "1 MIG slices share it" in text
    assert "psys  platform  -  energy counter; within node: shown, never added" in text
    assert "--zone DE" in text


def test_it_says_which_runs_it_can_tell_apart(tmp_path: Path) -> None:
    """Each thing that discovery needs on a line of its own, with the remedy where it is missing."""
    own = tmp_path / "proc" / "self"
    (own / "ns").mkdir(parents=True)
    (own / "ns" / "pid").symlink_to("pid:[4026532999]")
    (own / "status").write_text("CapEff:\t0000000000000000\n")
    (tmp_path / "sys").mkdir()
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=Deep\n")
    roots = ("--sysfs", str(tmp_path / "sys"), "--procfs", str(tmp_path / "proc"))
    env = {"SLURM_CONF": str(conf)}
    told = {line["what"]: line for line in check(*roots, env=env)["runs"]}
    text = command("check", *roots, env=env).stdout

    assert [("numbers", False), ("processes", False), ("environments", False), ("cgroups", False), ("slurm", True)] == [
        (what, line["works"]) for what, line in told.items()
    ]
    assert "--pid=host" in told["numbers"]["text"]
    assert "AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH" in told["environments"]["text"]
    assert "  + Slurm's cluster is deep" in text
    assert all(f"  - {told[what]['text']}" in text for what in ("numbers", "processes", "environments", "cgroups"))
