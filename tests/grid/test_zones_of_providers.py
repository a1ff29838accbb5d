"""Which providers a zone is asked of, in which order; those of other distributions; settings that cannot be meant."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import requests

from monitor.errors import UsageError
from monitor.grid import providers
from monitor.grid.client import Client
from monitor.grid.feed import Account, Ask, Want
from tests.drivers.feedserver import Answer, FeedServer
from tests.grid.case import NOW_S
from tests.sources.test_plugins import EXAMPLE, install

EM = {"electricitymaps": Account(key="k")}
WATTTIME = {"watttime": Account(user="u", password="p")}  # noqa: S106  (of nobody)
RELAY = {"relay": Account(base_url="http://node0:9595")}
HTTP = {"http": Account(base_url="http://meter", options={"value": "v"})}
FILE = {"file": Account(options={"path": "/etc/intensity.csv"})}
NUMBERS = itertools.count()


def _names(zone: str, accounts: Mapping[str, Account], wanted: Sequence[str] | None = None) -> list[str]:
    return [feed.about.name for feed in providers.for_zone(zone, accounts, wanted)]


@pytest.mark.parametrize(
    ("zone", "accounts", "expected"),
    [
        ("GB", {}, ["neso"]),
        ("GB-13", {}, ["neso"]),
        ("FR", {}, ["rte"]),
        ("DK-DK1", {}, ["energinet"]),
        ("DK", {}, []),
        ("DE", {}, []),
        ("US-CAL-CISO", {}, []),
        ("EGRID-CAMX", {}, []),
        ("FR", EM, ["electricitymaps", "rte"]),
        ("GB-13", EM, ["neso"]),
        ("EGRID-CAMX", EM, []),
        ("FR", WATTTIME | EM, ["electricitymaps", "rte", "watttime"]),
        ("FR", EM | HTTP | FILE, ["file", "http", "electricitymaps", "rte"]),
        ("FR", RELAY, ["relay"]),
        ("FR", RELAY | EM, ["relay", "electricitymaps"]),
        ("FR", RELAY | {"rte": Account(base_url="http://proxy")} | FILE, ["file", "relay", "rte"]),
        ("DE", {"energy_charts": Account()}, ["energy_charts"]),
    ],
)
def test_the_default_order(zone: str, accounts: Mapping[str, Account], expected: Sequence[str]) -> None:
    """The user's own, what there is a key for, what needs none and has no strings attached; marginal beside.

    Where another trainwatt relays, only it is asked, and what the settings have a part for.
    """
    assert expected == _names(zone, accounts)


@pytest.mark.parametrize(
    ("zone", "wanted", "expected"),
    [
        ("FR", (), []),
        ("FR", ("energy_charts", "rte"), ["energy_charts", "rte"]),
        ("FR", ("rte", "electricitymaps", "rte"), ["rte", "electricitymaps"]),
        ("DK-DK1", ("neso", "energinet", "rte"), ["energinet"]),
        ("PL", ("neso",), []),
    ],
)
def test_an_order_of_the_settings(zone: str, wanted: Sequence[str], expected: Sequence[str]) -> None:
    """It is kept, and of a mixed site each zone takes those that know it."""
    assert expected == _names(zone, EM, wanted)


@pytest.mark.parametrize(
    ("wanted", "accounts", "says"),
    [
        (("nesso",), {}, "unknown feed 'nesso'; did you mean 'neso'?"),
        (("energycharts",), {}, "did you mean 'energy_charts'?"),
        (("zzz",), {}, "unknown feed 'zzz' (there are file, http, relay, electricitymaps, neso"),
        (None, {"electricity_maps": Account(key="k")}, "did you mean 'electricitymaps'?"),
        (("electricitymaps",), {}, "needs a key: set TRAINWATT_FEED_ELECTRICITYMAPS_KEY, or [feed.electricitymaps]"),
        (
            ("watttime",),
            {"watttime": Account(user="u")},
            "needs a user and a password: set TRAINWATT_FEED_WATTTIME_USER",
        ),
        (("relay",), {}, "feed.relay: set base_url to the other trainwatt"),
        (
            None,
            {"electricitymaps": Account(key="k", options={"version": "v5"})},
            "version = 'v5': expected one of v4, v3",
        ),
        (
            None,
            {"electricitymaps": Account(key="k", options={"base": "x"})},
            "unknown option 'base'; did you mean 'basis'?",
        ),
        (None, {"watttime": Account(user="u", password="p", options={"region": "A B"})}, "region = 'A B'"),  # noqa: S106
    ],
)
def test_what_cannot_be_meant(wanted: Sequence[str] | None, accounts: Mapping[str, Account], says: str) -> None:
    """One line that names the setting and what is expected, with the nearest name."""
    with pytest.raises(UsageError) as refused:
        _names("FR", accounts, wanted)

    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("zone", "accounts", "says"),
    [
        ("FR", {"electricitymaps": Account(options={"basis": "direct"})}, "feed electricitymaps needs a key"),
        ("US-MIDA-PJM", WATTTIME, "WattTime does not know US-MIDA-PJM: see the options of feed.watttime"),
    ],
)
def test_an_account_that_is_of_no_use_is_told(
    zone: str, accounts: Mapping[str, Account], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out, in one line and not in silence."""
    names = _names(zone, accounts)

    assert not accounts.keys() & set(names)
    assert [says in record.message for record in caplog.records] == [True]


