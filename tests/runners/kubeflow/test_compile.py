"""What is compiled for Kubeflow, and what is refused."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.proto.orchestration import pipeline_pb2

from pipeline.user_module import load_user_module
from runners.kubeflow.build import graph_of
from runners.kubeflow.compile import Compiled, compile_pipeline
from runners.kubeflow.job import BeginJob, unpack
from runners.kubeflow.part import shape_of
from runners.kubeflow.record import begin
from runners.local.graph import read_graph
from schemas.config import PipelineConfig
from schemas.errors import ConfigError, SatisficeError
from schemas.load import LoadedConfig, load_config
from tests.runners.kubeflow.samples import SECTION, container, documents, job_of, on_kubeflow, tasks, without_jobs
from tests.workbench import REPOSITORY, Bench, satisfice, taxi_bench

GOLDEN = REPOSITORY / "tests" / "golden" / "taxi_kubeflow.yaml"
INSIDE = ("Transform", "Trainer", "Champion", "Evaluator", "Gate", "Pusher")
OUTSIDE = ("Baseline", "CuratedSchema", "ExampleGen", "StatisticsGen", "DataGate")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedConfig:
    return on_kubeflow(taxi_bench(tmp_path_factory.mktemp("kubeflow"), rows=50))


@pytest.fixture(scope="module")
def compiled(loaded) -> Compiled:
    return compile_pipeline(loaded)


@pytest.fixture(scope="module")
def both(compiled):
    """The specification, and what Kubernetes has to do for it."""
    return documents(compiled.text)


def test_the_pipeline_is_the_golden_one(compiled, renew) -> None:
    """Tasks, conditions, placeholders, and what Kubernetes is asked for; `pytest --renew` writes them anew."""
    text = without_jobs(compiled.text)
    if renew:
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


def test_the_same_things_give_the_same_text(loaded, compiled) -> None:
    assert compile_pipeline(loaded).text == compiled.text


def test_the_backend_s_version_and_no_cache_but_ours(both) -> None:
    """Open-source Kubeflow takes schema 2.1.0 alone; its cache knows nothing of changed data."""
    spec, _ = both
    assert spec["schemaVersion"] == "2.1.0"
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks(spec).values())
    assert {"container"} == {kind for executor in spec["deploymentSpec"]["executors"].values() for kind in executor}


def test_the_graph_is_that_of_a_local_run(both, loaded, compiled, fresh_taxi: Bench) -> None:
    """The same nodes in the same order, with the same needs, conditions and parameters, fingerprints among them."""
    spec, _ = both
    module = load_user_module(loaded.config.model.module, loaded.folder)
    config = loaded.config
    local = shape_of(graph_of(config, module, str(loaded.folder / "pipelines" / "taxi"), config.data.schema_path))
    assert compiled.nodes == tuple(node.id for node in local.nodes)
    folder = str(loaded.folder)
    for node in local.nodes:
        (mine,) = read_graph(base64.b64decode(job_of(spec, node.id).ir), "run-1").nodes
        assert (mine.upstream, mine.type, mine.executor) == (node.upstream, node.type, node.executor)
        assert mine.conditions == ()  # Kubeflow's, which the next test but one looks at
        assert bool(node.conditions) == (node.id in INSIDE)
        there = {key: str(value).replace(folder, "/satisfice") for key, value in node.parameters.items()}
        different = {key for key, value in mine.parameters.items() if str(value) != there[key]}
        assert different <= {"config_digest"}, node.id


def test_a_container_is_told_its_node_alone_and_no_password(loaded, both) -> None:
    """The IR holds one node, its own executor, and no connection to a store."""
    spec, _ = both
    ir = pipeline_pb2.Pipeline.FromString(base64.b64decode(job_of(spec, "Trainer").ir))
    assert [one.pipeline_node.node_info.id for one in ir.nodes] == ["Trainer"]
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    ir.deployment_config.Unpack(deployment)
    assert list(deployment.executor_specs) == ["Trainer"]
    assert not deployment.HasField("metadata_connection_config")
    assert str(loaded.folder) not in str(ir)


def test_what_must_not_run_on_bad_data_is_skipped_by_kubeflow(both) -> None:
    """It stands in one condition on what the data gate put out; a block has a task of its own."""
    spec, _ = both
    inner = {
        task["taskInfo"]["name"]: spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]
        for task in spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()
        if "triggerPolicy" in task
    }
    shown = {name: {one["taskInfo"]["name"] for one in below.values()} for name, below in inner.items()}
    assert shown == {
        "DataGate lets it go on": {*INSIDE, "if blocked", "if pending"},
        "if data blocked": {"DataBlocked"},
    }
    outside = {one["taskInfo"]["name"] for one in spec["components"]["comp-exit-handler-1"]["dag"]["tasks"].values()}
    assert outside == {"Begin", *OUTSIDE, *inner}


def test_the_last_word_is_said_whatever_happened(both) -> None:
    spec, _ = both
    (last,) = [one for one in spec["root"]["dag"]["tasks"].values() if one["taskInfo"]["name"] == "Report"]
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_what_kubernetes_is_asked_for(both) -> None:
    """Resources, device, selector, toleration, time limit for one node; volume, secrets, retries for all."""
    spec, platform = both
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    trainer = executors["exec-trainer"]
    assert trainer["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert trainer["tolerations"] == [{"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}]
    assert trainer["activeDeadlineSeconds"] == "3600"
    assert trainer["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    resources = container(spec, "Trainer")["resources"]
    assert (resources["cpuLimit"], resources["accelerator"]["type"]) == (2.0, "nvidia.com/gpu")
    assert len(executors) == len(spec["deploymentSpec"]["executors"])
    for one in executors.values():
        assert one["pvcMount"] == [{"constant": "satisfice", "mountPath": "/satisfice", "pvcNameParameter": {
            "runtimeValue": {"constant": "satisfice"}}}]  # fmt: skip
        assert {secret["secretName"] for secret in one["secretAsEnv"]} == {"store"}
        assert [secret["mountPath"] for secret in one["secretAsVolume"]] == ["/keys"]
        assert one["imagePullSecret"][0]["secretName"] == "registry"
    assert {task["retryPolicy"]["maxRetryCount"] for task in tasks(spec).values()} == {2}
    assert {"name": "LEVEL", "value": "high"} in container(spec, "ExampleGen")["env"]


def test_parameters_have_the_configuration_s_values(both, compiled, loaded) -> None:
    spec, _ = both
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: (one["parameterType"], one["defaultValue"]) for name, one in given.items()} == {
        "data_source_path": ("STRING", "/satisfice/data.csv"),
        "training_epochs": ("NUMBER_INTEGER", 4.0),
        "training_seed": ("NUMBER_INTEGER", 0.0),
    }
    assert compiled.parameters["training_epochs"] == 4


def refused(loaded: LoadedConfig, **changes) -> list[str]:
    """The faults of a configuration with other keys in its section for Kubeflow, or other sections."""
    raw = loaded.config.canonical()
    raw["kubeflow"] |= {
        key: value for key, value in changes.items() if key in type(loaded.config.kubeflow).model_fields
    }
    raw |= {key: value for key, value in changes.items() if key in raw}
    config = PipelineConfig.model_validate_json(json.dumps(raw))
    with pytest.raises(ConfigError) as caught:
        compile_pipeline(dataclasses.replace(loaded, config=config))
    return [f"{fault.path}: {fault.problem}" for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image": "registry.example/satisfice"}, "kubeflow.image: has neither tag nor digest"),
        ({"image": "registry.example/satisfice:latest"}, "kubeflow.image: 'latest' names other bytes"),
        ({"image": "not an image"}, "kubeflow.image: is not the name of an image"),
        ({"volume": None}, "kubeflow.volume: is missing"),
        ({"kubeflow": None}, "kubeflow: is missing"),
        ({"volume": {"claim": "satisfice"}}, "metadata.sqlite: cannot be shared by machines"),
        (
            {"push": {"serving": {"base_path": "/home/ada/models"}}},
            "push.serving.base_path: is a place of this machine",
        ),
        (
            {
                "training": {
                    "cluster": "kubernetes",
                    "strategy": "parameter_server",
                    "kubernetes": {"image": "registry.example/satisfice:1", "volume": {"claim": "another"}},
                }
            },
            "training.kubernetes.volume: is not the volume of the other nodes",
        ),
        ({"resources": {"Trainr": {"cpu": 1}}}, "kubeflow.resources.Trainr: is no node of this pipeline"),
        ({"resources": {"Trainer": {"memory": "a lot"}}}, "kubeflow.resources.Trainer: "),
        ({"parameters": ["training.epoch"]}, "kubeflow.parameters.0: is no key of this configuration"),
        ({"parameters": ["data.splits"]}, "kubeflow.parameters.0: holds no single value"),
        ({"parameters": ["name"]}, "kubeflow.parameters.0: is settled when the pipeline is compiled"),
        (
            {"metadata": {"mysql": {"host": "db", "port": 3306, "database": "m", "user": "u", "password_env": "PW"}}},
            "kubeflow.secrets: the containers need the variable PW, which nothing sets",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_run_there_is_refused(loaded, changes, fault) -> None:
    """With the key, before anything is written."""
    assert any(one.startswith(fault) for one in refused(loaded, **changes))


def test_all_faults_come_at_once(loaded) -> None:
    assert len(refused(loaded, image="x", volume={"claim": "c"}, push={"serving": {"base_path": "/elsewhere"}})) == 3


def test_the_command_writes_a_whole_file_or_none(fresh_taxi: Bench, tmp_path) -> None:
    """What is refused leaves the file that was there; a place that cannot be written to is named."""
    file = tmp_path / "pipeline.yaml"
    file.write_text("earlier")
    on_kubeflow(fresh_taxi)
    bad = satisfice("compile", fresh_taxi.config, "-o", file, "--set", "kubeflow.image=x", "--json")
    assert (bad.code, bad.json["faults"][0]["path"], file.read_text()) == (2, "kubeflow.image", "earlier")
    good = satisfice("compile", fresh_taxi.config, "--to", "kubeflow", "-o", file, "--json")
    assert (good.code, good.json["parameters"]["training_epochs"]) == (0, 4)
    assert documents(file.read_text())[0]["pipelineInfo"]["name"] == "taxi"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["pipeline.yaml"]
    nowhere = satisfice("compile", fresh_taxi.config, "-o", tmp_path / "no" / "pipeline.yaml")
    assert (nowhere.code, "--output: cannot be written" in nowhere.err) == (2, True)
    other = satisfice("compile", fresh_taxi.config, "--to", "airflow", "-o", file)
    assert (other.code, "--to: is nothing to compile for" in other.err) == (2, True)


def test_the_section_of_the_samples_is_what_a_file_can_say(tmp_path) -> None:
    """It survives a round trip through YAML, and its unknown keys are named with the close match."""
    bench = taxi_bench(tmp_path, rows=5)
    assert (
        on_kubeflow(bench).config.kubeflow
        == on_kubeflow(bench, yaml.safe_load(yaml.safe_dump(SECTION))).config.kubeflow
    )
    with pytest.raises(ConfigError) as caught:
        load_config(bench.config, ["kubeflow.resources.Trainer.memori=4Gi"])
    assert caught.value.faults[0].close_match == "memory"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"module": "her_own_model"}, "model.module: there is no such module"),
        ({"code": "0"}, "the image: holds other sources of Satisfice"),
        ({"library": "0.1"}, "the image: holds other libraries; expected tfx 0.1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_image_that_holds_something_else_is_refused_before_any_node(both, tmp_path, change, told) -> None:
    """The user's module is not in it, or other code or libraries than those that compiled: the first container says so."""
    spec, _ = both
    args = container(spec, "Begin")["args"]
    job = unpack(BeginJob, args[args.index("--job") + 1])
    config, source = json.loads(job.source.config), job.source
    if "module" in change:
        config["model"]["module"] = change["module"]
    libraries = {**source.libraries, **({"tfx": change["library"]} if "library" in change else {})}
    update = {"config": json.dumps(config), "code": change.get("code", source.code), "libraries": libraries}
    changed = job.model_copy(update={"source": source.model_copy(update=update), "root": str(tmp_path / "root")})
    with pytest.raises(SatisficeError) as caught:
        begin(changed, "run-1", {})
    assert told in str(caught.value)


def test_kfp_s_own_messages_take_it(both) -> None:
    """Every field is one that Kubeflow's protos know, and kfp loads it as a pipeline again."""
    spec, platform = both
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    again = components.load_component_from_text(yaml.safe_dump_all(both))
    assert again.name == "taxi"
    assert set(again.component_spec.inputs) == {"data_source_path", "training_epochs", "training_seed"}
