"""What is rendered is what the tools that read it accept: each file is given to its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from schemas.errors import ConfigError
from serving.deploy import make_plan, render
from serving.deploy.prometheus import ALERTS
from serving.server.config import models_of, read_models_config
from serving.store import VersionStore, open_versions
from tests.serving.deploy.conftest import configuration, everything
from tests.serving.store.fake_gcs import fake_gcs
from tests.serving.store.payloads import publish, saved_model

_INT64, _BOOL, _STRING = "Int64Value", "bool", "string"


def message(name, **fields):
    """A message of TF Serving's that its Python package lacks, as its .proto file has it."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="t", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    kinds = {_BOOL: 8, _STRING: 9}
    for own, parts in {name: fields, **{k: v for k, v in fields.items() if isinstance(v, dict)}}.items():
        described = file.message_type.add(name=own)
        for number, (field, kind) in enumerate(parts.items(), start=1):
            one = described.field.add(name=field, number=number, label=1)
            if isinstance(kind, dict):
                one.type, one.type_name = 11, f".t.{field}"
            elif kind == _INT64:
                one.type, one.type_name = 11, ".google.protobuf.Int64Value"
            elif kind == "repeated int64":
                one.type, one.label = 3, 3
            else:
                one.type = kinds[kind]
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))


def test_tf_serving_reads_its_files(rendered, certificates):
    """With its own messages, those that its Python package holds, and the same as its .proto files have them."""
    plan, files, folder = rendered
    (model,) = models_of(read_models_config(folder / "tf_serving" / "models.config"))
    assert (model.name, str(model.base_path), model.labels) == (plan.model, plan.model_folder, plan.labels)
    assert (model.policy.kind, model.policy.versions) == ("specific" if plan.versions else "latest", plan.versions)
    prometheus = {"enable": _BOOL, "path": _STRING}
    found = message("MonitoringConfig", prometheus_config=prometheus)()
    text_format.Parse(files["tf_serving/monitoring.config"].text, found)
    assert (found.prometheus_config.enable, found.prometheus_config.path) == (True, "/monitoring/prometheus/metrics")
    given = plan.serving.batching
    assert ("tf_serving/batching.config" in files) == bool(given)
    if given:
        numbers = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        kind = message("BatchingParameters", **dict.fromkeys(numbers, _INT64), allowed_batch_sizes="repeated int64")
        found = text_format.Parse(files["tf_serving/batching.config"].text, kind())
        assert [getattr(found, name).value for name in numbers] == [64, 500, 50, 4]
        assert list(found.allowed_batch_sizes) == [1, 8, 64]
    assert ("tf_serving/ssl.config" in files) == bool(plan.serving.tls)
    if plan.serving.tls:
        kind = message("SSLConfig", server_key=_STRING, server_cert=_STRING, custom_ca=_STRING, client_verify=_BOOL)
        found = text_format.Parse(files["tf_serving/ssl.config"].text, kind())
        assert found.server_key == (certificates / "server.key").read_text()
        assert found.server_cert == (certificates / "server.pem").read_text()
        assert found.custom_ca == (certificates / "ca.pem").read_text()
        assert found.client_verify
    named = [line.partition("=")[2] for line in files["tf_serving/flags"].text.splitlines() if "_file=" in line]
    assert {name.replace("/etc/tf_serving", "tf_serving") for name in named} <= set(files)


def test_haproxy(rendered, tool):
    """`haproxy -c`, for the machine and for the cluster; names of containers are not known here, which it warns of."""
    plan, files, folder = rendered
    cluster = folder / "haproxy" / "cluster.cfg"
    cluster.write_text(next(yaml.safe_load_all(files["kubernetes/proxy.yaml"].text))["data"]["haproxy.cfg"])
    for file in (folder / "haproxy" / "haproxy.cfg", cluster):
        done = tool("haproxy", "-c", "-f", file)
        assert done.returncode == 0, done.stderr
        warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
        if plan.in_containers:
            warnings = [line for line in warnings if "could not resolve address" not in line]
        assert [line for line in warnings if "libc" not in line] == []


