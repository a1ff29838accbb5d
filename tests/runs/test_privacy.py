"""Whose runs they are is shown as it was asked for: by name, by a hash, or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporters.api import snapshot_document
from exporters.prometheus import Exposition
from exporters.report_document import report_document
from exporters.report_text import report_text
from monitor.config import UserPrivacy
from monitor.core.snapshot import RunTotals, Snapshot
from monitor.ledger.ledger import Ledger
from monitor.runs.entry import Entry
from monitor.runs.privacy import filed_names, filed_under, hashed, shown_now, user_scope, user_shown
from tests.ledger.counting import Count

NAMES = {1000: "eve-the-user", 1001: "ada-lovelace"}
SALT = "of the sea"
name_of = NAMES.__getitem__


@pytest.mark.parametrize(
    ("mode", "shown", "scope"),
    [
        (UserPrivacy.NAME, "eve-the-user", "eve-the-user"),
        (UserPrivacy.HASH, hashed("eve-the-user", SALT), hashed("eve-the-user", SALT)),
        (UserPrivacy.OFF, "", hashed("eve-the-user", SALT)),
    ],
)
def test_what_is_shown_and_what_stands_behind_an_id(mode: UserPrivacy, shown: str, scope: str) -> None:
    """With off nothing is shown; an id that two users have still tells them apart."""
    assert shown == user_shown(mode, SALT, name_of)(1000)
    assert scope == user_scope(mode, SALT, name_of)(1000)


def test_a_hash_is_the_same_on_every_node_of_a_salt() -> None:
    """HMAC-SHA256 by the salt, as any program can make it; users and salts differ in it."""
    assert "u-b613679a08" == hashed("", "")
    assert hashed("ada", SALT) == hashed("ada", SALT)
    assert 3 == len({hashed("ada", SALT), hashed("eve", SALT), hashed("ada", "another")})
    assert "u-" == hashed("n\udcffme", "s\udcfflt")[:2]


@contextmanager
def kept(directory: Path, mode: UserPrivacy) -> Iterator[tuple[Ledger, Count]]:
    """A ledger of a daemon with this setting."""
    count = Count()
    ledger = count.open(
        directory,
        filed_under=filed_under(mode, SALT, name_of),
        names_of=filed_names(SALT),
        shown=shown_now(mode, SALT),
    )
    yield ledger, count
    ledger.close()


def work(ledger: Ledger, count: Count, mode: UserPrivacy) -> Snapshot:
    """A run of each user, as the book of runs shows them; both have ended."""
    for uid, device in zip(NAMES, ("GPU-a", "GPU-b"), strict=True):
        shown = user_shown(mode, SALT, name_of)(uid)
        run = count.begin(f"run@{user_scope(mode, SALT, name_of)(uid)}", holds=(device,), user=shown)
        count.runs[-1] = Entry(uid=uid, known=run).show()
    count.keep(ledger, 3)
    for run in list(count.runs):
        count.end(run.id)
    return count.keep(ledger, 2)


@dataclass
class View:
    """A published snapshot."""

    snapshot: Snapshot


def everything_shown(snapshot: Snapshot, ledger: Ledger) -> str:
    """All that leaves the daemon: metrics, the API, reports as text and as JSON."""
    reports = [report(entry, snapshot, ledger) for entry in snapshot.runs.values()]
    metrics = [Exposition(View(snapshot)).render(accept)[0].decode() for accept in ("", "application/openmetrics-text")]
    return "\n".join([*metrics, json.dumps(snapshot_document(snapshot)), *reports])


def report(entry: RunTotals, snapshot: Snapshot, ledger: Ledger) -> str:
    """Both forms of one report."""
    rows = ledger.history.intervals(entry.run.id)
    document = report_document(entry, snapshot, intervals=rows, factors=(), node="n", written_at_wall_s=1.0)
    return json.dumps(document) + report_text(document)


@pytest.mark.parametrize("mode", UserPrivacy)
def test_no_name_leaves_the_daemon_or_gets_into_its_file(tmp_path: Path, mode: UserPrivacy) -> None:
    """But with the setting `name`, where it is in all of them."""
    with kept(tmp_path, mode) as (ledger, count):
        shown = everything_shown(work(ledger, count, mode), ledger)
        held = b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()))

    for name in NAMES.values():
        assert (name in shown) == (mode is UserPrivacy.NAME)
        assert (name.encode() in held) == (mode is UserPrivacy.NAME)
    assert (f'"user": "{hashed("ada-lovelace", SALT)}"' in shown) == (mode is UserPrivacy.HASH)


@pytest.mark.parametrize("mode", UserPrivacy)
@pytest.mark.parametrize("later", UserPrivacy)
def test_a_user_is_forgotten_by_name(tmp_path: Path, mode: UserPrivacy, later: UserPrivacy) -> None:
    """Whatever is shown, also once the setting is another one; the runs of others stay."""
    with kept(tmp_path, mode) as (ledger, count):
        work(ledger, count, mode)
    with kept(tmp_path, later) as (ledger, _count):
        wish = ledger.forget(user="eve-the-user")
        ledger.commit()
        left = {totals.run.id for totals in ledger.history.recent(10)}

    assert (f"run@{user_scope(mode, SALT, name_of)(1000)}",) == wish.result(0)
    assert {f"run@{user_scope(mode, SALT, name_of)(1001)}"} == left


@pytest.mark.parametrize(
    ("later", "users"),
    [
        (UserPrivacy.NAME, set(NAMES.values())),
        (UserPrivacy.HASH, {hashed(name, SALT) for name in NAMES.values()}),
        (UserPrivacy.OFF, {""}),
    ],
)
def test_another_setting_holds_for_older_runs_too(tmp_path: Path, later: UserPrivacy, users: set[str]) -> None:
    """Runs of the daemon before and of the history are shown as it says now; twice hashed is hashed once."""
    with kept(tmp_path, UserPrivacy.NAME) as (ledger, count):
        work(ledger, count, UserPrivacy.NAME)
    for _ in range(2):
        with kept(tmp_path, later) as (ledger, count):
            remembered = {totals.run.user for totals in ledger.history.recent(10)}
            restored = {totals.run.user for totals in ledger.runs}
            count.runs = [totals.run for totals in ledger.runs]
            count.keep(ledger, 2)

        assert users == remembered == restored


def test_an_owner_that_nobody_knows_is_nobodys(tmp_path: Path) -> None:
    """A run whose memory does not tell its owner is kept, and found by no name."""
    with kept(tmp_path, UserPrivacy.OFF) as (ledger, count):
        count.begin("r1", memory="no JSON")
        count.keep(ledger, 2)
        count.end("r1")
        count.keep(ledger, 2)
        wish = ledger.forget(user="eve-the-user")
        ledger.commit()
        found = ledger.history.find("r1")

    assert () == wish.result(0)
    assert found is not None
