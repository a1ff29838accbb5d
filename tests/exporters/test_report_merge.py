import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.report_file import parse_report, report_json
from exporters.report_merge import canonical, merge
from exporters.report_model import json_schema
from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, GridState, Method, Progress, Quality, Settled
from monitor.core.snapshot import Extras
from monitor.errors import UsageError
from tests.exporters.test_report_document import START_S, demo, document, interval, moment, snapshot, totals

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
JOULES = st.floats(0.0, 1e9, allow_subnormal=False)


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """A report of the run by one of a few nodes and ledgers, at one of a few moments."""
    ledger = draw(st.sampled_from("abcd"))
    at_s = draw(st.integers(0, 3))
    ended = draw(st.booleans())
    begins_s = draw(st.floats(0.0, 50.0))
    count = st.none() | st.integers(0, 1000)
    run = demo(
        name=draw(st.sampled_from(["demo", "renamed"])),
        start=moment(begins_s),
        end=moment(begins_s + 100.0) if ended else None,
        tags=draw(st.sampled_from([(), (("lr", "0.1"),), (("lr", "0.2"), ("seed", "1"))])),
        progress=Progress(steps=draw(count), tokens=draw(count), done_ratio=draw(st.none() | st.floats(0.0, 1.0))),
    )
    entry = totals(
        run,
        energy_j={
            (component, Method.COUNTER, ShareKind.WHOLE): draw(JOULES)
            for component in draw(st.sets(st.sampled_from(Component)))
        },
        emissions_g={
            (Method.COUNTER, basis, Quality.STATIC): draw(JOULES) for basis in draw(st.sets(st.sampled_from(Basis)))
        },
        idle_j=draw(st.dictionaries(st.sampled_from(Component), JOULES)),
        phase_j=draw(st.dictionaries(st.sampled_from(["train", "eval"]), JOULES)),
        held_s=draw(JOULES),
        duration_s=draw(st.floats(0.0, 100.0)),
        extras=draw(st.builds(Extras, JOULES, JOULES, JOULES, JOULES, JOULES)),
    )
    plain = snapshot(ledger=f"ledger-{ledger}")
    priced = st.builds(
        Settled,
        emissions_g=st.dictionaries(st.sampled_from(Basis), JOULES),
        energy_j=JOULES,
        final_j=JOULES,
        unpriced_j=JOULES,
        priced_at_s=st.floats(START_S, START_S + 300.0),
    )
    settled = draw(st.dictionaries(st.just(run.id), priced))
    policy = replace(plain.policy, currency=draw(st.sampled_from(["", "EUR", "USD"])))
    return document(
        entry,
        replace(plain, grid=GridState(settled=settled), policy=policy),
        node=f"node-{'xy'['ab'.find(ledger) < 0]}",
        written_at_wall_s=START_S + 200.0 + at_s,
        intervals=[interval(begins_s, begins_s + 50.0, 1.0)],
    )


@given(st.lists(reports(), min_size=3, max_size=6), st.randoms(use_true_random=False), st.data())
def test_neither_order_nor_grouping_matters(documents: list[dict[str, Any]], random: Any, data: st.DataObject) -> None:
    """However the same reports are ordered and grouped, the merged one is the same to the last bit."""
    at_once = merge(documents)
    random.shuffle(documents)
    cut = data.draw(st.integers(1, len(documents) - 1))
    in_two = merge([merge(documents[:cut]), merge(documents[cut:])])

    assert canonical(at_once) == canonical(in_two)


@given(st.lists(reports(), min_size=1, max_size=5))
def test_a_merged_report_is_a_report(documents: list[dict[str, Any]]) -> None:
    """It is valid by the schema, comes back from its file, and merging it alone changes nothing."""
    merged = merge(documents)
    text = report_json(merged)
    VALIDATOR.validate(json.loads(text))

    assert parse_report(text.encode(), "it") == json.loads(text)
    assert merge([merged]) == merged


@given(st.lists(reports(), min_size=2, max_size=5))
def test_every_report_counts_once_or_is_named(documents: list[dict[str, Any]]) -> None:
    """Of each ledger one report counts, the newest; every other one is named as left out."""
    merged = merge(documents)

    assert len(documents) == len(merged["parts"]) + len(merged["left_out"])
    assert {one["ledger"]: one["written_at_unix_s"] for one in merged["parts"]} == {
        ledger: max(one["written_at_unix_s"] for one in documents if one["ledger"] == ledger)
        for ledger in {one["ledger"] for one in documents}
    }


def on(node: str, **changes: Any) -> dict[str, Any]:
    """The report of a node of its own, with a ledger of its own."""
    entry = changes.pop("entry", None) or totals(demo())
    return document(entry, snapshot(ledger=f"ledger-{node}"), node=node, **changes)


