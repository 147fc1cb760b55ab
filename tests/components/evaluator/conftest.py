"""The problems, and an evaluation of them by our executor and by TFX's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def problems(tmp_path_factory):
    from tests.components.evaluator import problems

    return {
        name: getattr(problems, name)(tmp_path_factory.mktemp(name)) for name in ("taxi", "tips", "penguins")
    }  # fmt: skip


def evaluation_at(folder: Path):
    from tfx.types import standard_artifacts

    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(folder)
    return artifact


@pytest.fixture(scope="session")
def ours():
    """Evaluates with our executor; the folder with the results."""

    def evaluate(problem, config, folder: Path, *, champion=True, intervals="none"):
        from google.protobuf import json_format

        from components.evaluator.executor import Executor

        context = Executor.Context(beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder), unique_id="1")
        properties = {
            "eval_config": json_format.MessageToJson(config),
            "example_splits": json.dumps(["eval"]),
            "intervals": intervals,
        }
        Executor(context).Do(problem.inputs(champion), {"evaluation": [evaluation_at(folder)]}, properties)
        return folder

    return evaluate


@pytest.fixture(scope="session")
def stock():
    """Evaluates with TFX's own executor, on Beam; the folder with the results."""

    def evaluate(problem, config, folder: Path, *, champion=True):
        from tfx.components.evaluator.executor import Executor
        from tfx.utils import proto_utils

        context = Executor.Context(beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(folder), unique_id="1")
        properties = {"eval_config": proto_utils.proto_to_json(config), "example_splits": json.dumps(["eval"])}
        Executor(context).Do(problem.inputs(champion), {"evaluation": [evaluation_at(folder)]}, properties)
        return folder

    return evaluate


def figures(folder: Path, model: str):
    """All figures of a model: slice key to metric name to TFMA's value."""
    import tensorflow_model_analysis as tfma

    results = tfma.load_eval_results(str(folder), model_name=model).get_results()
    return {key: outputs[""][""] for result in results for key, outputs in result.slicing_metrics}


def number(value) -> float:
    """A figure as a number; TFMA writes what is none as text."""
    return float(value["doubleValue"])


def assert_same(mine: Path, theirs: Path, model: str) -> int:
    """The same slices, metrics and figures; their number."""
    got, wanted = figures(mine, model), figures(theirs, model)
    assert got.keys() == wanted.keys()
    count = 0
    for key, metrics in wanted.items():
        assert got[key].keys() == metrics.keys(), key
        for name, value in metrics.items():
            assert number(got[key][name]) == pytest.approx(number(value), rel=2e-6, abs=2e-6, nan_ok=True), (key, name)
            count += 1
    return count
