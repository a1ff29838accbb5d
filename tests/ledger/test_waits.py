"""What waits to be somebody's, as the bytes of one commit after the other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.fold import step
from monitor.core.model import Component, Device, Hold, Instant, Reading, Run, RunBook, Sample
from monitor.core.snapshot import Policy, Snapshot
from monitor.ledger.waits import Waits, waiting_of

GPU = Device(id="gpu-0", component=Component.GPU, source="s", max_power_w=1000.0)
LATE = Policy(owner_wait_s=15.0, usage_wait_s=15.0)


def instant(mono_s: float) -> Instant:
    """A moment on both clocks."""
    return Instant(mono_s, 1.79e9 + mono_s)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["read", "find", "lose"]), min_size=1, max_size=40))
def test_what_waits_is_packed_as_if_it_were_packed_anew(turns: list[str]) -> None:
    """The ledger's bytes of what waits are made piece by piece, while it grows, is given away, or runs out."""
    snapshot, waits = Snapshot(ledger_id="l", policy=LATE), Waits()
    runs: tuple[Run, ...] = ()
    for second, what in enumerate(turns):
        mono_s = 1000.0 + second
        if what == "find":
            since_s = mono_s - 3.5
            spell = Hold(GPU.id, since_s, mono_s - 0.5)
            run_id = f"run-{second}"
            runs = (*runs, Run(id=run_id, name=run_id, start=instant(since_s), spells=(spell,)))
        read = () if what == "lose" else (Reading(device=GPU, at=instant(mono_s), energy_j=200.0 * second),)
        snapshot = step(snapshot, Sample(at=instant(mono_s), readings=read, runs=RunBook(runs=runs)))
        entry = snapshot.devices.get(GPU.id)
        if entry is not None:
            told, _looks = waits.columns(entry, frozenset())

            assert told == Waits().columns(entry, frozenset())[0]
            assert waiting_of(told) == entry.waiting
