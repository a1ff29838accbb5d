"""Sources of other distributions, by the entry point group `trainwatt.sources`; this is the contract.

    [project.entry-points."trainwatt.sources"]
    accel = "trainwatt_accel:make"

`make(context)` returns an object with `name`, `period_s`, `open()`, `read()` and `close()`, as `monitor.core.ports`
says; a thread of its own calls them. `open` raises SourceAbsent, SourceDenied or SourceBroken of `monitor.errors`.

    def read(self):
        at = self.context.now()                     # beside the driver call; CLOCK_BOOTTIME and Unix time
        return Readout(readings=(Reading(device=CARD, at=at, energy_j=card_joules()),))

    CARD = Device(id="accel-0", component=Component.GPU, source="accel", max_power_w=600.0)
    NODE = Device(id="accel-node", component=Component.PLATFORM, source="accel", max_power_w=9000.0)

- The name of the source is lower case, such as `accel`; the ids of its devices begin with it: `accel-0`, `accel-node`.
- A device that is a part (`within=""`: an AMD or Intel GPU) is added to the node: nobody else may count its joules.
  Give its raw counter as `energy_j`, with `wraps_at_j` if it goes round; without one `power_w`, which is integrated:
  then `period_s` is 1.0 for a mean of the last second, 0.1 with `power_signal=PowerSignal.INSTANT`. A sensor that is
  slower, such as a BMC's, names the window of its mean in `window_s`, and is read as often.
- A reading of the whole node (IPMI, Redfish) is a PLATFORM device. It overlaps its parts, so it is shown with
  `within="node"`, which is put in where it is missing, and never added.
- A counter that goes on while no daemon runs, as one of hardware does, is in a `counter_epoch`: a word that changes
  whenever it begins anew, such as the loading of its driver. Without it, what is used during a restart is unmeasured.
- `max_power_w` is a bound that the device cannot exceed: a larger rise of its counter is not booked.
- None = not offered. A read that fails is a ReadFailure or an exception, never 0.

Nothing of it is trusted: what does not fit becomes a failure `invalid`, what cannot be loaded a source that is broken.
"""

import contextlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from monitor.config import SHORTEST_INTERVAL_S
from monitor.core.model import (
    NODE,
    Component,
    Device,
    Instant,
    Origin,
    PowerSignal,
    ReadFailure,
    Reading,
    Readout,
    Telemetry,
)
from monitor.core.ports import Now, Source
from monitor.errors import SourceBroken, SourceError

GROUP = "trainwatt.sources"
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
DEVICE_ID = re.compile(r"[\w.:/@+-]{1,128}")
REASON = re.compile(r"[a-z][a-z_]{0,31}")
RESERVED = frozenset({"mock", "node", "gpu", "package", "psys", "cpu", "dram", "module", "platform"})
"""Names that would let the ids of a plug-in meet those of a built-in source."""
LONGEST_TEXT = 300
LONGEST_WINDOW_S = 600.0
MOST_DEVICES = 256
MOST_REASONS = 12
"""Each device and each reason is a series: a plug-in that makes up new ones must not fill the scraper's memory."""

T = TypeVar("T")


