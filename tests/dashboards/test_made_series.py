"""Panels' queries over series made for promtool: what no played day has, such as a node set up anew."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.dashboards.boards import ALL, TARGETS, filled_in
from tests.harness import need

TARGET = 'job="trainwatt",instance="{}"'
NODE = f"{TARGET.format('a:9595')}"
ENERGY = f'trainwatt_node_measured_energy_joules_total{{{NODE},component="gpu",method="counter"}}'
KILOWATTHOUR_J = 3600000


def ledger(name: str) -> str:
    """The description of the node's ledger."""
    return f'trainwatt_ledger_info{{{NODE},ledger="{name}",state="file"}}'


def query(board: str, title: str, ref_id: str) -> str:
    """What a panel asks, with everything chosen, over ten minutes."""
    (found,) = [one for one in TARGETS if str(one) == f"{board}/{title}/{ref_id}"]
    return filled_in(found.expr, {"$__range": "10m", **ALL})


def assert_answer(directory: Path, expr: str, series: Mapping[str, str], labels: str, value: float) -> None:
    """Promtool, at the twentieth minute of these values, one a minute."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"round({expr}, 0.001)", "eval_time": "20m", "exp_samples": [{"labels": labels, "value": value}]}
        ],
    }
    file = directory / "test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(
        [need.program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_what_was_counted_before_anybody_scraped_is_of_no_month(tmp_path: Path) -> None:
    """A node that ran for long, and is scraped, or kept, only since this month: not its whole life."""
    series = {
        ENERGY: f"_x15 {1000 * KILOWATTHOUR_J}+{KILOWATTHOUR_J}x5",
        ledger("L1"): "_x15 1x5",
    }
    expr = query("trainwatt-fleet", "Energy by node this month", "A")

    assert_answer(tmp_path, expr, series, '{instance="a:9595",method="counter"}', 5)


def test_a_node_set_up_anew_has_what_its_new_ledger_counted(tmp_path: Path) -> None:
    """Never the new ledger's total less the old one's."""
    for old, new in (("L1", "L2"), ("L2", "L1")):
        series = {
            ENERGY: f"{100 * KILOWATTHOUR_J}+{KILOWATTHOUR_J}x14 0+{KILOWATTHOUR_J}x2 {2 * KILOWATTHOUR_J}x10",
            ledger(old): "1x14 stale",
            ledger(new): "_x15 1x10",
        }
        expr = query("trainwatt-fleet", "Energy by node this month", "A")

        assert_answer(tmp_path, expr, series, '{instance="a:9595",method="counter"}', 2)


def test_costs_are_of_the_project_that_a_run_belongs_to_now(tmp_path: Path) -> None:
    """A rename within the range: never under the old name, whichever comes first in the alphabet."""
    words = 'run="r",ledger="L1",name="n",user="u",launcher="x",job_id="1"'
    for old, new in (("aaa", "bbb"), ("bbb", "aaa")):
        series = {
            f'trainwatt_run_cost_total{{{NODE},run="r",ledger="L1",currency="EUR"}}': "0+1x20",
            f'trainwatt_run_info{{{NODE},{words},project="{old}"}}': "1x14 stale",
            f'trainwatt_run_info{{{NODE},{words},project="{new}"}}': "_x15 1x10",
        }
        expr = query("trainwatt-fleet", "Cost of runs by project", "A")

        assert_answer(tmp_path, expr, series, f'{{currency="EUR",project="{new}"}}', 20)


def test_a_run_whose_node_moved_has_an_end(tmp_path: Path) -> None:
    """The old address said last that the run goes on."""
    series = {
        f'trainwatt_run_active{{{NODE},run="r",ledger="L1"}}': "1x12 stale",
        f'trainwatt_run_active{{{TARGET.format("b:9595")},run="r",ledger="L1"}}': "_x13 1 1 0x10",
        f'trainwatt_run_end_timestamp_seconds{{{TARGET.format("b:9595")},run="r",ledger="L1"}}': "_x15 900x10",
    }

    assert_answer(tmp_path, query("trainwatt-run", "Start and end", "B"), series, '{run="r"}', 900000)
