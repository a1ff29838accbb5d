"""What is forgotten leaves the file."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.model import Phase, RunUse, Usage
from monitor.core.waiting import Look
from monitor.errors import FailureError
from tests.ledger.counting import Count
from tests.ledger.test_upkeep import node_j

SECRETS = (b"name of whisper", b"eve-the-user", b"hush-tag", b"remembered-words", b"secret-phase")


def secretive(count: Count, run_id: str = "whisper") -> None:
    """A run full of words, for a minute."""
    count.begin(
        run_id,
        user="eve-the-user",
        tags=(("k", "hush-tag"),),
        phases=(Phase("secret-phase", count.mono_s),),
        memory="remembered-words",
    )


def contents(directory: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(file.read_bytes() for file in sorted(directory.iterdir()))


def test_no_word_of_it_is_left_and_its_joules_are_nobodys(tmp_path: Path) -> None:
    """Its name, user, tags, phases and memory are in no file any more; all joules are as before."""
    count = Count()
    ledger = count.open(tmp_path)
    secretive(count)
    count.begin("other", holds=("GPU-b",))
    count.keep(ledger, 90)
    count.end("whisper")
    count.keep(ledger, 30)
    before_j, others = node_j(tmp_path), ledger.history.intervals("other")
    present = [word for word in SECRETS if word in contents(tmp_path)]
    wish = ledger.forget(run_id="whisper")
    ledger.commit()
    after_j, same = node_j(tmp_path), ledger.history.intervals("other")
    count.keep(ledger, 20)  # snapshots still show it
    left = [word for word in SECRETS if word in contents(tmp_path)]
    found = ledger.history.find("whisper")
    ledger.close()

    assert list(SECRETS) == present
    assert ("whisper",) == wish.result(0)
    assert [] == left
    assert found is None
    assert b"whisper" not in contents(tmp_path)
    assert others == same
    assert pytest.approx(before_j, rel=1e-12) == after_j
    assert () == ledger.history.intervals("whisper")


def test_who_used_what_lately_does_not_name_it(tmp_path: Path) -> None:
    """Looks and usages of the last seconds stay, without its id; the other's is still in them."""
    count = Count()
    ledger = count.open(tmp_path)
    for run_id in ("whisper", "other"):
        count.begin(run_id)
    count.keep(ledger, 2)
    count.end("whisper")
    shown = count.turn()
    at = count.now()
    looks = (Look(at.mono_s - 5.0, at.mono_s, ((7, 0.5),), (("whisper", 0.5), ("other", 0.25))),)
    usages = (Usage(start=at, end=at, runs=(RunUse("whisper", 1.0, 1), RunUse("other", 2.0, 2)), mark="m"),)
    entry = shown.devices["GPU-a"]._replace(looks=looks)
    shown = replace(shown, devices={**shown.devices, "GPU-a": entry}, usages=usages, usage_mark="m")
    ledger.offer(shown)
    ledger.commit()
    named = contents(tmp_path)
    ledger.forget(run_id="whisper")
    ledger.commit()
    ledger.offer(replace(shown, booked=()))
    ledger.commit()
    ledger.close()
    after = count.open(tmp_path)
    after.close()

    assert b"whisper" in named
    assert b"whisper" not in contents(tmp_path)
    assert (("", 0.5), ("other", 0.25)) == after.first.devices["GPU-a"].looks[0].users
    assert (RunUse("other", 2.0, 2),) == after.first.usages[0].runs


def test_a_live_run_is_refused(tmp_path: Path) -> None:
    """It would be written again at once: it has to end first."""
    count = Count()
    ledger = count.open(tmp_path)
    secretive(count)
    count.keep(ledger, 3)
    wish = ledger.forget(run_id="whisper")
    ledger.commit()
    found = ledger.history.find("whisper")
    ledger.close()

    with pytest.raises(FailureError, match="whisper has not ended"):
        wish.result(0)
    assert found is not None


def test_all_ended_runs_of_a_user_go(tmp_path: Path) -> None:
    """But for those that are alive or to be kept, and those of others."""
    count = Count()
    ledger = count.open(tmp_path)
    for run_id in ("one", "two", "kept", "alive"):
        secretive(count, run_id)
    count.begin("ada's", user="ada")
    count.keep(ledger, 3)
    for run_id in ("one", "two", "kept", "ada's"):
        count.end(run_id)
    count.keep(ledger, 3)
    wish = ledger.forget(user="eve-the-user", keep=frozenset({"kept"}))
    ledger.commit()
    known = {totals.run.id for totals in ledger.history.recent(10)}
    ledger.close()

    assert {"one", "two"} == set(wish.result(0))
    assert {"kept", "alive", "ada's"} == known


def test_a_forgotten_id_may_be_used_again(tmp_path: Path) -> None:
    """A run that comes back under it is kept like any other."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    count.keep(ledger, 3)
    count.end("r1")
    count.keep(ledger)
    wish = ledger.forget(run_id="r1")
    ledger.commit()
    count.keep(ledger)
    count.runs = []
    count.keep(ledger)
    count.begin("r1")
    count.keep(ledger, 3)
    rows = ledger.history.intervals("r1")
    ledger.close()

    assert ("r1",) == wish.result(0)
    assert rows


def test_nothing_to_forget_is_no_error(tmp_path: Path) -> None:
    """The result says that nothing was."""
    ledger = Count().open(tmp_path)
    wish = ledger.forget(run_id="nobody")
    ledger.commit()
    ledger.close()

    assert () == wish.result(0)


def test_a_closed_ledger_refuses(tmp_path: Path) -> None:
    """Nobody waits for ever."""
    ledger = Count().open(tmp_path)
    early = ledger.forget(run_id="r1")
    ledger.close()
    late = ledger.forget(run_id="r1")

    for wish in (early, late):
        with pytest.raises(FailureError, match="ask again once it runs"):
            wish.result(0)
