"""Settings in tables: accounts, prices, embodied shares, budgets. Secrets by environment or file only, masked."""

import os
from pathlib import Path
from typing import Any

import pytest

from monitor.errors import UsageError
from monitor.layers import Loaded, load
from monitor.wiring import Wiring, account, wire
from tests.harness.daemon import command

SECRET = "q7-the-key"  # noqa: S105  (what must be seen nowhere)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file that only its owner may read."""
    path = tmp_path / "trainwatt.toml"
    path.touch(0o600)
    return path


def test_tables_become_settings(file: Path) -> None:
    """All of them at once, as a user writes them."""
    file.write_text(
        """
        cloud_region = "aws:us-east-1"
        device_zones = { GPU-1 = "FR" }
        market_intensity = 0
        water_liters_per_kilowatthour = 1.8
        relay = true
        [feeds]
        DE = ["electricitymaps", "energy_charts"]
        FR = "none"
        [feed.electricitymaps]
        base_url = "https://proxy.example.org/em/"
        key = "q7-the-key"
        past_range = true
        [price]
        currency = "EUR"
        flat = 0.31
        [embodied.gpu]
        kilograms = 150
        years = 4
        [budget]
        energy_kwh = 500
        [budget.project."vision 2"]
        cost = 40
        """
    )
    settings = load({}, file).settings
    feed = account(settings.feed["electricitymaps"])

    assert ("aws:us-east-1", {"GPU-1": "FR"}, True) == (settings.cloud_region, settings.device_zones, settings.relay)
    assert (0.0, 1.8) == (settings.market_intensity, settings.water_liters_per_kilowatthour)
    assert {"DE": ("electricitymaps", "energy_charts"), "FR": ()} == settings.feeds
    assert ("https://proxy.example.org/em", SECRET, {"past_range": "true"}) == (feed.base_url, feed.key, feed.options)
    assert settings.price is not None
    assert ("EUR", 0.31) == (settings.price.currency, settings.price.flat)
    assert (150.0, 4.0) == (settings.embodied["gpu"].kilograms, settings.embodied["gpu"].years)
    assert settings.budget is not None
    assert (500.0, None, 40.0) == (
        settings.budget.energy_kwh,
        settings.budget.co2e_kg,
        settings.budget.project["vision 2"].cost,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[feed.electricitymaps]\nkye = "q7-the-key"\n', "unknown key 'kye'; did you mean 'key'?"),
        ('[feed.electricitymaps]\npasword = "q7-the-key"\n', "unknown key 'pasword'; did you mean 'password'?"),
        ('[feed.electricitymaps]\nkey = ["q7-the-key"]\n', "feed.electricitymaps.key (file"),
        ('[feed]\nkey = "q7-the-key"\n', "feed.key = (hidden)"),
        ('[feed.neso]\nbase_url = "https://me:q7-the-key@example.org"\n', "without user, password"),
        ('[feed.neso]\nbase_url = "https://example.org?key=q7-the-key"\n', "without user, password"),
        ('[feed.neso]\nbase_url = "ftp://example.org"\n', "expected an address such as"),
        ('[feed.neso]\nkey = "q7-the-key"\nkey_file = "/x"\n', "either key or key_file"),
        ('[feed.neso.options]\nkey = "q7-the-key"\n', "expected text, a number or true or false for options"),
        ('feed = "q7-the-key"\n', "feed = (hidden)"),
        ('[price]\ncurrency = "EUR"\nflt = 1\n', "unknown key 'price.flt' (file"),
        ('[price]\ncurrency = "EUR"\nflt = 1\n', "did you mean 'price.flat'?"),
        ("[price]\nflat = 1\n", "price.currency (file"),
        ('[price]\ncurrency = "EUR"\ntimes = [{form = "22:00"}]\ntimezone = "UTC"\n', "price.times.0.from"),
        ("[embodied.gpu]\nkilogram = 1\nyears = 2\n", "embodied.gpu.kilograms"),
        ("[embodied.gpu]\nkilograms = 1\nyears = 0\n", "embodied.gpu.years = 0 (file"),
        ('cloud_region = "us-east-1"\n', "such as aws:us-east-1"),
        ("feeds = [1]\n", "electricitymaps,neso, or none"),
        ("market_intensity = -1\n", "market_intensity = -1"),
        ("[budget]\nenergy = 5\n", "budget (file"),
        ("[budget]\nenergy = 5\n", "unknown key 'energy'; did you mean 'energy_kwh'?"),
        ("[budget]\nkwh = 5\n", "unknown key 'kwh'; there is: energy_kwh, co2e_kg, cost, project"),
        ("[budget.projects.vision]\ncost = 5\n", "unknown key 'projects'; did you mean 'project'?"),
        ("[budget.project.vision]\nco2_kg = 5\n", "budget.project.vision (file"),
        ("[budget.project.vision]\nco2_kg = 5\n", "unknown key 'co2_kg'; did you mean 'co2e_kg'?"),
        ("[budget.project]\nvision = 5\n", "budget.project.vision = 5 (file"),
        ("[budget]\nenergy_kwh = 0\n", "budget.energy_kwh = 0 (file"),
        ("[budget]\nco2e_kg = -1.5\n", "budget.co2e_kg = -1.5 (file"),
        ("[budget]\ncost = inf\n", "budget.cost = inf (file"),
        ("[budget.project.vision]\ncost = nan\n", "budget.project.vision.cost = nan (file"),
        ("[budget]\ncost = 1e12\n", "budget.cost = 1000000000000.0 (file"),
        ("budget = 500\n", "budget = 500 (file"),
        ("[budgets]\ncost = 5\n", "did you mean 'budget'?"),
        ('device_zone = { GPU-1 = "FR" }\n', "did you mean 'device_zones'?"),
    ],
)
def test_a_mistake_is_one_line_without_a_secret(file: Path, text: str, says: str) -> None:
    """What is wrong, where it stands, what is expected; of an account no value at all."""
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load({}, file)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_with_a_key_is_its_owners_alone(file: Path, mode: int) -> None:
    """Also a file of the key alone; a configuration without a key may be read by all."""
    file.write_text(f'[feed.electricitymaps]\nkey = "{SECRET}"\n')
    key = file.with_name("em.key")
    key.write_text(f"{SECRET}\n")
    key.chmod(0o600)
    assert SECRET == account(load({}, file).settings.feed["electricitymaps"]).key
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"may be read by others, and it contains a key: chmod 600 {file}"):
        load({}, file)
    file.write_text(f'[feed.electricitymaps]\nkey_file = "{key}"\n')
    table = load({}, file).settings.feed["electricitymaps"]

    assert SECRET == account(table).key
    key.chmod(mode)
    with pytest.raises(UsageError, match=f"it holds a secret: chmod 600 {key}"):
        account(table)