def _no_options() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a plug-in is given: everything that it may want to know of its surroundings."""

    now: Now
    interval_s: float
    """How often a device with a counter is to be read."""
    sysfs: Path
    procfs: Path
    options: Mapping[str, Any] = field(default_factory=_no_options)
    """Its own part of the configuration."""


def load(context: Context, *, taken: Collection[str] = ()) -> list[Source]:
    """A source for each entry point; one that says what is wrong for each that does not give any.

    `taken` are the names of the built-in sources.
    """
    names = {*RESERVED, *taken, *(name.partition("-")[0] for name in taken)}
    sources: list[Source] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (_distribution(entry), entry.name)):
        source = _load_one(entry, context, names)
        names.add(source.name)
        sources.append(source)
    return sources


def _load_one(entry: EntryPoint, context: Context, names: set[str]) -> Source:
    try:
        inner = entry.load()(context)
        name = str(inner.name)
        for method in ("open", "read", "close"):
            getattr(inner, method)
        if not NAME.fullmatch(name):
            raise ValueError(f"its name {name!r} is not of lower-case letters, digits and _")  # noqa: TRY301
        if name in names:
            raise ValueError(f"another source has its name, {name!r}")  # noqa: TRY301
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a plug-in does, the daemon starts)
        what = f"the plug-in {entry.name} of {_distribution(entry)}"
        message = f"{what} cannot be used: {_told(error)}; repair or uninstall it"
        return Unusable(_free(entry.name, names), message, period_s=context.interval_s)
    return Checked(name, inner, now=context.now, period_s=context.interval_s)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


def _free(name: str, names: set[str]) -> str:
    """A name to be shown under: a plug-in that is refused must not pass for the source whose name it took."""
    if NAME.fullmatch(name) and name not in names:
        return name
    free = first = f"plugin-{name}"
    number = 2
    while free in names:
        free, number = f"{first}-{number}", number + 1
    return free


def _told(error: BaseException) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:LONGEST_TEXT]


class Unusable:
    """Stands in for a plug-in that cannot be used, so that `check` and `source_up` show it."""

    def __init__(self, name: str, message: str, *, period_s: float) -> None:
        self.name = name
        self.period_s = period_s
        self._message = message

    def open(self) -> None:
        """Raise SourceBroken."""
        raise SourceBroken(self._message)

    def read(self) -> Readout:
        """Raise SourceBroken."""
        raise SourceBroken(self._message)

    def close(self) -> None:
        """Nothing is held open."""


class Checked:
    """A plug-in's source, each reading of which is looked at before anybody reckons with it."""

    def __init__(self, name: str, inner: Source, *, now: Now, period_s: float) -> None:
        self.name = name
        self.period_s = period_s
        self._inner = inner
        self._now = now
        self._last_s: dict[str, float] = {}
        self._reasons: set[str] = set()

    def open(self) -> None:
        """Open the plug-in's source."""
        self._ask(self._inner.open)

    def read(self) -> Readout:
        """What fits of a turn, and a failure `invalid` for the rest. Raises SourceBroken when it is no Readout."""
        said = self._ask(self._inner.read)
        if not isinstance(said, Readout):
            raise SourceBroken(f"read() gave {type(said).__name__}: expected a Readout", reason="invalid")
        readings: dict[str, Reading] = {}
        failures = [self._failure(failed) for failed in said.failures]
        for reading in said.readings:
            try:
                fitting = self._reading(reading)
                _require(fitting.device.id not in readings, "a second reading of one device in a turn")
            except Exception as error:  # noqa: BLE001  (it may be any object and do anything when looked at)
                failures.append(self._invalid(reading, error))
            else:
                readings[fitting.device.id] = fitting
                self._last_s[fitting.device.id] = fitting.at.mono_s
        notes = tuple(_one_line(note) for note in said.notes)
        return Readout(readings=tuple(readings.values()), failures=tuple(failures), notes=notes)

    def close(self) -> None:
        """Close the plug-in's source, whatever it says to that."""
        with contextlib.suppress(Exception, SystemExit):
            self._inner.close()

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            answer = call()
            period_s = _number("period_s", self._inner.period_s)
            _require(period_s > 0.0, "period_s = 0: expected seconds above 0")
        except SourceError as error:
            error.reason = self._reason(error.reason)
            error.args = (_one_line(error),)
            raise
        except (Exception, SystemExit) as error:  # SystemExit would end the thread without a word
            raise SourceBroken(_told(error), reason="exception") from error
        self.period_s = max(SHORTEST_INTERVAL_S, period_s)
        return answer

    def _reading(self, reading: Reading) -> Reading:
        """The reading with plain numbers. Raises ValueError or TypeError."""
        device = self._device(reading.device)
        _require(isinstance(reading.at, Instant), "at: expected what context.now() gives")
        mono_s, wall_s = _number("at", reading.at.mono_s), _number("at", reading.at.wall_s)
        _require(mono_s <= self._now().mono_s, "at: later than now; it has to come from context.now()")
        _require(mono_s >= self._last_s.get(device.id, mono_s), "at: earlier than the reading before")
        _require(isinstance(reading.power_signal, PowerSignal), "power_signal: expected a PowerSignal")
        wraps_at_j = _optional("wraps_at_j", reading.wraps_at_j)
        _require(wraps_at_j is None or wraps_at_j > 0.0, "wraps_at_j: expected more than 0")
        return reading._replace(
            device=device,
            at=Instant(mono_s, wall_s),
            energy_j=_optional("energy_j", reading.energy_j),
            wraps_at_j=wraps_at_j,
            power_w=_optional("power_w", reading.power_w),
            window_s=_window_s(reading.window_s),
            telemetry=_telemetry(reading.telemetry),
        )

    def _device(self, device: Device) -> Device:
        self._require_own(device.id)
        _require(device.source == self.name, f"device.source = {device.source!r}: expected {self.name!r}")
        max_power_w = _number("device.max_power_w", device.max_power_w)
        calibration_ratio = _number("device.calibration_ratio", device.calibration_ratio)
        _require(min(max_power_w, calibration_ratio) > 0.0, "device: max_power_w and calibration_ratio are above 0")
        component = Component(device.component)
        return Device(
            id=device.id,
            component=component,
            source=self.name,
            max_power_w=max_power_w,
            model=_one_line(device.model),
            index=_one_line(device.index),
            origin=Origin(device.origin),
            calibration_ratio=calibration_ratio,
            error_ratio=_optional("device.error_ratio", device.error_ratio),
            counter_epoch=_one_line(device.counter_epoch) if device.counter_epoch is not None else None,
            within=_one_line(device.within) or (NODE if component is Component.PLATFORM else ""),
        )

    def _require_own(self, device_id: object) -> None:
        """The ids of a source begin with its name, so that it cannot speak for the devices of another."""
        is_new = device_id not in self._last_s and len(self._last_s) >= MOST_DEVICES
        _require(not is_new, f"device id {device_id!r}: there are {MOST_DEVICES} devices already")
        own = isinstance(device_id, str) and DEVICE_ID.fullmatch(device_id) and device_id.startswith(f"{self.name}-")
        _require(bool(own), f"device id {device_id!r}: expected {self.name}- and letters, digits or one of -_.:/@+")

    def _failure(self, failed: ReadFailure) -> ReadFailure:
        try:
            self._require_own(failed.device_id)
            return ReadFailure(
                device_id=failed.device_id,
                at=Instant(_number("at", failed.at.mono_s), _number("at", failed.at.wall_s)),
                reason=self._reason(failed.reason),
                message=_one_line(failed.message),
                baseline_lost=bool(failed.baseline_lost),
            )
        except Exception as error:  # noqa: BLE001  (as for readings)
            return self._invalid(failed, error)

    def _reason(self, word: object) -> str:
        """A label: what is no short word, and what comes after the first dozen, would make a series each."""
        if isinstance(word, str) and REASON.fullmatch(word):
            if len(self._reasons) < MOST_REASONS:
                self._reasons.add(word)
            if word in self._reasons:
                return word
        return "other"

    def _invalid(self, said: Reading | ReadFailure, error: Exception) -> ReadFailure:
        device_id = f"{self.name}-unknown"
        with contextlib.suppress(Exception):
            claimed = said.device.id if isinstance(said, Reading) else said.device_id
            self._require_own(claimed)
            device_id = claimed
        message = f"{device_id}: {_one_line(error)}"
        return ReadFailure(device_id=device_id, at=self._now(), reason="invalid", message=message)


