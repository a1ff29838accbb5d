"""Which providers there are, and which of them are asked for a zone, in order.

Others come from distributions with an entry point in the group `trainwatt.feeds`, under the provider's name:

    [project.entry-points."trainwatt.feeds"]
    nordgrid = "trainwatt_nordgrid:Nordgrid"

`Nordgrid(account)` satisfies `monitor.grid.feed.Feed`, which is the contract; `about.name` is the entry's name. It may
raise UsageError for settings that are wrong. A provider that cannot be used is told in one line and left out.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import cast

from monitor.errors import UsageError
from monitor.grid.electricitymaps import ElectricityMaps
from monitor.grid.energinet import Energinet
from monitor.grid.energy_charts import EnergyCharts
from monitor.grid.feed import About, Account, Feed, LogsIn
from monitor.grid.neso import Neso
from monitor.grid.options import nearest
from monitor.grid.own import OwnFile, OwnHttp
from monitor.grid.relay import Relay
from monitor.grid.rte import Rte
from monitor.grid.watttime import WattTime

LOG = logging.getLogger("trainwatt")
GROUP = "trainwatt.feeds"
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
LONGEST_TEXT = 300

Make = Callable[[Account], Feed]

BUILT_IN: Mapping[str, Make] = MappingProxyType(
    {
        "file": OwnFile,
        "http": OwnHttp,
        "relay": Relay,
        "electricitymaps": ElectricityMaps,
        "neso": Neso,
        "rte": Rte,
        "energinet": Energinet,
        "energy_charts": EnergyCharts,
        "watttime": WattTime,
    }
)
"""In the order in which they are asked where the settings name none: the user's own meter wins, the average of a
provider with a key goes before the national ones, the marginal signal stands beside."""
OWN = ("file", "http", "relay")
"""Used where the settings have a part for them."""


class _Unusable(Exception):
    """A provider of another distribution is defective. `str(error)` is one line for people."""


def known() -> Mapping[str, Make]:
    """Every provider by its name: the built-in ones first, then those of other distributions."""
    makes = dict(BUILT_IN)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _distribution(entry))):
        what = f"the feed {entry.name} of {_distribution(entry)} cannot be used"
        if not NAME.fullmatch(entry.name):
            LOG.warning("%s: its name is not of lower-case letters, digits and _; uninstall it", what)
        elif entry.name in makes:
            LOG.warning("%s: another provider has its name; uninstall it", what)
        else:
            makes[entry.name] = _checked(entry, what)
    return MappingProxyType(makes)


def for_zone(
    zone: str,
    accounts: Mapping[str, Account],
    wanted: Sequence[str] | None,
    *,
    makes: Mapping[str, Make] | None = None,
) -> list[Feed]:
    """The providers to ask for a zone, in order; those that do not know it are left out.

    `wanted` are names in order, () = none; None = the default: the user's own, then what there is a key for, then those
    that need none. Where another trainwatt relays, only what the settings have a part for is asked beside it, so that
    a provider sees one client a site. `makes` is what `known()` gave, where several zones ask. Raises UsageError.
    """
    makes = known() if makes is None else makes
    for name in [*(wanted or ()), *accounts]:
        if name not in makes:
            raise UsageError(f"unknown feed {name!r}{nearest(name, makes)} (there are {', '.join(makes)})")
    if wanted is not None:
        named = _made(dict.fromkeys(wanted), makes, accounts)
        for feed in named:
            if not _has_key(feed, accounts):
                raise UsageError(_needs(feed))
        return [feed for feed in named if _knows(feed, zone)]
    feeds = []
    for feed in _made([name for name in makes if name in accounts or name not in OWN], makes, accounts):
        is_set = feed.about.name in accounts
        if is_set and not _has_key(feed, accounts):
            LOG.warning("%s; it is left out", _needs(feed))
        elif (is_set or not (feed.about.needs_key or feed.about.opt_in)) and _knows(feed, zone):
            feeds.append(feed)
        elif is_set and feed.about.needs_key:
            LOG.warning("%s does not know %s: see the options of feed.%s", feed.about.title, zone, feed.about.name)
    has_relay = any(feed.about.name == "relay" for feed in feeds)
    return [feed for feed in feeds if not has_relay or feed.about.name in accounts]


def _made(names: Iterable[str], makes: Mapping[str, Make], accounts: Mapping[str, Account]) -> list[Feed]:
    """Those of them that can be used; a defect is told and left out, a wrong setting is a UsageError."""
    feeds = []
    for name in names:
        try:
            feeds.append(makes[name](accounts.get(name, Account())))
        except _Unusable as error:
            LOG.warning("%s; repair or uninstall it", error)
    return feeds


def _checked(entry: EntryPoint, what: str) -> Make:
    """What an entry point gives, looked at before anybody relies on it."""

    def make(account: Account) -> Feed:
        try:
            feed = entry.load()(account)
            name = feed.about.name
            for method in ("knows", "request", "parse"):
                getattr(feed, method)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # whatever a plug-in does, the daemon starts
            raise _Unusable(f"{what}: {_told(error)}") from error
        if not isinstance(feed.about, About) or name != entry.name:
            raise _Unusable(f"{what}: about.name is {name!r}, not {entry.name!r}")
        return cast(Feed, feed)

    return make


def _knows(feed: Feed, zone: str) -> bool:
    try:
        return bool(feed.knows(zone))
    except Exception as error:  # noqa: BLE001  (as above)
        LOG.warning("the feed %s cannot be used: %s; repair or uninstall it", feed.about.name, _told(error))
        return False


def _has_key(feed: Feed, accounts: Mapping[str, Account]) -> bool:
    account = accounts.get(feed.about.name, Account())
    given = account.user and account.password if isinstance(feed, LogsIn) else account.key
    return bool(given) or not feed.about.needs_key


def _needs(feed: Feed) -> str:
    name = feed.about.name
    words = ("user", "password") if isinstance(feed, LogsIn) else ("key",)
    variables = " and ".join(f"TRAINWATT_FEED_{name.upper()}_{word.upper()}" for word in words)
    return f"feed {name} needs a {' and a '.join(words)}: set {variables}, or [feed.{name}] in the configuration file"


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_TEXT]
