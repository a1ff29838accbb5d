"""What a report tells beside live grams: settled ones, extras, SCI, factors with their versions, equivalents."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from exporters.report_document import run_summary
from exporters.report_file import parse_report, report_json
from exporters.report_merge import merge
from exporters.report_model import json_schema
from exporters.report_pricing import reprice
from exporters.report_text import report_text, summary_line
from exporters.reports import Reports
from exporters.runs_table import runs_table
from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, GridState, Intensity, Method, Progress, Quality, Rate, Settled, Signal
from monitor.core.snapshot import Extras, Interval, RunTotals, Snapshot
from monitor.core.units import JOULES_PER_KILOWATTHOUR
from tests.exporters.test_report_document import GERMANY, START_S, demo, document, interval, snapshot, totals
from tests.exporters.test_report_merge import on
from tests.exporters.test_report_pricing import slot
from tests.exporters.test_report_text import section
from tests.exporters.test_runs_api import Published, Remembered
from tests.ledger.counting import POLICY, Count

USED_J = 12_340.0


def settled(**changes: Any) -> Settled:
    """Of the demo's joules: revised from 1.2 to 0.9 g, three quarters of it final."""
    words: dict[str, Any] = {
        "emissions_g": {Basis.LIFECYCLE: 0.9},
        "energy_j": USED_J,
        "final_j": 0.75 * USED_J,
        "priced_at_s": START_S + 7200.0,
    }
    return Settled(**words | changes)


def known(entry: RunTotals, one: Settled | None = None, *, rates: Sequence[Rate] = (), **policy: Any) -> Snapshot:
    """A node that has priced the run again, with these settings."""
    plain = snapshot(entry)
    grid = GridState(settled={entry.run.id: one} if one else {}, rates=tuple(rates))
    return replace(plain, grid=grid, policy=replace(plain.policy, **policy))


def told(one: Settled | None = None, entry: RunTotals | None = None, **policy: Any) -> dict[str, Any]:
    """The report of the demo, priced again."""
    entry = entry or totals(demo())
    return document(entry, known(entry, one, **policy))


def test_settled_grams_stand_beside_the_live_ones() -> None:
    """By basis, with the share that is final, what has no grams and when it was priced; the live ones stay."""
    written = told(settled(unpriced_j=340.0))

    assert written["settled"] == {
        "emissions_g": [{"basis": "lifecycle", "emissions_g": 0.9}],
        "settled_ratio": 0.75,
        "energy_j": USED_J,
        "unpriced_energy_j": 340.0,
        "priced_at_unix_s": START_S + 7200.0,
        "repriced": False,
    }
    assert [part["emissions_g"] for part in written["emissions_g"]] == [1.2]
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(report_json(written)))
    assert parse_report(report_json(written).encode(), "it") == json.loads(report_json(written))
    assert document()["settled"] is None


def test_the_text_has_live_and_settled_and_the_share() -> None:
    """Each says which it is, and what is final of it."""
    assert section(report_text(told(settled(unpriced_j=340.0))), "CO2e")[:5] == [
        "  live, as known when it was used: 1.2 g CO2e of measured energy; lifecycle basis;",
        "      intensity: static",
        "  settled, priced as known on 2026-09-21 16:13:20 UTC: 900 mg CO2e; lifecycle basis",
        "  settled: 340.0 J have no grams",
        "  settled share: the price of 75 % of its joules can change no more",
    ]
    behind = " ".join(report_text(told(settled(energy_j=6_000.0, final_j=600.0))).split())
    assert "the price of 10 % of the 6.00 kJ used by then can change no more" in behind


@pytest.mark.parametrize(
    ("one", "line", "cell"),
    [
        (settled(), "; settled 900 mg CO2e (lifecycle, 75 % final); ", "1.2 g; settled 900 mg (lifecycle, 75 % final)"),
        (settled(emissions_g={Basis.LIFECYCLE: 1.2001}), "", "1.2 g"),
        (settled(energy_j=6_000.0), "", "1.2 g"),
        (None, "", "1.2 g"),
    ],
)
def test_lists_and_lines_have_it_where_it_differs(one: Settled | None, line: str, cell: str) -> None:
    """A figure that reads the same, or that is of part of the joules only, is not told twice."""
    entry = totals(demo())
    summary = run_summary(entry, known(entry, one))

    assert line in summary_line(told(one))
    assert ("settled" in summary_line(told(one))) is bool(line)
    assert runs_table([summary])[1].endswith(f"  {cell}")


