"""Kubernetes manifests: servers that scale, the volume of versions, and load balancers before them."""

from __future__ import annotations

import hashlib
from typing import Any

from serving.deploy.compose import HAPROXY_IMAGE
from serving.deploy.haproxy import STATS_PORT, haproxy_cfg
from serving.deploy.plan import CONFIG_FOLDER, GRPC_PORT, REST_PORT, Plan
from serving.deploy.text import as_yaml
from serving.deploy.tf_serving import METRICS_PATH, batching_parameters, flags, models_config, monitoring_config

__all__ = ["config_yaml", "proxy_yaml", "servers_yaml", "tls_secret", "volume_yaml"]

_DRAIN_S = 15
"""A server is left alone for so long before it ends: TF Serving itself drops what runs when it is told to stop."""

Object = dict[str, Any]


def config_yaml(plan: Plan) -> str:
    """The files of the servers. Running ones see a new `models.config` within a minute or two, without a restart."""
    data = {"models.config": models_config(plan), "monitoring.config": monitoring_config()}
    if plan.serving.batching:
        data["batching.config"] = batching_parameters(plan.serving.batching)
    return as_yaml(_object(plan, "v1", "ConfigMap", f"{plan.resource}-servers", "server", data=data))


def servers_yaml(plan: Plan) -> str:
    """Deployment, headless Service, PodDisruptionBudget and, where asked for, HorizontalPodAutoscaler of the servers."""
    name = f"{plan.resource}-servers"
    service: Object = {
        "clusterIP": "None",
        "selector": _labels(plan, "server"),
        "ports": _ports({"grpc": GRPC_PORT, "rest": REST_PORT}),
    }
    documents = [
        _deployment(plan, name, "server", _server_pod(plan), plan.serving.instances),
        _object(plan, "v1", "Service", name, "server", spec=service),
        _budget(plan, name, "server"),
    ]
    if plan.serving.autoscale:
        documents.append(_autoscaler(plan, name))
    return as_yaml(*documents)


def volume_yaml(plan: Plan) -> str:
    """The claim of the volume on which versions lie; whoever pushes mounts it too, and may write."""
    spec = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": str(plan.serving.kubernetes.storage)}},
    }
    return as_yaml(_object(plan, "v1", "PersistentVolumeClaim", _claim(plan), "server", spec=spec))


def proxy_yaml(plan: Plan) -> str:
    """The load balancers: clients talk to the Service that has the model's name.

    A Service alone balances connections, and gRPC keeps one open: all requests of a client would meet one server.
    """
    name = f"{plan.resource}-proxy"
    config = haproxy_cfg(plan, "cluster")
    service: Object = {
        "selector": _labels(plan, "proxy"),
        "ports": _ports({"grpc": GRPC_PORT, "rest": REST_PORT}),
    }
    return as_yaml(
        _object(plan, "v1", "ConfigMap", name, "proxy", data={"haproxy.cfg": config}),
        _deployment(plan, name, "proxy", _proxy_pod(plan, name, config), 2),
        _object(plan, "v1", "Service", plan.resource, "proxy", spec=service),
        _budget(plan, name, "proxy"),
    )


def tls_secret(plan: Plan) -> str:
    """The name of the Secret that holds what must not stand in a manifest."""
    return f"{plan.resource}-tls"


# --- pods -------------------------------------------------------------------------------------------------------------


def _server_pod(plan: Plan) -> Object:
    resources = plan.serving.resources
    fixed = monitoring_config() + (batching_parameters(plan.serving.batching) if plan.serving.batching else "")
    probe = {"httpGet": {"path": f"/v1/models/{plan.model}/metadata", "port": "rest"}}
    container: Object = {
        "name": "tensorflow-model-server",
        "image": plan.serving.image,
        "command": ["tensorflow_model_server"],
        "args": list(flags(plan)),
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT}, {"name": "rest", "containerPort": REST_PORT}],
        # The status of a model answers while nothing is loaded; its metadata only where a version is available.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 300},
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_DRAIN_S)]}}},
        "resources": {
            "requests": {"cpu": str(resources.cpu), "memory": str(resources.memory)},
            "limits": {"memory": str(resources.memory)},
        },
        "securityContext": _CONFINED,
        "volumeMounts": [
            *([] if plan.in_bucket else [{"name": "models", "mountPath": plan.model_folder, "readOnly": True}]),
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        ],
    }
    sources: list[Object] = [{"configMap": {"name": f"{plan.resource}-servers"}}]
    if plan.serving.tls:
        sources.append({"secret": {"name": tls_secret(plan), "items": [_item("ssl.config")]}})
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": METRICS_PATH,
        "satisfice/config": _digest(fixed),
    }
    volumes: list[Object] = [{"name": "config", "projected": {"sources": sources}}]
    if not plan.in_bucket:
        claimed = {"claimName": _claim(plan), "readOnly": True}
        volumes.insert(0, {"name": "models", "persistentVolumeClaim": claimed})
    return _pod(plan, "server", container, volumes, annotations)


