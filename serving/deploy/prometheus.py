"""Prometheus: what it asks, when it tells someone, and tests of that for `promtool test rules`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from serving.deploy.haproxy import STATS_PORT
from serving.deploy.plan import REST_PORT, Plan
from serving.deploy.text import as_yaml, seconds_of
from serving.deploy.tf_serving import METRICS_PATH

__all__ = ["ALERTS", "cluster_yml", "prometheus_yml", "rules_test_yml", "rules_yml"]

ALERTS = ("ServerDown", "NoServer", "RequestsFail", "RequestsAreSlow", "VersionDoesNotLoad")

_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency_bucket"
_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"


def prometheus_yml(plan: Plan) -> str:
    """`prometheus.yml` for servers that are known by name or address, and the load balancer before them."""
    listen = plan.serving.listen
    proxy = f"haproxy:{STATS_PORT}" if plan.in_containers else f"{listen.host}:{listen.stats_port}"
    return _scraping(
        plan,
        {"static_configs": [{"targets": [server.rest for server in plan.servers]}]},
        {"static_configs": [{"targets": [proxy]}]},
    )


def cluster_yml(plan: Plan) -> str:
    """The same for a Prometheus in the cluster, which finds servers by DNS."""
    names = f"{plan.resource}-servers.{plan.serving.kubernetes.namespace}.svc"
    return _scraping(plan, {"dns_sd_configs": [{"names": [names], "type": "A", "port": REST_PORT}]}, None)


def _scraping(plan: Plan, servers: dict[str, Any], proxy: dict[str, Any] | None) -> str:
    interval = f"{plan.serving.monitoring.scrape_interval_s}s"
    jobs = [{"job_name": plan.resource, "metrics_path": METRICS_PATH, **servers}]
    if proxy:
        jobs.append({"job_name": f"{plan.resource}-proxy", **proxy})
    return as_yaml(
        {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yml"],
            "scrape_configs": jobs,
        }
    )


@dataclass(frozen=True)
class _Alert:
    """One rule.

    Attributes:
        hold_s: how long it must be true.
        summary, action: what is the matter, and what to do.
    """

    name: str
    expression: str
    hold_s: int
    severity: Literal["warning", "critical"]
    summary: str
    action: str


def rules_yml(plan: Plan) -> str:
    """`rules.yml`."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.hold_s}s",
            "labels": {"severity": alert.severity, "model": plan.model},
            "annotations": {"summary": alert.summary, "action": alert.action},
        }
        for alert in _alerts(plan)
    ]
    return as_yaml({"groups": [{"name": plan.resource, "rules": rules}]})


def _alerts(plan: Plan) -> Iterator[_Alert]:
    monitoring = plan.serving.monitoring
    job, model, window = f'job="{plan.resource}"', f'model_name="{plan.model}"', f"[{_window_s(plan)}s]"
    hold_s, at_once = seconds_of(monitoring.hold), max(60, 2 * monitoring.scrape_interval_s)
    yield _Alert(
        "ServerDown",
        f"up{{{job}}} == 0",
        at_once,
        "warning",
        "{{ $labels.instance }} does not answer",
        "Look at its log: it ends with what it could not load or bind.",
    )
    yield _Alert(
        "NoServer",
        f"sum(up{{{job}}}) == 0 or absent(up{{{job}}})",
        at_once,
        "critical",
        f"no server of {plan.model} answers",
        "A version that does not load keeps servers from starting: `satisfice rollback --to N --reason R`.",
    )
    yield _Alert(
        "RequestsFail",
        f'sum(rate({_COUNT}{{{model},status!="OK"}}{window})) / sum(rate({_COUNT}{{{model}}}{window}))'
        f" > {monitoring.error_share:g}",
        hold_s,
        "critical",
        f"{{{{ $value | humanizePercentage }}}} of the requests to {plan.model} fail",
        "`satisfice history` says what was pushed when; `satisfice rollback --to N --reason R` undoes it.",
    )
    yield _Alert(
        "RequestsAreSlow",
        f"histogram_quantile(0.99, sum by (le) (rate({_LATENCY}{{{model}}}{window})))"
        f" > {monitoring.latency_p99_ms * 1000:g}",
        hold_s,
        "warning",
        f"one request to {plan.model} in a hundred takes {{{{ $value | humanize }}}} us or more",
        "Compare with the time in the model: more servers, batching, or a smaller model.",
    )
    path = f'model_path=~"{_regex(plan.model_folder)}/.*"'
    yield _Alert(
        "VersionDoesNotLoad",
        f'{_LOADS}{{{path},status="fail"}} > 0 unless on (instance, model_path) {_LOADS}{{{path},status="success"}} > 0',
        at_once,
        "critical",
        "{{ $labels.instance }} cannot load {{ $labels.model_path }}",
        "It is not tried again, and a restart would fail on it: remove the version, or push again.",
    )


