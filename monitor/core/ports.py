"""What one edge needs of another, as protocols: `app.py` passes the one to the other, so that siblings never meet."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from monitor.core.model import GridState, Instant, Intensity, LedgerHealth, Readout, RunBook
from monitor.core.snapshot import Interval, RunTotals, Snapshot

Now = Callable[[], Instant]
"""The clock of whoever stamps a reading: called beside the driver call."""


class Source(Protocol):
    """Where joules and watts come in. A source only reads; its supervisor owns time, retry, counts and logs.

    `name` is the label `source`; `period_s` how often it wants to be read, which may change after `open` and after
    each `read`, when it knows what its devices offer.
    """

    name: str
    period_s: float

    def open(self) -> None:
        """Find the hardware. Raises a SourceError that says what the supervisor should do."""
        ...

    def read(self) -> Readout:
        """Read every device once, energy first. A device that fails is a record; raising means the whole source."""
        ...

    def close(self) -> None:
        """Give every handle back; never raises."""
        ...


@runtime_checkable
class EnergyFirst(Protocol):
    """A source whose `read` leaves out what is not due, or does more than energy: at a run's edge it is asked this."""

    def read_energy(self) -> Readout:
        """Read the energy of every device now, whatever is due, and nothing else. Raises like `read`."""
        ...


class Runs(Protocol):
    """Which runs there are: the alive ones, and the ended ones that are still shown."""

    def runs(self, at: Instant) -> RunBook:
        """Every run to show at this moment."""
        ...


class Grid(Protocol):
    """What is known of the carbon intensity, in order of preference."""

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:
        """Slots that price energy used up to this moment; the same tuple while nothing has changed. Never blocks."""
        ...

    def state(self) -> GridState:
        """Feeds, prices, outlooks and settled figures; the same object while nothing has changed. Never blocks."""
        ...


class IntensityStore(Protocol):
    """Every value that a provider ever gave, append-only. From the grid's threads; slow, so never from the loop.

    A value is (provider, zone, signal, basis, valid from, valid until); another number or quality for it is a new
    version. A disk that cannot be written is no error: it is remembered in memory then.
    """

    def add(self, seen: Sequence[Intensity]) -> Sequence[tuple[Intensity, Intensity]]:
        """Keep what is new; return (old, new) of every value that is no forecast and whose number has changed."""
        ...

    def known(self, zone: str, start_s: float, end_s: float, *, as_of_s: float | None = None) -> Sequence[Intensity]:
        """The newest version of each value that overlaps [start, end), of either signal, oldest slot first.

        As of a moment: what had been fetched by then, and neither fetched nor revised later.
        """
        ...

    def versions(self, zone: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        """Every version of each value, oldest fetch first."""
        ...

    def note_ask(  # noqa: PLR0917  (a row of a table)
        self, provider: str, zone: str, what: str, start_s: float, end_s: float, at_s: float
    ) -> None:
        """Remember that the provider was asked at `at_s` for [start, end); `what` is a word of the asker's."""
        ...

    def asks(self, provider: str, zone: str, since_s: float) -> Sequence[tuple[str, float, float, float]]:
        """(what, start, end, at) of what the provider was asked since then, oldest first."""
        ...


class SnapshotView(Protocol):
    """The published snapshot: reading it costs one attribute access and changes nothing."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest published one."""
        ...


class Keeper(Protocol):
    """What keeps the count: it is handed every snapshot and commits now and then. Never blocks, never raises."""

    def offer(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Take a snapshot and what its turn booked; commit within a second, or now."""
        ...

    def health(self, at: Instant) -> LedgerHealth:
        """How it fares now."""
        ...


class History(Protocol):
    """What the ledger remembers of runs, the ended ones too. From any thread; slow, so never from the loop."""

    def recent(self, limit: int) -> Sequence[RunTotals]:
        """Runs, newest start first. Raises FailureError when the ledger cannot be read."""
        ...

    def find(self, run_id: str) -> RunTotals | None:
        """One run as it was committed last. Raises FailureError."""
        ...

    def intervals(self, run_id: str) -> Sequence[Interval]:
        """Its energy by bucket of time, oldest first. Raises FailureError."""
        ...

    def energy_by_slot(
        self, run_id: str, start_wall_s: float, end_wall_s: float, slot_s: int
    ) -> Sequence[tuple[str, float, float, float]]:
        """(zone, slot's start in Unix time, joules, PUE then) of a run, in slots that are multiples of `slot_s`.

        Oldest first; the slot that an interval begins in has all of it. Raises FailureError.
        """
        ...

    def pue_changes(self, start_wall_s: float, end_wall_s: float) -> Sequence[tuple[float, float]]:
        """(Unix time, PUE from then on) of [start, end): what held at its start, then each change. Raises FailureError.

        A bucket of energy has the PUE of the moment it begins at.
        """
        ...

    def unsettled(self, since_wall_s: float) -> Sequence[str]:
        """Ids of the runs that are alive or ended since then. Raises FailureError."""
        ...

    def factors(self, start_wall_s: float, end_wall_s: float) -> Sequence[Intensity]:
        """Every intensity that priced energy of this time. Raises FailureError."""
        ...
