"""The bundled yearly intensities."""

import pytest

from monitor.core.model import Basis, Instant, Quality
from monitor.errors import UsageError
from monitor.grid.static import StaticGrid, describe, resolve_zone, yearly

NOW = Instant(0.0, 1.79e9)


@pytest.mark.parametrize(
    ("zone", "grams", "basis"),
    [
        ("DE", 344.14, Basis.LIFECYCLE),
        ("EGRID-CAMX", 194.35, Basis.DIRECT),
        ("CF", 473.01, Basis.LIFECYCLE),  # a published 0 is a missing value: the world's stands in
        ("US-MIDA-PJM", 383.55, Basis.LIFECYCLE),  # its country's stands in
    ],
)
def test_a_zone_has_its_yearly_value(zone: str, grams: float, basis: Basis) -> None:
    """Value, basis and quality of the table, under the zone that was asked for."""
    (slot,) = StaticGrid(zone).intensities(NOW)

    assert slot.grams_per_kilowatthour == pytest.approx(grams, abs=0.1)
    assert (zone, basis, Quality.STATIC) == (slot.zone, slot.basis, slot.quality)


def test_a_stand_in_says_whose_value_it_is() -> None:
    """Where another row speaks for a zone, the description names it; every description carries year and licence."""
    assert "value of World, since CF has none of its own" in describe("CF")
    assert "value of United States" in describe("US-MIDA-PJM")
    assert "CC BY 4.0" in describe("DE")
    assert "US EPA" in describe("EGRID-CAMX")


def test_no_zone_no_value() -> None:
    """Without a zone nothing is known, and nothing is assumed."""
    assert StaticGrid(None).intensities(NOW) == ()


@pytest.mark.parametrize(("typed", "zone"), [("de", "DE"), (" Fr ", "FR"), ("egrid-camx", "EGRID-CAMX"), ("no", "NO")])
def test_spelling_is_forgiven(typed: str, zone: str) -> None:
    """Case and blanks do not matter."""
    assert zone == resolve_zone(typed)


@pytest.mark.parametrize(("typed", "near"), [("Germny", "DE (Germany)"), ("EGRID-CAM", "EGRID-CAMX"), ("francs", "FR")])
def test_an_unknown_zone_names_near_ones(typed: str, near: str) -> None:
    """A zone that is not known is an error that offers near names, never a guess."""
    with pytest.raises(UsageError, match="unknown grid zone") as caught:
        resolve_zone(typed)

    assert near in str(caught.value)


def test_the_table_is_whole() -> None:
    """Every country, the world, the EU and the subregions are there; ids that look like other things stay text."""
    zones = yearly()

    assert len(zones) == 215 + 10
    assert {"WORLD", "EU27", "NA", "NO", "EGRID-US"} <= set(zones)
    assert all(row.grams_per_kilowatthour >= 0.0 for row in zones.values())
