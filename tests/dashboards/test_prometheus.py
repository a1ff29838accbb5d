"""Every query of every panel against a real Prometheus that scrapes the simulated node."""

from typing import Any

import pytest

from tests.dashboards.boards import BOARDS, TARGETS, Target, filled_in, variables
from tests.harness.prometheus import Prometheus

MAY_BE_EMPTY = {
    "trainwatt-node/Runs/C": "grams with basis direct: the zone's table is lifecycle",
    "trainwatt-node/Runs/D": "grams of unknown basis: likewise",
}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_query_has_data(scraped: Prometheus, target: Target) -> None:
    """The query is answered, with data unless there is a written reason for none."""
    answer = scraped.query(filled_in(target.expr))

    assert bool(answer) != (str(target) in MAY_BE_EMPTY)


@pytest.mark.parametrize(("uid", "name"), [(uid, name) for uid in BOARDS for name in ("job", "instance")])
def test_variables_have_values(scraped: Prometheus, uid: str, name: str) -> None:
    """The drop-down lists of the board are not empty."""
    selector = filled_in(variables(uid)[name]["query"]).removeprefix("label_values(").rsplit(",", 1)[0]

    assert scraped.get(f"label/{name}/values", **{"match[]": selector})


def now(scraped: Prometheus) -> float:
    """Prometheus' own time: several queries at one moment see the same scrape."""
    return float(scraped.get("query", query="time()")["result"][1])


def by_label(answer: list[dict[str, Any]], label: str) -> dict[str, float]:
    """Values of an answer by one of its labels."""
    return {series["metric"].get(label, ""): float(series["value"][1]) for series in answer}


def expression(title: str, ref_id: str = "A") -> str:
    """The query of a panel, ready to send."""
    return next(filled_in(t.expr) for t in TARGETS if (t.panel["title"], t.ref_id) == (title, ref_id))


def test_runs_show_what_the_daemon_counts(scraped: Prometheus) -> None:
    """A run's energy in the table is the counter of the last scrape: the parts' sum, with its name and user."""
    at = now(scraped)
    shown = scraped.query(expression("Runs"), time=at)
    counted = by_label(scraped.query("sum by (run) (trainwatt_run_energy_joules_total)", time=at), "run")

    assert counted == pytest.approx({run: kwh * 3.6e6 for run, kwh in by_label(shown, "run").items()})
    assert {"llm-pretrain", "vision-finetune"} == {series["metric"]["name"] for series in shown}
    assert {"ada", "grace"} == {series["metric"]["user"] for series in shown}


def test_owners_add_up_to_devices(scraped: Prometheus) -> None:
    """Attributed and unattributed energy in the range are the energy of all devices; the mock leaves none pending."""
    at = now(scraped)
    devices = sum(by_label(scraped.query(expression("Energy by device"), time=at), "device").values())
    attributed, unattributed = (
        float(scraped.query(expression("Energy by owner", ref_id), time=at)[0]["value"][1]) for ref_id in "AB"
    )

    assert devices == pytest.approx(attributed + unattributed, rel=1e-6)
