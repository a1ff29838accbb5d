"""What was booked, cut into buckets of time."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from monitor.core.attribution import ShareKind
from monitor.core.model import Method
from monitor.core.snapshot import Interval
from monitor.ledger.buckets import COARSE_S, FINE_S, LONG_S, Pending, cut

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


@given(st.floats(1.7e9, 1.8e9), st.floats(0.0, 5000.0), sums, sums, sums)
def test_a_cut_loses_nothing(start_s: float, span_s: float, energy_j: float, idle_j: float, measured_s: float) -> None:
    """The parts of an interval add up to it bit for bit, in any order, and none is below zero."""
    pieces = list(cut(interval(start_s, span_s, energy_j, idle_j, measured_s)))

    for column, whole in ((2, energy_j), (3, idle_j), (4, measured_s)):
        parts = [piece[column] for piece in pieces]

        assert Fraction(whole) == sum(map(Fraction, parts))
        assert whole == sum(parts) == sum(reversed(parts))
        assert min(parts) >= 0.0


@given(st.floats(1.7e9, 1.8e9), st.floats(0.01, 5000.0))
def test_parts_are_proportional_to_time(start_s: float, span_s: float) -> None:
    """Every bucket has the joules of its time, the buckets are adjoining, on their edges, and cover the interval."""
    whole = interval(start_s, span_s, 1e6)
    pieces = list(cut(whole))
    length_s = whole.end_wall_s - start_s
    bucket_s = FINE_S if length_s <= LONG_S else COARSE_S

    assert {bucket_s} == {span for _, span, *_ in pieces}
    assert [pieces[0][0] + number * bucket_s for number in range(len(pieces))] == [start for start, *_ in pieces]
    assert pieces[0][0] % bucket_s == 0
    assert pieces[0][0] <= start_s
    assert pieces[-1][0] + bucket_s >= whole.end_wall_s
    for bucket, _, energy_j, *_ in pieces:
        covered_s = min(whole.end_wall_s, bucket + bucket_s) - max(start_s, bucket)

        assert math.isclose(1e6 * covered_s / length_s, energy_j, rel_tol=1e-9, abs_tol=1e-6)


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

    assert [[12.0, 0.0, 2.0]] == list(pending.take().values())


def test_nothing_is_no_row() -> None:
    """An interval without joules and without measured time makes no row."""
    pending = Pending()
    pending.book([interval(1.7e9, 0.0, 0.0)])

    assert not pending.take()
