"""The training cluster as manifests: what Kubernetes takes, what members are told, and the same texts for the same configuration."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from components.trainer.kubernetes import PERMISSIONS, Group, hosts_of, job, job_set, service, task_at, train_job
from components.trainer.kubernetes_run import labels_of
from components.trainer.rendered import render_training
from schemas.config import KubeflowConfig, KubernetesConfig, PipelineConfig
from schemas.errors import ConfigError
from schemas.load import load_config
from tests.workbench import REPOSITORY

VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
GOLDEN = REPOSITORY / "tests" / "golden" / "training_kubernetes.yaml"
FULL = {
    "image": "registry.example/satisfice:0.1.0",
    "volume": {"claim": "satisfice"},
    "namespace": "training",
    "resources": {
        "cpu": "1500m",
        "memory": "8Gi",
        "accelerator": {"count": 1},
        "shared_memory": "2Gi",
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "secrets": [{"name": "bucket", "env": {"KEY": "key"}, "mount_path": "/secrets/bucket"}],
    "env": {"NCCL_DEBUG": "WARN"},
    "pull_secrets": ["registry"],
    "service_account": "reader",
    "grace_s": 120,
}
MIRRORED = {"strategy": "multi_worker_mirrored", "workers": 3, "communication": "nccl"}
SERVED = {"strategy": "parameter_server", "workers": 2, "parameter_servers": 2}


def config(training: dict[str, Any], **more: Any) -> PipelineConfig:
    told = {**training, "cluster": "kubernetes", "kubernetes": {**FULL, **more}}
    raw = load_config(REPOSITORY / "satisfice.yaml", []).config.canonical()
    return PipelineConfig.model_validate({**raw, "training": {**raw["training"], **told}}, strict=False)


def rendered(training: dict[str, Any], **more: Any) -> dict[str, list[Any]]:
    files = render_training(config(training, **more))
    return {path: list(yaml.safe_load_all(file.text)) for path, file in files.items() if path.endswith(".yaml")}


def core(files: dict[str, list[Any]]) -> list[Any]:
    return [document for path, found in files.items() if path.startswith("kubernetes/") for document in found]


@pytest.mark.parametrize("training", [MIRRORED, SERVED], ids=["mirrored", "served"])
def test_kubernetes_takes_them(training: dict[str, Any]) -> None:
    """Strictly, by its own schemas; a success policy is younger than the oldest of them."""
    found = core(rendered(training))
    assert [one["kind"] for one in found] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "NetworkPolicy",
        "Service",
        "Job",
    ]
    for version in VERSIONS:
        for document in found:
            known = copy.deepcopy(document)
            if version == VERSIONS[0]:
                known["spec"].pop("successPolicy", None) if known["kind"] == "Job" else None
            kubernetes_validate.validate(known, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**found[-1], "specs": {}}, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("training", [MIRRORED, SERVED], ids=["mirrored", "served"])
def test_custom_resources_fit_their_schemas(training: dict[str, Any]) -> None:
    """Those of JobSet and Kubeflow Trainer, strictly; the Job within by Kubernetes' own."""
    schemas = json.loads((REPOSITORY / "tests" / "resources" / "crds" / "reduced.json").read_text())
    files = rendered(training)
    found = files["rendered_not_run/jobset.yaml"] + files["rendered_not_run/trainjob.yaml"]
    assert [one["kind"] for one in found] == ["JobSet", "TrainingRuntime", "TrainJob"]
    for document in found:
        known = schemas[document["kind"]]
        assert document["apiVersion"] == known["apiVersion"]
        jsonschema.validate(document, known["schema"])
        spec = document["spec"].get("template", document)["spec"]
        for one in spec.get("replicatedJobs", []):
            within = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "within"}, **one["template"]}
            kubernetes_validate.validate({**within, "metadata": {"name": "x"}}, VERSIONS[-1], strict=True)
    misspelt = copy.deepcopy(found[0])
    misspelt["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(misspelt, schemas["JobSet"]["schema"])


def test_the_golden_rendering(pytestconfig: pytest.Config) -> None:
    """Every key that the section knows, in a file that a person can read; `--renew` writes it anew."""
    files = render_training(config(MIRRORED))
    text = "".join(f"# --- {path}\n{file.text}" for path, file in sorted(files.items()))
    if pytestconfig.getoption("--renew"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert render_training(config(MIRRORED)) == files


def group(training: dict[str, Any], **more: Any) -> Group:
    from components.trainer.cluster import tasks_of
    from components.trainer.strategy import Machine, make_plan

    found = config(training, **more).training
    assert isinstance(found.kubernetes, KubernetesConfig)
    return Group("taxi-1-0", tasks_of(make_plan(found, Machine(1))), found.kubernetes, "/satisfice/w.json", {"a": "b"})


def test_members_by_their_completion_index() -> None:
    """The chief first, then what serves, by names that the headless Service gives to pods that are not ready yet."""
    made = group(SERVED)
    cluster = hosts_of(made)
    assert list(cluster) == ["chief", "ps", "worker"]
    assert cluster["worker"] == ["taxi-1-0-3.taxi-1-0:2222", "taxi-1-0-4.taxi-1-0:2222"]
    assert [task_at(cluster, index) for index in range(5)] == [(task.role, task.index) for task in made.tasks]
    with pytest.raises(IndexError):
        task_at(cluster, 5)
    spec = job(made, watched=True)["spec"]
    told = {one["name"]: one.get("value") for one in spec["template"]["spec"]["containers"][0]["env"]}
    assert json.loads(told["TRAINING_CLUSTER"]) == cluster
    assert spec["template"]["spec"]["subdomain"] == service(made)["metadata"]["name"] == "taxi-1-0"
    assert service(made)["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize(
    ("training", "watched", "limit", "ends_with_its_chief"),
    [(MIRRORED, True, 0, False), (MIRRORED, False, 9, False), (SERVED, True, 6, True), (SERVED, False, 15, True)],
)
def test_what_the_loss_of_a_member_means(
    training: dict[str, Any], watched: bool, limit: int, ends_with_its_chief: bool
) -> None:
    """Watched, a Job ends with the first loss that nobody is spared for; else it replaces each, and disruptions do not count."""
    spec = job(group(training), watched=watched)["spec"]
    assert spec["backoffLimit"] == limit
    assert spec["completions"] == spec["parallelism"] == (5 if ends_with_its_chief else 3)
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["FailJob"] + ["Ignore"] * (not watched)
    assert spec.get("successPolicy") == ({"rules": [{"succeededIndexes": "0"}]} if ends_with_its_chief else None)


def test_what_a_pod_may() -> None:
    """Nothing: no root, no token, no writing but on the volume and in /tmp; time to keep the state."""
    pod = job(group(MIRRORED), watched=True)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["terminationGracePeriodSeconds"] == 120
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": "8Gi", "nvidia.com/gpu": "1"}
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert mounts == {"/satisfice", "/tmp", "/dev/shm", "/secrets/bucket"}
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert told["TF_NUM_INTRAOP_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in told
    plain = job(group({**SERVED}, resources={}), watched=True)["spec"]["template"]["spec"]
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": "-1"} in plain["containers"][0]["env"]
    assert plain["containers"][0]["resources"] == {}


def test_operators_restart_the_whole_group() -> None:
    """Their members have names of their own; what would fail again is not begun anew."""
    spec = job_set(group(MIRRORED))["spec"]
    assert spec["failurePolicy"]["maxRestarts"] == 3
    within = spec["replicatedJobs"][0]["template"]["spec"]
    assert within["backoffLimit"] == 0
    assert "taxi-1-0-members-0-2.taxi-1-0:2222" in json.dumps(within)
    runtime, trained = train_job(group(MIRRORED))
    assert "taxi-1-0-node-0-2.taxi-1-0:2222" in json.dumps(runtime)
    assert trained["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]


def test_the_role_is_the_least() -> None:
    """The verbs that are used, on nothing else, and no wildcard; bound to the account that runs the nodes."""
    account, role, binding = rendered(MIRRORED)["kubernetes/rbac.yaml"]
    assert {(rule["resources"][0], *rule["verbs"]) for rule in role["rules"]} == {
        (resource, *verbs) for _, resource, verbs in PERMISSIONS
    }
    assert "*" not in json.dumps(role)
    assert binding["subjects"][0]["name"] == account["metadata"]["name"] == "satisfice-trainer"
    assert role["metadata"]["namespace"] == "training"


def test_the_role_is_bound_to_the_account_of_kubeflow() -> None:
    """Which has to be known: Kubeflow has a default of its own."""
    found = config(MIRRORED)
    section = {"image": "registry.example/satisfice:0.1.0", "namespace": "pipelines"}
    with pytest.raises(ConfigError, match=r"kubeflow\.service_account: is not given.*account of the Trainer node"):
        render_training(found.model_copy(update={"kubeflow": KubeflowConfig.model_validate(section)}))
    given = KubeflowConfig.model_validate({**section, "service_account": "runner"})
    text = render_training(found.model_copy(update={"kubeflow": given}))["kubernetes/rbac.yaml"].text
    account, _, binding = yaml.safe_load_all(text)
    assert (account["metadata"]["name"], account["metadata"]["namespace"]) == ("runner", "pipelines")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "runner", "namespace": "pipelines"}]


@pytest.mark.parametrize("training", [MIRRORED, SERVED], ids=["mirrored", "served"])
def test_only_members_reach_members(training: dict[str, Any]) -> None:
    """In every form in which they are rendered, and as the Trainer node makes them, at any port; nobody else does."""
    files = rendered(training)
    (policy,) = files["kubernetes/network.yaml"]
    spec, wanted = policy["spec"], policy["spec"]["podSelector"]["matchLabels"]
    assert policy["metadata"]["namespace"] == "training"
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["ingress"] == [{"from": [{"podSelector": {"matchLabels": wanted}}]}]
    assert policy["metadata"]["name"] == "taxi-training"  # that of another pipeline stays beside it
    assert wanted["app.kubernetes.io/name"] == "taxi"
    assert wanted["app.kubernetes.io/component"] == "training"
    assert wanted.items() <= labels_of("taxi", "satisfice", "/satisfice/Trainer", "7").items()
    pods = [labels for found in files.values() for labels in labels_of_pods(found)]
    assert len(pods) == 3
    assert all(wanted.items() <= labels.items() for labels in pods)


def labels_of_pods(node: Any) -> list[dict[str, str]]:
    """Of every template of a pod within some documents."""
    if isinstance(node, list):
        return [labels for one in node for labels in labels_of_pods(one)]
    if not isinstance(node, dict):
        return []
    own = [node["metadata"]["labels"]] if "containers" in (node.get("spec") or {}) else []
    return own + labels_of_pods(list(node.values()))


def test_another_configuration_has_no_cluster(tmp_path: Path) -> None:
    """It says what it should be."""
    local = load_config(REPOSITORY / "satisfice.yaml", []).config
    with pytest.raises(ConfigError, match=r"training\.cluster: is not kubernetes"):
        render_training(local)
