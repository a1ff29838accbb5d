"""What the settings ask for of the grid, before anything runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor.core.model import Instant
from monitor.errors import UsageError
from monitor.grid.metadata import Services
from monitor.layers import load
from monitor.wiring import Wiring, wire
from tests.drivers.feedserver import Answer, FeedServer

NOW = Instant(0.0, 1.79e9)


def wired(services: Services | None = None, **settings: Any) -> Wiring:
    """On simulated devices."""
    return wire(load({"mock": "training", **settings}, None).settings, services=services)


def names(wiring: Wiring) -> dict[str, list[str]]:
    """Providers by zone."""
    return {zone: [feed.about.name for feed in plan] for zone, plan in wiring.plans.items()}


def test_each_zone_has_its_providers_and_its_yearly_value() -> None:
    """Keyless national feeds by themselves; of devices in other zones likewise."""
    wiring = wired(zone="GB", device_zones={"GPU-1": "FR", "GPU-2": "DE", "GPU-3": "GB"})

    assert {"GB": ["neso"], "FR": ["rte"], "DE": []} == names(wiring)
    assert ["GB", "FR", "DE"] == [slot.zone for slot in wiring.grid.intensities(NOW)]
    assert 44.0 == pytest.approx(wiring.statics["FR"].grams_per_kilowatthour, abs=1.0)
    assert {"GPU-1": "FR", "GPU-2": "DE", "GPU-3": "GB"} == wiring.policy.zones
    assert ["energinet"] == [feed.about.name for feed in wiring.plan_of("dk-dk1")]
    with pytest.raises(UsageError, match="unknown grid zone"):
        wiring.plan_of("XX")


def test_an_account_brings_its_provider() -> None:
    """A key in the settings is a wish; a list by zone is the last word, and others keep the default."""
    key = {"electricitymaps": {"key": "k"}}

    assert ["electricitymaps", "neso"] == names(wired(zone="GB", feed=key))["GB"]
    assert {"GB": ["neso"], "DE": ["electricitymaps"]} == names(
        wired(zone="GB", feed=key, device_zones={"a": "DE"}, feeds={"gb": ["neso"]})
    )
    assert {"GB": []} == names(wired(zone="GB", feed=key, feeds="none"))


def test_without_a_zone_there_is_no_plan_and_no_value() -> None:
    """Nothing is assumed."""
    wiring = wired()

    assert (None, {}, {}, ()) == (wiring.zone, wiring.plans, wiring.statics, wiring.grid.intensities(NOW))
    assert "--zone DE" in wiring.policy.zone_found


def test_the_cloud_is_asked_only_where_that_is_allowed() -> None:
    """The region it tells leads to the zone, and to the region's own yearly value."""
    with FeedServer() as server:
        zone = b"projects/1/zones/europe-west3-b"
        server.on(
            "/computeMetadata/v1/instance/zone",
            Answer(body=zone, content_type="text/plain", headers={"Metadata-Flavor": "Google"}),
        )
        services = Services(aws=server.base_url, gcp=server.base_url, azure=server.base_url)
        silent = wired(services)
        before = len(server.asked)
        told = wired(services, cloud_metadata=True)

    assert (0, None) == (before, silent.zone)
    assert ("DE", "google-cloud") == (told.zone, told.statics["DE"].provider)
    assert "which the cloud's metadata tell" in told.policy.zone_found


def test_inputs_beside_the_grid_reach_the_policy() -> None:
    """Embodied grams a second, the contracts' factor, water, currency; a price is a function of the span."""
    wiring = wired(
        embodied={"gpu": {"kilograms": 150.0, "years": 4.0}},
        market_intensity=0.0,
        water_liters_per_kilowatthour=1.8,
        price={"currency": "EUR", "flat": 0.31},
    )
    policy = wiring.policy

    assert 150_000.0 / (4.0 * 365.25 * 86_400.0) == pytest.approx(policy.embodied_g_per_s["gpu"])
    assert (0.0, 1.8, "EUR") == (
        policy.market_grams_per_kilowatthour,
        policy.water_liters_per_kilowatthour,
        policy.currency,
    )
    assert [0.31] == [rate.amount for rate in wiring.rates(0.0, 1.0)]


def test_a_daemon_without_feeds_does_not_load_what_asks_them() -> None:
    """`requests` takes memory and time that a daemon of one yearly value has no use for."""
    code = (
        "import sys; from monitor.layers import load; from monitor.wiring import wire;"
        "wire(load({'zone': 'DE', 'mock': 'training'}, None).settings); sys.exit('requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent.parent)

    assert 0 == done.returncode
