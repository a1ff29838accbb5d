from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import need
from tests.harness.daemon import Daemon
from tests.harness.daemon import daemon as serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DASH = "\N{EN DASH}"
HOSTILE = '<img src=x onerror="document.body.id=1">'


@dataclass
class Opened:
    """The page in a browser, and what it complained about."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One Chromium for all tests here."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need.missing("the Python package playwright")
    chromium = need.chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that outlives the test: those that end theirs start their own."""
    with serving("--mock", "--zone", "DE", log=tmp_path_factory.mktemp("daemon") / "log") as running:
        yield running


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Opened]:
    """An empty tab that writes down errors."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    tab = Opened(context.new_page())
    tab.page.on("console", lambda message: tab.complaints.append(message.text) if message.type == "error" else None)
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    yield tab
    tab.page.unroute_all(behavior="wait")  # the page asks each second: an answer may be on its way through a route
    context.close()


def _live(page: "Page", url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#state .live")


def _altered(change: Callable[[dict[str, Any]], None]) -> Callable[["Route"], None]:
    """A route that lets the daemon answer and changes the answer."""

    def handle(route: "Route") -> None:
        answer = route.fetch()
        document = answer.json()
        change(document)
        route.fulfill(response=answer, json=document)

    return handle


def _text(page: "Page", selector: str) -> str:
    return page.locator(selector).inner_text().replace("\u00a0", " ")


def test_simulated_devices_carry_a_banner(daemon: Daemon, opened: Opened) -> None:
    """Whoever looks at simulated devices is told that nothing was measured."""
    _live(opened.page, daemon.url)

    assert _text(opened.page, "#simulated") == "Simulated devices. Nothing here was measured."


def test_measured_devices_carry_no_banner(daemon: Daemon, opened: Opened) -> None:
    """The banner is shown for simulated devices only."""
    opened.page.route("**/api/v1/snapshot", _altered(lambda document: document.update(simulated=False)))
    _live(opened.page, daemon.url)

    assert opened.page.locator("#simulated").count() == 0


def test_power_is_that_of_the_api(daemon: Daemon, opened: Opened) -> None:
    """The headline is the node's power to the three digits shown."""
    answers: list[float] = []

    def note(document: dict[str, Any]) -> None:
        # One answer for good, so that what is shown and what is compared cannot be of two seconds.
        if not answers:
            answers.append(document["node"]["measured_power_w"])
        document["node"]["measured_power_w"] = answers[0]

    opened.page.route("**/api/v1/snapshot", _altered(note))
    _live(opened.page, daemon.url)
    number, unit = _text(opened.page, "#power").split()
    shown_w = float(number) * {"W": 1.0, "kW": 1000.0}[unit]

    assert shown_w == pytest.approx(answers[0], rel=0.005)


def test_power_follows_the_api(daemon: Daemon, opened: Opened) -> None:
    """A new answer replaces the figure without a reload."""
    _live(opened.page, daemon.url)
    assert _text(opened.page, "#power") != "50.0 kW"

    opened.page.route(
        "**/api/v1/snapshot",
        _altered(lambda document: document["node"].update(measured_power_w=50_000.0)),
    )
    opened.page.wait_for_function("() => document.querySelector('#power').textContent === '50.0\u00a0kW'")


def test_every_device_is_in_the_table(daemon: Daemon, opened: Opened) -> None:
    """The table has one row for each device of the API, under its name."""
    _live(opened.page, daemon.url)
    rows = opened.page.locator("#devices tbody tr")
    shown = rows.evaluate_all("rows => rows.map(row => [row.dataset.id, row.querySelector('b').textContent])")

    assert sorted((device["id"], device["id"]) for device in daemon.snapshot()["devices"]) == sorted(map(tuple, shown))


def test_grid_and_grams_name_their_provenance(daemon: Daemon, opened: Opened) -> None:
    """The intensity stands with zone, provider, quality and basis, and the grams with basis and quality."""
    _live(opened.page, daemon.url)
    slot = daemon.snapshot()["grid"][0]
    headline = _text(opened.page, "#headline")

    assert "Grid intensity in DE" in headline
    assert f"{slot['grams_per_kilowatthour']:.0f} g CO₂e/kWh" in headline
    assert slot["provider"] in headline
    assert f"static yearly value · {slot['basis']} basis" in headline
    assert "lifecycle basis · simulated, not measured" in headline


