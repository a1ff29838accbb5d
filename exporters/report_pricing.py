"""A report priced again, here or on another machine: pure arithmetic over its rows and its versions of factors."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from exporters.quantities import duration, moment, plain
from exporters.report_document import intensity_words
from exporters.report_merge import whole
from exporters.report_model import COLUMNS
from exporters.report_sci import score
from monitor.core import settlement
from monitor.core.carbon import grams_of
from monitor.core.fallback import OBSERVED
from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.settlement import Course, Energy
from monitor.errors import FailureError, UsageError

Document = Mapping[str, Any]
SHORTEST_ROW_S = 1e-3
"""Of a row without length, which the ledger never makes."""
LONGEST_ROW_S = 300.0
"""The ledger's own coarsest rows, and a divisor of nearly every feed's slots."""
ZONE, ENERGY = COLUMNS.index("zone"), COLUMNS.index("energy_j")
IDENTITY = ("provider", "zone", "signal", "basis", "valid_from_s", "valid_until_s")
"""What makes two values versions of one."""


def reprice(
    document: Document,
    *,
    now_s: float,
    as_of_s: float | None = None,
    more: Sequence[Intensity] = (),
    providers: Mapping[str, Sequence[str]] = MappingProxyType({}),
    settles_after_s: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """The report with its settled figure priced again; its live grams stay as they were counted.

    `now_s` and `as_of_s` are Unix times. As of a moment: the joules used by then, with the factors that had been
    fetched by then and not revised later. `more` are factors beside those of the file; `providers` of a zone come
    before those that the file names; `settles_after_s` is by provider.

    Raises UsageError for a moment before the run or to come, FailureError for a report without rows.
    """
    if as_of_s is not None and as_of_s < document["start_unix_s"]:
        began = moment(document["start_unix_s"])
        raise UsageError(f"--as-of {moment(as_of_s)} is before the run, which began on {began}: name a later time")
    if as_of_s is not None and as_of_s > now_s:
        raise UsageError(f"--as-of {moment(as_of_s)} is to come: name a time that has been")
    at_s = now_s if as_of_s is None else as_of_s
    parts = document.get("parts") or [document]
    again = [
        _repriced(
            {**part, "providers": _united(providers, part["providers"])},
            at_s=at_s,
            as_of_s=as_of_s,
            more=more,
            settles_after_s=settles_after_s,
        )
        for part in parts
    ]
    merged = whole(again, document["left_out"]) if document.get("parts") else again[0]
    doubts = [words for part in parts for words in _doubts(part, as_of_s)]
    return {**merged, "warnings": [*document.get("warnings", ()), *dict.fromkeys(doubts)]}


def _united(first: Mapping[str, Sequence[str]], then: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    zones = sorted(first.keys() | then.keys())
    return {zone: list(dict.fromkeys([*first.get(zone, ()), *then.get(zone, ())])) for zone in zones}


def _repriced(
    document: Document,
    *,
    at_s: float,
    as_of_s: float | None,
    more: Sequence[Intensity],
    settles_after_s: Mapping[str, float],
) -> dict[str, Any]:
    if document["intervals"] is None:
        raise FailureError(
            f"the report of {plain(document['node'] or 'an unknown node')} has no rows of energy by time, so it cannot "
            "be priced again"
        )
    known = [intensity(factor) for factor in document["factors"]]
    ours = list(dict.fromkeys(slot for slot in more if slot not in set(known)))
    words, used = settled(document, [*ours, *known], at_s=at_s, as_of_s=as_of_s, settles_after_s=settles_after_s)
    factors = [
        *({**factor, "in_use": slot in used} for factor, slot in zip(document["factors"], known, strict=True)),
        *({"node": document["node"], **intensity_words(slot), "in_use": True} for slot in ours if slot in used),
    ]
    again = {**document, "settled": words, "factors": factors}
    return {**again, "sci": score(again)}


def _doubts(document: Document, as_of_s: float | None) -> Iterator[str]:
    left_out, bucket_s = document["factors_left_out"], document["intervals"]["bucket_s"]
    if as_of_s is not None and left_out:
        yield f"{left_out} older versions of factors are not in the report: as of then it may have been another figure"
    if bucket_s is not None and bucket_s > LONGEST_ROW_S:
        yield f"its rows are {duration(bucket_s)} long: within one the energy is priced as if it were used evenly"


def settled(
    document: Document,
    versions: Sequence[Intensity],
    *,
    at_s: float,
    as_of_s: float | None,
    settles_after_s: Mapping[str, float],
) -> tuple[dict[str, Any], set[Intensity]]:
    """The entry `settled` of a report of one ledger, and the versions that its joules are priced with."""
    known = as_known(versions, as_of_s)
    rows = list(_rows(document, at_s))
    begins_s = min((row.start_s for row, _span_s in rows), default=at_s)
    courses = {
        zone: course_of(known, zone, document["providers"].get(zone, ()), begins_s, at_s, settles_after_s)
        for zone in {row.zone for row, _span_s in rows}
    }
    grams: dict[Basis, list[float]] = {}
    energy_j, final_j, unpriced_j = [], [], []
    used: set[Intensity] = set()
    for row, span_s in rows:
        energy_j.append(row.energy_j)
        for part_j, slot, final_at_s in settlement.parts(row, courses[row.zone], span_s):
            if slot is None:
                unpriced_j.append(part_j)
            else:
                grams.setdefault(slot.basis, []).append(grams_of(part_j, slot, row.pue_ratio))
                used.add(slot)
            if final_at_s <= at_s:
                final_j.append(part_j)
    total_j = math.fsum(energy_j)
    words = {
        "emissions_g": [{"basis": basis, "emissions_g": math.fsum(grams[basis])} for basis in sorted(grams)],
        "settled_ratio": min(1.0, math.fsum(final_j) / total_j) if total_j > 0.0 else 1.0,
        "energy_j": total_j,
        "unpriced_energy_j": math.fsum(unpriced_j),
        "priced_at_unix_s": at_s,
        "repriced": True,
    }
    return words, in_use(known, used)


def course_of(  # noqa: PLR0917  (each is of another kind)
    known: Iterable[Intensity],
    zone: str,
    providers: Sequence[str],
    start_s: float,
    end_s: float,
    settles_after_s: Mapping[str, float] = MappingProxyType({}),
) -> Course:
    """What prices the energy of a zone over [start, end), as the daemon settles it.

    Providers that nobody has put in order come after the others, as they come in `known`.
    """
    slots = [slot for slot in known if slot.zone == zone and slot.signal is Signal.AVERAGE]
    static = next((slot for slot in slots if slot.is_for_ever), None)
    fed = [slot for slot in slots if not slot.is_for_ever]
    names = list(dict.fromkeys([*providers, *(slot.provider for slot in fed)]))
    return settlement.course(fed, names, static, start_s=start_s, end_s=end_s, settles_after_s=settles_after_s)


def as_known(versions: Sequence[Intensity], as_of_s: float | None) -> list[Intensity]:
    """Of each value the newest version; as of a moment, of those that had been fetched by then and not revised later.

    A value without a time of fetching (an older report's) is taken as known from its slot's beginning on.
    """
    observed = {_told(slot, slot.valid_until_s) for slot in versions if slot.quality in OBSERVED}
    newest: dict[tuple[Any, ...], tuple[tuple[bool, float, float], Intensity]] = {}
    for slot in versions:
        if slot.quality is Quality.CARRIED and _told(slot, slot.valid_from_s) in observed:
            continue  # it was made of a value that is in here itself, and will be again
        fetched_s = slot.valid_from_s if slot.fetched_at_s is None else slot.fetched_at_s
        updated_s = -math.inf if slot.updated_at_s is None else slot.updated_at_s
        if as_of_s is not None and max(fetched_s, updated_s) > as_of_s:
            continue
        key = tuple(getattr(slot, name) for name in IDENTITY)
        age = (slot.quality not in (Quality.FORECAST, Quality.CARRIED), fetched_s, updated_s)
        if key not in newest or newest[key][0] < age:
            newest[key] = (age, slot)
    return [slot for _age, slot in newest.values()]


def in_use(known: Iterable[Intensity], slots: Iterable[Intensity]) -> set[Intensity]:
    """Those of the known values that these slots are, or were carried from."""
    used = set(slots)
    carried = {_told(slot, slot.valid_from_s) for slot in used if slot.quality is Quality.CARRIED}
    return {slot for slot in known if slot in used or _told(slot, slot.valid_until_s) in carried}


def _told(slot: Intensity, until_s: float) -> tuple[Any, ...]:
    """What a provider said of the time up to a moment."""
    return slot.provider, slot.zone, slot.signal, slot.basis, slot.grams_per_kilowatthour, until_s


def pue_at(document: Document, unix_s: float) -> float:
    """The power usage effectiveness that energy of this moment is priced with."""
    pue_ratio = document["pue_ratio"]
    for change in document["pue_changes"]:
        if pue_ratio is None or change["valid_from_unix_s"] <= unix_s:
            pue_ratio = change["pue_ratio"]
    return 1.0 if pue_ratio is None else float(pue_ratio)


def intensity(factor: Document) -> Intensity:
    """A factor of a document."""
    valid_from_s, valid_until_s = factor["valid_from_s"], factor["valid_until_s"]
    return Intensity(
        zone=factor["zone"],
        grams_per_kilowatthour=factor["grams_per_kilowatthour"],
        basis=Basis(factor["basis"]),
        quality=Quality(factor["quality"]),
        provider=factor["provider"],
        signal=Signal(factor["signal"]),
        valid_from_s=-math.inf if valid_from_s is None else valid_from_s,
        valid_until_s=math.inf if valid_until_s is None else valid_until_s,
        detail=factor["detail"],
        fetched_at_s=factor["fetched_at_s"],
        updated_at_s=factor["updated_at_s"],
        made_by=factor["made_by"],
        dataset=factor["dataset"],
    )


def _rows(document: Document, at_s: float) -> Iterator[tuple[Energy, float]]:
    """What had been used by then, each row with its length in seconds."""
    for row in document["intervals"]["rows"]:
        start_s, end_s, zone, energy_j = row[0], row[1], row[ZONE], row[ENERGY]
        if start_s >= at_s:
            continue
        span_s = max(SHORTEST_ROW_S, end_s - start_s)
        if start_s + span_s > at_s:
            energy_j *= (at_s - start_s) / span_s
            span_s = at_s - start_s
        yield Energy(zone, start_s, energy_j, pue_at(document, start_s)), span_s
