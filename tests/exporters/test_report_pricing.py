"""A report priced again: the same figure with all versions as with what was known then, and no other energy."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.report_file import parse_report, report_json
from exporters.report_merge import merge
from exporters.report_pricing import reprice
from exporters.report_text import report_text
from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Intensity, Method, Quality, Signal
from monitor.core.units import JOULES_PER_KILOWATTHOUR
from monitor.errors import FailureError, UsageError
from tests.exporters.test_report_document import GERMANY, START_S, demo, document, interval, moment, snapshot, totals

SLOT_S = 1800.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
KWH = JOULES_PER_KILOWATTHOUR
LONG_AFTER_S = START_S + 100 * DAY_S


def slot(number: int, grams: float, *, fetched_after_s: float, **changes: Any) -> Intensity:
    """One version of a half hour, the number counted from the run's start."""
    words: dict[str, Any] = {
        "zone": "DE",
        "grams_per_kilowatthour": grams,
        "basis": Basis.LIFECYCLE,
        "quality": Quality.ACTUAL,
        "provider": "feed",
        "valid_from_s": START_S + number * SLOT_S,
        "valid_until_s": START_S + (number + 1) * SLOT_S,
        "fetched_at_s": START_S + fetched_after_s,
        "detail": "Feed, CC BY 4.0",
    }
    return Intensity(**words | changes)


def report(
    known: Sequence[Intensity],
    *,
    kilowatthours: Sequence[float] = (1.0, 1.0),
    factors: Sequence[Intensity] = (GERMANY,),
    ledger: str = "ledger-1",
    node: str = "node-a",
    **changes: Any,
) -> dict[str, Any]:
    """A run that used so many kWh in each half hour, as its file says it."""
    rows = [
        interval(SLOT_S * number, SLOT_S * (number + 1), energy_kwh * KWH)
        for number, energy_kwh in enumerate(kilowatthours)
    ]
    whole = (Component.GPU, Method.COUNTER, ShareKind.WHOLE)
    entry = totals(demo(end=moment(SLOT_S * len(rows))), energy_j={whole: math.fsum(kilowatthours) * KWH})
    words: dict[str, Any] = {"intervals": rows, "factors": factors, "others": known, "providers": {"DE": ["feed"]}}
    written = document(entry, snapshot(entry, ledger=ledger), node=node, **words | changes)
    return parse_report(report_json(written).encode(), "it")


def settled_g(document: dict[str, Any]) -> dict[str, float]:
    """By basis."""
    return {part["basis"]: part["emissions_g"] for part in document["settled"]["emissions_g"]}


REVISED = [
    slot(0, 100.0, fetched_after_s=60.0, quality=Quality.FORECAST),
    slot(0, 75.0, fetched_after_s=SLOT_S + 60.0, quality=Quality.ESTIMATED),
    slot(0, 42.0, fetched_after_s=6 * HOUR_S),
    slot(1, 200.0, fetched_after_s=60.0, quality=Quality.FORECAST),
    slot(1, 180.0, fetched_after_s=2 * SLOT_S + 60.0),
]


@pytest.mark.parametrize(
    ("as_of_after_s", "emissions_g", "energy_kwh"),
    [
        (0.5 * SLOT_S, 0.5 * 100.0, 0.5),
        (SLOT_S + 30.0, 100.0 + 200.0 * 30.0 / SLOT_S, 1.0 + 30.0 / SLOT_S),
        (2 * SLOT_S, 75.0 + 75.0, 2.0),  # what was observed, carried, before what was forecast
        (2 * SLOT_S + 60.0, 75.0 + 180.0, 2.0),
        (6 * HOUR_S - 1.0, 75.0 + 180.0, 2.0),
        (6 * HOUR_S, 42.0 + 180.0, 2.0),
    ],
)
def test_an_earlier_figure_comes_again(as_of_after_s: float, emissions_g: float, energy_kwh: float) -> None:
    """As of a moment it is the energy used by then, priced with the versions that had been fetched by then."""
    again = reprice(report(REVISED), now_s=LONG_AFTER_S, as_of_s=START_S + as_of_after_s)

    assert settled_g(again) == pytest.approx({"lifecycle": emissions_g})
    assert again["settled"]["energy_j"] == pytest.approx(energy_kwh * KWH)
    assert again["settled"]["priced_at_unix_s"] == START_S + as_of_after_s
    assert again["emissions_g"] == report(REVISED)["emissions_g"]
    assert again["sci"]["of"] == ("settled" if energy_kwh == 2.0 else "live"), "steps are those of all joules"


