"""The query of DESIGN section 7, as people type it."""

from tests.harness.prometheus import Prometheus


def total_query(run: str) -> str:
    """PromQL of a run's joules over nodes, scrapers, restarts and address changes."""
    series = f'trainwatt_run_energy_joules_total{{run="{run}"}}'
    return f"sum by (run) (max by (run, ledger, component, method, share) (last_over_time({series}[1h])))"


def total_j(server: Prometheus, run: str) -> float:
    """Its value now. Raises ValueError where the server does not know the run."""
    (series,) = server.query(total_query(run))
    return float(series["value"][1])
