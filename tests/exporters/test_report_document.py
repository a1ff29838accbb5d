import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from exporters.report_document import MOST_ROWS, report_document, run_summary
from exporters.report_file import parse_report, report_json
from exporters.report_model import Report, json_schema
from monitor.core.attribution import ShareKind
from monitor.core.model import (
    Basis,
    Component,
    Device,
    Instant,
    Intensity,
    Method,
    Origin,
    Progress,
    Quality,
    Run,
)
from monitor.core.snapshot import DeviceTotals, Interval, Policy, RunTotals, Snapshot

START_S = 1_790_000_000.0
GPU, CPU = "GPU-1", "package-0"


def moment(after_s: float) -> Instant:
    """So long after the run's start."""
    return Instant(1000.0 + after_s, START_S + after_s)


def demo(**changes: Any) -> Run:
    """A run of 61.2 s that has ended."""
    words: dict[str, Any] = {
        "id": "demo-1",
        "name": "demo",
        "start": moment(0.0),
        "end": moment(61.2),
        "holds": frozenset({GPU, CPU}),
        "user": "ada",
        "tags": (("lr", "0.1"),),
        "progress": Progress(steps=60, done_ratio=0.5),
    }
    return Run(**words | changes)


def totals(run: Run, **changes: Any) -> RunTotals:
    """12.34 kJ, all of it measured."""
    whole = ShareKind.WHOLE
    words: dict[str, Any] = {
        "energy_j": {
            (Component.GPU, Method.COUNTER, whole): 11_200.0,
            (Component.CPU, Method.COUNTER, whole): 1_140.0,
        },
        "emissions_g": {(Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): 1.2},
        "held_s": 122.4,
        "measured_s": 122.4,
        "duration_s": 61.2,
    }
    return RunTotals(run=run, **words | changes)


def device(device_id: str, component: Component, **changes: Any) -> DeviceTotals:
    """A device with a counter."""
    words: dict[str, Any] = {"source": "nvml", "max_power_w": 700.0, "model": "H100"}
    return DeviceTotals(
        device=Device(id=device_id, component=component, **words | changes),
        energy_j={Method.COUNTER: 20_000.0},
        last_at=moment(60.0),
    )


NODE = {GPU: device(GPU, Component.GPU), CPU: device(CPU, Component.CPU, source="rapl", model="Xeon")}


def snapshot(
    *entries: RunTotals, zone: str | None = "DE", devices: Mapping[str, DeviceTotals] = NODE, ledger: str = "ledger-1"
) -> Snapshot:
    """A node with one GPU and one CPU, 100 s after the start of the run."""
    return Snapshot(
        ledger_id=ledger,
        policy=Policy(zone=zone),
        at=moment(100.0),
        devices=devices,
        runs={entry.run.id: entry for entry in entries},
    )


def interval(start_s: float, end_s: float, energy_j: float, device_id: str = GPU, **changes: Any) -> Interval:
    """What the run used of a device, from and to so long after its start."""
    words: dict[str, Any] = {
        "run_id": "demo-1",
        "device_id": device_id,
        "zone": "DE",
        "phase": "",
        "method": Method.COUNTER,
        "share": ShareKind.WHOLE,
        "recovered": False,
        "start_wall_s": START_S + start_s,
        "end_wall_s": START_S + end_s,
        "energy_j": energy_j,
        "idle_j": 0.0,
        "measured_s": end_s - start_s,
    }
    return Interval(**words | changes)


GERMANY = Intensity(
    zone="DE",
    grams_per_kilowatthour=350.0,
    basis=Basis.LIFECYCLE,
    quality=Quality.STATIC,
    provider="ember",
    valid_from_s=float("-inf"),
    valid_until_s=float("inf"),
    detail="2025",
)


def document(entry: RunTotals | None = None, known: Snapshot | None = None, **changes: Any) -> dict[str, Any]:
    """The report of a run."""
    entry = entry or totals(demo())
    words: dict[str, Any] = {
        "intervals": [interval(0.0, 61.2, 11_200.0), interval(0.0, 61.2, 1_140.0, CPU)],
        "factors": [GERMANY],
        "node": "node-a",
        "written_at_wall_s": START_S + 100.0,
    }
    return report_document(entry, known or snapshot(entry), **words | changes)


def test_the_schema_accepts_what_is_written() -> None:
    """A report is valid by the generated JSON Schema, and comes back as it was from the model that reads files."""
    validator = jsonschema.Draft202012Validator(json_schema())
    written = json.loads(report_json(document()))

    validator.check_schema(json_schema())
    validator.validate(written)

    assert parse_report(report_json(document()).encode(), "it") == json.loads(json.dumps(document()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("energy_j", [{"component": "gpu", "method": "counter", "share": "whole", "energy_j": -1.0}]),
        ("format", "another"),
        ("version", 2),
        ("measured_time_ratio", 1.5),
        ("duration_s", "61"),
        ("end_unix_s", 1e300),
        ("run", {}),
    ],
)
def test_the_schema_and_the_model_refuse_the_same(key: str, value: object) -> None:
    """What is no report is none by the schema and none by the model."""
    damaged = json.loads(report_json(document())) | {key: value}

    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(damaged)
    with pytest.raises(ValueError, match=key):
        Report.model_validate_json(json.dumps(damaged))


