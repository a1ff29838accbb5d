"""Every query of every panel has the answer that the API's JSON of the same scrapes gives, from two stores."""

import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.dashboards.boards import BOARDS, EVERY, TARGETS, Target, filled_in, variables
from tests.dashboards.conftest import Recorded
from tests.dashboards.oracle import CLOCK_S, SMALLEST, Expected, Scrape, Seen, Vector, answered, disagreement, labels
from tests.harness.prometheus import Prometheus

UNCHECKED: Mapping[str, str] = {}
"""Targets that nobody can say anything of, with the reason."""
ROUNDING = 1e-6
"""Sums in another order, and times in milliseconds."""
CHOICES = (
    ("instance", ("first",)),
    ("run", ("mock-vision-finetune",)),
    ("run", ("sweep", "short")),
    ("grid_zone", ("GB",)),
)
"""Values of variables; `first` stands for the address of the first node."""


def expected(uid: str) -> Mapping[str, Expected]:
    """The answers of a board's targets, by title and letter."""
    module = importlib.import_module(f"tests.dashboards.expected_{uid.rpartition('-')[2]}")
    answers: Mapping[str, Expected] = module.EXPECTED
    return answers


def key(target: Target) -> str:
    """Of a target, in its board's table."""
    return f"{target.panel['title']}/{target.ref_id}"


CHECKED = [target for target in TARGETS if str(target) not in UNCHECKED]


@pytest.mark.parametrize("uid", BOARDS)
def test_every_target_is_expected_and_nothing_else(uid: str) -> None:
    """The table of a board has its targets, all of them, and none that is gone."""
    targets = {key(target) for target in CHECKED if target.board == uid}

    assert targets == set(expected(uid))


@pytest.mark.parametrize("target", CHECKED, ids=str)
def test_the_answer_is_right(store: tuple[Prometheus, Seen], target: Target) -> None:
    """All nodes, runs and zones: the series that are to come, with their values, and no others."""
    server, seen = store

    assert "" == wrong(server, seen, target, EVERY)


@pytest.mark.parametrize(
    ("uid", "name", "values"),
    [(uid, name, values) for uid in BOARDS for name, values in CHOICES if name in variables(uid)],
)
def test_a_choice_shows_the_part(recorded: Recorded, uid: str, name: str, values: Sequence[str]) -> None:
    """With some values of a variable chosen, every panel shows what is of them."""
    first = recorded.seen.nodes[0][0].instance
    chosen = [first if value == "first" else value for value in values]
    seen = narrowed(recorded.seen, name, chosen)
    # As Grafana writes them for a regular expression.
    text = "|".join(value.replace(".", r"\\.") for value in chosen)
    filled = EVERY | {f"${name}": f"({text})"}
    targets = [target for target in CHECKED if target.board == uid]

    assert {} == {str(target): fault for target in targets if (fault := wrong(recorded.scraped, seen, target, filled))}


def narrowed(seen: Seen, name: str, values: Collection[str]) -> Seen:
    """What is left of the recording where one variable has these values."""
    if name == "instance":
        return replace(seen, nodes=[node for node in seen.nodes if node[0].instance in values])
    part = {"run": of_runs, "grid_zone": of_zones}[name]
    shown = [[replace(scrape, exposed=_with(scrape.exposed, name, values)) for scrape in node] for node in seen.nodes]
    return replace(seen, nodes=[[part(scrape, values) for scrape in node] for node in shown])


def of_runs(scrape: Scrape, ids: Collection[str]) -> Scrape:
    """Without the other runs."""

    def known(state: Mapping[str, Any]) -> dict[str, Any]:
        return {**state, "settled": _some(state["settled"], ids)}

    snapshot = {
        **scrape.snapshot,
        "runs": [run for run in scrape.snapshot["runs"] if run["id"] in ids],
        "grid_state": known(scrape.snapshot["grid_state"]),
    }
    runs = [run for run in scrape.runs if run["run"]["id"] in ids]
    return replace(scrape, snapshot=snapshot, grid=known(scrape.grid), runs=runs, reports=_some(scrape.reports, ids))


def of_zones(scrape: Scrape, zones: Collection[str]) -> Scrape:
    """Without what is known of the other zones."""

    def here(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [entry for entry in entries if entry["zone"] in zones]

    def known(state: Mapping[str, Any]) -> dict[str, Any]:
        return {**state, "outlooks": here(state["outlooks"]), "revisions": _some(state["revisions"], zones)}

    slots = here(scrape.snapshot["grid"])
    snapshot = {**scrape.snapshot, "grid": slots, "grid_state": known(scrape.snapshot["grid_state"])}
    return replace(scrape, snapshot=snapshot, grid={**known(scrape.grid), "grid": slots})


def _some(entries: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: entry for name, entry in entries.items() if name in names}


def _with(exposed: Vector, name: str, values: Collection[str]) -> Vector:
    return {key: value for key, value in exposed.items() if dict(key).get(name) in (None, *values)}


def wrong(server: Prometheus, seen: Seen, target: Target, values: Mapping[str, str]) -> str:
    """What is wrong with the answer to a target; "" = nothing."""
    right = expected(target.board)[key(target)](seen)
    answer = answered(server.query(filled_in(target.expr, dict(values)), time=seen.at_s))
    return disagreement(answer, right, rel=ROUNDING, absolute=CLOCK_S if "time()" in target.expr else SMALLEST)


@pytest.mark.parametrize(
    ("old", "new"),
    [("/ 3600000", "/ 3600"), ("sum by (method) ", "sum "), ("increase(", "last_over_time("), ("[10s]", "[4s]")],
)
def test_a_wrong_query_is_found(recorded: Recorded, old: str, new: str) -> None:
    """A factor, a label, a function or a range that is not right makes the comparison fail."""
    target = next(target for target in TARGETS if str(target) == "trainwatt-node/Energy in range/A")
    sent = filled_in(target.expr)
    altered = replace(target, expr=sent.replace(old, new))

    assert sent != altered.expr
    assert "" == wrong(recorded.scraped, recorded.seen, target, EVERY)
    assert wrong(recorded.scraped, recorded.seen, altered, EVERY)


# -- beside the panels' queries -----------------------------------------------------------------------------------

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