@st.composite
def versions(draw: st.DrawFn) -> list[Intensity]:
    """Any versions of six half hours, by two providers of three bases, fetched at any time."""
    made = []
    for _ in range(draw(st.integers(0, 25))):
        fetched_after_s = float(draw(st.integers(-7_200, 40_000)))
        made.append(
            slot(
                draw(st.integers(-2, 5)),
                float(draw(st.integers(0, 900))),
                fetched_after_s=fetched_after_s,
                quality=draw(st.sampled_from([Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST])),
                basis=draw(st.sampled_from(Basis)),
                provider=draw(st.sampled_from(["feed", "other"])),
                updated_at_s=draw(st.none() | st.just(START_S + fetched_after_s + 100.0)),
                signal=draw(st.sampled_from([Signal.AVERAGE, Signal.AVERAGE, Signal.MARGINAL])),
            )
        )
    return made


@given(versions(), st.integers(1, 50_000), st.booleans())
def test_as_of_is_what_pricing_with_what_was_known_gives(
    known: list[Intensity],
    as_of_after_s: int,
    has_static: bool,  # noqa: FBT001  (drawn)
) -> None:
    """A file with all versions, priced as of a moment, gives what a file gives that knows no more than was known."""
    as_of_s = START_S + as_of_after_s
    factors = [GERMANY] if has_static else []
    by_then = [one for one in known if max(one.fetched_at_s or 0.0, one.updated_at_s or 0.0) <= as_of_s]
    whole = reprice(report(known, factors=factors), now_s=LONG_AFTER_S, as_of_s=as_of_s)
    part = reprice(report(by_then, factors=factors), now_s=as_of_s)

    assert whole["settled"] == part["settled"]
    priced_j = whole["settled"]["energy_j"] - whole["settled"]["unpriced_energy_j"]
    assert priced_j == pytest.approx(whole["settled"]["energy_j"]) or not has_static


@given(versions(), st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6))
def test_every_joule_is_priced_at_what_holds_then_or_is_told(known: list[Intensity], used_kwh: list[float]) -> None:
    """Joules are those of the rows; with one provider of one basis the grams are the sum over slots, by hand."""
    plain = {
        one.valid_from_s: replace(one, basis=Basis.LIFECYCLE, provider="feed", quality=Quality.ACTUAL)
        for one in known
        if one.signal is Signal.AVERAGE and one.valid_from_s >= START_S
    }
    everywhere = {START_S + SLOT_S * number: slot(number, 70.0, fetched_after_s=0.0) for number in range(6)} | plain
    again = reprice(report(list(everywhere.values()), kilowatthours=used_kwh), now_s=LONG_AFTER_S)
    by_hand = math.fsum(
        energy_kwh * everywhere[START_S + SLOT_S * number].grams_per_kilowatthour
        for number, energy_kwh in enumerate(used_kwh)
    )

    assert sum(settled_g(again).values()) == pytest.approx(by_hand, rel=1e-9, abs=1e-9)
    # Rows are rounded to a millionth of a joule.
    assert again["settled"]["energy_j"] == pytest.approx(math.fsum(used_kwh) * KWH, abs=1e-5)
    assert (again["settled"]["unpriced_energy_j"], again["settled"]["settled_ratio"]) == (0.0, 1.0)


def test_a_forecast_never_replaces_what_was_observed() -> None:
    """However late it was fetched, or said to have been revised; the store of the daemon keeps to that, too."""
    late: dict[str, Any] = {"quality": Quality.FORECAST, "updated_at_s": START_S + DAY_S}
    known = [
        slot(0, 75.0, fetched_after_s=2 * SLOT_S, quality=Quality.ESTIMATED),
        slot(0, 120.0, fetched_after_s=3 * SLOT_S, **late),
        slot(1, 42.0, fetched_after_s=2 * SLOT_S),
        slot(1, 130.0, fetched_after_s=3 * SLOT_S, **late),
    ]

    assert settled_g(reprice(report(known), now_s=LONG_AFTER_S)) == pytest.approx({"lifecycle": 75.0 + 42.0})


def test_marginal_values_price_nothing() -> None:
    """They are another question; time that nothing else covers has no grams, which is not 0."""
    marginal = [slot(number, 800.0, fetched_after_s=0.0, signal=Signal.MARGINAL) for number in range(2)]
    again = reprice(report(marginal, factors=()), now_s=LONG_AFTER_S)

    assert again["settled"]["emissions_g"] == []
    assert again["settled"]["unpriced_energy_j"] == pytest.approx(2 * KWH)


