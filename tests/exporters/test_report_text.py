import re
from typing import Any

import pytest

from exporters.quantities import duration, grams, joules, percent, plain, quantity
from exporters.report_document import run_summary
from exporters.report_merge import merge
from exporters.report_text import WIDTH, report_text, summary_line
from exporters.runs_table import runs_table
from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Method, Progress, Quality
from tests.exporters.test_report_document import CPU, GPU, demo, device, document, snapshot, totals
from tests.exporters.test_report_merge import on, private

MIXED = totals(
    demo(end=None, progress=Progress(steps=1, tokens=1000)),
    energy_j={
        (Component.CPU, Method.ESTIMATED, ShareKind.WHOLE): 1_140.0,
        (Component.GPU, Method.INTEGRATED, ShareKind.EQUAL): 11_200.0,
    },
    emissions_g={
        (Method.ESTIMATED, Basis.LIFECYCLE, Quality.STATIC): 0.1,
        (Method.INTEGRATED, Basis.LIFECYCLE, Quality.STATIC): 1.2,
        (Method.INTEGRATED, Basis.LIFECYCLE, Quality.ACTUAL): 0.4,
        (Method.INTEGRATED, Basis.DIRECT, Quality.ACTUAL): 0.8,
    },
    phase_j={"train": 9_000.0, "eval": 1_000.0},
    measured_s=61.2,
    recovered_j=500.0,
    unpriced_j=12.0,
)


def test_one_line_says_it_all() -> None:
    """Joules, watt-hours, time, components, grams with their zone, quality and basis, coverage and steps."""
    assert summary_line(document()) == (
        "run demo: 12.34 kJ (3.43 Wh) in 61.2 s: GPU 11.20 kJ, CPU 1.14 kJ; 1.2 g CO2e (DE, static, lifecycle); "
        "100 % of the time measured; 60 steps"
    )


def test_the_line_keeps_kinds_and_bases_apart() -> None:
    """Estimated joules and grams stand apart under that name, bases are never added, and a live run says so."""
    assert summary_line(document(MIXED)) == (
        "run demo: 11.20 kJ (3.11 Wh) in 61.2 s so far: GPU 11.20 kJ; 1.14 kJ (316.7 mWh) ESTIMATED: CPU 1.14 kJ; "
        "estimated 100 mg CO2e (DE, static, lifecycle); 1.6 g CO2e (DE, actual and static, lifecycle); "
        "800 mg CO2e (DE, actual, direct); 50 % of the time measured; 1 step"
    )


def test_what_is_not_known_is_not_in_the_line() -> None:
    """Without joules, grams, coverage and steps there is no number but the time."""
    bare = totals(demo(progress=Progress()), energy_j={}, emissions_g={}, held_s=0.0, measured_s=0.0)

    assert summary_line(document(bare, factors=())) == "run demo: no energy is known in 61.2 s"


def test_simulated_joules_are_named_in_both() -> None:
    """Nobody can take a simulation for a measurement."""
    simulated = totals(
        demo(),
        energy_j={(Component.GPU, Method.SIMULATED, ShareKind.WHOLE): 5.0},
        emissions_g={(Method.SIMULATED, Basis.LIFECYCLE, Quality.STATIC): 1.2},
    )

    assert "5.00 J (1.39 mWh) SIMULATED in 61.2 s" in summary_line(document(simulated))
    assert "simulated 1.2 g CO2e" in summary_line(document(simulated))
    assert "100 % of the time simulated" in summary_line(document(simulated))
    assert "SIMULATED, not measured" in report_text(document(simulated))
    assert "nothing was measured" in report_text(document(simulated))


def section(text: str, head: str) -> list[str]:
    """The lines under a head."""
    return text.split(f"\n{head}", 1)[1].split("\n\n", 1)[0].splitlines()[1:]


