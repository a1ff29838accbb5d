"""The store of intensities: versions, revisions, as of a moment, and a file that takes nothing for a while."""

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.ledger import tending
from monitor.ledger.intensities import Intensities
from tests.harness import need
from tests.ledger.counting import Count
from tests.ledger.test_committing import no_file_grows_beyond

HOUR_S = 3600.0
DAY_S = 86_400.0
T0_S = 1_795_219_200.0
"""2026-11-21T00:00Z."""


def value(
    hour: float,
    grams: float,
    quality: Quality = Quality.ACTUAL,
    *,
    fetched: float | None = None,
    zone: str = "DK-DK2",
    provider: str = "electricitymaps",
    span_s: float = HOUR_S,
    **words: object,
) -> Intensity:
    """Of the slot that begins `hour` hours after T0; fetched at so many, at its end if nothing is said."""
    start_s = T0_S + hour * HOUR_S
    told = {"basis": Basis.LIFECYCLE, "detail": "Source: ElectricityMaps.com"} | words
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=grams,
        quality=quality,
        provider=provider,
        valid_from_s=start_s,
        valid_until_s=start_s + span_s,
        fetched_at_s=start_s + span_s if fetched is None else T0_S + fetched * HOUR_S,
        **told,  # type: ignore[arg-type]
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Path]:
    """The file of an open ledger."""
    opened = Count().open(tmp_path)
    yield tmp_path / "ledger.sqlite"
    opened.close()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Intensities]:
    """One in a file, one in memory: the same code, the same answers."""
    kept = Intensities(request.getfixturevalue("ledger") if request.param == "file" else None)
    yield kept
    kept.close()


def numbers(found: object) -> list[float]:
    """Grams per kWh."""
    return [one.grams_per_kilowatthour for one in found]  # type: ignore[attr-defined]


def test_what_was_told_comes_back(store: Intensities) -> None:
    """Every field, to the bit; of the zone and time that is asked for, oldest slot first."""
    told = [
        value(1, 0.0),
        value(0, 75.123456789, Quality.ESTIMATED, made_by="MODE_BREAKDOWN", dataset="2026", updated_at_s=T0_S + 0.25),
        value(0, 870.4, provider="watttime", signal=Signal.MARGINAL, basis=Basis.UNKNOWN),
        value(0, 20.0, basis=Basis.DIRECT),
    ]
    revised = store.add([*told, value(0, 348.0, zone="DE"), value(2, 50.0)])
    found = store.known("DK-DK2", T0_S, T0_S + 2 * HOUR_S)

    assert [] == list(revised)
    assert sorted(told, key=repr) == sorted(found, key=repr)
    assert told[0] == found[-1]
    assert [50.0] == numbers(store.known("DK-DK2", T0_S + 2 * HOUR_S, T0_S + 3 * HOUR_S))
    assert [] == list(store.known("XX", T0_S, T0_S + DAY_S))
    assert [348.0] == numbers(store.known("DE", T0_S + 1800.0, T0_S + 1801.0))


def test_a_revision_is_a_new_version(store: Intensities) -> None:
    """The captured one: 75 estimated becomes 42; both are kept, and either can be had as of its time."""
    live, settled = value(17, 75.0, Quality.ESTIMATED, fetched=17.5), value(17, 42.0, fetched=20.0)
    first, again = store.add([live]), store.add([value(17, 75.0, Quality.ESTIMATED, fetched=18.0)])
    revised = store.add([settled])
    start_s, end_s = live.valid_from_s, live.valid_until_s

    assert ([], [], [(live, settled)]) == (list(first), list(again), list(revised))
    assert [settled] == list(store.known("DK-DK2", start_s, end_s))
    assert [live, settled] == list(store.versions("DK-DK2", start_s, end_s))
    assert [live] == list(store.known("DK-DK2", start_s, end_s, as_of_s=T0_S + 19 * HOUR_S))
    assert [] == list(store.known("DK-DK2", start_s, end_s, as_of_s=T0_S + 17 * HOUR_S))