def test_grams_of_two_bases_are_two_figures(daemon: Daemon, opened: Opened) -> None:
    """Grams of different bases are never added."""

    def two_bases(document: dict[str, Any]) -> None:
        document["node"]["emissions_g"] = [
            {"method": "counter", "basis": basis, "quality": "actual", "emissions_g": grams}
            for basis, grams in (("lifecycle", 300.0), ("direct", 20.0))
        ]

    opened.page.route("**/api/v1/snapshot", _altered(two_bases))
    _live(opened.page, daemon.url)
    figures = opened.page.locator("#headline .card:nth-child(3) .figure").all_inner_texts()

    assert [figure.replace("\u00a0", " ") for figure in figures] == ["300 g CO₂e", "20.0 g CO₂e"]


def test_a_value_that_is_absent_is_a_dash_with_a_reason(daemon: Daemon, opened: Opened) -> None:
    """Unknown power is a dash that says why, and the chart counts the silent device."""

    def silence(document: dict[str, Any]) -> None:
        document["devices"][0]["power_w"] = None

    opened.page.route("**/api/v1/snapshot", _altered(silence))
    _live(opened.page, daemon.url)
    cell = opened.page.locator("#devices tbody tr").filter(has_text="mock-gpu-0").locator(".power b")

    assert cell.inner_text().split(None, 1) == [DASH, "it gave no reading"]
    assert "1 device gave no reading" in _text(opened.page, "#legend")


def test_idle_power_and_joules_that_wait_are_shown(daemon: Daemon, opened: Opened) -> None:
    """Where it is known how little a device draws, and while it is not known whose its last joules are."""

    def wait(document: dict[str, Any]) -> None:
        document["devices"][0] |= {"idle_power_w": 61.5, "pending_energy_j": 7200.0}
        document["devices"][1] |= {"idle_power_w": None, "pending_energy_j": 0.0}

    opened.page.route("**/api/v1/snapshot", _altered(wait))
    _live(opened.page, daemon.url)
    rows = [row.replace("\u00a0", " ") for row in opened.page.locator("#devices tbody tr").all_inner_texts()]

    assert 1 == sum("idle 61.5 W" in row for row in rows)
    assert 1 == sum("+ 2.00 Wh pending" in row for row in rows)


def test_what_lies_within_another_device_is_shown_and_not_added(daemon: Daemon, opened: Opened) -> None:
    """A device within another has its row, is no band of the chart, and is named among what is not included."""

    def nest(document: dict[str, Any]) -> None:
        outer = {**document["devices"][0], "id": "psys-0", "component": "platform", "within": "node", "power_w": 9e3}
        document["devices"].append(outer)

    opened.page.route("**/api/v1/snapshot", _altered(nest))
    _live(opened.page, daemon.url)
    opened.page.get_by_text("by part").click()

    assert "9.00 kW" in _text(opened.page, "#devices tr[data-id=psys-0]")
    assert opened.page.locator("#legend li > span:nth-child(2)").all_inner_texts() == ["DRAM", "CPU", "GPU"]
    assert "psys-0: shown, but not added" in _text(opened.page, "#included .missing")


def test_the_chart_shows_the_power_of_runs_and_of_the_rest(daemon: Daemon, opened: Opened) -> None:
    """The legend lists every run and what no run holds, and pointing at the chart asks for an earlier moment."""
    _live(opened.page, daemon.url)
    # Two readings make a line.
    opened.page.wait_for_function("() => /L/.test(document.querySelector('#chart path[stroke]').getAttribute('d'))")
    names = opened.page.locator("#legend li > span:nth-child(2)").all_inner_texts()
    opened.page.focus("#chart")
    opened.page.keyboard.press("ArrowLeft")

    assert names == ["no run", "vision-finetune", "llm-pretrain"]
    assert opened.page.locator("#legend h3").inner_text().endswith("ago")


def test_a_problem_and_its_remedy_are_shown(daemon: Daemon, opened: Opened) -> None:
    """A sensor that is down says what cures it."""
    remedy = "permission denied; run setfacl -m u:trainwatt:r energy_uj"
    opened.page.route(
        "**/api/v1/snapshot",
        _altered(lambda document: document["sources"][0].update(up=False, problem=remedy, failures={"denied": 3})),
    )
    _live(opened.page, daemon.url)

    assert _text(opened.page, "#sources .problem") == remedy
    assert _text(opened.page, "#sources .down") == "down"
    assert "denied \N{MULTIPLICATION SIGN} 3" in _text(opened.page, "#sources")


