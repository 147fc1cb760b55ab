"""Every caller hands the same engine to every Beam node: what each node's executor is made with is looked at."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.lineage.store import open_store
from pipeline.user_module import load_user_module
from runners.beam import beam_arguments
from runners.ci.run import _Place
from runners.kubeflow import compile as to_kubeflow
from runners.kubeflow.node import _graph_of
from runners.local.jobs import build
from runners.run import Options, _Job, _prepared_tfx_local
from runners.schedule.watch import Watch
from schemas.load import LoadedConfig, load_config
from schemas.tick import Tick
from tests.runners.kubeflow.samples import SECTION, documents, job_of
from tests.workbench import Bench, taxi_bench

BEAM = {
    "runner": "flink",
    "args": ["--job_endpoint=flink-jobs:8099", "--environment_type=EXTERNAL", "--environment_config=localhost:50000", "--parallelism=3"],
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    made = taxi_bench(tmp_path_factory.mktemp("engines"), rows=50)
    made.edit(
        lambda raw: raw.update(
            beam=BEAM, kubeflow={**SECTION, "parameters": []}, schedule={"triggers": {"changed_data": True}}
        )
    )
    return made


@pytest.fixture(scope="module")
def loaded(bench: Bench) -> LoadedConfig:
    return load_config(bench.config)


@pytest.fixture
def executors(monkeypatch) -> Mapping[str, list[str]]:
    """The arguments that each executor is made with, by its class, as TFX's launcher makes them."""
    from tfx.orchestration.portable import beam_executor_operator
    from tfx.utils import dependency_utils

    made: dict[str, list[str]] = {}

    def note(_: Any, executor: Any) -> None:
        made[type(executor).__module__.split(".")[1]] = executor._context.beam_pipeline_args

    def packed(_: list[str]) -> list[str]:
        raise AssertionError("TFX packs itself up for workers that have it")

    monkeypatch.setattr(beam_executor_operator.python_executor_operator, "run_with_executor", note)
    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", packed)
    return made


def given(executors: Mapping[str, list[str]], *graphs: Any) -> dict[str, list[str]]:
    """What the Beam nodes of some graphs get: each is handed over as the launcher hands it, and not run."""
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable import beam_executor_operator, data_types
    from tfx.proto.orchestration import executable_spec_pb2

    for graph in graphs:
        deployment = runner_utils.extract_local_deployment_config(graph)
        for entry in graph.nodes:
            spec = runner_utils.extract_executor_spec(deployment, entry.pipeline_node.node_info.id)
            if isinstance(spec, executable_spec_pb2.BeamExecutableSpec):
                operator = beam_executor_operator.BeamExecutorOperator(spec)
                operator.run_executor(data_types.ExecutionInfo(execution_id=1))
    return dict(executors)


def check(found: Mapping[str, list[str]], loaded: LoadedConfig) -> None:
    expected = beam_arguments(loaded.config.beam)
    assert set(found) == {"example_gen", "transform", "evaluator"}
    for arguments in found.values():
        assert arguments[: len(expected)] == expected
        assert {one.partition("=")[0].partition("_")[0] for one in arguments[len(expected) :]} <= {"--labels", "tfx"}


def test_the_local_engine(loaded, bench, executors) -> None:
    """What `satisfice run` builds, and its workers launch."""
    from tfx.proto.orchestration import pipeline_pb2

    answer = build(str(bench.config), [], str(bench.folder / "pipelines" / "taxi"))
    check(given(executors, pipeline_pb2.Pipeline.FromString(base64.b64decode(answer["ir"]))), loaded)


def test_tfx_s_own_runner(loaded, bench, executors, monkeypatch) -> None:
    from tfx.orchestration.local import local_dag_runner

    graphs: list[Any] = []
    monkeypatch.setattr(local_dag_runner.LocalDagRunner, "run_with_ir", lambda self, ir: graphs.append(ir))
    store = open_store(loaded.config.metadata)
    module = load_user_module(loaded.config.model.module, loaded.folder)

    class Lineage:
        def node(self, *_: str) -> None:
            return None

    class Watcher:
        def node_ended(self, _: Any) -> None: ...

        def node_started(self, _: str) -> None: ...

    job = _Job(loaded, module, bench.folder / "root", "run-1", store, Lineage(), Options("tfx-local"))
    with _prepared_tfx_local(job) as run:
        run(Watcher())
    check(given(executors, *graphs), loaded)


def test_kubeflow_s_containers(loaded, executors) -> None:
    """Each from the job that its container is told."""
    compiled = to_kubeflow.compile_pipeline(loaded)
    spec, _ = documents(compiled.text)
    check(given(executors, *(_graph_of(job_of(spec, name), "run-1").ir for name in compiled.nodes)), loaded)


def test_ci(loaded, tmp_path) -> None:
    """The run that it starts has the section as it stands, beside a root, data and places of its own."""
    words = _Place(tmp_path, loaded.config, ("training.epochs=1",))._options(loaded.file)
    sets = [value for word, value in itertools.pairwise(words) if word == "--set"]
    assert load_config(loaded.file, sets).config.beam == loaded.config.beam


def test_watch(loaded, bench) -> None:
    """The run that it starts reads the same file with the same overrides."""
    commands: list[list[str]] = []

    def start(command: list[str]) -> tuple[int, str]:
        commands.append(command)
        return 0, "{}"

    overrides = ("beam.args=[--job_endpoint=other:1]",)
    watch = Watch(load_config(bench.config, overrides), bench.folder / "pipelines" / "taxi", overrides, start=start)

    def tell(_: Tick) -> None: ...

    watch.tick(tell)
    (command,) = commands
    at = command.index("run")
    sets = [value for word, value in itertools.pairwise(command) if word == "--set"]
    assert load_config(Path(command[at + 1]), sets).config.beam.args == ("--job_endpoint=other:1",)
