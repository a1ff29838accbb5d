"""Which grid zone this machine is in and how it was found: as set, or by a known cloud region. Never by IP address."""

import difflib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from monitor.errors import UsageError
from monitor.grid.static import cloud_regions, is_listed, resolve_zone

UNKNOWN = "no zone is set, so grams are absent; set one with --zone DE or TRAINWATT_ZONE=DE"


class Place(NamedTuple):
    """Where a machine stands."""

    zone: str | None
    found: str
    """How the zone was found, or why there is none: one line for people."""
    cloud_region: str = ""
    """Of which the zone is; "" = none, or the zone was set to another."""


def locate(zone: str | None, cloud_region: str | None, ask_metadata: Callable[[], str | None] | None = None) -> Place:
    """The zone as it is set, else that of the cloud region, else of the region that the cloud's metadata tell.

    `ask_metadata` is called only where neither is set; None = it is not allowed. Raises UsageError for a zone or a
    region that cannot be meant.
    """
    region = resolve_region(cloud_region) if cloud_region is not None else ""
    if zone is not None:
        known = resolve_zone(zone)
        doubt = "" if is_listed(known) else f"; no table of trainwatt lists {known}, so look at its spelling"
        is_same = bool(region) and cloud_regions()[region]["zone"] == known
        return Place(known, f"as set{doubt}", region if is_same else "")
    if region:
        return _of_region(region, f"by the cloud region {region}")
    if ask_metadata is None:
        return Place(None, UNKNOWN)
    told = ask_metadata()
    if told is None:
        return Place(None, f"no cloud's metadata service answers here; {UNKNOWN}")
    if told not in cloud_regions():
        return Place(None, f"the cloud's metadata tell the region {told}, whose zone is not known; {UNKNOWN}")
    return _of_region(told, f"by the cloud region {told}, which the cloud's metadata tell")


def resolve_region(text: str) -> str:
    """The region that a user meant, as PROVIDER:REGION. Raises UsageError that names near ones."""
    wanted = text.strip().lower()
    if wanted in cloud_regions():
        return wanted
    near = difflib.get_close_matches(wanted, cloud_regions(), n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise UsageError(f"unknown cloud region {text!r}{hint} (set the zone itself where the region is not known)")


def device_zones(wanted: Mapping[str, str]) -> dict[str, str]:
    """Zones of single devices, by id. Raises UsageError that names the device."""
    zones: dict[str, str] = {}
    for device_id, zone in wanted.items():
        try:
            zones[device_id] = resolve_zone(zone)
        except UsageError as error:
            raise UsageError(f"device_zones.{device_id}: {error}") from error
    return zones


def _of_region(region: str, found: str) -> Place:
    row = cloud_regions()[region]
    note = f"; {row['note']}: set the zone if you know better" if row["note"] else ""
    return Place(row["zone"], f"{found}{note}", region)