def test_energy_is_told_by_method_share_phase_and_step() -> None:
    """Every kind has its sum and its parts with how they are known; phases with the rest; joules per step."""
    assert section(report_text(document(MIXED)), "Energy") == [
        "  11.20 kJ (3.11 Wh), measured",
        "    GPU         11.20 kJ  integrated from measured power; shared, split equally",
        "    11.20 kJ per step, 11.20 J per token",
        "  1.14 kJ (316.7 mWh), ESTIMATED",
        "    CPU          1.14 kJ  ESTIMATED, not measured; held alone",
        "  held alone: all that the device used in that time, idle or not",
        "  split equally: nothing told what each of its runs used",
        "  by phase, all of these together",
        "    train                        9.00 kJ        72.9 %",
        "    eval                         1.00 kJ         8.1 %",
        "    (no phase told)              2.34 kJ          19 %",
    ]


def test_idle_joules_and_the_rights_of_shares_are_told() -> None:
    """How much of it is idle, by component; what each kind of share means, in a line where there is one."""
    entry = totals(
        demo(progress=Progress()),
        energy_j={
            (Component.GPU, Method.COUNTER, ShareKind.USAGE): 9_000.0,
            (Component.GPU, Method.COUNTER, ShareKind.SLICE): 800.0,
            (Component.CPU, Method.COUNTER, ShareKind.USAGE): 500.0,
        },
        idle_j={Component.CPU: 120.0, Component.GPU: 1_000.0},
    )
    lines = section(report_text(document(entry)), "Energy")

    assert [
        "    GPU          9.00 kJ  measured by an energy counter; shared, split by use",
        "    GPU          800.0 J  measured by an energy counter; shared, split by slices",
        "    CPU          500.0 J  measured by an energy counter; shared, split by use",
        "  of it idle: GPU 1.00 kJ, CPU 120.0 J (drawn by its devices even without any work)",
    ] == lines[1:5]
    assert [line.partition(":")[0] for line in lines[5:]] == ["  split by use", "  split by slices"]
    assert "proportional to power" in report_text(document(entry))
    assert "of it idle" not in report_text(document())
    assert "held alone: all" not in report_text(document())


def test_grams_carry_basis_quality_zone_provider_and_pue() -> None:
    """Every kind and basis has its line; factors name zone, quality and provider; unpriced joules are told."""
    assert section(report_text(document(MIXED)), "CO2e") == [
        "  100 mg CO2e of ESTIMATED energy; lifecycle basis; intensity: static",
        "  1.6 g CO2e of measured energy; lifecycle basis; intensity: actual and static",
        "  800 mg CO2e of measured energy; direct basis; intensity: actual",
        "  12.00 J (3.33 mWh) have no grams",
        "  PUE 1, in the grams and costs only",
        "  DE: 350 g/kWh, static, lifecycle, average; ember: 2025",
    ]


def test_coverage_tells_unmeasured_time_and_what_was_recovered() -> None:
    """Half of the time unmeasured is told in device-seconds, and joules of a time without a daemon in joules."""
    assert section(report_text(document(MIXED)), "Coverage") == [
        "  50 % of the time of its devices was measured; 61.2 of 122.4 device-seconds were not",
        "  500.0 J of the energy were used while no daemon ran; the hardware's counters told them",
        "      afterwards",
    ]


def test_errors_stand_apart_and_unknown_is_said() -> None:
    """Sensor, integration, attribution and factor each have their line; what nobody knows is unknown."""
    estimate = {
        GPU: device(GPU, Component.GPU, calibration_ratio=1.02),
        CPU: device(CPU, Component.CPU, error_ratio=0.3),
    }

    assert section(report_text(document(MIXED, snapshot(MIXED, devices=estimate))), "Errors") == [
        "  sensor: GPU: unknown after calibration (x 1.02)",
        "  sensor: estimated joules: +-30 % at least",
        "  integration: integrated power: unknown",
        "  attribution: devices held alone: none, idle power included",
        "  attribution: devices shared (equal): unknown; nothing tells the runs apart",
        "  factor: actual intensity: unknown",
        "  factor: static intensity: unknown; a yearly mean stands for every hour",
    ]
    assert "sensor: GPU: gain -8 to +4 % on most cards" in report_text(document())


