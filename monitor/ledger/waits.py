"""What is known of a device, but not whose it is yet, as columns of the table `meters` and back, bit for bit.

What waits over one interval is 36 bytes, made once: of the next commit's blob all but the newest are a copy.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from itertools import takewhile
from operator import is_
from typing import TypeVar

from monitor.core.model import Method
from monitor.core.snapshot import DeviceTotals, Interval
from monitor.core.waiting import Look, Waiting
from monitor.ledger.runs import encode

T = TypeVar("T")

METHODS = (Method.COUNTER, Method.INTEGRATED, Method.ESTIMATED, Method.SIMULATED)
"""In the order of their numbers and columns."""
_WAITING = struct.Struct("<ddddBBBB")
"""Start, end, offset of the wall clock, joules; method, is_seen, is_timed, recovered."""
_NUMBERS = {method: number for number, method in enumerate(METHODS)}


class Waits:
    """The two columns of one device; knows what it told last, for little of it is new."""

    def __init__(self) -> None:
        self._waiting: tuple[Waiting, ...] = ()
        self._blob = b""
        self._looks: tuple[Look, ...] = ()
        self._text: str | None = None

    def columns(self, entry: DeviceTotals, forgotten: frozenset[str]) -> tuple[bytes | None, str | None]:
        """Joules that wait, and looks without the names of runs that were forgotten; None = there are none."""
        if entry.waiting is not self._waiting:
            self._blob = self._told_anew(entry.waiting)
            self._waiting = entry.waiting
        if entry.looks is not self._looks and entry.looks != self._looks:
            self._text = encode([_look(look, forgotten) for look in entry.looks]) if entry.looks else None
            self._looks = entry.looks
        return self._blob or None, self._text

    def _told_anew(self, waiting: tuple[Waiting, ...]) -> bytes:
        """The oldest leave at the front, new ones come at the end."""
        known, same, gone = self._waiting, 0, 0
        if waiting[:-1] == known:  # nearly always: one more
            return self._blob + _packed(waiting[-1]) if waiting else b""
        if waiting:
            gone = next((number for number, one in enumerate(known) if one is waiting[0]), len(known))
            same = sum(takewhile(bool, map(is_, known[gone:], waiting)))
        size = _WAITING.size
        return self._blob[gone * size : (gone + same) * size] + b"".join(map(_packed, waiting[same:]))


def _packed(one: Waiting) -> bytes:
    start_s, end_s, offset_s, energy_j, method, is_seen, is_timed, recovered = one
    return _WAITING.pack(start_s, end_s, offset_s, energy_j, _NUMBERS[method], is_seen, is_timed, recovered)


def _look(look: Look, forgotten: frozenset[str]) -> Sequence[object]:
    users = look.users
    if users is not None and forgotten:
        users = tuple(("" if run_id in forgotten else run_id, ratio) for run_id, ratio in users)
    return look.start_mono_s, look.end_mono_s, look.pids, users


def waiting_of(blob: bytes | None) -> tuple[Waiting, ...]:
    """Joules that waited. Raises ValueError for bytes of another version."""
    try:
        rows = list(_WAITING.iter_unpack(blob or b""))
    except struct.error as error:
        raise ValueError(f"joules that wait cannot be understood: {error}") from error
    return tuple(
        Waiting(start_s, end_s, offset_s, energy_j, METHODS[method], bool(is_seen), bool(is_timed), bool(recovered))
        for start_s, end_s, offset_s, energy_j, method, is_seen, is_timed, recovered in rows
    )


def looks_of(text: str | None) -> tuple[Look, ...]:
    """Looks at who used the device. Raises ValueError."""
    return tuple(
        Look(start_s, end_s, _pairs(pids), None if users is None else _pairs(users))
        for start_s, end_s, pids, users in json.loads(text or "[]")
    )


def _pairs(pairs: Iterable[tuple[T, float | None]]) -> tuple[tuple[T, float | None], ...]:
    return tuple((who, ratio) for who, ratio in pairs)


def settled(entry: DeviceTotals, zone: str) -> list[Interval]:
    """What waited when the machine went down, as nobody's: whoever could tell is gone."""
    return [
        Interval(
            run_id="",
            device_id=entry.device.id,
            zone=zone,
            phase="",
            method=one.method,
            share=None,
            recovered=one.recovered,
            start_wall_s=one.start_mono_s + one.wall_offset_s,
            end_wall_s=one.end_mono_s + one.wall_offset_s,
            energy_j=one.energy_j,
            idle_j=0.0,
            measured_s=one.end_mono_s - one.start_mono_s if one.is_seen and one.is_timed else 0.0,
        )
        for one in entry.waiting
    ]
