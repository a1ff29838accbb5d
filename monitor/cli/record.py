"""`trainwatt record`: what the sensors of this machine answer, written down for a replay elsewhere."""

import math
import signal
import threading
from pathlib import Path
from typing import Any, TextIO

import click

from monitor import clock
from monitor.cli.options import load_settings, log_to_stderr, settings_flags
from monitor.ending import Ending
from monitor.errors import FailureError, UsageError
from monitor.sources.machine import sensors
from monitor.sources.recording import Recorded, Recorder
from monitor.sources.supervisor import Supervisor

LAST_WORDS_S = 1.0
"""How long the threads of the sources may take to end; what a driver that hangs would have said is left out."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seconds", type=float, default=60.0, show_default=True, metavar="N", help="how long to record")
@click.option("--force", is_flag=True, help="overwrite FILE")
@settings_flags("interval", "sysfs", "procfs")
def record(file: Path, seconds: float, force: bool, config: Path | None, **flags: Any) -> None:  # noqa: FBT001
    """Record until the time is over, SIGTERM or SIGINT."""
    if not (math.isfinite(seconds) and 0.0 < seconds < threading.TIMEOUT_MAX):
        raise UsageError(f"--seconds {seconds:g}: expected seconds above 0, such as 60")
    loaded = load_settings(config, flags)
    log_to_stderr(loaded)
    settings = loaded.settings
    sources = sensors(settings, now=clock.now)
    ended, start = Ending((signal.SIGTERM, signal.SIGINT)), clock.now()
    recorder = Recorder(
        _create(file, overwrite=force),
        start=start,
        interval_s=settings.interval,
        sources=tuple(source.name for source in sources),
        on_end=ended.ring,
    )
    stop = threading.Event()
    supervisors = [Supervisor(Recorded(source, recorder, now=clock.now), now=clock.now) for source in sources]
    threads = [supervisor.start(stop) for supervisor in supervisors]
    ended.wait_until(start.mono_s + seconds)
    stop.set()
    for supervisor in supervisors:
        supervisor.wake()
    gone_at_s = clock.now().mono_s + LAST_WORDS_S
    for thread in threads:
        thread.join(max(0.0, gone_at_s - clock.now().mono_s))
    recorder.close()
    if recorder.problem:
        raise FailureError(f"cannot write {file}: {recorder.problem}; what came before is in it")
    took_s = clock.now().mono_s - start.mono_s
    names = ", ".join(source.name for source in sources)
    click.echo(
        f"{file}: {took_s:.1f} s of {names}: {recorder.readings} readings; replay: trainwatt serve --mock {file}"
    )


def _create(file: Path, *, overwrite: bool) -> TextIO:
    try:
        return file.open("w" if overwrite else "x", encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"{file} exists; --force overwrites it") from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