Plugin = Callable[[str, str], None]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """Installs a distribution of one module for this process, with a provider of the name."""

    def make(name: str, code: str) -> None:
        number = next(NUMBERS)
        project = tmp_path / f"project-{number}"
        project.mkdir()
        (project / f"feed_plugin_{number}.py").write_text(code)
        (project / "pyproject.toml").write_text(
            f'[project]\nname = "dist-{number:03}"\nversion = "7.1"\n'
            f'[project.entry-points."{providers.GROUP}"]\n{name} = "feed_plugin_{number}:make"\n'
            f'[tool.setuptools]\npy-modules = ["feed_plugin_{number}"]\n'
        )
        install(project, tmp_path / f"site-{number}")
        monkeypatch.syspath_prepend(tmp_path / f"site-{number}")

    return make


def test_the_example_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of another distribution is found through its entry point, asked and understood like ours."""
    install(EXAMPLE, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with FeedServer() as server, requests.Session() as session:
        server.play(
            Answer(body=b'{"rows":[{"at":"2026-11-21T12:15Z","kg_per_mwh":31.5},{"at":"x","kg_per_mwh":null}]}')
        )
        (feed,) = providers.for_zone("XX-RIVERSIDE", {"riverside": Account(base_url=server.base_url)}, None)
        ask = Ask(want=Want.LATEST, zone="XX-RIVERSIDE", at_s=NOW_S, start_s=NOW_S - 3600.0, end_s=NOW_S)
        request = feed.request(ask)
        assert request is not None
        (value,) = feed.parse(ask, Client(session, lambda: NOW_S).get(request, feed.about))

    assert ["/v1/intensity"] == [asked.path for asked in server.asked]
    assert ("riverside", 31.5, "actual", "direct", NOW_S - 720.0) == (
        value.provider,
        value.grams_per_kilowatthour,
        value.quality,
        value.basis,
        value.valid_from_s,
    )
    assert ["riverside"] == _names("XX-RIVERSIDE", {}, ["riverside"])
    assert ["rte"] == _names("FR", {})


WELL = """
from monitor.grid.feed import About
class make:
    about = About(name="{name}", title="T", credit="C", cadence_s=60.0)
    def __init__(self, account): pass
    def knows(self, zone): return True
    def request(self, ask): return None
    def parse(self, ask, answer): return ()
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def make(account): raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("def make(account): return None", "AttributeError"),
        ("this is no Python", "SyntaxError"),
        (WELL.format(name="other"), "about.name is 'other', not 'fine'"),
        (WELL.replace("def parse", "def pars").format(name="fine"), "parse"),
        (WELL.replace("return True", "return 1 / 0").format(name="fine"), "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("wanted", [None, ("fine", "rte")])
def test_a_broken_one_is_a_line(
    plugin: Plugin, code: str, says: str, wanted: Sequence[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out and told, and stops nobody: not where the settings name it, nor where it is merely there."""
    plugin("fine", code)
    names = _names("FR", {"fine": Account(key="k")}, wanted)

    assert ["rte"] == names
    (record,) = caplog.records
    assert says in record.message
    assert "fine" in record.message
    assert "\n" not in record.message
    assert record.message.endswith("repair or uninstall it")


@pytest.mark.parametrize("name", ["rte", "Fine", "x" * 40])
def test_a_name_that_it_cannot_have(plugin: Plugin, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can pass for another provider: its name is a label."""
    plugin(name, WELL.format(name=name))

    assert ["rte"] == _names("FR", {})
    assert [f"the feed {name} of dist-" in record.message for record in caplog.records] == [True]


def test_of_two_with_one_name_the_first_is_used(plugin: Plugin, caplog: pytest.LogCaptureFixture) -> None:
    """By the name of the distribution; the other is told."""
    plugin("fine", WELL.format(name="fine"))
    plugin("fine", WELL.format(name="fine"))

    assert ["rte", "fine"] == _names("FR", {})
    assert ["another provider has its name" in record.message for record in caplog.records] == [True]
