"""What was booked, cut into buckets of time."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.attribution import ShareKind
from monitor.core.model import Method
from monitor.core.snapshot import Interval
from monitor.ledger.buckets import COARSE_S, FINE_S, LONG_S, Cut, Pending

sums = st.floats(0.0, 1e9, allow_subnormal=True)


def interval(start_s: float, span_s: float, energy_j: float, idle_j: float = 0.0, measured_s: float = 0.0) -> Interval:
    """Of one run and one device."""
    return Interval(
        run_id="r",
        device_id="GPU-a",
        zone="DE",
        phase="",
        method=Method.COUNTER,
        share=ShareKind.WHOLE,
        recovered=False,
        start_wall_s=start_s,
        end_wall_s=start_s + span_s,
        energy_j=energy_j,
        idle_j=idle_j,
        measured_s=measured_s,
    )


@given(st.floats(1.7e9, 1.8e9), st.floats(0.0, 5000.0), st.lists(sums, min_size=1, max_size=3))
def test_a_cut_loses_nothing(start_s: float, span_s: float, totals: list[float]) -> None:
    """The parts of whatever was had over a while add up to it bit for bit, in any order, and none is below zero."""
    cut = Cut(start_s, start_s + span_s)
    for whole in totals:
        parts = cut.parts(whole)

        assert len(cut.buckets) == len(parts)
        assert Fraction(whole) == sum(map(Fraction, parts))
        assert whole == sum(parts) == sum(reversed(parts))
        assert min(parts) >= 0.0


@given(st.floats(1.7e9, 1.8e9), st.floats(0.01, 5000.0))
def test_parts_are_proportional_to_time(start_s: float, span_s: float) -> None:
    """Every bucket has the joules of its time, the buckets are adjoining, on their edges, and cover the while."""
    end_s = start_s + span_s
    cut = Cut(start_s, end_s)
    starts = list(cut.buckets)

    assert (FINE_S if end_s - start_s <= LONG_S else COARSE_S) == cut.span_s
    assert [starts[0] + number * cut.span_s for number in range(len(starts))] == starts
    assert starts[0] % cut.span_s == 0
    assert starts[0] <= start_s
    assert starts[-1] + cut.span_s >= end_s
    for bucket_s, energy_j in zip(starts, cut.parts(1e6), strict=True):
        covered_s = min(end_s, bucket_s + cut.span_s) - max(start_s, bucket_s)

        assert math.isclose(1e6 * covered_s / (end_s - start_s), energy_j, rel_tol=1e-9, abs_tol=1e-6)


@given(st.floats(1.7e9, 1.8e9), st.floats(0.0, 5000.0), sums, sums)
def test_rows_have_what_was_booked(start_s: float, span_s: float, energy_j: float, measured_s: float) -> None:
    """Of several runs over the same while each has all of its own, and each row is in a bucket of the while."""
    pending = Pending()
    first = interval(start_s, span_s, energy_j, energy_j / 2, measured_s)
    pending.book([first, first._replace(run_id="other", energy_j=2 * energy_j), first])
    rows = pending.take()
    buckets = {start for _, start, _ in rows}

    assert all(start_s - COARSE_S < bucket <= start_s + span_s for bucket in buckets)
    for run_id, whole in (("r", 2 * energy_j), ("other", 2 * energy_j)):
        mine = [row for ((run, *_), _, _), row in rows.items() if run == run_id]

        assert math.isclose(whole, math.fsum(row[0] for row in mine), rel_tol=1e-12)
    assert math.isclose(3 * measured_s, math.fsum(row[2] for row in rows.values()), rel_tol=1e-12)


@given(st.floats(1.7e9, 1.8e9), st.floats(7.5, 10.0))
def test_a_while_of_a_bucket_is_one_row(start_s: float, span_s: float) -> None:
    """One bucket tells of it to a second, and none reaches over the edge of five minutes, at which prices change."""
    end_s = start_s + span_s
    pending = Pending()
    pending.book([interval(start_s, span_s, 1e3, 1e2, span_s)])
    rows = pending.take()
    starts = [start for _, start, span in rows if span == FINE_S]
    edge_s = (start_s // COARSE_S + 1) * COARSE_S

    assert len(starts) == len(rows)
    assert all(start // COARSE_S == (start + FINE_S - 1) // COARSE_S for start in starts)
    assert min(starts) <= start_s
    assert max(starts) + FINE_S > end_s - 1.0
    if end_s <= edge_s:
        assert [(1e3, 1e2, end_s - start_s)] == [pytest.approx(row) for row in rows.values()]
    else:
        before_j = sum(row[0] for (_, start, _), row in rows.items() if start < edge_s)

        assert 1e3 * (edge_s - start_s) / (end_s - start_s) == pytest.approx(before_j, rel=1e-6)


def test_what_waits_for_hours_is_merged_not_dropped() -> None:
    """A ledger that cannot be written for days holds few rows, and all joules."""
    pending = Pending()
    offered_j = 0.0
    for number in range(120_000):
        offered_j += number % 7
        pending.book([interval(1.7e9 + 10 * number, 10.0, number % 7, measured_s=10.0)])
    rows = pending.take()

    assert len(rows) < 60_000
    assert offered_j == sum(row[0] for row in rows.values())
    assert 1_200_000.0 == sum(row[2] for row in rows.values())


def test_rows_given_back_are_added_to_newer_ones() -> None:
    """What a failed commit gives back and what came meanwhile are one row."""
    pending = Pending()
    pending.book([interval(1.7e9, 1.0, 5.0, measured_s=1.0)])
    taken = pending.take()
    pending.book([interval(1.7e9 + 1, 1.0, 7.0, measured_s=1.0)])
    pending.give_back(taken)

    assert [(12.0, 0.0, 2.0)] == list(pending.take().values())


def test_nothing_is_no_row() -> None:
    """An interval without joules and without measured time makes no row."""
    pending = Pending()
    pending.book([interval(1.7e9, 0.0, 0.0)])

    assert not pending.take()
