"""Panels in the project's manner: title, description and unit are demanded, colours never mean what nobody set.

Without thresholds of its own Grafana paints every value above 80 red, so each panel states its colours.
"""

from collections.abc import Mapping
from enum import StrEnum
from string import ascii_uppercase
from types import MappingProxyType
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.promql import Query

DATASOURCE = c.DataSourceRef(type_val="prometheus", uid="${datasource}")
FULL_WIDTH = 24
NAME_PX = 12
"""Size of the text beside a bar: by itself Grafana fills the bar's height and cuts the name."""
LEGEND_PX = 27
"""Width of a legend beside its chart, for each of the 24 columns: by itself Grafana lets long names hide the chart."""
DEVICE = ("instance", "device", "component")
DEVICE_LEGEND = "{{device}} {{instance}}"
"""Two nodes may both have a `package-0`: the node belongs to the name."""


class Unit(StrEnum):
    """Grafana's ids of the units shown."""

    WATT = "watt"
    KILOWATTHOUR = "kwatth"
    GRAM = "massg"
    GRAMS_PER_HOUR = "suffix:gCO2e/h"
    GRAMS_PER_KILOWATTHOUR = "suffix:gCO2e/kWh"
    RATIO = "percentunit"
    CELSIUS = "celsius"
    BYTE = "bytes"
    SECOND = "s"
    MINUTES_AND_SECONDS = "dtdurations"
    """Seconds, as 1 hour 12 minutes."""
    WHEN = "dateTimeAsIso"
    """Milliseconds since 1970, as a date and a time."""
    JOULES_PER_STEP = "suffix:J/step"
    JOULES_PER_TOKEN = "suffix:J/token"  # noqa: S105  (tokens of text)
    JOULES_PER_SAMPLE = "suffix:J/sample"
    LITER = "litre"
    NUMBER = "short"
    FACTOR = "none"


PLACES = {Unit.JOULES_PER_TOKEN: 5}
"""Decimals of values that are small by nature, where they stand among others."""
Target = prometheus.Dataquery
Panel = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel
_Panel = TypeVar("_Panel", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)


def over_time(query: Query, legend: str) -> Target:
    """A query with one value for every moment of the range."""
    return _target(query).range().legend_format(query.legend(legend))


def at_end(query: Query, legend: str) -> Target:
    """A query with one value, at the end of the range. A series that has ended by then shows nothing, not its past."""
    return _target(query).instant().legend_format(query.legend(legend))


def rows(query: Query) -> Target:
    """A query with one table row for each series, at the end of the range."""
    return _target(query).instant().format(PromQueryFormat.TABLE)


def _target(query: Query) -> Target:
    return prometheus.Dataquery().expr(query.text).datasource(DATASOURCE)


def graph(
    title: str, description: str, unit: Unit, *targets: Target, span: int = 12, height: int = 8, beside: bool = False
) -> timeseries.Panel:
    """Lines over time, with the mean and highest value of each in the legend: below, or `beside` many lines."""
    legend = (
        common.VizLegendOptions()
        .display_mode(c.LegendDisplayMode.TABLE)
        .placement(c.LegendPlacement.RIGHT if beside else c.LegendPlacement.BOTTOM)
        .calcs(["mean", "max"])
        .show_legend(show_legend=True)
    )
    legend = legend.width(LEGEND_PX * span) if beside else legend
    panel = _described(timeseries.Panel(), title, description, unit, *targets, span=span, height=height)
    tooltip = common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
    return panel.color_scheme(_palette()).min(0).line_width(1).fill_opacity(0).legend(legend).tooltip(tooltip)


def stacked(
    title: str, description: str, unit: Unit, *targets: Target, span: int = 12, height: int = 8, beside: bool = False
) -> Panel:
    """Areas on top of each other: only for parts that are disjoint, since the upper edge reads as their sum."""
    panel = graph(title, description, unit, *targets, span=span, height=height, beside=beside)
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))


def figure(
    title: str,
    description: str,
    unit: Unit,
    *targets: Target,
    span: int = 4,
    height: int = 4,
    decimals: int = 2,
    colors: Mapping[float, str] = MappingProxyType({}),
    below: str = "text",
    units: Mapping[str, Unit] = MappingProxyType({}),
    since: str = "",
) -> Panel:
    """Large numbers with their names. `colors`: from which value on, and `below` them all.

    `units`: of a query by its letter, where it is not the panel's. `since`: so far back, whatever the range.
    """
    panel = _described(stat.Panel(), title, description, unit, *targets, span=span, height=height)
    panel = (
        panel.graph_mode(c.BigValueGraphMode.NONE).reduce_options(_last()).text_mode(c.BigValueTextMode.VALUE_AND_NAME)
    )
    panel = panel.time_from(since) if since else panel
    panel = panel.wide_layout(wide_layout=False).decimals(decimals)
    for ref_id, own in units.items():
        places = PLACES.get(own, 0 if own is Unit.NUMBER else 1)
        properties = [m.DynamicConfigValue(id_val="unit", value=own), m.DynamicConfigValue("decimals", places)]
        panel = panel.override_by_query(ref_id, properties)
    if not colors:
        return panel.color_mode(c.BigValueColorMode.NONE).color_scheme(_fixed("text"))
    return panel.color_mode(c.BigValueColorMode.VALUE).thresholds(_steps(below, colors))


