"""`compose.yaml`: the servers, a load balancer before them, Prometheus and Grafana, on one machine."""

from __future__ import annotations

from typing import Any

from serving.deploy.haproxy import STATS_PORT
from serving.deploy.plan import CONFIG_FOLDER, GRPC_PORT, REST_PORT, Plan
from serving.deploy.text import as_yaml, bytes_of, cores_of
from serving.deploy.tf_serving import flags

__all__ = ["HAPROXY_IMAGE", "compose_yaml", "health_command"]

HAPROXY_IMAGE = "haproxy:2.8"
_PROMETHEUS_IMAGE = "prom/prometheus:v2.53.0"
_GRAFANA_IMAGE = "grafana/grafana:11.1.0"


def compose_yaml(plan: Plan) -> str:
    """The compose file. Folders are mounted, not files: a file that is replaced would stay as it was inside."""
    names = [server.name for server in plan.servers]
    host = plan.serving.listen.host
    ports = plan.serving.listen
    healthy = {name: {"condition": "service_healthy"} for name in names}
    services: dict[str, Any] = {name: _server(plan) for name in names}
    services["haproxy"] = {
        "image": HAPROXY_IMAGE,
        "restart": "unless-stopped",
        "depends_on": healthy,
        "volumes": ["./haproxy:/usr/local/etc/haproxy:ro"],
        "ports": [
            _published(host, ports.grpc_port, GRPC_PORT),
            _published(host, ports.rest_port, REST_PORT),
            _published(host, ports.stats_port, STATS_PORT),
        ],
    }
    if plan.serving.tls:
        services["haproxy"]["user"] = "0:0"  # the private key can be read by its owner alone
    services["prometheus"] = {
        "image": _PROMETHEUS_IMAGE,
        "restart": "unless-stopped",
        "volumes": ["./prometheus:/etc/prometheus:ro", "prometheus:/prometheus"],
        "ports": [_published("127.0.0.1", 9090, 9090)],
    }
    services["grafana"] = {
        "image": _GRAFANA_IMAGE,
        "restart": "unless-stopped",
        "depends_on": ["prometheus"],
        "volumes": [
            "./grafana/provisioning:/etc/grafana/provisioning:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "grafana:/var/lib/grafana",
        ],
        "ports": [_published("127.0.0.1", 3000, 3000)],
    }
    return as_yaml({"name": plan.resource, "services": services, "volumes": {"prometheus": {}, "grafana": {}}})


def _versions(plan: Plan) -> dict[str, Any]:
    return {"type": "bind", "source": plan.base_path.replace("$", "$$"), "target": plan.model_folder, "read_only": True}


def _server(plan: Plan) -> dict[str, Any]:
    resources = plan.serving.resources
    return {
        "image": plan.serving.image,
        "restart": "unless-stopped",
        "entrypoint": ["tensorflow_model_server"],
        "command": list(flags(plan)),
        "volumes": [
            *([] if plan.in_bucket else [_versions(plan)]),
            f"./tf_serving:{CONFIG_FOLDER}:ro",
        ],
        "healthcheck": {
            "test": ["CMD", *health_command(plan.model, REST_PORT)],
            "interval": "5s",
            "timeout": "3s",
            "retries": 3,
            "start_period": "300s",
        },
        "deploy": {
            "resources": {
                "reservations": {"cpus": f"{cores_of(resources.cpu):g}"},
                "limits": {"memory": str(bytes_of(resources.memory))},
            }
        },
    }


def health_command(model: str, port: int) -> list[str]:
    """Succeeds where a version of the model answers. The image holds no HTTP client, but bash."""
    request = rf"GET /v1/models/{model}/metadata HTTP/1.0\r\nHost: localhost\r\n\r\n"
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf '{request}' >&3 && head -n 1 <&3 | grep -q ' 200 '"
    return ["bash", "-c", script]


def _published(host: str, outside: int, inside: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{outside}:{inside}"