def test_the_same_number_of_another_quality_is_no_revision(store: Intensities) -> None:
    """An estimate that is confirmed is a new version; nothing has moved. One that moves back and forth has three."""
    store.add([value(0, 75.0, Quality.ESTIMATED, fetched=1)])
    confirmed = store.add([value(0, 75.0, fetched=2)])
    there, back = store.add([value(0, 70.0, fetched=3)]), store.add([value(0, 75.0, fetched=4)])

    assert ([], 1, 1) == (list(confirmed), len(there), len(back))
    assert [75.0, 75.0, 70.0, 75.0] == numbers(store.versions("DK-DK2", T0_S, T0_S + 1.0))
    assert [75.0] == numbers(store.known("DK-DK2", T0_S, T0_S + 1.0))


def test_a_forecast_gives_way_for_good(store: Intensities) -> None:
    """It is kept beside what came; a later forecast never takes the place of that, and is no revision."""
    store.add([value(5, 72.0, Quality.FORECAST, fetched=0)])
    store.add([value(5, 69.0, Quality.FORECAST, fetched=3)])
    came = store.add([value(5, 46.0, Quality.ESTIMATED, fetched=6)])
    later = store.add([value(5, 99.0, Quality.FORECAST, fetched=7)])
    slot = (T0_S + 5 * HOUR_S, T0_S + 6 * HOUR_S)

    assert ([], []) == (list(came), list(later))
    assert [46.0] == numbers(store.known("DK-DK2", *slot))
    assert [69.0] == numbers(store.known("DK-DK2", *slot, as_of_s=T0_S + 4 * HOUR_S))
    assert [72.0, 69.0, 46.0, 99.0] == numbers(store.versions("DK-DK2", *slot))


def test_both_in_one_batch(store: Intensities) -> None:
    """A reply may tell of one slot twice: the last word counts, and the change within is a revision, too."""
    revised = store.add([value(0, 70.0), value(0, 70.0), value(0, 54.0)])

    assert [(70.0, 54.0)] == [(old.grams_per_kilowatthour, new.grams_per_kilowatthour) for old, new in revised]
    assert [70.0, 54.0] == numbers(store.versions("DK-DK2", T0_S, T0_S + 1.0))


def test_what_is_no_number_is_left_out(store: Intensities) -> None:
    """NaN, infinity, a negative number, a slot that ends before it begins; words that no file can hold do no harm."""
    odd = value(3, 7.0, made_by="\ud800" * 3, detail="x" * 10_000)
    store.add([value(0, float("nan")), value(0, float("inf")), value(0, -1.0), value(1, 5.0, span_s=-1.0), odd])

    assert [7.0] == numbers(store.known("DK-DK2", T0_S, T0_S + DAY_S))


def test_a_slot_of_any_length_is_found(store: Intensities) -> None:
    """Also a month, and one without bounds: what reaches into the span is what counts."""
    month = value(0, 11.0, provider="file", span_s=30 * DAY_S)
    always = Intensity(
        zone="DK-DK2",
        grams_per_kilowatthour=12.0,
        basis=Basis.LIFECYCLE,
        quality=Quality.STATIC,
        provider="http",
        valid_from_s=float("-inf"),
        valid_until_s=float("inf"),
    )
    store.add([month, always, value(0, 13.0)])

    assert [12.0, 11.0] == numbers(store.known("DK-DK2", T0_S + 29 * DAY_S, T0_S + 29.1 * DAY_S))
    assert always in store.known("DK-DK2", T0_S, T0_S + 1.0, as_of_s=0.0)


