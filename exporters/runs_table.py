"""The runs of a node as a table for a terminal."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from exporters.quantities import duration, grams, joules, plain
from exporters.report_carbon import emissions_by_kind, settled_where_it_differs
from exporters.report_text import by_kind

HEADS = ("id", "name", "user", "state", "start (UTC)", "duration", "energy", "CO2e")
UNKNOWN = "-"


def runs_table(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for the heads and one for each run; ids are whole, to be copied."""
    rows = [HEADS, *(_row(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(summary: Mapping[str, Any]) -> tuple[str, ...]:
    run = summary["run"]
    energy = [f"{joules(sum(parts.values()))} {kind}".strip() for kind, parts in by_kind(summary).items()]
    emissions = [
        f"{grams(emissions_g).removesuffix(' CO2e')} {kind} {'' if basis == 'lifecycle' else basis}".split()
        for (kind, basis), (emissions_g, _qualities) in emissions_by_kind(summary).items()
    ]
    settled = [words.replace(" CO2e", "") for words in settled_where_it_differs(summary)]
    live = " + ".join(" ".join(words) for words in emissions)
    return (
        plain(run["id"], 200),
        plain(run["name"], 24) or UNKNOWN,
        plain(run["user"], 16) or UNKNOWN,
        "running" if summary["active"] else "ended",
        f"{datetime.fromtimestamp(summary['start_unix_s'], UTC):%Y-%m-%d %H:%M:%S}",
        duration(summary["duration_s"]),
        " + ".join(energy) or UNKNOWN,
        "; settled ".join([live or UNKNOWN, *([" + ".join(settled)] if settled else [])]),
    )
