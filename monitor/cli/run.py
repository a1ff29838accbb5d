"""`trainwatt run`: a command with its energy metered, by the daemon that is there or by a private one.

A good guest: whatever is wrong with the metering is one line on stderr, and the command runs as it would without us.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from monitor.cli.options import load_settings, settings_flags
from monitor.core import budget
from monitor.errors import FailureError, UsageError
from monitor.runs import child, holdings, identity, private
from monitor.runs.protocol import ask

START_S = 5.0
"""The command waits for its metering no longer than this."""
LATE_S = 60.0
"""A daemon that was not ready by then is asked again for so long, while the command runs."""
ASIDE_S = 1.0
"""What is asked while the command runs waits no longer: signals wait, too."""
END_S = 5.0
PAUSE_S = 0.1
TOLD = (
    *("TRAINWATT_RUN", "TORCHELASTIC_RUN_ID", "LOCAL_RANK"),
    *("SLURM_JOB_ID", "SLURM_CLUSTER_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    *holdings.HINTS,
)
"""Variables of the job that the daemon is told of: whose run it is, and what it holds."""
LONGEST_TEXT = 1000
LONGEST_VARIABLE = 4096
LONGEST_FILE_NAME = 180
MOST_FILES = 1000
TAG_HELP = (
    "a tag; may be given several times; project=NAME is the run's project; budget_energy_kwh=N, budget_co2e_kg=N "
    "and budget_cost=N are what the whole run may use"
)
OF_PRIVATE_DAEMONS = ("zone", "interval", "pue", "sysfs", "procfs", "estimate_cpu_tdp")
"""Settings that make sense for a daemon without TCP."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="name of the run, for people  [default: the command's first words]")
@click.option("--id", "run_id", metavar="ID", help="id of the run  [default: the scheduler's, else one of its own]")
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help=TAG_HELP)
@click.option(
    "--report", metavar="PATH|none", help="file or directory of the report  [default: trainwatt-RUN-NODE.json here]"
)
@settings_flags("socket", *OF_PRIVATE_DAEMONS)
@click.argument("command", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *,
    command: tuple[str, ...],
    name: str | None,
    run_id: str | None,
    tags: tuple[str, ...],
    report: str | None,
    config: Path | None,
    **flags: Any,
) -> int:
    """Exit as the command does. The settings but --socket are for a private daemon: an installed one has its own."""
    settings = load_settings(config, flags).settings
    if run_id is not None and not run_id.strip():
        raise UsageError("--id is empty: leave it out, or name the run")
    wanted = {"op": "start", "name": name or short_name(command), "tags": _tags(tags)}
    child.require(command)
    environment = child.environment()
    metering = Metering(
        wanted, environment, run_id=run_id, named=settings.socket, arguments=daemon_arguments(config, flags)
    )
    metering.begin()
    try:
        with child.Child(command, environment | metering.variables()) as process:
            metering.join(process.pid)
            status = process.wait(metering.try_again if metering.is_late else None)
            document = metering.end(process.pid)
            if document is not None:
                _tell(document, metering.missing, report)
            metering.stop()
    except child.CommandError:
        metering.end(os.getpid())
        metering.stop()
        raise
    return child.end_like(status)


def short_name(command: Sequence[str]) -> str:
    """The file names of the first two words, unless the second is an option: "python train.py"."""
    words = [command[0], *(word for word in command[1:2] if not word.startswith("-"))]
    return " ".join(os.path.basename(word.rstrip("/")) or word for word in words)[:LONGEST_TEXT]  # noqa: PTH119


def _tags(given: Sequence[str]) -> dict[str, str]:
    tags = {}
    for tag in given[: 2 * identity.MOST_TAGS]:
        key, equals, text = tag.partition("=")
        if not (key.strip() and equals):
            raise UsageError(f"--tag {tag[:40]!r}: expected KEY=VALUE, such as --tag team=vision")
        tags[key[: identity.LONGEST_TAG_KEY + 1]] = text[: identity.LONGEST_TAG_VALUE + 1]
    for complaint in budget.complaints((key.strip(), text) for key, text in tags.items()):
        raise UsageError(f"--{complaint}")
    return tags