def test_nginx(rendered, tool, tmp_path):
    """`nginx -t`; the names of containers are given addresses, which only their network knows."""
    plan, files, folder = rendered
    text = files["nginx/nginx.conf"].text
    for server in plan.servers if plan.in_containers else ():
        text = text.replace(f"server {server.name}:", "server 127.0.0.1:")
    (folder / "nginx" / "nginx.conf").write_text(text)
    arguments = ["-p", tmp_path, "-e", "stderr", "-g", f"pid {tmp_path}/pid;", "-c", folder / "nginx" / "nginx.conf"]
    done = tool("nginx", "-t", *arguments)
    # From 1.25 on nginx has another word for http2, which the older ones do not know.
    warnings = [line for line in done.stderr.splitlines() if "[warn]" in line and "deprecated" not in line]
    assert (done.returncode, warnings) == (0, []), done.stderr


def test_prometheus(rendered, tool):
    """`promtool` takes both configurations and the rules, and the rules pass their own tests."""
    _, _, folder = rendered
    for arguments in (
        ["check", "config", folder / "prometheus" / "prometheus.yml"],
        ["check", "config", folder / "prometheus" / "cluster.yml"],
        ["check", "rules", folder / "prometheus" / "rules.yml"],
        ["test", "rules", folder / "prometheus" / "rules_test.yml"],
    ):
        done = tool("promtool", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load((folder / "prometheus" / "rules_test.yml").read_text())["tests"]
    told = {one["alertname"] for test in tested for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert told == set(ALERTS)


@pytest.mark.parametrize("rendered", ["everything"], indirect=True)
def test_tests_of_the_rules_can_fail(rendered, tool):
    """A rule that never tells is found by them, each of them."""
    _, _, folder = rendered
    file = folder / "prometheus" / "rules.yml"
    rules = yaml.safe_load(file.read_text())
    for rule in rules["groups"][0]["rules"]:
        kept, rule["expr"] = rule["expr"], "vector(0) > 1"
        file.write_text(yaml.safe_dump(rules))
        done = tool("promtool", "test", "rules", folder / "prometheus" / "rules_test.yml")
        assert (done.returncode, rule["alert"] in done.stdout + done.stderr) == (1, True)
        rule["expr"] = kept


def test_kubernetes_manifests(rendered):
    """Against Kubernetes' own schemas, the oldest and the newest that are at hand, with unknown keys refused."""
    plan, files, _ = rendered
    kinds = []
    for path, file in files.items():
        if path.startswith("kubernetes/"):
            for document in yaml.safe_load_all(file.text):
                kinds.append(document["kind"])
                for version in ("1.31", "1.37"):
                    kubernetes_validate.validate(document, version, strict=True)
                assert len(document["metadata"]["name"]) <= 63
    scaled = plan.serving.autoscale is not None
    both = ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service"]  # of servers and load balancers
    assert sorted(kinds) == sorted([*both, *both, "PersistentVolumeClaim", *["HorizontalPodAutoscaler"] * scaled])
    misspelt = next(yaml.safe_load_all(files["kubernetes/servers.yaml"].text))
    misspelt["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, "1.37", strict=True)


def test_kubernetes_parts_fit_together(rendered):
    """Selectors, names of mounted things, ports and the claim are those that are defined."""
    plan, files, _ = rendered
    documents = [
        one for path, file in files.items() if path.startswith("kubernetes/") for one in yaml.safe_load_all(file.text)
    ]
    known = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    deployments = [one for one in documents if one["kind"] == "Deployment"]
    pods = [one["spec"]["template"] for one in deployments]
    for one in documents:
        selector = one.get("spec", {}).get("selector")
        selector = (selector or {}).get("matchLabels", selector)
        if selector:
            assert sum(selector.items() <= pod["metadata"]["labels"].items() for pod in pods) == 1
    for pod in pods:
        for volume in pod["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            if claim:
                assert ("PersistentVolumeClaim", claim["claimName"]) in known
            for source in volume.get("projected", {}).get("sources", []):
                if "configMap" in source:
                    assert ("ConfigMap", source["configMap"]["name"]) in known
                else:
                    assert source["secret"]["name"] == f"{plan.resource}-tls"
                    names = {path.rpartition("/")[2] for path in files}
                    assert {item["key"] for item in source["secret"]["items"]} <= names
        (container,) = pod["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
    proxy = known["ConfigMap", f"{plan.resource}-proxy"]["data"]["haproxy.cfg"]
    assert f"{plan.resource}-servers.{plan.serving.kubernetes.namespace}.svc" in proxy
    assert "replicas" not in known["Deployment", f"{plan.resource}-servers"]["spec"] or not plan.serving.autoscale


def test_a_claim_that_is_there(versions):
    """Is mounted, and none is made."""
    files = render(make_plan(configuration(versions, {"kubernetes": {"claim": "mine"}})))
    assert "kubernetes/volume.yaml" not in files
    assert "claimName: mine" in files["kubernetes/servers.yaml"].text


def test_compose(rendered):
    """Against the Compose specification's own schema; what it mounts is rendered. Not for machines of their own."""
    plan, files, folder = rendered
    assert ("compose.yaml" in files) == plan.in_containers
    if not plan.in_containers:
        return
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(folder / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    compose = yaml.safe_load(files["compose.yaml"].text)
    for service in compose["services"].values():
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        for volume in service["volumes"]:
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            inside = source.startswith("./") and (folder / source).is_dir()
            assert inside or source in (plan.base_path, *compose["volumes"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_dashboard(rendered):
    """Every panel has queries, panels do not lie on each other, and their numbers are their own."""
    plan, files, _ = rendered
    dashboard = json.loads(files["grafana/dashboards/serving.json"].text)
    places = set()
    for panel in dashboard["panels"]:
        assert panel["targets"]
        place = panel["gridPos"]
        places.add((place["x"], place["y"]))
        assert place["x"] + place["w"] <= 24
    assert len(places) == len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert ("Examples in a batch" in {panel["title"] for panel in dashboard["panels"]}) == bool(plan.serving.batching)


def test_the_same_twice(rendered):
    """Nothing in the files tells when or where they were rendered."""
    plan, files, _ = rendered
    assert render(plan) == files
    assert list(files)[-1] == "tf_serving/models.config"


def test_readme_names_every_file(rendered):
    """And tells of the canary where there is one."""
    plan, files, _ = rendered
    readme = files["README.md"].text
    assert set(re.findall(r"^\| `([^`]+)`", readme, re.MULTILINE)) == set(files) - {"README.md"}
    assert ("## Canary" in readme) == bool(plan.serving.canary)
    assert ("docker compose" in readme) == plan.in_containers


def test_pem_files_that_are_none(versions, certificates, tmp_path):
    """Are named with the key of the configuration, before anything is written."""
    whole = everything(certificates)
    for name, text, words in (("none.pem", None, "cannot be read"), ("odd.pem", "odd", "not in PEM format")):
        if text:
            (tmp_path / name).write_text(text)
        serving = {"tls": {**whole["tls"], "key": str(tmp_path / name)}}
        with pytest.raises(ConfigError, match=rf"(?s)serving\.tls\.key.*{name}.*{words}"):
            render(make_plan(configuration(versions, serving)))


def test_a_quantity_that_is_none(versions):
    """Is named."""
    with pytest.raises(ConfigError, match="no quantity"):
        render(make_plan(configuration(versions, {"resources": {"memory": "much"}})))


def test_an_empty_base_path(tmp_path):
    """The README says what TF Serving does then."""
    plan = make_plan(configuration(VersionStore(tmp_path / "models").base_path))
    assert "waits with closed ports" in render(plan)["README.md"].text


def test_versions_in_a_bucket(tmp_path, monkeypatch):
    """Servers read them by themselves: nothing is mounted or claimed. The bucket is a fake on loopback."""
    with fake_gcs() as (_, address):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        base = "gs://bucket/models/taxi"
        publish(open_versions(base), saved_model(tmp_path / "model"))
        plan = make_plan(configuration(base, {"instances": 2}))
        files = render(plan)
    assert not plan.push_base_path_is_empty
    assert f'base_path: "{base}"' in files["tf_serving/models.config"].text
    assert "kubernetes/volume.yaml" not in files
    services = yaml.safe_load(files["compose.yaml"].text)["services"]
    assert services["taxi-1"]["volumes"] == ["./tf_serving:/etc/tf_serving:ro"]
    pod = next(yaml.safe_load_all(files["kubernetes/servers.yaml"].text))["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["config"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["config"]
    assert "Nothing is mounted" in files["README.md"].text
