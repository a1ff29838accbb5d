"""What the boards ask beside their panels' queries, and what panels say together, of a real Prometheus."""

from collections.abc import Callable

import pytest

from tests.dashboards.boards import BOARDS, TARGETS, filled_in, variables
from tests.dashboards.conftest import Recorded
from tests.dashboards.oracle import Seen, answered, disagreement, labels

VALUES: dict[str, Callable[[Seen], set[str]]] = {
    "job": lambda seen: {scrape.job for node in seen.nodes for scrape in node},
    "instance": lambda seen: {scrape.instance for node in seen.nodes for scrape in node},
    "run": lambda seen: {run["id"] for node in seen.nodes for scrape in node for run in scrape.snapshot["runs"]},
    "grid_zone": lambda seen: {slot["zone"] for node in seen.nodes for one in node for slot in one.snapshot["grid"]},
}
"""What each variable can be set to: nodes and runs that have ended, too."""
QUERIES = [(uid, name) for uid in BOARDS for name, variable in variables(uid).items() if variable["type"] == "query"]


@pytest.mark.parametrize(("uid", "name"), QUERIES)
def test_a_variable_has_its_values(recorded: Recorded, uid: str, name: str) -> None:
    """The drop-down list shows everything that the board can be narrowed to, and nothing else."""
    selector = filled_in(variables(uid)[name]["query"]).removeprefix("label_values(").rsplit(",", 1)[0]
    values = recorded.scraped.get(f"label/{name}/values", **{"match[]": selector})

    assert VALUES[name](recorded.seen) == set(values)


@pytest.mark.parametrize("uid", BOARDS)
def test_runs_that_go_on_are_shaded(recorded: Recorded, uid: str) -> None:
    """The annotation has a span of each run that is active, and none of those that are not."""
    (asked,) = [one["expr"] for one in BOARDS[uid]["annotations"]["list"] if "expr" in one]
    seen = recorded.seen
    active = {labels(run=run["id"]): 1.0 for scrape in seen.last for run in scrape.snapshot["runs"] if run["active"]}
    answer = answered(recorded.scraped.query(filled_in(asked), time=seen.at_s))

    assert "" == disagreement(answer, active, rel=0.0)
    assert len(active) < len(VALUES["run"](seen))


def test_owners_add_up_to_devices(recorded: Recorded) -> None:
    """Attributed and unattributed energy in the range are the energy of all devices; the mock leaves none pending."""
    devices, attributed, unattributed = (
        sum(asked(recorded, *which))
        for which in [("Energy by device", "A"), *(("Energy by owner", ref) for ref in "AB")]
    )

    assert devices == pytest.approx(attributed + unattributed, rel=1e-6)


def asked(recorded: Recorded, title: str, ref_id: str) -> list[float]:
    """The values that a target of the board "Node" has."""
    (query,) = [t.expr for t in TARGETS if (t.board, t.panel["title"], t.ref_id) == ("trainwatt-node", title, ref_id)]
    return list(answered(recorded.scraped.query(filled_in(query), time=recorded.seen.at_s)).values())
