"""`trainwatt report`: what a run used, from the daemon, from report files, or from both merged."""

import errno
import sys
from pathlib import Path
from typing import Any

import click

from monitor import app
from monitor.cli.options import load_settings, settings_flags
from monitor.errors import FailureError
from monitor.runs.protocol import ask

STANDARD_OUTPUT = Path("-")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN|FILE...")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="what to write"
)
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="write it there; - = to stdout")
@settings_flags("socket")
def report(runs: tuple[str, ...], form: str, output: Path | None, config: Path | None, **flags: Any) -> None:
    """A file that exists is read, anything else is asked of the daemon as a run's id. Several of one run are merged."""
    socket = load_settings(config, flags).settings.socket
    document = app.merge([_document(run, socket) for run in runs])
    text = app.report_json(document) if form == "json" else app.report_text(document)
    if output is None or output == STANDARD_OUTPUT:
        # A letter that the terminal's encoding has not is escaped.
        click.echo(text.encode(sys.stdout.encoding, "backslashreplace"), nl=False)
    else:
        app.write_report(output, text)


def _document(run: str, socket: Path | None) -> dict[str, Any]:
    path = Path(run)
    if _exists(path):
        return app.read_report(path)
    if path.suffix == ".json" or run.startswith(("/", "./", "../")):
        raise FailureError(f"there is no file {run!r}")
    try:
        answer = ask(socket, {"op": "report", "run": run})
    except FailureError as error:
        # A refusal speaks of the run; without a daemon it may have been meant as a file.
        hint = "" if run in str(error) else f"; and {run!r} is no file here"
        raise FailureError(f"{error}{hint}") from error
    return app.check_report(answer["report"], f"the daemon's report of {run!r}")


def _exists(path: Path) -> bool:
    """Whether it is a file's name; also when the file is not for us to see."""
    try:
        return path.exists()
    except ValueError:  # it has a zero byte
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
