"""`trainwatt runs`: the runs that the daemon knows, the newest first."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from monitor import app
from monitor.cli.options import load_settings, settings_flags
from monitor.runs.protocol import ask


@click.command()
@settings_flags("socket")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="so many of the newest"
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable")
def runs(config: Path | None, limit: int, as_json: bool, **flags: Any) -> None:  # noqa: FBT001  (click passes flags so)
    """Exit 0 also when there is none."""
    answer = ask(load_settings(config, flags).settings.socket, {"op": "runs", "limit": limit})
    summaries = answer["runs"]
    if as_json:
        click.echo(json.dumps(summaries, indent=2))
    elif summaries:
        table = "\n".join(app.runs_table(summaries))
        click.echo(table.encode(sys.stdout.encoding, "backslashreplace"))
    else:
        click.echo("no run is known; start one with trainwatt run -- COMMAND")
    if answer.get("problem"):
        click.echo(f"trainwatt: ended runs may be missing: {answer['problem']}", err=True)
