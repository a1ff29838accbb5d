"""Two readings become joules: every way in which they are known, and the invariants over any partition of time."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.energy import How, between, method_of
from monitor.core.model import Component, Device, Instant, Method, Origin, PowerSignal, Reading

GPU = Device(id="GPU-1", component=Component.GPU, source="test", max_power_w=1000.0)


def at(
    mono_s: float,
    energy_j: float | None = None,
    *,
    wraps_at_j: float | None = None,
    power_w: float | None = None,
    signal: PowerSignal = PowerSignal.AVERAGE,
    device: Device = GPU,
) -> Reading:
    """One reading at a moment."""
    return Reading(
        device=device,
        at=Instant(mono_s, 1.7e9 + mono_s),
        energy_j=energy_j,
        wraps_at_j=wraps_at_j,
        power_w=power_w,
        power_signal=signal,
    )


@pytest.mark.parametrize(
    ("prev", "now", "how", "energy_j"),
    [
        pytest.param(None, at(10, 500.0), How.FIRST, 0.0, id="a lifetime total is not a day's energy"),
        pytest.param(at(0, 100.0), at(1, 600.0), How.COUNTER, 500.0, id="a counter tells"),
        pytest.param(at(0, 100.0), at(60, 100.0), How.COUNTER, 0.0, id="a counter may stand still"),
        pytest.param(at(0, 600.0), at(1, 10.0), How.RESET, 0.0, id="a 64-bit counter that falls was reset"),
        pytest.param(at(0, 0.0), at(1, 2000.0), How.GAP, 0.0, id="a rise beyond the plausible is no energy"),
        pytest.param(at(0, 0.0), at(1, 1190.0), How.COUNTER, 1190.0, id="0.2 s of headroom for the counter's period"),
        pytest.param(
            at(0, 65_000.0, wraps_at_j=65_533.0), at(1, 167.0, wraps_at_j=65_533.0), How.WRAPPED, 700.0, id="one wrap"
        ),
        pytest.param(
            at(0, 30_000.0, wraps_at_j=65_533.0), at(1, 10.0, wraps_at_j=65_533.0), How.RESET, 0.0, id="no wrap fits"
        ),
        pytest.param(
            at(0, 100.0, wraps_at_j=65_533.0), at(200, 90.0, wraps_at_j=65_533.0), How.GAP, 0.0, id="several wraps fit"
        ),
        pytest.param(
            at(0, 100.0, wraps_at_j=65_533.0),
            at(200, 200.0, wraps_at_j=65_533.0),
            How.GAP,
            0.0,
            id="or a rise and a wrap",
        ),
        pytest.param(
            at(0, power_w=100.0), at(1, power_w=300.0), How.INTEGRATED, 300.0, id="a mean covers its interval"
        ),
        pytest.param(
            at(0, power_w=100.0, signal=PowerSignal.INSTANT),
            at(0.1, power_w=300.0, signal=PowerSignal.INSTANT),
            How.INTEGRATED,
            20.0,
            id="a point value is one end of a trapezoid",
        ),
        pytest.param(at(0, power_w=100.0), at(60, power_w=100.0), How.GAP, 0.0, id="watts are not stretched"),
        pytest.param(at(0, power_w=100.0), at(1, power_w=9000.0), How.GAP, 0.0, id="nor believed beyond the plausible"),
        pytest.param(at(0, 100.0), at(1), How.GAP, 0.0, id="no sensor, no joules"),
    ],
)
def test_how_joules_are_known(prev: Reading | None, now: Reading, how: How, energy_j: float) -> None:
    """Each pair of readings gives these joules, known in this way; what is not known is counted in seconds."""
    delta = between(prev, now)

    assert how == delta.how
    assert energy_j == pytest.approx(delta.energy_j)
    assert (delta.span_s if how in {How.GAP, How.RESET} else 0.0) == delta.unmeasured_s


@pytest.mark.parametrize(
    ("origin", "method"), [(Origin.SIMULATED, Method.SIMULATED), (Origin.ESTIMATED, Method.ESTIMATED)]
)
def test_what_is_not_measured_says_so(origin: Origin, method: Method) -> None:
    """Simulated and estimated devices never book under a sensor's method, whatever their readings look like."""
    device = Device(id="x", component=Component.CPU, source="test", max_power_w=1000.0, origin=origin)

    assert method == method_of(at(0, 1.0, device=device)) == method_of(at(0, power_w=1.0, device=device))
    assert str(origin) == between(at(0, 1.0, device=device), at(1, 2.0, device=device)).how


def test_calibration_scales_joules() -> None:
    """A device's calibration factor applies to its joules, once."""
    device = Device(id="x", component=Component.GPU, source="test", max_power_w=1000.0, calibration_ratio=1.05)

    assert between(at(0, 0.0, device=device), at(1, 100.0, device=device)).energy_j == pytest.approx(105.0)


steps = st.lists(st.tuples(st.floats(0.05, 20.0), st.floats(0.0, 1000.0)), min_size=1, max_size=60)


@given(steps, st.data())
def test_additivity_over_any_partition(pieces: list[tuple[float, float]], data: st.DataObject) -> None:
    """E[a,c] = E[a,b] + E[b,c]: which readings were taken in between does not matter."""
    moments, counter = [0.0], [0.0]
    for span_s, power_w in pieces:
        moments.append(moments[-1] + span_s)
        counter.append(counter[-1] + span_s * power_w)
    kept = [0, *sorted(data.draw(st.sets(st.integers(1, len(pieces))))), len(pieces)]
    readings = [at(moments[index], counter[index]) for index in kept]

    total_j = sum(between(a, b).energy_j for a, b in pairwise(readings))

    assert counter[-1] == pytest.approx(total_j, abs=1e-6)


@given(steps, st.floats(25_000.0, 300_000.0), st.floats(0.0, 1.0))
def test_any_modulus_gives_the_same_total(pieces: list[tuple[float, float]], wraps_at_j: float, start: float) -> None:
    """A register that wraps, wherever it starts, folds to the total of one that does not."""
    now_s, true_j = 0.0, start * wraps_at_j
    readings = [at(now_s, true_j % wraps_at_j, wraps_at_j=wraps_at_j)]
    first_j = true_j
    for span_s, power_w in pieces:
        now_s, true_j = now_s + span_s, true_j + span_s * power_w
        readings.append(at(now_s, true_j % wraps_at_j, wraps_at_j=wraps_at_j))

    total_j = sum(between(a, b).energy_j for a, b in pairwise(readings))

    assert true_j - first_j == pytest.approx(total_j, abs=1e-5)