@pytest.mark.parametrize("body", [b"", b"  \n", b"one\ntwo\n", b"\xff\xfe"])
def test_a_file_that_holds_no_key_is_named(file: Path, body: bytes) -> None:
    """Empty, several lines, no text; and one that is not there."""
    key = file.with_name("em.key")
    file.write_text(f'[feed.electricitymaps]\nkey_file = "{key}"\n')
    table = load({}, file).settings.feed["electricitymaps"]
    with pytest.raises(UsageError, match=f"cannot read {key}"):
        account(table)
    key.write_bytes(body)
    key.chmod(0o600)
    with pytest.raises(UsageError, match=str(key)):
        account(table)


def test_an_account_is_laid_together_from_file_and_environment(file: Path) -> None:
    """The key of the environment replaces the file's way to it; the rest of the table stays. No value is shown."""
    file.write_text(
        '[feed.electricitymaps]\nkey_file = "/no/such/file"\nversion = "v3"\n[feed.energy_charts]\nbase_url = "http://e"\n'
    )
    done = command(
        "config",
        *("--config", str(file)),
        env={
            "TRAINWATT_FEED_ELECTRICITYMAPS_KEY": SECRET,
            "TRAINWATT_FEED_WATTTIME_USER": "someone",
            "TRAINWATT_FEED_WATTTIME_PASSWORD": SECRET,
            "TRAINWATT_FEED_ENERGY_CHARTS_BASE_URL": "http://other",
            "TRAINWATT_FEEDS": "energy_charts, watttime",
            "TRAINWATT_FEED_NESO_KEYS": "1",
        },
    )
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}

    assert 0 == done.returncode
    assert "electricitymaps: key **********, version" in rows["feed"]
    assert "watttime: user someone, password **********" in rows["feed"]
    assert "energy_charts: base_url http://other" in rows["feed"]
    assert f"file {file}, environment" in rows["feed"]
    assert "energy_charts, watttime" in rows["feeds"]
    assert SECRET not in done.stdout + done.stderr
    assert "TRAINWATT_FEED_NESO_KEYS in the environment is no setting of trainwatt" in done.stderr
    assert 1 == done.stderr.count("\n")


