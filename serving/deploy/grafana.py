"""A dashboard for Grafana, and the files by which it finds that and Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from serving.deploy.plan import Plan
from serving.deploy.text import as_yaml

__all__ = ["dashboard_json", "dashboards_yaml", "datasources_yaml"]

_WIDTH, _HEIGHT, _PER_ROW = 12, 8, 2
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class _Panel:
    """One panel.

    Attributes:
        unit: as Grafana names it.
        queries: legend to PromQL.
    """

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def dashboard_json(plan: Plan) -> str:
    """The dashboard: load, failures, latency, the model's own time, batches, versions that load."""
    panels = [_panel(index, panel) for index, panel in enumerate(_panels(plan))]
    dashboard = {
        "title": f"Serving: {plan.model}",
        "uid": f"satisfice-{plan.resource}"[:40],
        "tags": ["satisfice", "tensorflow-serving"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}]
        },
        "panels": panels,
    }
    return json.dumps(dashboard, indent=2) + "\n"


def datasources_yaml() -> str:
    """Where Grafana finds Prometheus, in the compose file."""
    source = {"name": "Prometheus", "type": "prometheus", "url": "http://prometheus:9090", "isDefault": True}
    return as_yaml({"apiVersion": 1, "datasources": [source]})


def dashboards_yaml() -> str:
    """Where Grafana finds dashboards."""
    provider = {"name": "satisfice", "type": "file", "options": {"path": "/var/lib/grafana/dashboards"}}
    return as_yaml({"apiVersion": 1, "providers": [provider]})


def _panels(plan: Plan) -> list[_Panel]:
    model, every = f'model_name="{plan.model}"', "[$__rate_interval]"
    count = ":tensorflow:serving:request_count"
    found = [
        _Panel(
            "Servers that answer",
            "none",
            {"up": f'sum(up{{job="{plan.resource}"}})', "all": f'count(up{{job="{plan.resource}"}})'},
        ),
        _Panel("Requests", "reqps", {"{{status}}": f"sum by (status) (rate({count}{{{model}}}{every}))"}),
        _Panel(
            "Share that fails",
            "percentunit",
            {
                "failed": f'(sum(rate({count}{{{model},status!="OK"}}{every})) or vector(0))'
                f" / sum(rate({count}{{{model}}}{every}))"
            },
        ),
        _Panel(
            "Requests of each server", "reqps", {"{{instance}}": f"sum by (instance) (rate({count}{{{model}}}{every}))"}
        ),
        _Panel("Latency", "µs", _quantiles(":tensorflow:serving:request_latency_bucket", model, every, "entrypoint")),
        _Panel(
            "Time in the model",
            "µs",
            _quantiles(":tensorflow:serving:runtime_latency_bucket", model, every),
            "What is left of the latency is spent in queues, on decoding and on the network.",
        ),
        _Panel(
            "Examples",
            "cps",
            {"examples": f'sum(rate(:tensorflow:serving:request_example_count_total{{model="{plan.model}"}}{every}))'},
        ),
        _Panel(
            "Loads of versions",
            "none",
            {
                "{{model_path}} {{status}}": "sum by (model_path, status) (:tensorflow:cc:saved_model:load_attempt_count)"
            },
        ),
    ]
    if plan.serving.batching:
        batches = ":tensorflow:serving:batching_session:processed_batch_size"
        found += [
            _Panel(
                "Examples in a batch",
                "none",
                {"mean": f"sum(rate({batches}_sum{every})) / sum(rate({batches}_count{every}))"},
            ),
            _Panel(
                "Time in the queue",
                "µs",
                _quantiles(":tensorflow:serving:batching_session:queuing_latency_bucket", "", every),
            ),
        ]
    return found


def _quantiles(metric: str, labels: str, every: str, by: str = "") -> dict[str, str]:
    groups, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    return {
        f"p{percent}{legend}": f"histogram_quantile({percent / 100:g}, sum by ({groups}) (rate({metric}{{{labels}}}{every})))"
        for percent in (50, 95, 99)
    }


def _panel(index: int, panel: _Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
        for place, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {
            "x": index % _PER_ROW * _WIDTH,
            "y": index // _PER_ROW * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
