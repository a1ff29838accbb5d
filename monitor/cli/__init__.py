"""Words on a terminal: one file a verb, imported when it is called."""

import errno
import importlib
import os
import sys

import click

from monitor import __version__
from monitor.errors import TrainwattError

VERBS = {
    "serve": "Meter this machine and serve the figures over HTTP.",
    "run": "Run a command with its energy metered.",
    "check": "Tell which sensors there are, what they give, and what is missing.",
    "runs": "List the runs that the daemon knows: who, since when, how much.",
    "report": "Tell what a run used, from the daemon or from report files of its nodes, merged.",
    "forget": "Erase a run, or the runs of a user, from the ledger.",
    "grid": "Tell how clean the electricity is now, what is expected, and when to start.",
    "record": "Write down what the sensors answer, for a replay with --mock FILE.",
    "dashboards": "Write boards, rules and provisioning for a Grafana and a Prometheus that are there already.",
    "config": "Show every setting and where it came from.",
    "release": "Close a source, such as nvml, so that its driver can be changed.",
    "resume": "Open a released source again.",
}
"""Verb and its one line of help; `monitor/cli/VERB.py` holds the command of the same name."""


class Verbs(click.Group):
    """Imports a verb only when it is called: `trainwatt --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, D102  (of click)
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002, D102  (of click)
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"monitor.cli.{cmd_name}"), cmd_name)
        command.help = VERBS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002, D102
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trainwatt", message="%(prog)s %(version)s")
def cli() -> None:
    """Meter the energy and carbon of machine-learning training runs."""


def main() -> None:
    """Run the command line. Every error is one line on stderr; exit 2 for usage and configuration, 1 for failure."""
    try:
        code = cli.main(standalone_mode=False)
    except click.UsageError as error:
        _fail(error.format_message(), 2)
    except click.ClickException as error:
        _fail(error.format_message(), 1)
    except TrainwattError as error:
        _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            _fail(f"cannot write: {error.strerror}; make room, or write elsewhere", 1)
        if "TRAINWATT_TRACEBACK" in os.environ:
            raise
        message = f"internal error: {type(error).__name__}: {error}; please report it, with TRAINWATT_TRACEBACK=1 set"
        _fail(message, 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"trainwatt: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)
