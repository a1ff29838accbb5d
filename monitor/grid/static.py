"""Yearly carbon intensity from the bundled tables: always there, and never better than `quality="static"`."""

import csv
import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from monitor.core.model import Basis, GridState, Instant, Intensity, Quality
from monitor.errors import UsageError

WORLD = "WORLD"
COUNTRIES = "static_intensity.csv"
US_SUBREGIONS = "static_intensity_us_egrid2023.csv"
CLOUD_REGIONS = "cloud_regions.csv"
GCP_REGIONS = "cloud_region_intensity_gcp_2024.csv"
ATTRIBUTION = {
    GCP_REGIONS: "GoogleCloudPlatform/region-carbon-info, yearly 2024, Apache-2.0",
    COUNTRIES: "Ember (2025) and Energy Institute (2025), processed by Our World in Data, CC BY 4.0",
    US_SUBREGIONS: "US EPA, eGRID2023 Data Rev.2 (2025-06-12), Table 1, US public domain",
}
PROVIDERS = {COUNTRIES: "ember-owid", US_SUBREGIONS: "epa-egrid", GCP_REGIONS: "google-cloud"}
EDITIONS = {COUNTRIES: "ember-owid 2025", US_SUBREGIONS: "eGRID2023 Rev.2", GCP_REGIONS: "region-carbon-info 2024"}
"""Past years are restated: a value goes with the edition of its table."""
SUBNATIONAL = re.compile("([A-Z]{2})-[A-Z0-9]{1,8}(-[A-Z0-9]{1,8})?")
"""A zone within a country, as Electricity Maps writes it: DK-DK1, US-NE-ISNE."""


@dataclass(frozen=True, slots=True)
class Yearly:
    """One row of a table: intensity of a zone over a year."""

    zone: str
    name: str
    grams_per_kilowatthour: float
    basis: Basis
    year: str
    table: str


class StaticGrid:
    """The yearly values of the zones of a node, or nothing when no zone is known."""

    def __init__(self, zone: str | None, known: Sequence[Intensity] = ()) -> None:
        """`known` are the values to use; without them, the table's value of the zone."""
        self._known = tuple(known) or ((intensity(zone),) if zone is not None else ())

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:  # noqa: ARG002  (a yearly value has no slots)
        """The same at every moment."""
        return self._known

    def state(self) -> GridState:
        """Nothing is fetched and nothing changes."""
        return _STATE


_STATE = GridState()


def resolve_zone(text: str) -> str:
    """The zone id a user meant, in its own spelling. Raises UsageError that names near zones."""
    wanted = text.strip()
    known = {zone.upper(): zone for zone in [*yearly(), *_country_of_zone()]}
    if wanted.upper() in known:
        return known[wanted.upper()]
    within = SUBNATIONAL.fullmatch(wanted.upper())
    if within and within[1] in yearly():
        return wanted.upper()
    by_name = {row.name.upper(): row.zone for row in yearly().values()}
    near = difflib.get_close_matches(wanted.upper(), [*known, *by_name], n=3, cutoff=0.5)
    names = [f"{by_name[match]} ({match.title()})" if match in by_name else known[match] for match in near]
    hint = f"; did you mean {', '.join(names)}?" if names else ""
    raise UsageError(
        f"unknown grid zone {wanted!r}{hint} (a country code, an EGRID-* subregion or a zone such as US-CAL-CISO)"
    )


@cache
def yearly() -> dict[str, Yearly]:
    """Every zone with a yearly value of its own."""
    rows = {row["zone"]: _country(row) for row in _table(COUNTRIES)}
    rows |= {row["zone"]: _subregion(row) for row in _table(US_SUBREGIONS)}
    return rows


def describe(zone: str) -> str:
    """Where the value of a zone comes from, for people: table, year and attribution."""
    row, stands_in = _row(zone)
    who = f"value of {row.name}, since {zone} has none of its own; " if stands_in else ""
    return f"{who}{row.year}, {row.basis}; {ATTRIBUTION[row.table]}"


def is_listed(zone: str) -> bool:
    """Whether one of our tables has the zone; a provider may know it all the same."""
    return zone in yearly() or zone in _country_of_zone()


def intensity(zone: str, *, cloud_region: str = "") -> Intensity:
    """The yearly value of a zone; where the cloud region has one of its own (`gcp:us-central1`), that."""
    own = _of_region(zone, cloud_region)
    if own is not None:
        return own
    row, _stands_in = _row(zone)
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=row.grams_per_kilowatthour,
        basis=row.basis,
        quality=Quality.STATIC,
        provider=PROVIDERS[row.table],
        valid_from_s=-math.inf,
        valid_until_s=math.inf,
        detail=describe(zone),
        dataset=f"{EDITIONS[row.table]}, {row.year}",
    )


def _of_region(zone: str, cloud_region: str) -> Intensity | None:
    provider, _colon, name = cloud_region.partition(":")
    row = next((row for row in _table(GCP_REGIONS) if (row["provider"], row["region"]) == (provider, name)), None)
    if row is None:
        return None
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=float(row["gCO2e_per_kWh"]),
        basis=Basis.UNKNOWN,
        quality=Quality.STATIC,
        provider=PROVIDERS[GCP_REGIONS],
        valid_from_s=-math.inf,
        valid_until_s=math.inf,
        detail=f"value of {cloud_region} ({row['location']}); {row['year']}, basis unknown; {ATTRIBUTION[GCP_REGIONS]}",
        dataset=f"{EDITIONS[GCP_REGIONS]}, {row['year']}",
    )


def _row(zone: str) -> tuple[Yearly, bool]:
    """The row that speaks for a zone, and whether it is another one's."""
    rows = yearly()
    row = rows.get(zone)
    if row is None:
        row = rows.get(_country_of_zone().get(zone) or zone.partition("-")[0], rows[WORLD])
    # A published yearly 0 (Central African Republic) is a missing value, not a carbon-free grid.
    if row.grams_per_kilowatthour <= 0.0:
        row = rows[WORLD]
    return row, row.zone != zone


@cache
def _country_of_zone() -> dict[str, str]:
    return {row["zone"]: row["country"] for row in cloud_regions().values()}


@cache
def cloud_regions() -> dict[str, dict[str, str]]:
    """Rows of the table of cloud regions (provider, region, zone, country, note), by `aws:us-east-1`."""
    return {f"{row['provider']}:{row['region']}": row for row in _table(CLOUD_REGIONS)}


def _country(row: dict[str, str]) -> Yearly:
    grams = float(row["gCO2e_per_kWh"])
    return Yearly(row["zone"], row["name"], grams, Basis(row["basis"]), row["year"], COUNTRIES)


def _subregion(row: dict[str, str]) -> Yearly:
    grams = float(row["gCO2_per_kWh"])
    return Yearly(row["zone"], row["name"], grams, Basis.DIRECT, row["year"], US_SUBREGIONS)


def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("monitor.grid").joinpath("data", name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