def test_two_nodes_add_up() -> None:
    """Joules, grams, phases, device time, tokens and samples add up; of steps and progress the greatest counts."""
    first = totals(demo(progress=Progress(steps=60, tokens=100, done_ratio=0.5)), phase_j={"train": 900.0})
    late = demo(start=moment(10.0), end=moment(80.0), progress=Progress(steps=58, tokens=90, samples=4))
    second = totals(late, phase_j={"train": 100.0, "eval": 7.0}, measured_s=61.2, duration_s=70.0)
    merged = merge([on("node-a", entry=first), on("node-b", entry=second)])

    assert [part["energy_j"] for part in merged["energy_j"]] == [2280.0, 22_400.0]
    assert [part["emissions_g"] for part in merged["emissions_g"]] == [2.4]
    assert merged["phase_energy_j"] == {"eval": 7.0, "train": 1000.0}
    assert merged["progress"] == {"steps": 60, "tokens": 190, "samples": 4, "done_ratio": 0.5}
    assert merged["measured_time_ratio"] == pytest.approx(0.75)
    assert (merged["start_unix_s"], merged["end_unix_s"]) == (START_S, START_S + 80.0)
    assert merged["duration_s"] == 70.0
    assert merged["node"] is merged["ledger"] is merged["intervals"] is None
    assert [one["node"] for one in merged["devices"]] == ["node-a", "node-a", "node-b", "node-b"]
    assert merged["warnings"] == []


def test_idle_joules_add_up_where_every_part_knows_them() -> None:
    """A component of which one node does not know the idle power has no idle joules in the whole."""
    first = totals(demo(), idle_j={Component.GPU: 100.0, Component.CPU: 10.0})
    merged = merge([on("node-a", entry=first), on("node-b", entry=totals(demo(), idle_j={Component.GPU: 50.0}))])

    assert {"gpu": 150.0} == merged["idle_energy_j"]


def test_an_older_report_without_idle_joules_is_merged() -> None:
    """It says nothing of them, so that the whole does not either."""
    older = {name: value for name, value in on("node-a").items() if name != "idle_energy_j"}
    merged = merge([older, on("node-b", entry=totals(demo(), idle_j={Component.GPU: 50.0}))])

    assert {} == merged["idle_energy_j"]
    assert {} == parse_report(json.dumps(older).encode(), "it")["idle_energy_j"]


def test_a_run_goes_on_while_one_node_has_it() -> None:
    """A merged run has ended only when it has ended everywhere."""
    merged = merge([on("node-a"), on("node-b", entry=totals(demo(end=None)))])

    assert (True, None) == (merged["active"], merged["end_unix_s"])


def test_what_is_missing_everywhere_is_said_once() -> None:
    """What one node misses carries its name."""
    merged = merge([on("node-a"), on("node-b", also_missing=("its course over time: no disk",))])

    assert merged["missing"] == [
        "node-b: its course over time: no disk",
        "DRAM: no sensor on this node",
        "fans, network, storage and power supplies",
    ]


def test_different_runs_are_refused() -> None:
    """Reports of two runs are no merged run, and the line names both."""
    with pytest.raises(UsageError, match=r"reports of 2 runs \('demo-1', 'demo-2'\)"):
        merge([document(), document(totals(demo(id="demo-2")))])


def private(ledger: str, *spans: tuple[float, float]) -> dict[str, Any]:
    """The report of one ledger on the same node, which counted in these spans of time."""
    entry = totals(demo(start=moment(spans[0][0]), end=moment(spans[-1][1])), duration_s=sum(b - a for a, b in spans))
    rows = [interval(start_s, end_s, 100.0) for start_s, end_s in spans]
    return document(entry, snapshot(ledger=ledger), intervals=rows)


def test_ledgers_that_follow_each_other_on_a_node_add_up() -> None:
    """A run that was queued again under another daemon: its active times add up, and nothing is doubted."""
    merged = merge([private("first", (0.0, 10.0), (10.0, 18.0)), private("second", (12.0, 20.0), (20.0, 40.0))])

    assert 40.0 == merged["duration_s"]
    assert merged["warnings"] == []
    assert merge([private("first", (0.0, 10.0)), private("second", (90.0, 95.0))])["duration_s"] == 15.0


def test_a_device_in_two_ledgers_at_once_is_told() -> None:
    """Two daemons that counted one device at the same time have booked its joules twice, and the report says so."""
    both = tuple((10.0 * i, 10.0 * (i + 1)) for i in range(6))
    merged = merge([private("first", *both), private("second", *both)])

    assert merged["duration_s"] == 60.0
    assert [words.split(", so")[0] for words in merged["warnings"]] == [
        "node-a: GPU-1 was counted for 60.0 s by two ledgers, first and second"
    ]
