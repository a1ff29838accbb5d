"""The stack to try, without Docker: its files agree with each other, and Debian's Prometheus starts with them."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.boards import BOARDS, ROOT
from tests.harness import need, poll
from tests.harness.daemon import daemon, free_port
from tests.harness.prometheus import Prometheus

STACK = ROOT / "dashboards" / "stack"
RULES = ROOT / "dashboards" / "rules" / "trainwatt.rules.yml"


def read(*path: str) -> Any:
    """One of the stack's files."""
    return yaml.safe_load(STACK.joinpath(*path).read_text("utf-8"))


COMPOSE = read("compose.yml")
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: str) -> dict[str, str]:
    """Where each source of a service is in its container."""
    pairs = (volume.split(":") for volume in SERVICES[service].get("volumes", ()))
    return {target: source for source, target, *_mode in pairs}


def in_repository(service: str, path: str) -> Path:
    """The file of the repository that a container sees at a path."""
    for target, source in mounts(service).items():
        if source.startswith(".") and Path(path).is_relative_to(target):
            return (STACK / source / Path(path).relative_to(target)).resolve()
    raise LookupError(f"{service} has nothing of the repository at {path}")


def listens_on(service: str) -> int:
    """The port of a service inside the stack's network, which is published, too."""
    (published,) = SERVICES[service]["ports"]
    return int(published.split(":")[-1])


def test_every_mount_has_its_source() -> None:
    """What is bound from the repository is in it, and nothing else is bound but volumes that are declared."""
    for service in SERVICES:
        for source in mounts(service).values():
            if source.startswith("."):
                assert (STACK / source).exists(), source
                assert (STACK / source).resolve().is_relative_to(ROOT)
            else:
                assert source in COMPOSE["volumes"], source


def test_every_image_is_pinned() -> None:
    """A service has a version of three numbers, or is built from a Dockerfile of the repository that exists."""
    for name, service in SERVICES.items():
        if "build" in service:
            context = (STACK / service["build"]["context"]).resolve()

            assert context == ROOT, name
            assert (context / service["build"]["dockerfile"]).is_file()
        else:
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_ports_are_for_this_machine_only() -> None:
    """Nothing is published beyond loopback: nobody has a password there yet."""
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_services_find_each_other() -> None:
    """Every HOST:PORT in the configuration is a service of the stack and the port that it listens on."""
    prometheus, (targets,) = read("prometheus.yml"), read("targets", "trainwatt.yml")
    (source,) = read("provisioning", "datasources", "trainwatt.yml")["datasources"]
    (managers,) = prometheus["alerting"]["alertmanagers"]
    named = [*targets["targets"], source["url"].removeprefix("http://")]
    named += [target for group in managers["static_configs"] for target in group["targets"]]

    assert {f"{service}:{listens_on(service)}" for service in ("trainwatt", "prometheus", "alertmanager")} == set(named)
    assert f"0.0.0.0:{listens_on('trainwatt')}" in SERVICES["trainwatt"]["command"]


