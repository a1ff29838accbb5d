"""Grafana dashboards and Prometheus rules as code, generated from the metric list."""
