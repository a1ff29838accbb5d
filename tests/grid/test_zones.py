import pytest

from monitor.core.model import Basis, Quality
from monitor.errors import UsageError
from monitor.grid.static import cloud_regions, describe, intensity, is_listed, resolve_zone, yearly
from monitor.grid.zones import device_zones, locate


def never() -> str:
    """A metadata service that must not be asked."""
    raise AssertionError("the metadata service was asked")


def test_a_zone_that_is_set_wins() -> None:
    """Over the region, and nobody is asked."""
    place = locate("fr", "aws:us-east-1", never)

    assert ("FR", "as set", "") == place


def test_a_region_tells_the_zone() -> None:
    """With how it was found; the metadata service is not asked."""
    assert ("US-MIDA-PJM", "by the cloud region aws:us-east-1", "aws:us-east-1") == locate(None, "AWS:us-east-1", never)


def test_an_ambiguous_region_says_so() -> None:
    """Where public tables disagree, the note stands beside the zone, with the remedy."""
    found = locate(None, "gcp:us-central1").found

    assert "GSF table says US-MIDW-MISO (ambiguous)" in found
    assert "set the zone if you know better" in found


def test_the_metadata_are_asked_last() -> None:
    """Where neither is set and it is allowed; what they tell may be unknown, and then nothing is guessed."""
    told = locate(None, None, lambda: "azure:northeurope")
    strange = locate(None, None, lambda: "aws:mars-north-1")

    assert "IE" == told.zone
    assert "which the cloud's metadata tell" in told.found
    assert strange.zone is None
    assert "aws:mars-north-1, whose zone is not known" in strange.found
    assert locate(None, None, lambda: None).zone is None
    assert "--zone DE" in locate(None, None).found


@pytest.mark.parametrize(
    ("typed", "near"), [("aws:us-esat-1", "aws:us-east-1"), ("gcp:europe-west", "gcp:europe-west9"), ("aws", "unknown")]
)
def test_an_unknown_region_names_near_ones(typed: str, near: str) -> None:
    """Never a guess."""
    with pytest.raises(UsageError, match="unknown cloud region") as caught:
        locate(None, typed)

    assert near in str(caught.value)


def test_every_region_has_a_yearly_value() -> None:
    """All 160, whatever their zone: its own, its country's, or Google's."""
    assert 160 == len(cloud_regions())
    for region, row in cloud_regions().items():
        value = intensity(row["zone"], cloud_region=region)

        assert (row["zone"], Quality.STATIC) == (value.zone, value.quality)
        assert 0.0 < value.grams_per_kilowatthour < 1000.0
        assert value.dataset


def test_regions_of_google_have_a_value_of_their_own() -> None:
    """Of unknown basis, with licence and edition; not where the zone was set to another."""
    place = locate(None, "gcp:us-central1")
    value = intensity(place.zone or "", cloud_region=place.cloud_region)

    assert ("US-CENT-SWPP", Basis.UNKNOWN, "google-cloud") == (value.zone, value.basis, value.provider)
    assert "Apache-2.0" in value.detail
    assert "us-central1" in value.detail
    assert "" == locate("DE", "gcp:us-central1").cloud_region
    assert "gcp:europe-west3" == locate("DE", "gcp:europe-west3").cloud_region
    # Only one table has it: then the region is known by neither zone nor value.
    assert "ember-owid" == intensity("TH", cloud_region="gcp:asia-southeast3").provider


@pytest.mark.parametrize(("typed", "zone", "country"), [("dk-dk1", "DK-DK1", "Denmark"), ("GB-13", "GB-13", "United")])
def test_a_zone_within_a_country_has_the_countrys_value(typed: str, zone: str, country: str) -> None:
    """Providers know more zones than our tables: they are taken, and the yearly value says whose it is."""
    assert zone == resolve_zone(typed)
    assert not is_listed(zone)
    assert f"value of {country}" in describe(zone)
    assert yearly()[zone.partition("-")[0]].grams_per_kilowatthour == intensity(zone).grams_per_kilowatthour
    assert "look at its spelling" in locate(typed, None).found


@pytest.mark.parametrize(
    "typed", ["XX-YY", "EGRID-CAM", "DE-", "DE-1/../2", "D\N{LATIN CAPITAL LETTER E WITH ACUTE}", ""]
)
def test_what_is_no_zone_is_refused(typed: str) -> None:
    """A country that does not exist, a subregion of another kind, rubbish."""
    with pytest.raises(UsageError, match="unknown grid zone"):
        resolve_zone(typed)


def test_devices_have_zones_of_their_own() -> None:
    """Resolved like the node's; a mistake names the device."""
    assert {"GPU-1": "FR", "package-0": "DK-DK2"} == device_zones({"GPU-1": "fr", "package-0": "DK-DK2"})
    with pytest.raises(UsageError, match=r"device_zones\.GPU-1: unknown grid zone 'Germny'"):
        device_zones({"GPU-1": "Germny"})