def test_a_merged_report_names_its_nodes_and_what_did_not_count() -> None:
    """Nodes with their joules and ledgers, older reports that were left out, and doubts are in the text."""
    older = on("node-b", written_at_wall_s=1_790_000_050.0)
    text = report_text(merge([on("node-a"), on("node-b"), older]))
    both = tuple((10.0 * i, 10.0 * (i + 1)) for i in range(6))
    doubted = merge([private("first", *both), private("second", *both)])

    assert "nodes       node-a, node-b" in text
    assert section(text, "Nodes") == [
        "  node-a: 12.34 kJ in 61.2 s, ended; ledger ledger-node-a",
        "  node-b: 12.34 kJ in 61.2 s, ended; ledger ledger-node-b",
        "  left out: a report of node-b of 2026-09-21 14:14:10 UTC; there is a newer one of ledger",
        "      ledger-node-b",
    ]
    assert "may be in here twice" in " ".join(report_text(doubted).split())
    assert "BUT joules may be in it twice" in summary_line(doubted)


@pytest.mark.parametrize("changes", [{}, {"name": "", "user": "x" * 5000, "tags": (("k" * 99, "v" * 999),) * 9}])
def test_no_line_is_longer_than_a_terminal(changes: dict[str, Any]) -> None:
    """Whatever the names, lines have an end."""
    text = report_text(document(totals(demo(**changes))))

    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_names_cannot_move_the_cursor() -> None:
    """Escapes, newlines and turned-round letters of a name are shown, not obeyed."""
    evil = "\x1b[2Jboo\r\nok\u202e\x9b"
    phases = {evil: 5.0}
    entry = totals(demo(name=evil, user=evil, tags=((evil, evil),)), phase_j=phases)
    text = (
        summary_line(document(entry))
        + report_text(document(entry))
        + "\n".join(runs_table([run_summary(entry, snapshot())]))
    )

    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) == []
    assert r"\x1b[2Jboo\r\nok\u202e\x9b" in text


def test_runs_are_a_table() -> None:
    """A run a line under its head, whole ids, a dash for what is not known."""
    entries = [totals(demo()), totals(demo(id="demo-1@ada", user="", name="", end=None), energy_j={}, emissions_g={})]

    assert runs_table([run_summary(entry, snapshot()) for entry in entries]) == [
        "id          name  user  state    start (UTC)          duration  energy    CO2e",
        "demo-1      demo  ada   ended    2026-09-21 14:13:20  61.2 s    12.34 kJ  1.2 g",
        "demo-1@ada  -     -     running  2026-09-21 14:13:20  61.2 s    -         -",
    ]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (joules(0.0), "0 J"),
        (joules(0.0004), "0.40 mJ"),
        (joules(999.96), "1.00 kJ"),
        (joules(12_340.0), "12.34 kJ"),
        (joules(123_456.0), "123.5 kJ"),
        (joules(99.996), "100.0 J"),
        (quantity(3.6e12, "Wh"), "3.60 TWh"),
        (grams(0.0), "0 g CO2e"),
        (grams(0.00123), "1.2 mg CO2e"),
        (grams(1.24), "1.2 g CO2e"),
        (grams(124.0), "120 g CO2e"),
        (grams(9.96), "10 g CO2e"),
        (grams(999.0), "1.0 kg CO2e"),
        (grams(2.5e6), "2.5 t CO2e"),
        (duration(0.7), "0.7 s"),
        (duration(119.9), "119.9 s"),
        (duration(125.0), "2 min 05 s"),
        (duration(3725.0), "1 h 02 min"),
        (duration(90_000.0), "1 d 01 h"),
        (percent(1.0), "100 %"),
        (percent(0.99999), "over 99.9 %"),
        (percent(0.00001), "under 0.1 %"),
        (percent(0.0), "0 %"),
        (percent(0.123), "12.3 %"),
        (plain("x" * 70), "x" * 57 + "..."),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    """Three or four digits with a prefix; nothing is rounded up to all or down to nothing."""
    assert expected == shown
