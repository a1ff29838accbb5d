"""Several reports of one run as one: of several nodes, or of several ledgers of a node.

A merged report keeps what it was made of, and is made of that anew each time: so neither the order nor the grouping
of the files matters, to the last bit, and a newer report of a ledger takes the place of an older one.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from exporters import report_budget
from exporters.quantities import duration, plain
from exporters.report_document import measured_ratio
from exporters.report_model import FORMAT, VERSION
from exporters.report_sci import score
from monitor import __version__
from monitor.errors import UsageError

Document = Mapping[str, Any]
Span = tuple[float, float]
OF_MERGED = ("parts", "left_out", "warnings")
HANDOVER_S = 1.0
"""Two ledgers that follow each other share at most one bucket of time, and so much of clocks."""


def merge(documents: Sequence[Document]) -> dict[str, Any]:
    """One document of one or more of the same run. Raises UsageError for different runs.

    Joules, grams, phases, tokens and samples add up; of steps and progress the greatest counts. Of two reports of one
    ledger the newer one counts, and the other is named in `left_out`.
    """
    ids = sorted({document["run"]["id"] for document in documents})
    if len(ids) > 1:
        names = ", ".join(repr(plain(run_id)) for run_id in ids[:3]) + (", ..." if len(ids) > 3 else "")  # noqa: PLR2004
        raise UsageError(f"these are reports of {len(ids)} runs ({names}): name those of one run")
    if len(documents) == 1:
        return dict(documents[0])
    parts, superseded = _newest(leaf for document in documents for leaf in _leaves(document))
    left_out = [dict(one) for document in documents for one in document.get("left_out", ())] + [
        {"node": part["node"], "ledger": part["ledger"], "written_at_unix_s": part["written_at_unix_s"]}
        for part in superseded
    ]
    return whole(parts, left_out)


def whole(parts: Sequence[dict[str, Any]], left_out: Iterable[Document]) -> dict[str, Any]:
    """The merged report of these parts, one for each ledger."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "trainwatt": __version__,
        **_identity(parts),
        **_sums(parts),
        "devices": _united(parts, "devices"),
        "factors": _united(parts, "factors"),
        "factors_left_out": sum(part.get("factors_left_out", 0) for part in parts),
        "providers": _providers(parts),
        "intervals": None,
        "missing": _missing(parts),
        "parts": list(parts),
        "left_out": sorted(left_out, key=canonical),
        "warnings": [warning for one, other in combinations(parts, 2) for warning in _counted_twice(one, other)],
    }
    return {**document, "sci": score(document)}


def canonical(document: Any) -> str:
    """A text that is the same for equal documents."""
    return json.dumps(document, sort_keys=True)


def _leaves(document: Document) -> list[dict[str, Any]]:
    leaf = {key: value for key, value in document.items() if key not in OF_MERGED}
    return list(document.get("parts", ())) or [leaf]


