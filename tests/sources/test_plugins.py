"""Sources of other distributions: found, looked at, and never able to stop or mislead the daemon."""

import importlib.metadata
import itertools
import math
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.core.model import Component, Device, Instant, ReadFailure, Reading, Readout, Telemetry
from monitor.core.ports import Source
from monitor.errors import SourceAbsent, SourceBroken
from monitor.sources import plugins
from monitor.sources.plugins import Checked, Context
from monitor.sources.supervisor import Supervisor
from tests.harness import poll
from tests.harness.daemon import Daemon, clean_environment, free_port
from tests.harness.rig import Rig

EXAMPLE = Path(__file__).parent.parent / "plugin_example"
NOW = Instant(1000.0, 1.79e9)
CARD = Device(id="accel-0", component=Component.GPU, source="accel", max_power_w=600.0)
GOOD = Reading(device=CARD, at=NOW, energy_j=5.0)
CONTEXT = Context(now=lambda: NOW, interval_s=1.0, sysfs=Path("/sys"), procfs=Path("/proc"))
NUMBERS = itertools.count()


def install(project: Path, directory: Path) -> None:
    """What pip would leave in `--target directory` of a project with plain modules, without a build and a network."""
    stated: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())
    name, version = stated["project"]["name"], stated["project"]["version"]
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in stated["project"]["entry-points"].items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module in stated["tool"]["setuptools"]["py-modules"]:
        shutil.copy(project / f"{module}.py", directory)


MakePlugin = Callable[..., None]


@pytest.fixture
def make_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """Installs a distribution of one module for this process."""

    def make(code: str, *, entry: str = "accel", value: str = "make") -> None:
        number = next(NUMBERS)
        project = tmp_path / f"project-{number}"
        project.mkdir()
        (project / f"plugin_{number}.py").write_text(code)
        (project / "pyproject.toml").write_text(
            f'[project]\nname = "dist-{number:03}"\nversion = "7.1"\n'
            f'[project.entry-points."{plugins.GROUP}"]\n{entry} = "plugin_{number}:{value}"\n'
            f'[tool.setuptools]\npy-modules = ["plugin_{number}"]\n'
        )
        install(project, tmp_path / f"site-{number}")
        monkeypatch.syspath_prepend(tmp_path / f"site-{number}")

    return make


WELL = """
class Source:
    name = "{name}"
    period_s = 1.0
    def __init__(self, context): self.context = context
    def open(self): pass
    def read(self): raise RuntimeError("a defect\\nof two lines")
    def close(self): raise RuntimeError("never")
make = Source
"""


def problem(source: Source) -> str:
    """What a source that cannot be opened says."""
    with pytest.raises(SourceBroken) as raised:
        source.open()
    return str(raised.value)