def test_pue_is_that_of_the_time() -> None:
    """Where it changed, each row is priced with what held then, and the report says when it changed."""
    known = [slot(number, 100.0, fetched_after_s=0.0) for number in range(2)]
    changed = report(known, pue_changes=[(START_S, 1.2), (START_S + SLOT_S, 1.5)])

    assert changed["pue_ratio"] is None
    assert settled_g(reprice(changed, now_s=LONG_AFTER_S)) == pytest.approx({"lifecycle": 120.0 + 150.0})
    told = report_text(changed)
    assert "PUE changed on 2026-09-21 14:43:20 UTC to 1.5, from 1.2; in the grams and costs only" in told
    assert settled_g(reprice(report(known, pue_changes=[(START_S, 1.3)]), now_s=LONG_AFTER_S)) == pytest.approx(
        {"lifecycle": 260.0}
    )


def test_the_share_that_is_final_grows_with_time() -> None:
    """An observed value is final some time after the energy was used; a yearly one at once where no feed is."""
    known = [slot(number, 100.0, fetched_after_s=2 * SLOT_S) for number in range(2)]
    at = {
        after_s: reprice(report(known), now_s=START_S + after_s, settles_after_s={"feed": DAY_S})["settled"]
        for after_s in (2 * SLOT_S, DAY_S + SLOT_S, DAY_S + 2 * SLOT_S)
    }

    assert [one["settled_ratio"] for one in at.values()] == pytest.approx([0.0, 0.5, 1.0])
    without = report((), providers={})
    assert reprice(without, now_s=START_S + 2 * SLOT_S)["settled"]["settled_ratio"] == 1.0


def test_other_factors_can_be_brought_along() -> None:
    """What another machine knows counts beside what is in the file, and is in the new one if it priced anything."""
    brought = [slot(0, 10.0, fetched_after_s=DAY_S), slot(9, 10.0, fetched_after_s=DAY_S)]
    again = reprice(report(REVISED), now_s=LONG_AFTER_S, more=brought)
    static = replace(GERMANY, grams_per_kilowatthour=300.0, detail="2026")

    assert settled_g(again) == pytest.approx({"lifecycle": 10.0 + 180.0})
    assert [180.0, 10.0] == [one["grams_per_kilowatthour"] for one in again["factors"] if one["in_use"]]
    assert settled_g(reprice(report(()), now_s=LONG_AFTER_S, more=[static])) == pytest.approx({"lifecycle": 600.0})


def test_a_merged_report_is_priced_part_by_part() -> None:
    """Each part by its own rows and factors; one without rows is refused by the name of its node."""
    parts = [report(REVISED), report(REVISED, ledger="ledger-2", node="node-b")]
    again = reprice(merge(parts), now_s=LONG_AFTER_S)

    assert settled_g(again) == pytest.approx({"lifecycle": 2 * (42.0 + 180.0)})
    assert merge([reprice(part, now_s=LONG_AFTER_S) for part in parts])["settled"] == again["settled"]
    with pytest.raises(FailureError, match="the report of node-c has no rows of energy by time"):
        reprice(merge([parts[0], report((), ledger="3", node="node-c", intervals=None)]), now_s=LONG_AFTER_S)


@pytest.mark.parametrize(("as_of_s", "says"), [(START_S - 1.0, "is before the run"), (LONG_AFTER_S + 1.0, "to come")])
def test_a_time_that_cannot_be_meant_is_refused(as_of_s: float, says: str) -> None:
    """Before the run there is no energy, and of the future nothing is known."""
    with pytest.raises(UsageError, match=says):
        reprice(report(REVISED), now_s=LONG_AFTER_S, as_of_s=as_of_s)


def test_what_makes_it_doubtful_is_said() -> None:
    """Versions that did not fit into the file, and rows that are longer than slots."""
    long = [interval(300.0 * number, 300.0 * (number + 1), 1.0) for number in range(20_001)]
    known = [slot(1, float(number % 900), fetched_after_s=float(number)) for number in range(10_005)]
    full = report(known, factors=[GERMANY], intervals=long)
    again = reprice(full, now_s=LONG_AFTER_S, as_of_s=START_S + 2 * SLOT_S)

    assert (10_000, 6) == (len(full["factors"]), full["factors_left_out"])
    assert again["warnings"] == [
        "6 older versions of factors are not in the report: as of then it may have been another figure",
        "its rows are 15 min 00 s long: within one the energy is priced as if it were used evenly",
    ]


def test_a_file_of_an_older_release_is_priced_too() -> None:
    """It has one version of each factor and nothing of when it was fetched; the live figure comes again."""
    old = json.loads(report_json(report((), factors=[GERMANY])))
    for name in ("settled", "extras", "sci", "pue_changes", "factors_left_out", "providers"):
        del old[name]
    for factor in old["factors"]:
        for name in ("fetched_at_s", "updated_at_s", "made_by", "dataset", "in_use"):
            del factor[name]
    again = reprice(parse_report(json.dumps(old).encode(), "it"), now_s=LONG_AFTER_S)

    assert settled_g(again) == pytest.approx({"lifecycle": 700.0})
    assert again["sci"]["of"] == "settled"