def lamp(title: str, description: str, target: Target, *, span: int = 4) -> Panel:
    """Green for 1, red for 0."""
    words = {"1": m.ValueMappingResult(text="up", color="green"), "0": m.ValueMappingResult(text="down", color="red")}
    panel = _described(stat.Panel(), title, description, Unit.FACTOR, target, span=span, height=4)
    panel = (
        panel.graph_mode(c.BigValueGraphMode.NONE).reduce_options(_last()).text_mode(c.BigValueTextMode.VALUE_AND_NAME)
    )
    scale = _steps("red", {1: "green"})
    return panel.wide_layout(wide_layout=False).mappings([m.ValueMap(options=words)]).thresholds(scale)


def bars(
    title: str,
    description: str,
    unit: Unit,
    *targets: Target,
    span: int = 12,
    height: int = 8,
    colors: Mapping[float, str] = MappingProxyType({}),
    since: str = "",
) -> Panel:
    """One horizontal bar for each series. `since`: so far back, whatever the range.

    `colors`: from which value on; at the highest of them the bar is full. Green below, and without them a color each.
    """
    panel = _described(bargauge.Panel(), title, description, unit, *targets, span=span, height=height)
    panel = (
        panel.reduce_options(_last()).display_mode(c.BarGaugeDisplayMode.BASIC).orientation(c.VizOrientation.HORIZONTAL)
    )
    panel = panel.time_from(since) if since else panel
    text = common.VizTextDisplayOptions().title_size(NAME_PX).value_size(NAME_PX)
    panel = panel.min(0).name_placement(c.BarGaugeNamePlacement.LEFT).text(text)
    if not colors:
        return panel.color_scheme(_palette())
    by_value = dashboard.FieldColor().mode(m.FieldColorModeId.THRESHOLDS)
    return panel.max(max(colors)).color_scheme(by_value).thresholds(_steps("green", colors))


def listing(
    title: str,
    description: str,
    key: str,
    columns: dict[str, str],
    units: dict[str, Unit],
    *targets: Target,
    links: Mapping[str, str] = MappingProxyType({}),
    span: int = FULL_WIDTH,
    height: int = 6,
    decimals: int = 3,
    since: str = "",
    highest_first: str = "",
    widths_px: Mapping[str, int] = MappingProxyType({}),
) -> Panel:
    """A table of one row for each value of the label `key`; the queries' answers stand side by side in it.

    `columns` gives the heading of each field in order; a query's value is the field `Value #A`, `Value #B` and so on.
    A query without an answer has no column. `links` gives the address behind a heading's cells; `highest_first` is
    the heading that the rows are sorted by. Columns without a width share what is left, 150 px each at least.
    """
    wanted = "|".join(columns)
    # Grafana calls the value `Value` when a single query has an answer; that is then the first one, which always has.
    headings = {**columns, "Value": columns["Value #A"]}
    panel = _described(table.Panel(), title, description, Unit.FACTOR, *targets, span=span, height=height)
    panel = panel.time_from(since) if since else panel
    if highest_first:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(highest_first).desc(desc=True)])
    panel = panel.color_scheme(_fixed("text")).with_transformation(
        m.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"pattern": f"^({wanted}|Value)$"}})
    )
    panel = panel.with_transformation(
        m.DataTransformerConfig(id_val="joinByField", options={"byField": key, "mode": "outer"})
    )
    order = {field: place for place, field in enumerate(headings)}
    panel = panel.with_transformation(
        m.DataTransformerConfig(id_val="organize", options={"renameByName": headings, "indexByName": order})
    )
    for heading, unit in units.items():
        places = PLACES.get(unit, decimals)
        properties = [m.DynamicConfigValue(id_val="unit", value=unit), m.DynamicConfigValue("decimals", places)]
        panel = panel.override_by_name(heading, properties)
    for heading, width_px in widths_px.items():
        panel = panel.override_by_name(heading, [m.DynamicConfigValue(id_val="custom.width", value=width_px)])
    for heading, address in links.items():
        link = {"title": f"Show this {heading.lower()}", "url": address}
        panel = panel.override_by_name(heading, [m.DynamicConfigValue(id_val="links", value=[link])])
    return panel


def board_of(uid: str, label: str) -> str:
    """Address of a board that shows what a table's cell names, over the same time."""
    # Left to itself Grafana encodes a link as a whole: an id with &, # or + would lead elsewhere.
    return f"/d/{uid}?var-{label}=${{__value.raw:percentencode}}&${{__url_time_range}}&var-datasource=${{datasource}}"


def _described(
    panel: _Panel, title: str, description: str, unit: Unit, *targets: Target, span: int, height: int
) -> _Panel:
    panel = panel.title(title).description(description).unit(unit).span(span).height(height).datasource(DATASOURCE)
    if len(targets) > len(ascii_uppercase):
        raise ValueError(f"{title!r} has {len(targets)} queries; Grafana names them by one letter")
    for ref_id, target in zip(ascii_uppercase, targets, strict=False):
        panel = panel.with_target(target.ref_id(ref_id))
    return panel


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _steps(lowest: str, colors: Mapping[float, str]) -> dashboard.ThresholdsConfig:
    steps = [m.Threshold(value=None, color=lowest)]
    steps += [m.Threshold(value=start, color=color) for start, color in sorted(colors.items())]
    return dashboard.ThresholdsConfig().mode(m.ThresholdsMode.ABSOLUTE).steps(steps)


def _palette() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(m.FieldColorModeId.PALETTE_CLASSIC)


def _fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(m.FieldColorModeId.FIXED).fixed_color(color)
