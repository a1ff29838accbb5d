"""What the settings ask for, built but not started: sources, grid, policy, and where the ledger is."""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from monitor import clock
from monitor.config import Settings
from monitor.core import budget
from monitor.core.model import Instant, Intensity, RunBook
from monitor.core.ports import Now, Runs, Source
from monitor.core.pricing import embodied_g_per_s
from monitor.core.snapshot import Budget, Policy
from monitor.errors import UsageError
from monitor.grid import metadata, static, zones
from monitor.grid.feed import Account, Feed
from monitor.grid.options import nearest
from monitor.grid.prices import Prices, prices
from monitor.secret_files import read_secret
from monitor.tables import FeedTable

LOG = logging.getLogger("trainwatt")
STALE_AFTER_TURNS = 3
SHORTEST_STALE_S = 5.0
LONGEST_WAIT_S = 15.0
"""So long joules wait to be told whose they are (DESIGN.md section 4)."""
SYSTEM_STATE = Path("/var/lib/trainwatt")
MACHINE_ID = Path("/etc/machine-id")


class Together:
    """The simulated runs of the mock, and those that real jobs register beside them."""

    def __init__(self, *books: Runs) -> None:
        self._books = books

    def runs(self, at: Instant) -> RunBook:
        """All of them."""
        books = [book.runs(at) for book in self._books]
        return RunBook(
            runs=tuple(run for book in books for run in book.runs),
            dropped=sum(book.dropped for book in books),
            altered=sum(book.altered for book in books),
        )


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the settings ask for, built but not started."""

    sources: Sequence[Source]
    simulated: Runs | None
    zone: str | None
    """Of the node; `policy.zone_found` says how it was found."""
    plans: Mapping[str, Sequence[Feed]]
    """Providers of each zone of the node, in order; none where only the yearly value is known."""
    plan_of: Callable[[str], Sequence[Feed]]
    """Providers of any zone, for those who ask this machine as a relay. Raises UsageError: there is no such zone."""
    statics: Mapping[str, Intensity]
    """Yearly value of each zone of the node."""
    rates: Prices
    grid: static.StaticGrid
    """The yearly values alone, for where there is no feed to ask."""
    policy: Policy
    has_processes: bool
    """Whether the devices are this machine's, so that its processes are those that use them."""
    is_relay: bool = False
    """Whether it answers other trainwatts."""

    @property
    def needs_feeding(self) -> bool:
        """Whether there is anything to look after: a zone to price, a price of electricity, others who ask."""
        return bool(self.statics or self.policy.currency or self.is_relay)


def wire(settings: Settings, *, now: Now = clock.now, services: metadata.Services | None = None) -> Wiring:
    """Build the parts. Nothing is opened yet, and nobody asked but the cloud's metadata service where that is allowed.

    Raises UsageError for settings that cannot be meant.
    """
    place = zones.locate(settings.zone, settings.cloud_region, _metadata(settings, services))
    of_devices = zones.device_zones(settings.device_zones)
    all_zones = list(dict.fromkeys([*([place.zone] if place.zone else []), *of_devices.values()]))
    plan_of = _plans(settings)
    statics = {
        zone: static.intensity(zone, cloud_region=place.cloud_region if zone == place.zone else "")
        for zone in all_zones
    }
    sources, simulated = _sources(settings, now)
    has_processes = settings.mock is None
    of_any_run, of_projects = _budgets(settings)
    policy = Policy(
        pue_ratio=settings.pue,
        zone=place.zone,
        zone_found=place.found,
        zones=of_devices,
        embodied_g_per_s={
            name: embodied_g_per_s(table.kilograms, table.years) for name, table in settings.embodied.items()
        },
        market_grams_per_kilowatthour=settings.market_intensity,
        water_liters_per_kilowatthour=settings.water_liters_per_kilowatthour,
        currency=settings.price.currency if settings.price is not None else "",
        budget=of_any_run,
        project_budgets=of_projects,
        stale_after_s=max(SHORTEST_STALE_S, STALE_AFTER_TURNS * settings.interval),
        owner_wait_s=LONGEST_WAIT_S if has_processes else 0.0,
        usage_wait_s=LONGEST_WAIT_S if has_processes else 0.0,
    )
    return Wiring(
        sources=sources,
        simulated=simulated,
        zone=place.zone,
        plans={zone: plan_of(zone) for zone in all_zones},
        plan_of=plan_of,
        statics=statics,
        rates=prices(settings.price),
        grid=static.StaticGrid(None, tuple(statics.values())),
        policy=policy,
        has_processes=has_processes,
        is_relay=settings.relay,
    )


