"""Grams in words: live and settled ones, what they were priced with, and what stands beside them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporters.quantities import grams, joules, moment, percent, plain, watt_hours
from exporters.report_sci import is_of_all

Document = Mapping[str, Any]
MOST_LINES = 20
"""Of phases, nodes and factors so many are shown; all are in the JSON."""
BESIDE = {
    "marginal_emissions_g": "marginal: by the plant that one more kWh turns up; to shift load, never to account",
    "embodied_emissions_g": "embodied: its part, by reserved time, of what making the devices has emitted",
    "market_based_emissions_g": "market-based: by the factor of the site's contracts (GHG Protocol Scope 2)",
}
OF_FACTOR = ("zone", "provider", "quality", "basis", "signal", "detail", "dataset")
WHOLE_LITERS = 100.0


def kind_of(method: str) -> str:
    """Joules of one kind may be added: "" = measured, else estimated or simulated."""
    return method if method in ("estimated", "simulated") else ""


def emissions_by_kind(document: Document) -> dict[tuple[str, str], tuple[float, list[str]]]:
    """Grams, and the qualities of their factors, by kind of energy and basis."""
    kinds: dict[tuple[str, str], tuple[float, list[str]]] = {}
    for part in document["emissions_g"]:
        key = (kind_of(part["method"]), part["basis"])
        emissions_g, qualities = kinds.get(key, (0.0, []))
        kinds[key] = (emissions_g + part["emissions_g"], sorted({*qualities, part["quality"]}))
    return kinds


def settled_where_it_differs(document: Document) -> list[str]:
    """Settled grams by basis, where they do not read like the live ones, with the share that is final."""
    settled = document.get("settled")
    if not settled or not is_of_all(document, settled):
        return []
    live: dict[str, float] = {}
    for part in document["emissions_g"]:
        live[part["basis"]] = live.get(part["basis"], 0.0) + part["emissions_g"]
    now = {part["basis"]: part["emissions_g"] for part in settled["emissions_g"]}
    return [
        f"{grams(now.get(basis, 0.0))} ({basis}, {percent(settled['settled_ratio'])} final)"
        for basis in sorted(live.keys() | now.keys())
        if grams(now.get(basis, 0.0)) != grams(live.get(basis, 0.0))
    ]


def some(words: Sequence[str], between: str) -> str:
    """The first of them, and how many more there are."""
    more = [f"{len(words) - MOST_LINES} more"] if len(words) > MOST_LINES else []
    return between.join([*words[:MOST_LINES], *more])


def emission_lines(document: Document) -> list[str]:
    """Live grams, settled ones, what has none, PUE, and each factor in use with its provider, credit and edition."""
    lines = []
    settled = document["settled"]
    live = "live, as known when it was used: " if settled else ""
    for (kind, basis), (emissions_g, qualities) in emissions_by_kind(document).items():
        of = f"of {kind.upper()} energy" if kind else "of measured energy"
        lines.append(f"{live}{grams(emissions_g)} {of}; {basis} basis; intensity: {' and '.join(qualities)}")
    if not lines:
        lines.append(f"{live}not known")
    unpriced_j = document["unpriced_energy_j"]
    if unpriced_j > 0.0:
        lines.append(f"{live}{joules(unpriced_j)} ({watt_hours(unpriced_j)}) have no grams")
    if settled:
        lines += _settled(document, settled)
    if document["emissions_g"] or (settled and settled["emissions_g"]):
        lines += _pue(document)
        lines += _factors([factor for factor in document["factors"] if factor["in_use"]])
    return lines


def _settled(document: Document, settled: Document) -> Iterator[str]:
    again = " again from this report" if settled["repriced"] else ""
    head = f"settled, priced{again} as known on {moment(settled['priced_at_unix_s'])}"
    kinds = sorted({kind_of(part["method"]) for part in document["energy_j"]} - {""})
    including = f", {' and '.join(kind.upper() for kind in kinds)} energy included" if kinds else ""
    parts = [f"{grams(part['emissions_g'])}{including}; {part['basis']} basis" for part in settled["emissions_g"]]
    if settled["unpriced_energy_j"] > 0.0:
        parts.append(f"{joules(settled['unpriced_energy_j'])} have no grams")
    for words in parts or ["not known"]:
        yield f"{head}: {words}"
        head = "settled"
    of = "its joules" if is_of_all(document, settled) else f"the {joules(settled['energy_j'])} used by then"
    yield f"settled share: the price of {percent(settled['settled_ratio'])} of {of} can change no more"


def _pue(document: Document) -> list[str]:
    pue = document["pue_ratio"]
    if pue is not None:
        return [f"PUE {pue:g}, in the grams and costs only"]
    if not document["pue_changes"]:
        return ["PUE: the nodes differ"]
    first, *changes = document["pue_changes"]
    told = [f"on {moment(change['valid_from_unix_s'])} to {change['pue_ratio']:g}" for change in changes]
    return [f"PUE changed {some(told, ', ')}, from {first['pue_ratio']:g}; in the grams and costs only"]


def _factors(factors: Sequence[Mapping[str, Any]]) -> list[str]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for factor in factors:
        key = tuple(plain(factor[name], 160) for name in OF_FACTOR)
        groups.setdefault(key, []).append(factor)
    lines = []
    for (zone, provider, quality, basis, signal, detail, dataset), group in groups.items():
        values = {factor["grams_per_kilowatthour"] for factor in group}
        low, high = min(values), max(values)
        span = f"{low:.0f} g/kWh" if low == high else f"{low:.0f} to {high:.0f} g/kWh in {len(group)} slots"
        edition = f"edition {dataset}" if dataset and dataset not in detail else ""
        credit = "; ".join(words for words in (detail, edition) if words)
        lines.append(f"{zone}: {span}, {quality}, {basis}, {signal}; {provider}{f': {credit}' if credit else ''}")
    hidden = [f"{len(lines) - MOST_LINES} more factors"] if len(lines) > MOST_LINES else []
    return lines[:MOST_LINES] + hidden


def extra_lines(document: Document) -> list[str]:
    """The figures beside grams that are configured."""
    extras = document["extras"]
    cost, water_l = extras["cost"], extras["water_l"]
    figures = [f"{grams(extras[name])} {words}" for name, words in BESIDE.items() if extras[name] is not None]
    if cost is not None:
        figures.append(f"{cost['amount']:,.2f} {plain(cost['currency'])}: the price of the electricity, PUE included")
    if water_l is not None:
        figures.append(f"{water_l:,.{0 if water_l >= WHOLE_LITERS else 2}f} l of water: by the site's own factor")
    return figures
