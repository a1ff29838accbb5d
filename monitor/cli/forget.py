"""`trainwatt forget`: the ledger's memory of a run, or of all ended runs of a user, is erased."""

import sys
from pathlib import Path
from typing import Any

import click

from monitor.cli.options import load_settings, settings_flags
from monitor.errors import UsageError
from monitor.runs.protocol import ask


@click.command()
@click.argument("run", required=False)
@click.option("--user", metavar="USER", help="all runs of this user, by name or uid")
@click.option("--yes", is_flag=True, help="do not ask")
@settings_flags("socket")
def forget(run: str | None, user: str | None, yes: bool, config: Path | None, **flags: Any) -> None:  # noqa: FBT001
    """Your own runs; an administrator may forget those of others."""
    if (run is None) == (user is None):
        raise UsageError("name one run, or one user with --user: trainwatt forget RUN, or trainwatt forget --user USER")
    socket = load_settings(config, flags).settings.socket
    what = f"the run {run!a}" if run is not None else f"all runs of the user {user!a}"
    if not (yes or _agreed(what)):
        click.echo("nothing was forgotten")
        sys.exit(1)
    request = {"op": "forget", "run": run} if run is not None else {"op": "forget", "user": user}
    forgotten = ask(socket, request)["forgotten"]
    click.echo(
        f"forgotten: {forgotten} {'run' if forgotten == 1 else 'runs'}" if forgotten else "there was nothing to forget"
    )


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"this erases {what} from the ledger for good; say --yes to do it without being asked")
    return click.confirm(f"Erase {what} from the ledger for good?")
