import gzip
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from exporters.http import bind, serving
from exporters.report_model import json_schema
from exporters.reports import Reports
from monitor.core.model import (
    Basis,
    Component,
    DeviceProcess,
    Intensity,
    LedgerHealth,
    LedgerState,
    Method,
    Phase,
    Processes,
    Quality,
)
from monitor.core.snapshot import Interval, ProjectTotals, RunTotals, Snapshot
from monitor.core.waiting import Idle, Look
from monitor.errors import FailureError
from tests.exporters.test_report_document import (
    GERMANY,
    GPU,
    START_S,
    demo,
    device,
    interval,
    moment,
    snapshot,
    totals,
)

HOSTILE = "a/b c@d?#%41<img src=x onerror=alert(1)>\N{SNOWMAN}"


class Published:
    """A published snapshot."""

    def __init__(self, published: Snapshot) -> None:
        self.snapshot = published


class Remembered:
    """A ledger that remembers these runs; or one that cannot be read."""

    def __init__(self, *entries: RunTotals, problem: str = "") -> None:
        self._entries = {entry.run.id: entry for entry in entries}
        self._problem = problem

    def recent(self, limit: int) -> Sequence[RunTotals]:
        """The newest."""
        self._check()
        return sorted(self._entries.values(), key=lambda entry: -entry.run.start.wall_s)[:limit]

    def find(self, run_id: str) -> RunTotals | None:
        """One of them."""
        self._check()
        return self._entries.get(run_id)

    def intervals(self, run_id: str) -> Sequence[Interval]:
        """All of the run's joules in one row."""
        self._check()
        return [interval(0.0, 61.2, 12_340.0, run_id=run_id)]

    def energy_by_slot(
        self,
        run_id: str,  # noqa: ARG002
        start_wall_s: float,  # noqa: ARG002
        end_wall_s: float,  # noqa: ARG002
        slot_s: int,
    ) -> Sequence[tuple[str, float, float, float]]:
        """All of the run's joules in one slot."""
        self._check()
        return [("DE", START_S // slot_s * slot_s, 12_340.0, 1.0)]

    def pue_changes(self, start_wall_s: float, end_wall_s: float) -> Sequence[tuple[float, float]]:
        """It was 1 all the time."""
        self._check()
        return [(start_wall_s, 1.0)] if start_wall_s < end_wall_s else []

    def unsettled(self, since_wall_s: float) -> Sequence[str]:  # noqa: ARG002
        """All of them."""
        self._check()
        return list(self._entries)

    def factors(self, start_wall_s: float, end_wall_s: float) -> Sequence[Intensity]:
        """The factor of Germany."""
        self._check()
        return [GERMANY] if start_wall_s <= end_wall_s else []

    def _check(self) -> None:
        if self._problem:
            raise FailureError(self._problem)


OLD = totals(demo(id="demo-0", start=moment(-500.0), end=moment(-400.0)))
LIVE = totals(demo(id="demo-2", name=HOSTILE, start=moment(50.0), end=None, phases=(Phase("train", 1000.0),)))
ODD = totals(demo(id=HOSTILE))


@contextmanager
def served(*, history: Remembered | None, everything: bool = True, published: Snapshot | None = None) -> Iterator[str]:
    """The address of a server over a snapshot with two runs."""
    listener = bind("127.0.0.1", 0)
    host, port = listener.getsockname()
    view = Published(published or snapshot(LIVE, ODD))
    with listener, serving(view, listener, history=history, node="node-a", everything=everything):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """One with a ledger that knows one run more."""
    with served(history=Remembered(OLD, LIVE._replace(duration_s=0.0))) as url:
        yield url


def get(url: str, **headers: str) -> tuple[int, Any]:
    """Status and document."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            body = answer.read()
            packed = answer.headers["content-encoding"] == "gzip"
            return answer.status, json.loads(gzip.decompress(body) if packed else body)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_runs_come_newest_first_from_both(api: str) -> None:
    """Runs of the snapshot and of the ledger are one list without doubles; what is published is the newer."""
    status, answer = get(f"{api}/api/v1/runs")

    assert (200, None) == (status, answer["problem"])
    assert ["demo-2", HOSTILE, "demo-0"] == [run["run"]["id"] for run in answer["runs"]]
    assert LIVE.duration_s == answer["runs"][0]["duration_s"]
    assert get(f"{api}/api/v1/runs?limit=1")[1]["runs"] == answer["runs"][:1]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "", "1e3", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_a_limit_that_is_none_is_refused(api: str, limit: str) -> None:
    """What is no number of runs gets one line."""
    status, answer = get(f"{api}/api/v1/runs?limit={urllib.parse.quote(limit)}")

    assert (400, {"error": "limit: expected a number from 1 to 1000"}) == (status, answer)


@pytest.mark.parametrize("run_id", ["demo-0", "demo-2", HOSTILE])
def test_each_run_has_its_report(api: str, run_id: str) -> None:
    """The report is valid by the schema, whether the run is alive, ended or only in the ledger, whatever its id."""
    status, report = get(f"{api}/api/v1/runs/{urllib.parse.quote(run_id, safe='')}")
    jsonschema.Draft202012Validator(json_schema()).validate(report)

    assert (200, run_id, "node-a") == (status, report["run"]["id"], report["node"])
    assert [12_340.0] == [row[8] for row in report["intervals"]["rows"]]
    assert START_S + 100.0 == report["written_at_unix_s"]


def test_an_unknown_run_is_404_with_near_ids(api: str) -> None:
    """One line of JSON names what comes near."""
    status, answer = get(f"{api}/api/v1/runs/demo-3")

    assert 404 == status
    assert "no run 'demo-3' is known here; did you mean demo-" in answer["error"]
    assert 404 == get(f"{api}/api/v1/runs/")[0]


def test_long_answers_are_packed_when_asked(api: str) -> None:
    """Who takes gzip gets the same document."""
    assert get(f"{api}/api/v1/runs/demo-0", **{"Accept-Encoding": "gzip"}) == get(f"{api}/api/v1/runs/demo-0")


def test_a_ledger_that_cannot_be_read_costs_only_what_is_in_it() -> None:
    """Runs of the snapshot have their figures, without their course; what only the ledger knows is 503."""
    with served(history=Remembered(problem="the disk is gone; mount it")) as url:
        listed = get(f"{url}/api/v1/runs")[1]
        live = get(f"{url}/api/v1/runs/demo-2")[1]
        old = get(f"{url}/api/v1/runs/demo-0")

    assert ("the disk is gone; mount it", 2) == (listed["problem"], len(listed["runs"]))
    assert live["intervals"] is None
    assert "its course over time: the disk is gone; mount it" in live["missing"]
    assert (503, {"error": "the disk is gone; mount it"}) == old


def test_without_a_ledger_the_course_is_not_known() -> None:
    """A count in memory has totals and the factors of now, and null for intervals."""
    with served(history=None) as url:
        report = get(f"{url}/api/v1/runs/demo-2")[1]

    assert report["intervals"] is None
    assert [part["energy_j"] for part in report["energy_j"]] == [11_200.0, 1_140.0]


def test_beyond_loopback_runs_are_withheld() -> None:
    """Names of users and runs are served where the page is."""
    with served(history=None, everything=False) as url:
        for path in ("runs", "runs/demo-2", "devices", "grid", "snapshot"):
            with pytest.raises(urllib.error.HTTPError, match="403") as refused:
                urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=10)
            refused.value.close()


def test_devices_and_grid_are_those_of_the_snapshot(api: str) -> None:
    """The short forms answer what the snapshot holds."""
    whole = get(f"{api}/api/v1/snapshot")[1]

    assert (200, {"devices": whole["devices"]}) == get(f"{api}/api/v1/devices")
    assert (200, {"at": whole["at"], "grid": whole["grid"], **whole["grid_state"]}) == get(f"{api}/api/v1/grid")


def test_the_snapshot_tells_the_ledger_and_what_is_new_of_runs() -> None:
    """State, lag and problem of the ledger; what was dropped and altered; tags, phases, progress, coverage of runs."""
    health = LedgerHealth(state=LedgerState.FILE, lag_s=4.5, write_failures=2, problem="disk full; make room")
    entry = LIVE._replace(phase_j={"train": 9.0}, recovered_j=5.0, measured_s=61.2)
    published = replace(snapshot(entry), ledger=health, runs_dropped=3, names_altered=4, resumed_at=moment(1.0))
    with served(history=None, published=published) as url:
        whole = get(f"{url}/api/v1/snapshot")[1]

    assert whole["ledger_health"] == {
        "state": "file",
        "lag_s": 4.5,
        "write_failures": 2,
        "problem": "disk full; make room",
    }
    assert (3, 4, START_S + 1.0) == (whole["runs_dropped"], whole["names_altered"], whole["resumed_at"]["unix_s"])
    assert {"lr": "0.1"} == whole["runs"][0]["tags"]
    assert {"train": 9.0} == whole["runs"][0]["phase_energy_j"]
    assert (60, 0.5) == (whole["runs"][0]["progress"]["steps"], whole["runs"][0]["measured_time_ratio"])
    assert 5.0 == whole["runs"][0]["recovered_energy_j"]


def test_the_snapshot_tells_who_shares_what() -> None:
    """Idle power, joules that wait, slices with their part, processes, the runs on a device, and projects."""
    gpu = device(GPU, Component.GPU, slices=("MIG-1", "MIG-2"), slice_ratios=(3 / 7, 4 / 7))
    looks = (
        Look(0.0, 5.0, ((7, 0.5),), (("demo-1", 0.5), ("", None))),
        Look(5.0, 9.0, ((7, 0.4),)),
    )
    working = Processes(device_id=GPU, at=moment(9.0), processes=(DeviceProcess(pid=7, slice_id="MIG-2"),))
    gpu = gpu._replace(pending_j=9.0, idle=Idle(power_w=61.5), looks=looks, processes=working)
    entry = LIVE._replace(run=replace(LIVE.run, slices=frozenset({"MIG-2"})), idle_j={Component.GPU: 3.0})
    project = ProjectTotals(
        energy_j={(Component.GPU, Method.COUNTER): 5.0},
        emissions_g={(Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): 0.5},
    )
    published = replace(snapshot(entry, devices={GPU: gpu}), projects={"llm": project})
    with served(history=None, published=published) as url:
        whole = get(f"{url}/api/v1/snapshot")[1]
    shown = whole["devices"][0]

    assert (61.5, 9.0) == (shown["idle_power_w"], shown["pending_energy_j"])
    assert (["MIG-1", "MIG-2"], [3 / 7, 4 / 7]) == (shown["slices"], shown["slice_ratios"])
    assert [{"pid": 7, "memory_bytes": None, "sm_utilization_ratio": None, "slice": "MIG-2"}] == shown["processes"]
    assert [("demo-1", 0.5), ("", None)] == [(user["run"], user["sm_utilization_ratio"]) for user in shown["users"]]
    assert (["MIG-2"], {"gpu": 3.0}) == (whole["runs"][0]["slices"], whole["runs"][0]["idle_energy_j"])
    assert [
        {
            "project": "llm",
            "energy_j": [{"component": "gpu", "method": "counter", "energy_j": 5.0}],
            "emissions_g": [{"method": "counter", "basis": "lifecycle", "quality": "static", "emissions_g": 0.5}],
        }
    ] == whole["projects"]


def test_an_unknown_run_of_a_node_without_runs_says_where_to_look() -> None:
    """Nothing is near where nothing is."""
    reports = Reports(Published(snapshot()), node="node-a")
    with pytest.raises(FailureError, match="no run 'demo' is known here; see trainwatt runs"):
        reports.require("demo")
