"""How many series a node exports: a formula for each metric of the list, and what it comes to on three nodes.

A formula is a bound from above that holds at every moment; a metric that needs what a node has not is absent there.
"""

from collections.abc import Mapping
from math import prod

from monitor import metrics as x
from monitor.core.snapshot import MOST_PROJECTS
from monitor.errors import FeedError
from monitor.metrics import METRICS, Metric
from monitor.rows import FORECAST_HOURS

CASES = ("2 runs", "10 runs", "at the caps")
"""Each on a node of eight GPUs and two packages with their DRAM, with everything set up that can be."""
COUNTS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "D": ("devices that are summed: GPUs, packages, DRAM", (12, 12, 12)),
    "G": ("GPUs", (8, 8, 8)),
    "O": ("readings that overlap devices: platform, module", (0, 0, 2)),
    "E": ("devices whose energy is estimated", (0, 0, 0)),
    "K": ("reasons for which a driver counts throttled time", (6, 6, 6)),
    "C": ("components", (3, 3, 3)),
    "M": ("methods by which joules became known; a second one where a counter has failed", (1, 1, 2)),
    "S": ("rights by which a run is charged for one component", (1, 1, 2)),
    "R": ("runs: alive (at most 256), or ended within 15 minutes (the newest 100)", (2, 10, 356)),
    "P": ("phases that a run tells; those beyond the 32nd are one", (3, 3, 33)),
    "N": ("pairs of a run that is alive and a GPU that it holds", (8, 10, 2048)),
    "W": ("runs that are priced again as their values settle (the newest 100)", (2, 10, 100)),
    "J": ("projects; those beyond the 100th are one, and runs without one are one", (2, 4, MOST_PROJECTS + 2)),
    "B": ("bases of intensities that priced anything", (1, 1, 2)),
    "Q": ("qualities of them", (2, 2, 5)),
    "Z": ("grid zones: of the node, of its devices, of whoever asks a relay", (1, 1, 2)),
    "Y": ("signals: average, and marginal where a feed tells it", (1, 1, 2)),
    "H": ("hours ahead that are forecast", (len(FORECAST_HOURS),) * 3),
    "F": ("providers that are asked", (1, 1, 3)),
    "T": ("sources", (2, 2, 4)),
    "X": ("reasons for which one of these has failed", (1, 1, len(FeedError.REASONS))),
}
"""Symbol: what is counted, and how many there are in each case."""

OF_LABEL = {
    "device": "D",
    "method": "M",
    "component": "C",
    "share": "S",
    "run": "R",
    "phase": "P",
    "project": "J",
    "basis": "B",
    "quality": "Q",
    "grid_zone": "Z",
    "signal": "Y",
    "hours": "H",
    "provider": "F",
    "source": "T",
    "reason": "X",
    # One to each of the labels beside it, or one a node.
    "within": "",
    "ledger": "",
    "currency": "",
}
EXCEPTIONS = {
    x.DEVICE_POWER_LIMIT: "G",
    x.DEVICE_UTILIZATION: "G",
    x.DEVICE_MEMORY_USED: "G",
    x.DEVICE_TEMPERATURE: "G",
    x.DEVICE_ENERGY_CROSSCHECK: "G",
    x.DEVICE_THROTTLED: "G x K",
    x.DEVICE_ENERGY_ERROR: "E",
    x.DEVICE_INFO: "D + O",
    x.OVERLAP_ENERGY: "O x M",
    x.OVERLAP_POWER: "O",
    x.RUN_SETTLED: "W",
    x.RUN_SETTLED_EMISSIONS: "W x B",
    x.RUN_INFO: "R + W",
    x.RUN_DEVICE_INFO: "N",
    x.GRID_INTENSITY_INFO: "Z x Y",
    x.LEDGER_INFO: "1",
    x.BUILD_INFO: "1",
}
"""Where labels do not tell: what only some have, and descriptions, whose labels follow from each other."""

INTRO = (
    "At most so many at a time, on a node of 8 GPUs and 2 packages with their DRAM that has everything set up: a live "
    "feed, a price, budgets, embodied and market factors, jobs that tell steps and phases. What users choose (runs, "
    "phases, projects) is capped: the last column is what users could come to who mean to fill it."
)


def formula(metric: Metric) -> str:
    """Such as `R x C`. Raises KeyError for a label of which nobody has said how many values it has."""
    if metric in EXCEPTIONS:
        return EXCEPTIONS[metric]
    told = "device" in metric.labels  # a device is of one component
    symbols = [OF_LABEL[label] for label in metric.labels if not (told and label == "component")]
    return " x ".join(symbol for symbol in symbols if symbol) or "1"


def most(metric: Metric, counts: Mapping[str, int]) -> int:
    """How many series of it there are at most where there are so many of each symbol."""
    terms = formula(metric).split(" + ")
    return sum(prod(1 if symbol == "1" else counts[symbol] for symbol in term.split(" x ")) for term in terms)


def counts_of(case: int) -> dict[str, int]:
    """How many there are of each symbol in one of CASES, by its place."""
    return {symbol: numbers[case] for symbol, (_what, numbers) in COUNTS.items()}


def section() -> list[str]:
    """Lines of Markdown: what the symbols mean, the formulas, and the sums."""
    places = range(len(CASES))
    heads = " | ".join(CASES)
    lines = [
        "## Series per node",
        "",
        INTRO,
        "",
        f"| symbol | number of | {heads} |",
        "|---|---|" + "---:|" * len(CASES),
    ]
    lines += [f"| {symbol} | {what} | {_cells(numbers)} |" for symbol, (what, numbers) in COUNTS.items()]
    lines += ["", f"| series | at most | {heads} |", "|---|---|" + "---:|" * len(CASES)]
    numbers = {metric: [most(metric, counts_of(place)) for place in places] for metric in METRICS}
    lines += [f"| `{metric.series}` | {formula(metric)} | {_cells(row)} |" for metric, row in numbers.items()]
    sums = [sum(row[place] for row in numbers.values()) for place in places]
    return [*lines, f"| all of them | | {_cells(sums)} |", ""]


def _cells(numbers: list[int] | tuple[int, ...]) -> str:
    return " | ".join(f"{number:,}" for number in numbers)