def daemon_arguments(config: Path | None, flags: Mapping[str, Any]) -> list[str]:
    """The flags that a private daemon is started with: it works in another directory, so paths are made absolute."""
    given = {name: flags[name] for name in OF_PRIVATE_DAEMONS if flags.get(name) is not None}
    given |= {name: Path(given[name]).absolute() for name in ("sysfs", "procfs") if name in given}
    if config is not None:
        given["config"] = config.absolute()
    return [f"--{name.replace('_', '-')}={text}" for name, text in given.items()]


def say(text: str) -> None:
    """One line on stderr, which may have been closed."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"trainwatt: {' '.join(text.split())}", err=True)


# -- the daemon ------------------------------------------------------------------------------------------------------


class Metering:
    """One run as its daemon knows it. No method raises, and each has an end."""

    def __init__(
        self,
        wanted: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        run_id: str | None,
        named: Path | None,
        arguments: Sequence[str] = (),
    ) -> None:
        told = {name: environment[name][:LONGEST_VARIABLE] for name in TOLD if name in environment}
        self._wanted = {**wanted, "environment": told} | ({"id": run_id} if run_id is not None else {})
        self._environment = environment
        self._named = named
        self._arguments = arguments
        self._private: private.Private | None = None
        self._socket: Path | None = None
        self._run = ""
        self._began_s = time.monotonic()
        self._pid = 0
        self._is_shared = False
        """The run goes on without us."""
        self.missing: list[str] = []
        self.is_late = False

    def begin(self) -> None:
        """Have the run metered from now on, if that can be had in time."""
        ends_s = self._began_s + START_S
        try:
            if not self._begin_with_installed(ends_s):
                self._begin_with_private(ends_s)
        except FailureError as error:
            self.is_late = self._socket is not None and time.monotonic() >= ends_s
            later = "it is metered as soon as that works" if self.is_late else "it is not metered"
            say(f"{error}; the command runs, {later}")

    def _begin_with_installed(self, ends_s: float) -> bool:
        self._socket = private.installed(self._named)
        if self._named is not None and self._socket != self._named:
            say(f"no daemon answers on {self._named}")
        if self._socket is None:
            return False
        try:
            self._start(ends_s - time.monotonic())
        except FailureError as error:
            if time.monotonic() >= ends_s:
                raise
            say(f"{error}; a daemon of its own meters the run")
            return False
        return True

    def _begin_with_private(self, ends_s: float) -> None:
        self._socket = None
        run_id = self._wanted.get("id") or derived_id(self._environment)
        self._wanted["id"] = run_id
        self._private = private.Private(run_id, self._arguments)
        self._socket = self._private.socket
        while True:
            self._private.bring(ends_s - time.monotonic())
            try:
                self._start(ends_s - time.monotonic())
            except FailureError:
                # One that was about to end took its leave in between: the next one is brought.
                if time.monotonic() >= ends_s or private.answering(self._socket) is not None:
                    raise
            else:
                return

    def _start(self, within_s: float) -> None:
        answer = ask(self._socket, self._wanted, timeout_s=max(0.1, within_s))
        self._run = str(answer["run"])
        self.missing = [str(line) for line in answer.get("missing", ())]

    def variables(self) -> dict[str, str]:
        """What the command's environment has more than ours. A private daemon may come later than the command."""
        run_id = self._run or (self._wanted["id"] if self._private is not None and self.is_late else "")
        return {"TRAINWATT_RUN": run_id, "TRAINWATT_SOCKET": str(self._socket)} if run_id else {}

    def try_again(self) -> bool:
        """Ask a daemon that was late once more. False: no more."""
        if time.monotonic() - self._began_s > START_S + LATE_S:
            return False
        with contextlib.suppress(FailureError):
            self._start(ASIDE_S)
            late_s = time.monotonic() - self._began_s
            self.missing.append(f"the first {late_s:.0f} s, before the daemon answered")
            self._join()
            return False
        return True

    def join(self, pid: int) -> None:
        """The command's process is a member of the run, too: should we be killed, the run goes on with it."""
        self._pid = pid
        if self._run:
            self._join()

    def _join(self) -> None:
        with contextlib.suppress(FailureError):  # it has ended already
            ask(self._socket, {"op": "join", "run": self._run, "pid": self._pid}, timeout_s=ASIDE_S)

    def end(self, pid: int) -> dict[str, Any] | None:
        """The report, if the run has ended with us. A daemon that has gone is awaited, a private one restarted."""
        if not self._run:
            return None
        ends_s = time.monotonic() + END_S
        while True:
            try:
                if self._private is not None:
                    self._private.bring(ends_s - time.monotonic())
                return self._end(pid, ends_s)
            except FailureError as error:
                if time.monotonic() + PAUSE_S < ends_s and private.answering(self._socket or Path()) is None:
                    time.sleep(PAUSE_S)
                    continue
                say(f"no report yet: {error}; once a daemon answers: trainwatt report {self._run}")
                return None

    def _end(self, pid: int, ends_s: float) -> dict[str, Any] | None:
        request = {"op": "end", "run": self._run}
        # The kernel may not have told the daemon yet that the command has ended.
        with contextlib.suppress(FailureError):
            ask(self._socket, {**request, "pid": pid}, timeout_s=max(0.1, ends_s - time.monotonic()))
        answer = ask(self._socket, request, timeout_s=max(0.1, ends_s - time.monotonic()))
        self._is_shared = not answer["ended"]
        if answer.get("late"):
            self.missing.insert(0, "the last joules of a device that did not tell them in time")
        report = answer.get("report")
        return report if isinstance(report, dict) else None

    def stop(self) -> None:
        """End a private daemon that nobody needs any more."""
        if self._private is not None and not self._is_shared:
            try:
                self._private.stop()
            except FailureError as error:
                say(str(error))