def test_settled_grams_of_nodes_add_up_by_basis() -> None:
    """The share goes by joules, and where one part was never priced again the whole has no settled figure."""
    first = totals(demo())
    parts = [
        document(first, replace(known(first, one), ledger_id=ledger), node=ledger)
        for ledger, one in {
            "a": settled(),
            "b": settled(
                emissions_g={Basis.LIFECYCLE: 2.0, Basis.DIRECT: 1.0},
                energy_j=3 * USED_J,
                final_j=3 * USED_J,
                priced_at_s=START_S + 60.0,
            ),
        }.items()
    ]
    whole = merge(parts)["settled"]

    assert whole["emissions_g"] == [
        {"basis": "direct", "emissions_g": 1.0},
        {"basis": "lifecycle", "emissions_g": pytest.approx(2.9)},
    ]
    assert whole["settled_ratio"] == pytest.approx((0.75 + 3.0) / 4.0)
    assert whole["priced_at_unix_s"] == START_S + 60.0
    assert merge([*parts, on("c")])["settled"] is None
    assert merge([parts[0], merge([parts[1], on("c")])]) == merge([*parts, on("c")])


# -- extras ----------------------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "embodied_g_per_s": {"gpu": 0.01},
    "market_grams_per_kilowatthour": 20.0,
    "water_liters_per_kilowatthour": 1.8,
    "currency": "EUR",
}
ALL = Extras(marginal_g=2.5, embodied_g=0.61, market_g=0.07, cost=0.5, water_l=0.006)


def test_extras_are_each_a_figure_of_its_own() -> None:
    """All of them in the document and in words; none is taken off another or off the grams."""
    entry = totals(demo(), extras=ALL)
    written = told(None, entry, **EVERYTHING)

    assert written["extras"] == {
        "marginal_emissions_g": 2.5,
        "embodied_emissions_g": 0.61,
        "market_based_emissions_g": 0.07,
        "cost": {"amount": 0.5, "currency": "EUR"},
        "water_l": 0.006,
    }
    assert [part["emissions_g"] for part in written["emissions_g"]] == [1.2]
    lines = section(report_text(written), "Beside the CO2e")
    assert [line.split(":")[0].strip() for line in lines if not line.startswith("      ")] == [
        "2.5 g CO2e marginal",
        "610 mg CO2e embodied",
        "70 mg CO2e market-based",
        "0.50 EUR",
        "0.01 l of water",
    ]


def test_what_was_not_configured_is_absent_and_not_0() -> None:
    """Without settings there are no extras; a 0 is told only where the setting makes it one."""
    nothing = dict.fromkeys(document()["extras"])
    entry = totals(demo())

    assert nothing == document()["extras"]
    assert "Beside the CO2e" not in report_text(document())
    assert nothing == told(None, entry, **EVERYTHING)["extras"], "the run is older than the settings"
    assert told(None, entry, market_grams_per_kilowatthour=0.0)["extras"]["market_based_emissions_g"] == 0.0
    free = known(entry, None, rates=[Rate(0.0, START_S, START_S + 100.0)], currency="EUR")
    assert document(entry, free)["extras"]["cost"] == {"amount": 0.0, "currency": "EUR"}


def test_extras_add_up_where_all_parts_have_them() -> None:
    """Of one node without embodied grams the whole has none; costs in two currencies are no sum."""
    entry = totals(demo(), extras=ALL)
    less = totals(demo(), extras=ALL._replace(embodied_g=0.0))
    parts = {
        name: document(of, replace(known(of, None, **EVERYTHING | {"currency": currency}), ledger_id=name), node=name)
        for name, of, currency in (("a", entry, "EUR"), ("b", entry, "EUR"), ("c", less, "USD"))
    }

    assert merge([parts["a"], parts["b"]])["extras"] == {
        "marginal_emissions_g": 5.0,
        "embodied_emissions_g": 1.22,
        "market_based_emissions_g": 0.14,
        "cost": {"amount": 1.0, "currency": "EUR"},
        "water_l": 0.012,
    }
    assert merge([parts["a"], parts["c"]])["extras"] == {
        "marginal_emissions_g": 5.0,
        "embodied_emissions_g": None,
        "market_based_emissions_g": 0.14,
        "cost": None,
        "water_l": 0.012,
    }


# -- SCI and equivalents ---------------------------------------------------------------------------------------------


