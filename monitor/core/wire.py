"""The document in which one trainwatt tells another what it knows of a grid: `/api/v1/grid/intensity`, feed `relay`.

    {"zone": "DE", "values": [{"zone": "DE", "signal": "average", "grams_per_kilowatthour": 342.0,
     "provider": "electricitymaps", "basis": "lifecycle", "quality": "estimated",
     "valid_from_s": 1795262400.0, "valid_until_s": 1795266000.0, "detail": "Source: ElectricityMaps.com",
     "fetched_at_s": 1795264020.0, "updated_at_s": 1795263848.7, "made_by": "FORECASTS_HIERARCHY", "dataset": ""}]}

Moments are Unix time. A value stays its provider's: name, basis, quality and credit pass through. Readers leave out
fields that they do not know, so that fields may be added.
"""

import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from monitor.core.model import Basis, Intensity, Quality, Signal

PROVIDER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
LONGEST_TEXT = 300
SHOWN_CHARACTERS = 40

Word = TypeVar("Word", bound=StrEnum)


def intensity_document(slots: Sequence[Intensity], *, zone: str = "") -> dict[str, Any]:
    """The document of some values of one zone; `zone` names it where there may be none.

    What holds for ever is left out: everybody has the yearly tables, and a document has no number for it.
    """
    return {
        "zone": zone or (slots[0].zone if slots else ""),
        "values": [_told(slot) for slot in slots if math.isfinite(slot.valid_until_s - slot.valid_from_s)],
    }


def intensities_of(document: Any) -> list[Intensity]:
    """The values of a document. Raises ValueError with what is wrong with it: nothing of it is trusted."""
    zone = _field(document, "zone", str)
    values = _field(document, "values", list)
    slots = [_slot(value) for value in values]
    stray = next((slot for slot in slots if slot.zone != zone), None)
    if stray is not None:
        raise ValueError(f"a value of {_shown(stray.zone)} among those of {_shown(zone)}")
    return slots


def _told(slot: Intensity) -> dict[str, Any]:
    return {
        "zone": slot.zone,
        "signal": slot.signal.value,
        "grams_per_kilowatthour": slot.grams_per_kilowatthour,
        "provider": slot.provider,
        "basis": slot.basis.value,
        "quality": slot.quality.value,
        "valid_from_s": slot.valid_from_s,
        "valid_until_s": slot.valid_until_s,
        "detail": slot.detail,
        "fetched_at_s": slot.fetched_at_s,
        "updated_at_s": slot.updated_at_s,
        "made_by": slot.made_by,
        "dataset": slot.dataset,
    }


def _slot(value: Any) -> Intensity:
    provider = _field(value, "provider", str)
    if not PROVIDER.fullmatch(provider):
        raise ValueError(f"provider = {_shown(provider)}: expected lower-case letters, digits, _ and -")
    grams = _number(value, "grams_per_kilowatthour")
    if grams < 0.0:
        raise ValueError(f"grams_per_kilowatthour = {grams!r}: expected 0 or more")
    start_s, end_s = _number(value, "valid_from_s"), _number(value, "valid_until_s")
    if end_s <= start_s:
        raise ValueError(f"valid_until_s = {end_s!r}: expected more than valid_from_s = {start_s!r}")
    return Intensity(
        zone=_field(value, "zone", str),
        signal=_word(value, "signal", Signal),
        grams_per_kilowatthour=grams,
        provider=provider,
        basis=_word(value, "basis", Basis),
        quality=_word(value, "quality", Quality),
        valid_from_s=start_s,
        valid_until_s=end_s,
        detail=_text(value, "detail"),
        fetched_at_s=_moment(value, "fetched_at_s"),
        updated_at_s=_moment(value, "updated_at_s"),
        made_by=_text(value, "made_by"),
        dataset=_text(value, "dataset"),
    )


def _field(value: Any, name: str, kind: type) -> Any:
    """A field that must be there."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__}: expected an object with {name}")  # noqa: TRY004  (one kind for all)
    if not isinstance(value.get(name), kind):
        raise ValueError(f"{name} = {_shown(value.get(name))}: expected {kind.__name__}")  # noqa: TRY004
    return value[name]


def _number(value: Any, name: str) -> float:
    number = value.get(name)
    try:
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            return float(number)
    except OverflowError:  # an integer that no float can be
        pass
    raise ValueError(f"{name} = {_shown(number)}: expected a finite number")


def _moment(value: Any, name: str) -> float | None:
    return None if value.get(name) is None else _number(value, name)


def _word(value: Any, name: str, kind: type[Word]) -> Word:
    word = _field(value, name, str)
    if word not in set(kind):
        raise ValueError(f"{name} = {_shown(word)}: expected one of {', '.join(kind)}")
    return kind(word)


def _shown(value: Any) -> str:
    """Something of a document in a few characters, on one line."""
    if not isinstance(value, str | int | float | None) or (
        isinstance(value, int) and value.bit_length() > LONGEST_TEXT
    ):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _text(value: Any, name: str) -> str:
    """Words for people on one line; missing ones are none."""
    return " ".join(str(value.get(name) or "").split())[:LONGEST_TEXT]