def test_budgets_are_shown_with_where_they_are_from(file: Path) -> None:
    """Of the file, or as a JSON object of the environment."""
    file.write_text("[budget]\nenergy_kwh = 500\n[budget.project.vision]\ncost = 40\n")
    of_file = command("config", "--config", str(file)).stdout
    of_environment = command("config", env={"TRAINWATT_BUDGET": '{"co2e_kg": 120}'}).stdout
    rows = [line for text in (of_file, of_environment) for line in text.splitlines() if line.startswith("budget")]

    assert 2 == len(rows)
    assert f"file {file}" in rows[0]
    assert "energy_kwh 500.0" in rows[0]
    assert "'vision': {'cost': 40.0}" in rows[0]
    assert "co2e_kg 120.0" in rows[1]
    assert "environment" in rows[1]


def test_budgets_reach_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    """In joules, grams and money; the table of a project completes the general one. Money without a price is told."""
    tables = {"energy_kwh": 2.0, "co2e_kg": 3.0, "project": {"vision": {"cost": 4.0}, "language": {"co2e_kg": 1.0}}}

    def wired(**settings: Any) -> Wiring:
        return wire(load({"mock": "training", **settings}, None).settings)

    caplog.set_level("INFO")
    policy = wired(budget=tables).policy

    assert (7.2e6, 3000.0, None) == policy.budget
    assert {"vision": (7.2e6, 3000.0, 4.0), "language": (7.2e6, 1000.0, None)} == policy.project_budgets
    assert ["budget: cost can never be exceeded, since no price is set"] == [
        record.message.partition(";")[0] for record in caplog.records
    ]
    caplog.clear()
    wired(budget=tables, price={"currency": "EUR", "flat": 0.31})
    wired(budget={"energy_kwh": 2.0})

    assert not caplog.records
    assert ((None, None, None), {}) == (wired().policy.budget, wired().policy.project_budgets)


def test_what_is_no_json_in_the_environment_is_one_line() -> None:
    """Tables come as JSON objects there; of an account the value is no part of the line."""
    for name, says in (
        ("FEED", "TRAINWATT_FEED in the environment: expected JSON, such as an object"),
        ("PRICE", "price = 'q7-the-key' (environment): expected a table; in the environment, a JSON object"),
    ):
        done = command("config", env={f"TRAINWATT_{name}": SECRET})

        assert (2, f"trainwatt: {says}\n") == (done.returncode, done.stderr)


def test_no_secret_is_in_any_words_about_the_settings(file: Path) -> None:
    """Neither in their repr nor in that of what was loaded."""
    file.write_text(f'[feed.watttime]\nuser = "u"\npassword = "{SECRET}"\n')
    loaded: Loaded = load({}, file)

    assert SECRET not in repr(loaded.settings) + str(loaded.settings) + repr(vars(loaded))
    assert not any(SECRET in value for value in os.environ.values())
