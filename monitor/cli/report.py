"""`trainwatt report`: what a run used, from the daemon, from report files, or from both merged."""

import errno
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from monitor import app
from monitor.cli import factors
from monitor.cli.options import load_settings, settings_flags
from monitor.config import Settings
from monitor.core.settlement import REACH_S
from monitor.errors import FailureError, UsageError
from monitor.runs.protocol import ask

STANDARD_OUTPUT = Path("-")
LATEST_UNIX_S = 253_402_300_799.0
"""The end of the year 9999."""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN|FILE...")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="what to write"
)
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="write it there; - = to stdout")
@click.option(
    "--reprice", is_flag=True, help="price its joules again, by what the report knows of each slot; live grams stay"
)
@click.option(
    "--as-of",
    metavar="TIME",
    help="price again only what had been used by then, with what had been fetched by then: ISO 8601 (UTC unless it "
    "says otherwise), or Unix seconds",
)
@click.option(
    "--factors",
    "source",
    type=click.Choice(["report", "static", "feeds"]),
    help="price again, with more than the report knows: the bundled yearly table, or the feeds of the settings  "
    "[default: report]",
)
@settings_flags("socket")
def report(
    *,
    runs: tuple[str, ...],
    form: str,
    output: Path | None,
    reprice: bool,
    as_of: str | None,
    source: str | None,
    config: Path | None,
    **flags: Any,
) -> None:
    """A file that exists is read, anything else is asked of the daemon as a run's id. Several of one run are merged."""
    as_of_s = None if as_of is None else unix_s(as_of)
    if as_of_s is not None and source == "feeds":
        raise UsageError("--as-of looks back, and feeds that are asked now tell what is known now: leave out one")
    settings = load_settings(config, flags).settings
    document = app.merge([_document(run, settings.socket) for run in runs])
    if reprice or as_of_s is not None or source is not None:
        document = _repriced(document, as_of_s, source, settings)
    text = app.report_json(document) if form == "json" else app.report_text(document)
    if output is None or output == STANDARD_OUTPUT:
        # A letter that the terminal's encoding has not is escaped.
        click.echo(text.encode(sys.stdout.encoding, "backslashreplace"), nl=False)
    else:
        app.write_report(output, text)


def unix_s(text: str) -> float:
    """The moment that somebody means. Raises UsageError."""
    try:
        moment_s = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
            moment_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            moment_s = -1.0
    if not 0.0 <= moment_s <= LATEST_UNIX_S:
        raise UsageError(f"--as-of {text[:40]!r}: expected a time such as 2026-11-21T12:00Z, or seconds of Unix time")
    return moment_s


def _repriced(
    document: dict[str, Any], as_of_s: float | None, source: str | None, settings: Settings
) -> dict[str, Any]:
    spans = factors.spans_of(document, REACH_S)
    more: dict[str, Any] = {}
    if source == "static":
        more = factors.of_table(spans)
    elif source == "feeds":
        more = factors.of_feeds(spans, settings)
    return app.reprice(document, now_s=time.time(), as_of_s=as_of_s, **more)


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
