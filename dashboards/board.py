"""What every board has in common: variables, links to the others, the spans of runs, rows of panels."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as m

from dashboards import panels as p
from dashboards import promql as q
from dashboards.panels import Panel
from dashboards.scope import Scope
from monitor import metrics as x
from monitor.metrics import Metric

TAG = "trainwatt"
RUN_STEP = "30s"
"""Two runs of one id that are less apart are one span."""


def build(
    uid: str,
    title: str,
    description: str,
    scope: Scope,
    rows: Mapping[str, Sequence[Panel]],
    *,
    choices: Sequence[dashboard.QueryVariable] = (),
    since: str = "now-1h",
    refresh: str = "10s",
    shaded: bool = True,
) -> m.Dashboard:
    """A board in Grafana's classic model. `choices` are its variables beside data source, job and instance.

    Where it is not `shaded`, whoever looks has to switch the spans of the runs on: many at once hide the charts.
    """
    board = (
        dashboard.Dashboard(f"{TAG} / {title}")
        .uid(uid)
        .description(description)
        .tags([TAG, "energy", "carbon"])
        .readonly()
        .tooltip(m.DashboardCursorSync.CROSSHAIR)
        .refresh(refresh)
        .time(since, "now")
        .timezone("browser")
        .link(_others())
        .annotation(_spans_of_runs(scope, shaded=shaded))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(choice("job", "Job", scope.label_values(x.BUILD_INFO, "job")))
        .with_variable(choice("instance", "Instance", scope.label_values(x.BUILD_INFO, "instance", "job")))
    )
    for variable in choices:
        board = board.with_variable(variable)
    for heading, row in rows.items():
        board = board.with_row(dashboard.Row(heading))
        for panel in row:
            board = board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or (), start=1):
        placed.id_val = number  # the SDK leaves them out; links to a panel need one that stays
    return built


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A drop-down list of the values that a query has, several at a time or all."""
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(p.DATASOURCE).all_value(".+")
    return variable.refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(multi=True).include_all(include_all=True)


def values_of(scope: Scope, metric: Metric, label: str, title: str) -> dashboard.QueryVariable:
    """A drop-down list of the values of a label, as far as job and instance are chosen."""
    return choice(label, title, scope.label_values(metric, label, *q.TARGET_LABELS))


def _others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("trainwatt").type(m.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(as_dropdown=True).keep_time(keep_time=True).include_vars(include_vars=True)


def _spans_of_runs(scope: Scope, *, shaded: bool) -> dashboard.AnnotationQuery:
    """Each run is shaded from its start to its end: Grafana joins consecutive samples above 0 into one region."""
    active = q.highest(q.compared(scope.select(x.RUN_ACTIVE), "==", 1), "run")
    spans = dashboard.AnnotationQuery().name("Runs").datasource(p.DATASOURCE).enable(enable=shaded).icon_color("blue")
    return spans.expr(active.text).step(RUN_STEP).title_format("{{run}}").tag_keys("run").hide(hide=False)