def _require(fits: bool, otherwise: str) -> None:  # noqa: FBT001  (reads as what is required)
    if not fits:
        raise ValueError(otherwise)


def _number(name: str, value: object) -> float:
    """A finite number that is not negative, as a plain float."""
    number = _finite(name, value)
    _require(number >= 0.0, f"{name} = {number!r}: expected 0 or more")
    return number


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} = {value!r}: expected a finite number")
    return float(value)


def _optional(name: str, value: object) -> float | None:
    return None if value is None else _number(name, value)


def _window_s(value: object) -> float:
    window_s = _number("window_s", value)
    _require(0.0 < window_s <= LONGEST_WINDOW_S, f"window_s: expected seconds above 0, at most {LONGEST_WINDOW_S:g}")
    return window_s


def _telemetry(told: Telemetry | None) -> Telemetry | None:
    """What fits of it: it must not cost the energy that comes with it."""
    if not isinstance(told, Telemetry):
        return None
    fitting: dict[str, Any] = {}
    for item in fields(told):
        check = _finite if item.name == "temperature_c" else _number
        with contextlib.suppress(ValueError, OverflowError):
            value = getattr(told, item.name)
            fitting[item.name] = None if value is None else check(item.name, value)
    if (fitting.get("utilization_ratio") or 0.0) > 1.0:
        del fitting["utilization_ratio"]
    return Telemetry(**fitting)