def test_a_check_long_after_the_slot_is_remembered(store: Intensities) -> None:
    """The first one a day or more after its end; one before that tells nothing, a new number begins anew."""
    key = ("electricitymaps", Basis.LIFECYCLE, T0_S, T0_S + HOUR_S)

    def checked(fetched: float, grams: float = 75.0) -> float | None:
        store.add([value(0, grams, fetched=fetched)])
        return store.checks("DK-DK2", T0_S, T0_S + HOUR_S).get(key)

    assert [None, None, 25.5, 25.5, 49.0] == [
        at_s if at_s is None else (at_s - T0_S) / HOUR_S
        for at_s in (checked(1), checked(24.9), checked(25.5), checked(30), checked(49, grams=76.0))
    ]
    assert 2 == len(store.versions("DK-DK2", T0_S, T0_S + HOUR_S))


def test_asks_are_remembered(store: Intensities) -> None:
    """Of one provider and zone, since a moment, oldest first."""
    store.note_ask("neso", "GB", "past", T0_S, T0_S + DAY_S, T0_S + 200.0)
    store.note_ask("neso", "GB", "latest", T0_S, T0_S + 1.0, T0_S + 100.0)
    store.note_ask("neso", "GB-13", "latest", T0_S, T0_S + 1.0, T0_S + 100.0)
    store.note_ask("neso", "GB", "latest", T0_S, T0_S + 1.0, T0_S)

    assert [("latest", T0_S, T0_S + 1.0, T0_S + 100.0), ("past", T0_S, T0_S + DAY_S, T0_S + 200.0)] == list(
        store.asks("neso", "GB", T0_S + 1.0)
    )


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Values, versions, checks and asks are in the ledger's file, whose companions keep its mode."""
    for number in range(2):
        ledger = Count().open(tmp_path)
        store = Intensities(tmp_path / "ledger.sqlite")
        before = store.versions("DK-DK2", T0_S, T0_S + DAY_S), store.asks("neso", "GB", 0.0)
        store.add([value(0, 75.0, Quality.ESTIMATED), value(0, 42.0, fetched=30)])
        store.note_ask("neso", "GB", "latest", T0_S, T0_S + 1.0, T0_S)
        after = store.versions("DK-DK2", T0_S, T0_S + DAY_S), store.asks("neso", "GB", 0.0)
        store.close()
        store.close()
        ledger.close()

        assert 0 == number or before[1] == after[1]
        assert ([], []) == before or [75.0, 42.0] == numbers(before[0])
    assert {0o600} == {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert not list(tmp_path.glob("*-wal"))


@pytest.mark.parametrize("trouble", ["full", "locked"])
def test_what_cannot_be_written_waits_in_memory(ledger: Path, trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is answered from there, compared with, and written with what comes next; one line when it begins and ends."""
    store = Intensities(ledger, busy_s=0.01)
    store.add([value(0, 75.0, Quality.ESTIMATED), value(1, 60.0)])
    with caplog.at_level(logging.INFO, "trainwatt"):
        with full(ledger) if trouble == "full" else held(ledger):
            revised = store.add([value(0, 42.0, fetched=3)])
            same = store.add([value(0, 42.0, fetched=4)])
            store.add([value(hour, 10.0 + hour) for hour in range(2, 40)])
            store.note_ask("neso", "GB", "latest", T0_S, T0_S + 1.0, T0_S)
            known, asks = store.known("DK-DK2", T0_S, T0_S + 2 * DAY_S), store.asks("neso", "GB", 0.0)
        store.add([value(40, 50.0)])
    store.close()
    again = Intensities(ledger)
    found, versions = again.known("DK-DK2", T0_S, T0_S + 2 * DAY_S), again.versions("DK-DK2", T0_S, T0_S + 1.0)
    asked = again.asks("neso", "GB", 0.0)
    again.close()

    assert [(75.0, 42.0)] == [(old.grams_per_kilowatthour, new.grams_per_kilowatthour) for old, new in revised]
    assert [] == list(same)
    assert [42.0, 60.0, *(10.0 + hour for hour in range(2, 40))] == numbers(known)
    assert [*known, value(40, 50.0)] == list(found)
    assert [75.0, 42.0] == numbers(versions)
    assert (1, asks) == (len(asks), asked)
    assert 2 == len(caplog.messages)
    assert "kept in memory only" in caplog.messages[0]
    assert "nothing was lost" in caplog.messages[1]


@contextlib.contextmanager
def full(file: Path) -> Iterator[None]:
    """A disk that takes nothing more."""
    with no_file_grows_beyond(file.with_name("ledger.sqlite-wal").stat().st_size):
        yield


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Another program is in the middle of a transaction."""
    code = "import sqlite3,sys; db=sqlite3.connect(sys.argv[1],isolation_level=None); db.execute('BEGIN IMMEDIATE');"
    code += "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert b"held" in other.stdout.readline()
        try:
            yield
        finally:
            other.communicate()


def test_a_disk_that_becomes_read_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is in the file is answered; what is new waits until it is writable again."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "t", tmp_path], check=False).returncode:
        need.missing("the right to mount a tmpfs")
    try:
        Count().open(tmp_path / "state").close()
        file = tmp_path / "state" / "ledger.sqlite"
        store = Intensities(file)
        store.add([value(0, 75.0)])
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        store = Intensities(file)
        with caplog.at_level(logging.INFO, "trainwatt"):
            revised = store.add([value(0, 42.0), value(1, 60.0)])
            known = store.known("DK-DK2", T0_S, T0_S + DAY_S)
            subprocess.run(["mount", "-o", "remount,rw", tmp_path], check=True)
            store.add([value(2, 50.0)])
        store.close()
        found = numbers(Intensities(file).known("DK-DK2", T0_S, T0_S + DAY_S))
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)

    assert [42.0, 60.0] == numbers(known)
    assert len(revised) <= 1
    assert [42.0, 60.0, 50.0] == found
    assert "nothing was lost" in caplog.messages[-1]


def test_a_file_that_is_gone_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No traceback, no file is made, and what was told in this life is answered."""
    store = Intensities(tmp_path / "ledger.sqlite")
    for hour in range(3):
        store.add([value(hour, 75.0)])
    known = store.known("DK-DK2", T0_S, T0_S + DAY_S)
    store.close()

    assert [75.0] * 3 == numbers(known)
    assert "cannot be opened" in caplog.messages[0]
    assert 1 == sum("cannot be opened" in line for line in caplog.messages)
    assert not list(tmp_path.iterdir())


def test_threads_share_it_with_the_writer(tmp_path: Path) -> None:
    """Two threads add and read while the ledger commits: nothing is lost, nobody fails."""
    count = Count()
    ledger = count.open(tmp_path)
    store = Intensities(tmp_path / "ledger.sqlite")
    zones = ("DE", "FR")

    def feed(zone: str) -> None:
        for hour in range(60):
            store.add([value(hour, 100.0 + hour, zone=zone), value(hour + 1, 7.0, Quality.FORECAST, zone=zone)])
            store.known(zone, T0_S, T0_S + DAY_S)

    threads = [Thread(target=feed, args=(zone,)) for zone in zones]
    for thread in threads:
        thread.start()
    count.keep(ledger, 40)
    for thread in threads:
        thread.join()
    found = {zone: numbers(store.known(zone, T0_S, T0_S + 60 * HOUR_S)) for zone in zones}
    failures = ledger.health(count.now()).write_failures
    store.close()
    ledger.close()

    assert {zone: [100.0 + hour for hour in range(60)] for zone in zones} == found
    assert 0 == failures


def simulate(store: Intensities, days: int) -> None:
    """What the feeds of three zones tell in so many days, every forecast another one than the last."""
    for hour in range(0, days * 24, 3):
        now_s = T0_S + hour * HOUR_S
        told = {"fetched": hour + 0.0123, "updated_at_s": now_s - 77.7}
        uk = {"zone": "GB", "provider": "neso", "span_s": 1800.0, "basis": Basis.DIRECT, "detail": "NESO"} | told
        dk = {"zone": "DK-DK1", "provider": "energinet", "span_s": 300.0, "basis": Basis.DIRECT} | told
        seen = [value(hour + half / 2, 137.0 + half + hour, Quality.FORECAST, **uk) for half in range(96)]  # type: ignore[arg-type]
        seen += [value(hour - 3 + half / 2, 100.0 + half, **uk) for half in range(6)]  # type: ignore[arg-type]
        seen += [value(hour - 3 + five / 12, 75.0 + five / 10, **dk) for five in range(36)]  # type: ignore[arg-type]
        for late in (3, 6, 24, 72):
            seen += [value(hour - late + one, 300.0 + late, zone="DE", **told) for one in range(3)]  # type: ignore[arg-type]
        seen += [value(hour + one, 300.0 + hour, Quality.FORECAST, zone="DE", **told) for one in range(24)]  # type: ignore[arg-type]
        store.add(seen)
        for minute in range(0, 180, 5):
            store.note_ask("energinet", "DK-DK1", "latest", now_s, now_s + 300.0, now_s + 60.0 * minute + 0.5)


def size_bytes(file: Path) -> int:
    """Of the tables in use."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        pages, free, each = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * each)


def test_a_day_takes_little_room(tmp_path: Path) -> None:
    """Below 0.2 MB, forecasts, revisions and asks included; once old forecasts go, a tenth of that is left of it."""
    count = Count()
    ledger = count.open(tmp_path)
    count.wall_offset_s = T0_S - count.mono_s + 8 * DAY_S
    store = Intensities(tmp_path / "ledger.sqlite")
    empty = size_bytes(tmp_path / "ledger.sqlite")
    simulate(store, days=8)
    before = store.known("GB", T0_S, T0_S + 8 * DAY_S)
    day = (size_bytes(tmp_path / "ledger.sqlite") - empty) / 8
    count.mono_s += 8 * DAY_S
    while ledger.tend():
        pass
    left = (size_bytes(tmp_path / "ledger.sqlite") - empty) / 8
    after, asks = store.known("GB", T0_S, T0_S + 8 * DAY_S), store.asks("energinet", "DK-DK1", 0.0)
    store.close()
    ledger.close()

    assert day < 200_000
    assert left < 60_000
    assert before == after
    assert [] == list(asks)


def test_what_settled_something_is_kept_as_long_as_the_rest(tmp_path: Path) -> None:
    """Of old forecasts the last one stays where nothing else was told; with the retention all values go."""
    count = Count()
    ledger = count.open(tmp_path, retention_days=30)
    store = Intensities(tmp_path / "ledger.sqlite")
    store.add([value(0, 1.0, Quality.FORECAST, fetched=0), value(0, 2.0, Quality.FORECAST, fetched=0.1)])
    store.add([value(1, 3.0, Quality.FORECAST, fetched=0), value(1, 4.0, Quality.ESTIMATED), value(1, 5.0, fetched=9)])
    store.add([value(20 * 24, 6.0, Quality.FORECAST, fetched=0)])

    def left(after_days: float) -> list[float]:
        count.wall_offset_s = T0_S - count.mono_s + after_days * DAY_S
        count.mono_s, count.wall_offset_s = count.mono_s + DAY_S, count.wall_offset_s - DAY_S
        while ledger.tend():
            pass
        return numbers(store.versions("DK-DK2", T0_S, T0_S + 30 * DAY_S))

    found = [left(days) for days in (7, 9, 30, 33, 60)]
    store.close()
    ledger.close()

    assert [[1.0, 3.0, 6.0, 2.0, 4.0, 5.0], [6.0, 2.0, 4.0, 5.0], [6.0, 2.0, 4.0, 5.0], [6.0], []] == found
    assert tending.FEEDS_FOR_S == 8 * DAY_S
