"""A recorded session played back: the same readings, failures and errors at the same relative times, SIMULATED.

What it may not do: go on after the end. A recording does not repeat, since its counters would jump.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from monitor import clock
from monitor.core.model import Device, Instant, Origin, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceError, UsageError
from monitor.sources.recording import FORMAT, SOURCE_ERRORS, VERSION, Header, RecordedError, Turn

LOG = logging.getLogger("trainwatt")

E = TypeVar("E", Reading, ReadFailure)
PREFIX = "mock-"
EARLY_RATIO = 0.25
"""A turn is due so much of a period early: two threads do not wake at the same microsecond of their deadlines."""
EARLY_OPEN_S = 1.0
"""While a source is down its times stray: the waits between two attempts count from the end of the first."""

_HEADER = TypeAdapter(Header)
_TURN = TypeAdapter(Turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A whole file. Instants in its readings are relative to the header's; devices are disguised as simulated."""

    file: Path
    header: Header
    turns: Sequence["PlannedTurn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTurn:
    """One turn to be given again."""

    t_s: float
    source: str
    name: str
    period_s: float
    readout: Readout
    during: str
    error: RecordedError | None


class Replay:
    """One source of a recording. `begin` is the present moment that stands for t_s = 0."""

    def __init__(self, source: str, recording: Recording, *, now: Now, begin: Instant) -> None:
        self.name = PREFIX + source
        self.period_s = recording.header.interval_s
        self._now = now
        self._begin = begin
        self._left = deque(turn for turn in recording.turns if turn.source == source)
        self._down: RecordedError | None = None
        self._over = f"the recording {recording.file} has ended"

    def open(self) -> None:
        """Raise what the source raised then; SourceAbsent after the end."""
        turn = self._next()
        if not self._is_due(turn, EARLY_OPEN_S):
            if self._down is not None:
                raise _error(self._down)
        elif turn.error is not None and turn.during == "open":
            raise self._failed(turn, turn.error)
        self._down = None

    def read(self) -> Readout:
        """All that the source has said by now; an error is raised in a turn of its own."""
        turn = self._next()
        said: list[Readout] = []
        while self._is_due(turn, EARLY_RATIO * self.period_s):
            if turn.error is not None:
                if said:
                    break
                raise self._failed(turn, turn.error)
            said.append(self._take(turn).readout)
            if not self._left:
                break
            turn = self._left[0]
        return Readout(
            readings=tuple(self._moved(reading) for readout in said for reading in readout.readings),
            failures=tuple(self._moved(failure) for readout in said for failure in readout.failures),
            notes=said[-1].notes if said else (),
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _next(self) -> PlannedTurn:
        if not self._left:
            raise SourceAbsent(self._over)
        return self._left[0]

    def _is_due(self, turn: PlannedTurn, early_s: float) -> bool:
        return turn.t_s - early_s <= self._now().mono_s - self._begin.mono_s

    def _take(self, turn: PlannedTurn) -> PlannedTurn:
        self._left.popleft()
        self.name, self.period_s = PREFIX + turn.name, turn.period_s
        return turn

    def _failed(self, turn: PlannedTurn, error: RecordedError) -> SourceError:
        self._take(turn)
        self._down = error
        return _error(error)

    def _moved(self, event: E) -> E:
        at = event.at
        return event._replace(at=Instant(self._begin.mono_s + at.mono_s, self._begin.wall_s + at.wall_s))


def replay(file: Path, *, now: Now) -> list[Replay]:
    """A source for each one of a recording, all beginning now. Raises UsageError for a file that is damaged."""
    recording = load(file)
    present = now()
    firsts = [next((t.t_s for t in recording.turns if t.source == name), 0.0) for name in recording.header.sources]
    period_s = recording.header.interval_s
    # On a deadline, as t_s = 0 was, and so that the first turn of each source is due at once.
    begin_s = math.floor((present.mono_s - max(firsts, default=0.0)) / period_s + clock.ROUNDING) * period_s
    begin = Instant(begin_s, present.wall_s - (present.mono_s - begin_s))
    return [Replay(source, recording, now=now, begin=begin) for source in recording.header.sources]


def load(file: Path) -> Recording:
    """Read a recording. Raises UsageError with file and line; a last line that was cut off is a warning."""
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read the recording {file}: {error.strerror}") from error
    header = _parse_header(file, lines[0])
    turns = list(_parse_turns(file, header, lines))
    ids = frozenset(device.id for _number, turn in turns for device in turn.devices)
    known: dict[str, Device] = {}
    planned = []
    for number, turn in turns:
        known |= {device.id: _disguised(device, ids) for device in turn.devices}
        planned.append(_planned(f"{file}, line {number}", header, turn, known))
    return Recording(file=file, header=header, turns=planned)


def _parse_header(file: Path, line: bytes) -> Header:
    where = f"{file}, line 1"
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{where}: this is no recording; `trainwatt record FILE` makes one")
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UsageError(f"{where}: format {version} is newer than {VERSION}, the newest known here; update trainwatt")
    try:
        return _HEADER.validate_json(line)
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from error


def _parse_turns(file: Path, header: Header, lines: Sequence[bytes]) -> Iterator[tuple[int, Turn]]:
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            turn = _TURN.validate_json(line)
        except ValidationError as error:
            cut_off = number == len(lines) and error.errors()[0]["type"] == "json_invalid"
            if not cut_off:
                raise UsageError(f"{file}, line {number}: {_explain(error)}") from error
            LOG.warning("%s, line %d: cut off, so this turn is left out; the recorder was killed", file, number)
            return
        if turn.source not in header.sources:
            raise UsageError(f"{file}, line {number}: the source {turn.source!r} is not in the header")
        yield number, turn


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _disguised(device: Device, ids: frozenset[str]) -> Device:
    return replace(
        device,
        id=PREFIX + device.id,
        source=PREFIX + device.source,
        origin=Origin.SIMULATED,
        within=PREFIX + device.within if device.within in ids else device.within,
        slices=tuple(PREFIX + part for part in device.slices),
        lists_processes=False,  # those of the machine that it was recorded on
    )


def _planned(where: str, header: Header, turn: Turn, known: dict[str, Device]) -> PlannedTurn:
    for said in turn.readings:
        if said.device not in known:
            raise UsageError(f"{where}: the device {said.device!r} has not been described")
    return PlannedTurn(
        t_s=turn.t_s,
        source=turn.source,
        name=turn.name,
        period_s=turn.period_s,
        during=turn.during,
        error=turn.error,
        readout=Readout(
            readings=tuple(
                Reading(
                    device=known[said.device],
                    at=Instant(said.t_s, said.wall_s - header.wall_s),
                    energy_j=said.energy_j,
                    wraps_at_j=said.wraps_at_j,
                    power_w=said.power_w,
                    power_signal=said.power_signal,
                    window_s=said.window_s,
                    telemetry=said.telemetry,
                )
                for said in turn.readings
            ),
            failures=tuple(
                ReadFailure(
                    device_id=PREFIX + failed.device if failed.device else "",
                    at=Instant(failed.t_s, failed.wall_s - header.wall_s),
                    reason=failed.reason,
                    message=failed.message,
                    baseline_lost=failed.baseline_lost,
                )
                for failed in turn.failures
            ),
            notes=turn.notes,
        ),
    )


def _error(error: RecordedError) -> SourceError:
    kind = SOURCE_ERRORS.get(error.kind)
    if kind is None:  # as the supervisor tells of whatever else was raised
        return SourceBroken(f"{error.kind}: {error.message}", reason=error.reason)
    return kind(error.message, reason=error.reason)