def test_the_page_complains_about_nothing_and_asks_nobody_else(daemon: Daemon, opened: Opened) -> None:
    """A few turns raise no error in the console and send no request to another host."""
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    _live(opened.page, daemon.url)
    for _turn in range(3):
        with opened.page.expect_response("**/api/v1/snapshot"):
            pass

    assert opened.complaints == []
    assert {url for url in asked if not url.startswith((daemon.url, "data:"))} == set()


def test_names_are_text(daemon: Daemon, opened: Opened) -> None:
    """Markup in a name, an id, a tag, a phase, a device or a problem is shown as it is, and nothing of it executed."""

    def rename(document: dict[str, Any]) -> None:
        words = {"name": HOSTILE, "user": HOSTILE, "project": HOSTILE, "id": HOSTILE, "tags": {HOSTILE: HOSTILE}}
        document["runs"][0].update(words, phase_energy_j={HOSTILE: 1.0}, holds=[HOSTILE])
        document["devices"][0]["model"] = HOSTILE
        document["sources"][0]["problem"] = HOSTILE
        document["ledger"] = HOSTILE
        document["ledger_health"]["problem"] = HOSTILE

    opened.page.route("**/api/v1/snapshot", _altered(rename))
    _live(opened.page, daemon.url)

    assert opened.page.locator("#runs tbody tr:first-child b").first.inner_text() == HOSTILE
    assert opened.page.locator(f"#runs details span[title='{HOSTILE}']").count() == 1
    assert HOSTILE in _text(opened.page, "#ledger")
    assert opened.page.locator("img").count() == 0
    assert opened.page.locator("body").get_attribute("id") is None


def _first_run(page: "Page", head: str) -> str:
    return _text(page, f"#runs tbody tr:first-child td[data-head='{head}']")


def test_progress_and_phases_are_shown_where_they_are_told(daemon: Daemon, opened: Opened) -> None:
    """Steps, tokens and the part that is done stand in the run's row; phases with their energy behind a click."""

    def tell(document: dict[str, Any]) -> None:
        run = document["runs"][0]
        run["energy_j"] = [{"component": "gpu", "method": "counter", "share": "whole", "energy_j": 7200.0}]
        run["progress"] = {"steps": 1, "tokens": 123456, "samples": None, "done_ratio": 0.25}
        run["phase_energy_j"] = {"train": 3600.0, "eval": 1800.0}

    opened.page.route("**/api/v1/snapshot", _altered(tell))
    _live(opened.page, daemon.url)
    opened.page.locator("#runs tbody tr:first-child summary", has_text="2 phases").click()

    assert _first_run(opened.page, "Progress").split() == [
        *("25", "%", "done", "1", "step", "123,456", "tokens", "2", "phases"),
        *("train", "1.00", "Wh", "50", "%", "eval", "500", "mWh", "25", "%"),
    ]


def test_a_job_that_tells_no_progress_has_a_dash(daemon: Daemon, opened: Opened) -> None:
    """Progress that nobody tells is a dash with its reason, never 0."""

    def silence(document: dict[str, Any]) -> None:
        document["runs"][0]["progress"] = dict.fromkeys(("steps", "tokens", "samples", "done_ratio"))
        document["runs"][0]["phase_energy_j"] = {}

    opened.page.route("**/api/v1/snapshot", _altered(silence))
    _live(opened.page, daemon.url)

    assert _first_run(opened.page, "Progress").split(None, 1) == [DASH, "the job does not tell its progress"]