@pytest.mark.parametrize(
    ("code", "value", "says"),
    [
        ("import no_such_module", "make", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('bye')", "make", "SystemExit: bye"),
        ("def make(context): raise RuntimeError('two\\nlines')", "make", "RuntimeError: two lines"),
        ("def make(context): return None", "make", "AttributeError"),
        ("make = 5", "make", "TypeError"),
        ("def make(context): pass", "makes", "AttributeError"),
        ("this is no Python", "make", "SyntaxError"),
        (WELL.format(name="Accel 9"), "make", "its name 'Accel 9'"),
        (WELL.format(name=""), "make", "its name ''"),
        (WELL.replace("def close(self)", "def end(self)").format(name="accel"), "make", "close"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_shown(make_plugin: MakePlugin, code: str, value: str, says: str) -> None:
    """Whatever is wrong with it, it stands in the list under its name, broken, with one line that names it."""
    make_plugin(code, value=value)
    (source,) = plugins.load(CONTEXT)
    told = problem(source)

    assert "accel" == source.name
    assert says in told
    assert "the plug-in accel of dist-" in told
    assert "7.1" in told
    assert "\n" not in told


def test_no_plugin_is_no_source() -> None:
    """Where none is installed there is none."""
    assert [] == plugins.load(CONTEXT)


@pytest.mark.parametrize("name", ["nvml", "rapl", "mock", "gpu", "package"])
def test_the_name_of_a_builtin_source_is_refused(make_plugin: MakePlugin, name: str) -> None:
    """A plug-in cannot pass for a source of ours: it is shown as broken under another name."""
    make_plugin(WELL.format(name=name), entry=name)
    (source,) = plugins.load(CONTEXT, taken=["nvml", "rapl"])

    assert f"plugin-{name}" == source.name
    assert f"another source has its name, '{name}'" in problem(source)


def test_of_two_with_one_name_the_first_is_used(make_plugin: MakePlugin) -> None:
    """The second distribution that claims a name is refused; both are shown."""
    make_plugin(WELL.format(name="accel"))
    make_plugin(WELL.format(name="accel"))
    make_plugin(WELL.format(name="accel"))
    first, second, third = plugins.load(CONTEXT)

    assert ["accel", "plugin-accel", "plugin-accel-2"] == [first.name, second.name, third.name]
    first.open()
    assert "another source has its name" in problem(second)


def test_a_plugin_is_given_its_context(make_plugin: MakePlugin) -> None:
    """It gets the clock, the interval and the roots, and an empty mapping of options that it cannot change."""
    make_plugin(
        WELL.format(name="accel") + "\n    \nseen = []\ndef make(context): seen.append(context); return Source(context)"
    )
    plugins.load(CONTEXT)
    (entry,) = importlib.metadata.entry_points(group=plugins.GROUP)
    (seen,) = sys.modules[entry.module].seen

    assert CONTEXT == seen
    with pytest.raises(TypeError):
        seen.options["mine"] = 1


def test_a_plugin_that_raises_is_a_source_that_fails(make_plugin: MakePlugin) -> None:
    """A defect in its read, or in its close, ends as a count and one line for people."""
    make_plugin(WELL.format(name="accel"))
    supervisor = Supervisor(plugins.load(CONTEXT)[0], now=lambda: NOW)
    supervisor.tick()

    assert (("exception", 1),) == supervisor.health.failures
    assert "RuntimeError: a defect of two lines" == supervisor.health.problem


class Says:
    """A source that says the same at each read."""

    name = "accel"

    def __init__(self, said: object, period_s: Any = 1.0) -> None:
        self.said = said
        self.period_s = period_s

    def open(self) -> None:
        """There is nothing to find."""

    def read(self) -> Any:
        """Say it, or raise it."""
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said

    def close(self) -> None:
        """Nothing is held open."""


def checked(said: object, period_s: object = 1.0) -> Checked:
    """A source that says so, under the check."""
    return Checked("accel", Says(said, period_s), now=lambda: NOW, period_s=1.0)


def test_a_good_reading_passes_unchanged() -> None:
    """What fits is handed on as it is."""
    whole = GOOD._replace(wraps_at_j=10.0, power_w=0.0, telemetry=Telemetry(temperature_c=-5.0, utilization_ratio=1.0))
    failure = ReadFailure(device_id="accel-1", at=NOW, reason="lost", message="gone", baseline_lost=True)

    assert (
        Readout(readings=(whole,), failures=(failure,))
        == checked(Readout(readings=(whole,), failures=(failure,))).read()
    )


def _device(**changes: Any) -> Reading:
    return GOOD._replace(device=replace(CARD, **changes))


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        (GOOD._replace(energy_j=math.nan), "energy_j"),
        (GOOD._replace(energy_j=math.inf), "energy_j"),
        (GOOD._replace(energy_j=-1.0), "energy_j"),
        (GOOD._replace(energy_j="5"), "energy_j"),  # type: ignore[arg-type]
        (GOOD._replace(energy_j=True), "energy_j"),
        (GOOD._replace(energy_j=10**400), "too large"),
        (GOOD._replace(wraps_at_j=0.0), "wraps_at_j"),
        (GOOD._replace(power_w=-3.0), "power_w"),
        (GOOD._replace(power_w=math.nan), "power_w"),
        (GOOD._replace(power_signal="often"), "power_signal"),  # type: ignore[arg-type]
        (GOOD._replace(at=Instant(1.79e9, 1.79e9)), "context.now()"),
        (GOOD._replace(at=Instant(math.nan, 1.79e9)), "at"),
        (GOOD._replace(at=1000.0), "at"),  # type: ignore[arg-type]
        (_device(max_power_w=0.0), "max_power_w"),
        (_device(max_power_w=math.inf), "max_power_w"),
        (_device(calibration_ratio=math.nan), "calibration_ratio"),
        (_device(source="nvml"), "device.source"),
        (_device(id="package-0"), "'package-0'"),
        (_device(id="accel-0 \n"), "accel-"),
        (_device(id=7), "7"),
        (_device(component="fridge"), "fridge"),
        (_device(origin="hope"), "hope"),
        ("five joules", "str"),
        (None, "NoneType"),
    ],
)
def test_a_bad_reading_is_a_failure(reading: Any, says: str) -> None:
    """A number, instant or device that cannot be is a failure `invalid`; the other devices are read."""
    other = GOOD._replace(device=replace(CARD, id="accel-1"))
    said = checked(Readout(readings=(reading, other))).read()

    assert (other,) == said.readings
    assert ["invalid"] == [failure.reason for failure in said.failures]
    assert says in said.failures[0].message
    assert said.failures[0].device_id.startswith("accel-")
    assert not said.failures[0].baseline_lost


def test_a_device_is_read_once_a_turn() -> None:
    """A second reading of one device in a turn is a failure; the first counts."""
    said = checked(Readout(readings=(GOOD, GOOD._replace(energy_j=9.0)))).read()

    assert (GOOD,) == said.readings
    assert ["invalid"] == [failure.reason for failure in said.failures]


def test_time_does_not_run_backwards() -> None:
    """A reading from before the last one is a failure: the joules of an interval of negative length are none."""
    says = Says(Readout(readings=(GOOD,)))
    source = Checked("accel", says, now=lambda: NOW, period_s=1.0)
    source.read()
    says.said = Readout(readings=(GOOD._replace(at=Instant(999.0, 1.79e9)),))

    assert ["invalid"] == [failure.reason for failure in source.read().failures]


def test_bad_telemetry_does_not_cost_the_energy() -> None:
    """Telemetry that cannot be is left out; the joules beside it are read."""
    told = Telemetry(power_limit_w=math.nan, utilization_ratio=87.0, temperature_c=41.0, memory_used_bytes=-1)
    said = checked(Readout(readings=(GOOD._replace(telemetry=told),))).read()

    assert (GOOD._replace(telemetry=Telemetry(temperature_c=41.0)),) == said.readings


@pytest.mark.parametrize("within", ["", "rack"])
def test_the_whole_node_is_never_a_part(within: str) -> None:
    """A platform reading lies within the node unless it says within what."""
    node = Device(id="accel-node", component=Component.PLATFORM, source="accel", max_power_w=9000.0, within=within)
    said = checked(Readout(readings=(Reading(device=node, at=NOW, power_w=700.0),))).read()

    assert [within or "node"] == [reading.device.within for reading in said.readings]


def test_a_plugin_cannot_speak_for_others() -> None:
    """A failure that would close the interval of a device of ours is refused, and its reason is a word."""
    foreign = ReadFailure(device_id="package-0", at=NOW, reason="lost", message="gone", baseline_lost=True)
    odd = ReadFailure(device_id="accel-0", at=NOW, reason="error 17 at 12:05", message="two\nlines")
    said = checked(Readout(failures=(foreign, odd))).read()

    assert [("accel-unknown", "invalid", False), ("accel-0", "other", False)] == [
        (failure.device_id, failure.reason, failure.baseline_lost) for failure in said.failures
    ]
    assert "two lines" == said.failures[1].message


def test_what_a_plugin_makes_up_is_bounded() -> None:
    """New devices and new reasons come to an end: each would be a series."""
    made_up = tuple(GOOD._replace(device=replace(CARD, id=f"accel-{number}")) for number in range(300))
    failed = tuple(
        ReadFailure(device_id="accel-0", at=NOW, reason="odd_" + "x" * number, message="?") for number in range(20)
    )
    said = checked(Readout(readings=made_up, failures=failed)).read()

    assert 256 == len(said.readings)
    assert 13 == len({failure.reason for failure in said.failures} - {"invalid"})
    assert "other" in {failure.reason for failure in said.failures}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (SourceAbsent("no\ncard"), "absent"),
        (SourceBroken("x", reason="error 17"), "other"),
        (SystemExit(3), "exception"),
        (KeyError("x"), "exception"),
        ([GOOD], "invalid"),
        (Readout(readings=5), "exception"),  # type: ignore[arg-type]
    ],
)
def test_whatever_it_raises_is_a_count_and_a_line(said: object, reason: str) -> None:
    """Its errors keep their meaning; reasons stay words and messages one line."""
    supervisor = Supervisor(checked(said), now=lambda: NOW)
    supervisor.tick()

    assert ((reason, 1),) == supervisor.health.failures
    assert "\n" not in supervisor.health.problem


