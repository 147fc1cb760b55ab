"""What every component of our own keeps to, so that each runner and each reader of the lineage can rely on it."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx import types
from tfx.dsl.compiler import compiler
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.orchestration import metadata, pipeline
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2
from tfx.types import standard_artifacts

from components.artifact_types import Decision, Profile, TFLiteModels
from components.curated_schema.component import CuratedSchema
from components.data_gate.component import DataGate
from components.evaluation.eval_config import eval_config
from components.evaluator.component import Evaluator
from components.example_gen.component import ExampleGen
from components.gate.component import Gate, TFLiteFiles
from components.profiler.component import Profiler
from components.pusher.component import Pusher
from components.statistics_gen.component import StatisticsGen
from components.tflite.evaluator import TFLiteEvaluator
from components.tflite.exporter import TFLiteExporter
from components.transform.component import Transform
from components.tuner.component import Tuner
from schemas.config import (
    GatesConfig,
    ModelConfig,
    PushConfig,
    SourceConfig,
    TFLiteConfig,
    TrainingConfig,
    ValidateConfig,
)
from tests.workbench import REPOSITORY


def channel(artifact_type: type[types.Artifact]) -> types.BaseChannel:
    """An input that some other pipeline has written."""
    return types.Channel(type=artifact_type)


TAXI_SCHEMA = str(REPOSITORY / "schemas/taxi/schema.pbtxt")
COMPONENTS: dict[str, Callable[[], base_component.BaseComponent]] = {
    "CuratedSchema": lambda: CuratedSchema(TAXI_SCHEMA),
    "ExampleGen": lambda: ExampleGen(
        SourceConfig(format="csv", path="/data/*.csv"),
        {"train": 7, "validate": 1, "eval": 2},
        TAXI_SCHEMA,
    ),
    "DataGate": lambda: DataGate(
        channel(standard_artifacts.ExampleStatistics),
        channel(standard_artifacts.Schema),
        ValidateConfig(),
        served=channel(standard_artifacts.PushedModel),
        baseline=channel(standard_artifacts.ExampleStatistics),
    ),
    "Evaluator": lambda: Evaluator(
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.Model),
        eval_config(GatesConfig.model_validate({"optimize": {"metric": "auc"}}), "label"),
        baseline_model=channel(standard_artifacts.Model),
        schema=channel(standard_artifacts.Schema),
        intervals="jackknife",
    ),
    "Transform": lambda: Transform(
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.Schema),
        "pipeline.models.taxi.preprocessing_fn",
        "c0ffee",
    ),
    "StatisticsGen": lambda: StatisticsGen(channel(standard_artifacts.Examples)),
    "Profiler": lambda: Profiler(
        channel(standard_artifacts.Model),
        channel(standard_artifacts.ModelRun),
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.Model),
        GatesConfig.model_validate_json('{"satisfy": [{"metric": "latency_p50_ms", "batch_size": 8, "max": 9}]}'),
    ),
    "Gate": lambda: Gate(
        channel(standard_artifacts.Model),
        channel(standard_artifacts.ModelRun),
        channel(standard_artifacts.ModelEvaluation),
        channel(standard_artifacts.PushedModel),
        GatesConfig.model_validate({"optimize": {"metric": "auc"}}),
        "c0ffee",
        profile=channel(Profile),
        tflite=TFLiteFiles(
            channel(TFLiteModels), channel(Profile), TFLiteConfig(), channel(standard_artifacts.PushedModel)
        ),
    ),
    "Pusher": lambda: Pusher(
        channel(standard_artifacts.Model),
        channel(Decision),
        PushConfig.model_validate({"serving": {"base_path": "/serving/taxi"}, "edge": {"base_path": "/edge/taxi"}}),
        "taxi",
        channel(TFLiteModels),
    ),
    "TFLiteExporter": lambda: TFLiteExporter(
        channel(standard_artifacts.Model),
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.TransformGraph),
        TFLiteConfig(),
    ),
    "TFLiteEvaluator": lambda: TFLiteEvaluator(
        channel(TFLiteModels),
        channel(standard_artifacts.Model),
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.Schema),
        eval_config(GatesConfig.model_validate({"optimize": {"metric": "auc"}}), "label", "tflite"),
        channel(standard_artifacts.PushedModel),
    ),
    "Tuner": lambda: Tuner(
        channel(standard_artifacts.Examples),
        channel(standard_artifacts.TransformGraph),
        channel(standard_artifacts.Schema),
        ModelConfig(module="pipeline.models.taxi", label="big_tipper", hyperparameters={"dropout": 0.1}),
        TrainingConfig.model_validate_json(
            '{"tune": {"objective": "auc", "space": {"dropout": {"min": 0, "max": 1}}}}'
        ),
        GatesConfig.model_validate({"optimize": {"metric": "auc"}}),
        TFLiteConfig(),
        "c0ffee",
    ),
}
each = pytest.mark.parametrize("name", COMPONENTS)


def compiled(component: base_component.BaseComponent, folder: Path) -> Any:
    """The node and the deployment of a pipeline that holds the component alone."""
    built = pipeline.Pipeline(
        pipeline_name="contract",
        pipeline_root=str(folder),
        components=[component],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(folder / "metadata.db")),
    )
    intermediate = compiler.Compiler().compile(built)
    deployment = pipeline_pb2.IntermediateDeploymentConfig()
    intermediate.deployment_config.Unpack(deployment)
    (node,) = intermediate.nodes
    return node.pipeline_node, deployment


def test_no_component_is_forgotten() -> None:
    """Every module that makes a node is held to the contract; a package may have several."""
    files = [
        file
        for file in (REPOSITORY / "components").glob("*/*.py")
        if "(base_component." in file.read_text() or file.stem == "component"
    ]
    modules = [importlib.import_module(f"components.{file.parent.name}.{file.stem}") for file in files]
    found = {
        name
        for module in modules
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, base_component.BaseComponent) and member.__module__ == module.__name__
    }
    assert found == set(COMPONENTS)


@each
def test_a_component_describes_itself(name: str) -> None:
    """The class and its executor have docstrings of their own; the public name of the module is the component."""
    component = COMPONENTS[name]()
    module = inspect.getmodule(type(component))
    assert module is not None
    assert name in module.__all__
    for described in (type(component), type(component).EXECUTOR_SPEC.executor_class):
        assert described.__doc__
        assert described.__doc__ not in (base_component.BaseComponent.__doc__, BaseExecutor.__doc__)


@each
def test_parameters_are_plain(name: str) -> None:
    """Text and numbers, which every runner can carry; what a driver fills stands among them as optional."""
    component = COMPONENTS[name]()
    assert component.exec_properties
    for key, value in component.exec_properties.items():
        assert json.loads(json.dumps(value)) == value
        assert isinstance(value, str | int | float) or (value is None and component.spec.PARAMETERS[key].optional), key


@each
def test_equal_configurations_give_equal_nodes(name: str, tmp_path: Path) -> None:
    """So that an unchanged step is found in the cache."""
    first, second = (compiled(COMPONENTS[name](), tmp_path)[0] for _ in range(2))
    assert first == second


@each
def test_it_compiles_under_its_own_name(name: str, tmp_path: Path) -> None:
    """Node id: the name of the class. Execution type: its dotted path, by which the lineage is read for ever."""
    component = COMPONENTS[name]()
    node, _ = compiled(component, tmp_path)
    assert node.node_info.id == component.id == name
    assert node.node_info.type.name == f"{type(component).__module__}.{name}"
    assert node.node_info.type.name.startswith("components.")
    assert set(node.outputs.outputs) == set(component.spec.OUTPUTS)
    assert set(node.inputs.inputs) == set(component.spec.INPUTS)


@each
def test_executor_and_driver_are_found_by_their_paths(name: str, tmp_path: Path) -> None:
    """The compiled pipeline names classes of ours that derive from TFX's."""
    _, deployment = compiled(COMPONENTS[name](), tmp_path)
    spec, beam = executable_spec_pb2.PythonClassExecutableSpec(), executable_spec_pb2.BeamExecutableSpec()
    if deployment.executor_specs[name].Unpack(beam):
        spec = beam.python_executor_spec
    else:
        assert deployment.executor_specs[name].Unpack(spec)
    module, _, executor = spec.class_path.rpartition(".")
    package = f"components.{Path(inspect.getfile(type(COMPONENTS[name]()))).parent.name}"
    assert module.rpartition(".")[0] == package
    assert issubclass(getattr(importlib.import_module(module), executor), BaseExecutor)
    if name in deployment.custom_driver_specs:
        assert deployment.custom_driver_specs[name].Unpack(spec)
        home, _, driver = spec.class_path.rpartition(".")
        assert home.rpartition(".")[0] == package
        assert driver == "Driver"
        assert hasattr(importlib.import_module(home), driver)


def test_executors_import_in_a_process_of_their_own() -> None:
    """As in a container that runs one node, where nothing else has been imported before."""
    modules = sorted(type(make()).EXECUTOR_SPEC.executor_class.__module__ for make in COMPONENTS.values())
    done = subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
