"""The private daemon of a run, as `trainwatt run` starts it: `python -P -m monitor.cli.private DIRECTORY`. No verb."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from monitor.cli.options import load_settings, log_to_stderr, settings_flags
from monitor.cli.run import OF_PRIVATE_DAEMONS
from monitor.errors import TrainwattError
from monitor.runs.private import remove

LOG = logging.getLogger("trainwatt")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@settings_flags(*OF_PRIVATE_DAEMONS)
def private(directory: Path, config: Path | None, **flags: Any) -> int:
    """Meter until no run is alive; then nothing of the directory stays."""
    # Where a client starts it again after its job, signals are blocked, and the ledger is nobody else's to read.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    loaded = load_settings(config, flags)
    log_to_stderr(loaded)
    from monitor import app

    # A directory with a run that is still alive is left for the daemon that goes on with it.
    if app.private(directory, loaded.settings):
        remove(directory)
    return 0


def main() -> None:
    """Run it. The log is read by people whose daemon did not start: its last line says why."""
    try:
        code = private.main(standalone_mode=False)
    except TrainwattError as error:
        LOG.error("%s", error)  # noqa: TRY400  (one line says it all)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"trainwatt: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code)


if __name__ == "__main__":
    main()