def rules_test_yml(plan: Plan) -> str:
    """Tests of the rules: each is quiet when all is well, and tells when it should."""
    quiet_s, tell_s = 0, _told_after_s(plan)
    tests = [_test(plan, "all is well", {}, [], tell_s)]
    for name, (changed, labels, value) in _FAULTS(plan).items():
        told = [_expected(plan, name, labels, value)]
        tests.append(_test(plan, name, changed, [(name, told)], tell_s))
        tests.append(_test(plan, f"{name}: not at once", changed, [(name, [])], quiet_s))
    return as_yaml({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": tests})


def _FAULTS(plan: Plan) -> dict[str, tuple[dict[str, str], dict[str, str], str]]:  # noqa: N802 - a table
    """For each alert: what differs in the input, and labels and value of what is told."""
    job, model = plan.resource, plan.model
    path = f"{plan.model_folder}/2"
    target = f'instance="a:8501",job="{job}"'
    return {
        "ServerDown": ({f"up{{{target}}}": "0x{n}"}, {"instance": "a:8501", "job": job}, ""),
        "NoServer": ({f"up{{{target}}}": "0x{n}", f'up{{instance="b:8501",job="{job}"}}': "0x{n}"}, {}, ""),
        "RequestsFail": (
            {
                f'{_COUNT}{{{target},model_name="{model}",status="OK"}}': "0x{n}",
                f'{_COUNT}{{{target},model_name="{model}",status="INTERNAL"}}': "0+1000x{n}",
            },
            {},
            "100%",
        ),
        "RequestsAreSlow": (
            {f'{_LATENCY}{{{target},model_name="{model}",le="{_slow_us(plan):g}"}}': "0x{n}"},
            {},
            "slow",
        ),
        "VersionDoesNotLoad": (
            {f'{_LOADS}{{{target},model_path="{path}",status="fail"}}': "3x{n}"},
            {"instance": "a:8501", "job": job, "model_path": path, "status": "fail"},
            "",
        ),
    }


def _test(
    plan: Plan, name: str, changed: dict[str, str], told: list[tuple[str, list[dict[str, Any]]]], at_s: int
) -> dict[str, Any]:
    count = ceil(_told_after_s(plan) / 15) + 10
    series = {**_SOUND(plan), **changed}
    if not told:
        told = [(alert, []) for alert in ALERTS]
    return {
        "name": name,
        "interval": "15s",
        "input_series": [{"series": one, "values": values.format(n=count)} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{at_s}s", "alertname": alert, "exp_alerts": expected} for alert, expected in told
        ],
    }


def _SOUND(plan: Plan) -> dict[str, str]:  # noqa: N802 - a table
    """What Prometheus sees where all is well."""
    job, model = plan.resource, plan.model
    target = f'instance="a:8501",job="{job}"'
    slow = f"{_slow_us(plan):g}"
    return {
        f"up{{{target}}}": "1x{n}",
        f'up{{instance="b:8501",job="{job}"}}': "1x{n}",
        f'{_COUNT}{{{target},model_name="{model}",status="OK"}}': "0+1000x{n}",
        f'{_LATENCY}{{{target},model_name="{model}",le="{slow}"}}': "0+1000x{n}",
        f'{_LATENCY}{{{target},model_name="{model}",le="{2 * _slow_us(plan):g}"}}': "0+1000x{n}",
        f'{_LATENCY}{{{target},model_name="{model}",le="+Inf"}}': "0+1000x{n}",
        f'{_LOADS}{{{target},model_path="{plan.model_folder}/1",status="fail"}}': "1x{n}",
        f'{_LOADS}{{{target},model_path="{plan.model_folder}/1",status="success"}}': "1x{n}",
    }


def _expected(plan: Plan, name: str, labels: dict[str, str], value: str) -> dict[str, Any]:
    """What is told, with its texts filled in as Prometheus fills them."""
    alert = next(one for one in _alerts(plan) if one.name == name)
    slow = 1.99 * _slow_us(plan)
    words = {
        "{{ $labels.instance }}": labels.get("instance", ""),
        "{{ $labels.model_path }}": labels.get("model_path", ""),
        "{{ $value | humanizePercentage }}": value,
        "{{ $value | humanize }}": _humanized(slow),
    }
    summary = alert.summary
    for placeholder, text in words.items():
        summary = summary.replace(placeholder, text)
    return {
        "exp_labels": {**labels, "severity": alert.severity, "model": plan.model},
        "exp_annotations": {"summary": summary, "action": alert.action},
    }


def _humanized(value: float) -> str:
    """As Prometheus' `humanize` writes a number from 1 up."""
    for prefix in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.4g}{prefix}"
        value /= 1000
    return f"{value:.4g}T"


def _slow_us(plan: Plan) -> float:
    """An edge of the histogram: the limit itself."""
    return plan.serving.monitoring.latency_p99_ms * 1000


def _window_s(plan: Plan) -> int:
    """Over which rates are taken: four looks at least."""
    return max(300, 4 * plan.serving.monitoring.scrape_interval_s)


def _told_after_s(plan: Plan) -> int:
    held = max(seconds_of(plan.serving.monitoring.hold), 60, 2 * plan.serving.monitoring.scrape_interval_s)
    return held + _window_s(plan) + 120


def _regex(text: str) -> str:
    """Text as a part of an expression in RE2, inside a string of PromQL."""
    return "".join(letter if letter.isalnum() or letter in "/_-" else f"\\\\{letter}" for letter in text)
