"""`trainwatt serve`: the daemon."""

from pathlib import Path
from typing import Any

import click

from monitor import app
from monitor.cli.options import PLACEHOLDERS, load_settings, log_to_stderr, settings_flags


@click.command()
@settings_flags(*PLACEHOLDERS)
def serve(config: Path | None, **flags: Any) -> None:
    """Meter this machine until SIGTERM or SIGINT."""
    loaded = load_settings(config, flags)
    log_to_stderr(loaded)
    app.serve(loaded.settings)
