"""A report for people: one line at the end of a run, or a page that also says what is not known and why."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporters.quantities import duration, grams, joules, moment, percent, plain, watt_hours
from exporters.report_budget import budget_line, over_budget
from exporters.report_carbon import (
    MOST_LINES,
    emission_lines,
    emissions_by_kind,
    extra_lines,
    kind_of,
    settled_where_it_differs,
    some,
)
from exporters.report_equivalents import equivalent_lines
from exporters.report_errors import error_lines
from exporters.report_sci import sci_lines

Document = Mapping[str, Any]
WIDTH = 92
COMPONENTS = ("gpu", "cpu", "dram", "module", "platform")
"""In the order shown."""
METHODS = {
    "counter": "measured by an energy counter",
    "integrated": "integrated from measured power",
    "estimated": "ESTIMATED, not measured",
    "simulated": "SIMULATED, not measured",
}
SHARES = {
    "whole": "held alone",
    "usage": "shared, split by use",
    "equal": "shared, split equally",
    "slice": "shared, split by slices",
}
RIGHTS = {
    "whole": "held alone: all that the device used in that time, idle or not",
    "usage": "split by use: SM utilisation, CPU time or memory; the idle part by what was held",
    "equal": "split equally: nothing told what each of its runs used",
    "slice": "split by slices: the size of its part of a divided GPU (MIG)",
}
"""By what right a run is charged."""
COUNTS = ("steps", "tokens", "samples")


def by_kind(document: Document) -> dict[str, dict[str, float]]:
    """Joules by kind and component: what is measured, and the GPU, first."""
    kinds: dict[str, dict[str, float]] = {}
    for part in sorted(
        document["energy_j"], key=lambda part: (kind_of(part["method"]), COMPONENTS.index(part["component"]))
    ):
        components = kinds.setdefault(kind_of(part["method"]), {})
        components[part["component"]] = components.get(part["component"], 0.0) + part["energy_j"]
    return kinds


def summary_line(document: Document) -> str:
    """`run demo: 12.34 kJ (3.43 Wh) in 61.2 s: GPU 11.20 kJ, CPU 1.14 kJ; 1.2 g CO2e (DE, static, lifecycle); ...`.

    What is not known is absent. Estimated and simulated joules stand apart, under their names.
    """
    run = document["run"]
    parts = [f"run {plain(run['name'] or run['id'])}: {_energy_words(document)}"]
    zones = " and ".join(_zones(document)) or "zone unknown"
    for (kind, basis), (emissions_g, qualities) in emissions_by_kind(document).items():
        apart = f"{kind} " if kind else ""
        parts.append(f"{apart}{grams(emissions_g)} ({zones}, {' and '.join(qualities)}, {basis})")
    parts += [f"settled {words}" for words in settled_where_it_differs(document)]
    if document["measured_time_ratio"] is not None:
        parts.append(f"{percent(document['measured_time_ratio'])} of the time {_seen(document)}")
    if document["progress"]["steps"] is not None:
        parts.append(_counted(document["progress"]["steps"], "step"))
    if over := over_budget(document):
        parts.append(f"OVER BUDGET: {over}")
    if document.get("warnings"):
        parts.append("BUT joules may be in it twice: see the report")
    return "; ".join(parts)


def _energy_words(document: Document) -> str:
    span = f" in {duration(document['duration_s'])}" + (" so far" if document["active"] else "")
    words: list[str] = []
    for kind, components in by_kind(document).items():
        total_j = sum(components.values())
        split = ", ".join(f"{component.upper()} {joules(energy_j)}" for component, energy_j in components.items())
        apart = f" {kind.upper()}" if kind else ""
        words.append(f"{joules(total_j)} ({watt_hours(total_j)}){apart}{'' if words else span}: {split}")
    return "; ".join(words) or f"no energy is known{span}"


def _seen(document: Document) -> str:
    """What its sensors did: those of a simulation measure nothing."""
    return "simulated" if by_kind(document).keys() == {"simulated"} else "measured"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _zones(document: Document) -> list[str]:
    zones = {part["zone"] for part in document.get("parts") or [document]} | {
        factor["zone"] for factor in document["factors"]
    }
    return sorted(plain(zone) for zone in zones if zone)


def report_text(document: Document) -> str:
    """The report as text of at most 92 columns."""
    sections = {
        "": _what(document),
        "Energy": _energy(document),
        "CO2e": emission_lines(document),
        "Beside the CO2e (figures of their own: never added to those grams or taken off them)": extra_lines(document),
        "Software Carbon Intensity (SCI 1.1.0, ISO/IEC 21031:2024)": list(sci_lines(document)),
        "As much CO2e as": list(equivalent_lines(document)),
        "Coverage": _coverage(document),
        "Errors (our own are tested; those of sensors take a meter to know)": error_lines(document),
        "Not included": [f"- {plain(words, 400)}" for words in document["missing"]],
        "Nodes": _parts(document),
        "Warnings": [f"! {plain(words, 400)}" for words in document.get("warnings", ())],
    }
    run = document["run"]
    title = f"Run {plain(run['name'] or run['id'])}"
    lines = [title, "=" * len(title)]
    for head, body in sections.items():
        if body:
            lines += ["", head] if head else []
            lines += [wrapped for line in body for wrapped in _wrapped(f"  {line}" if head else line)]
    return "\n".join(lines) + "\n"


def _wrapped(line: str) -> list[str]:
    inner = line.lstrip()
    indent = " " * (len(line) - len(inner) + (2 if inner.startswith(("- ", "! ")) else 4))
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )


def _fields(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name:<12}{text}" for name, text in pairs if text]


def _what(document: Document) -> list[str]:
    run = document["run"]
    ended = "goes on" if document["end_unix_s"] is None else moment(document["end_unix_s"])
    nodes = sorted({part["node"] for part in document.get("parts") or [document]})
    tags = ", ".join(f"{plain(name)}={plain(value)}" for name, value in run["tags"].items())
    return _fields(
        [
            ("id", plain(run["id"], 200)),
            ("user", plain(run["user"])),
            ("project", plain(run["project"])),
            ("launcher", " ".join(plain(word) for word in (run["launcher"], run["job_id"]) if word)),
            ("tags", plain(tags, 400)),
            ("nodes" if len(nodes) > 1 else "node", some([plain(node) for node in nodes], ", ")),
            ("devices", "; ".join(_devices(document))),
            ("start", moment(document["start_unix_s"])),
            ("end", ended),
            ("active", duration(document["duration_s"]) + (", the longest of its nodes" if len(nodes) > 1 else "")),
            ("progress", _progress(document["progress"])),
            ("budget", budget_line(document)),
            ("written", f"{moment(document['written_at_unix_s'])} by trainwatt {plain(document['trainwatt'])}"),
        ]
    )


def _devices(document: Document) -> list[str]:
    groups: dict[tuple[str, str, str], int] = {}
    for device in document["devices"]:
        calibration = device["calibration_ratio"] or 1.0
        key = (
            (device["component"] or "unknown part").upper(),
            plain(device["model"] or device["id"]),
            f" (calibrated x {calibration:g})" if calibration != 1.0 else "",
        )
        groups[key] = groups.get(key, 0) + 1
    return [f"{count} x {component} {model}{calibrated}" for (component, model, calibrated), count in groups.items()]


def _progress(progress: Mapping[str, Any]) -> str:
    words = [_counted(progress[what], what[:-1]) for what in COUNTS if progress[what] is not None]
    if progress["done_ratio"] is not None:
        words.append(f"{percent(progress['done_ratio'])} done")
    return ", ".join(words)


# -- energy ----------------------------------------------------------------------------------------------------------


def _energy(document: Document) -> list[str]:
    if not document["energy_j"]:
        return ["not known"]
    lines = []
    kinds = by_kind(document)
    for kind, components in kinds.items():
        total_j = sum(components.values())
        lines.append(f"{joules(total_j)} ({watt_hours(total_j)}), {kind.upper() or 'measured'}")
        parts = [part for part in document["energy_j"] if kind_of(part["method"]) == kind]
        lines += [f"  {_part(part)}" for part in sorted(parts, key=lambda part: -part["energy_j"])]
        if len(kinds) == 1 or not kind:
            lines += [f"  {words}" for words in _per(document["progress"], total_j)]
    return lines + _idle(document) + _rights(document) + _phases(document)


def _idle(document: Document) -> list[str]:
    idle = document.get("idle_energy_j", {})
    parts = [f"{component.upper()} {joules(idle[component])}" for component in COMPONENTS if component in idle]
    return [f"of it idle: {', '.join(parts)} (drawn by its devices even without any work)"] if parts else []


def _rights(document: Document) -> list[str]:
    present = {part["share"] for part in document["energy_j"] if part["energy_j"]}
    return [words for share, words in RIGHTS.items() if share in present] if present - {"whole"} else []


def _part(part: Mapping[str, Any]) -> str:
    share = SHARES.get(part["share"], part["share"])
    return f"{part['component'].upper():<9}{joules(part['energy_j']):>11}  {METHODS[part['method']]}; {share}"


def _per(progress: Mapping[str, Any], energy_j: float) -> Iterator[str]:
    told = [f"{joules(energy_j / progress[what])} per {what[:-1]}" for what in COUNTS if progress[what]]
    if told:
        yield ", ".join(told)


def _phases(document: Document) -> list[str]:
    phases = document["phase_energy_j"]
    total_j = sum(part["energy_j"] for part in document["energy_j"])
    if not phases or not total_j:
        return []
    greatest = sorted(phases.items(), key=lambda phase: (-phase[1], phase[0]))
    lines = [f"  {plain(name, 24):<25}{joules(energy_j):>11}  {_of(energy_j, total_j)}" for name, energy_j in greatest]
    hidden = [f"  {len(lines) - MOST_LINES} more phases"] if len(lines) > MOST_LINES else []
    rest_j = max(0.0, total_j - sum(phases.values()))
    untold = (
        [f"  {'(no phase told)':<25}{joules(rest_j):>11}  {_of(rest_j, total_j)}"] if rest_j > 1e-9 * total_j else []
    )
    return ["by phase, all of these together", *lines[:MOST_LINES], *hidden, *untold]


def _of(part: float, whole: float) -> str:
    return f"{percent(min(1.0, part / whole)):>12}"


# -- coverage, parts --------------------------------------------------------------------------------------------------


def _coverage(document: Document) -> list[str]:
    held_s, ratio = document["held_device_s"], document["measured_time_ratio"]
    words = "it held no device that is metered"
    if ratio is not None:
        unmeasured_s = max(0.0, held_s - document["measured_device_s"])
        words = f"{percent(ratio)} of the time of its devices was {_seen(document)}; "
        words += f"{unmeasured_s:.1f} of {held_s:.1f} device-seconds were not"
    lines = [words]
    if document["recovered_energy_j"] > 0.0:
        lines.append(
            f"{joules(document['recovered_energy_j'])} of the energy were used while no daemon ran; the hardware's "
            "counters told them afterwards"
        )
    return lines


def _parts(document: Document) -> list[str]:
    lines = []
    for part in document.get("parts", ()):
        total = [f"{joules(sum(parts.values()))} {kind}".strip() for kind, parts in by_kind(part).items()]
        state = "goes on" if part["active"] else "ended"
        words = f"{duration(part['duration_s'])}, {state}; ledger {plain(part['ledger'] or 'unknown')}"
        lines.append(f"{plain(part['node'] or 'unknown node')}: {' and '.join(total) or 'no energy known'} in {words}")
    hidden = [f"{len(lines) - MOST_LINES} more nodes"] if len(lines) > MOST_LINES else []
    left_out = [
        f"left out: a report of {plain(one['node'] or 'an unknown node')} of {moment(one['written_at_unix_s'])}; "
        f"there is a newer one of ledger {plain(one['ledger'] or 'unknown')}"
        for one in document.get("left_out", ())
    ]
    return lines[:MOST_LINES] + hidden + left_out
