"""Several ways to the same joules, best first, as one source: the first that opens is read, never two at once."""

from collections.abc import Sequence

from monitor.core.model import Instant, ReadFailure, Readout
from monitor.core.ports import Now, Source
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError

TRY_BETTER_S = 60.0
"""How often the better ways are tried while a lesser one is read."""


class FirstThatWorks:
    """The best of its members that opens. `name` and `period_s` are those of the member in use, at first the best's.

    Two members may give a device the same id, so that a run goes on holding it; but their counters have nothing in
    common, so a change of member closes the open interval of every device that the old one told of.
    """

    def __init__(self, members: Sequence[Source], *, now: Now) -> None:
        self.members = tuple(members)
        self._now = now
        self.name = self.members[0].name
        self.period_s = self.members[0].period_s
        self._open: Source | None = None
        self._next_try_s = 0.0
        self._teller: Source | None = None
        self._told_at: Instant | None = None
        self._told_of: frozenset[str] = frozenset()
        self._failures: list[ReadFailure] = []
        self._notes: tuple[str, ...] = ()

    def open(self) -> None:
        """Open the first member that can be. Raises the most telling error, with the texts of all of them."""
        self.close()
        errors = self._open_first(self.members)
        if self._open is None:
            self._show(self.members[0])
            worst = min((error for _member, error in errors), key=_rank)
            raise type(worst)("; ".join(str(error) for _member, error in errors), reason=worst.reason)

    def read(self) -> Readout:
        """Read the member in use, and now and then try a better one instead. Raises what the member raises."""
        if self._open is None:
            raise SourceBroken("no source is open")
        if self._open is not self.members[0] and self._now().mono_s >= self._next_try_s:
            self._try_better(self._open)
        member = self._open
        try:
            readout = member.read()
        except Exception:
            self.close()
            raise
        self._show(member)
        failures = (*self._parted_from(member), *self._failures, *readout.failures)
        notes = (*self._notes, *readout.notes)
        self._failures = []
        self._told_at = self._now()
        self._told_of |= {reading.device.id for reading in readout.readings}
        return readout._replace(failures=failures, notes=notes)

    def close(self) -> None:
        """Close the member in use."""
        if self._open is not None:
            self._open.close()
        self._open = None
        self._failures = []

    def _try_better(self, member: Source) -> None:
        """Shut the member, so that no two are ever open, and take a better one, or the same again."""
        self.close()
        errors = self._open_first(self.members[: self.members.index(member)])
        if self._open is None:
            member.open()
            self._take(member, errors)

    def _open_first(self, members: Sequence[Source]) -> list[tuple[Source, SourceError]]:
        """Open the first that can be; the errors of those before it."""
        errors: list[tuple[Source, SourceError]] = []
        for member in members:
            try:
                member.open()
            except SourceError as error:
                errors.append((member, error))
            except Exception as error:  # noqa: BLE001  (a defect of one way must not bar the others)
                errors.append((member, SourceBroken(f"{type(error).__name__}: {error}", reason="exception")))
            else:
                self._take(member, errors)
                break
        return errors

    def _take(self, member: Source, errors: list[tuple[Source, SourceError]]) -> None:
        """Use a member, and tell with its next readout what is wrong with the better ones that exist."""
        self._open = member
        self._show(member)
        at = self._now()
        self._next_try_s = at.mono_s + TRY_BETTER_S
        self._failures = [
            ReadFailure(
                device_id="", at=at, reason=error.reason, message=f"{error}; meanwhile {member.name} is read instead"
            )
            for _member, error in errors
            if not isinstance(error, SourceAbsent)
        ]
        self._notes = tuple(failure.message for failure in self._failures)

    def _show(self, member: Source) -> None:
        self.name, self.period_s = member.name, member.period_s

    def _parted_from(self, member: Source) -> tuple[ReadFailure, ...]:
        """What the member that was read before told of has lost its baseline, as of its last word."""
        before, at, device_ids = self._teller, self._told_at, sorted(self._told_of)
        if before is member:
            return ()
        self._teller, self._told_of = member, frozenset()
        if before is None or at is None:
            return ()
        message = f"{member.name} is now read instead of {before.name}: the time between is unmeasured"
        return tuple(
            ReadFailure(device_id=device_id, at=at, reason="switched", message=message, baseline_lost=True)
            for device_id in device_ids
        )


def _rank(error: SourceError) -> int:
    """Denied can be cured, broken should be known, absent is only absent."""
    return next((rank for rank, kind in enumerate((SourceDenied, SourceBroken)) if isinstance(error, kind)), 2)
