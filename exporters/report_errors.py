"""What may be wrong with the figures of a report, each kind of error apart; "unknown" where nobody knows it."""

from collections.abc import Iterator, Mapping
from typing import Any

from exporters.quantities import plain

GPU_GAIN = "-8 to +4 % on most cards, more on some"
"""Against a meter, over 70 cards of 12 generations: Yang et al., arXiv 2312.02741."""


SHARED = {
    "usage": "utilisation and CPU time are not proportional to power",
    "equal": "nothing tells the runs apart",
    "slice": "a slice is not told what it draws, only how large it is",
}
"""Why nobody knows how far joules of a shared device are off."""


def error_lines(document: Mapping[str, Any]) -> list[str]:
    """Errors of sensor, integration, attribution and factor, a line or more each."""
    lines = [f"{name}: {words}" for name, tell in ERRORS.items() for words in dict.fromkeys(tell(document))]
    return lines if document["energy_j"] else []


def _sensor(document: Mapping[str, Any]) -> Iterator[str]:
    measured = {part["component"] for part in document["energy_j"] if part["method"] in ("counter", "integrated")}
    for component in sorted(measured):
        known = [device for device in document["devices"] if device["component"] == component]
        ratios = {device["calibration_ratio"] for device in known} - {None}
        calibrated = sorted(ratio for ratio in ratios if ratio != 1.0)
        gain = f"gain {GPU_GAIN}" if component == "gpu" else "unknown"
        if calibrated:
            factors = ", ".join(f"{ratio:g}" for ratio in calibrated)
            apart = f"; without calibration {gain}" if 1.0 in ratios else ""
            gain = f"unknown after calibration (x {factors}){apart}"
        yield f"{component.upper()}: {gain}"
    methods = {part["method"] for part in document["energy_j"]}
    if "estimated" in methods:
        bands = sorted({device["error_ratio"] for device in document["devices"] if device["error_ratio"]})
        yield f"estimated joules: +-{100 * bands[-1]:.0f} % at least" if bands else "estimated joules: unknown"
    if "simulated" in methods:
        yield "none: these devices are SIMULATED, so nothing was measured"


def _integration(document: Mapping[str, Any]) -> Iterator[str]:
    methods = {part["method"] for part in document["energy_j"]}
    if "counter" in methods:
        yield "energy counters: at each edge of the run up to one period of the counter x the step of power there"
    if "integrated" in methods:
        yield "integrated power: unknown"


def _attribution(document: Mapping[str, Any]) -> Iterator[str]:
    shares = {part["share"] for part in document["energy_j"]}
    if "whole" in shares:
        yield "devices held alone: none, idle power included"
    for share in sorted(shares - {"whole"}):
        yield f"devices shared ({plain(share)}): unknown; {SHARED.get(share, SHARED['equal'])}"


def _factor(document: Mapping[str, Any]) -> Iterator[str]:
    qualities = {part["quality"] for part in document["emissions_g"]}
    for quality in sorted(qualities):
        why = "; a yearly mean stands for every hour" if quality == "static" else ""
        yield f"{quality} intensity: unknown{why}"


ERRORS = {"sensor": _sensor, "integration": _integration, "attribution": _attribution, "factor": _factor}