def test_the_paths_of_the_configuration_are_mounted() -> None:
    """The rule file, the targets, the configuration itself and the boards' folder are where each program looks."""
    home = Path("/etc/prometheus")
    prometheus = read("prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    (provider,) = read("provisioning", "dashboards", "trainwatt.yml")["providers"]
    flags = dict(flag.removeprefix("--").split("=") for flag in SERVICES["prometheus"]["command"])
    first = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert in_repository("prometheus", flags["config.file"]) == STACK / "prometheus.yml"
    assert [in_repository("prometheus", str(home / path)) for path in prometheus["rule_files"]] == [RULES]
    assert RULES.is_file()
    assert [in_repository("prometheus", str(home / path)).parent for path in discovery["files"]] == [STACK / "targets"]
    assert in_repository("grafana", provider["options"]["path"]) == ROOT / "dashboards" / "json"
    assert in_repository("grafana", first).stem in BOARDS
    assert flags["storage.tsdb.path"] in mounts("prometheus")


def test_provisioning_has_the_keys_that_grafana_knows() -> None:
    """Version 1, the keys of Grafana's documentation, the right scrape interval; never a second default source."""
    sources = read("provisioning", "datasources", "trainwatt.yml")
    boards = read("provisioning", "dashboards", "trainwatt.yml")
    (source,), (provider,) = sources["datasources"], boards["providers"]

    assert (1, 1) == (sources["apiVersion"], boards["apiVersion"])
    assert set(source) <= {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
    assert ("prometheus", "proxy", False) == (source["type"], source["access"], source["isDefault"])
    assert read("prometheus.yml")["global"]["scrape_interval"] == source["jsonData"]["timeInterval"]
    assert set(provider) <= {"name", "folder", "type", "allowUiUpdates", "updateIntervalSeconds", "options"}
    assert ("file", False) == (provider["type"], provider["allowUiUpdates"])


def test_the_image_has_what_the_build_needs() -> None:
    """What .dockerignore lets in is all that pyproject.toml names, and no more than is there."""
    lines = (STACK / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert "*" in lines
    assert all((ROOT / name).exists() for name in let_in)
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"} <= let_in
    assert {"monitor", "exporters", "dashboards", "trainwatt.py", "trainwatt_slurm.py"} <= let_in


def test_amtool_takes_the_route() -> None:
    """Alertmanager's own checker; the alerts that are named in it are those of the rules."""
    done = subprocess.run(
        [need.program("amtool"), "check-config", str(STACK / "alertmanager.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    named = set(re.findall(r'alertname="(\w+)"', (STACK / "alertmanager.yml").read_text()))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert named <= {rule.get("alert") for group in GROUPS for rule in group["rules"]}


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """/etc/prometheus as the container has it."""
    for target, source in mounts("prometheus").items():
        if source.startswith("."):
            place = tmp_path / Path(target).relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (STACK / source).is_dir() else shutil.copy
            copy(STACK / source, place)
    return tmp_path / "etc" / "prometheus"


def test_promtool_takes_the_configuration(container: Path) -> None:
    """With the rule file and the targets where they are mounted."""
    done = subprocess.run(
        [need.program("promtool"), "check", "config", str(container / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_prometheus_starts_with_it(container: Path, tmp_path: Path) -> None:
    """The file as it is, but for the address in targets/: the rules are loaded, they evaluate, the target is up."""
    with daemon("--mock", "training", "--zone", "DE", log=tmp_path / "daemon.log") as served:
        (container / "targets" / "trainwatt.yml").write_text(json.dumps([{"targets": [f"127.0.0.1:{served.port}"]}]))
        port = free_port()
        flags = [f"--config.file={container / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        flags += ["--storage.tsdb.retention.time=400d", f"--web.listen-address=127.0.0.1:{port}"]
        with started([need.program("prometheus"), *flags], tmp_path / "prometheus.log"):
            server = Prometheus(f"http://127.0.0.1:{port}")
            poll.until(lambda: server.get("targets")["activeTargets"], what="the target", within_s=30)
            poll.until(lambda: server.scrapes() >= 1, what="a scrape", within_s=40)
            poll.until(lambda: _evaluated(server), what="the rules", within_s=40)
            targets = server.get("targets")["activeTargets"]
            groups = server.get("rules")["groups"]

    assert [("trainwatt", "up")] == [(target["labels"]["job"], target["health"]) for target in targets]
    assert {group["name"] for group in GROUPS} == {g["name"] for g in groups}
    assert {"ok"} == {rule["health"] for group in groups for rule in group["rules"]}


@contextmanager
def started(words: Sequence[str], log: Path) -> Iterator[None]:
    """A program, until left."""
    with log.open("w") as said, subprocess.Popen(words, stdout=said, stderr=said) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def _evaluated(server: Prometheus) -> bool:
    rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    return bool(rules) and all(rule["health"] != "unknown" for rule in rules)