def test_the_score_is_of_settled_grams_and_embodied_ones() -> None:
    """((E x I) + M) per run, step and million tokens; the market-based figure is no part of it."""
    entry = totals(demo(progress=Progress(steps=60, tokens=200_000)), extras=ALL)
    sci = told(settled(), entry, **EVERYTHING)["sci"]

    assert sci == {
        "of": "settled",
        "basis": "lifecycle",
        "operational_g": 0.9,
        "embodied_g": 0.61,
        "unpriced_energy_j": 0.0,
        "run_g": pytest.approx(1.51),
        "step_g": pytest.approx(1.51 / 60),
        "million_tokens_g": pytest.approx(1.51 * 5),
    }
    assert section(report_text(told(settled(), entry, **EVERYTHING)), "Software Carbon Intensity") == [
        "  1.5 g CO2e per run, 25 mg CO2e per step, 7.5 g CO2e per million tokens",
        "  E x I 900 mg CO2e (settled grams), M 610 mg CO2e",
        "  lifecycle basis, location-based, average signal, PUE included, no market instruments",
    ]


def test_a_basis_without_grams_does_not_stand_in_the_way_of_a_score() -> None:
    """A run began a moment before its feed answered: 0 g by the yearly value, all others by the feed's."""
    grams = {
        (Method.COUNTER, Basis.LIFECYCLE, Quality.STATIC): 0.0,
        (Method.COUNTER, Basis.DIRECT, Quality.ACTUAL): 1.2,
    }
    sci = document(totals(demo(), emissions_g=grams))["sci"]
    clean = document(totals(demo(), emissions_g={(Method.COUNTER, Basis.DIRECT, Quality.ACTUAL): 0.0}))["sci"]

    assert ("direct", 1.2) == (sci["basis"], sci["operational_g"])
    assert ("direct", 0.0) == (clean["basis"], clean["operational_g"]), "a grid without carbon has a score"


def test_the_score_says_what_is_not_in_it() -> None:
    """Live grams where there are no settled ones, no M where none was given, joules without grams, estimates."""
    entry = totals(
        demo(progress=Progress()),
        energy_j={(Component.CPU, Method.ESTIMATED, ShareKind.WHOLE): USED_J},
        emissions_g={(Method.ESTIMATED, Basis.LIFECYCLE, Quality.STATIC): 1.2},
        unpriced_j=40.0,
    )
    sci = document(entry)["sci"]

    assert ("live", None, None, None) == (sci["of"], sci["embodied_g"], sci["step_g"], sci["million_tokens_g"])
    assert section(report_text(document(entry)), "Software Carbon Intensity") == [
        "  1.2 g CO2e per run",
        "  E x I 1.2 g CO2e (live grams), no M, since no embodied carbon was given",
        "  lifecycle basis, location-based, average signal, PUE included, no market instruments",
        "  estimated energy is in it",
        "  40.00 J are not in it: they have no grams",
    ]


def test_bases_are_never_added_to_a_score() -> None:
    """Grams of two bases give no score, and the report says why; without grams there is nothing to say."""
    both = {(Method.COUNTER, basis, Quality.ACTUAL): 1.0 for basis in (Basis.LIFECYCLE, Basis.DIRECT)}
    mixed = document(totals(demo(), emissions_g=both))
    bare = document(totals(demo(), emissions_g={}))

    assert mixed["sci"] is bare["sci"] is None
    assert section(report_text(mixed), "Software Carbon Intensity") == [
        "  none: its grams are of direct and lifecycle basis, which are never added"
    ]
    assert "Software Carbon Intensity" not in report_text(bare)


@pytest.mark.parametrize(
    ("emissions_g", "lines"),
    [
        (1.2, []),
        (89_000.0, []),
        (
            95_000.0,
            ["0.11 x the flight of one passenger, New York - San Francisco (899.9 kg CO2e; Strubell"],
        ),
        (
            24.69e6,  # BLOOM 176B
            [
                "0.43 x the lifetime of an average car, fuel included (57,152.6 kg CO2e; Strubell",
                "27 x the flight of one passenger, New York - San Francisco (899.9 kg CO2e; Strubell",
            ],
        ),
    ],
)
def test_equivalents_have_their_source_and_are_told_where_they_say_something(
    emissions_g: float, lines: list[str]
) -> None:
    """From a tenth of a thing on; never of a simulation."""
    method = Method.COUNTER
    entry = totals(demo(), emissions_g={(method, Basis.LIFECYCLE, Quality.STATIC): emissions_g})
    simulated = totals(
        demo(),
        energy_j={(Component.GPU, Method.SIMULATED, ShareKind.WHOLE): 5.0},
        emissions_g={(Method.SIMULATED, Basis.LIFECYCLE, Quality.STATIC): emissions_g},
    )
    text = report_text(document(entry))
    shown = section(text, "As much CO2e as") if lines else []

    assert lines == [line.strip().partition(" et")[0] for line in shown if " x the " in line]
    assert ("arXiv 1906.02243" in text) is bool(lines)
    assert "As much CO2e as" not in report_text(document(simulated))


