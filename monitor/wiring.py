"""What the settings ask for, built but not started: sources, grid, policy, and where the ledger is."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor import clock
from monitor.config import Settings
from monitor.core.model import Instant, RunBook
from monitor.core.ports import Now, Runs, Source
from monitor.core.snapshot import Policy
from monitor.grid import static

STALE_AFTER_TURNS = 3
SHORTEST_STALE_S = 5.0
LONGEST_WAIT_S = 15.0
"""So long joules wait to be told whose they are (DESIGN.md section 4)."""
SYSTEM_STATE = Path("/var/lib/trainwatt")
MACHINE_ID = Path("/etc/machine-id")


class Together:
    """The simulated runs of the mock, and those that real jobs register beside them."""

    def __init__(self, *books: Runs) -> None:
        self._books = books

    def runs(self, at: Instant) -> RunBook:
        """All of them."""
        books = [book.runs(at) for book in self._books]
        return RunBook(
            runs=tuple(run for book in books for run in book.runs),
            dropped=sum(book.dropped for book in books),
            altered=sum(book.altered for book in books),
        )


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the settings ask for, built but not started."""

    sources: Sequence[Source]
    simulated: Runs | None
    grid: static.StaticGrid
    policy: Policy
    has_processes: bool
    """Whether the devices are this machine's, so that its processes are those that use them."""


def wire(settings: Settings, *, now: Now = clock.now) -> Wiring:
    """Build the parts. Nothing is opened yet. Raises UsageError for settings that cannot be meant."""
    zone = static.resolve_zone(settings.zone) if settings.zone is not None else None
    sources, simulated = _sources(settings, now)
    has_processes = settings.mock is None
    policy = Policy(
        pue_ratio=settings.pue,
        zone=zone,
        stale_after_s=max(SHORTEST_STALE_S, STALE_AFTER_TURNS * settings.interval),
        owner_wait_s=LONGEST_WAIT_S if has_processes else 0.0,
        usage_wait_s=LONGEST_WAIT_S if has_processes else 0.0,
    )
    return Wiring(
        sources=sources,
        simulated=simulated,
        grid=static.StaticGrid(zone),
        policy=policy,
        has_processes=has_processes,
    )


def _sources(settings: Settings, now: Now) -> tuple[Sequence[Source], Runs | None]:
    if settings.mock is None:
        from monitor.sources import machine

        return machine.sensors(settings, now=now), None
    from monitor.sources import mock, replay

    file = Path(settings.mock)
    if settings.mock not in mock.SCENARIOS and file.exists():
        return replay.replay(file, now=now), None
    node = mock.Mock(settings.mock, now=now, interval_s=settings.interval)
    return [node], node


def state_directory(settings: Settings) -> Path:
    """Where the ledger is: as set, else the system's for root, else the user's for this machine (XDG base directories).

    Home directories are often shared between machines, so an ordinary user's is named after the machine.
    """
    if settings.state_dir is not None:
        return settings.state_dir
    if os.geteuid() == 0:
        return SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    try:
        machine = MACHINE_ID.read_text("ascii", "replace").strip()
    except OSError:
        machine = ""
    return home / "trainwatt" / (machine or node_name())


def node_name() -> str:
    """What reports call this machine."""
    return socket.gethostname()