def _newest(leaves: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of each ledger the newest report, by node and ledger; and the others."""
    by_ledger: dict[str, list[dict[str, Any]]] = {}
    for leaf in leaves:
        by_ledger.setdefault(leaf["ledger"], []).append(leaf)
    parts, superseded = [], []
    for reports in by_ledger.values():
        *older, newest = _oldest_first(reports)
        parts.append(newest)
        superseded += older
    return sorted(parts, key=_place), superseded


def _place(part: Document) -> tuple[str, str]:
    return part["node"] or "", part["ledger"] or ""


def _oldest_first(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(reports) == 1:
        return reports
    # At one moment the end of a run comes last.
    return sorted(reports, key=lambda report: (report["written_at_unix_s"], not report["active"], canonical(report)))


def _identity(parts: Sequence[Document]) -> dict[str, Any]:
    oldest_first = sorted(parts, key=lambda part: (part["written_at_unix_s"], *_place(part)))
    newest = oldest_first[-1]
    tags = {name: value for part in oldest_first for name, value in part["run"]["tags"].items()}
    active = any(part["active"] for part in parts)
    return {
        "node": _common(parts, "node"),
        "ledger": _common(parts, "ledger"),
        "written_at_unix_s": newest["written_at_unix_s"],
        "run": {**newest["run"], "tags": dict(sorted(tags.items()))},
        "active": active,
        "start_unix_s": min(part["start_unix_s"] for part in parts),
        "end_unix_s": None if active else max(part["end_unix_s"] for part in parts),
        "duration_s": max(_duration_s(own) for own in _by_node(parts)),
        "pue_ratio": _common(parts, "pue_ratio"),
        "pue_changes": [],
        "zone": _common(parts, "zone"),
    }


def _common(parts: Sequence[Document], key: str) -> Any:
    values = {part[key] for part in parts}
    return values.pop() if len(values) == 1 else None


def _by_node(parts: Sequence[Document]) -> list[list[Document]]:
    nodes: dict[str, list[Document]] = {}
    for part in parts:
        nodes.setdefault(part["node"] or "", []).append(part)
    return list(nodes.values())


def _duration_s(parts: Sequence[Document]) -> float:
    """Active time on one node: its ledgers follow each other; where they do not, time has passed only once."""
    if len(parts) == 1:
        return float(parts[0]["duration_s"])
    ends = [part["written_at_unix_s"] if part["end_unix_s"] is None else part["end_unix_s"] for part in parts]
    span_s: float = max(ends) - min(part["start_unix_s"] for part in parts)
    longest_s: float = max(part["duration_s"] for part in parts)
    return max(longest_s, min(span_s, math.fsum(part["duration_s"] for part in parts)))


def _sums(parts: Sequence[Document]) -> dict[str, Any]:
    held_s = math.fsum(part["held_device_s"] for part in parts)
    measured_s = math.fsum(part["measured_device_s"] for part in parts)
    phases = {phase for part in parts for phase in part["phase_energy_j"]}
    return {
        "progress": {
            "steps": _told(max, parts, "steps"),
            "tokens": _told(sum, parts, "tokens"),
            "samples": _told(sum, parts, "samples"),
            "done_ratio": _told(max, parts, "done_ratio"),
        },
        "energy_j": _added(parts, "energy_j", ("component", "method", "share"), "energy_j"),
        "idle_energy_j": _idle(parts),
        "phase_energy_j": {
            phase: math.fsum(part["phase_energy_j"].get(phase, 0.0) for part in parts) for phase in sorted(phases)
        },
        "emissions_g": _added(parts, "emissions_g", ("method", "basis", "quality"), "emissions_g"),
        "settled": _settled(parts),
        "extras": _extras(parts),
        "budget": report_budget.merged(parts),
        "unpriced_energy_j": math.fsum(part["unpriced_energy_j"] for part in parts),
        "recovered_energy_j": math.fsum(part["recovered_energy_j"] for part in parts),
        "held_device_s": held_s,
        "measured_device_s": measured_s,
        "measured_time_ratio": measured_ratio(held_s, measured_s),
    }


def _idle(parts: Sequence[Document]) -> dict[str, float]:
    """By component, where every part that has joules of it knows how many of them are idle."""
    unknown = {
        entry["component"]
        for part in parts
        for entry in part["energy_j"]
        if entry["component"] not in part.get("idle_energy_j", {})
    }
    known = sorted({component for part in parts for component in part.get("idle_energy_j", {})} - unknown)
    return {
        component: math.fsum(part.get("idle_energy_j", {}).get(component, 0.0) for part in parts) for component in known
    }


def _settled(parts: Sequence[Document]) -> dict[str, Any] | None:
    """Of all parts together; None where one of them has not been priced again. The share goes by joules."""
    settled = [part["settled"] for part in parts if part.get("settled")]
    if len(settled) < len(parts):
        return None
    energy_j = math.fsum(one["energy_j"] for one in settled)
    final_j = math.fsum(one["energy_j"] * one["settled_ratio"] for one in settled)
    return {
        "emissions_g": _added(settled, "emissions_g", ("basis",), "emissions_g"),
        "settled_ratio": min(1.0, final_j / energy_j) if energy_j > 0.0 else 1.0,
        "energy_j": energy_j,
        "unpriced_energy_j": math.fsum(one["unpriced_energy_j"] for one in settled),
        "priced_at_unix_s": min(one["priced_at_unix_s"] for one in settled),
        "repriced": any(one["repriced"] for one in settled),
    }


def _extras(parts: Sequence[Document]) -> dict[str, Any]:
    """Of each figure the sum, where every part has it; of the cost, where it is in one currency."""
    told = [part.get("extras") or {} for part in parts]
    sums = {
        name: None if any(extras.get(name) is None for extras in told) else math.fsum(extras[name] for extras in told)
        for name in ("marginal_emissions_g", "embodied_emissions_g", "market_based_emissions_g", "water_l")
    }
    costs = [extras.get("cost") for extras in told]
    paid = [cost for cost in costs if cost is not None]
    currencies = {cost["currency"] for cost in paid}
    cost = None
    if len(paid) == len(parts) and len(currencies) == 1:
        cost = {"amount": math.fsum(one["amount"] for one in paid), "currency": currencies.pop()}
    return {**sums, "cost": cost}


def _providers(parts: Sequence[Document]) -> dict[str, list[str]]:
    """Of each zone those of the first node that names any; each part keeps its own."""
    zones: dict[str, list[str]] = {}
    for part in parts:
        for zone, names in part.get("providers", {}).items():
            zones.setdefault(zone, list(names))
    return dict(sorted(zones.items()))


def _told(combine: Callable[[list[Any]], Any], parts: Sequence[Document], key: str) -> Any:
    values = [part["progress"][key] for part in parts if part["progress"][key] is not None]
    return combine(values) if values else None


def _added(parts: Sequence[Document], table: str, keys: Sequence[str], value: str) -> list[dict[str, Any]]:
    sums: dict[tuple[str, ...], list[float]] = {}
    for part in parts:
        for entry in part[table]:
            sums.setdefault(tuple(entry[key] for key in keys), []).append(entry[value])
    return [{**dict(zip(keys, kind, strict=True)), value: math.fsum(sums[kind])} for kind in sorted(sums)]


def _united(parts: Sequence[Document], table: str) -> list[dict[str, Any]]:
    """Every entry once, sorted by node and then by what it says."""
    entries = {canonical(entry): entry for part in parts for entry in part[table]}
    return [dict(entries[key]) for key in sorted(entries, key=lambda key: (entries[key]["node"], key))]


def _missing(parts: Sequence[Document]) -> list[str]:
    """What is missing everywhere once, at the end; the rest with its node."""
    everywhere = [words for words in parts[0]["missing"] if all(words in part["missing"] for part in parts)]
    own = [f"{part['node']}: {words}" for part in parts for words in part["missing"] if words not in everywhere]
    return [*dict.fromkeys(own), *everywhere]


# -- one device in two ledgers ---------------------------------------------------------------------------------------


def _counted_twice(one: Document, other: Document) -> list[str]:
    """Two ledgers of a node that counted the same device at the same time: two daemons ran, and both booked it."""
    if one["node"] != other["node"]:
        return []
    spans, others = _spans(one), _spans(other)
    warnings = []
    for device in sorted(spans.keys() & others.keys()):
        longest_s = max(end - start for start, end in (*spans[device], *others[device]))
        both_s = _common_s(_union(spans[device]), _union(others[device]))
        if both_s > longest_s + HANDOVER_S:
            warnings.append(
                f"{one['node']}: {device} was counted for {duration(both_s)} by two ledgers, {one['ledger']} and "
                f"{other['ledger']}, so its joules of that time may be in here twice"
            )
    return warnings


def _spans(part: Document) -> dict[str, list[Span]]:
    spans: dict[str, list[Span]] = {}
    for start_s, end_s, device, *_rest in (part["intervals"] or {"rows": ()})["rows"]:
        spans.setdefault(device, []).append((start_s, end_s))
    return spans


def _union(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def _common_s(ours: list[Span], theirs: list[Span]) -> float:
    common_s, i, j = 0.0, 0, 0
    while i < len(ours) and j < len(theirs):
        common_s += max(0.0, min(ours[i][1], theirs[j][1]) - max(ours[i][0], theirs[j][0]))
        if ours[i][1] < theirs[j][1]:
            i += 1
        else:
            j += 1
    return common_s