def test_unmeasured_and_recovered_parts_of_a_run_are_told(daemon: Daemon, opened: Opened) -> None:
    """A run that was not measured all the time says how much was; joules told after a restart are named as such."""

    def restart(document: dict[str, Any]) -> None:
        document["runs"][0].update(measured_time_ratio=0.9994, recovered_energy_j=3600.0)
        document["runs"][1].update(measured_time_ratio=None, recovered_energy_j=0.0)

    opened.page.route("**/api/v1/snapshot", _altered(restart))
    _live(opened.page, daemon.url)

    assert "99 % measured" in _first_run(opened.page, "Duration")
    assert "1.00 Wh of it told after a restart" in _first_run(opened.page, "Energy")
    assert _text(opened.page, "#runs").count("% measured") == 1


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ({"state": "file", "lag_s": 1.0, "problem": ""}, None),
        ({"state": "temporary", "lag_s": 1.0, "problem": ""}, None),
        (
            {"state": "memory", "lag_s": None, "problem": ""},
            "This count is kept in memory only: it ends with the daemon.",
        ),
        ({"state": "file", "lag_s": 75.0, "problem": ""}, "The last figures were saved 1 min 15 s ago"),
        (
            {"state": "file", "lag_s": 9.0, "problem": "disk full; make room"},
            "cannot be written: disk full; make room.",
        ),
    ],
)
def test_the_page_tells_when_the_count_is_not_safe(
    daemon: Daemon, opened: Opened, health: dict[str, Any], says: str | None
) -> None:
    """A ledger in memory, one that is late, and one that cannot be written have their line; a good one has none."""
    opened.page.route("**/api/v1/snapshot", _altered(lambda document: document["ledger_health"].update(health)))
    _live(opened.page, daemon.url)

    assert (says is None) == (opened.page.locator("#ledger").count() == 0)
    assert says is None or says in _text(opened.page, "#ledger")


def test_an_answer_of_another_shape_shows_no_old_watts(daemon: Daemon, opened: Opened) -> None:
    """Where the page cannot read an answer it says so and drops what it knew."""
    _live(opened.page, daemon.url)
    opened.page.route("**/api/v1/snapshot", _altered(lambda document: document.pop("devices")))
    opened.page.wait_for_selector("#state .unreachable")

    assert "cannot read its answer" in _text(opened.page, "#notes")
    assert opened.page.locator("#power").count() == 0


def test_readings_that_stand_still_are_stale(daemon: Daemon, opened: Opened) -> None:
    """A daemon that answers without a new reading loses its watts within seconds."""
    frozen = daemon.snapshot()
    opened.page.route("**/api/v1/snapshot", lambda route: route.fulfill(json=frozen))
    opened.page.goto(daemon.url)
    opened.page.wait_for_selector("#state .stale", timeout=15_000)

    assert "has taken no new reading" in _text(opened.page, "#notes")
    assert opened.page.locator("#power").count() == 0


def test_a_daemon_that_is_gone_leaves_no_watts(opened: Opened, tmp_path: Path) -> None:
    """Once the daemon is gone the page says so with the age of its numbers, and shows no power anywhere."""
    with serving("--mock", "--zone", "DE", log=tmp_path / "log") as mortal:
        _live(opened.page, mortal.url)
        mortal.process.terminate()
        mortal.process.wait(10)
        opened.page.wait_for_selector("#state .unreachable", timeout=15_000)

        assert "does not answer" in _text(opened.page, "#notes")
        assert "ago" in _text(opened.page, "#notes")
        assert opened.page.locator("#power").count() == 0
        assert _watts(opened.page) == []
        assert opened.page.title() == "unreachable · trainwatt"


def _watts(page: "Page") -> list[str]:
    """Every figure in watts but the limits of the devices and the axis of the chart."""
    figures: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('main *')].filter(node => !node.closest('svg') && !node.children.length)"
        ".map(node => node.textContent).filter(text => /\\d\\s*[mkM]?W$/.test(text) && !text.startsWith('of '))"
    )
    return figures


def test_watts_are_found_while_the_daemon_lives(daemon: Daemon, opened: Opened) -> None:
    """The search for watts that finds none on a dead page finds those of a live one."""
    _live(opened.page, daemon.url)

    assert len(_watts(opened.page)) > len(daemon.snapshot()["devices"])


def test_without_a_zone_the_page_says_how_to_set_one(opened: Opened, tmp_path: Path) -> None:
    """Without a zone grams are a dash, never 0, beside the flag that brings them."""
    with serving("--mock", log=tmp_path / "log") as zoneless:
        _live(opened.page, zoneless.url)

        assert "--zone" in _text(opened.page, "#no-zone")
        assert opened.page.locator("#headline .card:nth-child(3) .figure").inner_text().startswith(DASH)


def test_a_phone_needs_no_sideways_scrolling(daemon: Daemon, opened: Opened) -> None:
    """At 390 pixels nothing is wider than the screen."""
    opened.page.set_viewport_size({"width": 390, "height": 844})
    _live(opened.page, daemon.url)

    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