@pytest.mark.parametrize("period_s", [0.0, -1.0, math.nan, math.inf, "often", None])
def test_a_period_that_cannot_be_is_refused(period_s: object) -> None:
    """The pace of a source is a time above 0, or the source is broken."""
    source = checked(Readout(readings=(GOOD,)), period_s=period_s)
    with pytest.raises(SourceBroken, match="period_s"):
        source.read()

    assert 1.0 == source.period_s


def test_a_hasty_plugin_is_slowed_down() -> None:
    """Ten reads a second are the most that a source gets."""
    source = checked(Readout(readings=(GOOD,)), period_s=1e-6)
    source.read()

    assert 0.1 == source.period_s


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, Path]:
    """The example, installed: its site directory, and the file of its card."""
    install(EXAMPLE, tmp_path / "site")
    file = tmp_path / "card"
    file.write_text("5000 1200\n")
    return tmp_path / "site", file


def test_the_example_goes_through_the_pipeline(example: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The card's joules are those of its counter and the node's measured ones; the whole node overlaps."""
    site, file = example
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("ACCEL_FILE", str(file))
    clock: list[Rig] = []

    def now() -> Instant:
        return clock[0].now()

    rig = Rig(sources=plugins.load(replace(CONTEXT, now=now)))
    clock.append(rig)
    rig.go(1.0)
    file.write_text("405000 1200\n")
    snapshot = rig.go(1.0)

    assert {"counter": 400.0} == dict(snapshot.devices["accel-0"].energy_j)
    assert {"integrated": 2400.0} == dict(snapshot.devices["accel-node"].energy_j)
    assert {("gpu", "counter"): 400.0} == dict(snapshot.node_energy_j)


def test_the_example_is_served(example: tuple[Path, Path], tmp_path: Path) -> None:
    """An installed plug-in needs no setting: its card is a device, its whole node an overlap that no sum contains."""
    site, file = example
    (tmp_path / "sys").mkdir()
    port = free_port()
    program = f"import sys; sys.path.insert(0, {str(site)!r}); import trainwatt; trainwatt.main()"
    arguments = ["serve", "--listen", f"127.0.0.1:{port}", "--interval", "0.1", "--sysfs", str(tmp_path / "sys")]
    arguments += ["--state-dir", str(tmp_path / "state"), "--socket", str(tmp_path / "socket")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=clean_environment({"ACCEL_FILE": str(file)}),
            stdout=log,
            stderr=log,
            text=True,
        )
    served = Daemon(process, port, tmp_path / "log")

    def shown() -> str | None:
        """The exposition once both devices are in it."""
        text = served.metrics()
        return text if 'device="accel-0"' in text and "overlap_power_watts{" in text else None

    try:
        poll.until(served.ready, what="readiness")
        text = poll.until(shown, what="the devices of the plug-in")
    finally:
        process.terminate()
        process.wait(10)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    assert "1.0" == samples['trainwatt_source_up{source="accel"}']
    assert 'trainwatt_device_energy_joules_total{component="gpu",device="accel-0",method="counter"}' in samples
    assert "1200.0" == samples['trainwatt_overlap_power_watts{component="platform",device="accel-node",within="node"}']
    measured = [name for name in samples if name.startswith("trainwatt_node_measured_energy")]
    assert ['trainwatt_node_measured_energy_joules_total{component="gpu",method="counter"}'] == measured
