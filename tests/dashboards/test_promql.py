"""The query builder: what it makes, and what it refuses."""

from dataclasses import replace

import pytest

from dashboards import promql as q
from dashboards import scope
from monitor import metrics as x

S = scope.board()
SCOPE = 'job=~"$job", instance=~"$instance"'


def test_selectors_follow_the_variables() -> None:
    """A selector is bound to the dashboard's variables and to what it is asked to match."""
    query = S.select(x.DEVICE_POWER, component="gpu")

    assert f'trainwatt_device_power_watts{{{SCOPE}, component="gpu"}}' == query.text
    assert {"job", "instance", "device", "component"} == query.labels


def test_windows() -> None:
    """A rate is over Grafana's rate interval; a rise and a last value are over the time range."""
    assert f"rate(trainwatt_node_emissions_grams_total{{{SCOPE}}}[$__rate_interval])" == S.rate(x.NODE_EMISSIONS).text
    assert f"increase(trainwatt_node_emissions_grams_total{{{SCOPE}}}[$__range])" == S.increase(x.NODE_EMISSIONS).text
    assert f"last_over_time(trainwatt_run_info{{{SCOPE}}}[$__range])" == S.last_over_time(x.RUN_INFO).text


def test_a_sum_counts_a_series_once() -> None:
    """What two jobs scrape from the same address is one series in a sum."""
    query = q.total(S.rate(x.NODE_EMISSIONS), "basis")

    assert query.text.startswith("sum by (basis) (max by (basis, instance, method, quality) (rate(")
    assert {"basis"} == query.labels


def test_a_description_is_matched_on_every_shared_label() -> None:
    """A join is in parentheses, takes one description a series, and adds only what was asked for."""
    query = S.described(q.total(S.rate(x.RUN_ENERGY), "run"), x.RUN_INFO, "name", ended=True)

    assert query.text.startswith("(sum by (run) (")
    assert query.text.endswith(
        f") * on (run) group_left (name) topk by (run) (1, trainwatt_run_info{{{SCOPE}}} or on (run) "
        f"last_over_time(trainwatt_run_info{{{SCOPE}}}[$__range]))"
    )
    assert {"run", "name"} == query.labels


def test_ledgers_add_up_and_what_scrapes_them_does_not() -> None:
    """The parts of a run are those of its ledgers: jobs and addresses count none of them twice."""
    query = q.over_ledgers(S.rate(x.RUN_IDLE_ENERGY), "run")

    assert query.text.startswith("sum by (run) (max by (component, ledger, run) (rate(")
    assert {"run"} == query.labels
    with pytest.raises(ValueError, match="no label 'ledger'"):
        q.over_ledgers(S.select(x.NODE_MEASURED_POWER))


def test_ranks_are_within_the_labels_given() -> None:
    """The lowest of all, or of each zone; the series keep their labels."""
    forecast = S.select(x.GRID_FORECAST)

    assert q.bottom(5, forecast).text.startswith("bottomk(5, trainwatt_grid_forecast")
    assert q.top(1, forecast, "grid_zone").text.startswith("topk by (grid_zone) (1, trainwatt_grid_forecast")
    assert forecast.labels == q.bottom(1, forecast, "grid_zone").labels
    with pytest.raises(ValueError, match="no label 'run'"):
        q.bottom(1, forecast, "run")


def test_zero_for_none_yet() -> None:
    """A series that something present has none of reads 0."""
    query = q.or_zero(S.select(x.SOURCE_FAILURES), S.select(x.SOURCE_UP))

    assert f"or on (instance, job, source) (0 * trainwatt_source_up{{{SCOPE}}})" in query.text


@pytest.mark.parametrize("function", [S.rate, S.increase])
@pytest.mark.parametrize("metric", [x.DEVICE_POWER, x.RUN_INFO], ids=lambda metric: metric.series)
def test_only_counters_have_a_rate(function: object, metric: x.Metric) -> None:
    """The rate or rise of a gauge or of an info metric is an error."""
    assert callable(function)
    with pytest.raises(TypeError, match=f"of {metric.series}, which is a {metric.type}"):
        function(metric)


def test_runs_have_no_increase() -> None:
    """The rise of a run's counter is an error that names the remedy."""
    with pytest.raises(TypeError, match="use last_over_time"):
        S.increase(x.RUN_ENERGY)


def test_only_a_time_has_an_age() -> None:
    """The age of what is no Unix time is an error."""
    with pytest.raises(TypeError, match="no Unix time"):
        S.age(x.RUN_DURATION)


def test_only_info_metrics_describe() -> None:
    """A join with a metric whose value is not 1 is an error."""
    with pytest.raises(TypeError, match="would change the values"):
        S.described(S.select(x.RUN_POWER), x.RUN_ACTIVE)


def test_dead_metrics_are_refused() -> None:
    """A metric that is not on the list cannot be asked for, even when it looks like one."""
    dead = replace(x.DEVICE_POWER, stem="device_horsepower")

    for make in (S.select, S.last_over_time):
        with pytest.raises(ValueError, match="trainwatt_device_horsepower_watts is not on the metric list"):
            make(dead)
    with pytest.raises(ValueError, match="not on the metric list"):
        S.label_values(dead, "job")


def test_unknown_labels_are_refused() -> None:
    """A label that the series lacks is an error in a selector, `by`, a join, a legend and a variable."""
    power = S.select(x.DEVICE_POWER)
    with pytest.raises(ValueError, match="no label 'colour'"):
        S.select(x.DEVICE_POWER, colour="red")
    with pytest.raises(ValueError, match="no label 'run'"):
        q.total(power, "run")
    with pytest.raises(ValueError, match="no label 'method'"):
        q.highest(q.total(S.rate(x.NODE_MEASURED_ENERGY), "component"), "method")
    with pytest.raises(ValueError, match="no label 'price'"):
        S.described(power, x.DEVICE_INFO, "price")
    with pytest.raises(ValueError, match="no label 'run'"):
        power.legend("{{device}} {{run}}")
    with pytest.raises(ValueError, match="no label 'zone'"):
        S.label_values(x.BUILD_INFO, "zone")


def test_ratios_need_a_whole_for_each_part() -> None:
    """A division by what has more labels would match nothing, and is an error; by what has fewer it is matched."""
    part, whole = S.select(x.DEVICE_POWER), S.select(x.NODE_MEASURED_POWER)

    assert f" / on (instance, job) group_left () {whole.text}" in q.ratio(part, whole).text
    with pytest.raises(ValueError, match="differ in"):
        q.ratio(whole, part)