def test_the_rows_add_up_to_the_total() -> None:
    """The joules of the intervals are those of the components."""
    written = document()
    place = written["intervals"]["columns"].index("energy_j")

    assert sum(row[place] for row in written["intervals"]["rows"]) == pytest.approx(
        sum(part["energy_j"] for part in written["energy_j"])
    )


def test_what_is_not_known_is_null() -> None:
    """Without intervals, factors, grams and progress nothing of it is a zero."""
    entry = totals(demo(end=None, progress=Progress()), emissions_g={}, energy_j={}, held_s=0.0, measured_s=0.0)
    written = document(entry, intervals=None, factors=())

    assert written["intervals"] is written["end_unix_s"] is written["measured_time_ratio"] is None
    assert written["progress"] == {"steps": None, "tokens": None, "samples": None, "done_ratio": None}
    assert written["energy_j"] == written["emissions_g"] == []
    assert "energy: it holds no device whose joules anything tells" in written["missing"]


def test_idle_joules_are_told_by_component() -> None:
    """Those whose idle power is not known are absent."""
    assert {"gpu": 100.5} == document(totals(demo(), idle_j={Component.GPU: 100.5}))["idle_energy_j"]
    assert {} == document()["idle_energy_j"]


def test_idle_energy_that_is_not_known_is_null() -> None:
    """Until the idle power of a device is known its idle joules are null, never 0."""
    rows = document(intervals=[interval(0, 1, 5.0), interval(1, 2, 5.0, idle_j=2.0)])["intervals"]["rows"]

    assert [row[9] for row in rows] == [None, 2.0]


def test_what_has_no_sensor_is_named() -> None:
    """Parts without a sensor, parts that are not the run's, unseen time, unpriced joules and what no sensor tells."""
    whole = (Component.GPU, Method.COUNTER, ShareKind.WHOLE)
    entry = totals(
        demo(holds=frozenset({GPU})),
        energy_j={whole: 5e3},
        held_s=60.0,
        measured_s=47.5,
        unpriced_j=5e3,
        emissions_g={},
    )

    assert document(entry, snapshot(entry, zone=None))["missing"] == [
        "CPU: metered on this node, but none of it is the run's",
        "DRAM: no sensor on this node",
        "12.5 of the 60.0 device-seconds that it held: no sensor saw them",
        "grams of 5.00 kJ: no grid zone is set",
        "fans, network, storage and power supplies",
    ]


def test_an_estimate_is_named_as_a_missing_sensor() -> None:
    """A CPU whose joules are estimated has no sensor, and the report says so."""
    estimated = (Component.CPU, Method.ESTIMATED, ShareKind.WHOLE)
    devices = {"cpu-estimate": device("cpu-estimate", Component.CPU, origin=Origin.ESTIMATED, error_ratio=0.3)}
    entry = totals(demo(), energy_j={estimated: 900.0})

    assert document(entry, snapshot(entry, devices=devices))["missing"][:2] == [
        "GPU: no sensor on this node",
        "CPU: no sensor here; its joules are estimated",
    ]


def test_a_module_is_its_gpu_and_its_cpu() -> None:
    """Where a module is metered neither its GPU nor its CPU is missing."""
    entry = totals(demo(), energy_j={(Component.MODULE, Method.COUNTER, ShareKind.WHOLE): 5e3})

    assert [line for line in document(entry, snapshot(entry, devices={}))["missing"] if "sensor" in line] == [
        "DRAM: no sensor on this node"
    ]


def test_a_device_that_is_gone_is_still_named() -> None:
    """A device of an old run that the node does not know any more is in the report, with what is known of it."""
    gone = document(intervals=[interval(0, 9, 3.0, "GPU-gone", method=Method.INTEGRATED)])["devices"][1]

    assert ("GPU-gone", None, None, ["integrated"]) == (gone["id"], gone["component"], gone["model"], gone["methods"])


def test_the_zone_is_that_of_the_energy() -> None:
    """An old run keeps the zone it was priced in, whatever is set today; of several zones none is the zone."""
    moved = [interval(0, 9, 3.0, zone="FR")]

    assert document(intervals=moved)["zone"] == "FR"
    assert document(intervals=[*moved, interval(9, 18, 3.0)])["zone"] is None
    assert document(intervals=[interval(0, 9, 3.0, zone="")])["zone"] is None


def test_a_long_history_is_added_up_to_coarser_buckets() -> None:
    """A report of three months keeps its size, its joules, its seconds and the edges of the run."""
    days = [interval(300.0 * i, 300.0 * (i + 1), 1.0, f"GPU-{gpu}") for i in range(90 * 288) for gpu in range(2)]
    long = document(intervals=days)["intervals"]

    assert len(long["rows"]) <= MOST_ROWS
    assert long["bucket_s"] == 900.0
    assert sum(row[8] for row in long["rows"]) == pytest.approx(len(days))
    assert sum(row[10] for row in long["rows"]) == pytest.approx(300.0 * len(days))
    assert (START_S, START_S + 90 * 86_400) == (long["rows"][0][0], max(row[1] for row in long["rows"]))


def test_a_summary_has_no_long_parts() -> None:
    """For lists there are totals and the power of now, and neither devices nor intervals."""
    entry = totals(demo(), power_w=300.0)
    summary = run_summary(entry, snapshot(entry))

    assert not {"devices", "intervals", "factors"} & summary.keys()
    assert (summary["ledger"], summary["power_w"], summary["run"]["id"]) == ("ledger-1", 300.0, "demo-1")
