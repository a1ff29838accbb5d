"""`trainwatt resume`: the daemon opens a released source again."""

from pathlib import Path
from typing import Any

import click

from monitor.cli.options import load_settings, settings_flags
from monitor.errors import FailureError
from monitor.runs.protocol import ask


@click.command()
@settings_flags("socket")
@click.argument("source")
def resume(config: Path | None, source: str, **flags: Any) -> None:
    """Exit 0 when the source is read again, or was not released; 1 when it cannot be read, with the reason."""
    answer = ask(load_settings(config, flags).settings.socket, {"op": "resume", "source": source})
    if not answer["was_released"]:
        click.echo(f"{source} was not released: nothing to do")
    elif answer["up"]:
        click.echo(f"{source} is read again")
    else:
        raise FailureError(f"{source} is not released any more, but cannot be read: {answer['problem']}")
