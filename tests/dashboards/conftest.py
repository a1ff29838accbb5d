"""A daemon on simulated devices and a real Prometheus that scrapes it once a second, once for this folder."""

from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon, daemon
from tests.harness.prometheus import Prometheus, prometheus

SCRAPES = 5
"""A rate over four scrape intervals needs two samples in it, and the mock books its first energy at the second turn."""


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with simulated devices, runs and a grid zone."""
    with daemon("--mock", "--zone", "DE", log=tmp_path_factory.mktemp("daemon") / "log") as running:
        yield running


@pytest.fixture(scope="package")
def scraped(served: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the daemon a few times."""
    with prometheus([f"127.0.0.1:{served.port}"], tmp_path_factory.mktemp("prometheus")) as running:
        running.wait_for_scrapes(SCRAPES)
        yield running