# -- factors and PUE -------------------------------------------------------------------------------------------------


class Store:
    """An intensity store that knows these versions."""

    def __init__(self, *versions: Intensity) -> None:
        self._versions = versions

    def versions(self, zone: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        """Those of the zone that overlap."""
        return [
            one
            for one in self._versions
            if one.zone == zone and one.valid_until_s > start_s and one.valid_from_s < end_s
        ]

    def known(self, zone: str, start_s: float, end_s: float, *, as_of_s: float | None = None) -> Sequence[Intensity]:
        """Not asked by reports."""
        raise NotImplementedError

    def add(self, seen: Sequence[Intensity]) -> Sequence[tuple[Intensity, Intensity]]:
        """Not asked by reports."""
        raise NotImplementedError

    def note_ask(  # noqa: PLR0917  (as the protocol has it)
        self, provider: str, zone: str, what: str, start_s: float, end_s: float, at_s: float
    ) -> None:
        """Not asked by reports."""
        raise NotImplementedError

    def asks(self, provider: str, zone: str, since_s: float) -> Sequence[tuple[str, float, float, float]]:
        """Not asked by reports."""
        raise NotImplementedError


class Remembering(Remembered):
    """A ledger whose factors and PUE were others."""

    def __init__(self, entry: RunTotals, factors: Sequence[Intensity], pue: Sequence[tuple[float, float]]) -> None:
        super().__init__(entry)
        self._factors = factors
        self._pue = pue

    def factors(self, start_wall_s: float, end_wall_s: float) -> Sequence[Intensity]:
        """What priced the run live."""
        return self._factors if start_wall_s <= end_wall_s else ()

    def intervals(self, run_id: str) -> Sequence[Interval]:
        """One row."""
        return [interval(0.0, 61.2, USED_J, run_id=run_id)]

    def pue_changes(self, start_wall_s: float, end_wall_s: float) -> Sequence[tuple[float, float]]:
        """As given."""
        return self._pue if start_wall_s <= end_wall_s else ()


FORECAST = slot(0, 100.0, fetched_after_s=-600.0, quality=Quality.FORECAST)
ESTIMATED = slot(0, 90.0, fetched_after_s=30.0, quality=Quality.ESTIMATED, made_by="TIME_SLICER")
ACTUAL = slot(0, 80.0, fetched_after_s=9000.0, updated_at_s=START_S + 8000.0, dataset="v4")
MARGINAL = slot(0, 800.0, fetched_after_s=30.0, provider="watttime", signal=Signal.MARGINAL)


def test_a_report_carries_every_version_that_was_known() -> None:
    """With when it was fetched and changed, how it was made, its edition, and whether it is in use."""
    entry = totals(demo())
    live = replace(ESTIMATED, fetched_at_s=None, made_by="", detail="")  # what the ledger of live factors keeps
    history = Remembering(entry, [live], [(START_S, 1.0)])
    published = Published(replace(snapshot(entry), intensities=(GERMANY,)))
    reports = Reports(
        published,
        history=history,
        node="node-a",
        store=Store(FORECAST, ESTIMATED, ACTUAL, MARGINAL, replace(ACTUAL, zone="FR")),
        providers={"DE": ["feed", "watttime"], "FR": ["rte"]},
    )
    written = reports.require("demo-1")
    factors = {(one["quality"], one["signal"]): one for one in written["factors"]}

    assert {key: one["in_use"] for key, one in factors.items()} == {
        ("static", "average"): False,
        ("forecast", "average"): False,
        ("estimated", "average"): True,
        ("actual", "average"): True,
        ("actual", "marginal"): False,
    }
    assert factors["estimated", "average"]["made_by"] == "TIME_SLICER"
    newest = factors["actual", "average"]
    assert (newest["fetched_at_s"], newest["updated_at_s"], newest["dataset"], newest["detail"]) == (
        START_S + 9000.0,
        START_S + 8000.0,
        "v4",
        "Feed, CC BY 4.0",
    )
    assert written["providers"] == {"DE": ["feed", "watttime"]}
    assert written["settled"]["emissions_g"] == [
        {"basis": "lifecycle", "emissions_g": pytest.approx(USED_J / JOULES_PER_KILOWATTHOUR * 80.0)}
    ], "a run that the settler does not know is priced again for its report"
    assert written["sci"]["of"] == "settled"
    text = " ".join(report_text(written).split())
    assert "DE: 80 g/kWh, actual, lifecycle, average; feed: Feed, CC BY 4.0; edition v4" in text
    assert "forecast" not in text


class Moved(Remembering):
    """A ledger of a node that went from one zone to another within the run."""

    def intervals(self, run_id: str) -> Sequence[Interval]:
        """A row in each."""
        return [
            interval(0.0, 30.0, 7_200.0, run_id=run_id, zone="DK"),
            interval(30.0, 61.2, 3_600.0, run_id=run_id),
        ]


def test_joules_of_a_zone_that_was_left_have_their_grams() -> None:
    """By the yearly value in use then, which is neither in the store nor the node's any more."""
    entry = totals(demo())
    yearly = replace(GERMANY, zone="DK", grams_per_kilowatthour=150.0)
    reports = Reports(
        Published(replace(snapshot(entry), intensities=(GERMANY,))),
        history=Moved(entry, [yearly], [(START_S, 1.0)]),
        node="node-a",
        store=Store(ACTUAL),
        providers={"DE": ["feed"]},
    )
    written = reports.require("demo-1")
    again = reprice(written, now_s=written["settled"]["priced_at_unix_s"])

    for one in (written, again):
        assert one["settled"]["unpriced_energy_j"] == 0.0
        assert one["settled"]["emissions_g"] == [
            {"basis": "lifecycle", "emissions_g": pytest.approx(0.002 * 150.0 + 0.001 * 80.0)}
        ]


def test_factors_of_a_report_without_a_store_are_the_live_ones() -> None:
    """As before there was one; the yearly value is there for whoever prices the report again."""
    entry = totals(demo())
    published = Published(replace(snapshot(entry), intensities=(GERMANY,)))
    written = Reports(published, history=Remembering(entry, [ESTIMATED], [(START_S, 1.0)]), node="a").require("demo-1")

    assert [(one["quality"], one["in_use"]) for one in written["factors"]] == [("static", False), ("estimated", True)]


@pytest.mark.parametrize(
    ("told", "ratio", "changes"),
    [
        ([], 1.0, 0),
        ([(START_S, 1.3)], 1.3, 0),
        ([(START_S, 1.3), (START_S + 300.0, 1.2), (START_S + 600.0, 1.3)], None, 3),
    ],
)
def test_pue_is_that_of_the_runs_own_time(
    told: Sequence[tuple[float, float]], ratio: float | None, changes: int
) -> None:
    """Not that of today's settings; of several none is the PUE, and the report says when it changed."""
    entry = totals(demo())
    written = Reports(Published(snapshot(entry)), history=Remembering(entry, [GERMANY], told), node="a").require(
        "demo-1"
    )

    assert written["pue_ratio"] == ratio
    assert len(written["pue_changes"]) == changes
    assert ("PUE changed on 2026-09-21 14:18:20 UTC to 1.2, on" in report_text(written)) is bool(changes)


@pytest.mark.parametrize("pue_ratios", [(1.5, 1.2), (1.2, 1.5), (2.0, 2.0)])
def test_pue_that_changes_within_five_minutes_prices_its_own_rows(
    tmp_path: Path, pue_ratios: tuple[float, float]
) -> None:
    """A daemon begins anew with another one: priced again by one yearly value, the grams are those counted live."""
    count = Count()
    for number, pue_ratio in enumerate(pue_ratios):
        ledger = count.open(tmp_path, policy=replace(POLICY, pue_ratio=pue_ratio))
        if not number:
            count.begin("r1")
        for _ in range(450):
            ledger.offer(count.turn())
        if number:
            count.end("r1")
            ledger.offer(count.turn())
        ledger.commit()
        changed_s = ledger.first.resumed_at.wall_s if ledger.first.resumed_at else 0.0
        written = Reports(Published(count.snapshot), history=ledger.history, node="a").require("r1")
        ledger.close()
    live_g = sum(count.snapshot.runs["r1"].emissions_g.values())
    again = reprice(written, now_s=count.now().wall_s)

    assert again["settled"]["emissions_g"] == [{"basis": "lifecycle", "emissions_g": pytest.approx(live_g, rel=1e-3)}]
    assert [change["pue_ratio"] for change in written["pue_changes"]] == [*dict.fromkeys(pue_ratios)][:2] * (
        len(set(pue_ratios)) > 1
    )
    assert changed_s % 300.0 != 0.0