def _proxy_pod(plan: Plan, name: str, config: str) -> Object:
    sources: list[Object] = [{"configMap": {"name": name}}]
    if plan.serving.tls:
        items = ["server.pem", "authority.pem"] + ["client-authority.pem"] * bool(plan.serving.tls.client_authority)
        sources.append({"secret": {"name": tls_secret(plan), "items": [_item(one) for one in items]}})
    container: Object = {
        "name": "haproxy",
        "image": HAPROXY_IMAGE,
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "rest", "containerPort": REST_PORT},
            {"name": "stats", "containerPort": STATS_PORT},
        ],
        "readinessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 5},
        # Told so, it takes no more connections and lets those that are open end.
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", f"sleep {_DRAIN_S}; kill -USR1 1"]}}},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": _CONFINED,
        "volumeMounts": [{"name": "config", "mountPath": "/usr/local/etc/haproxy", "readOnly": True}],
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(STATS_PORT),
        "prometheus.io/path": "/metrics",
        "satisfice/config": _digest(config),
    }
    return _pod(plan, "proxy", container, [{"name": "config", "projected": {"sources": sources}}], annotations)


_CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _pod(plan: Plan, part: str, container: Object, volumes: list[Object], annotations: dict[str, str]) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _labels(plan, part)},
    }
    return {
        "metadata": {"labels": _labels(plan, part), "annotations": annotations},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 2 * _DRAIN_S + 30,
            "topologySpreadConstraints": [spread],
            "containers": [container],
            "volumes": volumes,
        },
    }


# --- objects ----------------------------------------------------------------------------------------------------------


def _deployment(plan: Plan, name: str, part: str, pod: Object, replicas: int) -> Object:
    spec: Object = {
        "selector": {"matchLabels": _labels(plan, part)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": pod,
    }
    if part == "proxy" or not plan.serving.autoscale:  # the number is the autoscaler's where there is one
        spec = {"replicas": replicas, **spec}
    return _object(plan, "apps/v1", "Deployment", name, part, spec=spec)


def _budget(plan: Plan, name: str, part: str) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(plan, part)}}
    return _object(plan, "policy/v1", "PodDisruptionBudget", name, part, spec=spec)


def _autoscaler(plan: Plan, name: str) -> Object:
    autoscale = plan.serving.autoscale
    assert autoscale is not None
    target = {"type": "Utilization", "averageUtilization": autoscale.cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": plan.serving.instances,
        "maxReplicas": autoscale.max_instances,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    return _object(plan, "autoscaling/v2", "HorizontalPodAutoscaler", name, "server", spec=spec)


def _object(plan: Plan, version: str, kind: str, name: str, part: str, **rest: Object) -> Object:
    namespace = plan.serving.kubernetes.namespace
    metadata = {"name": name, "namespace": namespace, "labels": _labels(plan, part)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _ports(ports: dict[str, int]) -> list[Object]:
    protocols = {"grpc": "kubernetes.io/h2c", "rest": "http"}
    return [
        {"name": name, "port": port, "targetPort": name, "appProtocol": protocols[name]} for name, port in ports.items()
    ]


def _labels(plan: Plan, part: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": plan.resource, "app.kubernetes.io/component": part}


def _claim(plan: Plan) -> str:
    return plan.serving.kubernetes.claim or f"{plan.resource}-models"


def _item(name: str) -> dict[str, str]:
    return {"key": name, "path": name}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
