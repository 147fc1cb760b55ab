"""All files of a deployment, as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.deploy import grafana, kubernetes, prometheus
from serving.deploy.compose import compose_yaml
from serving.deploy.haproxy import haproxy_cfg
from serving.deploy.nginx import nginx_conf
from serving.deploy.plan import CONFIG_FOLDER, GRPC_PORT, REST_PORT, Plan
from serving.deploy.tf_serving import batching_parameters, flags, models_config, monitoring_config, pem, ssl_config

__all__ = ["File", "render"]


@dataclass(frozen=True)
class File:
    """One rendered file.

    Attributes:
        text: its content.
        about: what it is, in a few words.
        secret: holds a private key; only its owner may read it.
    """

    text: str
    about: str
    secret: bool = False


def render(plan: Plan) -> dict[str, File]:
    """What TF Serving needs, and what stands around it: the same texts for the same plan.

    Returns:
        Files by their path below the output folder, `models.config` last: running servers read it again, and then find
        everything else in place.

    Raises:
        ConfigError: a PEM file cannot be read, or a quantity is none.
    """
    files = {
        **_tf_serving(plan),
        **_load_balancers(plan),
        **_monitoring(plan),
        **_kubernetes(plan),
    }
    if plan.in_containers:
        files["compose.yaml"] = File(compose_yaml(plan), "servers, HAProxy, Prometheus and Grafana on one machine")
    files = {path: files[path] for path in sorted(files)}
    files["README.md"] = File(_readme(plan, files), "this list")
    files["tf_serving/models.config"] = File(models_config(plan), "the model, its versions and labels")
    return files


def _tf_serving(plan: Plan) -> dict[str, File]:
    serving = plan.serving
    files = {
        "tf_serving/flags": File("\n".join([*flags(plan), ""]), "arguments of `tensorflow_model_server`, one a line"),
        "tf_serving/monitoring.config": File(monitoring_config(), "figures for Prometheus"),
    }
    if serving.batching:
        files["tf_serving/batching.config"] = File(batching_parameters(serving.batching), "batching")
    if serving.tls:
        files["tf_serving/ssl.config"] = File(
            ssl_config(serving.tls), "TLS for gRPC, with the private key", secret=True
        )
    return files


def _load_balancers(plan: Plan) -> dict[str, File]:
    files = {
        "haproxy/haproxy.cfg": File(haproxy_cfg(plan), "load balancer with checks, retries and the canary's share"),
        "nginx/nginx.conf": File(
            nginx_conf(plan), "the same for nginx: it learns of a dead server from failing requests"
        ),
    }
    tls = plan.serving.tls
    if tls:
        own = pem(tls.certificate, "serving.tls.certificate") + pem(tls.key, "serving.tls.key")
        authority = pem(tls.authority, "serving.tls.authority")
        for folder in ("haproxy", "nginx"):
            files[f"{folder}/server.pem"] = File(own, "certificate and private key", secret=True)
            files[f"{folder}/authority.pem"] = File(authority, "who signed the servers' certificate")
            if tls.client_authority:
                clients = pem(tls.client_authority, "serving.tls.client_authority")
                files[f"{folder}/client-authority.pem"] = File(clients, "who signs the clients' certificates")
    return files


def _monitoring(plan: Plan) -> dict[str, File]:
    files = {
        "prometheus/prometheus.yml": File(prometheus.prometheus_yml(plan), "what Prometheus asks"),
        "prometheus/cluster.yml": File(prometheus.cluster_yml(plan), "the same for a Prometheus in the cluster"),
        "prometheus/rules.yml": File(prometheus.rules_yml(plan), "alerts"),
        "prometheus/rules_test.yml": File(
            prometheus.rules_test_yml(plan), "tests of the alerts: `promtool test rules prometheus/rules_test.yml`"
        ),
        "grafana/dashboards/serving.json": File(
            grafana.dashboard_json(plan), "dashboard; it can be imported by hand too"
        ),
    }
    if plan.in_containers:
        folder = "grafana/provisioning"
        files[f"{folder}/datasources/prometheus.yaml"] = File(
            grafana.datasources_yaml(), "where Grafana finds Prometheus"
        )
        files[f"{folder}/dashboards/serving.yaml"] = File(
            grafana.dashboards_yaml(), "where Grafana finds the dashboard"
        )
    return files


def _kubernetes(plan: Plan) -> dict[str, File]:
    files = {
        "kubernetes/config.yaml": File(kubernetes.config_yaml(plan), "ConfigMap with the files of `tf_serving/`"),
        "kubernetes/servers.yaml": File(
            kubernetes.servers_yaml(plan), "Deployment, headless Service, PodDisruptionBudget, autoscaler"
        ),
        "kubernetes/proxy.yaml": File(kubernetes.proxy_yaml(plan), f"HAProxy as the Service `{plan.resource}`"),
    }
    if not plan.serving.kubernetes.claim and not plan.in_bucket:
        files["kubernetes/volume.yaml"] = File(kubernetes.volume_yaml(plan), "claim of the volume with the versions")
    return files


# --- the README -------------------------------------------------------------------------------------------------------


def _readme(plan: Plan, files: Mapping[str, File]) -> str:
    own = {**files, "tf_serving/models.config": File("", "the model, its versions and labels")}
    table = [f"| `{path}` | {file.about} |" for path, file in sorted(own.items())]
    parts = [
        f"# Serving {plan.model}\n\nRendered by `satisfice deploy render`; render again instead of editing.",
        "\n".join(["| file | what it is |", "|---|---|", *table]),
        _versions(plan),
        _start(plan),
        _kubernetes_notes(plan),
        _canary(plan),
        _BALANCERS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_CREDENTIALS = (
    " Servers read the bucket by themselves, with the machine's service account or the key file that"
    " GOOGLE_APPLICATION_CREDENTIALS names. No bucket has been tried with what is rendered here: try yours first."
)


def _versions(plan: Plan) -> str:
    if not plan.versions:
        credentials = _CREDENTIALS * plan.in_bucket
        empty = " None is there yet: TF Serving waits with closed ports until one is." * plan.push_base_path_is_empty
        return f"## Versions\n\nThe newest version in `{plan.base_path}` serves; a push or a rollback needs nothing here.{empty}{credentials}"
    labels = ", ".join(f"`{label}` is {version}" for label, version in plan.labels.items()) or "none yet"
    return (
        "## Versions\n\n"
        f"Servers load the versions {', '.join(map(str, plan.versions))}; labels: {labels}. TF Serving's policy of the newest"
        " version would not load an older one that a label needs, so they are named one by one: after a push, a rollback or"
        " `satisfice label`, render again; running servers read `models.config` every 30 s. A label moves in two steps, since"
        " TF Serving refuses one on a version that is not loaded: `satisfice label L V`, render, wait until it is AVAILABLE,"
        " `satisfice label L V --available`, render." + _CREDENTIALS * plan.in_bucket
    )


def _start(plan: Plan) -> str:
    if plan.in_containers:
        text = (
            "## On one machine\n\n    docker compose up -d\n\n"
            f"Requests go to port {plan.serving.listen.grpc_port} (gRPC) and {plan.serving.listen.rest_port} (REST) of"
            f" {plan.serving.listen.host}; Grafana is on 127.0.0.1:3000."
        )
        if plan.serving.tls:
            text += " The private keys are readable by you alone; HAProxy reads them as root in its container."
        return text
    return (
        "## On machines of their own\n\n"
        f"Copy `tf_serving/` to `{CONFIG_FOLDER}` on each machine and start\n\n"
        f"    xargs -a {CONFIG_FOLDER}/flags tensorflow_model_server\n\n"
        f"It listens on {GRPC_PORT} and {REST_PORT}; the load balancers reach it at the addresses of `serving.addresses`."
        + ("" if plan.in_bucket else f" The versions lie in `{plan.base_path}` there too.")
    )


def _kubernetes_notes(plan: Plan) -> str:
    namespace, name = plan.serving.kubernetes.namespace, plan.resource
    lines = ["## In Kubernetes\n"]
    if plan.serving.tls:
        clients = " --from-file=haproxy/client-authority.pem" if plan.serving.tls.client_authority else ""
        lines.append(
            f"    kubectl -n {namespace} create secret generic {kubernetes.tls_secret(plan)} --from-file=tf_serving/ssl.config"
            f" --from-file=haproxy/server.pem --from-file=haproxy/authority.pem{clients}"
        )
    lines.append("    kubectl apply -f kubernetes/\n")
    lines.append(
        "Nothing is mounted: the pods' service account is to read the bucket (workload identity).\n"
        if plan.in_bucket
        else f"The volume that is claimed is `{plan.base_path}`: versions lie at its root, and whoever pushes mounts it there.\n"
    )
    lines.append(
        f"Clients talk to the Service `{name}`, which is HAProxy: a Service alone balances connections, and gRPC keeps one"
        f" open, so that all requests of a client would meet one server. A client that balances by itself takes the headless"
        f" Service: `dns:///{name}-servers.{namespace}:{GRPC_PORT}` with the policy `round_robin`. Pods are ready only while a"
        " version is AVAILABLE; a new `models.config` reaches running pods through the ConfigMap."
    )
    return "\n".join(lines)


def _canary(plan: Plan) -> str:
    canary = plan.serving.canary
    if canary is None:
        return ""
    who = f"by the header `{canary.header}`, else " if canary.header else ""
    return (
        "## Canary\n\n"
        f"{canary.share:.4g} of the REST requests that name no version go to `{canary.label}`, the rest to `{canary.stable}`;"
        f" who meets which is decided {who}by chance. A request that names a version or a label keeps it. Over gRPC the label"
        " stands in the message, which no load balancer rewrites: there the client chooses, by `model_spec.version_label`"
        " (`satisfice predict --grpc --label`)."
    )


_BALANCERS = (
    "## What the load balancers do\n\n"
    "HAProxy asks each server every second whether a version answers, keeps each request of up to 64 KB until its answer"
    " begins, and sends it to another server where one dies: publishes, roll-backs and a `kill -9` cost no request. nginx"
    " learns of a dead server from requests that fail there, and sends those over REST again (up to 1 MB); over gRPC it keeps"
    " none, so that what was under way on the dead server ends with UNAVAILABLE: give clients a retry policy for that"
    " (`satisfice predict` has one). REST has no TLS behind the load balancer, and nothing here authenticates anyone."
)
