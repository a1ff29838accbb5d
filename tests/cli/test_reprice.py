"""The verb report with --reprice, --as-of and --factors: what is printed, and one line for whatever is wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporters.report_file import report_json
from exporters.report_merge import merge
from monitor.core.units import JOULES_PER_KILOWATTHOUR
from tests.drivers.feedserver import Answer, FeedServer
from tests.exporters.test_report_document import START_S, interval
from tests.exporters.test_report_pricing import REVISED, SLOT_S, report, settled_g
from tests.harness.daemon import command

ASKING = {"TRAINWATT_FEEDS": ""}
"""As where nothing is set: the providers of the settings file are asked."""
MERGED = merge([report(REVISED), report(REVISED, ledger="ledger-2", node="node-b")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With report files: one of a node, a merged one, one without rows."""
    for name, document in {
        "one": report(REVISED),
        "merged": MERGED,
        "bare": report((), intervals=None),
    }.items():
        (tmp_path / f"{name}.json").write_text(report_json(document))
    return tmp_path


def again(folder: Path, *args: str) -> dict[str, Any]:
    """The report that comes out, as JSON."""
    done = command("report", *args, "--format", "json", cwd=folder, env=ASKING)
    assert (0, "") == (done.returncode, done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_file_is_priced_again_on_another_machine(folder: Path) -> None:
    """From the versions in it: the live grams stay, the settled ones come, and the new file is a report again."""
    repriced = again(folder, "one.json", "--reprice")
    (folder / "again.json").write_text(json.dumps(repriced))
    text = command("report", "again.json", cwd=folder).stdout

    assert settled_g(repriced) == pytest.approx({"lifecycle": 42.0 + 180.0})
    assert repriced["emissions_g"] == report(REVISED)["emissions_g"]
    assert "settled, priced again from this report as known on" in " ".join(text.split())
    assert settled_g(again(folder, "merged.json", "--reprice")) == pytest.approx({"lifecycle": 2 * 222.0})


@pytest.mark.parametrize("form", ["2026-09-21T17:14:20+02:00", "2026-09-21T15:14:20", "unix"])
def test_an_earlier_figure_is_given_again(folder: Path, form: str) -> None:
    """--as-of takes ISO 8601, naive as UTC, and Unix seconds; by itself it prices again."""
    as_of = str(START_S + 2 * SLOT_S + 60.0) if form == "unix" else form

    assert settled_g(again(folder, "one.json", "--as-of", as_of)) == pytest.approx({"lifecycle": 75.0 + 180.0})


def test_the_bundled_table_prices_what_the_file_does_not(folder: Path) -> None:
    """The yearly value of the zone, labelled so, where no factor came with the report."""
    (folder / "none.json").write_text(report_json(report((), factors=())))
    repriced = again(folder, "none.json", "--factors", "static")

    assert settled_g(again(folder, "none.json", "--reprice")) == {}
    assert settled_g(repriced) == pytest.approx({"lifecycle": 2 * 344.1}, rel=0.01)
    assert [("static", "ember-owid")] == [(one["quality"], one["provider"]) for one in repriced["factors"]]


def half_hour(start: str, end: str, grams: int) -> dict[str, Any]:
    """As NESO tells it."""
    return {"from": f"2026-09-21T{start}Z", "to": f"2026-09-21T{end}Z", "intensity": {"forecast": 9, "actual": grams}}


def british(folder: Path, server: FeedServer) -> Sequence[str]:
    """Arguments for a report of a run in Great Britain, whose feed is this server."""
    rows = [interval(SLOT_S * number, SLOT_S * (number + 1), JOULES_PER_KILOWATTHOUR, zone="GB") for number in range(2)]
    (folder / "gb.json").write_text(report_json(report((), intervals=rows, factors=())))
    (folder / "settings.toml").write_text(f'[feed.neso]\nbase_url = "{server.base_url}"\n')
    return "gb.json", "--factors", "feeds", "--config", "settings.toml"


def test_the_feeds_of_the_settings_are_asked(folder: Path) -> None:
    """Each once, for the run's time; what they say today is in the new file, with its credit."""
    slots = [half_hour("14:00", "14:30", 10), half_hour("14:30", "15:00", 20), half_hour("15:00", "15:30", 30)]
    with FeedServer() as server:
        server.play(Answer(body=json.dumps({"data": slots}).encode()))
        repriced = again(folder, *british(folder, server))
        asked = [one.path for one in server.asked]
    (folder / "again.json").write_text(json.dumps(repriced))

    # The run begins at 14:13:20: 1000 s of each of its half hours are in one slot, 800 s in the next.
    assert settled_g(repriced) == pytest.approx({"direct": (1000 * 10 + 800 * 20 + 1000 * 20 + 800 * 30) / 1800})
    assert [10.0, 20.0, 30.0] == [one["grams_per_kilowatthour"] for one in repriced["factors"]]
    assert all(one["provider"] == "neso" and one["fetched_at_s"] for one in repriced["factors"])
    assert 1 == len(asked)
    assert settled_g(again(folder, "again.json", "--reprice")) == pytest.approx(settled_g(repriced))
    assert "NESO Carbon Intensity API" in " ".join(command("report", "again.json", cwd=folder).stdout.split())


def test_a_feed_that_fails_is_a_line_and_the_rest_goes_on(folder: Path) -> None:
    """The figure is what the file has then; here it has none, which is not 0."""
    with FeedServer() as server:
        server.play(Answer(status=500, body=b"out of order"))
        done = command("report", *british(folder, server), "--format", "json", cwd=folder, env=ASKING)

    assert (0, 1) == (done.returncode, done.stderr.count("\n"))
    assert "trainwatt: GB: " in done.stderr
    assert "500" in done.stderr
    assert settled_g(json.loads(done.stdout)) == {}


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (["one.json", "--as-of", "yesterday"], 2, "--as-of 'yesterday': expected a time such as 2026-11-21T12:00Z"),
        (["one.json", "--as-of", "nan"], 2, "--as-of 'nan': expected a time"),
        (["one.json", "--as-of", "2020-01-01"], 2, "2020-01-01 00:00:00 UTC is before the run, which began on 2026-09"),
        (["one.json", "--as-of", "9999-01-01T00:00Z"], 2, "is to come"),
        (["one.json", "--as-of", "2026-09-22", "--factors", "feeds"], 2, "--as-of looks back"),
        (["bare.json", "--reprice"], 1, "the report of node-a has no rows of energy by time"),
    ],
)
def test_a_mistake_gets_one_line(folder: Path, args: Sequence[str], exit_code: int, says: str) -> None:
    """Whatever is wrong with the time or the file."""
    done = command("report", *args, cwd=folder)

    assert (exit_code, 1, "") == (done.returncode, done.stderr.count("\n"), done.stdout)
    assert says in done.stderr
