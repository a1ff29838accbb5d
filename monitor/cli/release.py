"""`trainwatt release`: the daemon lets go of a source, so that its driver can be changed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from monitor.cli.options import load_settings, settings_flags
from monitor.runs.protocol import DEFAULT_RELEASE_S, LONGEST_RELEASE_S, ask


@click.command()
@settings_flags("socket")
@click.option(
    "--limit",
    "limit_s",
    type=click.IntRange(1, LONGEST_RELEASE_S),
    default=DEFAULT_RELEASE_S,
    show_default=True,
    metavar="SECONDS",
    help="open it again by itself after so long",
)
@click.argument("source")
def release(config: Path | None, source: str, limit_s: int, **flags: Any) -> None:
    """Return when every handle of the source, such as nvml, is closed. Doing it again extends the time."""
    path = load_settings(config, flags).settings.socket
    answer = ask(path, {"op": "release", "source": source, "limit_s": limit_s})
    ends = datetime.fromtimestamp(answer["released_until_s"], UTC)
    click.echo(f"{source} is closed until {ends:%Y-%m-%d %H:%M:%S} UTC; trainwatt resume {source} opens it earlier")
