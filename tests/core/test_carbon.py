"""Joules become grams: by slot, one basis and quality each, and unpriced where nothing is known."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.carbon import price
from monitor.core.model import Basis, Intensity, Quality, Signal

KILOWATTHOUR_J = 3.6e6


def slot(start_s: float, end_s: float, grams: float, *, signal: Signal = Signal.AVERAGE) -> Intensity:
    """One slot of a feed."""
    return Intensity(
        zone="DE",
        grams_per_kilowatthour=grams,
        basis=Basis.LIFECYCLE,
        quality=Quality.ACTUAL,
        provider="test",
        signal=signal,
        valid_from_s=start_s,
        valid_until_s=end_s,
    )


def test_energy_is_split_at_slot_edges() -> None:
    """An interval over two slots is priced by the time in each."""
    priced = price(KILOWATTHOUR_J, 900.0, 1900.0, [slot(0, 1000, 100), slot(1000, 2000, 400)], 1.0)

    assert [10.0, 360.0] == pytest.approx([part.emissions_g for part in priced.grams])


def test_time_without_a_slot_is_unpriced() -> None:
    """Null is never 0: what no slot covers is counted apart."""
    priced = price(1000.0, 0.0, 100.0, [slot(50, 200, 0.0)], 1.0)

    assert priced.unpriced_j == pytest.approx(500.0)
    assert [part.emissions_g for part in priced.grams] == [0.0]  # 0 g/kWh is a legal intensity


def test_marginal_intensity_prices_nothing() -> None:
    """A marginal signal never enters the average series."""
    priced = price(1000.0, 0.0, 100.0, [slot(0, 200, 800.0, signal=Signal.MARGINAL)], 1.0)

    assert ((), 1000.0) == (priced.grams, priced.unpriced_j)


edges = st.lists(st.floats(0, 10_000), min_size=2, max_size=8, unique=True).map(sorted)


@given(edges, st.floats(0, 9_000), st.floats(0.1, 1_000), st.floats(0, 1))
def test_pricing_is_additive_over_time(edges_s: list[float], start_s: float, span_s: float, cut: float) -> None:
    """An interval and its two parts cost the same grams, and every joule is priced or unpriced."""
    slots = [slot(a, b, 100.0 + i) for i, (a, b) in enumerate(pairwise(edges_s)) if i % 3 != 2]
    energy_j, middle_s, end_s = span_s * 500.0, start_s + cut * span_s, start_s + span_s

    def cost(a: float, b: float) -> tuple[float, float]:
        priced = price(energy_j * (b - a) / span_s, a, b, slots, 1.2)
        return sum(part.emissions_g for part in priced.grams), priced.unpriced_j

    whole, left, right = cost(start_s, end_s), cost(start_s, middle_s), cost(middle_s, end_s)

    assert whole == pytest.approx((left[0] + right[0], left[1] + right[1]), rel=1e-6, abs=1e-6)