def _budgets(settings: Settings) -> tuple[Budget, Mapping[str, Budget]]:
    """What any run may use, and a run of each project that is named."""
    table = settings.budget
    if table is None:
        return Budget(), {}
    of_any_run = budget.of_settings(table.amounts())
    of_projects = {name: budget.of_settings(own.amounts(), of_any_run) for name, own in table.project.items()}
    if settings.price is None and any(one.cost is not None for one in (of_any_run, *of_projects.values())):
        # A line of the daemon: verbs that only ask for the wiring do not show what is below a warning.
        LOG.info("budget: cost can never be exceeded, since no price is set; set one with [price] in the settings file")
    return of_any_run, of_projects


def _metadata(settings: Settings, services: metadata.Services | None) -> Callable[[], str | None] | None:
    if not settings.cloud_metadata:
        return None
    return lambda: metadata.region(services or metadata.Services())


def _plans(settings: Settings) -> Callable[[str], Sequence[Feed]]:
    """Providers of a zone. Raises UsageError here for accounts and names that cannot be meant."""
    if settings.feeds == ():
        return lambda _zone: ()
    from monitor.grid import providers

    known = providers.known()
    for name in settings.feed:
        if name not in known:
            raise UsageError(f"feed.{name}: there is no such provider{nearest(name, known)}; there is: {_list(known)}")
    accounts = {name: account(table) for name, table in settings.feed.items()}
    feeds = settings.feeds
    by_zone = {static.resolve_zone(zone): names for zone, names in feeds.items()} if isinstance(feeds, dict) else {}
    of_all = None if isinstance(feeds, dict) else feeds

    def plan_of(zone: str) -> Sequence[Feed]:
        known_zone = static.resolve_zone(zone)
        return providers.for_zone(known_zone, accounts, by_zone.get(known_zone, of_all), makes=known)

    return plan_of


def account(table: FeedTable) -> Account:
    """What the settings say of a provider, its secrets read. Raises UsageError: a file that others may read."""
    options = {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in table.options.items()
    }
    return Account(
        base_url=table.base_url,
        key=_secret(table.key, table.key_file),
        user=table.user,
        password=_secret(table.password, table.password_file),
        options=options,
    )


def _secret(given: SecretStr | None, file: Path | None) -> str:
    if file is not None:
        return read_secret(file)
    return given.get_secret_value() if given is not None else ""


def _list(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names))


def _sources(settings: Settings, now: Now) -> tuple[Sequence[Source], Runs | None]:
    if settings.mock is None:
        from monitor.sources import machine

        return machine.sensors(settings, now=now), None
    from monitor.sources import mock, replay

    file = Path(settings.mock)
    if settings.mock not in mock.SCENARIOS and file.exists():
        return replay.replay(file, now=now), None
    node = mock.Mock(settings.mock, now=now, interval_s=settings.interval)
    return [node], node


def state_directory(settings: Settings) -> Path:
    """Where the ledger is: as set, else the system's for root, else the user's for this machine (XDG base directories).

    Home directories are often shared between machines, so an ordinary user's is named after the machine.
    """
    if settings.state_dir is not None:
        return settings.state_dir
    if os.geteuid() == 0:
        return SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    try:
        machine = MACHINE_ID.read_text("ascii", "replace").strip()
    except OSError:
        machine = ""
    return home / "trainwatt" / (machine or node_name())


def node_name() -> str:
    """What reports call this machine."""
    return socket.gethostname()
