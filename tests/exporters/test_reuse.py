"""What a scrape takes over from the last one is what it would have rendered itself."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.prometheus import Exposition
from monitor.core.attribution import ShareKind
from monitor.core.model import Component, Instant, Method, Run
from monitor.core.snapshot import Policy, RunTotals, Snapshot

FORMATS = ("text/plain", "application/openmetrics-text; version=1.0.0")
words = st.text(st.sampled_from('ab \n\\"{}#=,\x0b\x85\u2028é'), max_size=6)
numbers = (st.floats() | st.integers(-3, 10**17)).map(lambda number: number + 0.0)
"""-0.0 is 0.0, whichever of the two came first."""
runs = st.dictionaries(words, st.tuples(words, numbers, numbers), max_size=3)


@dataclass
class _View:
    snapshot: Snapshot


@settings(max_examples=200)
@given(st.lists(runs, min_size=2, max_size=4))
def test_every_scrape_is_as_if_it_were_the_first(scrapes: list[dict[str, tuple[str, float, float]]]) -> None:
    """Whatever the names of runs, and whichever of them, their names or their numbers change between scrapes."""
    view = _View(Snapshot(ledger_id="l", policy=Policy()))
    going_on = Exposition(view)
    for shown in (one for scrape in scrapes for one in (scrape, _other_numbers(scrape))):
        view.snapshot = replace(
            view.snapshot,
            runs=MappingProxyType({key: _totals(key, name, j, w) for key, (name, j, w) in shown.items()}),
        )
        for accept in FORMATS:
            assert Exposition(view).render(accept) == going_on.render(accept)


def _other_numbers(scrape: dict[str, tuple[str, float, float]]) -> dict[str, tuple[str, float, float]]:
    return {key: (name, joules + 1.5, watts * 2) for key, (name, joules, watts) in scrape.items()}


def _totals(run_id: str, name: str, energy_j: float, power_w: float) -> RunTotals:
    return RunTotals(
        run=Run(id=run_id, name=name, start=Instant(1.0, 2.0)),
        energy_j={(Component.GPU, Method.COUNTER, ShareKind.WHOLE): energy_j},
        emissions_g={},
        power_w=power_w,
    )
