"""What the sensors of a host answered, as a file of JSON lines that `replay.py` plays back.

    {"format": "trainwatt-recording", "version": 1, "interval_s": 1.0, "sources": ["nvml", "rapl"], ...}
    {"t_s": 0.41, "source": "rapl", "devices": [{"id": "package-0", ...}], "readings": [{"device": "package-0", ...}]}
    {"t_s": 1.0, "source": "nvml", "during": "open", "error": {"kind": "SourceAbsent", "reason": "absent", ...}}

A header, then one line a turn of a source. `t_s` is CLOCK_BOOTTIME since the last deadline before the start: a replay
that begins on a deadline then meets the same phase. A device is described when it first appears or has changed. What
runs on a device is left out: the process ids of one host mean other processes on the next.
"""

import contextlib
import functools
import json
import math
import os
import platform
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated, Any, TextIO, TypeVar

from pydantic import Field

from monitor import __version__, clock
from monitor.core.model import Device, Instant, PowerSignal, ReadFailure, Reading, Readout, Telemetry
from monitor.core.ports import Now, Source
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError

FORMAT = "trainwatt-recording"
VERSION = 1
SOURCE_ERRORS = {kind.__name__: kind for kind in (SourceAbsent, SourceDenied, SourceBroken, SourceError)}
"""The most special first: what a replay can raise again."""
LONGEST_TEXT = 500

T = TypeVar("T")
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line."""

    format: str = FORMAT
    version: int = VERSION
    trainwatt: str
    """Version of the recorder."""
    at: str
    """UTC, for people."""
    wall_s: Number
    """Unix time at t_s = 0."""
    kernel: str
    interval_s: Annotated[Number, Field(gt=0.0)]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReading:
    """A Reading that refers to its device by id."""

    device: str
    t_s: Number
    wall_s: Number
    energy_j: Number | None = None
    wraps_at_j: Number | None = None
    power_w: Number | None = None
    power_signal: PowerSignal = PowerSignal.AVERAGE
    window_s: Annotated[Number, Field(gt=0.0)] = 1.0
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFailure:
    """A ReadFailure."""

    device: str
    t_s: Number
    wall_s: Number
    reason: str
    message: str
    baseline_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedError:
    """What a source raised: a SourceError by the nearest known class, anything else by its own name."""

    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One attempt to read one source, opening it included."""

    t_s: Number
    """When it began."""
    wall_s: Number
    took_s: Number
    source: str
    """As in the header."""
    name: str
    """Of the source after it: one that knows several ways is called after the one that it goes."""
    period_s: Annotated[Number, Field(gt=0.0)]
    """How often the source wanted to be read after it."""
    devices: tuple[Device, ...] = ()
    readings: tuple[RecordedReading, ...] = ()
    failures: tuple[RecordedFailure, ...] = ()
    notes: tuple[str, ...] = ()
    during: str = "read"
    """What raised the error: open or read."""
    error: RecordedError | None = None