def derived_id(environment: Mapping[str, str]) -> str:
    """The id of a run that was given none, as the daemon derives it."""
    from monitor.runs.membership import ProcessTable

    processes = ProcessTable()
    own = processes.identify(os.getpid()) or identity.Process(os.getpid(), 0)
    parent = processes.parent(own.pid)
    return identity.run_id(environment, processes.origin(own), parent and processes.origin(parent))


# -- the report ------------------------------------------------------------------------------------------------------


def _tell(document: Mapping[str, Any], missing: Sequence[str], where: str | None) -> None:
    """The summary and the report file."""
    from monitor import app

    line = app.summary(dict(document))
    if where != "none":
        try:
            line += f"; report: {write_report(document, where)}"
        except FailureError as error:
            line += f"; {error}"
    say(line)
    if missing:
        say(f"not measured: {'; '.join(missing)}")


def write_report(document: Mapping[str, Any], where: str | None) -> Path:
    """Write the report where it was asked for, else under its own name here; the path it was written to.

    What is there is replaced only if it is an earlier report of the same run and ledger. A place that cannot be written
    to costs no measurement: then it goes to where private daemons live. Raises FailureError.
    """
    name = f"trainwatt-{document['run']['id']}-{document['node']}"
    own = re.sub(r"[^A-Za-z0-9._@+=-]+", "-", name)[:LONGEST_FILE_NAME] + ".json"
    path = Path(own) if where is None else Path(where)
    if where is not None and (path.is_dir() or where.endswith("/")):
        path /= own
    try:
        return _write(path, document)
    except FailureError as error:
        why = str(error)
    try:
        other = _write(private.home() / own, document)
    except FailureError:
        raise FailureError(f"{why}; name a place for it with --report") from None
    say(f"{why}; the report is in {other.parent}")
    return other


def _write(path: Path, document: Mapping[str, Any]) -> Path:
    from monitor import app

    # A pipe or a terminal keeps nothing that could be lost.
    target = path if path.exists() and not path.is_file() else _free(path, document)
    app.write_report(target, app.report_json(document))
    return target


def _free(path: Path, document: Mapping[str, Any]) -> Path:
    for number in range(1, MOST_FILES):
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not os.path.lexists(target) or _is_earlier(target, document):
            return target
    raise FailureError(f"cannot write {path}: it and {MOST_FILES} more of its name are there; remove some")


def _is_earlier(path: Path, document: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() and not path.is_symlink() else None
    except (OSError, ValueError, RecursionError):
        return False
    return (
        isinstance(found, dict)
        and found.get("format") == document["format"]
        and found.get("ledger") == document["ledger"]
        and isinstance(found.get("run"), dict)
        and found["run"].get("id") == document["run"]["id"]
        and found.get("node") == document["node"]
    )