class Recorder:
    """Writes the file, line by line, from the threads of several sources; calls `on_end` where it can write no more."""

    def __init__(
        self,
        file: TextIO,
        *,
        start: Instant,
        interval_s: float,
        sources: tuple[str, ...],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.readings = 0
        self.problem = ""
        """Why it writes no more; "" while it does."""
        self._on_end = on_end
        self._file = file
        self._lock = Lock()
        self._devices: dict[str, Device] = {}
        self._zero_s = math.floor(start.mono_s / interval_s + clock.ROUNDING) * interval_s
        self._write(
            Header(
                trainwatt=__version__,
                at=datetime.fromtimestamp(start.wall_s, UTC).isoformat(timespec="seconds"),
                wall_s=start.wall_s - (start.mono_s - self._zero_s),
                kernel=platform.release(),
                interval_s=interval_s,
                sources=sources,
            )
        )

    def answered(self, source: "Recorded", began: Instant, ended: Instant, readout: Readout) -> None:
        """Write down a turn that came to its end."""
        with self._lock:
            devices = [r.device for r in readout.readings if self._devices.get(r.device.id) != r.device]
            self._devices |= {device.id: device for device in devices}
            self.readings += len(readout.readings)
            self._write(
                Turn(
                    **self._head(source, began, ended),
                    devices=tuple(devices),
                    readings=tuple(self._reading(reading) for reading in readout.readings),
                    failures=tuple(self._failure(failure) for failure in readout.failures),
                    notes=tuple(discreet(note) for note in readout.notes),
                )
            )

    def raised(self, source: "Recorded", began: Instant, ended: Instant, error: Exception, during: str) -> None:
        """Write down a turn that ended with an exception."""
        kind = next((name for name, known in SOURCE_ERRORS.items() if isinstance(error, known)), type(error).__name__)
        reason = error.reason if isinstance(error, SourceError) else "exception"
        told = RecordedError(kind=kind, reason=reason, message=discreet(str(error)))
        with self._lock:
            self._write(Turn(**self._head(source, began, ended), during=during, error=told))

    def close(self) -> None:
        """End the file; whoever still answers is not written down."""
        with self._lock:
            self._give_up(self.problem)

    def _head(self, source: "Recorded", began: Instant, ended: Instant) -> dict[str, Any]:
        named = {"source": source.first_name, "name": source.name, "period_s": source.period_s}
        return {**self._when(began), "took_s": ended.mono_s - began.mono_s, **named}

    def _when(self, at: Instant) -> dict[str, float]:
        return {"t_s": at.mono_s - self._zero_s, "wall_s": at.wall_s}

    def _reading(self, reading: Reading) -> RecordedReading:
        said: dict[str, Any] = reading._asdict()
        del said["at"]
        return RecordedReading(**said | {"device": reading.device.id} | self._when(reading.at))

    def _failure(self, failure: ReadFailure) -> RecordedFailure:
        return RecordedFailure(
            device=failure.device_id,
            reason=failure.reason,
            message=discreet(failure.message),
            baseline_lost=failure.baseline_lost,
            **self._when(failure.at),
        )

    def _write(self, line: Header | Turn) -> None:
        if self._file.closed:
            return
        try:
            self._file.write(json.dumps(_plain(line), separators=(",", ":")) + "\n")
            self._file.flush()  # a killed recorder loses the line it was at, no more
        except OSError as error:
            self._give_up(f"{error.strerror}")

    def _give_up(self, problem: str) -> None:
        self.problem = problem
        self._on_end()
        with contextlib.suppress(OSError):  # what is left in the buffer may not fit either
            self._file.close()


class Recorded:
    """A source that hands on what the inner one says or raises, and has it written down."""

    def __init__(self, inner: Source, recorder: Recorder, *, now: Now) -> None:
        self.first_name = self.name = inner.name
        self.period_s = inner.period_s
        self._inner = inner
        self._recorder = recorder
        self._now = now
        self._began: Instant | None = None

    def open(self) -> None:
        """Open the inner source."""
        self._began = self._now()
        self._ask(self._inner.open, "open")

    def read(self) -> Readout:
        """Read the inner source."""
        began = self._began = self._began or self._now()
        readout = self._ask(self._inner.read, "read")
        self._began = None
        self._recorder.answered(self, began, self._now(), readout)
        return readout

    def close(self) -> None:
        """Close the inner source."""
        self._inner.close()

    def _ask(self, call: Callable[[], T], during: str) -> T:
        try:
            answer = call()
        except Exception as error:
            began, self._began = self._began or self._now(), None
            self.name, self.period_s = self._inner.name, self._inner.period_s
            self._recorder.raised(self, began, self._now(), error, during)
            raise
        self.name, self.period_s = self._inner.name, self._inner.period_s
        return answer


def discreet(text: str) -> str:
    """A message on one line, without the names of people, their folders and the passwords in addresses."""
    text = " ".join(text.split())
    for pattern, replacement in _private():
        text = pattern.sub(replacement, text)
    return text[:LONGEST_TEXT]


@functools.cache
def _private() -> list[tuple[re.Pattern[str], str]]:
    patterns = [(re.compile(r"(?<=://)[^/\s]*@"), ""), (re.compile(r"/home/[^/\s:'\"]+"), "~")]
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return patterns
    if user.pw_dir.strip("/"):
        patterns.insert(0, (re.compile(rf"{re.escape(user.pw_dir.rstrip('/'))}(?![\w.-])"), "~"))
    if user.pw_uid != 0:
        patterns.append((re.compile(rf"\b{re.escape(user.pw_name)}\b"), "USER"))
    return patterns


def _plain(value: Any) -> Any:
    """What JSON can hold: records as objects without what is None or empty."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _plain(held) for name, held in named.items() if held is not None and held != ()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
